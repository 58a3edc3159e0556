"""Verify the whole store, against one SHA-256 a record over the same bytes in Python; and verify again what was appended since."""

from __future__ import annotations

import contextlib
import hashlib
import statistics
import time
from pathlib import Path

from muniment.app.verify import verify_store
from muniment.app.verify_new import remember, verify_new
from muniment.ops.bench import data, grounds
from muniment.ops.bench.harness import Goal, Options, Table, rate, table, tabulate
from muniment.store.api import Log

OURS, SHARED = "muniment verify, every check but evidence", "the same by two processes"
FLOOR = "one SHA-256 a record"
NEW, AGAIN_MS = 1000, 50.0


def run(options: Options) -> list[Table]:
    """Two tables for each size of the log."""
    return [found for size in options.sizes for found in _tables(size, options)]


def verify(log: Log, home: Path, size: int, processes: int = 1) -> None:
    """The application's own verification; it must pass."""
    report = verify_store(log, base=home, processes=processes)
    wrong = [(check.id, check.verdict, check.detail) for check in report.checks if check.verdict == "fail"]
    assert report.size == size, report.size
    assert not wrong, wrong


def hash_each(log: Log, size: int) -> float:
    """Hashes per second; reading is not timed, and no more than a page is kept."""
    sha256, taken = hashlib.sha256, 0.0
    for page in log.pages():
        start = time.perf_counter()
        for _, body in page:
            sha256(body).digest()
        taken += time.perf_counter() - start
    return size / taken


def _tables(size: int, options: Options) -> list[Table]:
    with contextlib.ExitStack() as stack:
        ground = stack.enter_context(grounds.ground(options))
        log = stack.enter_context(contextlib.closing(ground.log("log")))
        data.fill(log, size)
        whole = table(
            f"verify, {ground.version}, log of {size:,} records",
            {
                OURS: lambda: rate(size, lambda: verify(log, ground.folder / "home", size)),
                SHARED: lambda: rate(size, lambda: verify(log, ground.folder / "home", size, 2)),
                FLOOR: lambda: hash_each(log, size),
            },
            options,
            base=FLOOR,
            goals=[Goal(OURS, FLOOR, 0.33)],
            notes=[
                "Leaves, root, every column against the bytes, payloads, tags, projections.",
                "The start of the two processes is timed too.",
            ],
        )
        return [whole, _again(log, ground, size, options)]


def _again(log: Log, ground: grounds.Ground, size: int, options: Options) -> Table:
    home = ground.folder / "home"
    assert not remember(verify_store(log, base=home), home)
    last = size + options.work(NEW)
    data.fill(log, last, first=size + 1)

    def again() -> float:
        start = time.perf_counter()
        report = verify_new(log, base=home)
        taken = (time.perf_counter() - start) * 1000
        assert report.ok, report.failed()
        assert report.information["looked_at"] == {"first": size + 1, "last": last}
        return taken

    name = f"verify --new, {last - size:,} records"
    figures = {name: [again() for _ in range(options.runs)]}
    middle = statistics.median(figures[name])
    word = "reached" if middle < AGAIN_MS else "MISSED"
    return tabulate(
        f"verify again, {ground.version}, log of {size:,} records",
        figures,
        base=name,
        unit="ms",
        notes=[
            f"{word}: {name} = {middle:.3g} ms (at best under {AGAIN_MS:g} ms, whatever the size of the log)"
        ],
    )
