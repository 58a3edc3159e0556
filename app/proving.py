"""Proofs that a record is in the log, and that a log only ever grew: made from stored inner nodes, answered only if they hold.

1. A proof is checked as its receiver will check it, up to the head of the log as read now, before it is answered. So nodes that
   are damaged, cut, foreign or stale cannot give a wrong one, only none.
2. If it fails, the nodes are made anew in memory from the leaves as stored and, where possible, put in place of those kept; if it
   fails again, the log's own leaves do not give its head: that is damage of the log, and said.
3. Nodes are the reader's own (`tiles/<store id>/` at home) and only grow with what was appended. A home that cannot be written
   costs time: `note` says so.

Cost at 1 M records: the first proof ever reads every leaf, about a second; afterwards a proof takes less than a millisecond.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Self, TypeVar

from muniment.app.home import tile_dir
from muniment.domain.errors import NotFoundError, WrongError
from muniment.store import merkle
from muniment.store.api import Head, Log
from muniment.store.base import shorter
from muniment.store.tiles import FolderTiles, MemoryTiles, Tiles, Unusable


class Inclusion(NamedTuple):
    """Proof that a record is in the tree of the first `size` ones, for `merkle.verify_inclusion`.

    Attributes:
        position: of the record; its leaf is `position - 1`.
        leaf, root: 32 bytes.
        path: hashes from the leaf upwards.
    """

    position: int
    size: int
    leaf: bytes
    root: bytes
    path: list[bytes]


class Consistency(NamedTuple):
    """Proof that the tree of `size` records begins with that of `old`, for `merkle.verify_consistency`.

    Attributes:
        old_root: what the first `old` records of this log give; a receiver puts the root of his own checkpoint in its place.
    """

    old: int
    old_root: bytes
    size: int
    root: bytes
    path: list[bytes]


_Proof = TypeVar("_Proof")


class Prover:
    """Makes proofs over one log, for one thread at a time. Close it.

    Args:
        base: the reader's home; None is the default one.
        progress: told how many leaves are done where nodes have to be made.

    Attributes:
        note: "" or why the nodes kept were not used, or could not be kept.
    """

    def __init__(
        self, log: Log, base: Path | None = None, *, progress: Callable[[int], None] | None = None
    ) -> None:
        self._log = log
        self._progress = progress
        self._kept = FolderTiles(tile_dir(log.store_id, base)) if log.store_id else None
        self._tiles = Tiles(self._kept or MemoryTiles(), self._leaves)
        self.note = ""

    def inclusion(self, position: int, record: bytes, size: int | None = None) -> Inclusion:
        """Prove that these bytes are the record at a position.

        Args:
            size: of the tree, e.g. that of a checkpoint; the head's if absent.

        Raises:
            NotFoundError: the tree has no such record. WrongError: the log holds another one there, or is damaged.
            UnavailableError: the log is shorter than `size`, or cannot be read.
        """
        head = self._head(size)
        size = head.size if size is None else size
        if not 1 <= position <= size:
            raise NotFoundError(
                f"no record #{position} among the first {size}", code="proof.position", found=position
            )
        leaf = merkle.leaf_hash(record)

        def make(tree: Tiles) -> Inclusion | None:
            stored = tree.hash(position - 1, position)
            if stored != leaf:
                raise WrongError(
                    f"the bytes given are not those whose leaf record #{position} has",
                    code="proof.record",
                    hint="muniment verify store",
                    position=position,
                    expected=stored.hex(),
                    found=leaf.hex(),
                )
            root = _root(tree, size, head)
            path = merkle.inclusion_proof(tree.hash, position - 1, size)
            good = merkle.verify_inclusion(leaf, position - 1, size, path, root)
            return Inclusion(position, size, leaf, root, path) if good else None

        return self._proved(make, head)

    def consistency(self, old: int, size: int | None = None) -> Consistency:
        """Prove that the first `size` records, all if absent, begin with the first `old`.

        Raises:
            NotFoundError: old is negative or larger than size. WrongError: the log is damaged.
            UnavailableError: the log is shorter than `size`, or cannot be read.
        """
        head = self._head(size)
        size = head.size if size is None else size
        if not 0 <= old <= size:
            raise NotFoundError(
                f"a log of {size} records has no first {old}",
                code="proof.size",
                hint="muniment verify store, with the checkpoint that speaks of more records",
                expected=f"0..{size}",
                found=old,
            )

        def make(tree: Tiles) -> Consistency | None:
            root = _root(tree, size, head)
            path, old_root = merkle.consistency_proof(tree.hash, old, size), tree.hash(0, old)
            good = merkle.verify_consistency(old, size, path, old_root, root)
            return Consistency(old, old_root, size, root, path) if good else None

        return self._proved(make, head)

    def close(self) -> None:
        """Release the files."""
        if self._kept is not None:
            self._kept.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _head(self, size: int | None) -> Head:
        head = self._log.head()
        if size is not None and size > head.size:
            raise shorter(size, head.size)
        return head

    def _leaves(self, start: int, end: int) -> Iterable[bytes]:
        return self._log.leaves(after=start, until=end)

    def _proved(self, make: Callable[[Tiles], _Proof | None], head: Head) -> _Proof:
        """Rules 1 and 2."""
        try:
            self._tiles.extend(head.size, self._progress)
            if (found := make(self._tiles)) is not None:
                return found
            self.note = "stored inner nodes were not those of this log: made anew"
        except Unusable as error:
            self.note = f"stored inner nodes cannot be used: {error}"
        made = MemoryTiles()
        self._tiles = Tiles(made, self._leaves)
        self._tiles.extend(head.size, self._progress)
        found = make(self._tiles)
        if found is None:
            raise WrongError(
                "the leaves of the log do not give its head",
                code="proof.head",
                hint="muniment verify store",
                expected=head.root.hex(),
                found=self._tiles.hash(0, head.size).hex(),
            )
        if self._kept is not None:
            try:
                self._kept.replace(made)
                self._tiles = Tiles(self._kept, self._leaves)
            except Unusable as error:
                self.note = f"inner nodes cannot be kept: {error}"
        return found


def _root(tree: Tiles, size: int, head: Head) -> bytes:
    """Root of the first `size` records, proven up to the head; b"", under which no proof holds, if the nodes do not prove it."""
    if size == head.size:
        return head.root
    root = tree.hash(0, size)
    path = merkle.consistency_proof(tree.hash, size, head.size)
    return root if merkle.verify_consistency(size, head.size, path, root, head.root) else b""


__all__ = ["Consistency", "Inclusion", "Prover"]
