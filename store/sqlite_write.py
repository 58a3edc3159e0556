"""The writer of a SQLite log: one transaction for a group of appends, under `BEGIN IMMEDIATE`.

1. The head is read inside each transaction; if another process has written, what this one knows of the log's
   end is read anew.
2. The happy path asks the database nothing but the head. Ids: the unique index refuses a known id, and only
   then (or when a condition fails) are ids looked up and the group is done again in *careful* order.
   Conditions: the tail and the one before it hold the entries since `_floor`; only an item whose tags have all
   been written after `condition.after`, or one decided before `_floor`, is searched for.
3. Rows of the index are written when `INDEX_EVERY` records have none, in the transaction of the last of them:
   a commit of one record touches the pages of the record, its id and the head, however many tags it has.
4. A failed transaction is rolled back and forgets everything, the tail of the index included.
"""

from __future__ import annotations

import hashlib
import sqlite3
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from muniment.domain import instant
from muniment.domain.errors import MunimentError, WrongError
from muniment.domain.query import Item
from muniment.store import admission
from muniment.store.api import Appended, Condition, Draft
from muniment.store.groupcommit import Work
from muniment.store.merkle import Frontier
from muniment.store.sqlite_file import connect, from_sqlite, identify
from muniment.store.sqlite_select import Search, selects_all
from muniment.store.sqlite_tail import TYPE_BITS, Tail, Term, follow

INDEX_EVERY = 512  # at most MAX_TAIL; 256 to 1024 are within 4 % of each other (ops/decisions/0010)

_HEAD = "SELECT size, frontier, recorded_at, indexed FROM head"
_SET_HEAD = "UPDATE head SET size = ?, frontier = ?, recorded_at = ?, indexed = ?"
_INSERT = "INSERT INTO records (position, id, leaf, body) VALUES (?, ?, ?, ?)"
_INSERT_TYPE = "INSERT INTO types (id, name) VALUES (?, ?)"
_INSERT_POSTINGS = "INSERT INTO postings (term, first, entries) VALUES (?, ?, ?)"
_BY_ID = "SELECT position, body FROM records WHERE id = ?"

_sha256 = hashlib.sha256
_from_hex = bytes.fromhex

Row = tuple[int, bytes | None, bytes, bytes]


class _IdKnown(Exception):  # noqa: N818  # control flow inside this module
    """The unique index refused an id: do the group again in careful order."""


