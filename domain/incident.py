"""Incident: declared, contained, mitigated, resolved, reviewed, closed.

1. Declaring acts: one transaction records the incident, pauses overlapping releases, freezes the scope (FORWARD) and revokes
   the attestations of the pack named as its cause (R4).
2. CONTAINED is a predicate over the log, not a label (I22): every overlapping rollout is paused or ended, every slot in
   scope is frozen, pinned, stuck or rolled back.
3. Resolving needs containment and health back on every target in scope, reported after the declaration.
4. Closing needs a resolution, causes and an owner for each action; it lifts the incident's own freeze. Under a policy that
   asks for people it needs someone other than the commander.
"""

from __future__ import annotations

from typing import assert_never

import msgspec
from muniment.domain import release_state as releases
from muniment.domain import slot_state
from muniment.domain.channel import frozen
from muniment.domain.channel_state import scope_item
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.incident_state import (
    COUNT_ITEM,
    HANDLES,
    declared,
    item,
    reported,
    slots_in,
    uncontained,
    unhealthy,
)
from muniment.domain.query import Query
from muniment.domain.reference import EVERYWHERE
from muniment.domain.refusal import DENIED, NOT_FOUND, Refusal, some
from muniment.domain.states import Incident
from muniment.domain.world import World

SEVERITIES = ("SEV0", "SEV1", "SEV2", "SEV3", "SEV4")
CLASSES = ("workflow", "operating-context", "storage-visibility", "tool-behavior", "publish-boundary")
OPEN = ("DECLARED", "CONTAINED", "MITIGATED", "RESOLVED", "IN_REVIEW")


class Declare(msgspec.Struct, frozen=True, tag="incident.declare"):
    """Declare an incident over a scope; the number is assigned by the decision."""

    severity: str
    scope: str
    summary: str
    cause_pack: str


class Note(msgspec.Struct, frozen=True, tag="incident.note"):
    """Add a note, with the class if it is known."""

    incident: str
    text: str
    class_: str = msgspec.field(name="class")
    evidence: list[dict[str, object]] = []


class Contain(msgspec.Struct, frozen=True, tag="incident.contain"):
    """State that predicate C holds."""

    incident: str


class Resolve(msgspec.Struct, frozen=True, tag="incident.resolve"):
    """State that health is back, and how."""

    incident: str
    resolution: str


class Close(msgspec.Struct, frozen=True, tag="incident.close"):
    """Complete the record."""

    incident: str
    causes: list[str]
    actions: list[dict[str, str]]


Command = Declare | Note | Contain | Resolve | Close


