"""Activation: from a planned pack to a confirmed one on a target, one record a step.

PLANNED -> FETCHED -> VERIFIED -> STAGED -> SWITCHED (trial) -> CONFIRMED; exits FETCH_FAILED, VERIFY_FAILED, STAGE_FAILED and
ABANDONED leave `active` untouched, REVERTED puts the pack before back.

1. R12: one non-terminal activation a (slot, target).
2. R9 is judged at the plan and again at the switch, R2's verification stands between (settled.md, 14).
3. `activation.switched` is the commit point; the rename follows, recovery rolls forward or reverts (settled.md, 16).
4. I15: after a crash the last record says what to do; before the switch resume or abandon, after it TRIAL.
5. R6: a switch that rolls back revokes and quarantines the pack it leaves.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
from muniment.domain import pack as packs
from muniment.domain import release as releases
from muniment.domain import rollback as rollbacks
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.eligible import forward_refusal, frozen, ineligible, reading
from muniment.domain.query import Query
from muniment.domain.reference import channel_of
from muniment.domain.refusal import Refusal
from muniment.domain.slot_state import OPEN_STATES, items
from muniment.domain.states import Activation, Slot, Target
from muniment.domain.world import World

ATTACKS = (
    "arbitrary_software",
    "key_below_threshold",
    "rollback",
    "fast_forward",
    "stale_freeze",
    "mix_and_match",
    "partial_set",
    "wrong_software",
    "extraneous_dependency",
    "endless_data",
    "truncated",
    "incompatible",
    "below_floor",
    "blocked",
)


class Plan(msgspec.Struct, frozen=True, tag="activation.plan"):
    """Begin: adopt the target if it is new, and plan what the slot should run.

    `found` is the pack that the target's own link names ("" if none); `waive_rollback` acknowledges that no rollback target exists.
    """

    activation: str
    slot: str
    target: str
    location: str
    driver: str
    found: str
    waive_rollback: bool


class Step(msgspec.Struct, frozen=True, tag="activation.step"):
    """Fetched or staged."""

    activation: str
    slot: str
    target: str
    step: str
    detail: dict[str, Any]


class Verified(msgspec.Struct, frozen=True, tag="activation.verified"):
    """Every check, evaluated on the target; the verdict follows from them."""

    activation: str
    slot: str
    target: str
    checks: list[dict[str, Any]]


class Switch(msgspec.Struct, frozen=True, tag="activation.switch"):
    """The commit point."""

    activation: str
    slot: str
    target: str
    waive_rollback: bool


class Confirm(msgspec.Struct, frozen=True, tag="activation.confirm"):
    """The link as read back from the target."""

    activation: str
    slot: str
    target: str
    link: str


class Fail(msgspec.Struct, frozen=True, tag="activation.fail"):
    """A step failed before the switch: fetch_failed, stage_failed or abandoned."""

    activation: str
    slot: str
    target: str
    step: str
    reason: str


class Revert(msgspec.Struct, frozen=True, tag="activation.revert"):
    """The switch was recorded and cannot be carried out; `link` is what the target says."""

    activation: str
    slot: str
    target: str
    link: str


Command = Plan | Step | Verified | Switch | Confirm | Fail | Revert


def boundary(command: Command, world: World) -> Query:
    """The slot with every candidate, the rollout that holds it and that rollout's slots."""
    slot = world.slots.get(command.slot)
    queried = reading(world, command.slot)
    if slot is None or not slot.rollout:
        return queried
    release = world.releases.get(slot.rollout)
    touched = [one for other in (release.slots if release else ()) for one in items(other)]
    return (*queried, releases.item(slot.rollout), *touched)


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch; all but `plan` need the activation that runs."""
    slot = world.slots.get(command.slot)
    if slot is None:
        return Refusal(
            "R2.no_slot",
            command.slot,
            f"slot {command.slot} is not declared",
            next="muniment channel declare ENV/CHANNEL",
        )
    if isinstance(command, Plan):
        return _plan(world, slot, command, context)
    target = slot.targets.get(command.target)
    current = target.activation if target is not None else None
    if target is None or current is None or current.activation != command.activation:
        return Refusal(
            "activation.unknown",
            command.activation,
            f"{command.activation} is not the activation of {command.slot} target {command.target}",
            next=f"muniment activate {command.slot} --target DIR",
        )
    match command:
        case Step():
            return _step(current, command)
        case Verified():
            return _verified(world, target, current, command, context)
        case Switch():
            return _switch(world, slot, target, current, command, context)
        case Confirm():
            return _confirm(world, slot, target, current, command)
        case Fail():
            return _fail(world, target, current, command, context)
        case Revert():
            return _revert(target, current, command)
    assert_never(command)


def _plan(world: World, slot: Slot, command: Plan, context: Context) -> Decision:
    target = slot.targets.get(command.target)
    adopted = [] if target is not None else [_adopted(command)]
    target = target or Target(command.target, command.location, command.driver, active=command.found)
    if target.location and target.location != command.location:
        return Refusal(
            "activation.target_moved",
            command.target,
            f"target {command.target} of {slot.slot} is at {target.location}, not at {command.location}",
            next="give the folder it was adopted with, or another --name",
        )
    current = target.activation
    if current is not None and current.state in (*OPEN_STATES, "SWITCHED"):
        return Refusal(
            "R12.activation_open",
            current.activation,
            f"activation {current.activation} of {current.pack} is {current.state}",
            cause=current.planned,
            next=f"muniment activate {slot.slot} --target {command.location}",
        )
    back = bool(target.rollback)
    pack = target.rollback_pack if back else slot.desired
    if not pack:
        return Refusal(
            "R9.nothing_desired",
            slot.slot,
            f"no pack is promoted to {slot.slot}",
            next="muniment release promote RELEASE",
        )
    if pack == target.active and not back:
        return Refusal(
            "activation.active",
            pack,
            f"pack {pack} is active on {command.target} already",
            next=f"muniment active --target {command.location}",
        )
    if refusal := _may_move(
        world, slot.slot, target, pack, context, back=back, waive=command.waive_rollback, verified=False
    ):
        return refusal
    return [
        *adopted,
        Event(
            "activation.planned/1",
            {
                "activation": command.activation,
                "slot": slot.slot,
                "target": command.target,
                "pack": pack,
                "kind": "rollback" if back else "forward",
                "rollback": target.rollback,
                "release": "" if back else slot.release,
                "replaced": target.active,
                "waive_rollback": command.waive_rollback,
                "reason": context.reason,
            },
        ),
    ]


def _adopted(command: Plan) -> Event:
    return Event(
        "target.adopted/1",
        {
            "slot": command.slot,
            "target": command.target,
            "driver": command.driver,
            "location": command.location,
            "active": command.found,
        },
    )


def _may_move(
    world: World,
    slot: str,
    target: Target,
    pack: str,
    context: Context,
    *,
    back: bool,
    waive: bool,
    verified: bool,
) -> Refusal | None:
    """R9 for a forward move; R2 and freezes of kind ALL for a rollback (FORWARD never stops R5, R8)."""
    if back:
        if refusal := frozen(world, slot, context.at, kinds=("ALL",)):
            return refusal
        if finding := ineligible(world, slot, target, pack, context, need_verified=verified):
            return Refusal(
                f"R2.{finding.code}",
                pack,
                f"pack {pack} may not run in {slot}: {finding.detail}",
                cause=finding.mark,
                next=f"muniment rollback {slot} --dry-run",
            )
        return None
    if refusal := forward_refusal(world, slot, target, pack, context, need_verified=verified):
        return refusal
    if not target.active or waive:
        return None  # on an EMPTY slot the dry run is vacuous (settled.md, 14)
    if rollbacks.select(world, slot, _as_if_active(target, pack), pack, context).pack:
        return None
    return Refusal(
        "R9.no_rollback_target",
        slot,
        f"if {pack} failed on {target.target}, no pack could be rolled back to",
        next=f"muniment rollback {slot} --dry-run, or --waive-rollback to go on without one",
    )


def _as_if_active(target: Target, pack: str) -> Target:
    """The target as it would be with the pack active, for R9's dry run of R5."""
    return msgspec.structs.replace(target, active=pack, chain=[])


