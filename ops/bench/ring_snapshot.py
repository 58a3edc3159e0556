"""What a snapshot costs: itself in C, and the running ring that it is taken of, from a thread and from another process."""

from __future__ import annotations

import gc
import statistics

from muniment.ops.bench.harness import Goal, Options, Table, tabulate
from muniment.ops.bench.ring_native import MILLION, MOON
from muniment.ops.bench.ring_programs import Missing, Reading, Workshop, two_cores, workshop

ALONE, WAKES, LOOKS = "nobody looks", "a third thread wakes at 1 kHz", "snapshots at 1 kHz"
OWNERS = "snapshots at 1 kHz that ask who lives"
RATES = {ALONE: "rate_none", WAKES: "rate_wake", LOOKS: "rate_snapshot", OWNERS: "rate_liveness"}
COSTS = {"three stages, at rest": "quiet_ns", "one stage, running": "live_ns"}
MUST_NS, MOON_NS = 200, 100


def run(options: Options) -> list[Table]:
    """The snapshot's own cost, and a table for a thread and for a process."""
    readings: dict[str, list[Reading]] = {"thread": [], "process": []}
    missing: str = ""
    with workshop(options) as shop:
        for _ in range(options.runs):
            for observer, found in readings.items():
                gc.collect()
                try:
                    found.append(_take(shop, options, observer))
                except Missing as why:
                    missing = str(why)
    return [
        _cost(readings, missing),
        *(_slowed(observer, found, missing) for observer, found in readings.items()),
    ]


def _take(shop: Workshop, options: Options, observer: str) -> Reading:
    given = {"count": options.work(100_000, 100), "windows": options.work(100, 9), "from": observer}
    return shop.ours("snapshots")(cpus=two_cores(), **given)


def _cost(readings: dict[str, list[Reading]], missing: str) -> Table:
    figures = {name: [found[key] for found in readings["thread"]] for name, key in COSTS.items()}
    notes = [
        "rc_snapshot in C, two clock readings for its bracket and one for its date included; owners not asked."
    ]
    if not missing:
        quiet = statistics.median(figures["three stages, at rest"])
        for word, bound in (("must be", MUST_NS), (MOON, MOON_NS)):
            verdict = "reached" if quiet <= bound else "MISSED"
            notes.append(f"{verdict}: a snapshot = {quiet:.0f} ns ({word} at most {bound} ns)")
    return _table("a snapshot", figures, "ns", "three stages, at rest", [], notes, missing)


def _slowed(observer: str, found: list[Reading], missing: str) -> Table:
    figures = {name: [reading[key] / MILLION for reading in found] for name, key in RATES.items()}
    goals = [
        Goal(LOOKS, ALONE, 0.97),
        Goal(LOOKS, ALONE, 0.99, word=MOON),
        Goal(LOOKS, WAKES, 0.99, word=MOON),
    ]
    notes = [
        "64 bytes, batches of 64, 65 536 slots, one to one on two cores; the four take turns every 10 ms while the ring runs.",
        "The second line is what any third thread that wakes so often takes from two cores; the others add the snapshot to it.",
    ]
    torn = sum(reading["torn"] for reading in found)
    notes.append(f"{'reached' if not torn else 'MISSED'}: {torn:.0f} torn tuples (must be 0)")
    return _table(
        f"a ring with an observer in another {observer}", figures, "M/s", ALONE, goals, notes, missing
    )


def _table(
    title: str,
    figures: dict[str, list[float]],
    unit: str,
    base: str,
    goals: list[Goal],
    notes: list[str],
    missing: str,
) -> Table:
    if missing:
        return tabulate(title, {}, base=base, unit=unit, goals=goals, missing=dict.fromkeys(figures, missing))
    return tabulate(title, figures, base=base, unit=unit, goals=goals, notes=notes)
