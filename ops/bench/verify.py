"""Verify the whole store, against one SHA-256 a record over the same bytes in Python."""

from __future__ import annotations

import contextlib
import hashlib
import time
from pathlib import Path

from muniment.app.verify import verify_store
from muniment.ops.bench import data, grounds
from muniment.ops.bench.harness import Goal, Options, Table, rate, table
from muniment.store.api import Log

OURS, SHARED = "muniment verify, every check but evidence", "the same by two processes"
FLOOR = "one SHA-256 a record"


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


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


def _table(size: int, options: Options) -> Table:
    with contextlib.ExitStack() as stack:
        ground = stack.enter_context(grounds.ground(options))
        log = stack.enter_context(contextlib.closing(ground.log("log")))
        data.fill(log, size)
        return table(
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
