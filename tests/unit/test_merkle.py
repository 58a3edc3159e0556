"""RFC 6962 trees: known roots, every proof of small trees against the definition, and what must fail."""

from __future__ import annotations

import hashlib

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.store import merkle
from muniment.store.merkle import Frontier

# Leaves and roots of the RFC 6962 reference tree (certificate-transparency, merkle_tree_test).
LEAVES = [bytes.fromhex(h) for h in (
    "", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f",
)]  # fmt: skip
ROOTS = [
    "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
    "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
    "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
    "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
    "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
    "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
    "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
    "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
]
HASHES = [merkle.leaf_hash(f"leaf {i}".encode()) for i in range(80)]


def defined_root(hashes: list[bytes]) -> bytes:
    """MTH of RFC 6962 section 2.1, as written there."""
    if not hashes:
        return hashlib.sha256(b"").digest()
    if len(hashes) == 1:
        return hashes[0]
    k = 1
    while k * 2 < len(hashes):
        k *= 2
    return hashlib.sha256(b"\x01" + defined_root(hashes[:k]) + defined_root(hashes[k:])).digest()


def ranges(start: int, end: int) -> bytes:
    return defined_root(HASHES[start:end])


@pytest.mark.parametrize("size", range(9))
def test_reference_roots(size: int) -> None:
    frontier = Frontier()
    for leaf in LEAVES[:size]:
        assert merkle.leaf_hash(leaf) == frontier.append(leaf)
    assert ROOTS[size] == frontier.root().hex()


def test_a_leaf_cannot_pass_as_a_node() -> None:
    left, right = HASHES[:2]
    assert merkle.leaf_hash(left + right) != merkle.node_hash(left, right)


@given(st.integers(0, 80), st.integers(0, 80))
def test_frontier_is_the_definition_and_survives_its_bytes(first: int, second: int) -> None:
    first, second = sorted((first, second))
    frontier = Frontier()
    frontier.extend(HASHES[:first])
    assert defined_root(HASHES[:first]) == frontier.root()
    again = Frontier.from_bytes(first, frontier.to_bytes())
    twin = again.copy()
    again.extend(HASHES[first:second])
    assert defined_root(HASHES[:second]) == again.root() == merkle.root(HASHES[:second])
    assert defined_root(HASHES[:first]) == twin.root(), "a copy does not move with its origin"


@pytest.mark.parametrize(
    ("size", "data"),
    [(0, HASHES[0]), (1, b""), (2, HASHES[0] * 2), (3, HASHES[0]), (1, HASHES[0][:31]), (-1, b"")],
)
def test_a_frontier_that_does_not_fit_its_size_is_refused(size: int, data: bytes) -> None:
    with pytest.raises(ValueError, match="a frontier of"):
        Frontier.from_bytes(size, data)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 5, 7, 8, 9, 16, 17, 33])
def test_every_leaf_of_a_tree_is_provable_and_only_as_itself(size: int) -> None:
    root_hash = ranges(0, size)
    for index in range(size):
        proof = merkle.inclusion_proof(ranges, index, size)
        assert merkle.verify_inclusion(HASHES[index], index, size, proof, root_hash)
        for other in range(size + 2):
            assert other == index or not merkle.verify_inclusion(HASHES[index], other, size, proof, root_hash)
        assert not merkle.verify_inclusion(HASHES[index + 1], index, size, proof, root_hash)


@pytest.mark.parametrize("new", [1, 2, 3, 4, 6, 8, 11, 16, 21])
def test_every_prefix_of_a_tree_is_consistent_and_no_other(new: int) -> None:
    for old in range(new + 1):
        proof = merkle.consistency_proof(ranges, old, new)
        assert merkle.verify_consistency(old, new, proof, ranges(0, old), ranges(0, new))
        other = ranges(1, old + 1) if old else HASHES[0]
        assert not merkle.verify_consistency(old, new, proof, other, ranges(0, new))
        assert not merkle.verify_consistency(old, new, [*proof, HASHES[0]], ranges(0, old), ranges(0, new))
        if proof:
            assert not merkle.verify_consistency(old, new, proof[:-1], ranges(0, old), ranges(0, new))


@given(st.data())
def test_any_changed_bit_breaks_a_proof(data: st.DataObject) -> None:
    new = data.draw(st.integers(2, 70))
    old = data.draw(st.integers(1, new - 1))
    index = data.draw(st.integers(0, new - 1))
    inclusion = merkle.inclusion_proof(ranges, index, new)
    consistency = merkle.consistency_proof(ranges, old, new)
    for proof in (inclusion, consistency):
        at = data.draw(st.integers(0, len(proof) - 1))
        bit = data.draw(st.integers(0, 255))
        changed = bytearray(proof[at])
        changed[bit // 8] ^= 1 << bit % 8
        proof[at] = bytes(changed)
    assert not merkle.verify_inclusion(HASHES[index], index, new, inclusion, ranges(0, new))
    assert not merkle.verify_consistency(old, new, consistency, ranges(0, old), ranges(0, new))


def test_proofs_from_a_leaf_accessor_equal_those_of_the_definition() -> None:
    accessor = merkle.over_leaves(lambda start, end: iter(HASHES[start:end]))
    for index in (0, 12, 44):
        assert merkle.inclusion_proof(ranges, index, 45) == merkle.inclusion_proof(accessor, index, 45)
    assert merkle.consistency_proof(ranges, 13, 45) == merkle.consistency_proof(accessor, 13, 45)


@pytest.mark.parametrize(("index", "size"), [(0, 0), (1, 1), (-1, 3), (3, 3), (5, -1)])
def test_no_proof_of_a_leaf_that_is_not_there(index: int, size: int) -> None:
    with pytest.raises(ValueError, match="no leaf"):
        merkle.inclusion_proof(ranges, index, size)
    assert not merkle.verify_inclusion(HASHES[0], index, size, [], HASHES[0])


@pytest.mark.parametrize(("old", "new"), [(2, 1), (-1, 2), (1, 0)])
def test_no_proof_of_a_shrinking_tree(old: int, new: int) -> None:
    with pytest.raises(ValueError, match="does not extend"):
        merkle.consistency_proof(ranges, old, new)
    assert not merkle.verify_consistency(old, new, [], HASHES[0], HASHES[0])


def test_trivial_consistency_is_checked_all_the_same() -> None:
    empty = merkle.EMPTY_ROOT
    assert merkle.verify_consistency(0, 0, [], empty, empty)
    assert merkle.verify_consistency(0, 3, [], empty, ranges(0, 3))
    assert not merkle.verify_consistency(0, 0, [], HASHES[0], HASHES[0]), "the empty tree has one root"
    assert not merkle.verify_consistency(0, 3, [], HASHES[0], ranges(0, 3))
    assert not merkle.verify_consistency(0, 3, [HASHES[0]], empty, ranges(0, 3))
    assert not merkle.verify_consistency(3, 3, [], ranges(0, 3), ranges(1, 4))
    assert not merkle.verify_consistency(3, 3, [HASHES[0]], ranges(0, 3), ranges(0, 3))


def test_hashes_of_other_lengths_never_verify() -> None:
    proof = merkle.inclusion_proof(ranges, 1, 3)
    assert not merkle.verify_inclusion(HASHES[1] + b"\0", 1, 3, proof, ranges(0, 3))
    assert not merkle.verify_inclusion(HASHES[1], 1, 3, [proof[0], proof[1][:-1]], ranges(0, 3))
    assert not merkle.verify_inclusion(HASHES[1], 1, 3, proof, ranges(0, 3)[:16])
