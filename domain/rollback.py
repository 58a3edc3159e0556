"""Rollback: which pack to go back to, decided from records alone, with every candidate's code in the trace.

R5, in order, for failing f and X = {f} + packs that failed already in this chain:
  0 explicit target: in X or not E -> refused, never substituted
  1 narrowest live pin, if it is not f: E -> taken, else stop with NoCandidate(pin_ineligible)
  2 LKG, the pack of the latest attestation that is good and E
  3 older good packs by descending attestation, depth d
  4 LKG of the next safer channel, same environment and cohort, if E here
  5 declared baseline of the environment
  6 none: STUCK and an incident
R6 (revocation, quarantine) stands with the switch, in `domain.activation`. R7 limits a chain by automation.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

import msgspec
from muniment.domain import incident as incidents
from muniment.domain import release as releases
from muniment.domain.channel import live_pin
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.eligible import frozen, ineligible, reading, safer_slot
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.refusal import Refusal
from muniment.domain.slot_state import OPEN_STATES
from muniment.domain.states import Attested, Target
from muniment.domain.world import World

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
    """Roll one target of a slot back; `to` is an explicit target pack or "" for R5's choice."""

    rollback: str
    slot: str
    target: str
    to: str
    trigger: str


class Candidate(NamedTuple):
    """A line of the trace: where the pack came from, what became of it, the attestation behind it (0 if none)."""

    source: str
    pack: str
    code: str
    detail: str
    position: int

    def data(self) -> dict[str, Any]:
        """As it stands in the record."""
        return self._asdict()


class Selection(NamedTuple):
    """The pack chosen, "" if none; why none; and every candidate looked at, in order."""

    pack: str
    reason: str
    trace: list[Candidate]


def select(
    world: World, slot: str, target: Target, failing: str, context: Context, *, to: str = ""
) -> Selection:
    """R5. Pure: the same facts give the same pack and the same trace (I8)."""
    excluded = {failing, *target.chain}
    trace: list[Candidate] = []

    def judge(source: str, pack: str, position: int = 0, code: str = "") -> bool:
        """Trace one candidate; True if it may be taken."""
        detail = ""
        if not code and pack in excluded:
            code, detail = "excluded", "it is failing" if pack == failing else "it failed in this chain"
        if not code and (finding := ineligible(world, slot, target, pack, context)):
            code, detail = finding.code, finding.detail
        trace.append(Candidate(source, pack, code or "chosen", detail, position))
        return not code

    if to:
        if judge("explicit", to):
            return Selection(to, "", trace)
        return Selection("", f"explicit_{trace[-1].code}", trace)
    if pin := live_pin(world, slot, context.at):
        scope, held = pin
        if held.pack == failing:
            judge("pin", held.pack, held.mark.position, code="pin_target_is_current")
        elif judge("pin", held.pack, held.mark.position):
            return Selection(held.pack, "", trace)
        else:
            return Selection("", "pin_ineligible", trace)
    for rank, (item, revoked) in enumerate(_attested(target, excluded)):
        if rank > context.policy.rollback.depth:
            break
        source = (
            "lkg" if not any(c.source in ("lkg", "older") and c.code != "revoked" for c in trace) else "older"
        )
        if judge(source, item.pack, item.position, code="revoked" if revoked else ""):
            return Selection(item.pack, "", trace)
    if safer := safer_slot(world, slot, context.policy):
        for item in _lkg_of(world, safer, context):
            if judge("safer", item.pack, item.position):
                return Selection(item.pack, "", trace)
    environment = world.scopes.get(slot.split("/", 1)[0])
    if environment is not None and environment.baseline and judge("baseline", environment.baseline):
        return Selection(environment.baseline, "", trace)
    return Selection("", "no_candidate", trace)


def _attested(target: Target, excluded: set[str]) -> Iterator[tuple[Attested, bool]]:
    """Packs attested here, newest attestation first, each with whether it is revoked; X is left out at once."""
    seen: set[str] = set()
    for item in reversed(target.attestations):
        if item.pack not in seen and item.pack not in excluded:
            seen.add(item.pack)
            yield item, target.revoked.get(item.pack, 0) > item.position


def _lkg_of(world: World, slot: str, context: Context) -> Iterator[Attested]:
    """LKG of a slot: attested and unrevoked on every reporting target, E there; at most one."""
    found = world.slots.get(slot)
    if found is None or not found.targets:
        return
    targets = list(found.targets.values())
    for item in targets[0].good():
        everywhere = all(any(other.pack == item.pack for other in target.good()) for target in targets[1:])
        if everywhere and ineligible(world, slot, targets[0], item.pack, context) is None:
            yield item
            return


def lkg(world: World, slot: str, target: Target, context: Context) -> Attested | None:
    """R4: the latest attestation whose pack is good and eligible here (I10)."""
    return next(
        (item for item in target.good() if ineligible(world, slot, target, item.pack, context) is None), None
    )


