"""Rollback: which pack to go back to, decided from records alone, with every candidate's code in the trace.

R5 itself stands in `domain.rollback_select`.
R6 (revocation, quarantine) stands with the switch, in `domain.activation`. R7 limits a chain by automation.
From TRIAL of a rollback the next one goes on with its chain; a rollback whose selected pack may no longer run selects again.
"""

from __future__ import annotations

import msgspec
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.eligible import frozen, ineligible, reading
from muniment.domain.incident_state import COUNT_ITEM, declared
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.refusal import Refusal
from muniment.domain.release_state import aborted, holding
from muniment.domain.rollback_select import Candidate, Selection, lkg, select
from muniment.domain.rollback_targets import failing_targets, running
from muniment.domain.slot_state import OPEN_STATES, no_slot
from muniment.domain.states import Slot, Target
from muniment.domain.world import World

NOBODY = "none"
TRIGGERS = (
    "verification_failed",
    "health_regressed",
    "incompatible",
    "policy_violation",
    "determinism_drift",
    "operator",
    "emergency",
)


class Request(msgspec.Struct, frozen=True, tag="rollback"):
    """Roll one target of a slot back; `to` is an explicit target pack or "" for R5's choice.

    `target` is `NOBODY` if no target was named and none runs a failing pack: that is refused, and says what runs where.
    """

    rollback: str
    slot: str
    target: str
    to: str
    trigger: str


def boundary(command: Request, world: World) -> Query:
    """The slot with every candidate, the rollout that holds it, and the numbering of incidents."""
    return (*reading(world, command.slot, command.to), *holding(world, command.slot), COUNT_ITEM)


def decide(world: World, command: Request, context: Context) -> Decision:
    """Refuse what cannot begin; else request, abandon what is half done, select, and close the rollout (R11 FAIL)."""
    slot = world.slots.get(command.slot)
    if slot is None:
        return no_slot(command.slot)
    target = slot.targets.get(command.target)
    if target is None and command.target == NOBODY and (what := running(slot)):
        return Refusal(
            "R5.nothing_failing",
            command.slot,
            f"no target of {command.slot} runs a failing pack: {what}"[:2000],
            cause=slot.desired_by,
            next=f"muniment rollback {command.slot} --target NAME",
        )
    if target is None or not target.active:
        return Refusal(
            "R5.nothing_active",
            command.slot,
            f"nothing is active on target {command.target} of {command.slot}",
            next=f"muniment channel show {command.slot.rsplit('/', 1)[0]}",
        )
    if target.mode == "STUCK":
        return Refusal(
            "R5.stuck",
            command.slot,
            f"target {command.target} is STUCK",
            cause=target.stuck,
            next=f"muniment slot unstick {command.slot} --target {command.target} --to PACK",
        )
    on_trial = target.mode == "TRIAL"  # the pack rolled back to is failing: the chain goes on
    lost = None
    if target.rollback and not on_trial:
        lost = ineligible(world, command.slot, target, target.rollback_pack, context)
        if lost is None or command.to:
            return Refusal(
                "R12.rollback_open",
                target.rollback,
                f"rollback {target.rollback} to {target.rollback_pack} is open",
                cause=target.requested,
                next=f"muniment activate {command.slot} --target {target.location or target.target}",
            )
    if refusal := frozen(world, command.slot, context.at, kinds=("ALL",)):
        return refusal
    if lost is not None:
        return [
            *_abandoned(target, command.slot, target.rollback),
            *next_after_failure(world, slot, target, target.rollback_pack, lost.detail, context),
        ]
    failing = target.active
    failed = [_step_failed(target, command.slot, failing, command.trigger)] if target.rollback else []
    if context.actor.automation and len(target.chain) >= context.policy.rollback.chain_limit:
        selection = Selection("", "chain_limit", [])
    else:
        selection = select(world, command.slot, target, failing, context, to=command.to)
    if command.to and not selection.pack and selection.reason != "chain_limit":
        return _explicit_refused(world, command, target, selection, context)
    if command.to and (
        refusal := needs_people(
            context.policy, "a rollback to an explicit pack", 0, f"muniment rollback {command.slot}"
        )
    ):
        return refusal
    begun = [
        *failed,
        _requested(command, failing, context),
        *_abandoned(target, command.slot, command.rollback),
    ]
    if not selection.pack:
        return [*begun, *_give_up(world, slot, target, command.rollback, failing, selection, context)]
    release = world.releases.get(slot.rollout)
    ours = release is not None and release.pack == failing and release.state != "ABORTING"
    return [
        *begun,
        _selected(command.rollback, target, command.slot, selection),
        *(aborted(world, slot.rollout, "rolled_back", None) if ours else []),
    ]


