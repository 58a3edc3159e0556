"""Channel and scope: declarations, pins, freezes, floors, baselines.

1. A pin, a freeze, a block, a quarantine and a floor are five different things (architecture.md, section 8).
2. A pin does not move `active`; it bounds forward moves (R9) and chooses the rollback target (R5).
3. R8: the effective freeze is the union of all live freezes; FORWARD never stops a rollback; ALL needs R10 and an expiry
   within the policy's limit.
4. R3: floors only rise; no event lowers one.
5. Pins and freezes carry owner, reason and expiry; expiry is evaluated at the instant of the decision.
"""

from __future__ import annotations

from typing import assert_never

import msgspec
from muniment.domain import pack_state as packs
from muniment.domain.channel_state import (
    HANDLES,
    POLICY_HANDLES,
    POLICY_ITEM,
    floor,
    is_declared,
    live_freezes,
    live_pin,
    scope_item,
    scope_items,
)
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.instant import between
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.reference import EVERYWHERE
from muniment.domain.refusal import NOT_FOUND, Refusal
from muniment.domain.world import World


class Declare(msgspec.Struct, frozen=True, tag="channel.declare"):
    """Declare a channel and its cohorts; declaring again adds cohorts."""

    channel: str
    cohorts: list[str]
    upstream: list[str]


class SetPin(msgspec.Struct, frozen=True, tag="channel.pin"):
    """Hold a scope at a pack."""

    scope: str
    pack: str
    expires_at: str


class Unpin(msgspec.Struct, frozen=True, tag="channel.unpin"):
    """Lift the pin of a scope."""

    scope: str


class FreezeScope(msgspec.Struct, frozen=True, tag="channel.freeze"):
    """Stop moves within a scope."""

    scope: str
    freeze: str
    kind: str
    expires_at: str


class Unfreeze(msgspec.Struct, frozen=True, tag="channel.unfreeze"):
    """Lift one freeze."""

    scope: str
    freeze: str


class SetBaseline(msgspec.Struct, frozen=True, tag="channel.baseline"):
    """Declare the pack of last resort of an environment (R5, step 5)."""

    environment: str
    pack: str


Command = Declare | SetPin | Unpin | FreezeScope | Unfreeze | SetBaseline


