"""RFC 6962 Merkle tree over leaves: frontier, roots, proofs and their checks. Knows bytes, not stores.

Rules, in the order of the text:

1. A leaf is hashed with prefix 0x00, a node with 0x01 (section 2.1): no leaf can be passed off as a node.
2. A frontier is the list of roots of the complete subtrees, largest first; a tree of n leaves has one
   for each bit set in n. The root folds them from the right. The root of no leaves is SHA-256 of nothing.
3. Proofs need only the hash of some ranges of leaves; where those come from (leaf column, tiles) is the
   caller's business: see `Ranges`.
4. A check answers False for whatever does not fit: sizes, indices, proof or hash length. It never raises.

Source: RFC 6962 section 2.1; the checks follow RFC 9162 sections 2.1.3.2 and 2.1.4.2.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Sequence

HASH_SIZE = 32
EMPTY_ROOT = hashlib.sha256(b"").digest()

_sha256 = hashlib.sha256

Ranges = Callable[[int, int], bytes]
"""Hash of the subtree over leaves `start <= index < end`; `end - start` need not be a power of two."""

Leaves = Callable[[int, int], Iterable[bytes]]
"""Leaf hashes `start <= index < end` in order, e.g. `lambda s, e: log.leaves(after=s, until=e)`."""


def leaf_hash(leaf: bytes) -> bytes:
    """Hash the bytes of a record."""
    return _sha256(b"\x00" + leaf).digest()


def node_hash(left: bytes, right: bytes) -> bytes:
    """Hash two subtrees into one."""
    return _sha256(b"\x01" + left + right).digest()


class Frontier:
    """The right edge of a tree: all that is needed to append to it and to know its root.

    Attributes:
        size: number of leaves.
        roots: roots of the complete subtrees, largest first (32 bytes each).
    """

    __slots__ = ("roots", "size")

    def __init__(self, size: int = 0, roots: Iterable[bytes] = ()) -> None:
        self.size = size
        self.roots = list(roots)
        if size < 0 or len(self.roots) != size.bit_count() or any(len(r) != HASH_SIZE for r in self.roots):
            raise ValueError(f"a frontier of {size} leaves has {max(size, 0).bit_count()} roots of 32 bytes")

    @classmethod
    def from_bytes(cls, size: int, data: bytes) -> Frontier:
        """Read what `to_bytes` wrote.

        Raises:
            ValueError: the length does not fit the size.
        """
        return cls(size, [data[i : i + HASH_SIZE] for i in range(0, len(data), HASH_SIZE)])

    def to_bytes(self) -> bytes:
        """The roots, one after the other; the size is kept beside it."""
        return b"".join(self.roots)

    def copy(self) -> Frontier:
        """An independent frontier of the same tree."""
        twin = Frontier()
        twin.size, twin.roots = self.size, self.roots.copy()
        return twin

    def append(self, leaf: bytes) -> bytes:
        """Append one record by its bytes and return its leaf hash."""
        hashed = _sha256(b"\x00" + leaf).digest()
        self.extend((hashed,))
        return hashed

    def extend(self, hashes: Iterable[bytes]) -> None:
        """Append leaf hashes. Each costs one node hash on average, 0.5 us with SHA instructions, 1 us without."""
        nodes = list(hashes)
        if len(nodes) == 1:  # by far the most frequent; the levels below would cost as much again
            digest, bits = nodes[0], self.size
            while bits & 1:
                digest = _sha256(b"\x01" + self.roots.pop() + digest).digest()
                bits >>= 1
            self.roots.append(digest)
            self.size += 1
            return
        size = level = self.size
        size += len(nodes)
        roots = self.roots
        left: list[bytes] = []  # what each level keeps, smallest first
        while nodes:
            if level & 1:
                nodes.insert(0, roots.pop())
            if len(nodes) & 1:
                left.append(nodes.pop())
            pairs = iter(nodes)
            nodes = [_sha256(b"\x01" + one + two).digest() for one, two in zip(pairs, pairs, strict=True)]
            level >>= 1
        roots.extend(reversed(left))
        self.size = size

    def join(self, other: Frontier) -> None:
        """Append another tree, whose first leaf then stands where its largest subtree may begin; costs a hash or two.

        Raises:
            ValueError: the subtrees of the other one are none of the joined tree.
        """
        if other.size and self.size % (1 << (other.size.bit_length() - 1)):
            raise ValueError(f"a tree of {other.size} leaves is no subtree after {self.size}")
        size = other.size
        for digest in other.roots:
            bit = size.bit_length() - 1
            level = self.size >> bit
            while level & 1:
                digest = _sha256(b"\x01" + self.roots.pop() + digest).digest()
                level >>= 1
            self.roots.append(digest)
            self.size += 1 << bit
            size -= 1 << bit

    def root(self) -> bytes:
        """Root of the tree (rule 2)."""
        if not self.roots:
            return EMPTY_ROOT
        digest = self.roots[-1]
        for left in reversed(self.roots[:-1]):
            digest = node_hash(left, digest)
        return digest


def root(leaf_hashes: Iterable[bytes]) -> bytes:
    """Root over leaf hashes, in constant memory."""
    frontier = Frontier()
    frontier.extend(leaf_hashes)
    return frontier.root()


def over_leaves(leaves: Leaves) -> Ranges:
    """Make ranges of a leaf accessor: every range is hashed from its leaves, so a proof costs O(size)."""
    return lambda start, end: root(leaves(start, end))


def inclusion_ranges(index: int, size: int) -> list[tuple[int, int]]:
    """Ranges whose hashes prove leaf `index` in a tree of `size`, from the leaf upwards.

    Raises:
        ValueError: no such leaf.
    """
    if not 0 <= index < size:
        raise ValueError(f"no leaf {index} in a tree of {size}")
    ranges, start, end = [], 0, size
    while end - start > 1:
        middle = start + _split(end - start)
        if index < middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start = middle
    return ranges[::-1]


def consistency_ranges(old: int, new: int) -> list[tuple[int, int]]:
    """Ranges whose hashes prove that a tree of `new` leaves extends its first `old`; none if that is trivial.

    Raises:
        ValueError: old is negative or larger than new.
    """
    if not 0 <= old <= new:
        raise ValueError(f"a tree of {new} does not extend one of {old}")
    ranges: list[tuple[int, int]] = []
    if old in {0, new}:
        return ranges
    start, end, whole = 0, new, True
    while old != end:
        middle = start + _split(end - start)
        if old <= middle:
            ranges.append((middle, end))
            end = middle
        else:
            ranges.append((start, middle))
            start, whole = middle, False
    # RFC 6962 section 2.1.2: the old root itself is known to the verifier and left out.
    if not whole:
        ranges.append((start, end))
    return ranges[::-1]


def inclusion_proof(ranges: Ranges, index: int, size: int) -> list[bytes]:
    """Audit path of leaf `index` (from 0) in the tree of the first `size` leaves."""
    return [ranges(start, end) for start, end in inclusion_ranges(index, size)]


def consistency_proof(ranges: Ranges, old: int, new: int) -> list[bytes]:
    """Proof that the tree of `new` leaves begins with the tree of `old`."""
    return [ranges(start, end) for start, end in consistency_ranges(old, new)]


def verify_inclusion(leaf: bytes, index: int, size: int, proof: Sequence[bytes], root_hash: bytes) -> bool:
    """Tell whether hash `leaf` is leaf `index` of the tree of this size and root (RFC 9162, 2.1.3.2)."""
    if not 0 <= index < size or not _well_formed(leaf, root_hash, *proof):
        return False
    at, last, digest = index, size - 1, leaf
    for step in proof:
        if last == 0:
            return False
        if at & 1 or at == last:
            digest = node_hash(step, digest)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            digest = node_hash(digest, step)
        at, last = at >> 1, last >> 1
    return last == 0 and digest == root_hash


def verify_consistency(old: int, new: int, proof: Sequence[bytes], old_root: bytes, new_root: bytes) -> bool:
    """Tell whether the tree (new, new_root) extends the tree (old, old_root) (RFC 9162, 2.1.4.2)."""
    if not 0 <= old <= new:
        return False
    if old == new:
        # One tree: nothing is hashed, so the roots need only be equal (and that of the empty tree is known).
        return not proof and old_root == new_root and (new > 0 or new_root == EMPTY_ROOT)
    if not _well_formed(old_root, new_root, *proof):
        return False
    if old == 0:
        # The empty tree is extended by every tree; it has one root, and nothing is left to prove.
        return not proof and old_root == EMPTY_ROOT
    # A complete old tree is its own first step, so the proof leaves it out.
    path = list(proof) if old & (old - 1) else [old_root, *proof]
    if not path:
        return False
    at, last = old - 1, new - 1
    while at & 1:
        at, last = at >> 1, last >> 1
    from_old = from_new = path[0]
    for step in path[1:]:
        if last == 0:
            return False
        if at & 1 or at == last:
            from_old, from_new = node_hash(step, from_old), node_hash(step, from_new)
            while not at & 1 and at:
                at, last = at >> 1, last >> 1
        else:
            from_new = node_hash(from_new, step)
        at, last = at >> 1, last >> 1
    return last == 0 and from_old == old_root and from_new == new_root


def _split(size: int) -> int:
    """Largest power of two smaller than size: where RFC 6962 cuts a tree in two."""
    return 1 << ((size - 1).bit_length() - 1)


def _well_formed(*hashes: bytes) -> bool:
    return all(len(digest) == HASH_SIZE for digest in hashes)
