"""Look at a log in PostgreSQL as it lies there; see `store.inspect`.

1. One snapshot: a read-only transaction at REPEATABLE READ, which workers take over by its exported name.
2. Rows come through server-side cursors, so memory is flat.
3. Names are qualified: no `search_path` decides which log is looked at.
"""

from __future__ import annotations

import itertools
import json
import re
from collections.abc import Collection, Iterator
from contextlib import suppress
from typing import Any

import psycopg
from muniment.domain.errors import NotFoundError
from muniment.store import migrations, postgres_facts
from muniment.store.api import not_finished
from muniment.store.inspect import MAX_POSITION, MIN_POSITION, PAGE, Cells, PostingCells, Tables
from muniment.store.postgres_arrays import ByteaArray
from muniment.store.postgres_errors import from_postgres
from muniment.store.postgres_pool import connect
from muniment.store.postgres_reads import term_key
from muniment.store.postgres_url import Place
from muniment.store.reads import Term
from psycopg import sql

_BEGIN = "BEGIN ISOLATION LEVEL REPEATABLE READ READ ONLY"
_RECORDS = "SELECT position, uuid_send(id), leaf, body FROM {s}.records WHERE position >= %s AND position <= %s ORDER BY position"
_POSTINGS = "SELECT term, first, entries FROM {s}.postings ORDER BY term, first"
_HISTORIES = "SELECT term, first, entries FROM {s}.postings WHERE term = ANY(%s::bytea[]) AND first > %s ORDER BY term, first"
_MAINTENANCE = "SELECT m.position, body FROM {s}.maintenance AS m LEFT JOIN {s}.records USING (position) ORDER BY m.position"
_comment = re.compile(r"muniment log: kind=(records|opaque) schema=([0-9]{1,6})").fullmatch
_number = re.compile(rb"#([1-9][0-9]{0,8})").fullmatch


class PostgresReader:
    """The records of a log in PostgreSQL, in one snapshot."""

    def __init__(self, place: Place, snapshot: str = "") -> None:
        self._place = place
        self._names = itertools.count(1)
        self._db = connect(place, read_only=True)
        self._db.answer_s = 600.0  # some questions are about the whole log
        try:
            self._db.execute(
                "SET idle_in_transaction_session_timeout = 0"
            )  # it is, while workers are at work
            self._db.execute(_BEGIN)
            if snapshot:
                self._db.execute(sql.SQL("SET TRANSACTION SNAPSHOT {}").format(snapshot))
        except psycopg.Error as error:
            self._db.close()
            raise from_postgres(error, place.name) from error
        except BaseException:
            self._db.close()
            raise

    @classmethod
    def at(cls, address: str) -> PostgresReader:
        """Open the snapshot that an inspector holds, by its address."""
        found = json.loads(address)
        return cls(Place(*found["place"]), found["snapshot"])

    def _query(self, text: str) -> sql.Composed:
        return sql.SQL(text).format(s=sql.Identifier(self._place.schema))

    def _rows(self, text: str, given: tuple[Any, ...] = ()) -> Iterator[list[Any]]:
        try:
            with self._db.cursor(f"muniment_{next(self._names)}", binary=True) as cursor:
                cursor.execute(self._query(text), given)
                while rows := cursor.fetchmany(PAGE):
                    yield rows
        except psycopg.Error as error:
            raise from_postgres(error, self._place.name) from error

    def records(self, after: int | None = None, until: int | None = None) -> Iterator[list[Cells]]:
        return self._rows(
            _RECORDS,
            (MIN_POSITION if after is None else after + 1, MAX_POSITION if until is None else until),
        )

    def close(self) -> None:
        self._db.close()


