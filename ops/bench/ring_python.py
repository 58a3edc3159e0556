"""The ring from Python against what the standard library has: queues between threads, pipes and queues between processes.

Every reading is a process of its own (`ring_cases`). Stages are `Count`, in C on threads of their own; peers are drained by Python
threads, since they have no other. A list handed by reference within one interpreter is faster than any copy: nothing here promises
to beat that.
"""

from __future__ import annotations

import importlib.util
import statistics
import subprocess
import sys
from collections.abc import Callable

from muniment.ops.bench.harness import Goal, Options, Table
from muniment.ops.bench.ring_native import MILLION, MOON
from muniment.ops.bench.ring_programs import PATIENCE, Cases, Missing

SIMPLE, PIPE = "queue.SimpleQueue", "os.pipe"
NATIVE = "muniment publish, native stage, paced"
MEMORY_64, PIPE_64 = "shared_memory ring in Python, batches of 64, views", "os.pipe, batches of 64"
VIEWS_64 = "muniment publish_buffer, batches of 64, views, paced"
ACROSS = "muniment publish, take_many, paced"
TRIP_PIPE = "multiprocessing.Pipe"
PUBLISH, PUT, NOOP = "muniment publish", "queue.SimpleQueue.put", "a call that does nothing"
CHAIN = "three queue.SimpleQueue"


def run(options: Options) -> list[Table]:
    """Six tables."""
    return [
        _publish(options),
        _one(options),
        _views(options),
        _chain(options),
        _trips(options),
        _calls(options),
    ]


class _Maker:
    """Adds cases of one table."""

    def __init__(self, options: Options) -> None:
        self.cases = Cases()
        self._options = options

    def add(self, name: str, millions: float, *argv: object) -> None:
        """A case of `ring_cases`."""
        count = self._options.work(round(millions * MILLION), 1024)
        self.cases.add(name, lambda: reading([str(argv[0]), str(count), *map(str, argv[1:])]))

    def table(self, title: str, base: str, unit: str, goals: list[Goal], notes: list[str]) -> Table:
        """Take them."""
        return self.cases.table(title, self._options, base=base, unit=unit, goals=goals, notes=notes)


def reading(argv: list[str]) -> Callable[[], float]:
    """A reading of `ring_cases`; RuntimeError: it failed."""
    if importlib.util.find_spec("muniment.ring._ring") is None:
        raise Missing("the extension is not built (python setup.py build_ext --inplace)")

    def take() -> float:
        command = [sys.executable, "-m", "muniment.ops.bench.ring_cases", *argv]
        done = subprocess.run(command, check=False, capture_output=True, text=True, timeout=PATIENCE)
        if done.returncode:
            raise RuntimeError(f"{' '.join(argv)}: {done.stderr.strip()}")
        return float(done.stdout)

    return take


def _publish(options: Options) -> Table:
    maker = _Maker(options)
    maker.add(SIMPLE, 2, "simple_queues")
    for wait in ("spin", "paced", "backoff", "park"):
        maker.add(f"muniment publish, native stage, {wait}", 5, "native", wait)
    maker.add("muniment publish_many, 64, native stage, paced", 20, "native", "paced", 64)
    maker.add("muniment publish_buffer, 1024, native stage, paced", 60, "native", "paced", 1024, 1, "records")
    goals = [Goal(NATIVE, SIMPLE, 2), Goal(NATIVE, SIMPLE, 2.5, word=MOON)]
    notes = [
        "64 bytes; the stage counts, without the interpreter lock; the queue is drained by a Python thread."
    ]
    return maker.table("from Python to a native stage", SIMPLE, "M/s", goals, notes)


def _one(options: Options) -> Table:
    maker = _Maker(options)
    maker.add(PIPE, 0.5, "pipe_across")
    maker.add("multiprocessing.Queue", 0.1, "queue_across")
    maker.add("shared_memory ring in Python", 1, "memory_across")
    for wait in ("spin", "paced", "backoff", "park"):
        maker.add(f"muniment publish, take_many, {wait}", 5, "ring_across", wait)
    maker.add("muniment publish, take, paced", 5, "ring_across", "paced", 1, "one")
    goals = [Goal(ACROSS, PIPE, 20), Goal(ACROSS, PIPE, 28, word=MOON)]
    notes = [
        "64 bytes, written one at a time; two processes, pinned. take_many gives a list of what is there."
    ]
    return maker.table("two processes, one at a time", PIPE, "M/s", goals, notes)


