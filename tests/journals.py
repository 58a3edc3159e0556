"""Journals of numbered records; `import journals` finds it."""

from __future__ import annotations

from pathlib import Path

from muniment.ring.journal import Writer
from muniment.ring.journal_reader import Reader


def numbered(first: int, last: int) -> list[bytes]:
    return [f"record {n}".encode() for n in range(first, last + 1)]


def everything(folder: Path) -> list[bytes]:
    with Reader(folder) as reader:
        return reader.take_many(1 << 20, 0)


def filled(folder: Path, batches: int = 6, *, segment_bytes: int = 300) -> Path:
    """Six batches of four records; two or three frames fill a segment."""
    with Writer(folder, segment_bytes=segment_bytes) as writer:
        for turn in range(batches):
            writer.append(numbered(4 * turn + 1, 4 * turn + 4))
    return folder


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.glob("*.seg"))