class Writer:
    """The one writing connection of a process; used by one thread at a time (group commit sees to it)."""

    def __init__(self, path: Path, kind: str, clock: Callable[[], int], busy_s: float) -> None:
        self._path = path
        self._kind = kind
        self._clock = clock
        try:
            self._db = connect(path, busy_s=busy_s, write=True)
            identify(self._db, path)
        except sqlite3.Error as error:
            raise from_sqlite(error, path) from error
        self._tail = self._older = Tail(0, {})
        self._floor = 0
        self._frontier = Frontier()
        self._blob = b""
        self._known = False  # whether all above speaks of the log as it is
        self._rows: list[Row] = []
        self._hashes: list[bytes] = []  # of the transaction; the frontier takes them all at once
        self._size = 0  # with the rows not yet inserted
        self._second: int | None = None
        self._prefix = ""

    def close(self) -> None:
        """Close the connection; the last one out merges the WAL into the file."""
        self._db.close()

    def commit(self, group: Sequence[Work]) -> None:
        """Commit a group (`groupcommit.Commit`).

        Raises:
            UnavailableError: locked, full, read-only; nothing was written.
            WrongError: the file is damaged.
        """
        try:
            try:
                self._transaction(group, careful=False)
            except _IdKnown:
                self._transaction(group, careful=True)
        except sqlite3.Error as error:
            raise from_sqlite(error, self._path) from error

    def _transaction(self, group: Sequence[Work], *, careful: bool) -> None:
        db = self._db
        try:
            db.execute("BEGIN IMMEDIATE")
            last = self._begin()
            before = self._size
            now = self._clock()
            stamp = max(self._instant(now), last)
            for work in group:
                work.error = None
                try:
                    work.answer = self._admit(work, now, stamp, careful=careful)
                except MunimentError as error:
                    work.error = error
            if self._size == before:
                db.execute("ROLLBACK")
                return
            self._flush()
            tail = self._tail if self._size - self._tail.base < INDEX_EVERY else self._index()
            hashes, self._hashes = self._hashes, []
            self._frontier.extend(hashes)
            blob = self._frontier.to_bytes()
            db.execute(_SET_HEAD, (self._size, blob, stamp, tail.base))
            db.execute("COMMIT")
            self._blob = blob
            if tail is not self._tail:
                self._tail, self._older, self._floor = tail, self._tail, self._tail.base
        except BaseException:
            self._forget()
            raise

    def _instant(self, micros: int) -> str:
        """`instant.from_micros`, but for the part that changes once a second: 0.5 us instead of 3.6 us."""
        second, rest = divmod(micros, 1_000_000)
        if second != self._second:
            self._second, self._prefix = second, instant.from_micros(second * 1_000_000)[:20]
        return f"{self._prefix}{rest:06d}Z"

    def _begin(self) -> str:
        size, blob, recorded_at, indexed = self._db.execute(_HEAD).fetchone()
        if not self._known or size != self._size or blob != self._blob:
            try:
                self._frontier = Frontier.from_bytes(size, blob)
            except ValueError as error:
                raise WrongError(
                    f"{self._path}: the frontier does not fit the size of the log",
                    code="store.head_mismatch",
                    hint="muniment verify; restore a copy",
                    found=f"{len(blob)} bytes for {size} records",
                ) from error
            self._tail = self._older = follow(self._tail if self._known else None, self._run, size, indexed)
            self._size, self._blob, self._floor, self._known = size, blob, self._tail.base, True
        return str(recorded_at)

    def _forget(self) -> None:
        self._known = False
        self._rows, self._hashes = [], []
        if self._db.in_transaction:
            self._db.execute("ROLLBACK")

    def _admit(self, work: Work, now: int, stamp: str, *, careful: bool) -> Appended:
        drafts = work.drafts
        if careful:
            earlier = self._earlier(drafts)
            if earlier is not None:
                return earlier
        try:
            admission.check_age(work.decided_at, now)
            admission.check_place(drafts, self._kind, self._size)
            self._tail.check_room(len(drafts))
            if work.condition is not None:
                self._check_condition(work.condition)
        except MunimentError:
            # Ids come before the condition (settled.md, 9): a repeated append meets its own first records.
            earlier = None if careful else self._earlier(drafts)
            if earlier is not None:
                return earlier
            raise
        first = self._size + 1
        self._stage(drafts, stamp)
        return Appended(first, self._size, stamp)

    def _earlier(self, drafts: Sequence[Draft]) -> Appended | None:
        """The answer of the same append done before, also earlier in this group."""
        self._flush()
        found = [
            None
            if draft.id is None
            else self._db.execute(_BY_ID, (_from_hex(draft.id.replace("-", "")),)).fetchone()
            for draft in drafts
        ]
        earlier = admission.duplicate(drafts, found)
        return None if earlier is None else Appended(*earlier, duplicate=True)

    def _check_condition(self, condition: Condition) -> None:
        query, after = condition
        size = self._size
        if after == size:
            return
        admission.check_ahead(condition, size)
        suspects = [item for item in query if self._may_be_broken(item, after)]
        if selects_all(query):
            raise admission.conflict(size, after)
        if not suspects:
            return
        # The tail holds what is staged, too.
        position = Search(tuple(suspects), self._run, self._tail).last(after, size)
        if position:
            raise admission.conflict(position, after)

    def _may_be_broken(self, item: Item, after: int) -> bool:
        """Tell whether what was seen since `_floor` leaves room for a match after `after`."""
        if after < self._floor:
            return True
        types, tags = item
        first = (after + 1) << TYPE_BITS
        if any(self._last_entry(tag) < first for tag in tags):
            return False
        return not types or any(self._last_entry(self._tail.types.get(type_, 0)) >= first for type_ in types)

    def _last_entry(self, term: Term) -> int:
        entries = self._tail.of(term) or self._older.of(term)
        return entries[-1] if entries else 0

    def _stage(self, drafts: Sequence[Draft], stamp: str) -> None:
        """Give positions, bytes and hashes to records; nothing can refuse them from here on."""
        instant_bytes = stamp.encode()
        position = self._size
        rows, hashes = self._rows, self._hashes
        for id_, _, _, head, tail in drafts:
            position += 1
            leaf = head if tail is None else head + instant_bytes + tail
            digest = _sha256(b"\0" + leaf).digest()  # merkle.leaf_hash, without the call
            hashes.append(digest)
            rows.append((position, None if id_ is None else _from_hex(id_.replace("-", "")), digest, leaf))
        self._tail.add([(type_, tags) for _, type_, tags, _, _ in drafts])
        self._size = position

    def _flush(self) -> None:
        """Insert what is staged, so that the database can be asked about it."""
        if not self._rows:
            return
        rows, self._rows = self._rows, []
        try:
            if len(rows) == 1:
                self._db.execute(_INSERT, rows[0])
            else:
                self._db.executemany(_INSERT, rows)
        except sqlite3.IntegrityError as error:
            if "records.id" in str(error):
                raise _IdKnown from error
            raise

    def _index(self) -> Tail:
        """Write the rows of the index; return the tail that the commit leaves."""
        tail = self._tail
        self._db.executemany(_INSERT_TYPE, tail.new_types())
        self._db.executemany(_INSERT_POSTINGS, tail.postings())
        return Tail(tail.size, tail.types)

    def _run(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        return self._db.execute(sql, parameters).fetchall()
