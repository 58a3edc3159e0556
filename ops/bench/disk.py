"""Bytes on disk a record, after the write-ahead log is merged, against the canonical bytes and the library."""

from __future__ import annotations

import contextlib
import sqlite3
from pathlib import Path

from muniment.ops.bench import bulk, data, peers
from muniment.ops.bench.harness import Goal, Options, Table, tabulate, workspace
from muniment.store.open import create_log

OURS, CANONICAL = "muniment", "canonical bytes"


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


def bytes_of(folder: Path) -> int:
    """Size of a database when nothing is left beside it."""
    for file in sorted(folder.glob("*.db")):
        with contextlib.closing(sqlite3.connect(file)) as db:
            db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
    return sum(file.stat().st_size for file in folder.rglob("*") if file.is_file())


def _table(size: int, options: Options) -> Table:
    with workspace(options) as folder:
        for name in ("es", "bare"):
            (folder / name).mkdir()
        with contextlib.closing(create_log(folder / "log")) as log:
            data.fill(log, size)
        app = peers.application(folder / "es" / "es.db")
        peers.fill_application(app, size)
        app.close()
        with contextlib.closing(peers.Bare(folder / "bare" / "bare.db")) as bare:
            bare.fill(size)
        figures = {
            OURS: [bytes_of(folder / "log") / size],
            CANONICAL: [bulk.mean_bytes(0, size)],
            "eventsourcing": [bytes_of(folder / "es") / size],
            "bare sqlite3, integer keys": [bytes_of(folder / "bare") / size],
        }
        return tabulate(
            f"disk, log of {size:,} records",
            figures,
            base=CANONICAL,
            unit="bytes a record",
            goals=[Goal(OURS, CANONICAL, 1.6, at_least=False)],
            notes=[
                "Filled in batches of 1000. Two indexes, a row for each tag and the leaf hash are in ours."
            ],
        )
