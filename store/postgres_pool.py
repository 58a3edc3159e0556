"""Connections to PostgreSQL: a pool to read, one of its own for whoever writes or listens.

1. The first connection is made directly, so that what is wrong with it is said as it is.
2. A read whose connection is lost is done once more on a new one: it changes nothing, so it may.
3. What a session must be (autocommit, UTF-8, `synchronous_commit`, bounded waits for locks) is said once, at connecting.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
from muniment.domain.errors import UnavailableError, UsageError
from muniment.store import postgres_arrays
from muniment.store.postgres_errors import from_postgres, is_lost
from muniment.store.postgres_url import Place
from psycopg import sql
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

if TYPE_CHECKING:
    from psycopg_pool import ConnectionPool

Connection = psycopg.Connection[tuple[Any, ...]]

OLDEST = 140_000  # PostgreSQL 14
WAIT_S = 30.0  # for a connection of the pool

_DEFAULTS = {
    "connect_timeout": "10",
    "application_name": "muniment",
    "client_encoding": "UTF8",
    # A peer that vanished is noticed in about half a minute, not in the two hours of the kernel.
    "keepalives_idle": "10",
    "keepalives_interval": "5",
    "keepalives_count": "3",
    "tcp_user_timeout": "30000",
}

# Every integer goes as int8: one prepared statement for a text, not one for each size of its numbers.
_adapters = AdaptersMap(psycopg.adapters)
_adapters.register_dumper(int, Int8Dumper)
_adapters.register_dumper(int, Int8BinaryDumper)
postgres_arrays.register(_adapters)


def parameters(place: Place) -> dict[str, Any]:
    """What every connection is made with.

    Raises:
        UsageError: libpq does not know a parameter; its own text would repeat parts of the URL.
    """
    try:
        given = conninfo_to_dict(place.conninfo)
    except psycopg.ProgrammingError:
        raise UsageError(
            "not the URL of a store in PostgreSQL: a parameter is unknown or malformed",
            code="store.url",
            hint=_nearest(place.conninfo),
            expected="postgresql://[user@]host[:port]/database[?schema=NAME&sslmode=…]",
        ) from None  # its own text repeats parts of the URL
    return {**_DEFAULTS, **given, "autocommit": True, "prepare_threshold": 1, "context": _Context()}


def _nearest(conninfo: str) -> str:
    """What a parameter was probably meant to be; what was given is not repeated."""
    from difflib import get_close_matches
    from urllib.parse import parse_qsl, urlsplit

    known = [
        "schema",
        "evidence",
        "pool",
        *(item.keyword.decode() for item in psycopg.pq.Conninfo.get_defaults()),
    ]
    given = [
        key for key, _ in parse_qsl(urlsplit(conninfo).query, keep_blank_values=True) if key not in known
    ]
    near = dict.fromkeys(name for key in given for name in get_close_matches(key, known, n=1, cutoff=0.5))
    return f"did you mean {', '.join(near)}?" if near else "schema, evidence, pool, or what libpq takes"


def connect(place: Place, *, read_only: bool = False, lock_s: float | None = None) -> Connection:
    """Open one connection in autocommit.

    Args:
        read_only: the server refuses writes on it.
        lock_s: how long a statement waits for a lock.

    Raises:
        UnavailableError: no server, one older than 14, no more connections.
        DeniedError: it refuses the login. NotFoundError: no such database. UsageError: see `parameters`.
    """
    given = parameters(place)
    try:
        db = psycopg.connect(**given)
    except psycopg.Error as error:
        raise from_postgres(error, place.name) from error
    try:
        prepare(db, place, read_only=read_only, lock_s=lock_s)
    except psycopg.Error as error:
        db.close()
        raise from_postgres(error, place.name) from error
    except BaseException:
        db.close()
        raise
    return db


def prepare(db: Connection, place: Place, *, read_only: bool, lock_s: float | None = None) -> None:
    """Make a new connection what `connect` promises."""
    if db.info.server_version < OLDEST:
        raise UnavailableError(
            f"{place.name}: the server is too old",
            code="store.server_version",
            hint="use PostgreSQL 14 or newer",
            expected="14 or newer",
            found=db.info.parameter_status("server_version") or str(db.info.server_version),
        )
    settings = {
        "default_transaction_read_only": "on" if read_only else "off",
        # Whatever somebody has planted in a schema of the user's, no function and no operator is looked for there.
        "search_path": "pg_catalog, pg_temp",
    }
    if not read_only:
        # A client that hangs must not keep the log locked.
        settings["idle_in_transaction_session_timeout"] = "30s"
    if lock_s is not None:
        settings["lock_timeout"] = f"{max(int(lock_s * 1000), 1)}ms"
    asked: list[sql.Composable] = [
        sql.SQL("pg_catalog.set_config({}, {}, false)").format(key, value) for key, value in settings.items()
    ]
    if not read_only:
        # `local` and `off` would acknowledge what a failover, or a crash, loses.
        asked.append(
            sql.SQL(
                "CASE WHEN pg_catalog.current_setting('synchronous_commit') IN ('off', 'local')"
                " THEN pg_catalog.set_config('synchronous_commit', 'on', false) END"
            )
        )
    db.execute(sql.SQL("SELECT {}").format(sql.SQL(", ").join(asked)))


class _Context:
    """What `psycopg.connect` takes its adapters from."""

    adapters = _adapters
    connection = None


class Connections:
    """Connections for reading, shared by threads: one that is always there, a pool for more at once."""

    def __init__(self, place: Place, *, read_only: bool) -> None:
        self.place = place
        self._read_only = read_only
        self._first: Connection | None = connect(place, read_only=read_only)
        self._pool: ConnectionPool[Connection] | None = None
        self._guard = threading.Lock()
        self._closed = False

    def run(self, query: sql.Composed, given: Sequence[Any] = ()) -> list[Any]:
        """Run one select, once more if its connection was lost (rule 2).

        Raises:
            UnavailableError, WrongError, DeniedError: see `postgres_errors`.
        """
        try:
            try:
                with self.connection() as db:
                    return db.execute(query, given, binary=True).fetchall()
            except psycopg.Error as error:
                if not is_lost(error):
                    raise
                fresh = connect(self.place, read_only=self._read_only)
                try:
                    return fresh.execute(query, given, binary=True).fetchall()
                finally:
                    self._keep(fresh)
        except psycopg.Error as error:
            raise from_postgres(error, self.place.name) from error

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection that no other thread has meanwhile, in autocommit.

        Raises:
            UnavailableError: all are busy for half a minute (`store.pool_exhausted`), or no server.
        """
        with self._guard:
            if self._closed:
                raise UnavailableError("the log is closed", code="store.closed", hint="open it again")
            first, self._first = self._first, None
        if first is not None:
            try:
                yield first
            finally:
                self._keep(first)
            return
        from psycopg_pool import PoolTimeout

        pool = self._ready()
        try:
            db = pool.getconn()
        except PoolTimeout as error:
            connect(self.place).close()  # says why, if it is the server
            raise UnavailableError(
                f"{self.place.name}: all {self.place.pool} connections are busy",
                code="store.pool_exhausted",
                hint="raise pool= in the URL, or do less at once; nothing was read or written",
                expected=f"one within {WAIT_S:.0f} s",
            ) from error
        try:
            yield db
        finally:
            pool.putconn(db)

    def _keep(self, db: Connection) -> None:
        idle = psycopg.pq.TransactionStatus.IDLE
        with self._guard:
            if self._first is None and not self._closed and db.info.transaction_status == idle:
                self._first = db
                return
        db.close()

    def _ready(self) -> ConnectionPool[Connection]:
        from psycopg_pool import ConnectionPool

        with self._guard:
            if self._pool is None:
                self._pool = ConnectionPool(
                    kwargs=parameters(self.place),
                    configure=lambda db: prepare(db, self.place, read_only=self._read_only),
                    min_size=0,
                    max_size=self.place.pool,
                    timeout=WAIT_S,
                    num_workers=1,
                    open=True,
                )
            return self._pool

    def close(self) -> None:
        """Close every connection; one in use closes when it is given back."""
        with self._guard:
            self._closed = True
            first, self._first = self._first, None
            pool, self._pool = self._pool, None
        if first is not None:
            first.close()
        if pool is not None:
            pool.close()
