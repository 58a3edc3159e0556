"""The log in PostgreSQL: a schema of its own in a database; any number of processes may have it open."""

from __future__ import annotations

import hashlib
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager

from muniment.domain.query import Query
from muniment.store import postgres_schema
from muniment.store.api import KIND_RECORDS
from muniment.store.base import Clock, Follower
from muniment.store.indexed_log import IndexedLog
from muniment.store.memos_postgres import MemosPostgres
from muniment.store.postgres_listen import Listener
from muniment.store.postgres_pool import Connection, Connections, connect
from muniment.store.postgres_reads import PostgresReads
from muniment.store.postgres_url import Place, parse
from muniment.store.postgres_write import PostgresWriter
from muniment.store.writer import Writer

_RENEW_S = 60.0  # after so long without a word from the server its clock is asked for


class PostgresLog(IndexedLog):
    """One log, opened by one process: a pool to read, one connection to write, one to listen, each when needed."""

    def __init__(self, place: Place, *, read_only: bool, clock: Clock | None) -> None:
        self.place = place
        self._connections = Connections(place, read_only=read_only)
        try:
            with self._connections.connection() as db:
                found = postgres_schema.identify(db, place)
        except BaseException:
            self._connections.close()
            raise
        reads = PostgresReads(self._connections.run, place.schema, place.name)
        super().__init__(found.kind, place.name, reads, read_only=read_only)
        self._clock = clock
        self._server = (found.now, time.monotonic_ns())
        self._listener: Listener | None = None
        self._starting = threading.Lock()
        # Channels belong to the database, not to a schema, and a name has at most 63 bytes.
        self._channel = f"muniment_{hashlib.sha256(place.schema.encode()).hexdigest()[:32]}"

    @classmethod
    def create(cls, url: str | Place, *, kind: str = KIND_RECORDS, clock: Clock | None = None) -> PostgresLog:
        """Create an empty log, whole or not at all, and open it.

        Raises:
            ConflictError: there is one already, or the schema is in use.
            DeniedError, UnavailableError, UsageError: see `store.postgres_pool.connect`.
        """
        place = parse(url) if isinstance(url, str) else url
        with connect(place) as db:
            postgres_schema.create(db, place, kind)
        return cls.open(place, clock=clock)

    @classmethod
    def open(cls, url: str | Place, *, read_only: bool = False, clock: Clock | None = None) -> PostgresLog:
        """Open a log.

        Raises:
            NotFoundError: no such database, or no log in the schema.
            WrongError, InvalidError, DeniedError: see `store.postgres_schema.identify`.
            UnavailableError, UsageError: see `store.postgres_pool.connect`.
        """
        return cls(parse(url) if isinstance(url, str) else url, read_only=read_only, clock=clock)

    def now(self) -> int:
        """The server's clock, never ahead of it: what it said last, and the time since by this host's monotonic clock."""
        if self._clock is not None:
            return self._clock()
        said, at = self._server
        since = (time.monotonic_ns() - at) // 1000
        if since > _RENEW_S * 1_000_000:
            self._saw(self._connections.read(lambda db: postgres_schema.identify(db, self.place)).now)
            said, at = self._server
            since = (time.monotonic_ns() - at) // 1000
        return said + since

    def _saw(self, now: int) -> None:
        self._server = (now, time.monotonic_ns())

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection of the pool, in autocommit, for what lies beside the log (evidence, memos)."""
        with self._connections.connection() as db:
            yield db

    @property
    def unfinished(self) -> bool:
        """No store yet: a copy is being made."""
        return self.place.unfinished

    def finish(self) -> None:
        """Make an unfinished log a store, and close it.

        Raises:
            DeniedError, UnavailableError: it is as before.
        """
        self.close()
        with connect(self.place) as db:
            postgres_schema.finish(db, self.place)

    def memo_place(self) -> MemosPostgres:
        """The memos that readers of this log share."""
        return MemosPostgres(self.connection, self.place.schema, self.place.name)

    def subscribe(self, query: Query = (), *, after: int = 0, poll_s: float = 0.1) -> Follower:
        """Follow the log: told by NOTIFY, and by polling every `poll_s` seconds behind it."""
        with self._starting:
            if self._listener is None and not self._is_closed:
                self._listener = Listener(self.place, self._channel, self._heard)
        return super().subscribe(query, after=after, poll_s=poll_s)

    def _heard(self) -> None:
        with self._listening:
            self._tell()

    def _make_writer(self) -> Writer:
        return PostgresWriter(self.place, self._kind, self.now, self._saw, self._channel)

    def _release(self) -> None:
        with self._starting:
            listener, self._listener = self._listener, None
        if listener is not None:
            listener.stop()
        if self._writer is not None:
            self._writer.close()
        self._connections.close()
