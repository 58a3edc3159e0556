"""What a benchmark stands on: a database of one kind, on which it makes logs and their peers, gone at the end.

SQLite: files in a private folder; bare SQLite with WAL and FULL. PostgreSQL: schemas of their own in a database that is there
already (`--store postgresql://…`); the bare floor is one statement a commit, a counter row for gap-free positions and
`INSERT … unnest` of binary arrays (the fastest of those measured; COPY is within 5 %).
"""

from __future__ import annotations

import contextlib
import os
import shutil
import sqlite3
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from muniment.ops.bench import data, peers
from muniment.store.api import Log
from muniment.store.open import create_log
from muniment.store.postgres_url import is_postgres

if TYPE_CHECKING:
    from muniment.ops.bench.harness import Options


class Ground(Protocol):
    """Where a benchmark makes what it measures.

    Attributes:
        kind: `sqlite3` or `psycopg`: what a bare peer is called after. folder: for files. version: of the database.
    """

    kind: str
    folder: Path
    version: str

    def log(self, name: str) -> Log:
        """An empty log."""
        ...

    def url(self, name: str) -> str:
        """The URL of a log that was made."""
        ...

    def application(self, name: str) -> peers.Subjects:
        """An application of the library."""
        ...

    def bare(self, name: str) -> peers.Bare:
        """A bare table."""
        ...

    def bytes_of(self, name: str) -> int:
        """Bytes on disk of what was made under a name and closed, nothing left beside it."""
        ...