def _common(current: Activation, command: Command) -> dict[str, Any]:
    return {
        "activation": current.activation,
        "slot": command.slot,
        "target": command.target,
        "pack": current.pack,
    }


def _wrong_step(current: Activation, command: Command) -> Refusal:
    return Refusal(
        "activation.step",
        current.activation,
        f"activation {current.activation} is {current.state}",
        cause=current.planned,
        next=f"muniment channel show {channel_of(command.slot)}",
    )


def _step(current: Activation, command: Step) -> Decision:
    before = {"fetched": ("PLANNED",), "staged": ("VERIFIED",)}[command.step]
    if current.state not in before:
        return _wrong_step(current, command)
    return [Event(f"activation.{command.step}/1", {**_common(current, command), "detail": command.detail})]


def _verified(
    world: World, target: Target, current: Activation, command: Verified, context: Context
) -> Decision:
    if current.state != "FETCHED":
        return _wrong_step(current, command)
    failed = [
        check
        for check in command.checks
        if check["verdict"] != "pass" and check["verdict"] != "not_applicable"
    ]
    if not failed and command.checks:
        seen = packs.RecordVerification(
            current.pack, "PASS", f"{command.slot}/{command.target}", command.checks
        )
        return [
            Event("activation.verified/1", {**_common(current, command), "checks": command.checks}),
            packs.verification(seen, context),
        ]
    attacks = sorted({check.get("attack") or "arbitrary_software" for check in failed}) or ["partial_set"]
    event = Event(
        "activation.verification_failed/1",
        {**_common(current, command), "attacks": attacks, "checks": command.checks},
    )
    if current.kind == "rollback" and target.rollback:
        return [event, *rollbacks.next_after_failure(world, command.slot, target, current.pack, context)]
    return [event]


