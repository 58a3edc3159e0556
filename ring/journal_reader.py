"""Read a journal from any record on, once or following its writer; as many readers as there are processes.

1. A reader sees acknowledged records: while a writer holds the journal, up to its mark. Nobody holds it: up to the last whole
   record, since after a loss of power the mark may be older than what was acknowledged.
2. What is not whole below that place is an error with its place, never skipped. What lies behind is nobody's record.
3. Memory: a megabyte read ahead and the records of one frame, whatever the journal's size.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Self

from muniment.domain.errors import MunimentError, NotFoundError, UsageError
from muniment.domain.os_faults import shown
from muniment.ring.files import FOLDER, faults, unheld
from muniment.ring.journal_cursor import Cursor, list_segments, load_mark, walk_to_end
from muniment.ring.journal_format import HEADER, BadFrameError, Mark, damage, segment_name

_PAUSE_S = (0.0005, 0.02)  # between looks for new records: the first, and what it grows to


class Reader:
    """A place in a journal. `at` is the last record taken.

    Args:
        after: the record behind which to begin; 0: at the first.

    Raises:
        NotFoundError: no journal. UsageError: no such record yet. WrongError: damaged. UnavailableError.
    """

    def __init__(self, folder: Path, *, after: int = 0) -> None:
        self.folder, self.at, self.ended = folder, 0, False
        with faults("open", folder, "journal"):
            try:
                self._lock = os.open(folder, FOLDER & ~os.O_NOFOLLOW)
            except (FileNotFoundError, NotADirectoryError):
                raise NotFoundError(
                    f"no journal in {shown(folder)}", code="journal.none", path=shown(folder)
                ) from None
        self._records: list[bytes] = []
        self._used = 0
        self._probed: object = None
        self._cursor = Cursor(folder, b"")
        try:
            self._limit = load_mark(folder)
            self._cursor = Cursor(folder, self._limit.journal)
            self.seek(after)
        except BaseException:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        self._cursor.close()
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    @property
    def last(self) -> int:
        """The last record that may be read now."""
        self._look()
        return self._limit.sequence

    def take_many(self, count: int, timeout_s: float | None = None) -> list[bytes]:
        """The next records, at most `count`; their last one is `at`. Does not wait for more than one.

        Args:
            timeout_s: how long to wait for the first (0: not at all, None: as long as somebody writes).

        Returns: nothing where there is nothing more to read: in time, or at all (`ended`: nobody writes).

        Raises:
            WrongError: damage behind `at`; what stands before it was returned. UnavailableError.
        """
        if count < 1:
            raise UsageError("take at least one record", code="journal.count", expected=">= 1", found=count)
        until = None if timeout_s is None else time.monotonic() + timeout_s
        pause = _PAUSE_S[0]
        while not (taken := self._take(count)):
            if self._look():
                continue
            left = pause if until is None else until - time.monotonic()
            if left <= 0 or self.ended:
                break
            time.sleep(min(pause, left))
            pause = min(2 * pause, _PAUSE_S[1])
        return taken

    def seek(self, sequence: int) -> None:
        """Go behind a record (0: before the first). Raises UsageError: there is no such record yet."""
        last = self.last
        if not 0 <= sequence <= last:
            raise UsageError(
                f"journal {shown(self.folder)} has no record {sequence}",
                code="journal.position",
                expected=f"0 to {last}",
                found=sequence,
            )
        self._records, self._used, self.at = [], 0, sequence
        cursor = self._cursor
        if not self._limit.segment:
            return
        upper = min(sequence + 1, self._limit.segment)
        firsts = [first for first in list_segments(self.folder) if first <= upper]
        cursor.enter(firsts[-1] if firsts else upper)
        while cursor.sequence < sequence:
            before = cursor.sequence
            self._records = self._frame()
            self._used = sequence - before

    def seek_last(self, count: int) -> None:
        """Go before the last `count` records there are now, or before the first."""
        self.seek(max(0, self.last - count))

    def _take(self, count: int) -> list[bytes]:
        """What is at hand, up to the limit known."""
        taken: list[bytes] = []
        while len(taken) < count:
            if self._used == len(self._records):
                if self._cursor.sequence >= self._limit.sequence:
                    break
                try:
                    self._records, self._used = self._frame(), 0
                except MunimentError:
                    if taken:
                        break  # these are whole; the next call raises it
                    raise
            part = self._records[self._used : self._used + count - len(taken)]
            self._used += len(part)
            taken = taken + part if taken else part
        self.at += len(taken)
        return taken

    def _frame(self) -> list[bytes]:
        cursor = self._cursor
        if cursor.at >= cursor.end:
            self._bound()
        try:
            return cursor.frame().records
        except BadFrameError as bad:
            raise cursor.damaged(bad) from bad

    def _bound(self) -> None:
        """How far the segment may be read now; at its end, go on to the next one."""
        cursor, limit = self._cursor, self._limit
        if cursor.segment == limit.segment:
            if cursor.at == HEADER:
                # Without a record it was no promise: a writer may have put another in its place.
                cursor.enter(cursor.segment)
            cursor.end = limit.end
            return
        firsts = list_segments(self.folder)
        if cursor.segment:
            cursor.end = cursor.sealed(firsts)
            if cursor.at < cursor.end:
                return
        if not cursor.follow(firsts):
            raise damage("segment_missing", self.folder, expected=segment_name(limit.segment), found="none")
        self._bound()

    def _look(self) -> bool:
        """Look for a later limit; whether there is one. `ended`: nobody writes, and there is none."""
        mark = load_mark(self.folder)
        self._check(mark)
        if mark.sequence > self._limit.sequence:
            self._limit, self.ended = mark, False
            return True
        with unheld(self._lock) as free:
            self.ended = free
            return free and self._beyond()

    def _check(self, mark: Mark) -> None:
        if mark.journal != self._limit.journal:
            raise damage(
                "foreign_mark",
                self.folder,
                expected=f"journal {self._limit.journal.hex()}",
                found=f"journal {mark.journal.hex()}",
            )

    def _beyond(self) -> bool:
        """While nobody writes: whole records behind the mark count (rule 1)."""
        mark = load_mark(self.folder)
        self._check(mark)
        start = max(mark, self._limit, key=lambda each: each.sequence)
        firsts = list_segments(self.folder)
        newest = self.folder / segment_name(firsts[-1]) if firsts else self.folder
        with faults("read", newest, "journal"):
            state = (firsts, newest.stat().st_size)
        if state == self._probed and start is self._limit:
            return False
        cursor = Cursor(self.folder, mark.journal)
        try:
            cursor.place(start)
            walk_to_end(cursor, start)
        finally:
            cursor.close()
        self._probed = state
        later = cursor.sequence > self._limit.sequence
        if later:
            self._limit = Mark(mark.journal, cursor.sequence, cursor.segment, cursor.at, 0)
        return later


def check(folder: Path) -> int:
    """Read every record there is now; how many. Raises as `Reader.take_many`: the first thing that is wrong."""
    with Reader(folder) as reader:
        last = reader.last
        while reader.at < last:
            reader.take_many(4096, 0)
        return last
