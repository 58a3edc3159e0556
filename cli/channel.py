"""`channel`: channels and scopes; `channel show` is the board."""

from __future__ import annotations

from typing import Any

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.text import instant
from muniment.cli.writes import Answer, answer

channel = Noun(
    "channel",
    "Channels and scopes: declare, pin, freeze, show.",
    ["muniment channel declare prod/stable --cohort eu", "muniment channel show"],
)
SCOPE = click.argument("scope", metavar="SCOPE")
EXPIRES = click.option(
    "--expires", default="", metavar="AGE|TIME", help="2h, 3d, or RFC 3339; never if absent."
)


@channel.verb(
    "declare",
    write=True,
    examples=[
        "muniment channel declare prod/canary",
        "muniment channel declare prod/stable --cohort eu --cohort us --upstream prod/canary",
    ],
)
@click.argument("name", metavar="ENV/CHANNEL")
@click.option("--cohort", multiple=True, metavar="NAME", help="A cohort; `all` if absent.")
@click.option("--upstream", multiple=True, metavar="ENV/CHANNEL", help="Must be good there first (R9).")
def declare(settings: Settings, name: str, cohort: tuple[str, ...], upstream: tuple[str, ...]) -> Answer:
    """Declare a channel and its cohorts; declaring again adds cohorts."""
    from muniment.domain.channel import Declare
    from muniment.domain.reference import check_channel, check_name

    command = Declare(
        check_channel(name),
        [check_name(item, "a cohort") for item in cohort or ("all",)],
        [check_channel(item) for item in upstream],
    )
    with settings.open(write=True) as session:
        outcome = session.run(command, settings.options())
    slots = ", ".join(f"{name}/{item}" for item in command.cohorts)
    return answer(
        "channel.declare/1",
        outcome,
        ("declare", "declared"),
        f"{name}: {slots}",
        id_=name,
        data={"channel": name},
    )


@channel.verb(
    "pin",
    write=True,
    examples=["muniment channel pin prod/stable --pack 9f2c41aa03d7 --expires 3d --reason 'hold for audit'"],
)
@SCOPE
@click.option("--pack", "pack_ref", required=True, metavar="PACK", help="The pack to hold.")
@EXPIRES
def pin(settings: Settings, scope: str, pack_ref: str, expires: str) -> Answer:
    """Hold a scope at a pack: no other may be promoted there, and a rollback goes to it."""
    from muniment.cli.refs import pack_id
    from muniment.cli.when import later
    from muniment.domain.channel import SetPin
    from muniment.domain.reference import check_scope

    with settings.open(write=True) as session:
        until = later(expires, session.log.now)
        target = pack_id(session, pack_ref)
        outcome = session.run(SetPin(check_scope(scope), target, until), settings.options())
    return answer(
        "channel.pin/1",
        outcome,
        ("pin", "pinned"),
        f"{scope} to pack {target}" + (f" until {until}" if until else ""),
        id_=scope,
        data={"scope": scope, "pack": target, "expires_at": until},
    )


@channel.verb("unpin", write=True, examples=["muniment channel unpin prod/stable --reason 'audit is over'"])
@SCOPE
def unpin(settings: Settings, scope: str) -> Answer:
    """Lift the pin of a scope."""
    from muniment.domain.channel import Unpin
    from muniment.domain.reference import check_scope

    with settings.open(write=True) as session:
        outcome = session.run(Unpin(check_scope(scope)), settings.options())
    return answer("channel.unpin/1", outcome, ("unpin", "unpinned"), scope, id_=scope, data={"scope": scope})


@channel.verb(
    "freeze",
    write=True,
    examples=[
        "muniment channel freeze prod --expires 2h --reason 'database migration'",
        "muniment channel freeze prod/stable/eu --kind ALL --expires 1h --reason 'forensics'",
    ],
)
@SCOPE
@click.option("--kind", type=click.Choice(["FORWARD", "ALL"]), default="FORWARD", show_default=True)
@click.option("--id", "freeze", metavar="ID", help="Its id; made up if absent.")
@EXPIRES
def freeze(settings: Settings, scope: str, kind: str, freeze: str | None, expires: str) -> Answer:
    """Stop moves within a scope. FORWARD never stops a rollback; ALL does, needs people and an expiry."""
    from muniment.app.ids import short_id
    from muniment.cli.when import later
    from muniment.domain.channel import FreezeScope
    from muniment.domain.reference import check_name, check_scope

    name = check_name(freeze, "a freeze") if freeze else short_id("fz-")
    with settings.open(write=True) as session:
        until = later(expires, session.log.now)
        outcome = session.run(FreezeScope(check_scope(scope), name, kind, until), settings.options())
    return answer(
        "channel.freeze/1",
        outcome,
        ("freeze", "froze"),
        f"{scope} ({kind}, freeze {name})" + (f" until {until}" if until else ""),
        id_=name,
        data={"scope": scope, "kind": kind, "expires_at": until},
    )