def _views(options: Options) -> Table:
    maker = _Maker(options)
    maker.add(PIPE_64, 10, "pipe_across", 64)
    maker.add("multiprocessing.Queue, lists of 64", 1, "queue_across", 64)
    maker.add(MEMORY_64, 20, "memory_across", 64)
    maker.add(VIEWS_64, 60, "ring_across", "paced", 64, "view")
    maker.add("muniment publish_buffer, batches of 64, views, park", 60, "ring_across", "park", 64, "view")
    maker.add(
        "muniment publish_many, batches of 64, take_many, paced", 10, "ring_across", "paced", 64, "many"
    )
    goals = [
        Goal(VIEWS_64, best, bound, word=word)
        for bound, word in ((4, "must be"), (5, MOON))
        for best in (MEMORY_64, PIPE_64)
    ]
    notes = [
        "Views are not copied on either side that has them: the ring in Python and ours; pipe and queue make bytes.",
        "publish_many and take_many move lists of bytes: one object a message bounds them, whatever carries it.",
    ]
    return maker.table("two processes, batches of 64", MEMORY_64, "M/s", goals, notes)


def _chain(options: Options) -> Table:
    maker = _Maker(options)
    many, buffer = (
        "muniment publish_many, three native stages, paced",
        "muniment publish_buffer, three native stages, paced",
    )
    maker.add(CHAIN, 0.5, "simple_queues", 3)
    for wait in ("paced", "backoff"):
        maker.add(f"muniment publish_many, three native stages, {wait}", 20, "native", wait, 1024, 3)
        maker.add(
            f"muniment publish_buffer, three native stages, {wait}", 40, "native", wait, 1024, 3, "records"
        )
    maker.add("muniment publish, three native stages, backoff", 5, "native", "backoff", 1, 3)
    goals = [
        Goal(case, CHAIN, bound, word=word)
        for case in (many, buffer)
        for bound, word in ((10, "must be"), (15, MOON))
    ]
    notes = ["64 bytes, batches of 1024; the queues pass one reference at a time from thread to thread."]
    return maker.table("three stages one after the other", CHAIN, "M/s", goals, notes)


def _trips(options: Options) -> Table:
    maker = _Maker(options)
    maker.add(TRIP_PIPE, 0.005, "trip", "pipe")
    for wait in ("spin", "paced", "backoff", "park"):
        maker.add(f"muniment publish and take, {wait}", 0.02, "trip", "ring", wait)
    spin, park = "muniment publish and take, spin", "muniment publish and take, park"
    goals = [
        Goal(TRIP_PIPE, spin, 100),
        Goal(TRIP_PIPE, spin, 150, word=MOON),
        Goal(TRIP_PIPE, park, 2),
        Goal(TRIP_PIPE, park, 3, word=MOON),
    ]
    notes = ["64 bytes there and back between two Python processes, pinned; the median trip of a run."]
    return maker.table("round trip between processes", spin, "us", goals, notes)


def _calls(options: Options) -> Table:
    maker = _Maker(options)
    maker.add(PUBLISH, 2, "call", "publish")
    maker.add(PUT, 2, "call", "queue_put")
    maker.add(NOOP, 2, "call", "noop")
    maker.add("muniment take", 2, "call", "take")
    maker.add("queue.SimpleQueue.get", 2, "call", "queue_get")
    for batch in (64, 1024):
        maker.add(f"muniment publish_many, {batch}", 4, "call", "publish_many", batch)
        maker.add(f"muniment publish_buffer, {batch}", 4, "call", "publish_buffer", batch)
        maker.add(f"muniment take_many, {batch}", 4, "call", "take_many", batch)
        maker.add(f"muniment view, {batch}", 4, "call", "view", batch)
    maker.add("muniment snapshot_raw, three stages", 0.5, "snapshot", "raw")
    maker.add("muniment snapshot as a dict, three stages", 0.01, "snapshot", "dict")
    found = maker.table(
        "cost of a call",
        PUT,
        "ns",
        [],
        ["Nanoseconds a message of 64 bytes, one thread, ring or queue never full nor empty."],
    )
    for name, must, moon in ((PUBLISH, 22, 18), ("muniment snapshot_raw, three stages", 200, 100)):
        figures = found.row(name).figures
        for word, bound in (("must be", must), (MOON, moon)):
            if not figures:
                found.notes.append(f"not judged: {name} was not measured")
                continue
            verdict = "reached" if statistics.median(figures) <= bound else "MISSED"
            found.notes.append(
                f"{verdict}: {name} = {statistics.median(figures):.1f} ns ({word} at most {bound} ns)"
            )
    return found
