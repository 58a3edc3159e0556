"""The bytes of a journal, all little-endian.

    acknowledged                  the mark: up to where every record is whole and synced, and whose journal it is
    00000000000000000001.seg      a segment: header, frames; the name is the sequence of its first record
    00000000000000065537.seg      …

1. A frame is what one append wrote (up to 4 MiB; a longer append takes several): head, the lengths of its records, their bytes,
   zeros up to a multiple of 8. Its CRC-32 covers all of it, so a change of any one byte is found and a batch is whole or absent.
   The CRC begins with that of the journal's id: a frame of another journal, moved here or carried in a record, is none.
2. A frame says up to where everything was synced when it was written. A bad frame whose sequence a later frame calls synced is
   damage; one that no frame calls synced, behind the mark, was never acknowledged: it is not a record.
3. Nothing is cut off or overwritten: the next segment says how many bytes of the one before count (`prior_bytes`).
4. Only the mark changes in place: 64 bytes inside one sector, which a disk writes whole or not.
"""

from __future__ import annotations

import hashlib
import re
import struct
import zlib
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise
from pathlib import Path
from typing import NamedTuple

from muniment.domain.errors import UsageError, WrongError
from muniment.domain.os_faults import shown

MARK = "acknowledged"
VERSION = 1
MAX_RECORD = 1 << 24
FRAME_BYTES = 1 << 22  # an append is cut into frames of about this; what a reader holds in memory
MAX_BODY = FRAME_BYTES + MAX_RECORD
SEGMENT_BYTES = 1 << 26
MAX_END = 1 << 62  # no file is as long; `pread` takes no place from 1 << 63 on

_segment = re.compile(r"([0-9]{20})\.seg")
_header = struct.Struct("<8sII16sQQQQ32s")
_head = struct.Struct("<IIQQII")  # crc of what follows, bytes of the body, first sequence, synced, records, 0
_mark = struct.Struct("<8s16sQQQQI")
HEADER = _header.size + 32
HEAD = _head.size
MARK_BYTES = 64
_SEGMENT_MAGIC, _MARK_MAGIC = b"MNJSEG1\0", b"MNJACK1\0"
assert (HEADER, HEAD, _mark.size) == (128, 32, 60)


class Header(NamedTuple):
    """The first 128 bytes of a segment. Of the segment before it, which begins with `prior`, `prior_bytes` count (0: none)."""

    journal: bytes
    first: int
    prior: int
    prior_bytes: int
    created_unix_ns: int
    spec_sha256: bytes


class Mark(NamedTuple):
    """Records up to `sequence` are acknowledged; they end at byte `end` of the segment that begins with `segment`.

    `segment` 0: no segment yet. `pid`: who writes, 0 if it was closed; a name for messages, the lock decides.
    """

    journal: bytes
    sequence: int
    segment: int
    end: int
    pid: int


class Frame(NamedTuple):
    """The records of one frame and the place of the next one."""

    first: int
    synced: int
    records: list[bytes]
    next: int


class BadFrameError(Exception):
    """No whole frame stands here; what was expected and found. Who reads decides what that means."""

    def __init__(self, expected: str, found: str) -> None:
        super().__init__(f"expected {expected}, found {found}")
        self.expected, self.found = expected, found


def segment_name(first: int) -> str:
    return f"{first:020}.seg"


def segments(names: Iterable[str], folder: Path) -> list[int]:
    """The first sequences of the segments of a folder, in order. Raises WrongError: a `.seg` of another name."""
    found = []
    for name in names:
        if match := _segment.fullmatch(name):
            found.append(int(match[1]))
        elif name.endswith(".seg"):
            raise damage("segment_name", folder / name, expected="20 digits and .seg", found=name[:80])
    return sorted(found)


def damage(what: str, where: Path, *, hint: str = "", **context: object) -> WrongError:
    """A journal that is not as it was written: exit 7, with the place, what was expected and what was found."""
    return WrongError(
        f"journal is damaged: {what.replace('_', ' ')} in {shown(where)}",
        code=f"journal.{what}",
        hint=hint or "keep the folder as it is; restore it from a copy, or begin another journal",
        path=shown(where),
        **context,
    )


# --- segment header


def pack_header(header: Header) -> bytes:
    if len(header.spec_sha256) != 32:
        raise UsageError("spec_sha256 has 32 bytes", code="journal.spec", found=len(header.spec_sha256))
    raw = _header.pack(_SEGMENT_MAGIC, VERSION, HEADER, *header)
    return raw + hashlib.sha256(raw).digest()


