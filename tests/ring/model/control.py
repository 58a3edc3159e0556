"""Ring-wide words: stopping (`rc_stop`, `rc_stop_read`), ending (`rc_end`), and who owns the producer's place (`own`, `disown`)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ring_model.explore import Actor, Count, Program, Turn, explore, forbid
from ring_model.steps import ACQ, REL, RLX, Load, Order, Read, Store, Write, cas


@dataclass(frozen=True)
class Stop:
    """Several stop at once; readers look at any time."""

    stoppers: int = 2
    swaps: bool = True
    store: Order = REL
    load: Order = ACQ
    waits_for_two: bool = True  # a reader takes 1, being written, for stopped


def stopper(stop: Stop, k: int) -> Callable[[int], Turn]:
    """One that found a reason."""

    def body(_: int) -> Turn:
        found = yield cas("stop", 0, 1, RLX) if stop.swaps else Load("stop", RLX)
        if found:
            return None
        yield Write("code", 10 + k)
        yield Write("sequence", 20 + k)
        yield Store("stop", 2, stop.store)
        return None

    return body


def stop_reader(stop: Stop) -> Callable[[int], Turn]:
    """Looks until it is stopped."""

    def body(_: int) -> Turn:
        yield Load("stop", stop.load, lambda state: state == 2 if stop.waits_for_two else state > 0)
        code = yield Read("code")
        sequence = yield Read("sequence")
        forbid(sequence != code + 10, f"the reason of one and the place of another: {code}, {sequence}")
        return None

    return body


def check_stop(stop: Stop) -> Count:
    """Walk every behaviour."""
    actors = [Actor(f"stopper {k}", stopper(stop, k), 0) for k in range(stop.stoppers)]
    return explore(
        Program(
            [*actors, Actor("reader", stop_reader(stop), 0)],
            {"stop": 0},
            {"code": 0, "sequence": 0},
            frozenset({"stop"}),
        )
    )


@dataclass(frozen=True)
class End:
    """The producer ends the ring; a chain of stages must have everything before it ends."""

    messages: int = 2
    stages: int = 2
    before: bool = False  # the end is stored before the last message is published
    store: Order = REL
    load: Order = ACQ
    compares: bool = True  # the end with one's own position; else any end is taken for one's own


def ender(end: End) -> Callable[[int], Turn]:
    """Local state: published so far."""

    def body(at: int) -> Turn:
        if end.before and at == end.messages - 1:
            yield Store("end", end.messages + 1, end.store)
        if at == end.messages:
            if not end.before:
                yield Store("end", at + 1, end.store)
            return None
        yield Store("c", at + 1, REL)
        return at + 1

    return body


def taker(end: End, i: int) -> Callable[[int], Turn]:
    """A stage, looking as `look` does; local state: taken so far."""

    def body(at: int) -> Turn:
        limit = yield Load(f"c{i - 1}" if i else "c", ACQ)
        if limit > at:
            yield Store(f"c{i}", limit, REL)
            return limit
        final = yield Load("end", end.load)
        if final and (final == at + 1 or not end.compares):
            forbid(at != end.messages, f"stage {i} ended at {at} of {end.messages}")
            return None
        return at

    return body


def check_end(end: End) -> Count:
    """Walk every behaviour; a stage that never ends is stuck in a loop, so some execution must be complete."""
    actors = [
        Actor("producer", ender(end), 0),
        *[Actor(f"stage {i}", taker(end, i), 0) for i in range(end.stages)],
    ]
    count = explore(Program(actors, {"c": 0, "end": 0, **{f"c{i}": 0 for i in range(end.stages)}}))
    forbid(not count.complete, "nobody ever ends")
    return count


@dataclass(frozen=True)
class Owner:
    """One producer after another; `heirs` want the place at once. The first lets go, or dies."""

    heirs: int = 2
    dies: bool = False
    swaps: bool = True
    take: Order = ACQ  # the compare-and-swap of the owner word
    give: Order = REL  # its release
    cursor: Order = ACQ
    looks: bool = True  # takes the place only from nobody or from the dead


def first_owner(owner: Owner) -> Callable[[int], Turn]:
    """Publishes one message; a death is a release by the kernel, which the one who finds us dead acquires."""

    def body(_: int) -> Turn:
        yield Write("s", 1)
        yield Store("c", 1, REL)
        yield Write("private", 1)  # what only owners touch: its counts
        yield Store("dead", 1, REL) if owner.dies else Store("owner", 0, owner.give)
        return None

    return body


def heir(owner: Owner, me: int) -> Callable[[int], Turn]:
    """Attaches if it can, and goes on from the cursor."""

    def body(_: int) -> Turn:
        found = yield Load("owner", RLX)
        if found and owner.looks and (found != 1 or not owner.dies or not (yield Load("dead", ACQ))):
            return None  # busy
        if owner.swaps:
            got = yield cas("owner", found, me, owner.take)
            if got != found:
                return 0  # look again
        else:
            yield Store("owner", me, owner.take)
        at = yield Load("c", owner.cursor)
        counts = yield Read("private")
        forbid(at != counts, f"the cursor is {at} and its owner's count {counts}")
        yield Write("private", at + 1)
        yield Write("s", at + 1)
        yield Store("c", at + 1, REL)
        return None

    return body


def check_owner(owner: Owner) -> Count:
    """Walk every behaviour: two owners at once race on what only owners touch."""
    actors = [
        Actor("first", first_owner(owner), 0),
        *[Actor(f"heir {k}", heir(owner, 2 + k), 0) for k in range(owner.heirs)],
    ]
    return explore(
        Program(actors, {"owner": 1, "c": 0, "dead": 0}, {"s": 0, "private": 0}, frozenset({"owner"})),
    )
