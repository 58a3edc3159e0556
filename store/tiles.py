"""Inner nodes of a log's tree, kept so that a proof is read and not hashed: of 1 M leaves it takes some thirty small reads.

    <folder>/4  8  12  16 …      one file a height: its nodes from the left, 32 bytes each, nothing else

A node of height h covers 2^h leaves; height 0 are the leaves, which stay in the log. Sixteen nodes give one of the next height,
so the files take 2.1 bytes a record and a node between two heights costs at most seven hashes. The files of heights 8, 16, 24 …,
cut every 8 192 bytes, are the full tiles of levels 1, 2, 3 … of C2SP tlog-tiles (c2sp.org/tlog-tiles).

1. A complete node never changes: extending costs one hash for each new leaf, and two processes that do it at once write
   the same bytes to the same places.
2. Nothing here is trusted. Files may be damaged, cut, or of a log of the same name that went another way; lengths tell a part of
   that, contents none. Whoever makes a proof of them checks it against a root known from elsewhere, and makes them anew from the
   leaves if it fails (`app.proving`). What passes is right: a wrong node on the way to a right root is a collision of SHA-256.
3. Losing files costs time and nothing else, so nothing here is synced.
"""

from __future__ import annotations

import hashlib
import os
import tempfile
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Protocol

from muniment.domain.errors import WrongError
from muniment.store.files import READ, write_all
from muniment.store.merkle import EMPTY_ROOT, HASH_SIZE, Leaves, node_hash

STEP = 4
_AT_ONCE = 1 << 10  # nodes written at once; 16 384 leaves, half a megabyte, give the lowest ones
_WRITE = os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC | os.O_NOFOLLOW | os.O_NONBLOCK

_sha256 = hashlib.sha256


class Unusable(Exception):  # noqa: N818 - never leaves the prover: tiles that cannot be used are made anew
    """Files of nodes cannot be read or written, or end too early."""


class TilePlace(Protocol):
    """Nodes by height and number. Every method raises Unusable where it cannot do what it says."""

    def count(self, height: int) -> int:
        """How many nodes of a height there are."""
        ...

    def read(self, height: int, first: int, count: int) -> bytes:
        """So many nodes, all of them."""
        ...

    def write(self, height: int, first: int, nodes: bytes) -> None:
        """Put nodes where they belong; what is there is the same, or wrong."""
        ...


class MemoryTiles:
    """Nodes of one process: where files cannot be had, and while they are made anew."""

    def __init__(self) -> None:
        self.levels: dict[int, bytearray] = {}

    def count(self, height: int) -> int:
        return len(self.levels.get(height, b"")) // HASH_SIZE

    def read(self, height: int, first: int, count: int) -> bytes:
        return bytes(self.levels[height][first * HASH_SIZE : (first + count) * HASH_SIZE])

    def write(self, height: int, first: int, nodes: bytes) -> None:
        self.levels.setdefault(height, bytearray())[first * HASH_SIZE :] = nodes


