"""Bulk intake: batches of 1000 records, canonical encoding included, against inserts of bytes that are ready.

The price of evidence is the time of leaf hashes and frontier over the same bytes as a share of the whole append; storing
32 bytes a record is not in it.
"""

from __future__ import annotations

import contextlib
import hashlib
import itertools
import sqlite3
import statistics
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from muniment.domain.records import validate
from muniment.ops.bench import data, grounds, peers
from muniment.ops.bench.harness import Goal, Options, Table, rate, table
from muniment.store.api import Log
from muniment.store.merkle import Frontier

USUAL = 20  # batches a run
OURS, BARE, PEER = "muniment, encode and append", "bare, integer keys", "eventsourcing recorder"
TEXT = "bare sqlite3, the library's table"
SAME = "bare sqlite3, id and tag rows too"
LIBRARY_BATCH = {"sqlite3": data.BATCH, "psycopg": 500}  # over PostgreSQL it hangs at 1000

SAME_SCHEMA = (
    "CREATE TABLE r (pos INTEGER PRIMARY KEY, typ INTEGER NOT NULL, id BLOB NOT NULL, body BLOB NOT NULL);"
    " CREATE UNIQUE INDEX r_id ON r (id);"
    " CREATE TABLE t (tag INTEGER NOT NULL, pos INTEGER NOT NULL, PRIMARY KEY (tag, pos)) WITHOUT ROWID"
)


Batch = tuple[list[tuple[int, int, bytes, bytes]], list[tuple[int, int]]]  # rows of records, rows of tags


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


class Text:
    """Bare inserts into a table as the library makes it: text keys, no position."""

    def __init__(self, bare: sqlite3.Connection) -> None:
        self.db = bare
        self.db.execute(
            "CREATE TABLE x (id TEXT, ver INTEGER, topic TEXT, state BLOB, PRIMARY KEY (id, ver))"
        )


class Same:
    """Bare inserts of the rows that selecting by tag and refusing a used id need: our tables without hash or rule."""

    def __init__(self, db: sqlite3.Connection) -> None:
        self.db = db
        db.executescript(SAME_SCHEMA)
        self._tags: dict[str, int] = {}
        self._size = 0

    def rows(self, first: int, count: int) -> list[Batch]:
        """Rows in batches, ready."""
        batches = []
        for start in range(first, first + count, data.BATCH):
            records, tags = [], []
            for draft in data.drafts(start, min(data.BATCH, first + count - start)):
                self._size += 1
                raw = bytes.fromhex((draft.id or "").replace("-", ""))
                records.append((self._size, 7, raw, draft.leaf("0" * 27)))
                tags += [(self._tags.setdefault(tag, len(self._tags)), self._size) for tag in draft.tags]
            batches.append((records, tags))
        return batches

    def insert(self, batches: list[Batch]) -> None:
        """A durable commit a batch."""
        for records, tags in batches:
            self.db.execute("BEGIN IMMEDIATE")
            self.db.executemany("INSERT INTO r VALUES (?, ?, ?, ?)", records)
            self.db.executemany("INSERT INTO t VALUES (?, ?)", tags)
            self.db.execute("COMMIT")


def append(log: Log, records: Sequence[data.Record]) -> None:
    """Encode and append in batches."""
    for start in range(0, len(records), data.BATCH):
        log.append([data.draft(found) for found in records[start : start + data.BATCH]])


