"""The store and who may speak in it: init, identity, key, policy, clock."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from muniment.cli.framework import Noun, verb
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.writes import Answer, answer, expected, outcome_data, refused

if TYPE_CHECKING:
    from muniment.app.session import Session


@verb(
    "init",
    examples=[
        "muniment init",
        "muniment init --policy team --store ./records",
        "muniment init --store postgresql://ci@db.example/releases?schema=atlas",
    ],
)
@click.option(
    "--policy", default="solo", metavar="solo|team|regulated|FILE", help="What is required and allowed."
)
def init(settings: Settings, policy: str) -> Result:
    """Create a store here.

    The log, its key and its first checkpoint. Policy solo asks no second person.
    """
    from muniment.app.creating import create_store

    made = dict(create_store(settings.url, policy=policy))
    lines = [
        f"created store {made['store_id']} at {made['store']}  (records #1 to #{made['size']})",
        f"  policy      {made['policy']} {made['policy_digest']}",
        f"  verifier    {made['verifier']}",
        f"  checkpoint  {made['checkpoint']}",
        "  keep the verifier line elsewhere: a checkpoint proves something only to who has it from you",
    ]
    return Result("init/1", made, made["size"], lines, "muniment intake add PATH", brief=made["store_id"])


# -- identity ------------------------------------------------------------------------------------------------------

identity = Noun("identity", "Names with keys: add, list.", ["muniment identity add alice --key alice"])


@identity.verb(
    "add",
    write=True,
    examples=[
        "muniment key create alice && muniment identity add alice --key alice",
        "muniment identity add ci --kind service --public-key MCow…= --reason 'build server'",
    ],
)
@click.argument("name")
@click.option("--key", "key_name", metavar="KEY", help="A key of this user, by name.")
@click.option("--public-key", metavar="BASE64", help="The 32 raw bytes of an Ed25519 public key.")
@click.option("--kind", type=click.Choice(["human", "service", "agent"]), default="human", show_default=True)
def identity_add(
    settings: Settings, name: str, key_name: str | None, public_key: str | None, kind: str
) -> Answer:
    """Bind a public key to a name; what the key signs is then the name's."""
    from muniment.domain.admin import AddIdentity
    from muniment.domain.reference import check_name

    check_name(name, "an identity")
    with settings.open(write=True) as session:
        key_id, public = _public(session, key_name, public_key)
        outcome = session.run(AddIdentity(name, kind, key_id, public), settings.options())
    return answer(
        "identity.add/1",
        outcome,
        ("bind", "bound"),
        f"key {key_id} to {name} ({kind})",
        id_=key_id,
        data={"identity": name, "kind": kind, "public_key": public},
    )


def _public(session: object, key_name: str | None, public_key: str | None) -> tuple[str, str]:
    """Key id and public key, from a key file of this user or as given."""
    import base64
    import binascii
    import hashlib

    from muniment.app import keys
    from muniment.app.session import Session
    from muniment.domain.errors import UsageError

    assert isinstance(session, Session)
    if bool(key_name) == bool(public_key):
        raise UsageError("give either --key or --public-key", code="identity.key", hint="muniment key list")
    if key_name:
        private = keys.load_key(key_name, session.keys)
        return keys.key_id(private), keys.public_key_b64(private)
    try:
        raw = base64.b64decode(str(public_key), validate=True)
    except (binascii.Error, ValueError) as error:
        raise UsageError("not base64", code="identity.public_key", expected="32 bytes in base64") from error
    if len(raw) != 32 or base64.b64encode(raw).decode() != public_key:
        raise UsageError(
            "not an Ed25519 public key",
            code="identity.public_key",
            expected="32 bytes in base64",
            found=f"{len(raw)} bytes",
        )
    return hashlib.sha256(raw).hexdigest()[:16], str(public_key)


@identity.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=["muniment identity list", "muniment identity list --where state=live -o json"],
)
def identity_list(settings: Settings) -> Rows:
    """The keys bound to names, revoked ones too."""
    from muniment.cli.views import listing

    return listing(
        settings,
        "identity.list/1",
        "access",
        columns=("identity", "kind", "key_id", "state"),
        key="key_id",
        empty="no identities",
    )


# -- keys ----------------------------------------------------------------------------------------------------------

key = Noun("key", "Keys of this user: create, list, revoke.", ["muniment key create alice"])


@key.verb("create", examples=["muniment key create alice", "K=$(muniment key create ci -q)"])
@click.argument("name")
def key_create(settings: Settings, name: str) -> Result:
    """Make an Ed25519 key for this store; its private half stays with this user (mode 0600)."""
    from muniment.app import keys

    with settings.open() as session:
        key_id = keys.create_key(name, session.keys)
        path, size = session.keys / f"{name}.pem", session.log.head().size
    return Result(
        "key.create/1",
        {"name": name, "key_id": key_id, "path": str(path)},
        size,
        [f"created key {name} ({key_id})", f"  file   {path}"],
        f"muniment identity add {name} --key {name}",
        brief=key_id,
    )


