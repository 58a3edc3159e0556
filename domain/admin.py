"""The store itself: its creation, its policy, its identities and keys, an accepted clock jump.

1. Position 1 is `store.created`; it names store id, kind and the canonical profile (settled.md, 10).
2. An identity is a name with one Ed25519 key; a command that the key signed is the identity's. A name has one live key.
3. Which commands need a key is policy (`commands_need_key`); the handler asks `key_refusal` before every decision.
"""

from __future__ import annotations

from base64 import b64decode
from typing import Any, assert_never

import msgspec
from muniment.domain.canonical import PROFILE
from muniment.domain.channel_state import POLICY_ITEM
from muniment.domain.decision import ActorRef, Context, Decision, Event
from muniment.domain.identity_state import IDENTITY_ITEM
from muniment.domain.policy import Policy, needs_people, parse, weaker
from muniment.domain.query import Item, Query
from muniment.domain.refusal import DENIED, NOT_FOUND, REFUSED, Refusal
from muniment.domain.world import World

# A key that proves nothing signs nothing: these refusals are recorded unsigned, as the operating-system user's.
UNPROVEN = ("R10.key_unknown", "R10.key_revoked")
# The y of the points of order 1, 2, 4 and 8 on Curve25519, canonical or not, little endian without the sign bit (RFC 7748, 7;
# the list of libsodium). The sign bit makes eight points of the five canonical ones.
SMALL_ORDER = frozenset(
    bytes.fromhex(y)
    for y in (
        "00" * 32,
        "01" + "00" * 31,
        "26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05",
        "c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a",
        "ec" + "ff" * 30 + "7f",
        "ed" + "ff" * 30 + "7f",
        "ee" + "ff" * 30 + "7f",
    )
)


def weak_key(public_key: str) -> bool:
    """Tell whether an Ed25519 public key (base64) is a point of small order, under which forgeries verify."""
    try:
        raw = b64decode(public_key, validate=True)
    except ValueError:
        return False  # of another form: `keys` says so
    return len(raw) == 32 and raw[:31] + bytes([raw[31] & 0x7F]) in SMALL_ORDER


KINDS = ("human", "service", "agent")


class Init(msgspec.Struct, frozen=True, tag="init"):
    """Create the store's first records."""

    store_id: str
    kind: str
    versions: dict[str, str]
    log_key_id: str
    log_public_key: str
    origin: str
    policy: dict[str, Any]


class PublishPolicy(msgspec.Struct, frozen=True, tag="policy.publish"):
    """Put another policy document in force."""

    policy: dict[str, Any]


class AddIdentity(msgspec.Struct, frozen=True, tag="identity.add"):
    """Bind a public key to a name."""

    identity: str
    kind: str
    key_id: str
    public_key: str


class RevokeKey(msgspec.Struct, frozen=True, tag="key.revoke"):
    """End a key; what it signed before stays valid."""

    key_id: str


class AcceptClock(msgspec.Struct, frozen=True, tag="clock.accept"):
    """Accept that the clock jumped forward."""

    seconds: int


class DeclareMaintenance(msgspec.Struct, frozen=True, tag="store.maintain"):
    """Say beforehand what the owner of the database will do to rows that otherwise stay."""

    act: str


Command = Init | PublishPolicy | AddIdentity | RevokeKey | AcceptClock | DeclareMaintenance


STORE_ITEM = Item(("store.created/1",), ("scope:*",))


def boundary(command: Command, world: World) -> Query:  # noqa: ARG001
    """All identities for a change of one; the store record for its creation."""
    match command:
        case Init():
            return (STORE_ITEM,)
        case AddIdentity() | RevokeKey():
            return (IDENTITY_ITEM,)
        case _:
            return (POLICY_ITEM,)


def key_refusal(policy: Policy, world: World, actor: ActorRef, command: str) -> Refusal | None:
    """Refuse a command that policy wants signed, and a signature by a key that is not bound or is revoked."""
    if actor.auth.startswith("ed25519:"):
        key = world.keys.get(actor.auth.removeprefix("ed25519:"))
        if key is None or key.identity != actor.id or key.kind != actor.kind:
            return Refusal(
                "R10.key_unknown",
                actor.auth,
                f"key {actor.auth} is not bound to {actor.id}",
                next="muniment identity add NAME --key KEY",
                facts=_claimed(actor),
                exit_code=DENIED,
            )
        if key.revoked is not None:
            return Refusal(
                "R10.key_revoked",
                actor.auth,
                f"key {actor.auth} of {actor.id} is revoked",
                cause=key.revoked,
                next="muniment key create",
                facts=_claimed(actor),
                exit_code=DENIED,
            )
        return None
    if command in policy.commands_need_key:
        return Refusal(
            "R10.key_needed",
            command,
            f"policy {policy.policy} wants {command} signed by an identity key",
            next="muniment --sign KEY …",
            exit_code=DENIED,
        )
    return None


