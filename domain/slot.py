"""Slot: health reports, attestations, and the ways out of STUCK and quarantine.

1. Health is reported by people or agents as records; which statuses fail is policy, and the record says so.
2. R4: GoodAttested needs Confirmed, an uninterrupted soak with at least k healthy reports, and no other activation between
   (a switch resets the count). A failing report revokes.
3. R3: attesting raises the slot's floor to the pack's epoch, unless that would leave the slot without an R5 target.
4. STUCK and quarantine end by R10 only, with the target named.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
from muniment.domain import pack_state as packs
from muniment.domain import rollback as rollbacks
from muniment.domain.channel_state import floor
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.eligible import ineligible, reading
from muniment.domain.instant import between
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.refusal import NOT_FOUND, Refusal
from muniment.domain.slot_state import reports
from muniment.domain.states import Scope, Target
from muniment.domain.world import World

STATUSES = ("HEALTHY", "DEGRADED", "UNHEALTHY", "UNKNOWN")


class Report(msgspec.Struct, frozen=True, tag="health.report"):
    """Health of the active pack on a target; signals are integers or words, never floats."""

    slot: str
    target: str
    status: str
    signals: list[dict[str, Any]]


class Attest(msgspec.Struct, frozen=True, tag="slot.attest"):
    """Attest the active pack good now, if R4 holds."""

    slot: str
    target: str


class Unstick(msgspec.Struct, frozen=True, tag="slot.unstick"):
    """Leave STUCK with a named pack as what the slot should run."""

    slot: str
    target: str
    pack: str


class LiftQuarantine(msgspec.Struct, frozen=True, tag="slot.lift_quarantine"):
    """Let automation select a pack again in a channel."""

    channel: str
    pack: str


Command = Report | Attest | Unstick | LiftQuarantine


def boundary(command: Command, world: World) -> Query:
    """The slot with every candidate, and the reports an attestation counts; a quarantine is a fact of its pack."""
    if isinstance(command, LiftQuarantine):
        return (packs.item(command.pack),)
    if isinstance(command, Unstick):
        return reading(world, command.slot, command.pack)
    queried = reading(world, command.slot)
    slot = world.slots.get(command.slot)
    target = slot.targets.get(command.target) if slot is not None else None
    if target is None or not target.active:
        return queried
    if isinstance(command, Report) and (command.status != "HEALTHY" or not _may_become_good(target)):
        return queried  # years of reports need not be read to add one
    return (*queried, reports(command.slot, target))


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch."""
    if isinstance(command, LiftQuarantine):
        return _lift(world, command, context)
    slot = world.slots.get(command.slot)
    target = slot.targets.get(command.target) if slot is not None else None
    if target is None:
        known = ", ".join(slot.targets) if slot is not None else ""
        return Refusal(
            "slot.target_unknown",
            command.target,
            f"{command.slot} has no target {command.target}" + (f"; it has {known}" if known else ""),
            next=f"muniment activate {command.slot} --target DIR",
            exit_code=NOT_FOUND,
        )
    match command:
        case Report():
            return _report(world, target, command, context)
        case Attest():
            missing = unattested(target, context)
            if missing:
                return Refusal(
                    "R4.not_good",
                    target.active or command.slot,
                    f"cannot attest: {', '.join(missing)}",
                    cause=target.health.mark if target.health is not None and target.health.failed else None,
                    next=f"muniment health report {command.slot} --status HEALTHY",
                    facts=missing,
                )
            return attested(world, command.slot, target, context)
        case Unstick():
            return _unstick(world, target, command, context)
    assert_never(command)


def _may_become_good(target: Target) -> bool:
    """What R4 asks beside reports and time."""
    attested_already = any(item.pack == target.active for item in target.good())
    return target.mode == "STEADY" and bool(target.confirmed_at) and not attested_already


def unattested(target: Target, context: Context) -> list[str]:
    """R4 as the list of what is missing; empty means it may be attested now."""
    rules = context.policy.attestation
    missing = []
    if not target.active:
        return ["nothing_active"]
    if target.mode != "STEADY" or not target.confirmed_at:
        missing.append(f"mode_{target.mode.lower()}" if target.confirmed_at else "not_confirmed")
    if any(item.pack == target.active for item in target.good()):
        missing.append("attested_already")
    if target.health is not None and target.health.failed:
        missing.append("last_report_failed")
    if target.healthy < rules.healthy_reports:
        missing.append(f"healthy_reports:{target.healthy}/{rules.healthy_reports}")
    if target.confirmed_at:
        soaked = between(max(target.confirmed_at, target.interrupted_at), context.at)
        if soaked < rules.soak_s * 1_000_000:
            missing.append(f"soak_s:{max(soaked, 0) // 1_000_000}/{rules.soak_s}")
    return missing