def _table(size: int, options: Options) -> Table:
    count = options.work(USUAL * data.BATCH, 50)
    evidence: list[float] = []
    encoding: list[float] = []
    with contextlib.ExitStack() as stack:
        ground, log, app, bare = grounds.filled(stack, options, size)
        numbers = itertools.count(size + 1, 1_000_000)

        def ours(*, checked: bool = False) -> float:
            records = list(data.records(next(numbers), count))
            start = time.perf_counter()
            if checked:
                for found in records:
                    validate(found["type"], found["data"])
            append(log, records)
            taken = time.perf_counter() - start
            if not checked:
                evidence.append(price_of_evidence(records, size) / taken)
                encoding.append(price_of_encoding(records) / taken)
            return count / taken

        def recorder() -> float:
            events = peers.stored_events(next(numbers), count, 3)
            batch = LIBRARY_BATCH[ground.kind]
            batches = [events[k : k + batch] for k in range(0, count, batch)]
            return rate(count, lambda: [app.recorder.insert_events(batch) for batch in batches])

        def integer() -> float:
            rows = bare.rows(peers.bodies(next(numbers), count))
            return rate(count, lambda: bare.insert_many(rows))

        cases = {
            OURS: ours,
            "muniment, payloads validated too": lambda: ours(checked=True),
            BARE: integer,
            PEER: recorder,
        }
        notes = []
        if ground.kind == "sqlite3":
            cases |= _sqlite_floors(stack, ground.folder, size, count, numbers)
            notes.append(f"`{TEXT}` begins empty.")
        else:
            notes.append("The library appends batches of 500: of 1000 it hangs for ever.")
        found = table(
            f"bulk, {ground.version}, log of {size:,} records",
            cases,
            options,
            base=BARE,
            goals=[Goal(OURS, BARE, 0.6)],
            notes=notes,
        )
    found.notes.extend(
        (
            f"{count:,} records a run in batches of {data.BATCH}, mean {mean_bytes(size):.0f} canonical bytes.",
            _share("price of evidence (leaf hash and frontier)", evidence, 0.30),
            f"canonical encoding takes {statistics.median(encoding):.0%} of the append; no peer encodes here.",
        )
    )
    return found


def _sqlite_floors(
    stack: contextlib.ExitStack, folder: Path, size: int, count: int, numbers: Iterator[int]
) -> dict[str, Callable[[], float]]:
    """Two more floors, which only SQLite has: the library's own table, and rows for id and tags beside the record."""
    text = Text(stack.enter_context(contextlib.closing(grounds.BareSqlite(folder / "text.db"))).db)
    same = Same(stack.enter_context(contextlib.closing(grounds.BareSqlite(folder / "same.db"))).db)
    same.insert(same.rows(1, size))

    def library_table() -> float:
        events = peers.stored_events(next(numbers), count, 4)
        rows = [(e.originator_id.hex, e.originator_version, e.topic, e.state) for e in events]  # type: ignore[union-attr]
        return rate(count, lambda: _insert_text(text.db, rows))

    def same_rows() -> float:
        batches = same.rows(next(numbers), count)
        return rate(count, lambda: same.insert(batches))

    return {TEXT: library_table, SAME: same_rows}


def price_of_evidence(records: Sequence[data.Record], size: int) -> float:
    """Seconds for leaf hashes and frontier of the records, on a tree of `size` leaves."""
    leaves = [data.draft(found).leaf("0" * 27) for found in records]
    frontier = Frontier(size, [b"\0" * 32] * size.bit_count())
    sha256 = hashlib.sha256
    start = time.perf_counter()
    frontier.extend([sha256(b"\0" + leaf).digest() for leaf in leaves])
    return time.perf_counter() - start


def price_of_encoding(records: Sequence[data.Record]) -> float:
    """Seconds to make drafts of the records."""
    start = time.perf_counter()
    for found in records:
        data.draft(found)
    return time.perf_counter() - start


def mean_bytes(first: int, count: int = 240) -> float:
    """Canonical bytes a record."""
    return sum(map(len, peers.bodies(first + 1, count))) / count


def _share(what: str, shares: list[float], most: float) -> str:
    share = statistics.median(shares)
    verdict = "reached" if share <= most else "MISSED"
    return f"{verdict}: {what} = {share:.0%} of the append (must be at most {most:.0%})"


def _insert_text(db: sqlite3.Connection, rows: list[tuple[str, int, str, bytes]]) -> None:
    for start in range(0, len(rows), data.BATCH):
        db.execute("BEGIN IMMEDIATE")
        db.executemany("INSERT INTO x VALUES (?, ?, ?, ?)", rows[start : start + data.BATCH])
        db.execute("COMMIT")
