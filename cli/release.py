"""`release`: rollouts of one pack over slots, stage by stage."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.text import counted
from muniment.cli.writes import Answer, answer

release = Noun(
    "release",
    "Rollouts of a pack over slots.",
    ["muniment release create --pack build:b-1 --to prod/canary/all,soak=2h --to prod/stable/all"],
)
NAME = click.argument("name", metavar="RELEASE")


@release.verb(
    "create",
    write=True,
    examples=[
        "muniment release create --pack build:b-1 --to prod/stable/all --id rel-43",
        "muniment release create --pack 9f2c41aa03d7 --to prod/canary/all,soak=1h --to prod/stable/eu+prod/stable/us",
    ],
)
@click.option("--pack", "pack_ref", required=True, metavar="PACK", help="What is rolled out.")
@click.option(
    "--to",
    "stages",
    multiple=True,
    required=True,
    metavar="SLOT[+SLOT…][,soak=AGE][,percent=P]",
    help="A stage; again for the next one, in order.",
)
@click.option("--id", "name", metavar="ID", help="Its id; made up if absent.")
def create(settings: Settings, pack_ref: str, stages: tuple[str, ...], name: str | None) -> Answer:
    """Draft a release of a pack over stages; the plan is frozen here and its digest is what gets approved."""
    from muniment.app.ids import short_id
    from muniment.cli.refs import pack_id, slot_id
    from muniment.domain.reference import check_name
    from muniment.domain.release import Create

    made = check_name(name, "a release") if name else short_id("r-")
    with settings.open(write=True) as session:
        plan = [stage_of(text, lambda name: slot_id(session, name)) for text in stages]
        target = pack_id(session, pack_ref)
        outcome = session.run(Create(made, target, plan), settings.options())
    return answer(
        "release.create/1",
        outcome,
        ("draft", "drafted"),
        f"release {made} of pack {target}, {counted(len(plan), 'stage')}",
        id_=made,
        data={"pack": target},
        next_=f"muniment release start {made}",
    )


def stage_of(text: str, slot: Callable[[str], str]) -> Any:
    """`SLOT[+SLOT…][,soak=AGE][,percent=P]` as a stage; the whole of its slots and no soak by default.

    Args:
        slot: the full name of a slot; a channel with one cohort names it too.

    Raises:
        UsageError: another shape.
    """
    from muniment.cli.when import duration
    from muniment.domain.errors import UsageError
    from muniment.domain.states import Stage

    slots, *more = text.split(",")
    soak, milli = 0, 100_000
    for item in more:
        name, _, value = item.partition("=")
        if name == "soak":
            soak = duration(value, "stage soak")
        elif (
            name == "percent" and value.replace(".", "", 1).isascii() and value.replace(".", "", 1).isdigit()
        ):
            whole, _, part = value.partition(".")
            milli = int(whole or 0) * 1000 + int((part + "000")[:3])
            if len(part) > 3 or not 0 < milli <= 100_000:
                raise UsageError(
                    f"percent of a stage: {value[:40]!r}", code="cli.stage", expected="0.001 to 100"
                )
        else:
            raise UsageError(
                f"not a part of a stage: {item[:60]!r}",
                code="cli.stage",
                expected="SLOT[+SLOT…][,soak=AGE][,percent=P]",
            )
    return Stage([slot(name) for name in slots.split("+")], milli, soak)


def _simple(name: str, act: tuple[str, str], doc: str, example: str, next_: str = "") -> None:
    def body(settings: Settings, name_: str) -> Answer:
        from muniment.domain import release as releases
        from muniment.domain.reference import check_name

        make: Callable[[str], Any] = getattr(releases, name.capitalize())
        with settings.open(write=True) as session:
            outcome = session.run(make(check_name(name_, "a release")), settings.options())
        return answer(
            f"release.{name}/1", outcome, act, f"release {name_}", id_=name_, next_=next_.format(name=name_)
        )

    body.__doc__ = doc
    decorated = click.argument("name_", metavar="RELEASE")(body)
    release.verb(name, write=True, examples=[example])(decorated)


_simple(
    "start",
    ("start", "started"),
    "Submit, have approved and start. Under policy solo nobody else is asked.",
    "muniment release start rel-43 --reason 'weekly release'",
    "muniment release promote {name}",
)


@release.verb(
    "promote",
    write=True,
    examples=[
        "muniment release promote rel-43",
        "muniment release promote rel-43 --to prod/stable --reason 'canary is good'",
    ],
)
@NAME
@click.option(
    "--to", default="", metavar="ENV/CHANNEL[/COHORT]", help="Where you mean; refused if it is not next."
)
def promote(settings: Settings, name: str, to: str) -> Answer:
    """Open the first stage, or judge the present one and open the next."""
    from muniment.domain.reference import check_name, check_path
    from muniment.domain.release import Promote

    if to:
        check_path(to, (2, 3), "channel or slot")
    with settings.open(write=True) as session:
        outcome = session.run(Promote(check_name(name, "a release"), to), settings.options())
    event = outcome.event("release.promoted/1") or {}
    slots = [str(item) for item in event.get("slots", ())]
    return answer(
        "release.promote/1",
        outcome,
        ("promote", "promoted"),
        f"release {name} to {', '.join(slots)} (stage {event.get('stage', '?')})",
        id_=name,
        data={"stage": event.get("stage"), "slots": slots, "pack": event.get("pack")},
        lines=[],
        next_=f"muniment activate {slots[0]} --target DIR" if slots else "",
    )


_simple(
    "pause",
    ("pause", "paused"),
    "Hold a release where it is.",
    "muniment release pause rel-43 --reason 'looking into latency'",
)
_simple(
    "resume",
    ("resume", "resumed"),
    "Go on; the stage soaks from zero and asks for new reports.",
    "muniment release resume rel-43 --reason 'it was the probe'",
)
_simple(
    "complete",
    ("complete", "completed"),
    "Judge the last stage and end the release.",
    "muniment release complete rel-43",
)


@release.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=["muniment release list", "muniment release list --where state=RUNNING"],
)
def list_(settings: Settings) -> Rows:
    """Every release, oldest first."""
    from muniment.cli.views import listing

    return listing(
        settings,
        "release.list/1",
        "releases",
        columns=("release", "state", "stage", "phase", "pack", "slots"),
        key="release",
        part="releases",
        empty="no releases",
    )


@release.verb(
    "show",
    uses=("fields", "as_of"),
    examples=["muniment release show rel-43", "muniment release show rel-43 -o json"],
)
@NAME
def show(settings: Settings, name: str) -> Result:
    """One release: its plan, how far it got, what holds it."""
    from muniment.cli.refs import id_of
    from muniment.cli.views import mark_line, one

    with settings.open() as session:
        found, as_of = one(settings, session, "releases", "release", id_of(session, "release", name))
    lines = [f"release {found['release']} is {found['state']}", f"  pack   {found['pack']}"]
    for at, stage in enumerate(found["stages"]):
        here = f"  {found['phase']}" if at == found["stage"] and found["state"] == "RUNNING" else ""
        lines.append(
            f"  stage  {at}  {', '.join(stage['slots'])}  {stage['milli_percent'] / 1000:g} %  soak {stage['soak_s']} s{here}"
        )
    lines += [f"  plan   {found['plan_digest']}", f"  approved by {', '.join(found['approvals']) or '-'}"]
    lines += [f"  held   {cause}" for cause in found["pauses"]]
    lines.append(mark_line(settings, found["created"]))
    return Result("release.show/1", found, as_of, lines, brief=found["release"])
