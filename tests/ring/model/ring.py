"""One producer, gated stages, a snapshot and beats beside them.

`rc_try_claim`, `rc_publish`, `rc_available`, `rc_release`, `rc_leave`, `rc_snapshot`, `rc_beat`, `rc_read_tuple`.

The waiting loops are awaits here (`park` has them in full).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ring_model.explore import Actor, Count, Program, Turn, explore, forbid
from ring_model.steps import ACQ, REL, RLX, Choose, Load, Order, Read, Store, Write

ONE = ((),)
CHAIN = ((), (0,))
DIAMOND = ((), (), (0, 1))
FORK = ((), ())


@dataclass(frozen=True)
class Ring:
    """The protocol; what has a default is as `core.c` has it, and a mutant is another value."""

    deps: tuple[tuple[int, ...], ...] = ONE  # of each stage; () the producer
    capacity: int = 2
    messages: int = 3
    publish: Order = REL
    available: Order = ACQ
    gate: Order = ACQ
    release: Order = REL
    snapshot_order: Order = ACQ
    leave: Order = REL  # the store of `active`
    left: Order = ACQ  # its load by the producer
    field_store: Order = REL
    field_load: Order = ACQ
    version_store: Order = REL
    version_load: Order = ACQ
    checks_gate: bool = True
    checks_all: bool = True  # gate and upstream are minima, not the first that has moved
    publishes_after: bool = True  # the cursor moves after the slot is written
    releases_after: bool = True  # a stage's sequence moves after the slot is read
    downstream_first: bool = True
    reads_again: bool = True  # the latch's version, after the fields
    copies: int = 2
    snapshot: bool = False
    beats: int = 0
    marks: bool = False  # stage 0 writes beside each slot what its dependents read
    leaver: int = 0  # the last stage leaves after so many messages; 0 never
    uneven: bool = False  # a stage gives back any part of what it was given

    @property
    def stages(self) -> range:
        """Numbers of the stages."""
        return range(len(self.deps))

    @property
    def final(self) -> list[int]:
        """Stages that nobody depends on."""
        return [i for i in self.stages if not any(i in deps for deps in self.deps)]


def producer(ring: Ring) -> Callable[[tuple[int, int]], Turn]:
    """Local state: the last sequence claimed, the cached gate."""

    def free(sequence: int) -> Callable[[int], bool]:
        return lambda seen: sequence - seen <= ring.capacity

    def body(local: tuple[int, int]) -> Turn:
        at, gate = local
        if at == ring.messages:
            return None
        at += 1
        if at - gate > ring.capacity and ring.checks_gate:
            seen = []
            for i in ring.final if ring.checks_all else ring.final[:1]:
                if ring.leaver and i == ring.stages[-1]:
                    active = yield Load(f"active{i}", ring.left)
                    if not active:
                        continue
                    # A stage that waits may leave instead: a turn of the spin loop at a time.
                    moved = yield Load(f"c{i}", ring.gate)
                    if not free(at)(moved):
                        yield Load("turn", RLX)
                        return (at - 1, gate)
                    seen.append(moved)
                else:
                    seen.append((yield Load(f"c{i}", ring.gate, free(at))))
            gate = min(seen, default=at - 1)
        if ring.publishes_after:
            yield Write(f"s{at % ring.capacity}", at)
        yield Store("c", at, ring.publish)
        if not ring.publishes_after:
            yield Write(f"s{at % ring.capacity}", at)
        return (at, gate)

    return body


def stage(ring: Ring, i: int) -> Callable[[tuple[int, int, int]], Turn]:
    """Local state: released up to, available up to (cached), beats so far."""
    upstream = [f"c{j}" for j in ring.deps[i]] or ["c"]

    def work(sequence: int) -> Turn:
        slot = sequence % ring.capacity
        value = yield Read(f"s{slot}")
        forbid(value != sequence, f"stage {i} read message {value} at {sequence}")
        if ring.marks and i == 0:
            yield Write(f"m{slot}", sequence)
        elif ring.marks and 0 in ring.deps[i]:
            value = yield Read(f"m{slot}")
            forbid(value != sequence, f"stage {i} read the mark of {value} at {sequence}")
        return None

    def body(local: tuple[int, int, int]) -> Turn:
        at, limit, beats = local
        leaves = ring.leaver and i == ring.stages[-1]
        if leaves and at >= ring.leaver:
            yield Store(f"active{i}", 0, ring.leave)
            return None
        if at == ring.messages:
            return None
        if limit == at:
            limits = []
            for name in upstream:
                limits += [(yield Load(name, ring.available, lambda seen: seen > at))]
            limit = min(limits) if ring.checks_all else max(limits)
        upto = limit
        if ring.uneven and limit > at + 1:
            upto = at + 1 + (yield Choose(limit - at))
        if not ring.releases_after:
            yield Store(f"c{i}", upto, ring.release)
        for sequence in range(at + 1, upto + 1):
            yield from work(sequence)
        if ring.releases_after and not (leaves and upto >= ring.leaver):
            yield Store(f"c{i}", upto, ring.release)
        if i == 0 and beats < ring.beats:
            beats += 1
            yield from beat(ring, beats)
        return (upto, limit, beats)

    return body


def beat(ring: Ring, number: int) -> Turn:
    """`rc_beat`: two fields of one instant."""
    copy = number % ring.copies
    for field in "ab":
        yield Store(f"{field}{copy}", number, ring.field_store)
    yield Store("version", number, ring.version_store)
    return None


def watch_beat(ring: Ring) -> Callable[[int], Turn]:
    """`rc_read_tuple`, one attempt."""

    def body(_: int) -> Turn:
        version = yield Load("version", ring.version_load)
        a = yield Load(f"a{version % ring.copies}", ring.field_load)
        b = yield Load(f"b{version % ring.copies}", ring.field_load)
        again = (yield Load("version", RLX)) if ring.reads_again else version
        forbid(version == again and a != b, f"a tuple of two beats: {a}, {b} at version {version}")
        forbid(version == again and a != version, f"a tuple of beat {a} at version {version}")
        return None

    return body


def watch_cells(ring: Ring) -> Callable[[int], Turn]:
    """`rc_snapshot`: stages, cursor, stages again."""

    def body(_: int) -> Turn:
        low: dict[int, int] = {}
        for i in reversed(ring.stages) if ring.downstream_first else ring.stages:
            low[i] = yield Load(f"c{i}", ring.snapshot_order)
        cursor = yield Load("c", ring.snapshot_order)
        for i in ring.stages:
            high = yield Load(f"c{i}", ring.snapshot_order)
            forbid(low[i] > cursor, f"snapshot: stage {i} at {low[i]}, beyond the cursor {cursor}")
            forbid(
                cursor - high > ring.capacity,
                f"snapshot: cursor {cursor} further than the ring is long from stage {i} at {high}",
            )
            for j in ring.deps[i]:
                forbid(
                    low[i] > low[j], f"snapshot: stage {i} at {low[i]}, beyond its upstream {j} at {low[j]}"
                )
        return None

    return body


def check(ring: Ring, limit: int = 400_000) -> Count:
    """Walk every behaviour of the ring."""
    observers = []
    observed: set[str] = set()
    if ring.snapshot:
        observers.append(Actor("snapshot", watch_cells(ring), 0))
        observed |= {"c", *(f"c{i}" for i in ring.stages)}
    fields = {f"{field}{copy}": 0 for field in "ab" for copy in range(ring.copies)}
    if ring.beats:
        observers.append(Actor("beat reader", watch_beat(ring), 0))
        observed |= {"version", *fields}
    actors = [Actor("producer", producer(ring), (0, 0))]
    actors += [Actor(f"stage {i}", stage(ring, i), (0, 0, 0)) for i in ring.stages]
    atomics = {"c": 0, **{f"c{i}": 0 for i in ring.stages}}
    if ring.leaver:
        atomics |= {f"active{ring.stages[-1]}": 1, "turn": 0}
    if ring.beats:
        atomics |= {"version": 0, **fields}
    slots = {f"{kind}{k}": 0 for kind in ("sm" if ring.marks else "s") for k in range(ring.capacity)}
    return explore(Program(actors, atomics, slots, observers=observers, observed=frozenset(observed)), limit)
