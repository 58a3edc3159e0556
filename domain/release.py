"""Release: the rollout of one pack over the slots of a plan, stage by stage.

1. The plan is frozen at creation: `stages[{slots, milli_percent, soak_s}]`, its digest is what gets submitted.
2. R12: one non-terminal rollout a slot.
3. With no approvals asked for (policy solo) `start` appends submitted, approved {policy} and started together.
4. `promote` opens the first stage, or judges the gate of the present one and opens the next; `complete` judges the last. The
   gate is R11 with what is known here: PASS when every target of the stage runs the pack, was attested good in it (R4), has soaked
   and was reported HEALTHY since the exposure; anything missing is INCONCLUSIVE and refuses, a failing target is FAIL.
5. A pause holds reasons; resuming needs every freeze gone, soaks from zero and asks for a new report.
6. `abort`, or a rollback from the pack, makes it ABORTING; it ends ROLLED_BACK, or ABORTED_STUCK if a target is STUCK.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
from muniment.domain import pack_state as packs
from muniment.domain import slot_state
from muniment.domain.canonical import digest
from muniment.domain.channel_state import live_freezes
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.eligible import forward_refusal, frozen, reading
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.refusal import NOT_FOUND, REFUSED, Refusal, some
from muniment.domain.release_state import (
    HANDLES,
    TERMINAL,
    aborted,
    gate,
    item,
    judged,
    judged_on,
    paused,
    soaked,
)
from muniment.domain.states import Release, Stage
from muniment.domain.world import World


class Create(msgspec.Struct, frozen=True, tag="release.create"):
    """Draft a release of a pack over stages."""

    release: str
    pack: str
    stages: list[Stage]


class Start(msgspec.Struct, frozen=True, tag="release.start"):
    """Submit, have approved and start."""

    release: str


class Promote(msgspec.Struct, frozen=True, tag="release.promote"):
    """Open the first stage, or judge the present one and open the next; `to` names the slot or channel meant, or ""."""

    release: str
    to: str


class Pause(msgspec.Struct, frozen=True, tag="release.pause"):
    """Hold."""

    release: str


class Resume(msgspec.Struct, frozen=True, tag="release.resume"):
    """Go on."""

    release: str


class Complete(msgspec.Struct, frozen=True, tag="release.complete"):
    """Judge the last stage and end."""

    release: str


class Abort(msgspec.Struct, frozen=True, tag="release.abort"):
    """Give the rollout up: it ends once no target of its slots runs its pack."""

    release: str


Command = Create | Start | Promote | Pause | Resume | Complete | Abort


def boundary(command: Command, world: World) -> Query:
    """The release, its pack, and every slot of its plan with what bears on it."""
    if isinstance(command, Create):
        return (
            item(command.release),
            packs.item(command.pack),
            *(one for stage in command.stages for slot in stage.slots for one in slot_state.items(slot)),
        )
    release = world.releases.get(command.release)
    if release is None:
        return (item(command.release),)
    others = sorted(
        {world.slots[s].rollout for s in release.slots if s in world.slots} - {"", command.release}
    )
    return (
        item(command.release),
        packs.item(release.pack),
        *(one for slot in release.slots for one in reading(world, slot, release.pack)),
        *(item(other) for other in others),
        *(judged_on(world, release) if isinstance(command, Promote | Complete) else ()),
    )


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch; every command but `create` needs the release, unfinished."""
    release = world.releases.get(command.release)
    if isinstance(command, Create):
        return _create(world, command, release)
    if release is None:
        return Refusal(
            "release.unknown",
            command.release,
            f"no release {command.release} here",
            next="muniment release list",
            exit_code=NOT_FOUND,
        )
    if release.state in TERMINAL:
        return Refusal(
            "release.ended",
            command.release,
            f"release {command.release} is {release.state}",
            cause=release.ended,
            next="muniment release create",
        )
    match command:
        case Start():
            return _start(world, release, context)
        case Promote():
            return _promote(world, release, command, context)
        case Pause():
            return _pause(release, context)
        case Resume():
            return _resume(world, release, context)
        case Complete():
            return _complete(world, release, context)
        case Abort():
            if release.state not in ("RUNNING", "PAUSED"):
                return _not_running(release)
            return aborted(world, release.release, "aborted", None)
    assert_never(command)


def _create(world: World, command: Create, known: Release | None) -> Decision:
    if known is not None:
        return Refusal(
            "release.id_used",
            command.release,
            f"release {command.release} was created before",
            cause=known.created,
            next=f"muniment release show {command.release}",
        )
    pack = world.packs.get(command.pack)
    if pack is None or pack.registered is None:
        return packs.unknown(command.pack)
    slots = [slot for stage in command.stages for slot in stage.slots]
    unknown = [
        slot for slot in slots if slot not in world.slots or slot.rsplit("/", 1)[0] not in world.channels
    ]
    if (
        not slots
        or unknown
        or any(s.rsplit("/", 1)[1] not in world.channels[s.rsplit("/", 1)[0]].cohorts for s in slots)
    ):
        where = unknown[0] if unknown else some(slots) or "the plan"
        return Refusal(
            "release.slot_unknown" if slots else "release.no_slots",
            where,
            f"{where} is not declared" if slots else "the plan names no slot",
            next="muniment channel declare",
            exit_code=NOT_FOUND if slots else REFUSED,
        )
    stages = msgspec.to_builtins(command.stages)
    plan = {"pack": command.pack, "stages": stages}
    return [
        Event(
            "release.created/1",
            {
                "release": command.release,
                "pack": command.pack,
                "product": pack.product,
                "stages": stages,
                "slots": list(dict.fromkeys(slots)),
                "plan_digest": digest(plan),
            },
        )
    ]


