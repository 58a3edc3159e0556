"""Read an archive that nobody vouches for: .tar, .tar.gz (.tgz) and .zip, member by member, nothing
unpacked to disk.

1. A member is a regular file or a folder, under a canonical relative path. Links, devices, sparse and
   encrypted members are refused: the first lead out, the others hide what they hold.
2. Bytes are counted as they come out, never as declared: a bomb ends at the limit, not at the disk's.
3. An archive is read to its end. A tar whose end marker is missing or followed by data is damaged, although
   `tarfile` takes a broken header in the middle for the end and says nothing (seen with CPython 3.11).
"""

from __future__ import annotations

import errno
import gzip
import stat
import tarfile
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from muniment.app.tree import MAX_FILES, path_problem
from muniment.domain.errors import UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.files import CHUNK, Readable, faults, write_all

_SUFFIXES = {".tar": "tar", ".tar.gz": "tar.gz", ".tgz": "tar.gz", ".zip": "zip"}
_DAMAGE = (
    tarfile.TarError,
    zipfile.BadZipFile,
    gzip.BadGzipFile,
    zlib.error,
    EOFError,
    ValueError,
    NotImplementedError,
)
# tarfile reads an extended header in one piece; a real one has a few kilobytes.
_MAX_READ = 8 << 20


class Limits(NamedTuple):
    """Bounds of one intake.

    Attributes:
        max_files: files and folders.
        max_bytes: of all files together, and of an archive.
        max_ratio: bytes out for each byte of the archive; DEFLATE reaches 1 032, source code 3 to 10.
        free_bytes: below this sum the ratio is not looked at, so that a small archive of zeros passes.
    """

    max_files: int = MAX_FILES
    max_bytes: int = 64 << 30
    max_ratio: int = 100
    free_bytes: int = 16 << 20


class Member(NamedTuple):
    """One file of an archive; `stream` is read before the next member is asked for."""

    path: str
    size: int
    executable: bool
    stream: Readable


def kind_of(name: str) -> str | None:
    """`tar`, `tar.gz` or `zip` by the suffix; None for any other file."""
    lower = name.lower()
    return next((kind for suffix, kind in _SUFFIXES.items() if lower.endswith(suffix)), None)


def expand(stream: IO[bytes], kind: str, size: int, limits: Limits, staging: Path) -> Iterator[Member]:
    """Yield the files of an archive.

    Args:
        stream: seekable, and not changing meanwhile.
        size: bytes of the archive.
        staging: where a .tar.gz is expanded into a nameless file, since tarfile seeks.

    Raises:
        UsageError: a member that is refused, or a bomb. WrongError: the archive is damaged.
    """
    budget = _Budget(size, limits)
    with faults("read", "the archive", "intake"), _damage(kind):
        if kind == "zip":
            yield from _zip(stream, budget)
        elif kind == "tar":
            yield from _tar(stream, budget)
        else:
            with tempfile.TemporaryFile(dir=staging) as plain:
                _gunzip(stream, plain, _Budget(size, limits))
                yield from _tar(plain, budget)


class _Budget:
    """What may still come out (rule 2)."""

    def __init__(self, size: int, limits: Limits) -> None:
        self._limits = limits
        self._allowed = min(limits.max_bytes, max(limits.free_bytes, limits.max_ratio * size))
        self._bytes = self._members = 0

    def member(self) -> None:
        self._members += 1
        if self._members > self._limits.max_files:
            raise UsageError(
                f"the archive holds over {self._limits.max_files} members", code="intake.too_many"
            )

    def take(self, count: int) -> None:
        self._bytes += count
        if self._bytes > self._allowed:
            raise UsageError(
                "the archive expands too far",
                code="intake.bomb",
                hint="expand it where it is trusted, then take in the folder",
                expected=f"<= {self._allowed} bytes",
                found=f">= {self._bytes} bytes",
            )


class _Counted:
    """`read(n)` that pays from the budget and turns a decoder's complaint into ours."""

    def __init__(self, stream: IO[bytes], budget: _Budget, kind: str) -> None:
        self._stream, self._budget, self._kind = stream, budget, kind

    def read(self, size: int, /) -> bytes:
        with _damage(self._kind):
            chunk = self._stream.read(size)
        self._budget.take(len(chunk))
        return chunk


class _Bounded:
    """A seekable file that refuses to give a huge piece at once."""

    def __init__(self, stream: IO[bytes]) -> None:
        self._stream = stream
        self.seek, self.tell = stream.seek, stream.tell

    def read(self, size: int = -1, /) -> bytes:
        if not 0 <= size <= _MAX_READ:
            raise UsageError(
                "an archive header is too large",
                code="intake.bomb",
                expected=f"<= {_MAX_READ} bytes",
                found=str(size),
            )
        data = b""
        while len(data) < size and (chunk := self._stream.read(size - len(data))):
            data += chunk
        return data


