"""Release: the rollout of one pack over the slots of a plan, stage by stage.

1. The plan is frozen at creation: `stages[{slots, milli_percent, soak_s}]`, its digest is what gets submitted.
2. R12: one non-terminal rollout a slot.
3. With no approvals asked for (policy solo) `start` appends submitted, approved {policy} and started together.
4. `promote` opens the first stage, or judges the gate of the present one and opens the next; `complete` judges the last. The
   gate is R11 with what is known here: PASS when every target of the stage runs the pack, was attested good in it (R4), has soaked
   and was reported HEALTHY since the exposure; anything missing is INCONCLUSIVE and refuses, a failing target is FAIL.
5. A pause holds reasons; resuming needs every freeze gone, soaks from zero and asks for a new report.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
from muniment.domain import pack as packs
from muniment.domain import slot_state
from muniment.domain.canonical import digest
from muniment.domain.channel import live_freezes
from muniment.domain.decision import Context, Decision, Event, Fact
from muniment.domain.eligible import forward_refusal, frozen, reading
from muniment.domain.instant import plus
from muniment.domain.policy import needs_people
from muniment.domain.query import Item, Query
from muniment.domain.refusal import Refusal
from muniment.domain.states import Release, Stage
from muniment.domain.world import Handles, World

TERMINAL = ("COMPLETED", "ROLLED_BACK", "ABORTED_STUCK", "SUPERSEDED")
WHOLE = 100_000  # milli-percent


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


Command = Create | Start | Promote | Pause | Resume | Complete


def on_created(world: World, fact: Fact) -> None:
    """A draft with a frozen plan."""
    data = fact.data
    world.releases[data["release"]] = Release(
        release=data["release"],
        pack=data["pack"],
        product=data["product"],
        stages=[Stage(s["slots"], s["milli_percent"], s["soak_s"]) for s in data["stages"]],
        plan_digest=data["plan_digest"],
        created=fact.mark(),
        requester=fact.actor.id,
    )


def _of(world: World, fact: Fact) -> Release | None:
    return world.releases.get(fact.data["release"])


def on_submitted(world: World, fact: Fact) -> None:
    """Submitted."""
    if release := _of(world, fact):
        release.state = "SUBMITTED"


def on_approved(world: World, fact: Fact) -> None:
    """Approved, by policy or by people."""
    if release := _of(world, fact):
        release.state, release.approvals = "APPROVED", fact.data["by"]


def on_started(world: World, fact: Fact) -> None:
    """Running, first stage open."""
    if release := _of(world, fact):
        release.state, release.stage, release.phase = "RUNNING", 0, "OPEN"


def on_exposed(world: World, fact: Fact) -> None:
    """The stage is exposed; its evidence counts from here."""
    if release := _of(world, fact):
        release.stage, release.phase = fact.data["stage"], "EXPOSED"
        release.exposed_position, release.exposed_at = fact.position, fact.occurred_at


def on_judged(world: World, fact: Fact) -> None:
    """FAIL aborts; PASS opens the next stage by the exposure that follows."""
    if (release := _of(world, fact)) and fact.data["verdict"] == "FAIL":
        release.state = "ABORTING"


def on_paused(world: World, fact: Fact) -> None:
    """One more reason to hold."""
    if release := _of(world, fact):
        release.state = "PAUSED"
        release.pauses[fact.data["cause"]] = fact.mark()


def on_resumed(world: World, fact: Fact) -> None:
    """Same stage, soaking from zero, new evidence."""
    if release := _of(world, fact):
        release.state, release.pauses = "RUNNING", {}
        if release.phase == "EXPOSED":
            release.exposed_position, release.exposed_at = fact.position, fact.occurred_at


def _end(state: str) -> Any:
    def on_end(world: World, fact: Fact) -> None:
        if release := _of(world, fact):
            release.state, release.ended = state, fact.mark()

    on_end.__doc__ = f"The release is {state}."
    return on_end


HANDLES: Handles = {
    "release.created/1": on_created,
    "release.submitted/1": on_submitted,
    "release.approved/1": on_approved,
    "release.started/1": on_started,
    "release.exposed/1": on_exposed,
    "release.gate_judged/1": on_judged,
    "release.paused/1": on_paused,
    "release.resumed/1": on_resumed,
    "release.completed/1": _end("COMPLETED"),
    "release.rolled_back/1": _end("ROLLED_BACK"),
}


def item(release: str) -> Item:
    """The records of one release."""
    return Item(tuple(sorted(HANDLES)), (f"release:{release}",))


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
        where = unknown[0] if unknown else ", ".join(slots) or "the plan"
        return Refusal(
            "release.slot_unknown", where, f"{where} is not declared", next="muniment channel declare"
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


def gate(world: World, release: Release, context: Context) -> tuple[str, list[str]]:
    """R11 over the present stage: (PASS | FAIL | INCONCLUSIVE, what it rests on or what is missing)."""
    stage = release.stages[release.stage]
    missing, failing = [], []
    for name in stage.slots:
        slot = world.slots.get(name)
        if slot is None or not slot.targets:
            missing.append(f"no_data:{name}")
            continue
        for target in slot.targets.values():
            where = f"{name} target {target.target}"
            if target.active != release.pack:
                missing.append(f"not_active:{where}")
            elif target.mode != "STEADY":
                missing.append(f"{target.mode.lower()}:{where}")
            elif target.health is not None and target.health.failed:
                failing.append(f"unhealthy:{where}")
            elif not any(item.pack == release.pack for item in target.good()):
                missing.append(f"not_attested:{where}")
            elif target.health is None or target.health.mark.position < release.exposed_position:
                missing.append(f"no_report_since_exposure:{where}")
            elif target.health.status != "HEALTHY":
                missing.append(f"{target.health.status.lower()}:{where}")
            elif plus(max(target.confirmed_at, release.exposed_at), seconds=stage.soak_s) > context.at:
                missing.append(f"soaking:{where}")
    if failing:
        return "FAIL", failing
    return ("INCONCLUSIVE", missing) if missing else ("PASS", [f"attested:{name}" for name in stage.slots])


def judged(release: Release, verdict: str, facts: list[str]) -> Event:
    """The event of a judgement; a rollback makes it too."""
    return Event(
        "release.gate_judged/1",
        {
            "release": release.release,
            "slots": release.slots,
            "stage": release.stage,
            "verdict": verdict,
            "facts": facts,
        },
    )


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
        f"the gate of stage {release.stage} is {verdict}: {', '.join(facts)}",
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
        events += [_soaked(release), judged(release, "PASS", facts)]
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


def _soaked(release: Release) -> Event:
    return Event(
        "release.soaked/1", {"release": release.release, "stage": release.stage, "slots": release.slots}
    )


def paused(release: Release, cause: str, context: Context) -> Event:
    """The event of a pause; incidents make it too."""
    return Event(
        "release.paused/1",
        {"release": release.release, "slots": release.slots, "cause": cause, "reason": context.reason},
    )


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
        _soaked(release),
        judged(release, "PASS", facts),
        Event(
            "release.completed/1", {"release": release.release, "slots": release.slots, "pack": release.pack}
        ),
    ]
