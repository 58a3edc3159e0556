"""Look at a store as it lies there, column by column: what `verify` compares with the record bytes.

The `Log` port answers from indexes and trusts its columns; an inspector hands every cell out as it is and judges nothing. Of a
log that has no cells of its own (memory) it gives positions, leaves and bodies only.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Collection, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from muniment.store import migrations, sqlite_file
from muniment.store.api import Log, not_finished
from muniment.store.indexed_log import IndexedLog
from muniment.store.open import folder_of
from muniment.store.postgres_url import is_postgres
from muniment.store.reads import Term
from muniment.store.sqlite_log import SqliteLog

PAGE = 2048
MIN_POSITION, MAX_POSITION = -(2**63), 2**63 - 1
_RECORDS = (
    "SELECT position, id, leaf, body FROM records WHERE position >= ? AND position <= ? ORDER BY position"
)
_HISTORY = "SELECT first, entries FROM postings WHERE term = ? AND first > ? ORDER BY first"

Cells = tuple[Any, Any, Any, Any]
"""(position, id, leaf, body) as stored; any cell may be of any type in a store that was changed."""

PostingCells = tuple[Any, Any, Any]
"""(term, first, entries) as stored, in order of term and first."""


class Tables(NamedTuple):
    """What a database holds beside records and tags.

    Attributes:
        settings: name -> (expected, found). schema: object -> (expected sql, found sql), None where there is none.
        heads: rows of the head table: (one, size, frontier, recorded_at, indexed).
        types: names by number.
    """

    settings: dict[str, tuple[Any, Any]]
    schema: dict[str, tuple[str | None, str | None]]
    heads: list[tuple[Any, ...]]
    types: dict[Any, Any]


class Inspector(Protocol):
    """A store laid open. Close it."""

    @property
    def kind(self) -> str:
        """`records`, `opaque`, or "" if that cannot be told."""
        ...

    def tables(self) -> Tables | None:
        """The cells beside the records; None if the log has none of its own."""
        ...

    @property
    def address(self) -> str:
        """What `reader` opens the same log by in another process; "" if none can."""
        ...

    def last(self) -> int:
        """The largest position, 0 if there is none."""
        ...

    def records(self, after: int | None = None, until: int | None = None) -> Iterator[list[Cells]]:
        """Every row of records, in order of position; those of `after < position <= until` if these are given."""
        ...

    def postings(self) -> Iterator[list[PostingCells]]:
        """Every row of the index."""
        ...

    def histories(self, terms: Collection[Term], after: int) -> dict[Term, list[tuple[Any, Any]]]:
        """The rows of each term that begin after a position: (first, entries), in order."""
        ...

    def term(self, term: Term) -> Any:
        """A term of the index in the form in which `postings` gives it."""
        ...

    def integrity(self) -> list[str]:
        """What the database says is wrong with itself; [] if nothing."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


def inspector(store: Log | Path | str, *, check: bool = True) -> Inspector:
    """Lay a store open: a log, or the folder or URL of one.

    Args:
        check: let the database begin to check itself meanwhile, which costs what the log costs; else it does when `integrity` asks.

    Raises:
        NotFoundError: no store there.
        WrongError: not a database.
        UnavailableError: cannot be read now.
    """
    if isinstance(store, SqliteLog):
        return SqliteInspector(store._path, unfinished=store.unfinished, check=check)
    if is_postgres(store):
        from muniment.store.inspect_postgres import PostgresInspector
        from muniment.store.postgres_url import parse

        return PostgresInspector(parse(str(store)))
    if isinstance(store, IndexedLog):
        from muniment.store.inspect_postgres import PostgresInspector

        return PostgresInspector(store.place)  # type: ignore[attr-defined]
    if isinstance(store, Path | str):
        return SqliteInspector(sqlite_file.find(folder_of(store)), check=check)
    return LogInspector(store)


def reader(address: str) -> Reader:
    """Open a log again by the `address` of an inspector, to read its records alone. Close it.

    Raises:
        MunimentError: it cannot be read, see `inspector`.
    """
    if address.startswith("{"):
        from muniment.store.inspect_postgres import PostgresReader

        return PostgresReader.at(address)
    return SqliteReader(Path(address))


class Reader(Protocol):
    """The part of an inspector that another process needs."""

    def records(self, after: int | None = None, until: int | None = None) -> Iterator[list[Cells]]:
        """See `Inspector.records`."""
        ...

    def close(self) -> None:
        """Release everything."""
        ...