def boundary(command: Request, world: World) -> Query:
    """The slot with every candidate, the rollout that holds it, and the numbering of incidents."""
    slot = world.slots.get(command.slot)
    more = (releases.item(slot.rollout),) if slot is not None and slot.rollout else ()
    return (*reading(world, command.slot, command.to), *more, incidents.COUNT_ITEM)


def decide(world: World, command: Request, context: Context) -> Decision:
    """Refuse what cannot begin; else request, abandon what is half done, select, and close the rollout (R11 FAIL)."""
    slot = world.slots.get(command.slot)
    target = slot.targets.get(command.target) if slot is not None else None
    if slot is None or target is None or not target.active:
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
    if target.rollback:
        return Refusal(
            "R12.rollback_open",
            target.rollback,
            f"rollback {target.rollback} to {target.rollback_pack} is open",
            next=f"muniment activate {command.slot} --target {target.location or target.target}",
        )
    if refusal := frozen(world, command.slot, context.at, kinds=("ALL",)):
        return refusal
    if context.actor.automation and len(target.chain) >= context.policy.rollback.chain_limit:
        return _give_up(world, command, target, target.active, Selection("", "chain_limit", []), context)
    failing = target.active
    selection = select(world, command.slot, target, failing, context, to=command.to)
    if command.to:
        if not selection.pack:
            return Refusal(
                f"R5.{selection.reason}",
                command.to,
                f"pack {command.to} cannot be the target: {selection.trace[-1].detail or selection.trace[-1].code}",
                next=f"muniment rollback {command.slot} --dry-run",
                facts=[f"{c.source} {c.pack}: {c.code}" for c in selection.trace],
            )
        if refusal := needs_people(
            context.policy, "a rollback to an explicit pack", 0, f"muniment rollback {command.slot}"
        ):
            return refusal
    if not selection.pack:
        return _give_up(world, command, target, failing, selection, context)
    chosen = _selected(command, selection)
    return [
        _requested(command, failing, context),
        *_abandoned(command, target),
        chosen,
        *_abort(world, slot.rollout, failing),
    ]


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


def _selected(command: Request, selection: Selection) -> Event:
    return Event(
        "rollback.pack_selected/1",
        {
            "rollback": command.rollback,
            "slot": command.slot,
            "target": command.target,
            "pack": selection.pack,
            "trace": [candidate.data() for candidate in selection.trace],
        },
    )


def _abandoned(command: Request, target: Target) -> list[Event]:
    """A forward activation that has not switched yet ends here (R12: one at a time)."""
    current = target.activation
    if current is None or current.state not in OPEN_STATES:
        return []
    return [
        Event(
            "activation.abandoned/1",
            {
                "activation": current.activation,
                "slot": command.slot,
                "target": command.target,
                "pack": current.pack,
                "reason": f"rollback {command.rollback}",
            },
        )
    ]


def _abort(world: World, rollout: str, failing: str) -> list[Event]:
    """A rollout of the failing pack is judged FAIL by its rollback; it ends when its slots are settled."""
    release = world.releases.get(rollout)
    if release is None or release.pack != failing or release.state not in ("RUNNING", "PAUSED"):
        return []
    return [releases.judged(release, "FAIL", ["rolled_back"])]


def no_candidate(command: Request, failing: str, selection: Selection) -> list[Event]:
    """The slot is STUCK; `active` is unchanged (I9)."""
    common = {"rollback": command.rollback, "slot": command.slot, "target": command.target}
    return [
        Event(
            "rollback.no_candidate/1",
            {
                **common,
                "failing": failing,
                "reason": selection.reason,
                "trace": [c.data() for c in selection.trace],
            },
        ),
        Event("slot.stuck/1", {**common, "pack": failing, "reason": selection.reason}),
    ]


def _give_up(
    world: World, command: Request, target: Target, failing: str, selection: Selection, context: Context
) -> list[Event]:
    number = world.incident_count + 1
    return [
        _requested(command, failing, context),
        *_abandoned(command, target),
        *no_candidate(command, failing, selection),
        incidents.declared(
            f"i-{number}",
            "SEV2",
            command.slot,
            f"{command.slot} has no rollback target: {selection.reason}",
            context,
            cause_pack=failing,
            slots=[command.slot],
            releases=[],
        ),
    ]


def next_after_failure(world: World, slot: str, target: Target, failed: str, context: Context) -> list[Event]:
    """The selected pack failed its activation: chain + 1, and R5 again without it."""
    command = Request(target.rollback, slot, target.target, "", "verification_failed")
    failing = target.chain[0] if target.chain else target.active
    target.chain = [*target.chain, failed]
    step = Event(
        "rollback.step_failed/1",
        {
            "rollback": target.rollback,
            "slot": slot,
            "target": target.target,
            "pack": failed,
            "reason": "verification failed",
        },
    )
    selection = select(world, slot, target, failing, context)
    if selection.pack:
        return [step, _selected(command, selection)]
    return [step, *no_candidate(command, failing, selection)]
