"""The file of a SQLite log: creating it whole or not at all, opening it, and naming what is wrong with it."""

from __future__ import annotations

import os
import sqlite3
import threading
from collections.abc import Iterator
from contextlib import closing
from pathlib import Path

from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UnfitError,
    WrongError,
)
from muniment.store import migrations
from muniment.store.api import KIND_OPAQUE, KIND_RECORDS, not_finished
from muniment.store.migrations import Step

FILE_NAME = "log.db"

# 4 KiB: a commit writes every page it touches to the WAL whole, seven for a record with three tags. Measured
# for single durable appends: 5.1 k/s with 4 KiB, 4.3 k/s with 8 KiB, 2.9 k/s with 16 KiB pages.
PAGE_SIZE = 4096
# 16 MB between checkpoints, each of which some append has to wait for: batches of 1000 run at 0.35 of the bare
# insert with 4000 pages, at 0.28 with 1000. Not more: a WAL that still grows syncs slower than one that is written
# over (3.9 k/s for single appends once it is, 3.0 k/s with 16 000 pages), and reading back a crash takes longer.
WAL_PAGES = 4000

APPLICATION_IDS = {KIND_RECORDS: 0x4D554E52, KIND_OPAQUE: 0x4D554E4F}  # "MUNR", "MUNO"
_KINDS = {number: kind for kind, number in APPLICATION_IDS.items()}
# "MUNr", "MUNo": a log that is being copied, or a backup. It gets its own number when it is whole (ops/decisions/0014).
UNFINISHED_IDS = {kind: number | 0x20 for kind, number in APPLICATION_IDS.items()}
_UNFINISHED = {number: kind for kind, number in UNFINISHED_IDS.items()}

# Their locks and shared memory do not hold between hosts: https://www.sqlite.org/wal.html, section 1.
NETWORK_FILE_SYSTEMS = frozenset(
    (
        *(
            "9p",
            "afs",
            "beegfs",
            "ceph",
            "cifs",
            "gfs2",
            "glusterfs",
            "gpfs",
            "lustre",
            "ncpfs",
            "nfs",
            "nfs4",
        ),
        *("ocfs2", "orangefs", "smb2", "smb3", "smbfs"),
        *("fuse.ceph", "fuse.glusterfs", "fuse.rclone", "fuse.s3fs", "fuse.sshfs"),
    )
)
MOUNTS = Path("/proc/self/mountinfo")


def create(folder: Path, kind: str, *, mounts: Path = MOUNTS, unfinished: bool = False) -> None:
    """Create an empty log of a kind; `unfinished`: one that is no store before `finish`.

    It is made under another name, synced, then linked to its own: an interrupted create leaves no store.

    Raises:
        ConflictError: there is one already.
        UnfitError: the folder is on a network file system.
        UnavailableError: disk full, no permission.
    """
    if kind not in APPLICATION_IDS:
        raise InvalidError(
            f"no such kind of log: {kind}", code="store.kind", expected=sorted(APPLICATION_IDS)
        )
    path = folder / FILE_NAME
    try:
        if path.exists():
            raise _exists(path)
        refuse_network_file_system(folder, mounts)
        made = _make(folder)
        draft = (
            folder / f".{FILE_NAME}.{threading.get_native_id()}"
        )  # of two threads at once, neither takes the other's
        try:
            draft.unlink(missing_ok=True)
            _build(draft, (UNFINISHED_IDS if unfinished else APPLICATION_IDS)[kind])
            sync(draft)
            try:
                os.link(draft, path)
            except FileExistsError as error:
                raise _exists(path) from error
        finally:
            draft.unlink(missing_ok=True)
        for each in (folder, *made):  # each new name, down to the first folder that stood there before
            sync(each)
    except OSError as error:
        raise from_os(error, path) from error
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from error


