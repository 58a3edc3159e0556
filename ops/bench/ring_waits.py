"""What waiting costs: round trips between two processes, the way of one message, processor time of who waits for nothing."""

from __future__ import annotations

import statistics
from collections.abc import Callable

from muniment.ops.bench.harness import Goal, Options, Table
from muniment.ops.bench.ring_native import MOON, WAITS
from muniment.ops.bench.ring_programs import Cases, Reading, Workshop, two_cores, workshop

PIPES = 9  # waits.c: a pair of pipes in place of the rings
PIPE, SPIN, PARKED, ASLEEP, PIPE_ASLEEP = (
    "pair of pipes",
    "muniment, spin",
    "muniment, park",
    "muniment, park, both asleep",
    "pair of pipes, both asleep",
)
HOLD_LIMIT = 1000.0  # ns at the 99th percentile
SLEEP_GAP = 100  # us before a trip: both sides have gone to sleep


def run(options: Options) -> list[Table]:
    """Four tables."""
    with workshop(options) as shop:
        return [_trips(shop, options), _way(shop, options), _idle(shop, options), _line(shop, options)]


def _maker(shop: Workshop, **given: object) -> Callable[[], Callable[[], Reading]]:
    def make() -> Callable[[], Reading]:
        program = shop.ours("waits")
        return lambda: program(cpus=two_cores(), **given)

    return make


def _one(
    make: Callable[[], Callable[[], Reading]], name: str, unit: float = 1.0
) -> Callable[[], Callable[[], float]]:
    def made() -> Callable[[], float]:
        take = make()
        return lambda: take()[name] / unit

    return made


def _trips(shop: Workshop, options: Options) -> Table:
    cases = Cases()
    many, few = options.work(50_000, 50), options.work(2_000, 20)
    for name, wait in {
        PIPE: PIPES,
        **{f"muniment, {word}": number for word, number in WAITS.items()},
    }.items():
        given = {"what": "trip", "wait": wait, "count": few if name == PIPE else many}
        cases.add(name, _one(_maker(shop, **given), "trip_p50", 1000))
    for name, wait in ((PIPE_ASLEEP, PIPES), (ASLEEP, WAITS["park"])):
        given = {"what": "trip", "wait": wait, "count": few, "gap": SLEEP_GAP}
        cases.add(name, _one(_maker(shop, **given), "trip_p50", 1000))
    goals = [
        Goal(PIPE, SPIN, 100),
        Goal(PIPE, SPIN, 150, word=MOON),
        Goal(PIPE, PARKED, 2),
        Goal(PIPE, PARKED, 3, word=MOON),
        Goal(PIPE_ASLEEP, ASLEEP, 2),
        Goal(PIPE_ASLEEP, ASLEEP, 3, word=MOON),
    ]
    notes = [
        "64 bytes there and back, two processes, pinned; a figure is the median trip of a run, in C on both sides.",
        f"both asleep: the sender spins {SLEEP_GAP} us before each trip, so each wakes the other side; park stays awake for 30 us.",
    ]
    return cases.table("round trip", options, base=SPIN, unit="us", goals=goals, notes=notes)


def _way(shop: Workshop, options: Options) -> Table:
    cases, found = Cases(), dict[str, list[Reading]]()
    count = options.work(50_000, 100)

    def median_of(word: str) -> Callable[[], Callable[[], float]]:
        def made() -> Callable[[], float]:
            take = _maker(shop, what="way", wait=WAITS[word], count=count)()

            def figure() -> float:
                found.setdefault(word, []).append(take())
                return found[word][-1]["way_p50"]

            return figure

        return made

    for word in WAITS:
        cases.add(f"muniment, {word}", median_of(word))
    notes = [
        "One message every 3 us to a stage that waits for it; the median of a run, from before the publish."
    ]
    made = cases.table("way of one message", options, base=SPIN, unit="ns", goals=[], notes=notes)
    for word, readings in found.items():
        tail = statistics.median(reading["way_p99"] for reading in readings)
        notes.append(f"{word}: 99th percentile {tail:.0f} ns")
    if found:
        pairs = zip(found["paced"], found["spin"], strict=True)
        hold = statistics.median(paced["way_p99"] - spin["way_p50"] for paced, spin in pairs)
        verdict = "reached" if hold <= HOLD_LIMIT else "MISSED"
        notes.append(
            f"{verdict}: hold of the paced wait, its 99th percentile less the median of spin = {hold:.0f} ns"
            f" (moonshot: at most {HOLD_LIMIT:.0f} ns)"
        )
    return made


def _idle(shop: Workshop, options: Options) -> Table:
    cases = Cases()
    for word, wait in WAITS.items():
        for side in ("consumer", "producer"):
            given = {"what": "idle", "wait": wait, "ms": options.work(500, 20)}
            cases.add(f"muniment, {word}, {side}", _one(_maker(shop, **given), side, 1e-3))
    notes = [
        "Milliseconds of processor, user and system, in a second of waiting: a consumer of an empty ring, a producer of a full one."
    ]
    return cases.table(
        "processor time while idle",
        options,
        base="muniment, spin, consumer",
        unit="ms/s",
        goals=[],
        notes=notes,
    )


def _line(shop: Workshop, options: Options) -> Table:
    cases = Cases()

    def line() -> Callable[[], float]:
        program = shop.ours("limits")
        return lambda: program(count=options.work(1_000_000, 1000), bytes=1 << 16, cpus=two_cores())[
            "line_ns"
        ]

    cases.add("limit: a line handed over", line)
    notes = [
        "One cache line written on one core and read on the other, one way, in ns: what a strict hand-over of one message costs."
    ]
    return cases.table(
        "from core to core", options, base="limit: a line handed over", unit="ns", goals=[], notes=notes
    )