def boundary(command: Command, world: World) -> Query:  # noqa: ARG001
    """The level the command acts at, the map, and the pack it names."""
    base = (scope_item(EVERYWHERE),)
    match command:
        case Declare():
            return base
        case SetPin():
            return (*base, scope_item(command.scope), packs.item(command.pack))
        case SetBaseline():
            return (*base, scope_item(command.environment), packs.item(command.pack))
        case _:
            return (*base, scope_item(command.scope))


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch."""
    match command:
        case Declare():
            return _declare(world, command, context)
        case SetPin():
            return _pin(world, command, context)
        case Unpin():
            return _unpin(world, command, context)
        case FreezeScope():
            return _freeze(world, command, context)
        case Unfreeze():
            return _unfreeze(world, command, context)
        case SetBaseline():
            return _baseline(world, command, context)
    assert_never(command)


def _declare(world: World, command: Declare, context: Context) -> Decision:
    name = command.channel.rsplit("/", 1)[1]
    if name not in context.policy.risk_order:
        return Refusal(
            "channel.risk_unknown",
            command.channel,
            f"channel name {name} is not in the policy's risk order {' > '.join(context.policy.risk_order)}",
            next="muniment channel declare ENV/" + context.policy.risk_order[0],
        )
    known = world.channels.get(command.channel)
    missing = [up for up in command.upstream if up not in world.channels]
    if missing:
        return Refusal(
            "channel.upstream_unknown",
            missing[0],
            f"upstream channel {missing[0]} is not declared",
            next=f"muniment channel declare {missing[0]}",
            exit_code=NOT_FOUND,
        )
    new = [cohort for cohort in command.cohorts if not known or cohort not in known.cohorts]
    if known and not new and known.upstream == command.upstream:
        return Refusal(
            "channel.declared",
            command.channel,
            f"channel {command.channel} is declared with these cohorts",
            cause=known.declared,
            next=f"muniment channel show {command.channel}",
        )
    return [
        Event(
            "channel.declared/1",
            {
                "channel": command.channel,
                "cohorts": new,
                "upstream": command.upstream,
                "owner": context.actor.id,
                "reason": context.reason,
            },
        )
    ]


def _undeclared(world: World, scope: str) -> Refusal | None:
    """A scope names something declared, or everything."""
    if scope == EVERYWHERE:
        return None
    parts = scope.count("/")
    known = (
        any(channel.split("/", 1)[0] == scope for channel in world.channels)
        if parts == 0
        else scope in world.channels
        if parts == 1
        else is_declared(world, scope)
    )
    if known:
        return None
    return Refusal(
        "channel.undeclared",
        scope,
        f"nothing is declared at {scope}",
        next="muniment channel declare ENV/CHANNEL",
        exit_code=NOT_FOUND,
    )


def _expired(expires_at: str, context: Context, what: str) -> Refusal | None:
    if expires_at and expires_at <= context.at:
        return Refusal(
            "R8.expired", what, f"the {what} would be expired already", next="give a later --expires"
        )
    return None


def _pin(world: World, command: SetPin, context: Context) -> Decision:
    if refusal := _undeclared(world, command.scope) or _expired(command.expires_at, context, "pin"):
        return refusal
    pack = world.packs.get(command.pack)
    if pack is None or pack.registered is None:
        return packs.unknown(command.pack)
    return [
        Event(
            "channel.pinned/1",
            {
                "scope": command.scope,
                "pack": command.pack,
                "owner": context.actor.id,
                "expires_at": command.expires_at,
                "reason": context.reason,
            },
        )
    ]


def _unpin(world: World, command: Unpin, context: Context) -> Decision:
    scope = world.scopes.get(command.scope)
    if scope is None or scope.pin is None:
        return Refusal(
            "channel.not_pinned",
            command.scope,
            f"{command.scope} is not pinned",
            next="muniment channel show",
        )
    return [
        Event(
            "channel.unpinned/1",
            {"scope": command.scope, "pack": scope.pin.pack, "reason": context.reason},
        )
    ]


def _freeze(world: World, command: FreezeScope, context: Context) -> Decision:
    if refusal := _undeclared(world, command.scope) or _expired(command.expires_at, context, "freeze"):
        return refusal
    scope = world.scopes.get(command.scope)
    if scope is not None and (known := scope.freezes.get(command.freeze)) is not None:
        return Refusal(
            "channel.freeze_used",
            command.freeze,
            "a freeze of this id is in force",
            cause=known.mark,
            next="give another --id",
        )
    if command.kind == "ALL":
        limit = context.policy.freeze.all_max_s
        if not command.expires_at or between(context.at, command.expires_at) > limit * 1_000_000:
            return Refusal(
                "R8.all_expiry",
                command.scope,
                f"a freeze of kind ALL must end within {limit} s",
                next="give --expires",
            )
        if refusal := needs_people(
            context.policy, f"freezing ALL of {command.scope}", 0, "freeze FORWARD instead"
        ):
            return refusal
    return [frozen(command.scope, command.freeze, command.kind, command.expires_at, context, incident="")]


def frozen(scope: str, freeze: str, kind: str, expires_at: str, context: Context, *, incident: str) -> Event:
    """The event of a freeze; incidents make it too."""
    return Event(
        "channel.frozen/1",
        {
            "scope": scope,
            "freeze": freeze,
            "kind": kind,
            "owner": context.actor.id,
            "expires_at": expires_at,
            "incident": incident,
            "reason": context.reason,
        },
    )


def _unfreeze(world: World, command: Unfreeze, context: Context) -> Decision:
    scope = world.scopes.get(command.scope)
    freeze = scope.freezes.get(command.freeze) if scope else None
    if freeze is None:
        return Refusal(
            "channel.freeze_unknown",
            command.freeze,
            f"no freeze {command.freeze} is in force at {command.scope}",
            next="muniment channel show",
            exit_code=NOT_FOUND,
        )
    if freeze.kind == "ALL" and (
        refusal := needs_people(context.policy, f"lifting {freeze.freeze}", 0, "wait for its expiry")
    ):
        refusal.cause = freeze.mark
        return refusal
    return [
        Event(
            "channel.unfrozen/1",
            {"scope": command.scope, "freeze": command.freeze, "reason": context.reason},
        )
    ]


def _baseline(world: World, command: SetBaseline, context: Context) -> Decision:
    if refusal := _undeclared(world, command.environment):
        return refusal
    pack = world.packs.get(command.pack)
    if pack is None or pack.registered is None:
        return packs.unknown(command.pack)
    if pack.state != "ELIGIBLE":
        return Refusal(
            f"R2.{pack.state.lower()}",
            command.pack,
            f"pack {command.pack} is {pack.state}",
            cause=pack.withdrawn or pack.registered,
            next=f"muniment pack show {command.pack}",
        )
    return [
        Event(
            "channel.baselined/1",
            {
                "scope": command.environment,
                "pack": command.pack,
                "owner": context.actor.id,
                "reason": context.reason,
            },
        )
    ]


__all__ = [
    "HANDLES",
    "POLICY_HANDLES",
    "POLICY_ITEM",
    "Command",
    "Declare",
    "FreezeScope",
    "SetBaseline",
    "SetPin",
    "Unfreeze",
    "Unpin",
    "boundary",
    "decide",
    "floor",
    "frozen",
    "is_declared",
    "live_freezes",
    "live_pin",
    "scope_item",
    "scope_items",
]