@channel.verb(
    "unfreeze",
    write=True,
    examples=["muniment channel unfreeze prod --id fz-4k2qzt7m --reason 'migration is over'"],
)
@SCOPE
@click.option("--id", "freeze", required=True, metavar="ID", help="The freeze to lift.")
def unfreeze(settings: Settings, scope: str, freeze: str) -> Answer:
    """Lift one freeze; others of the scope stay."""
    from muniment.domain.channel import Unfreeze
    from muniment.domain.reference import check_scope

    with settings.open(write=True) as session:
        outcome = session.run(Unfreeze(check_scope(scope), freeze), settings.options())
    return answer(
        "channel.unfreeze/1",
        outcome,
        ("lift", "lifted"),
        f"freeze {freeze} of {scope}",
        id_=freeze,
        data={"scope": scope},
    )


@channel.verb(
    "baseline",
    write=True,
    examples=["muniment channel baseline prod --pack 9f2c41aa03d7 --reason 'ran for a year'"],
)
@click.argument("environment", metavar="ENV")
@click.option("--pack", "pack_ref", required=True, metavar="PACK", help="The pack of last resort.")
def baseline(settings: Settings, environment: str, pack_ref: str) -> Answer:
    """Declare the pack of last resort of an environment (R5, step 5)."""
    from muniment.cli.refs import pack_id
    from muniment.domain.channel import SetBaseline
    from muniment.domain.reference import check_path

    check_path(environment, (1,), "environment")
    with settings.open(write=True) as session:
        target = pack_id(session, pack_ref)
        outcome = session.run(SetBaseline(environment, target), settings.options())
    return answer(
        "channel.baseline/1",
        outcome,
        ("set", "set"),
        f"baseline of {environment} to pack {target}",
        id_=environment,
        data={"environment": environment, "pack": target},
    )


@channel.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=["muniment channel list", "muniment channel list -o jsonl"],
)
def list_(settings: Settings) -> Rows:
    """Declared channels with cohorts and upstream."""
    from muniment.cli.views import listing
    from muniment.projections.slots import channel_rows

    return listing(
        settings,
        "channel.list/1",
        "slots",
        columns=("channel", "cohorts", "upstream"),
        key="channel",
        empty="no channels",
        rows=lambda view: channel_rows(view.model, view.at, _policy(view.model)),
    )


def _policy(model: Any) -> Any:
    from muniment.domain.world import policy_of

    return policy_of(model)


@channel.verb(
    "show",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=[
        "muniment channel show",
        "muniment channel show prod/stable",
        "muniment channel show prod --as-of '#120'",
    ],
)
@click.argument("scope", metavar="[SCOPE]", required=False, default="*")
def show(settings: Settings, scope: str) -> Rows | Result:
    """The board: every slot with its targets, what it should run, what it runs, pin, freezes, last known good."""
    from muniment.cli.refs import reader
    from muniment.domain.errors import NotFoundError
    from muniment.domain.reference import check_scope

    check_scope(scope)
    with settings.open() as session:
        looking = reader(settings, session)
        rows = looking.slots(scope)
    if not rows and scope != "*":
        raise NotFoundError(
            f"no declared slot lies in {scope}", code="slot.unknown", hint="muniment channel list"
        )
    if settings.output == "table" and not settings.quiet and not settings.fields:
        board = [line for row in rows for line in _board(settings, row)]
        return Rows(
            "channel.show/1",
            board,
            _BOARD,
            "slot",
            looking.until,
            empty="no channels",
            notes=looking.notes(settings.verbose),
        )
    return Rows(
        "channel.show/1",
        rows,
        ("slot", "desired", "floor"),
        "slot",
        looking.until,
        empty="no channels",
        notes=looking.notes(settings.verbose),
    )


_BOARD = ("slot", "target", "mode", "desired", "active", "health", "lkg", "pin", "freezes")


def _board(settings: Settings, row: dict[str, Any]) -> list[dict[str, Any]]:
    """A line a target; a slot without one has a line all the same."""
    pin = row["pin"]
    common = {
        "slot": row["slot"],
        "desired": row["desired"],
        "pin": f"{pin['pack']}{_until(settings, pin['expires_at'])}" if pin else "",
        "freezes": ", ".join(
            f"{item['kind']} {item['incident'] or item['freeze']}{_until(settings, item['expires_at'])}"
            for item in row["freezes"]
        ),
    }
    if not row["targets"]:
        return [{**common, "target": "", "mode": "EMPTY", "active": "", "health": "", "lkg": ""}]
    return [
        {**common, **{name: target[name] for name in ("target", "mode", "active", "health", "lkg")}}
        for target in row["targets"]
    ]


def _until(settings: Settings, expires_at: str) -> str:
    return (
        f" until {instant(expires_at, local=settings.local) if settings.terminal else expires_at}"
        if expires_at
        else ""
    )
