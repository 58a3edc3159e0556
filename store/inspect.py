"""Look at a store as it lies there, column by column: what `verify` compares with the record bytes.

The `Log` port answers from indexes and trusts its columns; an inspector hands every cell out as it is and judges nothing. Of a
log that has no cells of its own (memory) it gives positions, leaves and bodies only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from muniment.domain.errors import UnavailableError
from muniment.store import sqlite_file
from muniment.store.api import SCHEMA_VERSION, Log
from muniment.store.open import folder_of
from muniment.store.sqlite_log import SqliteLog

PAGE = 2048
SNAPSHOTS = 20  # tries to open two snapshots of one head while somebody appends

Cells = tuple[Any, Any, Any, Any, Any]
"""(position, type id, id, leaf, body) as stored; any cell may be of any type in a store that was changed."""

TagCells = tuple[Any, Any, Any, Any, Any]
"""(position, rows, smallest type id, largest type id, tag ids joined by commas), in order of position."""


class Tables(NamedTuple):
    """What a database holds beside records and tags.

    Attributes:
        settings: pragma -> (expected, found). schema: object -> (expected sql, found sql), None where there is none.
        heads: rows of the head table: (one, size, frontier, recorded_at).
        types: names by id; `tags` likewise.
    """

    settings: dict[str, tuple[Any, Any]]
    schema: dict[str, tuple[str | None, str | None]]
    heads: list[tuple[Any, ...]]
    types: dict[Any, Any]
    tags: dict[Any, Any]


class Inspector(Protocol):
    """A store laid open. Close it."""

    @property
    def kind(self) -> str:
        """`records`, `opaque`, or "" if that cannot be told."""
        ...

    def tables(self) -> Tables | None:
        """The cells beside the records; None if the log has none of its own."""
        ...

    def records(self) -> Iterator[list[Cells]]:
        """Every row of records, in order of position."""
        ...

    def tag_rows(self) -> Iterator[list[TagCells]]:
        """Every row of record_tags, grouped by position."""
        ...

    def integrity(self) -> list[str]:
        """What the database says is wrong with itself; [] if nothing."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


def inspector(store: Log | Path | str) -> Inspector:
    """Lay a store open: a log, or the folder or URL of one.

    Raises:
        NotFoundError: no store there.
        WrongError: not a database.
        UnavailableError: cannot be read now.
    """
    if isinstance(store, SqliteLog):
        return SqliteInspector(store._path)
    if isinstance(store, Path | str):
        return SqliteInspector(sqlite_file.find(folder_of(store)))
    return LogInspector(store)