class PostgresInspector(PostgresReader):
    """A log in PostgreSQL laid open."""

    def __init__(self, place: Place) -> None:
        super().__init__(place)
        try:
            self._demand_schema()
            self._snapshot = str(self._one("SELECT pg_export_snapshot()")[0])
        except BaseException:
            self.close()
            raise

    def _demand_schema(self) -> None:
        if self._one("SELECT to_regnamespace(%s)", self._place.schema)[0] is None:
            raise NotFoundError(
                f"no store at {self._place.name}", code="store.not_found", hint="muniment init"
            )

    @property
    def address(self) -> str:
        return json.dumps({"place": self._place, "snapshot": self._snapshot})

    def _one(self, text: str, *given: Any) -> tuple[Any, ...]:
        try:
            row = self._db.execute(self._query(text), given).fetchone()
        except psycopg.Error as error:
            raise from_postgres(error, self._place.name) from error
        return row if row is not None else (None,)

    def _few(self, text: str) -> list[Any]:
        """Rows of a small table; none if there is no such table or column: the schema check says so."""
        try:
            with (
                suppress(psycopg.errors.UndefinedTable, psycopg.errors.UndefinedColumn),
                self._db.transaction(),
            ):
                cursor = self._db.execute(self._query(text), binary=True)
                return cursor.fetchall() if cursor.description is not None else []
        except psycopg.Error as error:
            raise from_postgres(error, self._place.name) from error
        return []

    def _comment(self) -> Any:
        text = self._one("SELECT obj_description(to_regnamespace(%s), 'pg_namespace')", self._place.schema)[0]
        if self._place.unfinished:
            text = (text or "").replace("muniment copy:", "muniment log:", 1)
        elif (text or "").startswith("muniment copy:"):
            raise not_finished(self._place.name)
        return _comment(text or "")

    @property
    def kind(self) -> str:
        match = self._comment()
        return match[1] if match else ""

    def last(self) -> int:
        found = self._few("SELECT max(position) FROM {s}.records")
        return found[0][0] or 0 if found else 0

    def tables(self) -> Tables:
        match = self._comment()
        version = int(match[2]) if match else None
        kind = match[1] if match else None
        settings = {
            "kind": (kind or ["opaque", "records"], kind),
            "schema": (migrations.version("postgres"), version),
        }
        try:
            found = postgres_facts.found(self._db, self._place.schema)
        except psycopg.Error as error:
            raise from_postgres(error, self._place.name) from error
        expected = postgres_facts.EXPECTED
        schema = {name: (expected.get(name), found.get(name)) for name in sorted({*found, *expected})}
        heads = self._few("SELECT one, size, frontier, recorded_at, indexed FROM {s}.head")
        return Tables(settings, schema, heads, dict(self._few("SELECT id, name FROM {s}.types ORDER BY id")))

    def postings(self) -> Iterator[list[PostingCells]]:
        for rows in self._rows(_POSTINGS):
            yield [(_term(term), first, entries) for term, first, entries in rows]

    def histories(self, terms: Collection[Term], after: int) -> dict[Term, list[tuple[Any, Any]]]:
        found: dict[bytes, list[tuple[Any, Any]]] = {term_key(term): [] for term in terms}
        for rows in self._rows(_HISTORIES, (ByteaArray(list(found)), after)):
            for key, first, entries in rows:
                found[bytes(key)].append((first, entries))
        return {term: found[term_key(term)] for term in terms}

    def term(self, term: Term) -> Any:
        return _term(term_key(term))

    def integrity(self) -> list[str]:
        """Whether an id stands twice, as the rows themselves say, not their index, and whether each row of maintenance names a
        record that declares it (who may pass by triggers needs none). More needs `amcheck` and a superuser.
        """
        self._few("SET LOCAL enable_indexscan = off")
        self._few("SET LOCAL enable_indexonlyscan = off")
        for ids, different in self._few("SELECT count(id), count(DISTINCT id) FROM {s}.records"):
            if ids != different:
                return [f"{ids - different} ids are used more than once"]
        return [
            f"maintenance row {position}: record {position} declares none"
            for position, body in self._few(_MAINTENANCE)
            if b'"type":"store.maintenance_declared/' not in bytes(body or b"")
        ]


def _term(key: Any) -> Any:
    """A term as SQLite has it: the number of a type, a tag; bytes for what is neither, as the digest of a long tag."""
    if type(key) is not bytes:
        return key
    if match := _number(key):
        return int(match[1])
    if key[:1] == b"t":
        with suppress(UnicodeDecodeError):
            return key[1:].decode()
    return key
