"""Connections to PostgreSQL: a pool to read, one of its own for whoever writes or listens.

1. Whoever needs a connection makes it, so that what is wrong with it is said at once and as it is. A pool that connects
   in the background (psycopg_pool) answered half a minute later that all were busy, while there was no server and after.
2. A read whose connection is lost is done once more on a new one: it changes nothing, so it may.
3. What a session must be (autocommit, UTF-8, `synchronous_commit`, isolation, bounded waits for locks) is said once, at
   connecting, to the backend that answers: a pooler may stand between if it keeps a session on one (PgBouncer:
   `pool_mode = session`), and not if it changes backends between transactions.
4. Nobody waits for ever: a server from which nothing comes for `Connection.answer_s` seconds counts as lost. The kernel of a
   process that is stopped still answers keepalives, and a commit whose standby is gone waits without an end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Generator, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, TypeVar

import psycopg
from muniment.domain.errors import UnavailableError, UsageError
from muniment.store import postgres_arrays
from muniment.store.postgres_errors import from_postgres, is_lost
from muniment.store.postgres_url import Place
from psycopg import sql
from psycopg.adapt import AdaptersMap
from psycopg.conninfo import conninfo_to_dict
from psycopg.types.numeric import Int8BinaryDumper, Int8Dumper

Result = TypeVar("Result")

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


class Connection(psycopg.Connection[tuple[Any, ...]]):
    """A connection that gives up on a server from which nothing comes (rule 4)."""

    answer_s = 30.0

    def wait(self, gen: Generator[Any, Any, Result], *args: Any, **more: Any) -> Result:
        """See `psycopg.Connection.wait`. Raises psycopg.OperationalError without a code: the connection is lost."""
        return super().wait(_within(gen, self.answer_s), *args, **more)


def _within(gen: Generator[Any, Any, Result], seconds: float) -> Generator[Any, Any, Result]:
    end = time.monotonic() + seconds
    try:
        state = next(gen)
        while True:
            ready = yield state
            if ready:
                end = time.monotonic() + seconds
            elif time.monotonic() > end:
                raise psycopg.OperationalError(f"the server said nothing for {seconds:.0f} s")
            state = gen.send(ready)
    except StopIteration as over:
        return over.value  # type: ignore[no-any-return]


def parameters(place: Place) -> dict[str, Any]:
    """What every connection is made with.

    Raises:
        UsageError: libpq does not know a parameter (its own text would repeat parts of the URL), or several hosts of which
            not the one that takes writes is wanted: two standbys are not at the same position, and answers would mix.
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
    if "," in f"{given.get('host', '')}{given.get('hostaddr', '')}":
        wanted = given.setdefault("target_session_attrs", "read-write")
        if wanted not in {"read-write", "primary"}:
            raise UsageError(
                "of several hosts only the one that takes writes can be meant",
                code="store.url",
                hint="leave target_session_attrs out, or name one host",
                expected="target_session_attrs=read-write or primary",
                found=str(wanted)[:30],
            )
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
        db = Connection.connect(**given)
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
        # A stricter one answers a head that moved with an error, not with the row as it is now.
        "default_transaction_isolation": "read committed",
        # Whatever somebody has planted in a schema of the user's, no function and no operator is looked for there.
        "search_path": "pg_catalog, pg_temp",
    }
    if read_only:  # not off for the others: somebody may have closed the database to writers
        settings["default_transaction_read_only"] = "on"
    else:
        # A client that hangs must not keep the log locked.
        settings["idle_in_transaction_session_timeout"] = "30s"
        # A commit that no longer waits for its standby says so in a warning.
        settings["client_min_messages"] = "warning"
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
    """Connections for reading, at most `Place.pool` of them, shared by threads; one that is lost is not kept."""

    def __init__(self, place: Place, *, read_only: bool) -> None:
        self.place = place
        self._read_only = read_only
        self._idle = [connect(place, read_only=read_only)]
        self._free = threading.BoundedSemaphore(place.pool)
        self._guard = threading.Lock()
        self._closed = False

    def run(self, query: sql.Composed, given: Sequence[Any] = ()) -> list[Any]:
        """Run one select (`read`)."""
        return self.read(lambda db: db.execute(query, given, binary=True).fetchall())

    def read(self, act: Callable[[Connection], Result]) -> Result:
        """Do something that changes nothing, once more if its connection was lost (rule 2).

        Raises:
            UnavailableError, WrongError, DeniedError: see `postgres_errors`.
        """
        try:
            with self.connection() as db:
                try:
                    return act(db)
                except (psycopg.Error, UnavailableError) as error:
                    if not is_lost(error if isinstance(error, psycopg.Error) else error.__cause__):
                        raise
                    db.close()
            self._forget()
            with self.connection() as db:
                return act(db)
        except psycopg.Error as error:
            raise from_postgres(error, self.place.name) from error

    @contextmanager
    def connection(self) -> Iterator[Connection]:
        """A connection that no other thread has meanwhile, in autocommit.

        Raises:
            UnavailableError: all are busy for half a minute (`store.pool_exhausted`), or no server.
        """
        if not self._free.acquire(timeout=WAIT_S):
            raise UnavailableError(
                f"{self.place.name}: all {self.place.pool} connections are busy",
                code="store.pool_exhausted",
                hint="raise pool= in the URL, or do less at once; nothing was read or written",
                expected=f"one within {WAIT_S:.0f} s",
            )
        try:
            with self._guard:
                if self._closed:
                    raise UnavailableError("the log is closed", code="store.closed", hint="open it again")
                db = self._idle.pop() if self._idle else None
            if db is None:
                db = connect(self.place, read_only=self._read_only)
            try:
                yield db
            finally:
                self._keep(db)
        finally:
            self._free.release()

    def _keep(self, db: Connection) -> None:
        with self._guard:
            if not self._closed and db.info.transaction_status == psycopg.pq.TransactionStatus.IDLE:
                self._idle.append(db)
                return
        db.close()

    def _forget(self) -> None:
        """Close those that nobody uses: where one was lost, the others were as well, or their server is no longer asked."""
        with self._guard:
            idle, self._idle = self._idle, []
        for db in idle:
            db.close()

    def close(self) -> None:
        """Close every connection; one in use closes when it is given back."""
        with self._guard:
            self._closed = True
        self._forget()
