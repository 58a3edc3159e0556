"""The place of a copy: an unfinished log, which is no store; a folder that holds what its names say."""

from __future__ import annotations

import os
import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Protocol

from muniment.domain.errors import ConflictError, UnavailableError, UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.api import Log
from muniment.store.files import faults
from muniment.store.open import folder_of
from muniment.store.postgres_url import is_postgres, parse
from muniment.store.sqlite_file import FILE_NAME, MOUNTS, connect, from_sqlite
from muniment.store.sqlite_log import BUSY_S, SqliteLog

_INSIDE = (FILE_NAME, "evidence", "exports", "staging")
MANIFEST = "backup.json"  # makes an unfinished log a backup
# one process writes a backup, so it may lie on a network file system: no table of mounts is asked
_ANYWHERE = Path(os.devnull)


class Unfinished(Log, Protocol):
    """A log that is no store before `finish`."""

    def finish(self) -> None:
        """Make it a store, and close it."""
        ...


def begin(url: str | Path, kind: str, *, backup: bool = False) -> Unfinished:
    """The unfinished log at a place: a new one, or that of a copy which was cut.

    Args:
        backup: nobody but this process will ever write to it.

    Raises:
        ConflictError: there is a store, or something else. UsageError: a symlink, or no folder.
        WrongError: the unfinished log there is of another kind.
        DeniedError, UnfitError, UnavailableError: it cannot be made there.
    """
    if is_postgres(url):
        log = _postgres(str(url), kind)
    else:
        log = _sqlite(folder_of(url).absolute(), kind, _ANYWHERE if backup else MOUNTS)
    if log.kind != kind:
        log.close()
        raise WrongError(
            "the unfinished copy there is of another kind of log",
            code="store.kind",
            hint="name another place",
            expected=kind,
            found=log.kind,
        )
    return log


def _postgres(url: str, kind: str) -> Unfinished:
    from muniment.store.postgres_log import PostgresLog
    from muniment.store.postgres_pool import connect
    from muniment.store.postgres_schema import take_empty

    place = parse(url)._replace(unfinished=True)
    try:
        return PostgresLog.create(place, kind=kind)
    except ConflictError as standing:
        try:
            return PostgresLog.open(place)
        except WrongError:
            raise standing from None  # something else has that schema
        except ConflictError:  # a store: an empty one, made by `store migrate`, is as good as none
            with connect(place) as db:
                take_empty(db, place)
            return PostgresLog.open(place)


def _sqlite(folder: Path, kind: str, mounts: Path) -> Unfinished:
    check_folder(folder)
    with faults("look at", folder, "store"):
        names = [entry.name for entry in os.scandir(folder)] if folder.exists() else []
    if MANIFEST in names:
        raise ConflictError(
            f"{shown(folder)} is a backup",
            code="store.exists",
            hint="muniment store restore takes it elsewhere",
        )
    if FILE_NAME in names:
        return SqliteLog.open(folder, mounts=mounts, unfinished=True)
    # what a cut `create` may leave has a name of its own
    other = [name for name in names if not name.startswith(f".{FILE_NAME}.")]
    if other:
        raise ConflictError(
            f"{shown(folder)} is in use by something else",
            code="store.exists",
            hint="name a folder that is empty, or a new one",
            expected="an empty folder",
            found=", ".join(sorted(map(shown, other))[:3]),
        )
    try:
        return SqliteLog.create(folder, kind=kind, mounts=mounts, unfinished=True)
    except ConflictError:
        return SqliteLog.open(folder, mounts=mounts, unfinished=True)


def open_backup(folder: Path) -> SqliteLog:
    """The log of a backup, to be read. Raises as `SqliteLog.open`."""
    return SqliteLog.open(folder, read_only=True, mounts=_ANYWHERE, unfinished=True)


def settle(folder: Path) -> None:
    """Merge the write-ahead log of an unfinished log that nobody has open into its one file.

    Raises:
        UnavailableError: somebody has it open.
    """
    path = folder / FILE_NAME
    try:
        with closing(connect(path, busy_s=BUSY_S, write=True)) as db:
            busy, _, _ = db.execute("PRAGMA wal_checkpoint(TRUNCATE)").fetchone()
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from error
    if busy:
        raise UnavailableError(
            f"{shown(path)} is in use", code="store.locked", hint="see who has it open, then run it again"
        )


def check_folder(folder: Path) -> None:
    """Demand that a store's folder, and what a copy reads and writes in it, is what its name says.

    Raises:
        UsageError: a symlink, which could lead what is written anywhere; or no folder.
    """
    with faults("look at", folder, "store"):
        for path in (folder, *(folder / name for name in _INSIDE)):
            if path.is_symlink():
                raise UsageError(
                    f"{shown(path)} is a symlink",
                    code="store.symlink",
                    hint="name the folder itself",
                    expected="a folder or nothing",
                )
        if folder.exists() and not folder.is_dir():
            raise UsageError(f"{shown(folder)} is no folder", code="store.folder", hint="name a folder")
