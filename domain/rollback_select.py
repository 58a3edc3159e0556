"""R5: which pack to go back to, with every candidate looked at.

R5, in order, for failing f and X = {f} + packs that failed already in this chain:
  0 explicit target: in X or not E -> refused, never substituted
  1 narrowest live pin, if it is not f: E -> taken, else stop with NoCandidate(pin_ineligible)
  2 LKG, the pack of the latest attestation that is good and E
  3 older good packs by descending attestation, depth d
  4 LKG of the next safer channel, same environment and cohort, if E here
  5 declared baseline of the environment
  6 none: STUCK and an incident
A candidate in X is traced `excluded`, a revoked one `revoked`; neither counts for the depth.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from muniment.domain.channel_state import live_pin
from muniment.domain.decision import Context
from muniment.domain.eligible import ineligible, safer_slot
from muniment.domain.states import Attested, Target
from muniment.domain.world import World


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


class _Search:
    """Judges candidates in turn and keeps the trace."""

    def __init__(self, world: World, slot: str, target: Target, failing: str, context: Context) -> None:
        self.world, self.slot, self.target, self.failing, self.context = world, slot, target, failing, context
        self.excluded = {failing, *target.chain}
        self.trace: list[Candidate] = []

    def judge(
        self, source: str, pack: str, position: int = 0, *, code: str = "", revoked: bool = False
    ) -> bool:
        """Trace one candidate by the first code that applies (settled.md, 17); True if it may be taken."""
        detail = ""
        if not code and pack in self.excluded:
            code = "excluded"
            detail = "it is failing" if pack == self.failing else "it failed in this chain"
        if not code and revoked:
            code, detail = "revoked", "its attestation was revoked"
        if not code and (finding := ineligible(self.world, self.slot, self.target, pack, self.context)):
            code, detail = finding.code, finding.detail
        self.trace.append(Candidate(source, pack, code or "chosen", detail, position))
        return not code

    def attested(self) -> bool:
        """Steps 2 and 3: the LKG is the first good pack outside X, then at most `depth` older ones."""
        rank = 0
        for item, revoked in _attested(self.target):
            if rank > self.context.policy.rollback.depth:
                break
            if self.judge("older" if rank else "lkg", item.pack, item.position, revoked=revoked):
                return True
            rank += self.trace[-1].code not in ("excluded", "revoked")
        return False

    def safer(self) -> bool:
        """Step 4."""
        slot = safer_slot(self.world, self.slot, self.context.policy)
        found = _lkg_of(self.world, slot, self.context) if slot else None
        return found is not None and self.judge("safer", found.pack, found.position)

    def baseline(self) -> bool:
        """Step 5."""
        environment = self.world.scopes.get(self.slot.split("/", 1)[0])
        return (
            environment is not None
            and bool(environment.baseline)
            and self.judge("baseline", environment.baseline)
        )


def select(
    world: World, slot: str, target: Target, failing: str, context: Context, *, to: str = ""
) -> Selection:
    """R5. Pure: the same facts give the same pack and the same trace (I8)."""
    search = _Search(world, slot, target, failing, context)
    if to:
        if search.judge("explicit", to):
            return Selection(to, "", search.trace)
        return Selection("", f"explicit_{search.trace[-1].code}", search.trace)
    if pin := live_pin(world, slot, context.at):
        _, held = pin
        if held.pack == failing:
            search.judge("pin", held.pack, held.mark.position, code="pin_target_is_current")
        elif search.judge("pin", held.pack, held.mark.position):
            return Selection(held.pack, "", search.trace)
        else:
            return Selection("", "pin_ineligible", search.trace)
    if search.attested() or search.safer() or search.baseline():
        return Selection(search.trace[-1].pack, "", search.trace)
    return Selection("", "no_candidate", search.trace)


def _attested(target: Target) -> Iterator[tuple[Attested, bool]]:
    """Packs attested here, newest attestation first, each with whether it is revoked."""
    seen: set[str] = set()
    for item in reversed(target.attestations):
        if item.pack not in seen:
            seen.add(item.pack)
            yield item, target.revoked.get(item.pack, 0) > item.position


def _lkg_of(world: World, slot: str, context: Context) -> Attested | None:
    """LKG of a slot: the latest pack that is attested, unrevoked and E on every reporting target."""
    found = world.slots.get(slot)
    if found is None or not found.targets:
        return None
    targets = list(found.targets.values())
    for item in targets[0].good():
        everywhere = all(any(other.pack == item.pack for other in target.good()) for target in targets[1:])
        if everywhere and all(ineligible(world, slot, one, item.pack, context) is None for one in targets):
            return item
    return None


def lkg(world: World, slot: str, target: Target, context: Context) -> Attested | None:
    """R4: the latest attestation whose pack is good and eligible here (I10)."""
    return next(
        (item for item in target.good() if ineligible(world, slot, target, item.pack, context) is None), None
    )
