"""What makes a commit durable, asked of a store as it is now. `doctor` says it; the writers demand the same when they write."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path

import psycopg
from muniment.store import sqlite_file
from muniment.store.open import folder_of
from muniment.store.postgres_errors import from_postgres
from muniment.store.postgres_url import is_postgres, parse

Setting = tuple[str, str, str]
"""(name, expected, found); expected may hold alternatives, with a bar between them."""

_SYNCHRONOUS = ("OFF", "NORMAL", "FULL", "EXTRA")  # PRAGMA synchronous, by number


def durable_settings(url: str | Path) -> tuple[Setting, ...]:
    """The settings on which durability rests. Nothing is written.

    SQLite: the journal mode stands in the file, `synchronous` is what a connection of our writers has; a user who may not write has
    none, and the setting is left out. PostgreSQL: of the server, and of a session as our writers open it.

    Raises:
        NotFoundError, DeniedError, UnavailableError, WrongError, UsageError: see `store.open.open_log`.
    """
    return _postgres(str(url)) if is_postgres(url) else _sqlite(folder_of(url))


def _sqlite(folder: Path) -> tuple[Setting, ...]:
    path = sqlite_file.find(folder)
    frozen = sqlite_file.is_frozen(path)
    write = not frozen and os.access(path, os.W_OK)
    try:
        with closing(sqlite_file.connect(path, busy_s=5.0, write=write, immutable=frozen)) as db:
            mode = str(db.execute("PRAGMA journal_mode").fetchone()[0])
            if frozen and _is_wal(path):
                mode = "wal"  # a connection to an unchanging file uses no WAL and says "delete"
            found = [("journal_mode", "wal", mode)]
            if write:
                number = int(db.execute("PRAGMA synchronous").fetchone()[0])
                found.append(("synchronous", "FULL|EXTRA", _SYNCHRONOUS[number]))
    except sqlite3.Error as error:
        raise sqlite_file.from_sqlite(error, path) from error
    return tuple(found)


def _is_wal(path: Path) -> bool:
    """Whether the header of the file says so: https://www.sqlite.org/fileformat2.html, section 1.3.3. Raises UnavailableError."""
    try:
        with path.open("rb") as file:
            return file.read(20)[18:] == b"\2\2"
    except OSError as error:
        raise sqlite_file.from_os(error, path) from error


def _postgres(url: str) -> tuple[Setting, ...]:
    from muniment.store.postgres_pool import connect

    place = parse(url)
    with closing(connect(place)) as db:
        try:
            rows = db.execute(
                "SELECT current_setting('fsync'), current_setting('full_page_writes'), current_setting('synchronous_commit')"
            ).fetchall()
        except psycopg.Error as error:
            raise from_postgres(error, place.name) from error
    fsync, pages, commit = rows[0]
    return (
        ("fsync", "on", fsync),
        ("full_page_writes", "on", pages),
        ("synchronous_commit", "on|remote_write|remote_apply", commit),
    )