def boundary(command: Command, world: World) -> Query:
    """The incident, the map, the slots in scope, and the rollouts that hold them."""
    base: Query = (scope_item(EVERYWHERE),)
    match command:
        case Declare(scope=scope):
            base = (*base, COUNT_ITEM, scope_item(scope))
        case Note():
            return (item(command.incident),)
        case _:
            incident = world.incidents.get(command.incident)
            base = (*base, item(command.incident))
            if incident is None:
                return base
            scope = incident.scope
    slots = slots_in(world, scope)
    rollouts = sorted({world.slots[slot].rollout for slot in slots if slot in world.slots} - {""})
    return (
        *base,
        *(one for slot in slots for one in slot_state.items(slot)),
        *(releases.item(release) for release in rollouts),
        *(reported(world, slots) if isinstance(command, Resolve) else ()),
    )


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch; all but `declare` need an open incident."""
    if isinstance(command, Declare):
        return _declare(world, command, context)
    incident = world.incidents.get(command.incident)
    if incident is None:
        return Refusal(
            "incident.unknown",
            command.incident,
            f"no incident {command.incident} here",
            next="muniment incident list",
            exit_code=NOT_FOUND,
        )
    if incident.state not in OPEN:
        return Refusal(
            "incident.ended",
            command.incident,
            f"incident {command.incident} is {incident.state}",
            cause=incident.ended,
            next="muniment incident declare",
        )
    match command:
        case Note():
            data = {"incident": command.incident, "text": command.text, "class": command.class_}
            return [Event("incident.noted/1", data, tuple(command.evidence))]
        case Contain():
            return _contain(world, incident, context)
        case Resolve():
            return _resolve(world, incident, command, context)
        case Close():
            return _close(world, incident, command, context)
    assert_never(command)


def _declare(world: World, command: Declare, context: Context) -> Decision:
    slots = slots_in(world, command.scope)
    if not slots:
        return Refusal(
            "incident.scope_empty",
            command.scope,
            f"no declared slot lies in {command.scope}",
            next="muniment channel show",
        )
    name = f"i-{world.incident_count + 1}"
    freeze = f"fz-{name}"
    running = sorted(
        {world.slots[slot].rollout for slot in slots if slot in world.slots} - {""},
    )
    paused = [
        world.releases[r]
        for r in running
        if r in world.releases and world.releases[r].state in ("RUNNING", "PAUSED")
    ]
    return [
        declared(
            name,
            command.severity,
            command.scope,
            command.summary,
            context,
            cause_pack=command.cause_pack,
            slots=slots,
            releases=[release.release for release in paused],
            freeze=freeze,
        ),
        frozen(command.scope, freeze, "FORWARD", "", context, incident=name),
        *(releases.paused(release, f"incident:{name}", context) for release in paused),
        *_revoked(world, name, command.cause_pack, slots),
    ]


def _revoked(world: World, incident: str, pack: str, slots: list[str]) -> list[Event]:
    """R4: an incident that names a pack as its cause revokes its attestations in scope."""
    return [
        Event(
            "slot.good_revoked/1",
            {"slot": name, "target": target.target, "pack": pack, "cause": f"incident {incident}"},
        )
        for name in slots
        for target in (world.slots[name].targets.values() if name in world.slots else ())
        if any(good.pack == pack for good in target.good())
    ]


def _contain(world: World, incident: Incident, context: Context) -> Decision:
    if open_ends := uncontained(world, incident, context.at):
        return Refusal(
            "I22.not_contained",
            incident.incident,
            f"incident {incident.incident} is not contained: {some(open_ends)}",
            cause=incident.declared,
            next=f"muniment channel freeze {incident.scope} --reason …",
            facts=open_ends,
        )
    if incident.state != "DECLARED":
        return Refusal(
            "incident.contained",
            incident.incident,
            f"the incident is {incident.state}",
            cause=incident.declared,
            next="muniment incident resolve",
        )
    return [Event("incident.contained/1", {"incident": incident.incident, "reason": context.reason})]


def _resolve(world: World, incident: Incident, command: Resolve, context: Context) -> Decision:
    if incident.state in ("RESOLVED", "IN_REVIEW"):
        return Refusal(
            "incident.resolved",
            incident.incident,
            f"the incident is {incident.state}",
            cause=incident.declared,
            next=f"muniment incident close {incident.incident}",
        )
    events: list[Event] = []
    if incident.state == "DECLARED":
        contained = _contain(world, incident, context)
        if isinstance(contained, Refusal):
            return contained
        events += contained
    if sick := unhealthy(world, incident):
        return Refusal(
            "incident.not_healthy",
            incident.incident,
            f"health is not back: {some(sick)}",
            cause=incident.declared,
            next="muniment health report SLOT --status HEALTHY",
            facts=sick,
        )
    name = {"incident": incident.incident}
    if incident.state in ("DECLARED", "CONTAINED"):
        events.append(Event("incident.mitigated/1", {**name, "reason": context.reason}))
    return [
        *events,
        Event("incident.resolved/1", {**name, "resolution": command.resolution, "reason": context.reason}),
    ]


def _close(world: World, incident: Incident, command: Close, context: Context) -> Decision:
    if incident.state not in ("RESOLVED", "IN_REVIEW"):
        return Refusal(
            "incident.not_resolved",
            incident.incident,
            f"incident {incident.incident} is {incident.state}",
            cause=incident.declared,
            next=f"muniment incident resolve {incident.incident} --resolution TEXT",
        )
    missing = [] if command.causes else ["cause"]
    missing += [
        f"action_{field}"
        for action in command.actions
        for field in ("what", "owner", "due", "check")
        if not action.get(field)
    ]
    if missing:
        return Refusal(
            "incident.record_incomplete",
            incident.incident,
            f"the record is not complete: {', '.join(missing)}",
            next=f"muniment incident close {incident.incident} --cause TEXT --action WHAT,OWNER,DUE,CHECK",
            facts=missing,
        )
    if context.policy.approvals.required and context.actor.id == incident.commander:
        return Refusal(
            "R10.commander",
            incident.incident,
            "someone other than the commander must close the incident",
            cause=incident.declared,
            next=f"muniment incident close {incident.incident} …   (by another person)",
            exit_code=DENIED,
        )
    name = {"incident": incident.incident}
    scope = world.scopes.get(incident.freeze_scope)
    lifted = (
        [
            Event(
                "channel.unfrozen/1",
                {
                    "scope": incident.freeze_scope,
                    "freeze": incident.freeze,
                    "reason": f"incident {incident.incident} closed",
                },
            )
        ]
        if scope is not None and incident.freeze in scope.freezes
        else []
    )
    return [
        *(
            [Event("incident.review_opened/1", {**name, "reason": context.reason})]
            if incident.state == "RESOLVED"
            else []
        ),
        Event(
            "incident.closed/1",
            {**name, "causes": command.causes, "actions": command.actions, "reason": context.reason},
        ),
        *lifted,
    ]


__all__ = [
    "CLASSES",
    "COUNT_ITEM",
    "HANDLES",
    "OPEN",
    "SEVERITIES",
    "Close",
    "Command",
    "Contain",
    "Declare",
    "Note",
    "Resolve",
    "boundary",
    "decide",
    "declared",
    "item",
    "slots_in",
    "uncontained",
    "unhealthy",
]