def _explicit_refused(
    world: World, command: Request, target: Target, selection: Selection, context: Context
) -> Refusal:
    last = selection.trace[-1]
    finding = ineligible(world, command.slot, target, command.to, context)
    return Refusal(
        f"R5.{selection.reason}",
        command.to,
        f"pack {command.to} cannot be the target: {last.detail or last.code}",
        cause=finding.mark if finding is not None and last.code != "excluded" else None,
        next=f"muniment rollback {command.slot} --dry-run",
        facts=[f"{c.source} {c.pack}: {c.code}" for c in selection.trace],
    )


def _requested(command: Request, failing: str, context: Context) -> Event:
    return Event(
        "rollback.requested/1",
        {
            "rollback": command.rollback,
            "slot": command.slot,
            "target": command.target,
            "trigger": command.trigger,
            "failing": failing,
            "reason": context.reason,
        },
    )


def _selected(rollback: str, target: Target, slot: str, selection: Selection) -> Event:
    return Event(
        "rollback.pack_selected/1",
        {
            "rollback": rollback,
            "slot": slot,
            "target": target.target,
            "pack": selection.pack,
            "trace": [candidate.data() for candidate in selection.trace],
        },
    )


def _step_failed(target: Target, slot: str, pack: str, reason: str) -> Event:
    return Event(
        "rollback.step_failed/1",
        {"rollback": target.rollback, "slot": slot, "target": target.target, "pack": pack, "reason": reason},
    )


def _abandoned(target: Target, slot: str, rollback: str) -> list[Event]:
    """An activation that has not switched yet ends here (R12: one at a time)."""
    current = target.activation
    if current is None or current.state not in OPEN_STATES:
        return []
    return [
        Event(
            "activation.abandoned/1",
            {
                "activation": current.activation,
                "slot": slot,
                "target": target.target,
                "pack": current.pack,
                "reason": f"rollback {rollback}",
            },
        )
    ]


def _give_up(
    world: World,
    slot: Slot,
    target: Target,
    rollback: str,
    failing: str,
    selection: Selection,
    context: Context,
) -> list[Event]:
    """R5, step 6: STUCK and an incident; `active` is unchanged (I9). A rollout of the failing pack fails with it."""
    common = {"rollback": rollback, "slot": slot.slot, "target": target.target}
    release = world.releases.get(slot.rollout)
    ours = release is not None and release.pack == failing
    return [
        Event(
            "rollback.no_candidate/1",
            {
                **common,
                "failing": failing,
                "reason": selection.reason,
                "trace": [candidate.data() for candidate in selection.trace],
            },
        ),
        Event("slot.stuck/1", {**common, "pack": failing, "reason": selection.reason}),
        *(aborted(world, slot.rollout, "stuck", (slot.slot, target.target, failing, True)) if ours else []),
        declared(
            f"i-{world.incident_count + 1}",
            "SEV2",
            slot.slot,
            f"{slot.slot} has no rollback target: {selection.reason}",
            context,
            cause_pack=failing,
            slots=[slot.slot],
            releases=[],
        ),
    ]


def next_after_failure(
    world: World, slot: Slot, target: Target, failed: str, reason: str, context: Context
) -> list[Event]:
    """The selected pack failed before it was switched to: chain + 1, and R5 again without it (R7 limits automation)."""
    step = _step_failed(target, slot.slot, failed, reason)
    if context.actor.automation and len(target.chain) >= context.policy.rollback.chain_limit:
        selection = Selection("", "chain_limit", [])
    else:
        longer = msgspec.structs.replace(target, chain=[*target.chain, failed])
        selection = select(world, slot.slot, longer, target.active, context)
    if selection.pack:
        return [step, _selected(target.rollback, target, slot.slot, selection)]
    return [step, *_give_up(world, slot, target, target.rollback, target.active, selection, context)]


__all__ = [
    "NOBODY",
    "TRIGGERS",
    "Candidate",
    "Request",
    "Selection",
    "boundary",
    "decide",
    "failing_targets",
    "lkg",
    "next_after_failure",
    "select",
]
