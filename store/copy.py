"""Copy what a store holds into another one: records byte for byte, then evidence, in an order and in a place that survive a cut.

1. The target is *unfinished* until it is whole: its log carries the mark of a copy instead of that of a store (PostgreSQL: the
   comment of the schema; SQLite: `application_id`), and nothing but this module opens it. `finish` sets the mark in one
   transaction, so there is no moment at which half a copy is a store (ops/decisions/0014).
2. What is there of an unfinished log must be a prefix of the source, leaf by leaf; then the copy goes on behind it.
3. Each batch says at which size it goes in, and is one transaction: a cut loses the batch, two copies at once cannot mix.
4. A leaf is hashed from its bytes on the way and compared with the source's own; the root at the end with its head.
5. A blob is read and found right before a byte of it goes out, and the target hashes what arrives.
"""

from __future__ import annotations

import itertools
import os
import sqlite3
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import NamedTuple, Protocol

from muniment.domain.errors import ConflictError, NotFoundError, UnavailableError, UsageError, WrongError
from muniment.store import merkle
from muniment.store.api import Head, Log, Page
from muniment.store.evidence import EvidenceStore, Stored
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.files import faults, shown
from muniment.store.open import folder_of
from muniment.store.postgres_url import is_postgres, parse
from muniment.store.sqlite_file import FILE_NAME, MOUNTS, connect, from_sqlite
from muniment.store.sqlite_log import BUSY_S, SqliteLog

BATCH = 1024  # records in a transaction; at most 67 MB of them in memory
_BLOBS = 1000
_INSIDE = (FILE_NAME, "evidence", "exports", "staging")
MANIFEST = "backup.json"  # makes an unfinished log a backup
_ANYWHERE = Path(
    os.devnull
)  # no table of mounts: one process writes a backup, so it may lie on a network file system

Progress = Callable[[str, int, int], None]
"""(what: `records` or `bytes`, done, in all)."""


class Unfinished(Log, Protocol):
    """A log that is no store before `finish`."""

    def finish(self) -> None:
        """Make it a store, and close it."""
        ...


class Files(NamedTuple):
    """Evidence at the source: blobs, their bytes, how many were copied by this run; those that could not be, with the reason."""

    files: int = 0
    bytes: int = 0
    copied: int = 0
    missed: tuple[tuple[str, str], ...] = ()


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

    place = parse(url)._replace(unfinished=True)
    try:
        return PostgresLog.create(place, kind=kind)
    except ConflictError as standing:
        try:
            return PostgresLog.open(place)
        except WrongError:
            raise standing from None  # something else has that schema


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


def demand_first(source: Log) -> None:
    """Demand the record that says which log this is.

    Raises:
        NotFoundError: an empty log. WrongError: its first record is damaged or gone.
    """
    if not source.head().size:
        raise NotFoundError(
            "the source holds no records", code="store.empty", hint="muniment init makes its first"
        )
    for page in source.pages(until=1):
        _hashed(page, source.leaves(until=1), 0)
        return
    raise _damaged(1, "a record", "no record")


def copy_records(source: Log, target: Unfinished, head: Head, progress: Progress) -> int:
    """Bring a target to a head of its source; return the size it had.

    Args:
        head: as the source had it when the copy began; what comes later is left out.

    Raises:
        WrongError: the source is damaged, with the position; the target stays unfinished.
        ConflictError: the target holds other records, or more, or another copy writes to it.
        UnavailableError: as `Log.adopt`; run again, it goes on.
    """
    begun = target.head()
    frontier = _prefix(source, target, begun, head)
    leaves = source.leaves(after=begun.size, until=head.size)
    for page in source.pages(after=begun.size, until=head.size, size=BATCH):
        frontier.extend(_hashed(page, leaves, frontier.size))
        last = frontier.size == head.size
        if last:
            _demand_root(frontier, source, head)
        target.adopt(
            [body for _, body in page],
            recorded_at=head.recorded_at if last else None,
            after=page[0][0] - 1,
        )
        progress("records", frontier.size, head.size)
    if frontier.size != head.size:
        raise _damaged(frontier.size + 1, "a record", "no record")
    _demand_root(frontier, source, head)
    reached = target.head()
    if reached != head:
        raise WrongError(
            "the copy has another head than its source",
            code="copy.head",
            hint="keep both; the copy stays unfinished",
            expected=_said(head),
            found=_said(reached),
        )
    return begun.size