def _switch(
    world: World, slot: Slot, target: Target, current: Activation, command: Switch, context: Context
) -> Decision:
    if current.state != "STAGED":
        return _wrong_step(current, command)
    back = current.kind == "rollback"
    if refusal := _may_move(
        world,
        slot.slot,
        target,
        current.pack,
        context,
        back=back,
        waive=command.waive_rollback,
        verified=True,
    ):
        return refusal
    pack = world.packs[current.pack]
    events = [
        Event(
            "activation.switched/1",
            {
                **_common(current, command),
                "kind": current.kind,
                "replaced": target.active,
                "epoch": target.epoch + 1,
                "schema_level": pack.writes,
            },
        )
    ]
    if back and target.active and target.active != current.pack:
        left = {"slot": slot.slot, "target": target.target, "pack": target.active}
        events += [
            Event("slot.good_revoked/1", {**left, "cause": f"rollback {target.rollback}"}),
            Event(
                "slot.quarantined/1",
                {
                    "channel": channel_of(slot.slot),
                    "pack": target.active,
                    "cause": f"rollback {target.rollback}",
                },
            ),
        ]
    return events


def _confirm(world: World, slot: Slot, target: Target, current: Activation, command: Confirm) -> Decision:
    if current.state != "SWITCHED":
        return _wrong_step(current, command)
    if command.link != current.pack:
        return Refusal(
            "activation.link",
            command.target,
            f"the target's link names {command.link or 'nothing'}, the record says {current.pack}",
            cause=current.planned,
            next=f"muniment activate {command.slot} --target {target.location}",
        )
    events = [
        Event(
            "activation.confirmed/1",
            {**_common(current, command), "kind": current.kind, "link": command.link},
        )
    ]
    if current.kind == "rollback" and target.rollback:
        events.append(
            Event(
                "rollback.completed/1",
                {
                    "rollback": target.rollback,
                    "slot": slot.slot,
                    "target": target.target,
                    "pack": current.pack,
                },
            )
        )
        events += _settled(world, slot, target)
    return events


def _settled(world: World, slot: Slot, target: Target) -> list[Event]:
    """An aborting rollout ends once no target of its slots runs its pack."""
    release = world.releases.get(slot.rollout)
    if release is None or release.state != "ABORTING":
        return []
    still = [
        other
        for name in release.slots
        for other in (world.slots[name].targets.values() if name in world.slots else ())
        if other.active == release.pack and not (name == slot.slot and other.target == target.target)
    ]
    if still:
        return []
    return [
        Event(
            "release.rolled_back/1",
            {"release": release.release, "slots": release.slots, "pack": release.pack},
        )
    ]


def _fail(world: World, target: Target, current: Activation, command: Fail, context: Context) -> Decision:
    if current.state not in OPEN_STATES:
        return _wrong_step(current, command)
    event = Event(f"activation.{command.step}/1", {**_common(current, command), "reason": command.reason})
    if command.step == "fetch_failed" and current.kind == "rollback" and target.rollback:
        return [event, *rollbacks.next_after_failure(world, command.slot, target, current.pack, context)]
    return [event]


def _revert(target: Target, current: Activation, command: Revert) -> Decision:
    if current.state != "SWITCHED":
        return _wrong_step(current, command)
    if command.link != current.replaced:
        return Refusal(
            "activation.link",
            command.target,
            f"the target's link names {command.link or 'nothing'}, before the switch it was {current.replaced or 'nothing'}",
            cause=current.planned,
            next=f"muniment activate {command.slot} --target {target.location}",
        )
    return [
        Event(
            "activation.reverted/1",
            {**_common(current, command), "active": current.replaced, "epoch": target.epoch + 1},
        )
    ]
