"""A place in a journal and the walk over its frames: what readers and a writer that opens after a crash share."""

from __future__ import annotations

import os
import time
import zlib
from pathlib import Path

from muniment.domain.errors import NotFoundError, WrongError
from muniment.domain.os_faults import shown
from muniment.ring import journal_format as form
from muniment.ring.files import READ, faults, read_exactly
from muniment.ring.journal_format import HEAD, HEADER, MARK, BadFrameError, Frame, Header, Mark, damage

CHUNK = 1 << 20
_TRIES = 10  # a mark is read while its 64 bytes are written: a torn one is rare, ten in a row are none


def load_mark(folder: Path) -> Mark:
    """Read the mark of a journal, which its writer may be changing.

    Raises:
        NotFoundError: no journal is here. WrongError: segments without a mark, or no whole mark. UnavailableError.
    """
    path = folder / MARK
    for turn in range(_TRIES):
        with faults("read", path, "journal"):
            try:
                fd = os.open(path, READ)
            except FileNotFoundError:
                break
            try:
                raw = read_exactly(fd, form.MARK_BYTES + 1, 0)
            finally:
                os.close(fd)
        if turn + 1 == _TRIES:
            return form.read_mark(raw, path)
        try:
            return form.read_mark(raw, path)
        except WrongError:
            time.sleep(0.001)
    if folder.is_dir() and list_segments(folder):
        raise damage("mark_missing", path, expected="the mark beside the segments", found="none")
    raise NotFoundError(f"no journal in {shown(folder)}", code="journal.none", path=shown(folder))


def list_segments(folder: Path) -> list[int]:
    """First sequences of the segments, in order. Raises WrongError: the first one is missing, or a name is strange."""
    with faults("list", folder, "journal"):
        found = form.segments([path.name for path in folder.iterdir()], folder)
    if found and found[0] != 1:
        raise damage(
            "segment_missing",
            folder,
            expected=form.segment_name(1),
            found=f"{form.segment_name(found[0])} as the first",
        )
    return found


class Cursor:
    """A place in a journal. Bytes from `end` on are never looked at: a live writer may be writing them.

    sequence: the last record before this place. segment: the first record of the segment, 0 before the first.
    """

    def __init__(self, folder: Path, journal: bytes) -> None:
        self.folder, self.journal = folder, journal
        self.seed = zlib.crc32(journal)
        self.sequence = self.segment = self.at = self.end = 0
        self._fd, self._buffer, self._base = -1, b"", 0

    @property
    def path(self) -> Path:
        return self.folder / form.segment_name(self.segment)

    def place(self, mark: Mark) -> None:
        """Go to the end of what a mark tells of. Raises as `enter`."""
        if mark.segment:
            self.enter(mark.segment)
            self.sequence, self.at, self.end = mark.sequence, mark.end, mark.end

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
        self._fd = -1

    def enter(self, first: int) -> Header:
        """Go to the beginning of a segment; its header. Raises WrongError, UnavailableError."""
        self.close()
        self.segment, self.sequence, self.at, self.end = first, first - 1, HEADER, HEADER
        self._buffer, self._base = b"", 0
        with faults("read", self.path, "journal"):
            try:
                self._fd = os.open(self.path, READ)
            except FileNotFoundError:
                raise damage(
                    "segment_missing", self.folder, expected=self.path.name, found="no such file"
                ) from None
            raw = read_exactly(self._fd, HEADER, 0)
        return form.read_header(raw, self.path, first, self.journal)

    def follow(self, firsts: list[int]) -> bool:
        """Go on to the segment behind this one, if there is one, once `sealed` was read to its end. Raises WrongError."""
        following = after(firsts, self.segment)
        if not following:
            return False
        if following != self.sequence + 1:
            raise damage(
                "gap",
                self.path,
                expected=f"{form.segment_name(self.sequence + 1)} to follow",
                found=form.segment_name(following),
            )
        self.enter(following)
        return True

    def sealed(self, firsts: list[int]) -> int:
        """How many bytes of this segment count: the next one says so. 0: it is the last. Raises WrongError."""
        following = after(firsts, self.segment)
        if not following:
            return 0
        peek = Cursor(self.folder, self.journal)
        try:
            header = peek.enter(following)
        finally:
            peek.close()
        if header.prior != self.segment:
            raise damage(
                "segment_missing",
                self.folder,
                expected=f"{form.segment_name(header.prior)} before {peek.path.name}",
                found=self.path.name,
            )
        return header.prior_bytes

    def size(self) -> int:
        with faults("read", self.path, "journal"):
            return os.fstat(self._fd).st_size

    def frame(self) -> Frame:
        """The frame here, and go behind it. Raises BadFrameError: none that is whole and below `end`."""
        self._have(HEAD)
        self._have(form.frame_bytes(self._buffer, self.at - self._base))
        found = form.read_frame(self._buffer, self.at - self._base, self.sequence + 1, self.seed)
        self.at = self._base + found.next
        self.sequence += len(found.records)
        return found

    def rest(self) -> bytes:
        """The bytes from here to `end`."""
        with faults("read", self.path, "journal"):
            return read_exactly(self._fd, self.end - self.at, self.at)

    def damaged(self, bad: BadFrameError) -> WrongError:
        return damage(
            "frame",
            self.path,
            byte=self.at,
            sequence=str(self.sequence + 1),
            expected=bad.expected,
            found=bad.found,
        )

    def _have(self, size: int) -> None:
        if self._base + len(self._buffer) - self.at < size:
            with faults("read", self.path, "journal"):
                self._buffer = read_exactly(
                    self._fd, max(0, min(max(size, CHUNK), self.end - self.at)), self.at
                )
            self._base = self.at


def after(firsts: list[int], segment: int) -> int:
    """The segment that follows; 0 if there is none."""
    return next((first for first in firsts if first > segment), 0)


def walk_to_end(cursor: Cursor, mark: Mark) -> int:
    """Go from the beginning of a segment to behind the last record; how many bytes stand there that are none.

    Nobody may be writing. Raises WrongError: something that was acknowledged is not whole, missing or elsewhere.
    """
    firsts = list_segments(cursor.folder)
    torn = 0
    while cursor.segment or cursor.follow(firsts):
        sealed = cursor.sealed(firsts)
        cursor.end = sealed or cursor.size()
        if cursor.at > cursor.end:
            raise damage(
                "segment_short", cursor.path, expected=f">= {cursor.at} bytes", found=f"{cursor.end} bytes"
            )
        while cursor.at < cursor.end:
            try:
                cursor.frame()
            except BadFrameError as bad:
                acknowledged = sealed or cursor.sequence < mark.sequence
                if acknowledged or form.synced_later(cursor.rest(), cursor.sequence, cursor.seed):
                    raise cursor.damaged(bad) from bad
                torn = cursor.end - cursor.at
                break
            _agrees(cursor, mark)
        if not cursor.follow(firsts):
            break
    if cursor.sequence < mark.sequence:
        raise damage(
            "acknowledged_lost",
            cursor.path,
            byte=cursor.at,
            expected=f"{mark.sequence} acknowledged records",
            found=f"{cursor.sequence}",
        )
    return torn


def _agrees(cursor: Cursor, mark: Mark) -> None:
    if (cursor.sequence >= mark.sequence) != ((cursor.segment, cursor.at) >= (mark.segment, mark.end)):
        raise damage(
            "mark",
            cursor.folder / MARK,
            expected=f"record {cursor.sequence} to end at byte {cursor.at} of {cursor.path.name}",
            found=f"record {mark.sequence} at byte {mark.end} of {form.segment_name(mark.segment)}",
        )