def _claimed(actor: ActorRef) -> list[str]:
    """Who the signature claimed to be: such a refusal is recorded as the operating-system user's (`UNPROVEN`)."""
    return [f"identity: {actor.id}", f"kind: {actor.kind}"]


def claimed(subject: str, facts: list[str]) -> ActorRef:
    """The actor that a refusal of `UNPROVEN` turned away, from its record."""
    told = dict(fact.split(": ", 1) for fact in facts if ": " in fact)
    return ActorRef(told.get("identity", ""), told.get("kind", "human"), subject)


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch."""
    match command:
        case Init():
            return _init(world, command)
        case PublishPolicy():
            return _publish(world, command, context)
        case AddIdentity():
            return _add(world, command, context)
        case RevokeKey():
            return _revoke(world, command, context)
        case AcceptClock():
            return [Event("clock.jump_accepted/1", {"seconds": command.seconds, "reason": context.reason})]
        case DeclareMaintenance():
            return [Event("store.maintenance_declared/1", {"act": command.act, "reason": context.reason})]
    assert_never(command)


def _published(document: dict[str, Any], reason: str) -> Event:
    policy = parse(document)
    return Event(
        "policy.published/1",
        {"policy": policy.policy, "digest": policy.digest, "document": policy.document, "reason": reason},
    )


def _init(world: World, command: Init) -> Decision:
    if world.policy is not None:  # every store has one from its second record on
        return Refusal(
            "store.exists",
            command.store_id,
            "this store was created before",
            cause=world.policy.mark,
            next="muniment policy publish FILE",
        )
    return [
        Event(
            "store.created/1",
            {
                "store_id": command.store_id,
                "kind": command.kind,
                "canonical": PROFILE,
                "versions": command.versions,
                "origin": command.origin,
                "log_key_id": command.log_key_id,
                "log_public_key": command.log_public_key,
            },
        ),
        _published(command.policy, "store created"),
    ]


def _publish(world: World, command: PublishPolicy, context: Context) -> Decision:
    policy = parse(command.policy)
    if world.policy is not None and world.policy.digest == policy.digest:
        return Refusal(
            "policy.in_force",
            policy.policy,
            f"policy {policy.policy} with this digest is in force",
            cause=world.policy.mark,
            next="muniment history list --type policy.published",
        )
    less = weaker(context.policy, policy) if world.policy is not None else []
    if less and (refusal := _not_alone(context)):
        refusal.message = f"{refusal.message}; it asks for less in {', '.join(less)}"
        refusal.cause = world.policy.mark if world.policy is not None else None
        refusal.facts = less
        return refusal
    return [_published(command.policy, context.reason)]


def _not_alone(context: Context) -> Refusal | None:
    """R10: to ask for less answers to the policy in force, or one person could switch off the need for two."""
    if context.policy.commands_need_key and context.actor.auth == "os":
        return Refusal(
            "R10.key_needed",
            "policy.publish",
            f"policy {context.policy.policy} wants a policy that asks for less signed by an identity key",
            next="muniment --sign KEY …",
            exit_code=DENIED,
        )
    return needs_people(context.policy, "a policy that asks for less", 0, "muniment policy show")


def _add(world: World, command: AddIdentity, context: Context) -> Decision:
    if weak_key(command.public_key):
        return Refusal(
            "identity.weak_key",
            command.key_id,
            f"key {command.key_id} is a point of small order: anybody can sign for it",
            next="muniment key create",
        )
    for key in world.keys.values():
        if key.key_id == command.key_id or (key.identity == command.identity and key.revoked is None):
            return Refusal(
                "identity.exists",
                command.identity,
                f"identity {key.identity} has key {key.key_id}",
                cause=key.added,
                next=f"muniment key revoke {key.key_id}",
            )
    return [
        Event(
            "identity.added/1",
            {
                "identity": command.identity,
                "kind": command.kind,
                "key_id": command.key_id,
                "public_key": command.public_key,
                "reason": context.reason,
            },
        )
    ]


def _revoke(world: World, command: RevokeKey, context: Context) -> Decision:
    key = world.keys.get(command.key_id)
    if key is None or key.revoked is not None:
        return Refusal(
            "key.unknown" if key is None else "key.revoked",
            command.key_id,
            f"no live key {command.key_id} is bound here",
            cause=key.revoked if key else None,
            next="muniment identity list",
            exit_code=NOT_FOUND if key is None else REFUSED,
        )
    return [
        Event(
            "key.revoked/1",
            {"key_id": command.key_id, "identity": key.identity, "reason": context.reason},
        )
    ]
