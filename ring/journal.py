"""A journal: records in append-only segments on disk, in order, each acknowledged once it is synced; the source of replay.

1. One writer, which holds a lock on the folder for its life; another is refused by the pid of the first.
2. Acknowledged means synced, and synced comes before acknowledged: readers see acknowledged records only.
3. A writer that opens after a crash takes every whole record as one, syncs it, and begins a new segment behind a torn tail.
   Nothing is cut off, nothing is overwritten (`journal_format`, rules 2 and 3).
4. A write or sync that failed ends the writer: what a device kept of it nobody knows. Open the journal again.
"""

from __future__ import annotations

import os
import threading
import time
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Self

from muniment.domain.errors import ConflictError, NotFoundError, UnavailableError, UsageError
from muniment.domain.os_faults import shown
from muniment.ring import journal_format as form
from muniment.ring.files import FOLDER, faults, fsync_folder, hold, make_folders, write_all, write_new
from muniment.ring.journal_cursor import Cursor, load_mark, walk_to_end
from muniment.ring.journal_format import HEADER, MARK, MAX_RECORD, SEGMENT_BYTES, Header, Mark

__all__ = ["MAX_RECORD", "SEGMENT_BYTES", "Writer"]

_APPEND = os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_APPEND | os.O_NOCTTY


