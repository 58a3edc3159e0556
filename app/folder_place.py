"""The place of one (slot, target): its layout, its lock, and `target.json`, which says whose it is."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from muniment.domain import canonical
from muniment.domain.errors import NotFoundError, UnavailableError, UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.files import FOLDER, NEW, faults, fsync_folder, regular, write_all

ACTIVE, PACKS, STAGING, JOURNAL, TARGET, LOCK = "active", "packs", "staging", "journal", "target.json", "lock"

_guard = threading.Lock()
# (process, device, inode of DIR) -> [thread, depth]; the process, since a forked child holds nothing
_held: dict[tuple[int, int, int], list[int]] = {}


@contextmanager
def locked(folder: Path) -> Iterator[None]:
    """Hold the target for one activation; the same thread may take it again inside.

    Raises:
        UnavailableError: another activation holds it. UsageError: `folder` is no target folder.
    """
    with folder_fd(folder) as fd:
        info = os.fstat(fd)
        key = (os.getpid(), info.st_dev, info.st_ino)
        with _guard:
            mine = _held.get(key)
            if mine is not None and mine[0] == threading.get_ident():
                mine[1] += 1
            elif mine is not None:
                raise _busy(folder)
            else:
                _held[key] = [threading.get_ident(), 1]
        lock = -1
        try:
            if mine is None:
                lock = _flock(folder, fd)
            yield
        finally:
            if lock != -1:
                os.close(lock)
            with _guard:
                entry = _held[key]
                entry[1] -= 1
                if entry[1] == 0:
                    del _held[key]


def _flock(folder: Path, fd: int) -> int:
    with faults("open", folder / LOCK, "target"):
        lock = os.open(LOCK, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW, 0o600, dir_fd=fd)
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        os.close(lock)
        if error.errno in {errno.EWOULDBLOCK, errno.EACCES}:
            raise _busy(folder) from error
        with faults("lock", folder / LOCK, "target"):
            raise error from None
    return lock


def _busy(folder: Path) -> UnavailableError:
    return UnavailableError(
        f"another activation holds {shown(folder)}",
        code="target.busy",
        hint="wait until it ends, then run it again",
    )


@contextmanager
def folder_fd(folder: Path) -> Iterator[int]:
    if folder.is_symlink():
        raise UsageError(
            f"target {shown(folder)} is a symlink", code="target.symlink", hint="name the folder itself"
        )
    try:
        fd = os.open(folder, FOLDER)
    except FileNotFoundError as error:
        raise NotFoundError(f"target {shown(folder)} does not exist", code="target.absent") from error
    except NotADirectoryError as error:
        raise UsageError(f"target {shown(folder)} is no folder", code="target.not_a_folder") from error
    except OSError as error:
        with faults("open", folder, "target"):
            raise error from None
    try:
        yield fd
    finally:
        os.close(fd)


def real(folder: Path, name: str) -> None:
    """A folder of ours must be one: a symlink there would put packs where nobody looks."""
    path = folder / name
    if path.is_symlink() or not path.is_dir():
        raise WrongError(
            f"{shown(path)} is no folder", code="target.layout", expected="a folder", found="something else"
        )


def read_target(folder: Path) -> tuple[str, str]:
    """The (slot, target) whose place this is. Raises NotFoundError if it was never adopted."""
    with folder_fd(folder):
        fact = target_file(folder)
    if fact is None:
        raise NotFoundError(
            f"{shown(folder)} is no target yet",
            code="target.not_adopted",
            hint="muniment activate SLOT --target DIR",
        )
    return fact["slots"][0], fact["target"]


def target_file(folder: Path) -> dict[str, Any] | None:
    path = folder / TARGET
    if not os.path.lexists(path):
        return None
    if path.is_symlink() or not path.is_file():
        raise WrongError(f"{shown(path)} is no regular file", code="target.file")
    with regular(path) as (stream, _), faults("read", path, "target"):
        data = stream.read(65_536)
    try:
        fact = json.loads(data)
        sound = (
            set(fact) == {"v", "target", "slots"}
            and fact["v"] == 1
            and isinstance(fact["target"], str)
            and isinstance(fact["slots"], list)
            and len(fact["slots"]) == 1
            and isinstance(fact["slots"][0], str)
        )
    except (ValueError, TypeError, RecursionError):
        sound = False
    if not sound:
        raise WrongError(
            f"{shown(path)} is damaged", code="target.file", expected='{"v": 1, "target", "slots": [one]}'
        )
    return dict(fact)


def write_target_file(folder: Path, fact: dict[str, Any]) -> None:
    work = folder / STAGING / ".target.json"
    with faults("write", folder / TARGET, "target"):
        work.unlink(missing_ok=True)
        fd = os.open(work, NEW, 0o644)
        try:
            write_all(fd, canonical.encode(fact))
            os.fsync(fd)
        finally:
            os.close(fd)
        work.rename(folder / TARGET)


def set_aside(folder: Path, attempt: str, pack: str) -> Path:
    """Move a damaged installed pack to `staging/damaged-…`, where it is kept for the investigation; return its new place.

    Raises:
        UnavailableError: not writable.
    """
    with locked(folder):
        place = folder / PACKS / pack.removeprefix("sha256:")
        real(folder, STAGING)
        kept = folder / STAGING / f"damaged-{place.name[:12]}-{attempt}"
        with faults("rename", place, "target"):
            place.rename(kept)
            fsync_folder(folder / PACKS)
            fsync_folder(folder / STAGING)
        return kept
