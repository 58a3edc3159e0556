"""The log in SQLite: a folder with `log.db`. Readers have connections of their own, the writer has one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from muniment.domain.errors import UnavailableError, WrongError
from muniment.domain.query import Query
from muniment.store import sqlite_file
from muniment.store.api import Page
from muniment.store.base import PAGE, BaseLog, Clock, Select, real_clock
from muniment.store.groupcommit import Work
from muniment.store.merkle import Frontier
from muniment.store.sqlite_select import Search, all_bodies, selects_all
from muniment.store.sqlite_tail import MAX_TAIL, Tail, follow
from muniment.store.sqlite_write import Writer

BUSY_S = 5.0  # how long a writer waits for another process
_MAX_IDLE = 16  # reading connections kept
_IDS_AT_ONCE = 500


class SqliteLog(BaseLog):
    """One store folder, opened by one process; many processes may have it open."""

    def __init__(self, path: Path, *, read_only: bool, clock: Clock | None, busy_s: float) -> None:
        self._path = path
        self._read_only = read_only
        self._clock = clock or real_clock
        self._busy_s = busy_s
        self._idle: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._tail: Tail | None = None
        self._tailing = threading.Lock()
        self._writer: Writer | None = None
        self._frozen = sqlite_file.is_frozen(path)
        self._frozen_as = self._stat() if self._frozen else None
        try:
            db = sqlite_file.connect(path, busy_s=busy_s, immutable=self._frozen)
            self._idle.append(db)
            kind = sqlite_file.identify(db, path)
        except BaseException as error:
            for db in self._idle:
                db.close()
            if isinstance(error, sqlite3.Error):
                raise sqlite_file.from_sqlite(error, path) from error
            raise
        super().__init__(kind)

    @classmethod
    def create(
        cls,
        folder: Path | str,
        *,
        kind: str,
        clock: Clock | None = None,
        busy_s: float = BUSY_S,
        mounts: Path = sqlite_file.MOUNTS,
    ) -> SqliteLog:
        """Create an empty log, whole or not at all, and open it.

        Raises:
            ConflictError: there is one already.
            UnfitError: the folder is on a network file system.
            UnavailableError: disk full, no permission.
        """
        sqlite_file.create(Path(folder), kind, mounts=mounts)
        return cls.open(folder, clock=clock, busy_s=busy_s, mounts=mounts)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        read_only: bool = False,
        clock: Clock | None = None,
        busy_s: float = BUSY_S,
        mounts: Path = sqlite_file.MOUNTS,
    ) -> SqliteLog:
        """Open a log.

        Raises:
            NotFoundError: there is none.
            WrongError: not a database, damaged, or not a log.
            InvalidError: another version of the schema.
            UnfitError: the folder is on a network file system.
            UnavailableError: cannot be read now.
        """
        path = sqlite_file.find(Path(folder))
        sqlite_file.refuse_network_file_system(path.parent, mounts)
        return cls(path, read_only=read_only, clock=clock, busy_s=busy_s)

    def _commit(self, group: Sequence[Work]) -> None:
        if self._read_only:
            raise UnavailableError(
                f"{self._path} was opened read-only", code="store.read_only", hint="open it for writing"
            )
        if self._writer is None:
            self._writer = Writer(self._path, self._kind, self._clock, self._busy_s)
        self._writer.commit(group)

    def _selector(self, query: Query, end: int) -> Select:
        if selects_all(query):

            def select_all(after: int, until: int, size: int, reverse: bool) -> Page:
                return all_bodies(self._run, after, until, size, reverse=reverse)

            return select_all
        search = Search(query, self._run, self._tail_to(end))

        def select(after: int, until: int, size: int, reverse: bool) -> Page:
            return search.page(after, until, size, reverse=reverse)

        return select

    def last_match(self, query: Query, *, until: int | None = None) -> int:
        """Position of the last matching record, 0 if none; reads no matching record."""
        end = self._end(until)
        if selects_all(query):
            return max(end, 0)
        return Search(query, self._run, self._tail_to(end)).last(0, end)

    def _tail_to(self, end: int) -> Tail:
        """What follows the rows of the index, at least up to a position the log has reached.

        Threads share it: entries are only ever added, and each search takes those up to its own end.
        """
        tail = self._tail
        if tail is not None and tail.size >= end:
            return tail
        with self._tailing:
            tail, self._tail = self._tail, None  # a failure below leaves none that is half extended
            if tail is None or end - tail.base >= MAX_TAIL:
                size, indexed = self._run("SELECT size, indexed FROM head", ())[0]
                tail = follow(tail, self._run, size, indexed)
            elif tail.size < end:
                # Rows may have come since; what was in memory before them is as true as they are.
                tail = follow(tail, self._run, end, tail.base)
            self._tail = tail
            return tail

    def positions_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Positions of those record ids that are in the log."""
        raw = {_id_bytes(id_): id_ for id_ in ids}
        raw.pop(b"", None)
        keys, found = list(raw), {}
        for start in range(0, len(keys), _IDS_AT_ONCE):
            some = keys[start : start + _IDS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT id, position FROM records WHERE id IN ({marks})"  # noqa: S608  # only marks
            found.update({raw[id_]: position for id_, position in self._run(sql, some)})
        return found

    def leaves(self, *, after: int = 0, until: int | None = None) -> Iterator[bytes]:
        """Stored leaf hashes in order of position."""
        end = self._end(until)
        sql = (
            "SELECT position, leaf FROM records"
            " WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
        )
        while after < end:
            rows = self._run(sql, (after, end, PAGE))
            for _, leaf in rows:
                yield leaf
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def _state(self) -> tuple[Frontier, str]:
        size, blob, recorded_at = self._run("SELECT size, frontier, recorded_at FROM head", ())[0]
        try:
            return Frontier.from_bytes(size, blob), recorded_at
        except ValueError as error:
            raise WrongError(
                f"{self._path}: the frontier does not fit the size of the log",
                code="store.head_mismatch",
                hint="muniment verify; restore a copy",
                found=f"{len(blob)} bytes for {size} records",
            ) from error

    def _size(self) -> int:
        rows = self._run("SELECT size FROM head", ())
        if len(rows) != 1 or type(rows[0][0]) is not int:
            raise WrongError(
                f"{self._path}: the head is damaged",
                code="store.head_mismatch",
                hint="muniment verify store",
                expected="one row with a number",
                found=repr(rows)[:100],
            )
        return int(rows[0][0])

    def _run(self, sql: str, parameters: Sequence[Any]) -> list[Any]:
        """Run one select on a connection no other thread has; it leaves no read transaction behind."""
        if self._is_closed:
            raise UnavailableError("the log is closed", code="store.closed", hint="open it again")
        try:
            with self._pool:
                db = self._idle.pop() if self._idle else None
            if db is None:
                db = sqlite_file.connect(self._path, busy_s=self._busy_s, immutable=self._frozen)
            try:
                rows = db.execute(sql, parameters).fetchall()
            except BaseException:
                db.close()
                raise
        except sqlite3.Error as error:
            raise sqlite_file.from_sqlite(error, self._path) from error
        with self._pool:
            if len(self._idle) < _MAX_IDLE and not self._is_closed:
                self._idle.append(db)
                db = None
        if db is not None:
            db.close()
        if self._frozen:
            self._check_frozen()
        return rows

    def _check_frozen(self) -> None:
        # Nobody locks a copy opened immutable=1; if it changes after all, no page of it means anything.
        if self._stat() != self._frozen_as:
            raise UnavailableError(
                f"{self._path} changed while it was read as a frozen copy",
                code="store.changed",
                hint="open it again",
            )

    def _stat(self) -> list[tuple[int, int, int]]:
        places = [self._path, self._path.with_name(self._path.name + "-wal")]
        stats = [place.stat() for place in places if place.exists()]
        return [(stat.st_ino, stat.st_size, stat.st_mtime_ns) for stat in stats]

    def _release(self) -> None:
        with self._pool:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()
        if self._writer is not None:
            self._writer.close()  # last, so that it is the one that merges the WAL


def _id_bytes(id_: str) -> bytes:
    """The stored form of an id; no bytes if it is none, so that nothing is found by it."""
    text = id_.replace("-", "")
    try:
        raw = bytes.fromhex(text)
    except ValueError:
        return b""
    return raw if len(raw) == 16 and len(id_) == 36 and id_ == id_.lower() else b""
