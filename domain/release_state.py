"""Release: the fold of its records, the gate of a stage (R11), and events that other entities make too."""

from __future__ import annotations

from typing import Any

from muniment.domain.decision import Context, Event, Fact
from muniment.domain.instant import plus
from muniment.domain.query import Item, Query
from muniment.domain.slot_state import items, reports
from muniment.domain.states import Release, Stage, Target
from muniment.domain.world import Handles, World

TERMINAL = ("COMPLETED", "ROLLED_BACK", "ABORTED_STUCK", "SUPERSEDED")


def item(release: str) -> Item:
    """The records of one release."""
    return Item(TYPES, (f"release:{release}",))


def holding(world: World, slot: str) -> Query:
    """The rollout that holds a slot, the release that set what it should run, and every slot of that rollout."""
    state = world.slots.get(slot)
    if state is None:
        return ()
    release = world.releases.get(state.rollout)
    return (
        *(item(name) for name in sorted({state.rollout, state.release} - {""})),
        *(one for other in (release.slots if release else ()) for one in items(other)),
    )


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
    "release.aborted/1": _end("ABORTED_STUCK"),
}
TYPES = tuple(sorted(HANDLES))


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
            elif plus(_soaks_from(target, release), seconds=stage.soak_s) > context.at:
                missing.append(f"soaking:{where}")
    if failing:
        return "FAIL", failing
    return ("INCONCLUSIVE", missing) if missing else ("PASS", [f"attested:{name}" for name in stage.slots])


def judged_on(world: World, release: Release) -> Query:
    """The reports that the gate of the present stage looks at."""
    names = release.stages[release.stage].slots if release.phase == "EXPOSED" else []
    targets = (
        (slot, target)
        for slot in names
        if slot in world.slots
        for target in world.slots[slot].targets.values()
    )
    return tuple(reports(slot, target) for slot, target in targets if target.active == release.pack)


def _soaks_from(target: Target, release: Release) -> str:
    return max(target.confirmed_at, target.interrupted_at, release.exposed_at)


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


def soaked(release: Release) -> Event:
    return Event(
        "release.soaked/1", {"release": release.release, "stage": release.stage, "slots": release.slots}
    )


def paused(release: Release, cause: str, context: Context) -> Event:
    """The event of a pause; incidents make it too."""
    return Event(
        "release.paused/1",
        {"release": release.release, "slots": release.slots, "cause": cause, "reason": context.reason},
    )


def aborted(world: World, rollout: str, fact: str, change: tuple[str, str, str, bool] | None) -> list[Event]:
    """The rollout is judged FAIL unless it was, and ends once every target of its slots is settled.

    A target is settled when it runs another pack or is STUCK; one STUCK makes the end ABORTED_STUCK.

    Args:
        fact: why it fails.
        change: (slot, target, active pack, stuck) as this decision leaves a target; None if it leaves all as they are.
    """
    release = world.releases.get(rollout)
    if release is None or release.state not in ("RUNNING", "PAUSED", "ABORTING"):
        return []
    events = [] if release.state == "ABORTING" else [judged(release, "FAIL", [fact])]
    any_stuck = False
    for name in release.slots:
        for target in world.slots[name].targets.values() if name in world.slots else ():
            active, stuck = target.active, target.mode == "STUCK"
            if change is not None and change[:2] == (name, target.target):
                _, _, active, stuck = change
            if not stuck and active == release.pack:
                return events
            any_stuck |= stuck
    end = "release.aborted/1" if any_stuck else "release.rolled_back/1"
    data = {"release": release.release, "slots": release.slots, "pack": release.pack}
    return [*events, Event(end, data)]