def _start(world: World, release: Release, context: Context) -> Decision:
    if release.state != "DRAFT":
        return Refusal(
            "release.state",
            release.release,
            f"release {release.release} is {release.state}",
            cause=release.created,
            next=f"muniment release promote {release.release}",
        )
    for slot in release.slots:
        other = world.slots[slot].rollout if slot in world.slots else ""
        if other and other != release.release:
            return Refusal(
                "R12.rollout_open",
                slot,
                f"slot {slot} is held by release {other}",
                cause=world.releases[other].created if other in world.releases else None,
                next=f"muniment release show {other}",
            )
        if refusal := frozen(world, slot, context.at) or forward_refusal(
            world, slot, None, release.pack, context, need_verified=False
        ):
            if refusal.rule == "R9.upstream":
                continue  # judged when the slot is promoted: its upstream may be an earlier stage of this plan
            return refusal
    if refusal := needs_people(
        context.policy, f"starting release {release.release}", 0, f"muniment release show {release.release}"
    ):
        return refusal
    base: dict[str, Any] = {"release": release.release, "slots": release.slots}
    return [
        Event("release.submitted/1", {**base, "plan_digest": release.plan_digest, "reason": context.reason}),
        Event(
            "release.approved/1",
            {**base, "by": [f"policy:{context.policy.policy}"], "plan_digest": release.plan_digest},
        ),
        Event("release.started/1", {**base, "pack": release.pack}),
    ]


def _not_running(release: Release) -> Refusal:
    cause = next(iter(release.pauses.values()), release.created)
    held = f" ({', '.join(release.pauses)})" if release.pauses else ""
    verb = {"PAUSED": "resume", "DRAFT": "start"}.get(release.state, "show")
    return Refusal(
        f"release.{release.state.lower()}",
        release.release,
        f"release {release.release} is {release.state}{held}",
        cause=cause,
        next=f"muniment release {verb} {release.release}",
    )


def _gate_refusal(release: Release, verdict: str, facts: list[str]) -> Refusal:
    slot = release.stages[release.stage].slots[0]
    return Refusal(
        f"R11.{verdict.lower()}",
        release.release,
        f"the gate of stage {release.stage} is {verdict}: {some(facts)}",
        next=f"muniment rollback {slot}" if verdict == "FAIL" else f"muniment release show {release.release}",
        facts=facts,
    )


def _promote(world: World, release: Release, command: Promote, context: Context) -> Decision:
    if release.state != "RUNNING":
        return _not_running(release)
    events: list[Event] = []
    stage = release.stage
    if release.phase == "EXPOSED":
        if stage + 1 >= len(release.stages):
            return Refusal(
                "release.last_stage",
                release.release,
                f"stage {stage} is the last one",
                next=f"muniment release complete {release.release}",
            )
        verdict, facts = gate(world, release, context)
        if verdict != "PASS":
            return _gate_refusal(release, verdict, facts)
        events += [soaked(release), judged(release, "PASS", facts)]
        stage += 1
    slots = release.stages[stage].slots
    if command.to and not all(slot == command.to or slot.startswith(command.to + "/") for slot in slots):
        return Refusal(
            "release.stage_mismatch",
            command.to,
            f"stage {stage} of {release.release} goes to {', '.join(slots)}, not to {command.to}",
            next=f"muniment release show {release.release}",
        )
    for slot in slots:
        if refusal := forward_refusal(world, slot, None, release.pack, context, need_verified=False):
            return refusal
    base = {"release": release.release, "stage": stage, "slots": slots, "pack": release.pack}
    return [
        *events,
        Event("release.exposed/1", {**base, "milli_percent": release.stages[stage].milli_percent}),
        Event("release.promoted/1", {**base, "reason": context.reason}),
    ]


def _pause(release: Release, context: Context) -> Decision:
    if release.state not in ("RUNNING", "PAUSED") or "operator" in release.pauses:
        return _not_running(release)
    return [paused(release, "operator", context)]


def _resume(world: World, release: Release, context: Context) -> Decision:
    if release.state != "PAUSED":
        return _not_running(release)
    for slot in release.slots:
        for _, freeze in live_freezes(world, slot, context.at):
            return Refusal(
                "R8.frozen",
                slot,
                f"{slot} is frozen ({freeze.kind}, id {freeze.freeze}{', incident ' + freeze.incident if freeze.incident else ''})",
                cause=freeze.mark,
                next="muniment incident close …"
                if freeze.incident
                else f"muniment channel unfreeze … --id {freeze.freeze}",
            )
    return [
        Event(
            "release.resumed/1",
            {
                "release": release.release,
                "slots": release.slots,
                "cleared": sorted(release.pauses),
                "reason": context.reason,
            },
        )
    ]


def _complete(world: World, release: Release, context: Context) -> Decision:
    if release.state != "RUNNING":
        return _not_running(release)
    if release.phase != "EXPOSED" or release.stage + 1 < len(release.stages):
        return Refusal(
            "release.stages_left",
            release.release,
            f"stage {release.stage} of {len(release.stages)} is {release.phase}",
            next=f"muniment release promote {release.release}",
        )
    verdict, facts = gate(world, release, context)
    if verdict != "PASS":
        return _gate_refusal(release, verdict, facts)
    return [
        soaked(release),
        judged(release, "PASS", facts),
        Event(
            "release.completed/1", {"release": release.release, "slots": release.slots, "pack": release.pack}
        ),
    ]


__all__ = [
    "HANDLES",
    "TERMINAL",
    "Abort",
    "Command",
    "Complete",
    "Create",
    "Pause",
    "Promote",
    "Resume",
    "Start",
    "boundary",
    "decide",
    "gate",
    "item",
    "judged",
    "paused",
]