@contextlib.contextmanager
def ground(options: Options) -> Iterator[Ground]:
    """The ground that the options name."""
    folder = Path(tempfile.mkdtemp(prefix="muniment-bench-", dir=options.folder))
    try:
        if is_postgres(options.store):
            with _postgres(options.store, folder) as made:
                yield made
        else:
            yield SqliteGround(folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def filled(
    stack: contextlib.ExitStack, options: Options, size: int
) -> tuple[Ground, Log, peers.Subjects, peers.Bare]:
    """The ground, a log of that many records, and its peers with as many; closed with the stack."""
    made = stack.enter_context(ground(options))
    log = stack.enter_context(contextlib.closing(made.log("log")))
    data.fill(log, size)
    app = made.application("es")
    stack.callback(app.close)
    peers.fill_application(app, size)
    bare = stack.enter_context(contextlib.closing(made.bare("bare")))
    bare.fill(size)
    return made, log, app, bare


class SqliteGround:
    """Folders of files."""

    kind = "sqlite3"
    version = f"SQLite {sqlite3.sqlite_version}"

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def log(self, name: str) -> Log:
        return create_log(self.folder / name)

    def url(self, name: str) -> str:
        return str(self.folder / name)

    def application(self, name: str) -> peers.Subjects:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return peers.application(
            {
                "PERSISTENCE_MODULE": "eventsourcing.sqlite",
                "SQLITE_DBNAME": str(place / "es.db"),
                "SQLITE_LOCK_TIMEOUT": "60",
            }
        )

    def bare(self, name: str) -> peers.Bare:
        place = self.folder / name
        place.mkdir(exist_ok=True)
        return BareSqlite(place / "bare.db")

    def bytes_of(self, name: str) -> int:
        place = self.folder / name
        for file in sorted(place.glob("*.db")):
            with contextlib.closing(sqlite3.connect(file)) as db:
                db.execute("PRAGMA wal_checkpoint(TRUNCATE)")
        return sum(file.stat().st_size for file in place.rglob("*") if file.is_file())


class BareSqlite(peers.Bare):
    """The bare table in a SQLite file."""

    INSERT = "INSERT INTO e VALUES (?, ?, ?, ?, ?)"

    def __init__(self, path: Path) -> None:
        super().__init__()
        self.db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
        self.db.execute("PRAGMA journal_mode = WAL")
        self.db.execute("PRAGMA synchronous = FULL")
        self.db.executescript(
            "CREATE TABLE e (pos INTEGER PRIMARY KEY, sid INTEGER NOT NULL, ver INTEGER NOT NULL,"
            " typ INTEGER NOT NULL, body BLOB NOT NULL); CREATE UNIQUE INDEX e_s ON e (sid, ver)"
        )

    def insert_each(self, rows: Sequence[peers.Row]) -> None:
        for row in rows:
            self.db.execute(self.INSERT, row)

    def insert_group(self, rows: Sequence[peers.Row]) -> None:
        self.db.execute("BEGIN IMMEDIATE")
        self.db.executemany(self.INSERT, rows)
        self.db.execute("COMMIT")

    def scan(self, size: int = 2000) -> Iterator[list[tuple[int, bytes]]]:
        cursor = self.db.execute("SELECT pos, body FROM e ORDER BY pos")
        while page := cursor.fetchmany(size):
            yield page

    def stream(self, number: int) -> list[tuple[int, bytes]]:
        return self.db.execute("SELECT pos, body FROM e WHERE sid = ? ORDER BY ver", (number,)).fetchall()

    def close(self) -> None:
        self.db.close()


class PostgresGround:
    """Schemas of one database."""

    kind = "psycopg"

    def __init__(self, url: str, folder: Path, db: Any) -> None:
        self._url = url
        self._prefix = f"bench_{os.getpid()}_"
        self._db = db
        self._made: list[str] = []
        self.folder = folder
        self.version = f"PostgreSQL {db.info.parameter_status('server_version')}"

    def _schema(self, name: str) -> str:
        schema = self._prefix + "".join(c if c.isalnum() else "_" for c in name.lower())
        self._made.append(schema)
        return schema

    def log(self, name: str) -> Log:
        self._schema(name)
        return create_log(self.url(name))

    def url(self, name: str) -> str:
        schema = self._prefix + "".join(c if c.isalnum() else "_" for c in name.lower())
        return f"{self._url}{'&' if '?' in self._url else '?'}schema={schema}"

    def application(self, name: str) -> peers.Subjects:
        schema = self._schema(name)
        self._db.execute(f'CREATE SCHEMA "{schema}"')
        info = self._db.info
        return peers.application(
            {
                "PERSISTENCE_MODULE": "eventsourcing.postgres",
                "POSTGRES_DBNAME": info.dbname,
                "POSTGRES_HOST": info.host,
                "POSTGRES_PORT": str(info.port),
                "POSTGRES_USER": info.user,
                "POSTGRES_PASSWORD": info.password or "none",
                "POSTGRES_SCHEMA": schema,
                "POSTGRES_POOL_SIZE": "16",
                "POSTGRES_PRE_PING": "n",
            }
        )

    def bare(self, name: str) -> peers.Bare:
        schema = self._schema(name)
        self._db.execute(f'CREATE SCHEMA "{schema}"')
        return BarePostgres(self._url, schema)

    def bytes_of(self, name: str) -> int:
        schema = self._prefix + name
        found = self._db.execute(
            "SELECT sum(pg_total_relation_size(c.oid)) FROM pg_class AS c WHERE relkind = 'r'"
            " AND relnamespace = %s::regnamespace",
            (schema,),
        ).fetchone()
        return int(found[0])

    def drop(self) -> None:
        """Remove every schema that was made."""
        for schema in self._made:
            self._db.execute(f'DROP SCHEMA IF EXISTS "{schema}" CASCADE')


class BarePostgres(peers.Bare):
    """The bare table in a schema."""

    def __init__(self, url: str, schema: str) -> None:
        import psycopg

        super().__init__()
        self.db = psycopg.connect(url, autocommit=True, prepare_threshold=0)
        self.db.execute(f'SET search_path TO "{schema}"')
        self.db.execute(
            "CREATE TABLE e (pos bigint PRIMARY KEY, sid bigint NOT NULL, ver bigint NOT NULL,"
            " typ int NOT NULL, body bytea NOT NULL); CREATE UNIQUE INDEX e_s ON e (sid, ver);"
            " CREATE TABLE c (pos bigint NOT NULL) WITH (fillfactor = 10); INSERT INTO c VALUES (0)",
            prepare=False,
        )

    def insert_each(self, rows: Sequence[peers.Row]) -> None:
        for _, stream, version, kind, body in rows:
            self.db.execute(
                "WITH n AS (UPDATE c SET pos = pos + 1 RETURNING pos) INSERT INTO e"
                " SELECT n.pos, %b::bigint, %b::bigint, %b::int, %b FROM n",
                (stream, version, kind, body),
            )

    def insert_group(self, rows: Sequence[peers.Row]) -> None:
        _, streams, versions, kinds, bodies = zip(*rows, strict=True)
        count = len(rows)
        self.db.execute(
            "WITH n AS (UPDATE c SET pos = pos + %b::bigint RETURNING pos - %b::bigint AS was) INSERT INTO e"
            " SELECT n.was + u.o, u.s, u.v, u.k, u.b FROM n, unnest(%b::bigint[], %b::bigint[], %b::int[],"
            " %b::bytea[]) WITH ORDINALITY AS u(s, v, k, b, o)",
            (count, count, list(streams), list(versions), list(kinds), list(bodies)),
        )

    def scan(self, size: int = 2000) -> Iterator[list[tuple[int, bytes]]]:
        after = 0
        while True:
            page = self.db.execute(
                "SELECT pos, body FROM e WHERE pos > %s ORDER BY pos LIMIT %s", (after, size), binary=True
            ).fetchall()
            if not page:
                return
            yield page
            after = page[-1][0]

    def stream(self, number: int) -> list[tuple[int, bytes]]:
        return self.db.execute(
            "SELECT pos, body FROM e WHERE sid = %s ORDER BY ver", (number,), binary=True
        ).fetchall()

    def close(self) -> None:
        self.db.close()


@contextlib.contextmanager
def _postgres(url: str, folder: Path) -> Iterator[PostgresGround]:
    import psycopg

    with psycopg.connect(url, autocommit=True) as db:
        made = PostgresGround(url, folder, db)
        try:
            yield made
        finally:
            made.drop()