class SqliteInspector:
    """A SQLite log, in two equal snapshots: one for the records, one for the tags, whose sort runs beside the reading."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections: list[sqlite3.Connection] = []
        self._helpers = ThreadPoolExecutor(2, thread_name_prefix="muniment-inspect")
        try:
            self._frozen = sqlite_file.is_frozen(path)
            self._main, self._side = self._snapshots()
            self._first: Future[list[TagCells]] | None = None
            self._integrity: Future[list[str]] = self._helpers.submit(self._check)
            self._tag_cursor = self._side.cursor()
        except BaseException as error:
            self.close()
            raise self._said(error) from error

    def _connect(self) -> sqlite3.Connection:
        db = sqlite_file.connect(self._path, busy_s=5.0, immutable=self._frozen)
        self._connections.append(db)
        # Text that is no UTF-8 is a finding, not a fault of ours.
        db.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        return db

    def _snapshots(self) -> tuple[sqlite3.Connection, sqlite3.Connection]:
        for _ in range(SNAPSHOTS):
            pair = (self._connect(), self._connect())
            for db in pair:
                db.execute("BEGIN")
            heads = [self._head(db) for db in pair]
            if heads[0] == heads[1]:
                return pair
            for db in pair:
                self._connections.remove(db)
                db.close()
        raise UnavailableError(
            f"{self._path} is written all the time", code="verify.busy", hint="try again in a quieter moment"
        )

    @staticmethod
    def _head(db: sqlite3.Connection) -> list[Any]:
        try:
            return db.execute("SELECT one, size, frontier, recorded_at FROM head").fetchall()
        except sqlite3.OperationalError:
            db.execute("SELECT count(*) FROM sqlite_master").fetchone()  # not a database: that is said here
            return []

    @property
    def kind(self) -> str:
        number = self._main.execute("PRAGMA application_id").fetchone()[0]
        return next((kind for kind, known in sqlite_file.APPLICATION_IDS.items() if known == number), "")

    def tables(self) -> Tables:
        try:
            kind = self.kind
            wanted = sqlite_file.APPLICATION_IDS.get(kind)
            settings = {
                "application_id": (
                    wanted if wanted is not None else sorted(sqlite_file.APPLICATION_IDS.values()),
                    self._main.execute("PRAGMA application_id").fetchone()[0],
                ),
                "user_version": (SCHEMA_VERSION, self._main.execute("PRAGMA user_version").fetchone()[0]),
            }
            found, expected = _objects(self._main), _shipped()
            schema = {name: (expected.get(name), found.get(name)) for name in sorted({*found, *expected})}
            return Tables(settings, schema, self._head(self._main), self._names("types"), self._names("tags"))
        except sqlite3.Error as error:
            raise self._said(error) from error

    def _names(self, table: str) -> dict[Any, Any]:
        with suppress(sqlite3.OperationalError):  # no such table: the schema check says so
            return dict(self._main.execute(f"SELECT id, name FROM {table}"))  # noqa: S608  # a constant
        return {}

    def records(self) -> Iterator[list[Cells]]:
        try:
            cursor = self._main.execute(
                "SELECT position, type, id, leaf, body FROM records ORDER BY position"
            )
            while rows := cursor.fetchmany(PAGE):
                yield rows
        except sqlite3.Error as error:
            raise self._said(error) from error

    def start_tags(self) -> None:
        """Begin the sort of the tags in another thread (SQLite lets go of the interpreter lock)."""
        self._first = self._helpers.submit(self._sort_tags)

    def _sort_tags(self) -> list[TagCells]:
        self._tag_cursor.execute(
            "SELECT position, count(*), min(type), max(type), group_concat(tag) FROM record_tags GROUP BY position"
        )
        return self._tag_cursor.fetchmany(PAGE)

    def tag_rows(self) -> Iterator[list[TagCells]]:
        try:
            if self._first is None:
                self.start_tags()
            assert self._first is not None
            rows = self._first.result()
            while rows:
                yield rows
                rows = self._tag_cursor.fetchmany(PAGE)
        except sqlite3.Error as error:
            raise self._said(error) from error

    def integrity(self) -> list[str]:
        try:
            return self._integrity.result()
        except sqlite3.Error as error:
            raise self._said(error) from error

    def _check(self) -> list[str]:
        db = self._connect()
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        for db in self._connections:
            db.interrupt()
        self._helpers.shutdown(wait=True)
        for db in self._connections:
            db.close()

    def _said(self, error: BaseException) -> BaseException:
        if isinstance(error, sqlite3.Error):
            return sqlite_file.from_sqlite(error, self._path)
        return error


def _objects(db: sqlite3.Connection) -> dict[str, str]:
    rows = db.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
    return {
        f"{type_} {name}": str(sql) for type_, name, sql in rows if not str(name).startswith("sqlite_stat")
    }


def _shipped() -> dict[str, str]:
    db = sqlite3.connect(":memory:")
    try:
        db.executescript((Path(__file__).parent / "sql" / "schema.sql").read_text(encoding="utf-8"))
        return _objects(db)
    finally:
        db.close()


class LogInspector:
    """Any log through its port: no cells, only leaves and bodies."""

    def __init__(self, log: Log) -> None:
        self._log = log

    @property
    def kind(self) -> str:
        return self._log.kind

    def tables(self) -> None:
        """There are no tables."""

    def records(self) -> Iterator[list[Cells]]:
        size = self._log.head().size
        leaves = self._log.leaves(until=size)
        for page in self._log.pages(until=size, size=PAGE):
            yield [
                (position, None, None, leaf, body)
                for (position, body), leaf in zip(page, leaves, strict=False)
            ]

    def tag_rows(self) -> Iterator[list[TagCells]]:
        return iter(())

    def integrity(self) -> list[str]:
        return []

    def close(self) -> None:
        """The log stays open: it is not ours."""