@key.verb("list", uses=("where", "fields", "limit", "cursor"), examples=["muniment key list"])
def key_list(settings: Settings) -> Rows:
    """The key files of this user for this store; one that cannot be used says why."""
    from muniment.app import keys

    with settings.open() as session:
        rows = [dict(item._asdict()) for item in keys.list_keys(session.keys)]
        size = session.log.head().size
    return Rows("key.list/1", rows, ("name", "key_id", "problem"), "name", size, empty="no keys")


@key.verb("revoke", write=True, examples=["muniment key revoke 4f1c09aa3be27d10 --reason 'laptop lost'"])
@click.argument("key_ref", metavar="KEY_ID|IDENTITY")
def key_revoke(settings: Settings, key_ref: str) -> Answer:
    """End a bound key for good, by its id or its identity; what it signed before stays valid."""
    from muniment.domain.admin import RevokeKey

    with settings.open(write=True) as session:
        key_id = _key_id(session, key_ref)
        outcome = session.run(RevokeKey(key_id), settings.options())
    return answer("key.revoke/1", outcome, ("revoke", "revoked"), f"key {key_id}", id_=key_id)


def _key_id(session: Session, text: str) -> str:
    """A key id as given, or that of the one live key of an identity."""
    from muniment.app.packing import live_keys
    from muniment.domain.errors import UsageError

    if len(text) == 16 and not set(text) - set("0123456789abcdef"):
        return text
    found = sorted(key_id for key_id, held in live_keys(session).items() if held.identity == text)
    if len(found) != 1:
        raise UsageError(
            f"{text[:60]!r} is no key id, and the name of {len(found)} live keys",
            code="key.id",
            expected="16 hex digits, or an identity with one live key",
            found=", ".join(found),
            hint="muniment identity list",
        )
    return found[0]


# -- policy --------------------------------------------------------------------------------------------------------

policy = Noun("policy", "What is required and allowed: show, publish.", ["muniment policy show"])


@policy.verb(
    "show",
    uses=("fields", "as_of"),
    examples=["muniment policy show", "muniment policy show -o json > policy.json"],
)
def policy_show(settings: Settings) -> Result:
    """The policy in force and who published it."""
    import json

    from muniment.cli.views import reading
    from muniment.domain.errors import NotFoundError
    from muniment.projections.access import policy_row

    with settings.open() as session:
        view = reading(settings, session, "access")
        found = policy_row(view.model)
    if found is None:
        raise NotFoundError("no policy is published", code="policy.none", hint="muniment policy publish solo")
    by = found["by"]
    lines = [
        f"policy {found['policy']} {found['digest']}",
        f"  by     {by['actor']}, record #{by['position']}",
    ]
    lines += [
        f"  {name:<18} {json.dumps(value, ensure_ascii=False)}"
        for name, value in found["document"].items()
        if name != "policy"
    ]
    return Result("policy.show/1", found, view.as_of, lines, brief=found["policy"])


@policy.verb(
    "publish",
    write=True,
    examples=[
        "muniment policy publish team --reason 'two people now'",
        "muniment policy publish ./policy.json",
    ],
)
@click.argument("document", metavar="solo|team|regulated|FILE")
def policy_publish(settings: Settings, document: str) -> Answer:
    """Put another policy document in force."""
    from muniment.app.creating import load_policy
    from muniment.domain.admin import PublishPolicy

    loaded = load_policy(document)
    with settings.open(write=True) as session:
        outcome = session.run(PublishPolicy(loaded.document), settings.options())
    return answer(
        "policy.publish/1",
        outcome,
        ("publish", "published"),
        f"policy {loaded.policy} {loaded.digest}",
        id_=loaded.policy,
        data={"digest": loaded.digest},
    )


# -- clock ---------------------------------------------------------------------------------------------------------

clock = Noun("clock", "The clock of this host: accept.", ["muniment clock accept --reason 'NTP was down'"])


@clock.verb("accept", write=True, examples=["muniment clock accept --reason 'NTP was down'"])
def clock_accept(settings: Settings) -> Answer:
    """Accept that the clock of this host jumped forward, so that writing goes on."""
    with settings.open(write=True) as session:
        outcome = session.accept_clock(settings.options())
    if outcome.refusal is not None:
        return refused(outcome)
    event = outcome.event("clock.jump_accepted/1") or {}
    data = {"seconds": event.get("seconds", 0), **outcome_data(outcome)}
    act = "would accept" if outcome.dry_run else "accepted"
    lines = [f"{act} the clock, {data['seconds']} s ahead of what is accounted for"]
    lines += [*expected(outcome), "nothing was written"] if outcome.dry_run else []
    return Result("clock.accept/1", data, outcome.head, lines)