def attested(world: World, slot: str, target: Target, context: Context) -> list[Event]:
    """GoodAttested, and the slot's floor raised where that strands nobody (R3)."""
    pack = world.packs[target.active]
    activation = target.activation.activation if target.activation is not None else ""
    events = [
        Event(
            "slot.good_attested/1",
            {
                "slot": slot,
                "target": target.target,
                "pack": target.active,
                "activation": activation,
                "healthy": target.healthy,
                "epoch": target.epoch,
                "reason": context.reason,
            },
        )
    ]
    if pack.security_epoch > floor(world, slot) and not _strands(world, slot, pack.security_epoch, context):
        events.append(
            Event(
                "channel.floor_raised/1",
                {
                    "scope": slot,
                    "floor": pack.security_epoch,
                    "pack": target.active,
                    "reason": "attested good",
                },
            )
        )
    return events


def _strands(world: World, slot: str, raised: int, context: Context) -> bool:
    """Would this floor take the last R5 target from a target of the slot? One that has none already loses nothing."""
    level = msgspec.structs.replace(world.scopes.get(slot, Scope(slot)), floor=raised)
    higher = msgspec.structs.replace(world, scopes={**world.scopes, slot: level})
    return any(
        rollbacks.select(world, slot, target, target.active, context).pack
        and not rollbacks.select(higher, slot, target, target.active, context).pack
        for target in world.slots[slot].targets.values()
        if target.active
    )


def _report(world: World, target: Target, command: Report, context: Context) -> Decision:
    if not target.active:
        return Refusal(
            "slot.nothing_active",
            command.slot,
            f"nothing is active on target {command.target}",
            next=f"muniment activate {command.slot} --target DIR",
        )
    failed = command.status in context.policy.health.failing
    report = Event(
        "slot.health_reported/1",
        {
            "slot": command.slot,
            "target": command.target,
            "pack": target.active,
            "status": command.status,
            "failed": failed,
            "signals": command.signals,
            "reason": context.reason,
        },
    )
    if failed:
        good = any(item.pack == target.active for item in target.good())
        revoked = Event(
            "slot.good_revoked/1",
            {
                "slot": command.slot,
                "target": command.target,
                "pack": target.active,
                "cause": f"health {command.status}",
            },
        )
        return [report, revoked] if good else [report]
    seen = msgspec.structs.replace(
        target, healthy=target.healthy + (command.status == "HEALTHY"), health=None
    )
    if command.status == "HEALTHY" and not unattested(seen, context):
        return [report, *attested(world, command.slot, seen, context)]
    return [report]


def _unstick(world: World, target: Target, command: Unstick, context: Context) -> Decision:
    if target.mode != "STUCK":
        return Refusal(
            "slot.not_stuck",
            command.slot,
            f"target {command.target} is {target.mode}",
            next=f"muniment channel show {command.slot.rsplit('/', 1)[0]}",
        )
    if finding := ineligible(world, command.slot, target, command.pack, context):
        return Refusal(
            f"R2.{finding.code}",
            command.pack,
            f"pack {command.pack} may not run in {command.slot}: {finding.detail}",
            cause=finding.mark,
            next=f"muniment pack show {command.pack}",
        )
    if refusal := needs_people(context.policy, "leaving STUCK", 0, "muniment slot unstick"):
        refusal.cause = target.stuck
        return refusal
    return [
        Event(
            "slot.unstuck/1",
            {"slot": command.slot, "target": command.target, "pack": command.pack, "reason": context.reason},
        )
    ]


def _lift(world: World, command: LiftQuarantine, context: Context) -> Decision:
    pack = world.packs.get(command.pack)
    mark = pack.quarantines.get(command.channel) if pack is not None else None
    if mark is None:
        return Refusal(
            "slot.not_quarantined",
            command.pack,
            f"pack {command.pack} is not quarantined in {command.channel}",
            next=f"muniment pack show {command.pack}",
        )
    if refusal := needs_people(context.policy, "lifting a quarantine", 0, "muniment slot lift-quarantine"):
        refusal.cause = mark
        return refusal
    return [
        Event(
            "slot.quarantine_lifted/1",
            {"channel": command.channel, "pack": command.pack, "reason": context.reason},
        )
    ]