def _tar(stream: IO[bytes], budget: _Budget) -> Iterator[Member]:
    bounded = _Bounded(stream)
    seen: set[str] = set()
    opening = tarfile.open(  # type: ignore[call-overload]  # noqa: SIM115 (closed below)
        fileobj=bounded, mode="r:", encoding="utf-8", errors="surrogateescape"
    )
    with opening as tar:
        for info in tar:
            budget.member()
            path = _canonical(info.name, folder=info.isdir())
            if info.isdir():
                continue
            if info.type not in {tarfile.REGTYPE, tarfile.AREGTYPE} or info.issparse() or info.size < 0:
                raise _refused(path, "a link, device, fifo or sparse file")
            _once(path, seen)
            opened = tar.extractfile(info)
            if opened is None:
                raise _refused(path, "no file")
            with opened:
                yield Member(path, info.size, bool(info.mode & stat.S_IXUSR), _Counted(opened, budget, "tar"))
        _tar_end(stream, tar.offset)


def _tar_end(stream: IO[bytes], offset: int) -> None:
    """The end marker, two blocks of zeros, and nothing but zeros after it (rule 3)."""
    stream.seek(offset)
    length = 0
    while chunk := stream.read(CHUNK):
        if chunk.strip(b"\0"):
            raise WrongError("the tar archive holds data that no member accounts for", code="intake.archive")
        length += len(chunk)
    if length < 2 * tarfile.BLOCKSIZE:
        raise WrongError("the tar archive has no end marker: it was cut", code="intake.archive")


def _gunzip(stream: IO[bytes], out: IO[bytes], budget: _Budget) -> None:
    with gzip.GzipFile(fileobj=stream, mode="rb") as unzipped:
        while chunk := unzipped.read(CHUNK):
            budget.take(len(chunk))
            with faults("write", "staging file", "intake"):
                write_all(out.fileno(), chunk)
    out.seek(0)


def _zip(stream: IO[bytes], budget: _Budget) -> Iterator[Member]:
    seen: set[str] = set()
    with zipfile.ZipFile(stream) as archive:
        for info in archive.infolist():
            budget.member()
            if info.orig_filename != info.filename:
                raise _refused(info.orig_filename, "a name with a zero byte")
            path = _canonical(info.filename, folder=info.is_dir())
            mode = info.external_attr >> 16
            if stat.S_IFMT(mode) not in {0, stat.S_IFREG, stat.S_IFDIR}:
                raise _refused(path, "a link or device")
            if info.is_dir():
                if info.file_size:
                    raise _refused(path, "a folder with bytes")
                continue
            if info.flag_bits & 0x41:
                raise _refused(path, "encrypted")
            if info.compress_type not in {zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED}:
                raise _refused(path, f"compressed by method {info.compress_type}")
            _once(path, seen)
            with archive.open(info) as opened:
                yield Member(path, info.file_size, bool(mode & stat.S_IXUSR), _Counted(opened, budget, "zip"))


def _canonical(name: str, *, folder: bool) -> str:
    """`./a` and `a/` are how tar writes `a`; anything else that is not canonical is refused."""
    path = name.removeprefix("./") if name != "./" else "."
    if folder:
        path = path.removesuffix("/")
        if path == ".":
            return path
    if (problem := path_problem(path)) is not None:
        raise UsageError(f"archive member {shown(name)}: {problem[1]}", code=f"intake.{problem[0]}")
    return path


def _once(path: str, seen: set[str]) -> None:
    if path in seen:
        raise UsageError(f"archive member {shown(path)} is there twice", code="intake.order")
    seen.add(path)


def _refused(path: str, what: str) -> UsageError:
    return UsageError(
        f"archive member {shown(path)} is refused: {what}",
        code="intake.member",
        hint="an archive holds plain files and folders only",
    )


@contextmanager
def _damage(kind: str) -> Iterator[None]:
    try:
        yield
    except _DAMAGE as error:
        raise WrongError(
            f"the {kind} archive is damaged: {shown(str(error))}", code="intake.archive"
        ) from error
    except OSError as error:
        if (
            error.errno != errno.EINVAL
        ):  # zipfile seeks to where a damaged directory points, even before the start
            raise
        raise WrongError(
            f"the {kind} archive is damaged: it points outside itself", code="intake.archive"
        ) from error
