"""Evidence in PostgreSQL, in the schema of the log: chunks of 1 MiB and one row a blob (`sql/postgres_0001.sql`).

1. Chunks, then the row, in one transaction with `synchronous_commit`: a blob is there whole and durable, or not at all.
2. The primary key lets one of several writers of the same bytes through; the others wait for its commit, then read what it wrote.
3. A blob is read a chunk at a time, each with a connection of its own: memory holds one, and who reads slowly keeps none. Rows
   never change, so no snapshot is needed.
4. A lost connection is tried again, twice: reading changes nothing, and the same bytes put again are found.
"""

from __future__ import annotations

import os
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any, LiteralString, TypeVar

import psycopg
from muniment.domain.errors import DeniedError, MunimentError, NotFoundError, UnavailableError
from muniment.store.evidence import Blob, EvidenceStore, Source, Spool, check_address, damaged
from muniment.store.files import CHUNK, faults
from muniment.store.postgres_errors import from_postgres, is_lost
from psycopg import sql

Connect = Callable[[], AbstractContextManager[psycopg.Connection[Any]]]
T = TypeVar("T")

PAUSES_S = (0.1, 0.5)  # before the second and the third try
PAGE = 1000  # rows


class EvidencePostgres(EvidenceStore):
    """The blobs beside a log in PostgreSQL.

    Args:
        connect: lends a connection, of the pool that serves the log; ready for a transaction, in autocommit or not.
        schema: the schema of the log.
        name: the place for messages, without a secret.
        staging: a folder of this host for temporary files; the system's own if not given.
        read_only: refuse `put`, whatever the rights of the role.
    """

    def __init__(
        self,
        connect: Connect,
        schema: str,
        name: str,
        *,
        staging: Path | None = None,
        read_only: bool = False,
    ) -> None:
        super().__init__(name, staging or Path(tempfile.gettempdir()), read_only=read_only)
        self._connect = connect
        self._tables = {
            "evidence": sql.Identifier(schema, "evidence"),
            "chunk": sql.Identifier(schema, "evidence_chunk"),
        }

    def where(self, blake3: str) -> str:
        """Place and address."""
        return f"{self.name}: evidence {blake3}"

    # --- writing

    def _keep(self, spool: Spool, blob: Blob) -> None:
        if self.sizes([blob.blake3]) or not self._tried(lambda db: self._write(db, spool, blob)):
            self._confirm(blob)

    def _write(self, db: psycopg.Connection[Any], spool: Spool, blob: Blob) -> bool:
        """False if another writer was first."""
        try:
            with db.transaction(), db.cursor() as cursor:
                cursor.execute(
                    "SELECT set_config('synchronous_commit', 'on', true)"
                    " WHERE current_setting('synchronous_commit') IN ('off', 'local')"
                )
                if blob.bytes:
                    into = self._sql("COPY {chunk} (blake3, index, bytes) FROM STDIN (FORMAT BINARY)")
                    with cursor.copy(into) as copy:
                        copy.set_types(("text", "int4", "bytea"))
                        for index, at in enumerate(range(0, blob.bytes, CHUNK)):
                            copy.write_row(
                                (blob.blake3, index, _piece(spool, at, min(CHUNK, blob.bytes - at)))
                            )
                cursor.execute(self._sql("INSERT INTO {evidence} VALUES (%s, %s, %s)"), blob)
        except psycopg.errors.UniqueViolation:
            return False
        return True

    # --- reading

    def sizes(self, addresses: Iterable[str]) -> dict[str, int]:
        """See the base; the bytes are counted in the chunks."""
        asked = sorted({check_address(address) for address in addresses})
        found: dict[str, int] = {}
        for at in range(0, len(asked), PAGE):
            found.update(
                self._select(
                    """SELECT e.blake3, coalesce(sum(octet_length(bytes)), 0)::bigint
                    FROM {evidence} e LEFT JOIN {chunk} c
                        ON c.blake3 = e.blake3 AND index < (size + 1048575) / 1048576
                    WHERE e.blake3 = ANY(%s) GROUP BY e.blake3""",
                    (asked[at : at + PAGE],),
                )
            )
        return found

    @contextmanager
    def _source(self, blake3: str) -> Iterator[Source]:
        rows = self._select("SELECT size, sha256 FROM {evidence} WHERE blake3 = %s", (blake3,))
        if not rows:
            raise NotFoundError(
                f"evidence {blake3} is not here", code="evidence.missing", path=self.where(blake3)
            )
        size, sha256 = rows[0]
        yield Source(_Chunks(self, blake3, size), size, sha256)

    def chunk(self, blake3: str, index: int, size: int) -> bytes:
        """Read one chunk of `size` bytes.

        Raises:
            WrongError: it is gone, or is of another size.
            UnavailableError, DeniedError: nobody could look.
        """
        rows = self._select("SELECT bytes FROM {chunk} WHERE blake3 = %s AND index = %s", (blake3, index))
        if not rows or len(rows[0][0]) != size:
            found = f"{len(rows[0][0])} bytes" if rows else "no such chunk"
            raise damaged(blake3, "size", f"{size} bytes in chunk {index}", found)
        piece: bytes = rows[0][0]
        return piece

    def _survey(self) -> Iterator[tuple[str, str | None, int]]:
        last = ""
        while rows := self._select(
            "SELECT blake3, size FROM {evidence} WHERE blake3 > %s ORDER BY blake3 LIMIT %s", (last, PAGE)
        ):
            for last, size in rows:
                yield last, last, size
        after = ("", -1)
        while rows := self._select(
            """SELECT c.blake3, c.index FROM {chunk} c LEFT JOIN {evidence} e USING (blake3)
            WHERE (c.blake3, c.index) > (%s, %s) AND (e.blake3 IS NULL OR c.index >= (e.size + 1048575) / 1048576)
            ORDER BY c.blake3, c.index LIMIT %s""",
            (*after, PAGE),
        ):
            for after in rows:
                yield f"chunk {after[1]} of {after[0]}", None, 0

    # --- the server

    def _sql(self, text: LiteralString) -> sql.Composed:
        return sql.SQL(text).format(**self._tables)

    def _select(self, text: LiteralString, parameters: Sequence[Any]) -> list[Any]:
        query = self._sql(text)
        return self._tried(lambda db: db.execute(query, parameters, binary=True).fetchall())

    def _tried(self, work: Callable[[psycopg.Connection[Any]], T]) -> T:
        for pause in (*PAUSES_S, None):
            try:
                with self._connect() as db:
                    return work(db)
            except psycopg.Error as error:
                if pause is None or not is_lost(error):
                    raise self._fault(error) from error
                time.sleep(pause)
        raise AssertionError  # the last try has returned or raised

    def _fault(self, error: psycopg.Error) -> MunimentError:
        """Whatever the server says about itself, nobody could look at the blob: neither missing nor wrong."""
        fault = from_postgres(error, self.name)
        if isinstance(fault, UnavailableError | DeniedError):
            return fault
        return UnavailableError(fault.message, code=fault.code, hint=fault.hint, **fault.context)


class _Chunks:
    """`read(n)` over the chunks of a blob; no more than one is held."""

    def __init__(self, place: EvidencePostgres, blake3: str, size: int) -> None:
        self._place, self._blake3, self._size = place, blake3, size
        self._at = 0
        self._chunk = b""

    def read(self, size: int, /) -> bytes:
        index, offset = divmod(self._at, CHUNK)
        if self._at == self._size:
            return b""
        if not offset:
            self._chunk = self._place.chunk(self._blake3, index, min(CHUNK, self._size - self._at))
        piece = self._chunk[offset : offset + size]
        self._at += len(piece)
        return piece


def _piece(spool: Spool, at: int, size: int) -> bytes:
    with faults("read", spool.name):
        piece = os.pread(spool.fd, size, at)
        if len(piece) != size:  # a spool that was cut: nothing is committed
            raise OSError(5, "temporary file is short")
    return piece
