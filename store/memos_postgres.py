"""Shared memos in PostgreSQL, in the schema of the log: chunks of 64 KiB and one row a step (`sql/postgres_0001.sql`).

1. A step is written in one transaction, without waiting for the disk: losing it costs time only (`store.memos`, 3).
2. A step has a number that is never used again, so a reader of one that was dropped or replaced finds nothing, never a mixture.
3. Whatever the server says becomes UnavailableError: to lack rights on a memo is to lack a memo.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Any, LiteralString

import psycopg
from muniment.domain.errors import UnavailableError
from muniment.store.memos import Read, Step
from muniment.store.postgres_errors import from_postgres
from psycopg import sql

CHUNK = 1 << 16
Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]


class MemosPostgres:
    """The ladder beside a log in PostgreSQL.

    Args:
        connect: lends a connection in autocommit, of the pool that serves the log.
        schema: the schema of the log.
        name: the place for messages, without a secret.
        ladder: `live`, or `rebuild` for the one beside.
    """

    def __init__(self, connect: Connect, schema: str, name: str, ladder: str = "live") -> None:
        self._connect = connect
        self._schema = schema
        self._name = name
        self._ladder = ladder

    def steps(self) -> list[Step]:
        with self._server("read") as db:
            rows = db.execute(
                self._sql("SELECT position, size FROM {memo} WHERE ladder = %s ORDER BY position"),
                (self._ladder,),
            ).fetchall()
        return [Step(*row) for row in rows]

    def open(self, position: int) -> Read:
        with self._server("read") as db:
            rows = db.execute(
                self._sql("SELECT id FROM {memo} WHERE ladder = %s AND position = %s"),
                (self._ladder, position),
            ).fetchall()
        if not rows:
            raise self._gone(position)
        query = self._sql(
            "SELECT bytes FROM {chunk} WHERE memo = %s AND index BETWEEN %s AND %s ORDER BY index"
        )

        def read(start: int, size: int) -> bytes:
            first, last = start // CHUNK, max(start + size - 1, start) // CHUNK
            with self._server("read") as db:
                found = db.execute(query, (rows[0][0], first, last), binary=True).fetchall()
            if not found:
                raise self._gone(position)
            start -= first * CHUNK
            return b"".join(chunk for (chunk,) in found)[start : start + size]

        return read

    def write(self, position: int, data: Iterable[bytes]) -> None:
        with self._server("write") as db, db.transaction():
            db.execute("SELECT set_config('synchronous_commit', 'off', true)")
            self._delete(db, position)
            (number,) = db.execute(
                self._sql("INSERT INTO {memo} (ladder, position, size) VALUES (%s, %s, 0) RETURNING id"),
                (self._ladder, position),
            ).fetchall()[0]
            size = 0
            with (
                db.cursor() as cursor,
                cursor.copy(
                    self._sql("COPY {chunk} (memo, index, bytes) FROM STDIN (FORMAT BINARY)")
                ) as copy,
            ):
                copy.set_types(("int8", "int4", "bytea"))
                for index, chunk in enumerate(_cut(data)):
                    copy.write_row((number, index, chunk))
                    size += len(chunk)
            db.execute(self._sql("UPDATE {memo} SET size = %s WHERE id = %s"), (size, number))

    def drop(self, position: int) -> None:
        with self._server("write") as db:
            self._delete(db, position)

    def beside(self) -> MemosPostgres:
        return MemosPostgres(self._connect, self._schema, self._name, "rebuild")

    def swap(self) -> None:
        with self._server("write") as db, db.transaction():
            db.execute(self._sql("DELETE FROM {memo} WHERE ladder = 'live'"))
            db.execute(self._sql("UPDATE {memo} SET ladder = 'live' WHERE ladder = 'rebuild'"))

    def _delete(self, db: psycopg.Connection[Any], position: int) -> None:
        db.execute(
            self._sql("DELETE FROM {memo} WHERE ladder = %s AND position = %s"), (self._ladder, position)
        )

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(
            memo=sql.Identifier(self._schema, "memo"), chunk=sql.Identifier(self._schema, "memo_chunk")
        )

    def _gone(self, position: int) -> UnavailableError:
        return UnavailableError(
            f"{self._name}: the memo at #{position} is gone", code="memo.vanished", found="no such memo"
        )

    @contextmanager
    def _server(self, doing: str) -> Iterator[psycopg.Connection[Any]]:
        try:
            with self._connect() as db:
                yield db
        except psycopg.Error as error:
            said = from_postgres(error, self._name)
            hint = (
                "muniment projection rebuild --shared, as a role that may write" if doing == "write" else ""
            )
            raise UnavailableError(
                f"cannot {doing} shared memos of {said.message}",
                code="memo.store",
                hint=hint,
                found=said.code,
            ) from error


def _cut(data: Iterable[bytes]) -> Iterator[bytes]:
    """The same bytes in pieces of `CHUNK`."""
    rest = bytearray()
    for part in data:
        rest += part
        at = 0
        while len(rest) - at >= CHUNK:
            yield bytes(rest[at : at + CHUNK])
            at += CHUNK
        del rest[:at]
    if rest:
        yield bytes(rest)
