"""Tools for real files: errors in our words, durable names, the one pass that reads, hashes and writes.

Evidence, intake, packs and targets use them.
"""

from __future__ import annotations

import errno
import hashlib
import os
import stat
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from blake3 import blake3 as new_blake3
from muniment.domain.errors import UnavailableError, UsageError
from muniment.domain.os_faults import os_fault, shown

# O_NOFOLLOW: a name swapped for a link is not followed. O_NONBLOCK: a name swapped for a fifo cannot hang us.
READ = os.O_RDONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_NOCTTY
NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC | os.O_NOFOLLOW
FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC | os.O_NOFOLLOW

CHUNK = 1 << 20
Progress = Callable[[int], None]


@contextmanager
def faults(doing: str, path: str | Path, area: str = "evidence") -> Iterator[None]:
    """Turn every OSError of the block into `os_fault`."""
    try:
        yield
    except OSError as error:
        raise os_fault(error, doing, path, area) from error


def fsync_folder(path: Path) -> None:
    """Make the names in a folder durable. Raises OSError."""
    fd = os.open(path, FOLDER)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


def write_new(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Make a file of mode 0600 that is either absent or whole; a name that is taken is left as it is.

    It is written without a name and then linked, so a process that is killed on the way leaves nothing. Where the file system
    has no files without a name, it has a hidden one (`.name.*`) until it is linked.

    Args:
        durable: fsync the file before it has its name and the folder after that.

    Raises:
        FileExistsError: the name is taken, by a symlink too.
        OSError: nothing was made.
    """
    folder = os.open(path.parent, FOLDER & ~os.O_NOFOLLOW)
    spare = ""
    try:
        try:
            fd = os.open(".", os.O_WRONLY | os.O_TMPFILE | os.O_CLOEXEC, 0o600, dir_fd=folder)
        except OSError as error:
            if error.errno not in {errno.EOPNOTSUPP, errno.EISDIR, errno.EINVAL}:
                raise
            fd, spare = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        try:
            write_all(fd, data)
            if durable:
                os.fsync(fd)
            # given a folder, `os.link` is linkat, which follows the link that /proc holds in the place of a name
            os.link(spare or f"/proc/self/fd/{fd}", path.name, src_dir_fd=folder, dst_dir_fd=folder)
        finally:
            os.close(fd)
            if spare:
                Path(spare).unlink(missing_ok=True)
        if durable:
            os.fsync(folder)
    finally:
        os.close(folder)


def write_all(fd: int, chunk: bytes) -> None:
    """Write every byte: `write` may take fewer. Raises OSError."""
    view = memoryview(chunk)
    while view:
        view = view[os.write(fd, view) :]


class Readable(Protocol):
    """Anything with `read(n)`; an empty answer ends it."""

    def read(self, size: int, /) -> bytes | None: ...


class Blob(NamedTuple):
    """Both digests (hex) and the size of stored bytes."""

    blake3: str
    sha256: str
    bytes: int

    def as_evidence(self, role: str, media_type: str) -> dict[str, str | int]:
        """The form a record holds (architecture.md, section 4)."""
        return {
            "role": role,
            "blake3": self.blake3,
            "sha256": self.sha256,
            "bytes": self.bytes,
            "media_type": media_type,
        }


class Memory:
    """`read(n)` over bytes without a second copy of all of them."""

    def __init__(self, data: bytes) -> None:
        self._data, self._at = data, 0

    def read(self, size: int, /) -> bytes:
        self._at += size
        return self._data[self._at - size : self._at]


def hash_copy(
    source: Readable,
    out: int | None,
    out_name: str | Path,
    size: int | None,
    limit: int | None,
    progress: Progress | None,
    name: str | Path,
) -> Blob:
    """The one pass: read, hash twice, write; never more than one chunk past `size` or `limit`."""
    left, right, done = new_blake3(), hashlib.sha256(), 0
    while True:
        with faults("read", name):
            chunk = source.read(CHUNK)
        if chunk is None:
            raise UnavailableError(f"{shown(name)} is not ready to be read", code="evidence.not_ready")
        if not chunk:
            break
        done += len(chunk)
        if size is not None and done > size:
            raise changed(name, expected=f"{size} bytes", found=f"at least {done} bytes")
        if limit is not None and done > limit:
            raise UsageError(
                f"{shown(name)} gives over {limit} bytes", code="evidence.limit", expected=f"<= {limit} bytes"
            )
        left.update(chunk)
        right.update(chunk)
        if out is not None:
            with faults("write", out_name):
                write_all(out, chunk)
        if progress is not None:
            progress(done)
    if size is not None and done != size:
        raise changed(name, expected=f"{size} bytes", found=f"{done} bytes")
    return Blob(left.hexdigest(), right.hexdigest(), done)


def changed(name: str | Path, **context: object) -> UnavailableError:
    return UnavailableError(
        f"{shown(name)} changed while it was read",
        code="evidence.changed",
        hint="wait until nothing writes to it, then run it again",
        **context,
    )


def stamp(info: os.stat_result) -> tuple[int, ...]:
    return info.st_dev, info.st_ino, info.st_size, info.st_mtime_ns, info.st_ctime_ns


@contextmanager
def regular(path: Path) -> Iterator[tuple[BinaryIO, os.stat_result]]:
    """Open a regular file; O_NONBLOCK so that a fifo of that name cannot hang us."""
    with faults("open", path):
        fd = os.open(path, READ)
    info = os.fstat(fd)
    if not stat.S_ISREG(info.st_mode):
        os.close(fd)  # before fdopen, which refuses a folder and leaves the descriptor open
        raise UsageError(f"{shown(path)} is no regular file", code="evidence.not_a_file", path=shown(path))
    with os.fdopen(fd, "rb", buffering=0) as stream:
        yield stream, info
