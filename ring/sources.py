"""Where a run's lines come from: standard input, or a file of lines, and where a run goes on that was cut.

1. A source has a name, under which its acknowledged positions are on record: given, or made of the file's name and its path.
2. A regular file goes on behind the acknowledged line, if that line is still there: same bytes, a whole line, at its place.
3. Standard input, pipes and terminals cannot be sought: they begin with what they are given, and what is in the log already is
   recognised by its record id. A file given by redirection is one of them, since only a path says that it is the same file.
4. Folders, disks and sockets are no sources; of devices, a terminal is one, and whatever stands at standard input.
"""

from __future__ import annotations

import fcntl
import os
import re
import stat
from hashlib import sha256
from pathlib import Path
from typing import NamedTuple, Self

from muniment.domain.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from muniment.domain.os_faults import shown
from muniment.ring.files import faults

STDIN = "-"
_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_CHUNK = 1 << 20
# Terminals by their major number (Linux, admin-guide/devices.txt): to open another device may already do something (a watchdog).
_TERMINALS = {4, 5, *range(136, 144)}
_AGAIN = "cannot be sought: it begins with what it is given; lines that the log holds are recognised by their record id"


class Resumed(NamedTuple):
    """Where reading begins (bytes from the start), and what to say of it ("": nothing)."""

    offset: int
    note: str = ""


class Source:
    """An open source; closing it leaves standard input open.

    fd: stands where reading begins. name: its name on record. kind: file, pipe, terminal, device or socket. seekable: a regular
    file that was named by its path.
    """

    def __init__(self, fd: int, name: str, kind: str, path: Path | None) -> None:
        self.fd, self.name, self.kind, self.path = fd, name, kind, path
        self.seekable = kind == "file" and path is not None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def shown(self) -> str:
        return "standard input" if self.path is None else shown(self.path)

    def close(self) -> None:
        if self.path is not None and self.fd >= 0:
            os.close(self.fd)
            self.fd = -1

    def resume(self, offset: int, last_line_sha256: str, last_line_bytes: int) -> Resumed:
        """Go behind the acknowledged input, once it is clear that this is the same input.

        Args:
            offset: after the last acknowledged line and its line end, also where that line ended the file without one.
            last_line_sha256: of that line without its line end, `sha256:<hex>`; "" if it is not known.
            last_line_bytes: its length without the line end.

        Raises:
            ConflictError: `source.changed`: shorter, other bytes, or a last line that was continued. UsageError: no such place.
            UnavailableError: cannot be read.
        """
        known = bool(last_line_sha256)
        if (
            offset < 0
            or not 0 <= last_line_bytes < max(offset, 1)
            or (known and not (offset and _DIGEST.fullmatch(last_line_sha256)))
        ):
            raise UsageError(
                "not a place in a source",
                code="source.position",
                expected="offset > last_line_bytes >= 0, sha256:<64 hex digits>",
                found=f"{offset}, {last_line_bytes}, {last_line_sha256[:80]}",
            )
        if not self.seekable:
            return Resumed(0, f"{self.shown} {_AGAIN}" if offset else "")
        with faults("read", self.shown, "source"):
            size = os.fstat(self.fd).st_size
            if offset:
                self._same(offset - 1, size, last_line_sha256, last_line_bytes)
            at = os.lseek(self.fd, min(offset, size), os.SEEK_SET)
        return Resumed(at, f"{self.shown} goes on at byte {at}" if at else "")

    def _same(self, end: int, size: int, digest: str, count: int) -> None:
        """Hold the line that ends at byte `end` against what was acknowledged of it."""
        if size < end:
            raise self._changed(f">= {end} bytes", f"{size} bytes")
        if size > end and (found := os.pread(self.fd, 1, end)) != b"\n":
            raise self._changed(f"a line end at byte {end}", f"{found!r}")
        if not digest:
            return
        begin = end - count
        if begin and (found := os.pread(self.fd, 1, begin - 1)) != b"\n":
            raise self._changed(f"a line to begin at byte {begin}", f"{found!r} before it")
        line, at = sha256(), begin
        while at < end and (part := os.pread(self.fd, min(_CHUNK, end - at), at)):
            line.update(part)
            at += len(part)
        if f"sha256:{line.hexdigest()}" != digest:
            raise self._changed(f"{digest} in bytes {begin} to {end}", f"sha256:{line.hexdigest()}")

    def _changed(self, expected: str, found: str) -> ConflictError:
        return ConflictError(
            f"{self.shown} is not the input that was acknowledged as source {self.name}",
            code="source.changed",
            hint="give it another name with --source NAME, or read it from its beginning with --from-start: "
            "lines that the log holds are recognised by their record id",
            path=self.shown,
            source=self.name,
            expected=expected,
            found=found,
        )