class FolderTiles:
    """Nodes in files of a private folder, which appears with the first of them. Close it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._open: dict[int, int] = {}

    def count(self, height: int) -> int:
        try:
            return os.fstat(self._descriptor(height)).st_size // HASH_SIZE
        except FileNotFoundError:
            return 0
        except OSError as error:
            raise Unusable(f"{self.folder / str(height)}: {error.strerror}") from error

    def read(self, height: int, first: int, count: int) -> bytes:
        try:
            data = os.pread(self._descriptor(height), count * HASH_SIZE, first * HASH_SIZE)
        except OSError as error:
            raise Unusable(f"{self.folder / str(height)}: {error.strerror}") from error
        if len(data) != count * HASH_SIZE:
            raise Unusable(f"{self.folder / str(height)}: ends before node {first + count}")
        return data

    def write(self, height: int, first: int, nodes: bytes) -> None:
        try:
            self._make_folder()
            descriptor = os.open(self.folder / str(height), _WRITE, 0o600)
            try:
                os.lseek(descriptor, first * HASH_SIZE, os.SEEK_SET)
                write_all(descriptor, nodes)
            finally:
                os.close(descriptor)
        except OSError as error:
            raise Unusable(f"{self.folder / str(height)}: {error.strerror}") from error

    def replace(self, made: MemoryTiles) -> None:
        """Put nodes that were made anew in the place of all that is here; whoever has a file open keeps the old one.

        Cut short, it leaves files of both, which rule 2 covers.
        """
        self.close()
        try:
            self._make_folder()
            for path in list(self.folder.iterdir()):
                if path.name.isdecimal() and int(path.name) not in made.levels:
                    path.unlink()
            for height, nodes in made.levels.items():
                descriptor, temporary = tempfile.mkstemp(prefix=".new.", dir=self.folder)
                try:
                    write_all(descriptor, bytes(nodes))
                    Path(temporary).replace(self.folder / str(height))
                except BaseException:
                    Path(temporary).unlink(missing_ok=True)
                    raise
                finally:
                    os.close(descriptor)
        except OSError as error:
            raise Unusable(f"{self.folder}: {error.strerror}") from error

    def close(self) -> None:
        """Release the files; the next read opens them again."""
        while self._open:
            os.close(self._open.popitem()[1])

    def _descriptor(self, height: int) -> int:
        if height not in self._open:
            self._open[height] = os.open(self.folder / str(height), READ)
        return self._open[height]

    def _make_folder(self) -> None:
        if not self.folder.is_dir():
            for folder in (self.folder, *self.folder.parents)[::-1]:
                folder.mkdir(mode=0o700, exist_ok=True)

    def __del__(self) -> None:
        with suppress(OSError):
            self.close()


class Tiles:
    """A tree whose inner nodes are in a place and whose leaves are in a log.

    Args:
        leaves: of the log.

    Every method raises Unusable as its place does, and what `leaves` raises.
    """

    def __init__(self, place: TilePlace, leaves: Leaves) -> None:
        self._place = place
        self._leaves = leaves
        self._size = 0
        self._blocks: dict[int, bytes] = {}

    def extend(self, size: int, progress: Callable[[int], None] | None = None) -> None:
        """Add the nodes of the first `size` leaves that are not there yet; `hash` then answers for these leaves.

        Args:
            progress: told how many leaves are done, where any had to be read.
        """
        self._size = size
        self._blocks.clear()
        height = STEP
        while wanted := size >> height:
            for first in range(self._place.count(height), wanted, _AT_ONCE):
                count = min(_AT_ONCE, wanted - first)
                below = self._read(height - STEP, first << STEP, count << STEP)
                self._place.write(height, first, _up(below, STEP))
                if progress is not None and height == STEP:
                    progress((first + count) << STEP)
            height += STEP

    def hash(self, start: int, end: int) -> bytes:
        """Hash of the subtree over leaves `start <= index < end` (`merkle.Ranges`), as proofs and roots need it.

        Raises:
            ValueError: beyond what was extended to, or its complete subtrees are none of the tree.
        """
        if not 0 <= start <= end <= self._size or (end > start and start % (1 << _top(end - start))):
            raise ValueError(f"no subtree over leaves {start} to {end} in a tree of {self._size}")
        nodes = []
        while start < end:
            height = _top(end - start)
            nodes.append(self._node(height, start >> height))
            start += 1 << height
        if not nodes:
            return EMPTY_ROOT
        digest = nodes.pop()
        while nodes:
            digest = node_hash(nodes.pop(), digest)
        return digest

    def _node(self, height: int, number: int) -> bytes:
        levels = height % STEP
        return _up(self._read(height - levels, number << levels, 1 << levels), levels)

    def _read(self, height: int, first: int, count: int) -> bytes:
        if height:
            return self._place.read(height, first, count)
        if count >> STEP:
            return self._fetch(first, first + count)
        # The neighbours in a block of sixteen are asked for next: one question of the log for all.
        start = first >> STEP << STEP
        if start not in self._blocks:
            self._blocks[start] = self._fetch(start, min(start + (1 << STEP), self._size))
        return self._blocks[start][(first - start) * HASH_SIZE : (first - start + count) * HASH_SIZE]

    def _fetch(self, start: int, end: int) -> bytes:
        leaves = list(self._leaves(start, end))
        try:
            data = b"".join(leaves)
        except TypeError:
            data = b""  # a leaf that is text or nothing
        if len(leaves) != end - start or len(data) != len(leaves) * HASH_SIZE:
            raise WrongError(
                f"the log does not hold the leaves of records {start + 1} to {end}",
                code="proof.leaves",
                hint="muniment verify store",
                expected=f"{end - start} leaves of {HASH_SIZE} bytes",
                found=f"{len(leaves)} leaves, {len(data)} bytes",
            )
        return data


def _up(nodes: bytes, levels: int) -> bytes:
    """Hash neighbours into their parents, so many times."""
    for _ in range(levels):
        pairs = range(0, len(nodes), 2 * HASH_SIZE)
        nodes = b"".join([_sha256(b"\x01" + nodes[at : at + 2 * HASH_SIZE]).digest() for at in pairs])
    return nodes


def _top(count: int) -> int:
    """Height of the largest complete subtree of so many leaves."""
    return count.bit_length() - 1


__all__ = ["STEP", "FolderTiles", "MemoryTiles", "TilePlace", "Tiles", "Unusable"]
