"""Activation: what may be planned, and what may move: R9 forward, R2 and freezes of kind ALL back."""

from __future__ import annotations

import msgspec
from muniment.domain import rollback as rollbacks
from muniment.domain.activation_commands import Plan
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.eligible import forward_refusal, frozen, ineligible
from muniment.domain.policy import needs_people
from muniment.domain.refusal import Mark, Refusal
from muniment.domain.slot_state import OPEN_STATES
from muniment.domain.states import Slot, Target
from muniment.domain.world import World


def plan(world: World, slot: Slot, command: Plan, context: Context) -> Decision:
    """Plan what the slot should run, or the pack a rollback has selected; adopt the target if it is new."""
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
    back = bool(target.rollback)
    # a rollback may begin from TRIAL: what was switched and not confirmed is what it leaves
    if current is not None and (
        current.state in OPEN_STATES or (current.state == "SWITCHED" and current.rollback == target.rollback)
    ):
        return Refusal(
            "R12.activation_open",
            current.activation,
            f"activation {current.activation} of {current.pack} is {current.state}",
            cause=current.planned,
            next=f"muniment activate {slot.slot} --target {command.location}",
        )
    pack = target.rollback_pack if back else slot.desired
    if not pack:
        return Refusal(
            "R9.nothing_desired",
            slot.slot,
            f"no pack is promoted to {slot.slot}",
            next="muniment release promote RELEASE",
        )
    if pack == target.active and not back and not command.repair:
        return Refusal(
            "activation.active",
            pack,
            f"pack {pack} is active on {command.target} already",
            cause=Mark(target.switched_position, "", "", "") if target.switched_position else None,
            next=f"muniment active --target {command.location}",
        )
    if refusal := may_move(
        world, slot, target, pack, context, back=back, waive=command.waive_rollback, verified=False
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


def may_move(
    world: World,
    slot: Slot,
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
        if refusal := frozen(world, slot.slot, context.at, kinds=("ALL",)):
            return refusal
        if finding := ineligible(world, slot.slot, target, pack, context, need_verified=verified):
            return Refusal(
                f"R2.{finding.code}",
                pack,
                f"pack {pack} may not run in {slot.slot}: {finding.detail}",
                cause=finding.mark,
                next=f"muniment rollback {slot.slot} --target {target.target}",
            )
        return None
    if refusal := _release_refusal(world, slot, pack) or forward_refusal(
        world, slot.slot, target, pack, context, need_verified=verified
    ):
        return refusal
    if target.active in ("", pack):
        return None  # on an EMPTY slot the dry run is vacuous (settled.md, 14), and a repair changes no pack
    if rollbacks.select(world, slot.slot, _as_if_active(target, pack), pack, context).pack:
        return None
    if waive:
        return needs_people(
            context.policy, "a move without a rollback target", 0, f"muniment channel baseline {slot.slot}"
        )
    return Refusal(
        "R9.no_rollback_target",
        slot.slot,
        f"if {pack} failed on {target.target}, no pack could be rolled back to",
        next=f"muniment rollback {slot.slot} --dry-run, or --waive-rollback to go on without one",
    )


def _release_refusal(world: World, slot: Slot, pack: str) -> Refusal | None:
    """R9, the gate: a release that is paused, failed or ended without success moves nothing forward any more."""
    release = world.releases.get(slot.release)
    if release is None or release.pack != pack or release.state in ("RUNNING", "COMPLETED"):
        return None
    verb = "resume" if release.state == "PAUSED" else "show"
    return Refusal(
        f"R9.release_{release.state.lower()}",
        release.release,
        f"release {release.release}, which brought pack {pack} to {slot.slot}, is {release.state}",
        cause=release.ended or next(iter(release.pauses.values()), release.created),
        next=f"muniment release {verb} {release.release}",
    )


def _as_if_active(target: Target, pack: str) -> Target:
    """The target as it would be with the pack active, for R9's dry run of R5."""
    return msgspec.structs.replace(target, active=pack, chain=[])