def open_source(where: str, name: str = "") -> Source:
    """Open `-` or a path. A fifo waits for somebody who writes to it.

    Args:
        name: its name on record; "": `stdin`, or made of the path (rule 1).

    Raises:
        NotFoundError: no such file. UsageError: no source (rule 4), or no name. UnavailableError: cannot be opened or read.
    """
    if name and not _NAME.fullmatch(name):
        raise UsageError(
            "not a name for a source", code="source.name", expected=_NAME.pattern, found=shown(name[:80])
        )
    if where == STDIN:
        return _standard(name or "stdin")
    if not where or "\0" in where:
        raise UsageError("no source is named", code="source.path", expected="- or a path", found=repr(where))
    path = Path(where)
    try:
        info = path.stat()
        _refuse(info, path)
        # A fifo opens once somebody writes. Nothing else waits: what took its place meanwhile cannot hang us.
        wait = 0 if stat.S_ISFIFO(info.st_mode) else os.O_NONBLOCK
        fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NOCTTY | wait)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(
            f"no file {shown(path)}",
            code="source.none",
            hint="name a file of lines, or - for standard input",
            path=shown(path),
        ) from error
    except OSError as error:
        with faults("open", path, "source"):
            raise error from None
    try:
        with faults("open", path, "source"):
            info = os.fstat(fd)
            _refuse(info, path)
            os.set_blocking(fd, True)
    except BaseException:
        os.close(fd)
        raise
    return Source(fd, name or derived(path), _kind(info, fd), path)


def derived(path: Path) -> str:
    """The name of a file's lines: the file's name as far as it may stand there, and 12 digits of the digest of its absolute path.

    The path is not resolved: a link whose aim is rotated stays one source.
    """
    whole = os.path.abspath(path)  # noqa: PTH100  # Path.absolute keeps "..", resolve follows links
    stem = re.sub(r"[^a-z0-9._-]+", "-", os.path.basename(whole).lower()).strip("._-")[:51]  # noqa: PTH119
    return f"{stem or 'file'}-{sha256(os.fsencode(whole)).hexdigest()[:12]}"


def _standard(name: str) -> Source:
    try:
        info = os.fstat(0)
        mode = fcntl.fcntl(0, fcntl.F_GETFL)
    except OSError as error:
        raise UnavailableError(
            "standard input is closed", code="source.closed", hint="redirect a file or a pipe into it"
        ) from error
    if mode & os.O_ACCMODE == os.O_WRONLY or mode & os.O_PATH:
        raise UnavailableError(
            "standard input is not open for reading",
            code="source.closed",
            hint="redirect a file or a pipe into it",
        )
    if stat.S_ISDIR(info.st_mode) or stat.S_ISBLK(info.st_mode):
        raise _no_source("standard input", info)
    return Source(0, name, _kind(info, 0), None)


_KINDS = {
    stat.S_IFREG: "file",
    stat.S_IFIFO: "pipe",
    stat.S_IFSOCK: "socket",
    stat.S_IFCHR: "device",
    stat.S_IFBLK: "disk",
    stat.S_IFDIR: "folder",
}


def _kind(info: os.stat_result, fd: int) -> str:
    return "terminal" if os.isatty(fd) else _KINDS[stat.S_IFMT(info.st_mode)]


def _refuse(info: os.stat_result, path: Path) -> None:
    mode = info.st_mode
    terminal = stat.S_ISCHR(mode) and os.major(info.st_rdev) in _TERMINALS
    if not (stat.S_ISREG(mode) or stat.S_ISFIFO(mode) or terminal):
        raise _no_source(shown(path), info)


def _no_source(what: str, info: os.stat_result) -> UsageError:
    kind = _KINDS.get(stat.S_IFMT(info.st_mode), "something else")
    return UsageError(
        f"{what} is a {kind}, no file of lines",
        code="source.kind",
        hint="name a file of lines, a fifo, or - for standard input",
        expected="a file, a fifo or a terminal",
        found=f"a {kind}",
        path=what,
    )
