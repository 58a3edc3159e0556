"""The log in SQLite: a folder with `log.db`. Readers have connections of their own, the writer has one."""

from __future__ import annotations

import sqlite3
import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muniment.domain.errors import UnavailableError
from muniment.store import sqlite_file
from muniment.store.base import Clock, real_clock
from muniment.store.indexed_log import IndexedLog
from muniment.store.sqlite_reads import SqliteReads
from muniment.store.sqlite_write import SqliteWriter
from muniment.store.writer import Writer

BUSY_S = 5.0  # how long a writer waits for another process
_MAX_IDLE = 16  # reading connections kept


class SqliteLog(IndexedLog):
    """One store folder, opened by one process; many processes may have it open."""

    def __init__(
        self, path: Path, *, read_only: bool, clock: Clock | None, busy_s: float, unfinished: bool = False
    ) -> None:
        self._path = path
        self.unfinished = unfinished
        self._clock = clock or real_clock
        self._busy_s = busy_s
        self._idle: list[sqlite3.Connection] = []
        self._pool = threading.Lock()
        self._frozen = sqlite_file.is_frozen(path)
        self._frozen_as = self._stat() if self._frozen else None
        try:
            db = sqlite_file.connect(path, busy_s=busy_s, immutable=self._frozen)
            self._idle.append(db)
            kind = sqlite_file.identify(db, path, unfinished=unfinished)
        except BaseException as error:
            for db in self._idle:
                db.close()
            if isinstance(error, sqlite3.Error):
                raise sqlite_file.from_sqlite(error, path) from error
            raise
        super().__init__(kind, str(path), SqliteReads(self._run, str(path)), read_only=read_only)

    @classmethod
    def create(
        cls,
        folder: Path | str,
        *,
        kind: str,
        clock: Clock | None = None,
        busy_s: float = BUSY_S,
        mounts: Path = sqlite_file.MOUNTS,
        unfinished: bool = False,
    ) -> SqliteLog:
        """Create an empty log, whole or not at all, and open it; `unfinished`: no store before `finish`.

        Raises:
            ConflictError: there is one already.
            UnfitError: the folder is on a network file system.
            UnavailableError: disk full, no permission.
        """
        sqlite_file.create(Path(folder), kind, mounts=mounts, unfinished=unfinished)
        return cls.open(folder, clock=clock, busy_s=busy_s, mounts=mounts, unfinished=unfinished)

    @classmethod
    def open(
        cls,
        folder: Path | str,
        *,
        read_only: bool = False,
        clock: Clock | None = None,
        busy_s: float = BUSY_S,
        mounts: Path = sqlite_file.MOUNTS,
        unfinished: bool = False,
    ) -> SqliteLog:
        """Open a log; `unfinished`: one that is no store yet.

        Raises:
            ConflictError: a store, where an unfinished one was asked for.
            NotFoundError: there is none.
            WrongError: not a database, damaged, or not a log.
            InvalidError: another version of the schema.
            UnfitError: the folder is on a network file system.
            UnavailableError: cannot be read now.
        """
        path = sqlite_file.find(Path(folder))
        sqlite_file.refuse_network_file_system(path.parent, mounts)
        return cls(path, read_only=read_only, clock=clock, busy_s=busy_s, unfinished=unfinished)

    def now(self) -> int:
        """The host's clock."""
        return self._clock()

    def finish(self) -> None:
        """Make an unfinished log a store, and close it.

        Raises:
            UnavailableError: it is as before.
        """
        self.close()
        sqlite_file.finish(self._path, self._kind, busy_s=self._busy_s)

    def _make_writer(self) -> Writer:
        return SqliteWriter(self._path, self._kind, self._clock, self._busy_s, unfinished=self.unfinished)

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
