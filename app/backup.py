"""`store backup` and `store restore`: a copy in a folder that is closed by a manifest, and the way back.

log.db, evidence/, exports/    an unfinished copy (store.copy): no verb opens it, so nobody appends to it by accident
backup.json                    written last, whole or not at all: without it there is no backup
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import NamedTuple

from muniment.app import home
from muniment.app.backup_manifest import Manifest, compare, damaged, evidence_in, read, write
from muniment.app.copying import Copied, Inherited, Side, apart, begun, inherited_of, opened, quiet, transfer
from muniment.app.session import EXPORTS
from muniment.app.verify import verify_store
from muniment.domain.errors import ConflictError, UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.api import Head
from muniment.store.copy_evidence import Progress
from muniment.store.copy_place import MANIFEST, check_folder, open_backup, settle
from muniment.store.open import folder_of
from muniment.store.postgres_url import is_postgres


class Checked(NamedTuple):
    """A backup that was looked through: its manifest, and what it inherited."""

    manifest: Manifest
    wrong: list[Inherited]


def backup(
    source: str, target: str, *, as_is: bool = False, now: int, progress: Progress = quiet
) -> tuple[Copied, Manifest | None]:
    """Back a store up while others write to it; run again after a cut, it goes on.

    Args:
        target: a folder: an empty one, a new one, or that of a backup of the same store which was cut.
        as_is: close it although something is wrong at the source; else it stays open (None).
        now: microseconds since 1970.

    Raises:
        ConflictError: there is a backup, a store, or something else. UsageError: no folder.
        WrongError, NotFoundError, UnavailableError …: see `copying.copy`; what is there is no backup.
    """
    folder = _folder(target)
    apart(source, target)
    if (folder / MANIFEST).exists():
        raise ConflictError(
            f"there is a backup already: {shown(folder)}", code="backup.exists", hint="name a new folder"
        )
    with opened(source) as one:
        with _backup_side(one, folder) as two:
            done = transfer(one, two, as_is=as_is, progress=progress)
        if not done.finished:
            return done, None
    settle(folder)
    return done, write(folder, done, now)


@contextmanager
def _backup_side(source: Side, folder: Path) -> Iterator[Side]:
    with begun(str(folder), source.log, backup=True) as made:
        # its own evidence, wherever MUNIMENT_EVIDENCE leads stores: a backup holds everything
        yield made._replace(evidence=evidence_in(folder, read_only=False), exports=folder / EXPORTS)


def check(source: str, *, as_is: bool = False, progress: Progress = quiet) -> Checked:
    """Look through a backup: the manifest, every file it names, and all that `verify store` checks.

    Raises:
        NotFoundError: no such folder. InvalidError: of a newer version.
        WrongError: cut, damaged, or with something wrong that it inherited, unless `as_is`.
        UnavailableError: it could not be read.
    """
    folder = _folder(source)
    manifest = read(folder)
    compare(folder, manifest)
    with closing(open_backup(folder)) as log, TemporaryDirectory() as nobody:
        head = log.head()
        report = verify_store(
            log,
            evidence=evidence_in(folder, read_only=True),
            base=Path(nobody),
            progress=lambda done: progress("verified", done, manifest.size),
        )
    wrong = inherited_of(report, folder, "the backup is damaged")
    if (report.size, report.root) != (manifest.size, manifest.root) or head != _head(manifest):
        raise damaged(
            folder,
            "the head",
            f"{manifest.size} records, root {manifest.root}, {manifest.recorded_at}",
            f"{report.size} records, root {report.root}, {head.recorded_at}",
        )
    if wrong and not (as_is and manifest.as_is):
        first = wrong[0]
        raise WrongError(
            f"{shown(folder)}: something is wrong in the backup",
            code="backup.wrong",
            hint="restore another one; or this one, with --as-is"
            if manifest.as_is
            else "restore another one",
            check=first.check,
            position=first.position,
            expected=first.expected,
            found=first.found,
        )
    return Checked(manifest, wrong)


def restore(
    source: str, target: str, *, as_is: bool = False, progress: Progress = quiet
) -> tuple[Copied, str]:
    """Make a store of a backup, anywhere; return what was done, and a warning or "".

    The backup is looked through before anything is made, and the copy before it is a store. Run again after a cut, it goes on.

    Raises:
        ConflictError: there is a store at the target, or something else.
        WrongError, InvalidError, NotFoundError: see `check`; nothing was made.
        WrongError, UnavailableError …: see `copying.copy`; the target stays unfinished.
    """
    folder = _folder(source)
    apart(source, target)
    checked = check(source, as_is=as_is, progress=progress)
    manifest = checked.manifest
    with closing(open_backup(folder)) as log:
        one = Side(log, evidence_in(folder, read_only=True), folder / EXPORTS, str(folder))
        with begun(target, log) as two:
            done = transfer(one, two, as_is=as_is, progress=progress, expected=_head(manifest))
            if done.finished:
                two.log.finish()  # type: ignore[attr-defined]
    return done, _lost(manifest)


def _head(manifest: Manifest) -> Head:
    return Head(manifest.size, bytes.fromhex(manifest.root), manifest.recorded_at)


def _lost(manifest: Manifest) -> str:
    seen = home.last_head(manifest.store_id).head
    if seen is None or seen.size <= manifest.size:
        return ""
    return (
        f"records #{manifest.size + 1} to #{seen.size} were seen here on {seen.seen_at} and are not in this backup;"
        " verify store will say so (head.last_seen)"
    )


def _folder(url: str) -> Path:
    if is_postgres(url):
        raise UsageError(
            "a backup is a folder", code="backup.folder", hint="muniment store copy copies into a database"
        )
    folder = folder_of(url).absolute()
    check_folder(folder)
    return folder


__all__ = ["Manifest", "backup", "check", "restore"]