def _prefix(source: Log, target: Log, begun: Head, head: Head) -> merkle.Frontier:
    """The frontier behind what the target holds already (rule 2)."""
    if begun.size > head.size:
        raise ConflictError(
            "the unfinished copy there holds more records than the source",
            code="copy.other",
            hint="name another place; was the source restored from a backup?",
            expected=f"at most {head.size} records",
            found=f"{begun.size} records",
        )
    frontier = merkle.Frontier()
    ours = source.leaves(until=begun.size)
    while chunk := list(itertools.islice(ours, BATCH)):
        frontier.extend(chunk)
    if frontier.root() != begun.root:
        pairs = zip(source.leaves(until=begun.size), target.leaves(), strict=False)
        at = next((n for n, (one, two) in enumerate(pairs, 1) if one != two), frontier.size + 1)
        raise ConflictError(
            f"the unfinished copy there is not of this log: they differ at position {at}",
            code="copy.other",
            hint="name another place",
            position=at,
        )
    return frontier


def _hashed(page: Page, leaves: Iterator[bytes], before: int) -> list[bytes]:
    """The leaf hashes of a page, each compared with the one the source keeps."""
    hashes = []
    for wanted, (position, body) in enumerate(page, before + 1):
        if position != wanted:
            raise _damaged(wanted, "a record", f"position {position}")
        found, kept = merkle.leaf_hash(body), next(leaves, b"")
        if found != kept:
            raise _damaged(position, kept.hex(), found.hex())
        hashes.append(found)
    return hashes


def _demand_root(frontier: merkle.Frontier, source: Log, head: Head) -> None:
    if frontier.root() == head.root:
        return
    size, roots = source.frontier()
    first = 1
    if size == head.size:  # the first subtree that differs says where to look
        for bit, found, kept in zip(_subtrees(size), frontier.roots, roots, strict=True):
            if found != kept:
                break
            first += bit
    raise WrongError(
        f"the source is damaged: its records do not give its root, from position {first} on",
        code="copy.source",
        hint="muniment verify store says more; restore a backup",
        position=first,
        expected=head.root.hex(),
        found=frontier.root().hex(),
    )


def _subtrees(size: int) -> list[int]:
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def _damaged(position: int, expected: str, found: str) -> WrongError:
    return WrongError(
        f"the source is damaged at position {position}",
        code="copy.source",
        hint="muniment verify store says more; restore a backup",
        position=position,
        expected=expected,
        found=found,
    )


def _said(head: Head) -> str:
    return f"{head.size} records, root {head.root.hex()}, {head.recorded_at}"


# --- evidence


def same_place(one: EvidenceStore, two: EvidenceStore) -> bool:
    """Tell whether two stores keep their evidence in one place."""
    if isinstance(one, EvidenceFolder) and isinstance(two, EvidenceFolder):
        return one.root.resolve() == two.root.resolve()
    return type(one) is type(two) and one.name == two.name


def copy_evidence(source: EvidenceStore, target: EvidenceStore, progress: Progress) -> Files:
    """Copy every blob, also one that no record names.

    A blob that is damaged or vanishes at the source is left out and told; what is in the target already is not read here.

    Raises:
        WrongError: a blob in the target is damaged. DeniedError, UnavailableError: run again, it goes on.
    """
    whole = sum(stored.bytes for stored in source.iter())
    files = size = copied = 0
    missed: list[tuple[str, str]] = []
    for some in _batches(source.iter(), _BLOBS):
        there = target.sizes([stored.blake3 for stored in some])
        for blake3, count in some:
            files, size = files + 1, size + count
            if there.get(blake3) != count:
                problem = _copy_blob(source, target, blake3)
                if problem:
                    missed.append((blake3, problem))
                copied += not problem
            progress("bytes", size, whole)
    return Files(files, size, copied, tuple(missed))


def _copy_blob(source: EvidenceStore, target: EvidenceStore, blake3: str) -> str:
    try:
        stream = source.open(blake3)
    except (WrongError, NotFoundError) as error:
        return error.message
    with stream:
        blob = target.put(stream)
    if blob.blake3 != blake3:
        raise UnavailableError(
            f"evidence {blake3} changed while it was copied",
            code="evidence.changed",
            hint="see who writes to the source, then run it again",
        )
    return ""


def _batches(stored: Iterable[Stored], size: int) -> Iterator[Sequence[Stored]]:
    every = iter(stored)
    while some := list(itertools.islice(every, size)):
        yield some