def read_header(raw: bytes, path: Path, first: int, journal: bytes) -> Header:
    """Check the header of the segment named `first` of this journal. Raises WrongError."""
    if len(raw) != HEADER or hashlib.sha256(raw[:-32]).digest() != raw[-32:]:
        raise damage("header", path, byte=0, expected="its SHA-256 in bytes 96 to 127", found="another one")
    magic, version, size, *rest = _header.unpack(raw[:-32])
    if (magic, version, size) != (_SEGMENT_MAGIC, VERSION, HEADER):
        raise damage("header", path, expected=f"version {VERSION}", found=f"version {version}, {magic!r}")
    header = Header(*rest)
    if header.journal != journal:
        raise damage(
            "foreign_segment",
            path,
            expected=f"journal {journal.hex()}",
            found=f"journal {header.journal.hex()}",
        )
    if header.first != first:
        raise damage("swapped_segment", path, expected=f"first {first}", found=f"first {header.first}")
    return header


# --- mark


def pack_mark(mark: Mark) -> bytes:
    raw = _mark.pack(_MARK_MAGIC, *mark, 0)
    return raw + zlib.crc32(raw).to_bytes(4, "little")


def read_mark(raw: bytes, path: Path) -> Mark:
    """Raises WrongError: it is not a whole mark."""
    if len(raw) != MARK_BYTES or zlib.crc32(raw[:-4]) != int.from_bytes(raw[-4:], "little"):
        raise damage("mark", path, expected="64 bytes with their CRC", found=f"{len(raw)} bytes, another CRC")
    magic, *rest, zero = _mark.unpack(raw[:-4])
    mark = Mark(*rest)
    begun = mark.segment > 0 and mark.sequence >= mark.segment - 1 and HEADER <= mark.end < MAX_END
    fresh = mark.segment == mark.sequence == mark.end == 0
    if magic != _MARK_MAGIC or zero or not (begun or fresh):
        raise damage("mark", path, expected="a mark of version 1", found=repr(raw[:8]))
    return mark


# --- frames


def pack_frame(records: Sequence[bytes], first: int, synced: int, seed: int) -> tuple[bytes, bytes]:
    """Head and body of a frame. `seed`: the CRC-32 of the journal's id.

    Raises TypeError: a record is not made of bytes (a view of wider items).
    """
    count = len(records)
    size = 4 * count + sum(map(len, records))
    body = b"".join((struct.pack(f"<{count}I", *map(len, records)), *records, bytes(-size % 8)))
    head = _head.pack(0, size, first, synced, count, 0)
    if len(body) != size + -size % 8:
        raise TypeError("records are bytes")
    crc = zlib.crc32(body, zlib.crc32(head[4:], seed))
    return crc.to_bytes(4, "little") + head[4:], body


def frame_bytes(raw: bytes, at: int) -> int:
    """How many bytes the frame at `at` takes, by its head, which has not been checked yet: at most MAX_BODY and a head.

    Raises BadFrameError: fewer bytes than a head, or a length that no frame has.
    """
    if len(raw) - at < HEAD:
        raise BadFrameError(f"a frame's head of {HEAD} bytes", f"{len(raw) - at} bytes")
    size = int.from_bytes(raw[at + 4 : at + 8], "little")
    if not 4 <= size <= MAX_BODY:
        raise BadFrameError(f"a body of 4 to {MAX_BODY} bytes", f"{size} bytes")
    return HEAD + size + -size % 8


def read_frame(raw: bytes, at: int, sequence: int, seed: int) -> Frame:
    """The frame at a place of a buffer, which must begin with record `sequence`; `next` is a place of the buffer too.

    One copy: each record. Raises BadFrameError.
    """
    total = frame_bytes(raw, at)
    if len(raw) - at < total:
        raise BadFrameError(f"a frame of {total} bytes", f"{len(raw) - at} bytes")
    crc, size, first, synced, count, zero = _head.unpack_from(raw, at)
    found = zlib.crc32(memoryview(raw)[at + 4 : at + total], seed)
    if crc != found:
        raise BadFrameError(f"CRC {crc:08x}", f"CRC {found:08x}")
    if first != sequence:
        raise BadFrameError(f"record {sequence}", f"record {first}")
    begin = at + HEAD + 4 * count
    if zero or not 0 < 4 * count <= size or synced >= first:
        raise BadFrameError("a frame that a journal writes", f"{count} records, synced {synced}")
    lengths = struct.unpack_from(f"<{count}I", raw, at + HEAD)
    if sum(lengths) != size - 4 * count:
        raise BadFrameError(f"records of {size - 4 * count} bytes", f"{sum(lengths)} bytes")
    records = [raw[left:right] for left, right in pairwise(accumulate(lengths, initial=begin))]
    return Frame(first, synced, records, at + total)


def synced_later(raw: bytes, sequence: int, seed: int) -> int:
    """A record that some whole frame in these bytes, which begin at a frame's place, calls synced and that is behind
    `sequence`; 0 if there is none. Frames begin at multiples of 8; a head is looked at closer only if it is plausible.
    """
    for at in range(0, len(raw) - HEAD, 8):
        _, size, first, synced, count, zero = _head.unpack_from(raw, at)
        if zero == 0 and sequence < synced < first < sequence + len(raw) and 0 < 4 * count <= size:
            try:
                return read_frame(raw, at, first, seed).synced
            except BadFrameError:
                continue
    return 0
