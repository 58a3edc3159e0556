"""The few lines of the operating system that this package needs: durable names, locks that die with their holder, faults.

The words of faults are those of `domain.os_faults`, as in the store; the two packages do not know each other.
"""

from __future__ import annotations

import fcntl
import os
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from muniment.domain.os_faults import os_fault

READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW
# a reader holds a lock while it looks behind the acknowledged end: a segment of 64 MiB takes 0.1 s
HOLD_S = 1.0


@contextmanager
def faults(doing: str, path: str | Path, area: str) -> Iterator[None]:
    """Turn every OSError of the block into UnavailableError (exit 8): nothing was decided."""
    try:
        yield
    except OSError as error:
        raise os_fault(error, doing, path, area) from error


def hold(fd: int, *, wait_s: float = HOLD_S) -> bool:
    """Lock a file or folder for this process; False if another writer keeps it. The lock ends with the process."""
    until = time.monotonic() + wait_s
    while True:
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if time.monotonic() >= until:
                return False
            time.sleep(0.005)
        else:
            return True


@contextmanager
def unheld(fd: int) -> Iterator[bool]:
    """Whether nobody holds the lock; nobody takes it while the block runs. `fd` must be of its own `open`."""
    try:
        fcntl.flock(fd, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        yield False
        return
    try:
        yield True
    finally:
        fcntl.flock(fd, fcntl.LOCK_UN)


def write_new(folder: Path, name: str, data: bytes, *, durable: bool = True) -> None:
    """Put a whole file at a name, which may exist: others read the old bytes or the new ones.

    The file that a crash leaves (`.name.new`) is taken again by the next call. Raises OSError.
    """
    temporary = folder / f".{name}.new"
    fd = os.open(
        temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK, 0o600
    )
    try:
        write_all(fd, data)
        if durable:
            os.fsync(fd)
    finally:
        os.close(fd)
    temporary.rename(folder / name)
    if durable:
        fsync_folder(folder)


def write_all(fd: int, *parts: bytes) -> None:
    """Write every byte at the place of the descriptor: `writev` may take fewer. Raises OSError."""
    done = os.writev(fd, parts)
    if done < sum(map(len, parts)):
        rest = memoryview(b"".join(parts))[done:]
        while rest:
            rest = rest[os.write(fd, rest) :]


def read_exactly(fd: int, size: int, at: int) -> bytes:
    """Bytes at a place; fewer only where the file ends. Raises OSError."""
    data = os.pread(fd, size, at)
    while len(data) < size and (more := os.pread(fd, size - len(data), at + len(data))):
        data += more
    return data


def make_folders(folder: Path, mode: int = 0o700) -> None:
    """Make a folder and those above it, each new name durable. Raises OSError."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for item in reversed(missing):
        item.mkdir(mode=mode, exist_ok=True)
        fsync_folder(item.parent)


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable; `path` may be reached over links. Raises OSError."""
    fd = os.open(path, FOLDER & ~os.O_NOFOLLOW)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
