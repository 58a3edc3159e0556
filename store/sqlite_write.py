"""The primitives of `store.writer` in SQLite: `BEGIN IMMEDIATE`, one writer at a time."""

from __future__ import annotations

import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from muniment.store.index_tail import Tail
from muniment.store.reads import HeadRow
from muniment.store.sqlite_file import connect, from_sqlite, identify
from muniment.store.sqlite_reads import SqliteReads
from muniment.store.writer import Rows, Unsettled, Writer

_SET_HEAD = "UPDATE head SET size = ?, frontier = ?, recorded_at = ?, indexed = ?"
_INSERT = "INSERT INTO records (position, id, leaf, body) VALUES (?, ?, ?, ?)"
_INSERT_TYPE = "INSERT INTO types (id, name) VALUES (?, ?)"
_INSERT_POSTINGS = "INSERT INTO postings (term, first, entries) VALUES (?, ?, ?)"

_from_hex = bytes.fromhex


class SqliteWriter(Writer):
    """The one writing connection of a process to a file."""

    def __init__(
        self, path: Path, kind: str, clock: Callable[[], int], busy_s: float, *, unfinished: bool = False
    ) -> None:
        self._path = path
        try:
            self._db = connect(path, busy_s=busy_s, write=True)
            identify(self._db, path, unfinished=unfinished)
        except sqlite3.Error as error:
            raise from_sqlite(error, path) from error
        super().__init__(str(path), kind, SqliteReads(self._run, str(path)), clock)

    def close(self) -> None:
        """Close the connection; the last one out merges the WAL into the file."""
        self._db.close()

    def _begin(self, *, careful: bool) -> HeadRow:  # noqa: ARG002  # nobody writes once this has begun
        self._db.execute("BEGIN IMMEDIATE")
        return self._reads.head()

    def _finish(self, rows: Rows, tail: Tail | None, before: HeadRow, after: HeadRow) -> None:  # noqa: ARG002
        db = self._db
        try:
            positions = range(rows.first, after.size + 1)
            ids = [None if id_ is None else _from_hex(id_.replace("-", "")) for id_ in rows.ids]
            if len(ids) == 1:
                db.execute(_INSERT, (rows.first, ids[0], rows.leaves[0], rows.bodies[0]))
            else:
                db.executemany(_INSERT, zip(positions, ids, rows.leaves, rows.bodies, strict=True))
        except sqlite3.IntegrityError as error:
            if "records.id" in str(error):
                raise Unsettled from error
            raise
        if tail is not None:
            db.executemany(_INSERT_TYPE, tail.new_types())
            db.executemany(_INSERT_POSTINGS, tail.postings())
        db.execute(_SET_HEAD, after)
        db.execute("COMMIT")

    def _uphold(self, head: HeadRow) -> None:
        # Whoever opens the log after a kill finds the transactions in the WAL, synced or not; the next commit syncs them.
        self._db.execute(_SET_HEAD, head)
        self._db.execute("COMMIT")

    def _abandon(self) -> None:
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _translated(self, error: BaseException) -> BaseException:
        return from_sqlite(error, self._path) if isinstance(error, sqlite3.Error) else error

    def _run(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        return self._db.execute(sql, parameters).fetchall()