def _make(folder: Path) -> list[Path]:
    """Make a folder (0700) and those above it; return the folders that hold a new name, innermost first."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for index, item in enumerate(reversed(missing), 1):
        item.mkdir(mode=0o700 if index == len(missing) else 0o777, exist_ok=True)
    return [item.parent for item in missing] or [folder.parent]


def _build(path: Path, number: int) -> None:
    db = sqlite3.connect(path, isolation_level=None)
    try:
        db.execute(f"PRAGMA page_size = {PAGE_SIZE}")
        db.execute(f"PRAGMA application_id = {number}")
        for step in migrations.steps("sqlite"):
            take(db, step)
        db.execute("PRAGMA journal_mode = WAL")
    finally:
        db.close()


def take(db: sqlite3.Connection, step: Step) -> None:
    """Take the next step, whole or not at all, unless somebody else has taken it meanwhile.

    Raises:
        sqlite3.Error: for the caller to translate.
    """
    db.execute("BEGIN IMMEDIATE")
    try:
        if version(db) < step.number:
            for statement in _statements(step.text):
                db.execute(statement)
            db.execute(f"PRAGMA user_version = {step.number}")
        db.execute("COMMIT")
    except BaseException:
        if db.in_transaction:
            db.execute("ROLLBACK")
        raise


def version(db: sqlite3.Connection) -> int:
    """Version of the schema of an opened database."""
    return int(db.execute("PRAGMA user_version").fetchone()[0])


def _statements(text: str) -> Iterator[str]:
    """One at a time: `executescript` would commit first."""
    pending = ""
    for line in text.splitlines(keepends=True):
        pending += line
        if ";" in line and sqlite3.complete_statement(pending):
            yield pending
            pending = ""
    assert not pending.strip() or all(not rest or rest.startswith("--") for rest in pending.splitlines()), (
        pending
    )


def connect(path: Path, *, busy_s: float, write: bool = False, immutable: bool = False) -> sqlite3.Connection:
    """Open a connection that any one thread at a time may use; `mode=ro` unless it is to write.

    Raises:
        sqlite3.Error: for the caller to translate, at the place that knows what was tried.
    """
    mode = "rw" if write else "ro"
    uri = f"{path.absolute().as_uri()}?mode={mode}{'&immutable=1' if immutable else ''}"
    db = sqlite3.connect(
        uri, uri=True, isolation_level=None, timeout=busy_s, check_same_thread=False, cached_statements=256
    )
    try:
        if write:
            db.execute("PRAGMA synchronous = FULL")
            db.execute(f"PRAGMA wal_autocheckpoint = {WAL_PAGES}")
        else:
            db.execute("PRAGMA query_only = 1")
    except BaseException:
        db.close()
        raise
    return db


def is_frozen(path: Path) -> bool:
    """Tell whether the log is to be read as an unchanging copy: its folder is read-only (settled.md, 12).

    Raises:
        UnavailableError: it is such a copy, but was taken with a WAL that still holds records.
    """
    if os.access(path.parent, os.W_OK):
        return False
    wal = path.with_name(path.name + "-wal")
    if wal.exists() and wal.stat().st_size > 0:
        raise UnavailableError(
            f"{path} cannot be read: its folder is read-only and a write-ahead log stands beside it",
            code="store.unmerged_wal",
            hint="open it once where it can be written, or copy the folder to such a place",
            found=f"{wal.name}, {wal.stat().st_size} bytes",
        )
    return True


def identify(
    db: sqlite3.Connection, path: Path, *, any_version: bool = False, unfinished: bool = False
) -> str:
    """Return the kind of an opened log; `unfinished`: of one that is no store yet.

    Raises:
        UnavailableError: no store yet. ConflictError: a store, where an unfinished one was asked for.
        WrongError: a database, but not a log of ours.
        InvalidError: a log with another version of the schema (`store.version`), if that matters.
        sqlite3.Error: for the caller to translate.
    """
    number = db.execute("PRAGMA application_id").fetchone()[0]
    if number in _UNFINISHED and not unfinished:
        raise not_finished(str(path))
    if number in _KINDS and unfinished:
        raise _exists(path)
    kinds = _UNFINISHED if unfinished else _KINDS
    if number not in kinds:
        raise WrongError(
            f"{path} is not a Muniment log",
            code="store.not_a_log",
            expected=[f"{known:#x}" for known in _KINDS],
            found=f"{number:#x}",
        )
    if not any_version:
        migrations.check_version(str(path), version(db), "sqlite")
    return kinds[number]


def finish(path: Path, kind: str, *, busy_s: float) -> None:
    """Make an unfinished log a store: one durable write of its number.

    Raises:
        UnavailableError: locked, full, read-only; it is as before.
    """
    try:
        with closing(connect(path, busy_s=busy_s, write=True)) as db:
            identify(db, path, unfinished=True)
            db.execute(f"PRAGMA application_id = {APPLICATION_IDS[kind]}")
    except sqlite3.Error as error:
        raise from_sqlite(error, path) from error


def find(folder: Path) -> Path:
    """Return the path of the database in a store folder.

    Raises:
        NotFoundError: there is none.
        UnavailableError: the folder cannot be looked into.
    """
    path = folder / FILE_NAME
    try:
        path.stat()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"no store at {folder}", code="store.not_found", hint="muniment init") from error
    except OSError as error:
        raise from_os(error, path) from error
    return path


def refuse_network_file_system(folder: Path, mounts: Path = MOUNTS) -> None:
    """Refuse a folder (existing or about to be) that other hosts may share.

    Raises:
        UnfitError: `store.network_file_system`.
    """
    try:
        lines = mounts.read_text(encoding="utf-8", errors="surrogateescape").splitlines()
    except OSError:
        return  # not Linux: nothing to ask
    place, found, longest = folder.resolve(), "", -1
    for line in lines:
        left, _, right = line.partition(" - ")
        point, kind = left.split(" ")[4:5], right.split(" ", 1)[0]
        if not point:
            continue
        mount = Path(point[0].replace("\\040", " ").replace("\\011", "\t").replace("\\134", "\\"))
        # Of two mounts on one point the later one is on top.
        if place.is_relative_to(mount) and len(mount.parts) >= longest:
            longest, found = len(mount.parts), kind
    if found in NETWORK_FILE_SYSTEMS:
        raise UnfitError(
            f"{folder} is on a network file system, where the locks of SQLite do not hold",
            code="store.network_file_system",
            hint="keep the store on a local disk; for a team use PostgreSQL",
            found=found,
        )


def sync(path: Path) -> None:
    """Make a file, or the names in a folder, durable."""
    handle = os.open(path, os.O_RDONLY)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


def from_sqlite(error: sqlite3.Error, path: Path) -> MunimentError:
    """Say in our words what the driver said. What is unknown is unavailable, never fine."""
    code = getattr(error, "sqlite_errorcode", 0) & 0xFF
    detail = getattr(error, "sqlite_errorname", type(error).__name__)
    kind, name, text, hint = _MEANING.get(
        code, (UnavailableError, "store.sqlite", "the database did not answer", "")
    )
    if isinstance(error, sqlite3.ProgrammingError) and "closed" in str(error):
        name, text = "store.closed", "the log is closed"
    return kind(f"{path}: {text}", code=name, hint=hint, found=f"{detail}: {error}")


def from_os(error: OSError, path: Path) -> MunimentError:
    """The same for the file system."""
    return UnavailableError(f"{path}: {error.strerror or error}", code="store.io", found=type(error).__name__)


def _exists(path: Path) -> ConflictError:
    return ConflictError(
        f"there is a store already: {path}", code="store.exists", hint="use it, or name another"
    )


_MEANING: dict[int, tuple[type[MunimentError], str, str, str]] = {
    sqlite3.SQLITE_BUSY: (
        UnavailableError,
        "store.locked",
        "another process kept the log locked",
        "try again; see which process holds it",
    ),
    sqlite3.SQLITE_LOCKED: (UnavailableError, "store.locked", "the log is locked", "try again"),
    sqlite3.SQLITE_READONLY: (
        UnavailableError,
        "store.read_only",
        "the log cannot be written",
        "check the rights on the folder and the file",
    ),
    sqlite3.SQLITE_PERM: (UnavailableError, "store.permission", "no permission", "check the rights"),
    sqlite3.SQLITE_CANTOPEN: (
        UnavailableError,
        "store.cannot_open",
        "the log cannot be opened",
        "check the rights on the folder and the file",
    ),
    sqlite3.SQLITE_IOERR: (UnavailableError, "store.io", "reading or writing failed", "check the disk"),
    sqlite3.SQLITE_FULL: (UnavailableError, "store.full", "the disk is full", "make room, then try again"),
    sqlite3.SQLITE_CORRUPT: (
        WrongError,
        "store.corrupt",
        "the database is damaged",
        "muniment verify; restore a copy",
    ),
    sqlite3.SQLITE_NOTADB: (WrongError, "store.not_a_database", "not a database", "restore a copy"),
    sqlite3.SQLITE_CONSTRAINT: (
        WrongError,
        "store.head_mismatch",
        "the rows of the log go beyond its head",
        "muniment verify; restore a copy",
    ),
    sqlite3.SQLITE_ERROR: (
        WrongError,
        "store.schema",
        "the tables are not those of this schema",
        "muniment verify; restore a copy",
    ),
}
