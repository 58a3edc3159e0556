"""Several producers, one stage: `claim_shared`, stamps, and the snapshot whose cursor is the claim."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ring_model.explore import Actor, Count, Program, Turn, explore, forbid
from ring_model.steps import ACQ, REL, RLX, Load, Order, Read, Store, Write, cas


@dataclass(frozen=True)
class Several:
    """The protocol; a mutant is another value."""

    producers: int = 2
    each: int = 2  # messages a producer
    capacity: int = 2
    guess: Order = ACQ  # the load of the claim word
    claim: Order = REL  # its compare-and-swap
    gate: Order = ACQ
    stamp: Order = REL
    available: Order = ACQ
    release: Order = REL
    snapshot_order: Order = ACQ
    swaps: bool = True  # the claim is taken by compare-and-swap, not by a store
    checks_gate: bool = True
    stamps: bool = True  # a stage looks at stamps, not at the claim
    snapshot: bool = False

    @property
    def messages(self) -> int:
        """Of all producers."""
        return self.producers * self.each


def producer(ring: Several, name: int) -> Callable[[tuple[int, int]], Turn]:
    """Local state: messages sent, the cached gate."""

    def body(local: tuple[int, int]) -> Turn:
        sent, gate = local
        if sent == ring.each:
            return None
        claim = yield Load("claim", ring.guess)
        if claim + 1 - gate > ring.capacity and ring.checks_gate:
            moved = yield Load("c0", ring.gate)
            again = yield Load("claim", ring.guess)
            if again != claim:
                return (sent, gate)
            forbid(
                not 0 <= claim - moved <= ring.capacity,
                f"producer {name} takes claim {claim} at stage {moved} for corrupt",
            )
            if claim - moved == ring.capacity:
                yield Load("c0", RLX, lambda seen: seen > moved)  # spin until there is a chance
                return (sent, gate)
            gate = moved
        if ring.swaps:
            found = yield cas("claim", claim, claim + 1, ring.claim)
            if found != claim:
                return (sent, gate)
        else:
            yield Store("claim", claim + 1, ring.claim)
        sequence = claim + 1
        yield Write(f"s{sequence % ring.capacity}", sequence)
        yield Store(f"stamp{sequence % ring.capacity}", sequence, ring.stamp)
        return (sent + 1, gate)

    return body


def stage(ring: Several) -> Callable[[int], Turn]:
    """Local state: released up to. Takes one message a turn."""

    def body(at: int) -> Turn:
        if at == ring.messages:
            return None
        at += 1
        if ring.stamps:
            yield Load(f"stamp{at % ring.capacity}", ring.available, lambda seen: seen == at)
        else:
            yield Load("claim", ring.available, lambda seen: seen >= at)
        value = yield Read(f"s{at % ring.capacity}")
        forbid(value != at, f"the stage read message {value} at {at}")
        yield Store("c0", at, ring.release)
        return at

    return body


def watch(ring: Several) -> Callable[[int], Turn]:
    """`rc_snapshot` of a ring with several producers."""

    def body(_: int) -> Turn:
        low = yield Load("c0", ring.snapshot_order)
        cursor = yield Load("claim", ring.snapshot_order)
        high = yield Load("c0", ring.snapshot_order)
        forbid(low > cursor, f"snapshot: the stage at {low}, beyond the claim {cursor}")
        forbid(
            cursor - high > ring.capacity,
            f"snapshot: claim {cursor} further than the ring is long from the stage at {high}",
        )
        return None

    return body


def check(ring: Several, limit: int = 400_000) -> Count:
    """Walk every behaviour."""
    actors = [Actor(f"producer {k}", producer(ring, k), (0, 0)) for k in range(ring.producers)]
    slots = range(ring.capacity)
    return explore(
        Program(
            [*actors, Actor("stage", stage(ring), 0)],
            {"claim": 0, "c0": 0, **{f"stamp{k}": 0 for k in slots}},
            {f"s{k}": 0 for k in slots},
            frozenset({"claim"}),
            [Actor("snapshot", watch(ring), 0)] if ring.snapshot else [],
            frozenset({"claim", "c0"} if ring.snapshot else ()),
        ),
        limit,
    )
