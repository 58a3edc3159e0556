"""The primitives of `store.writer` in PostgreSQL: one statement a group, in the order of one row's lock.

1. Positions are given in the order of commits: whoever writes updates the row of the head first and keeps its lock
   until the commit is durable. Readers never wait for it, and a rollback leaves no gap.
2. A writer that was the last to write *assumes* the head: one statement sets it, if it is still that, and inserts
   the rows; nothing came of it if it is not (`Unsettled`), and the group is done again in a transaction that
   takes the lock first.
3. A connection lost while the answer was awaited leaves the group *in doubt*. It is done once more on a new
   connection, behind the lock: what was committed is found by its ids, and what was not can no longer be, since
   its statement assumed a head that has moved (`records` only; events without an id are reported as unknown). Where
   the second time refuses all and so moves no head (a decision that got too old), it stays in doubt.
4. A commit that came with a warning is in doubt as well: PostgreSQL says no more than that when somebody cancels its
   wait for a synchronous standby. The second time waits for that standby anew (`writer`, rule 5).
5. No pipeline: psycopg's hangs for ever on one message of over a megabyte. No NOTIFY in the transaction: it takes
   a lock of the whole instance. Listeners are told after it, at most every `TELL_S` seconds, and poll besides.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Sequence
from typing import Any

import psycopg
from muniment.domain.errors import UnavailableError
from muniment.store.groupcommit import Work
from muniment.store.index_tail import Tail
from muniment.store.postgres_arrays import ByteaArray, Int8Array, TextArray, UuidArray
from muniment.store.postgres_errors import from_postgres, is_lost
from muniment.store.postgres_pool import Connection, connect
from muniment.store.postgres_reads import PostgresReads, term_key
from muniment.store.postgres_schema import demand_durable, identify
from muniment.store.postgres_url import Place
from muniment.store.reads import HeadRow
from muniment.store.writer import Rows, Unsettled, Writer
from psycopg import sql

LOCK_S = 10.0  # how long a writer waits for the others
TELL_S = 0.02
MAX_BYTES = 8 << 20  # of bodies in one statement; more goes in several, in one transaction

_HEAD = (
    "UPDATE {s}.head SET size = %s, frontier = %s, recorded_at = %s, indexed = %s"
    " WHERE size = %s AND frontier = %s RETURNING 1"
)
_ROWS = (
    "INSERT INTO {s}.records (position, id, leaf, body) SELECT %s + u.o, u.id, u.leaf, u.body{from_head}"
    " unnest(%s::uuid[], %s::bytea[], %s::bytea[]) WITH ORDINALITY AS u(id, leaf, body, o)"
)
_ONE = "INSERT INTO {s}.records (position, id, leaf, body) SELECT %s, %s::text::uuid, %s, %s FROM h"
_MOVED = " SELECT count(*), (extract(epoch FROM clock_timestamp()) * 1000000)::bigint FROM h"
_TEXTS = {
    "one": f"WITH h AS ({_HEAD}), r AS ({_ONE})" + _MOVED,
    "many": f"WITH h AS ({_HEAD}), r AS ({_ROWS.replace('{from_head}', ' FROM h,')})" + _MOVED,
    "head": f"WITH h AS ({_HEAD})" + _MOVED,
    "rows": _ROWS.replace("{from_head}", " FROM"),
    "types": "INSERT INTO {s}.types (id, name) SELECT * FROM unnest(%s::bigint[], %s::text[])",
    "postings": "INSERT INTO {s}.postings (term, first, entries)"
    " SELECT * FROM unnest(%s::bytea[], %s::bigint[], %s::bytea[])",
    "lock": "SELECT size, frontier, recorded_at, indexed FROM {s}.head FOR UPDATE",
}


class PostgresWriter(Writer):
    """The one writing connection of a process; made at the first append, and anew when it is lost.

    Args:
        saw: told the server's clock with each commit (microseconds since 1970).
        channel: where listeners listen.
    """

    def __init__(
        self, place: Place, kind: str, clock: Callable[[], int], saw: Callable[[int], None], channel: str
    ) -> None:
        super().__init__(place.name, kind, PostgresReads(self._run, place.schema, place.name), clock)
        self._place = place
        self._saw = saw
        self._channel = channel
        self._db: Connection | None = None
        self._in_doubt = False  # a statement that commits is on its way, and nothing has come back
        self._from: HeadRow | None = None  # the head which that statement assumed, without the lock
        self._warning = ""
        self._alone = True  # nobody else wrote since this one did
        self._told = 0.0
        schema = sql.Identifier(place.schema)
        self._sql = {key: sql.SQL(text).format(s=schema) for key, text in _TEXTS.items()}

    def close(self) -> None:
        """Tell the listeners what they may not have heard, and disconnect."""
        if self._db is not None:
            self._tell()
            self._db.close()

    def commit(self, group: Sequence[Work]) -> None:
        """Commit a group (`groupcommit.Commit`).

        Raises:
            UnavailableError: nothing was written; or nobody knows (`store.commit_unknown`): the same ids are
                appended once, whoever tries again.
        """
        self._in_doubt = False
        try:
            super().commit(group)
        except UnavailableError as error:
            if not is_lost(error.__cause__):
                raise
            self._again(group, error)
        self._tell_at_times()

    def _again(self, group: Sequence[Work], lost: UnavailableError) -> None:
        """Rule 3."""
        doubtful, assumed = self._in_doubt, self._from
        if doubtful and any(draft.id is None for work in group for draft in work.drafts):
            raise self._unknown(lost)
        try:
            self._known = False
            self._alone = False  # so that the lock is taken first
            super().commit(group)
        except UnavailableError as error:
            raise (self._unknown(error) if doubtful or self._in_doubt else error) from lost
        if doubtful and self._head == assumed:
            for work in group:
                if work.error is not None:
                    work.error = self._unknown(lost)

    def _unknown(self, error: UnavailableError) -> UnavailableError:
        return UnavailableError(
            f"{self._name}: the server went away before it answered; whether the records are in the log is not known",
            code="store.commit_unknown",
            hint="try again with the same ids or the same --key: what was committed is found, not repeated",
            found=str(error.context.get("found", "")),
        )

    def _begin(self, *, careful: bool) -> HeadRow:
        if self._db is None or self._db.closed:
            db = connect(self._place, lock_s=LOCK_S)
            try:
                demand_durable(identify(db, self._place).durable, self._place)
            except BaseException:
                db.close()
                raise
            db.add_notice_handler(self._noticed)
            self._db, self._known = db, False
        self._assumed = self._alone and not careful
        if self._assumed:
            return self._head if self._known else self._reads.head()
        self._db.execute("BEGIN")
        head = HeadRow(*self._run(self._sql["lock"], ())[0])
        self._alone = self._known and head == self._head
        return head

    def _finish(self, rows: Rows, tail: Tail | None, before: HeadRow, after: HeadRow) -> None:
        assert self._db is not None
        moving = (*after, before.size, before.frontier)
        locked = self._db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE
        parts = _parts(rows)
        try:
            if tail is None and len(parts) == 1:
                if not locked:
                    self._doubt(before)
                if len(rows.ids) == 1:
                    one = (rows.first, rows.ids[0], rows.leaves[0], rows.bodies[0])
                    found = self._run(self._sql["one"], (*moving, *one))
                else:
                    found = self._run(self._sql["many"], (*moving, *_columns(rows)))
                if not locked:
                    self._settle()
            else:
                if not locked:
                    self._db.execute("BEGIN")
                    locked = True
                found = self._run(self._sql["head"], moving)
                if found[0][0] == 1:
                    for part in parts:
                        self._do("rows", _columns(part))
                    if tail is not None:
                        self._index(tail)
        except psycopg.errors.UniqueViolation as error:
            self._in_doubt = False
            if error.diag.constraint_name == "records_by_id":
                raise Unsettled from error
            raise
        if found[0][0] != 1:
            self._alone = False
            raise Unsettled
        if locked:
            self._doubt(None)
            self._db.execute("COMMIT")
            self._settle()
        self._saw(found[0][1])

    def _uphold(self, head: HeadRow) -> None:  # noqa: ARG002  # nothing is written: the lock of the head is in the WAL
        assert self._db is not None
        self._warning = ""
        self._db.execute("COMMIT")
        self._settle()

    def _doubt(self, assumed: HeadRow | None) -> None:
        self._in_doubt, self._from, self._warning = True, assumed, ""

    def _settle(self) -> None:
        if self._warning:
            raise psycopg.OperationalError(self._warning)
        self._in_doubt = False

    def _noticed(self, said: psycopg.errors.Diagnostic) -> None:
        if said.severity_nonlocalized == "WARNING":
            self._warning = said.message_primary or "a warning"

    def _index(self, tail: Tail) -> None:
        types = tail.new_types()
        if types:
            self._do("types", (Int8Array([n for n, _ in types]), TextArray([name for _, name in types])))
        postings = list(tail.postings())
        terms, firsts, entries = zip(*postings, strict=True)
        self._do(
            "postings", (ByteaArray([term_key(t) for t in terms]), Int8Array(firsts), ByteaArray(entries))
        )

    def _do(self, which: str, given: Sequence[Any]) -> None:
        assert self._db is not None
        self._db.execute(self._sql[which], given, binary=True)

    def _abandon(self) -> None:
        db = self._db
        if db is None or db.closed:
            return
        try:
            if db.info.transaction_status != psycopg.pq.TransactionStatus.IDLE:
                db.rollback()
        except psycopg.Error:
            db.close()

    def _translated(self, error: BaseException) -> BaseException:
        if not isinstance(error, psycopg.Error):
            return error
        if self._db is not None and is_lost(error):
            self._db.close()
        said = from_postgres(error, self._name)
        if not self._in_doubt:
            said.context["written"] = "nothing"
        return said

    def _run(self, query: sql.Composed, given: Sequence[Any]) -> list[Any]:
        assert self._db is not None
        return self._db.execute(query, given, binary=True).fetchall()

    def _tell_at_times(self) -> None:
        now = time.monotonic()
        if now - self._told >= TELL_S:
            self._told = now
            self._tell()

    def _tell(self) -> None:
        # Best effort: a listener that hears nothing polls.
        if self._db is None or self._db.closed:
            return
        try:
            self._db.execute(sql.SQL("NOTIFY {}").format(sql.Identifier(self._channel)))
        except psycopg.Error:
            self._abandon()


def _columns(rows: Rows) -> tuple[int, UuidArray, ByteaArray, ByteaArray]:
    return rows.first - 1, UuidArray(rows.ids), ByteaArray(rows.leaves), ByteaArray(rows.bodies)


def _parts(rows: Rows) -> list[Rows]:
    """Cut rows where their bodies pass `MAX_BYTES`."""
    parts = []
    start = size = 0
    for at, body in enumerate(rows.bodies):
        size += len(body)
        if size > MAX_BYTES and at > start:
            parts.append(_part(rows, start, at))
            start, size = at, len(body)
    return [*parts, _part(rows, start, len(rows.bodies))] if start else [rows]


def _part(rows: Rows, start: int, end: int) -> Rows:
    first, ids, leaves, bodies = rows
    return Rows(first + start, ids[start:end], leaves[start:end], bodies[start:end])
