"""Incident: the fold of its records, predicate C (I22), and the declaration that a rollback makes too."""

from __future__ import annotations

from muniment.domain.channel_state import live_freezes, live_pin
from muniment.domain.decision import Context, Event, Fact
from muniment.domain.query import Item, Query
from muniment.domain.reference import covers
from muniment.domain.release_state import TERMINAL
from muniment.domain.slot_state import reports
from muniment.domain.states import Incident
from muniment.domain.world import Handles, World


def on_declared(world: World, fact: Fact) -> None:
    """A new incident; its number is the count so far."""
    data = fact.data
    world.incident_count += 1
    world.incidents[data["incident"]] = Incident(
        incident=data["incident"],
        severity=data["severity"],
        scope=data["scope"],
        summary=data["summary"],
        commander=data["commander"],
        declared=fact.mark(),
        freeze=data["freeze"],
        freeze_scope=data["scope"],
        releases=data["releases"],
        slots=data["slots"],
        cause_pack=data["cause_pack"],
    )


def on_noted(world: World, fact: Fact) -> None:
    """Notes are counted; the class is the last one given."""
    if (incident := world.incidents.get(fact.data["incident"])) is not None:
        incident.notes += 1
        incident.class_ = fact.data["class"] or incident.class_


def on_contained(world: World, fact: Fact) -> None:
    """Contained."""
    world.incidents[fact.data["incident"]].state = "CONTAINED"


def on_mitigated(world: World, fact: Fact) -> None:
    """Health is back."""
    world.incidents[fact.data["incident"]].state = "MITIGATED"


def on_resolved(world: World, fact: Fact) -> None:
    """Resolved, with the words for it."""
    incident = world.incidents[fact.data["incident"]]
    incident.state, incident.resolution = "RESOLVED", fact.data["resolution"]


def on_review_opened(world: World, fact: Fact) -> None:
    """In review."""
    world.incidents[fact.data["incident"]].state = "IN_REVIEW"


def on_closed(world: World, fact: Fact) -> None:
    """Terminal."""
    incident = world.incidents[fact.data["incident"]]
    incident.state, incident.ended = "CLOSED", fact.mark()


HANDLES: Handles = {
    "incident.declared/1": on_declared,
    "incident.noted/1": on_noted,
    "incident.contained/1": on_contained,
    "incident.mitigated/1": on_mitigated,
    "incident.resolved/1": on_resolved,
    "incident.review_opened/1": on_review_opened,
    "incident.closed/1": on_closed,
}
TYPES = tuple(sorted(HANDLES))

# The numbering of incidents (settled.md, 13): every declaration carries this tag.
COUNT_ITEM = Item(("incident.declared/1",), ("incident:*",))


def item(incident: str) -> Item:
    """The records of one incident."""
    return Item(TYPES, (f"incident:{incident}",))


def slots_in(world: World, scope: str) -> list[str]:
    """The declared slots that a scope covers, sorted."""
    every = (
        f"{channel.channel}/{cohort}" for channel in world.channels.values() for cohort in channel.cohorts
    )
    return sorted(slot for slot in every if covers(scope, slot))


def uncontained(world: World, incident: Incident, at: str) -> list[str]:
    """Predicate C, as the list of what is still open; empty means contained."""
    found = []
    for name in slots_in(world, incident.scope):
        slot = world.slots.get(name)
        if slot is None:
            continue
        release = world.releases.get(slot.rollout)
        if release is not None and release.state not in ("PAUSED", *TERMINAL):
            found.append(f"rollout_{release.state.lower()}:{release.release}")
        held = live_freezes(world, name, at) or live_pin(world, name, at)
        stuck = slot.targets and all(target.mode == "STUCK" for target in slot.targets.values())
        if not held and not stuck:
            found.append(f"slot_open:{name}")
    return list(dict.fromkeys(found))


def reported(world: World, slots: list[str]) -> Query:
    """The reports that tell whether all is well again."""
    found = ((slot, world.slots[slot].targets) for slot in slots if slot in world.slots)
    return tuple(reports(slot, one) for slot, targets in found for one in targets.values() if one.active)


def unhealthy(world: World, incident: Incident) -> list[str]:
    """Targets in scope whose last report is not HEALTHY, or older than the declaration (stale is not healthy)."""
    found = []
    for name in slots_in(world, incident.scope):
        slot = world.slots.get(name)
        for target in slot.targets.values() if slot else ():
            report = target.health
            if target.active and (
                report is None
                or report.status != "HEALTHY"
                or report.mark.position < incident.declared.position
            ):
                found.append(f"no_healthy_report:{name} target {target.target}")
    return found


def declared(
    incident: str,
    severity: str,
    scope: str,
    summary: str,
    context: Context,
    *,
    cause_pack: str,
    slots: list[str],
    releases: list[str],
    freeze: str = "",
) -> Event:
    """The event of a declaration; a rollback without a target makes it too."""
    return Event(
        "incident.declared/1",
        {
            "incident": incident,
            "severity": severity,
            "scope": scope,
            "summary": summary,
            "commander": context.actor.id,
            "cause_pack": cause_pack,
            "slots": slots,
            "releases": releases,
            "freeze": freeze,
            "reason": context.reason,
        },
    )
