"""A ring that waits for nobody: `put_broadcast` and `rc_copy_next`. Readers only watch."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ring_model.explore import Actor, Count, Program, Turn, explore, forbid
from ring_model.steps import ACQ, REL, RLX, Fence, Load, Order, Store


@dataclass(frozen=True)
class Broadcast:
    """The protocol; a mutant is another value."""

    capacity: int = 2
    messages: int = 4
    words: int = 2
    publish: Order = REL
    available: Order = ACQ
    stamp: Order = REL  # the even one, after the words
    stamp_load: Order = ACQ
    says_so: bool = True  # the odd stamp
    fence: bool = True  # the writer's release fence
    reader_fence: bool = True  # the reader's acquire fence
    reads_again: bool = True  # the stamp, after the words


def producer(ring: Broadcast) -> Callable[[int], Turn]:
    """Local state: published so far."""

    def body(at: int) -> Turn:
        if at == ring.messages:
            return None
        at += 1
        slot = at % ring.capacity
        if ring.says_so:
            yield Store(f"stamp{slot}", 2 * at - 1, RLX)
        if ring.fence:
            yield Fence(REL)
        for word in range(ring.words):
            yield Store(f"s{slot}{word}", at, RLX)
        yield Store(f"stamp{slot}", 2 * at, ring.stamp)
        yield Store("c", at, ring.publish)
        return at

    return body


def reader(ring: Broadcast) -> Callable[[tuple[int, int, int]], Turn]:
    """Local state: position, messages taken, messages lost."""

    def body(local: tuple[int, int, int]) -> Turn:
        at, taken, lost = local
        forbid(taken + lost != at, f"{taken} taken and {lost} lost at {at}")
        cursor = yield Load("c", ring.available)
        forbid(cursor < at, f"the cursor {cursor} is behind the reader at {at}")
        if cursor == at:
            return None  # any point may be the last that this reader looks at
        if cursor - at > ring.capacity:
            skip = cursor - at - (ring.capacity - (ring.capacity + 3) // 4)
            return (at + skip, taken, lost + skip)
        at += 1
        slot = at % ring.capacity
        before = yield Load(f"stamp{slot}", ring.stamp_load)
        forbid(before < 2 * at, f"message {at} is published and its stamp is {before}")
        words = []
        if before == 2 * at:
            for word in range(ring.words):
                words += [(yield Load(f"s{slot}{word}", RLX))]
            if ring.reader_fence:
                yield Fence(ACQ)
            if ring.reads_again:
                before = yield Load(f"stamp{slot}", RLX)
        if before != 2 * at:
            return (at, taken, lost + 1)
        forbid(any(word != at for word in words), f"message {at} was read as {words}")
        return (at, taken + 1, lost)

    return body


def check(ring: Broadcast, limit: int = 400_000) -> Count:
    """Walk every behaviour."""
    slots = range(ring.capacity)
    atomics = {
        "c": 0,
        **{f"stamp{k}": 0 for k in slots},
        **{f"s{k}{w}": 0 for k in slots for w in range(ring.words)},
    }
    return explore(
        Program(
            [Actor("producer", producer(ring), 0)],
            atomics,
            observers=[Actor("reader", reader(ring), (0, 0, 0))],
            observed=frozenset(atomics),
        ),
        limit,
    )
