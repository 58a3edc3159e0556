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

from muniment.domain import pack as packs
from muniment.domain import rollback as rollbacks
from muniment.domain.activation_commands import (
    ATTACKS,
    Command,
    Confirm,
    Fail,
    Plan,
    Revert,
    Step,
    Switch,
    Verified,
)
from muniment.domain.activation_plan import may_move, plan
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.eligible import reading
from muniment.domain.incident_state import COUNT_ITEM
from muniment.domain.query import Query
from muniment.domain.reference import channel_of
from muniment.domain.refusal import NOT_FOUND, Refusal
from muniment.domain.release_state import aborted, holding
from muniment.domain.slot_state import OPEN_STATES, no_slot
from muniment.domain.states import Activation, Slot, Target
from muniment.domain.world import World


def boundary(command: Command, world: World) -> Query:
    """The slot with every candidate, the rollout that holds it and that rollout's slots.

    A failure on the way back may leave the target STUCK, which declares an incident: then its numbering too.
    """
    queried = (*reading(world, command.slot), *holding(world, command.slot))
    slot = world.slots.get(command.slot)
    target = slot.targets.get(command.target) if slot is not None else None
    back = target is not None and target.rollback
    return (*queried, COUNT_ITEM) if back and isinstance(command, Verified | Fail) else queried


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch; all but `plan` need the activation that runs."""
    slot = world.slots.get(command.slot)
    if slot is None:
        return no_slot(command.slot)
    if isinstance(command, Plan):
        return plan(world, slot, command, context)
    target = slot.targets.get(command.target)
    current = target.activation if target is not None else None
    if target is None or current is None or current.activation != command.activation:
        return Refusal(
            "activation.unknown",
            command.activation,
            f"{command.activation} is not the activation of {command.slot} target {command.target}",
            next=f"muniment activate {command.slot} --target DIR",
            exit_code=NOT_FOUND,
        )
    match command:
        case Step():
            return _step(current, command)
        case Verified():
            return _verified(world, slot, target, current, command, context)
        case Switch():
            return _switch(world, slot, target, current, command, context)
        case Confirm():
            return _confirm(world, slot, target, current, command)
        case Fail():
            return _fail(world, slot, target, current, command, context)
        case Revert():
            return _revert(world, slot, target, current, command)
    assert_never(command)


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
    before = {"fetched": "PLANNED", "staged": "VERIFIED"}.get(command.step)
    if current.state != before:
        return _wrong_step(current, command)
    return [Event(f"activation.{command.step}/1", {**_common(current, command), "detail": command.detail})]


def _verified(
    world: World, slot: Slot, target: Target, current: Activation, command: Verified, context: Context
) -> Decision:
    if current.state != "FETCHED":
        return _wrong_step(current, command)
    failed = [check for check in command.checks if check.get("verdict") not in ("pass", "not_applicable")]
    if not failed and command.checks:
        seen = packs.RecordVerification(
            current.pack, "PASS", f"{command.slot}/{command.target}", command.checks
        )
        return [
            Event("activation.verified/1", {**_common(current, command), "checks": command.checks}),
            packs.verification(seen, context),
        ]
    named = {check.get("attack") for check in failed}
    attacks = sorted({name if name in ATTACKS else "arbitrary_software" for name in named}) or ["partial_set"]
    event = Event(
        "activation.verification_failed/1",
        {**_common(current, command), "attacks": attacks, "checks": command.checks},
    )
    if current.kind == "rollback" and target.rollback:
        return [
            event,
            *rollbacks.next_after_failure(world, slot, target, current.pack, "verification failed", context),
        ]
    return [event]


def _switch(
    world: World, slot: Slot, target: Target, current: Activation, command: Switch, context: Context
) -> Decision:
    if current.state != "STAGED":
        return _wrong_step(current, command)
    back = current.kind == "rollback"
    if refusal := may_move(
        world,
        slot,
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
    release = world.releases.get(slot.rollout)
    if release is not None and release.state == "ABORTING":
        events += aborted(world, slot.rollout, "", (slot.slot, target.target, current.pack, False))
    return events


def _fail(
    world: World, slot: Slot, target: Target, current: Activation, command: Fail, context: Context
) -> Decision:
    if current.state not in OPEN_STATES:
        return _wrong_step(current, command)
    event = Event(f"activation.{command.step}/1", {**_common(current, command), "reason": command.reason})
    if command.step in ("fetch_failed", "stage_failed") and current.kind == "rollback" and target.rollback:
        return [
            event,
            *rollbacks.next_after_failure(world, slot, target, current.pack, "fetch failed", context),
        ]
    return [event]


def _revert(world: World, slot: Slot, target: Target, current: Activation, command: Revert) -> Decision:
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
    events = [
        Event(
            "activation.reverted/1",
            {**_common(current, command), "active": current.replaced, "epoch": target.epoch + 1},
        )
    ]
    release = world.releases.get(slot.rollout)
    if release is not None and release.state == "ABORTING":
        events += aborted(world, slot.rollout, "", (slot.slot, target.target, current.replaced, False))
    return events


__all__ = [
    "ATTACKS",
    "Command",
    "Confirm",
    "Fail",
    "Plan",
    "Revert",
    "Step",
    "Switch",
    "Verified",
    "boundary",
    "decide",
]