class SqliteReader:
    """The records of a SQLite log, each call in a snapshot of its own."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._connections: list[sqlite3.Connection] = []
        try:
            self._frozen = sqlite_file.is_frozen(path)
            self._main = self._connect()
        except sqlite3.Error as error:
            raise sqlite_file.from_sqlite(error, path) from error

    def _connect(self) -> sqlite3.Connection:
        db = sqlite_file.connect(self._path, busy_s=5.0, immutable=self._frozen)
        self._connections.append(db)
        # Text that is no UTF-8 is a finding, not a fault of ours.
        db.text_factory = lambda data: data.decode("utf-8", "backslashreplace")
        return db

    def _rows(self, sql: str, values: tuple[Any, ...] = ()) -> Iterator[list[Any]]:
        try:
            cursor = self._main.execute(sql, values)
            while rows := cursor.fetchmany(PAGE):
                yield rows
        except sqlite3.Error as error:
            raise sqlite_file.from_sqlite(error, self._path) from error

    def records(self, after: int | None = None, until: int | None = None) -> Iterator[list[Cells]]:
        limits = (MIN_POSITION if after is None else after + 1, MAX_POSITION if until is None else until)
        return self._rows(_RECORDS, limits)

    def close(self) -> None:
        for db in self._connections:
            db.close()


class SqliteInspector(SqliteReader):
    """A SQLite log in one snapshot; the database may check itself in another thread meanwhile."""

    def __init__(self, path: Path, *, unfinished: bool = False, check: bool = True) -> None:
        self._ids = sqlite_file.UNFINISHED_IDS if unfinished else sqlite_file.APPLICATION_IDS
        self._helper = ThreadPoolExecutor(1, thread_name_prefix="muniment-inspect")
        try:
            super().__init__(path)
            self._main.execute("BEGIN")
            self._main.execute(
                "SELECT count(*) FROM sqlite_master"
            ).fetchone()  # no database: that is said here
            self._integrity: Future[list[str]] | None = self._helper.submit(self._check) if check else None
        except BaseException as error:
            self.close()
            if isinstance(error, sqlite3.Error):
                raise sqlite_file.from_sqlite(error, path) from error
            raise

    @property
    def address(self) -> str:
        return str(self._path.absolute())

    def last(self) -> int:
        found = self._few("SELECT max(position) FROM records")
        return found[0][0] or 0 if found else 0

    def _few(self, sql: str) -> list[Any]:
        """Rows of a small table; none if there is no such table or column: the schema check says so."""
        with suppress(sqlite3.OperationalError):
            return self._main.execute(sql).fetchall()
        return []

    @property
    def kind(self) -> str:
        number = self._main.execute("PRAGMA application_id").fetchone()[0]
        if number in sqlite_file.UNFINISHED_IDS.values() and number not in self._ids.values():
            raise not_finished(str(self._path))
        return next((kind for kind, known in self._ids.items() if known == number), "")

    def tables(self) -> Tables:
        try:
            kind = self.kind
            wanted = self._ids.get(kind)
            settings = {
                "PRAGMA application_id": (
                    wanted if wanted is not None else sorted(self._ids.values()),
                    self._main.execute("PRAGMA application_id").fetchone()[0],
                ),
                "PRAGMA user_version": (
                    migrations.version("sqlite"),
                    self._main.execute("PRAGMA user_version").fetchone()[0],
                ),
            }
            found, expected = _objects(self._main), _shipped()
            schema = {name: (expected.get(name), found.get(name)) for name in sorted({*found, *expected})}
            heads = self._few("SELECT one, size, frontier, recorded_at, indexed FROM head")
            return Tables(settings, schema, heads, dict(self._few("SELECT id, name FROM types")))
        except sqlite3.Error as error:
            raise sqlite_file.from_sqlite(error, self._path) from error

    def postings(self) -> Iterator[list[PostingCells]]:
        return self._rows("SELECT term, first, entries FROM postings ORDER BY term, first")

    def histories(self, terms: Collection[Term], after: int) -> dict[Term, list[tuple[Any, Any]]]:
        return {term: [row for rows in self._rows(_HISTORY, (term, after)) for row in rows] for term in terms}

    def term(self, term: Term) -> Any:
        return term

    def integrity(self) -> list[str]:
        try:
            return self._integrity.result() if self._integrity is not None else self._check()
        except sqlite3.Error as error:
            raise sqlite_file.from_sqlite(error, self._path) from error

    def _check(self) -> list[str]:
        db = self._connect()
        found = [str(row[0]) for row in db.execute("PRAGMA integrity_check(20)")]
        return [] if found == ["ok"] else found

    def close(self) -> None:
        for db in self._connections:
            db.interrupt()
        self._helper.shutdown(wait=True)
        super().close()


def _objects(db: sqlite3.Connection) -> dict[str, str]:
    rows = db.execute("SELECT type, name, coalesce(sql, '') FROM sqlite_master")
    return {
        f"{type_} {name}": str(sql) for type_, name, sql in rows if not str(name).startswith("sqlite_stat")
    }


def _shipped() -> dict[str, str]:
    db = sqlite3.connect(":memory:")
    try:
        for step in migrations.steps("sqlite"):
            db.executescript(step.text)
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

    @property
    def address(self) -> str:
        return ""

    def last(self) -> int:
        return self._log.head().size

    def records(self, after: int | None = None, until: int | None = None) -> Iterator[list[Cells]]:
        after, size = max(after or 0, 0), self.last()
        until = size if until is None else min(until, size)
        if after >= until:
            return
        leaves = self._log.leaves(after=after, until=until)
        for page in self._log.pages(after=after, until=until, size=PAGE):
            yield [(position, None, leaf, body) for (position, body), leaf in zip(page, leaves, strict=False)]

    def postings(self) -> Iterator[list[PostingCells]]:
        return iter(())

    def histories(self, terms: Collection[Term], after: int) -> dict[Term, list[tuple[Any, Any]]]:  # noqa: ARG002
        return {term: [] for term in terms}  # there is no index

    def term(self, term: Term) -> Any:
        return term

    def integrity(self) -> list[str]:
        return []

    def close(self) -> None:
        """The log stays open: it is not ours."""