class Writer:
    """The one writer of a journal; the folder is made where there is none.

    Args:
        spec_sha256: of the spec that writes (32 bytes), kept in each segment; another one begins a new segment.
        sync_ms: 0: each append is acknowledged when it returns. Else an append syncs if the last sync is this long ago;
            who pauses calls `sync`, or what was appended stays unacknowledged.
        segment_bytes: a new segment begins behind this many.

    Raises:
        ConflictError: another writer has it. WrongError: it is damaged. UsageError, UnavailableError.
    """

    def __init__(
        self,
        folder: Path,
        *,
        spec_sha256: bytes = bytes(32),
        sync_ms: int = 0,
        segment_bytes: int = SEGMENT_BYTES,
    ) -> None:
        if len(spec_sha256) != 32 or sync_ms < 0 or segment_bytes < HEADER:
            raise UsageError(
                "a journal's settings make no sense",
                code="journal.settings",
                expected=f"spec_sha256 of 32 bytes, sync_ms >= 0, segment_bytes >= {HEADER}",
                found=f"{len(spec_sha256)} bytes, {sync_ms}, {segment_bytes}",
            )
        self.folder, self.torn_bytes = folder, 0
        self._spec, self._every_s, self._segment_bytes = spec_sha256, sync_ms / 1000, segment_bytes
        self._guard, self._pid, self._broken = threading.Lock(), os.getpid(), ""
        self._lock = self._mark_fd = self._fd = -1
        self._synced_at = time.monotonic()
        try:
            self._open()
        except BaseException:
            self._release()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    @property
    def sequence(self) -> int:
        """The last record appended."""
        return self._sequence

    @property
    def acknowledged(self) -> int:
        """The last record acknowledged."""
        return self._mark.sequence

    def append(self, records: Sequence[bytes]) -> int:
        """Write a batch, in order; the sequence of its last record. Acknowledged on return if `sync_ms` is 0.

        A batch of up to 4 MiB is found whole or not at all after a crash.

        Raises:
            UsageError: a record over MAX_RECORD; nothing was written. TypeError: not bytes. UnavailableError: rule 4.
            ConflictError: called in a fork of the writer.
        """
        for record in records:
            if len(record) > MAX_RECORD:
                raise UsageError(
                    "a record is too long for a journal",
                    code="journal.record_bytes",
                    expected=f"<= {MAX_RECORD} bytes",
                    found=f"{len(record)} bytes",
                )
        with self._guard:
            self._ready()
            for part in _parts(records):
                parts = form.pack_frame(part, self._sequence + 1, self._mark.sequence, self._seed)
                try:
                    if self._fd < 0 or self._end >= self._segment_bytes:
                        self._begin()
                    with faults("write", self._path, "journal"):
                        write_all(self._fd, *parts)
                except BaseException as error:
                    self._broken = str(error) or type(error).__name__
                    raise
                self._end += len(parts[0]) + len(parts[1])
                self._sequence += len(part)
            if time.monotonic() - self._synced_at >= self._every_s:
                self._sync()
            return self._sequence

    def sync(self) -> int:
        """Acknowledge everything appended; the sequence of the last record. Raises UnavailableError (rule 4)."""
        with self._guard:
            self._ready()
            self._sync()
            return self._sequence

    def close(self) -> None:
        """Sync and let go of the journal; closing again does nothing."""
        with self._guard:
            if self._lock < 0 or self._pid != os.getpid():
                return
            try:
                if not self._broken:
                    self._sync()
                    self._set_mark(self._mark._replace(pid=0), durable=True)
            finally:
                self._release()

    # --- opening

    def _open(self) -> None:
        with faults("make", self.folder, "journal"):
            make_folders(self.folder)
            self._lock = os.open(self.folder, FOLDER & ~os.O_NOFOLLOW)
            free = hold(self._lock)
        if not free:
            raise self._taken()
        try:
            mark = load_mark(self.folder)
        except NotFoundError:
            mark = Mark(os.urandom(16), 0, 0, 0, 0)
            with faults("make", self.folder / MARK, "journal"):
                fsync_folder(self.folder.absolute().parent)
                write_new(self.folder, MARK, form.pack_mark(mark))
        self._seed = zlib.crc32(mark.journal)
        cursor = Cursor(self.folder, mark.journal)
        try:
            if mark.segment:
                cursor.enter(mark.segment)
            self.torn_bytes = walk_to_end(cursor, mark)
            self._sequence, self._segment, self._end = cursor.sequence, cursor.segment, cursor.at
            header = cursor.enter(cursor.segment) if cursor.segment else None
        finally:
            cursor.close()
        with faults("open", self.folder / MARK, "journal"):
            self._mark_fd = os.open(self.folder / MARK, os.O_WRONLY | os.O_CLOEXEC | os.O_NOFOLLOW)
        self._prior = (header.prior, header.prior_bytes) if header else (0, 0)
        if header:
            self._take(again=not self.torn_bytes and header.spec_sha256 == self._spec)
        self._set_mark(Mark(mark.journal, self._sequence, self._segment, self._end, self._pid), durable=True)

    def _taken(self) -> ConflictError:
        try:
            pid = load_mark(self.folder).pid
        except NotFoundError:
            pid = 0
        return ConflictError(
            f"journal {shown(self.folder)} is written by process {pid or 'unknown'}",
            code="journal.busy",
            hint="a journal has one writer; wait until it ends, or stop it",
            expected="no other writer",
            found=f"pid {pid}" if pid else "a writer that has not begun",
            path=shown(self.folder),
        )

    def _take(self, *, again: bool) -> None:
        """Make sure that what was found in the last segment is on disk; keep it open if records may follow there."""
        with faults("sync", self._path, "journal"):
            fd = os.open(self._path, _APPEND)
            try:
                os.fdatasync(fd)
            except BaseException:
                os.close(fd)
                raise
        if again:
            self._fd = fd
        else:
            os.close(fd)

    # --- writing

    @property
    def _path(self) -> Path:
        return self.folder / form.segment_name(self._segment)

    def _ready(self) -> None:
        if self._pid != os.getpid():
            raise ConflictError(
                "a fork of a journal's writer does not write",
                code="journal.forked",
                expected=f"pid {self._pid}",
                found=f"pid {os.getpid()}",
            )
        if self._lock < 0:
            raise UsageError("the journal is closed", code="journal.closed", path=shown(self.folder))
        if self._broken:
            raise UnavailableError(
                f"journal {shown(self.folder)} takes no more records since a write failed",
                code="journal.broken",
                hint="open it again; what was acknowledged is there",
                found=self._broken,
            )

    def _begin(self) -> None:
        """Begin the segment of the next record. Its name appears with a whole header, once the one before is synced."""
        self._sync()
        first, now = self._sequence + 1, time.time_ns()
        prior = (self._segment, self._end if self._segment else 0)
        name = form.segment_name(first)
        path = self.folder / name
        if first == self._segment:
            # It has no record, but a torn tail or another spec: it keeps its bytes under another name.
            prior = self._prior
            with faults("set aside", path, "journal"):
                os.link(path, self.folder / f"{name}.unused-{now}")
                fsync_folder(self.folder)
        header = Header(self._mark.journal, first, *prior, now, self._spec)
        with faults("make", path, "journal"):
            write_new(self.folder, name, form.pack_header(header))
            fd = os.open(path, _APPEND)
        if self._fd >= 0:
            os.close(self._fd)
        self._fd, self._segment, self._end, self._prior = fd, first, HEADER, prior

    def _sync(self) -> None:
        if self._mark.sequence != self._sequence:
            try:
                with faults("sync", self._path, "journal"):
                    os.fdatasync(self._fd)
                self._set_mark(
                    self._mark._replace(sequence=self._sequence, segment=self._segment, end=self._end)
                )
            except BaseException as error:
                self._broken = str(error) or type(error).__name__
                raise
        self._synced_at = time.monotonic()

    def _set_mark(self, mark: Mark, *, durable: bool = False) -> None:
        with faults("write", self.folder / MARK, "journal"):
            os.pwrite(self._mark_fd, form.pack_mark(mark), 0)
            if durable:
                os.fdatasync(self._mark_fd)
        self._mark = mark

    def _release(self) -> None:
        for fd in (self._fd, self._mark_fd, self._lock):
            if fd >= 0:
                os.close(fd)
        self._fd = self._mark_fd = self._lock = -1


def _parts(records: Sequence[bytes]) -> Iterator[Sequence[bytes]]:
    """The batch, cut where a frame would pass 4 MiB."""
    if sum(map(len, records)) + 4 * len(records) <= form.FRAME_BYTES:
        if records:
            yield records
        return
    begin, size = 0, 0
    for index, record in enumerate(records):
        size += 4 + len(record)
        if size > form.FRAME_BYTES and index > begin:
            yield records[begin:index]
            begin, size = index, 4 + len(record)
    yield records[begin:]
