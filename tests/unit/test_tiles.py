"""Stored inner nodes: what cannot be used is said, and what they answer is what RFC 6962 defines."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from muniment.domain.errors import WrongError
from muniment.store import merkle, tiles
from muniment.store.tiles import FolderTiles, MemoryTiles, Tiles, Unusable

MOST = 5000
LEAVES = [merkle.leaf_hash(b"%d" % number) for number in range(MOST)]


class Leaves:
    """An accessor that counts."""

    def __init__(self, leaves: list[bytes]) -> None:
        self.leaves, self.read, self.asked = leaves, 0, 0

    def __call__(self, start: int, end: int) -> Iterator[bytes]:
        self.read += end - start
        self.asked += 1
        return iter(self.leaves[start:end])


def root_of(tree: Tiles, size: int) -> bytes:
    tree.extend(size)
    return tree.hash(0, size)


def over(leaves: list[bytes]) -> merkle.Ranges:
    return lambda start, end: merkle.root(leaves[start:end])


# -- what must fail -------------------------------------------------------------------------------------------------------


def _missing(path: Path) -> None:
    path.unlink()


def _short(path: Path) -> None:
    os.truncate(path, 31)


def _empty(path: Path) -> None:
    os.truncate(path, 0)


def _link(path: Path) -> None:
    path.rename(path.with_name("elsewhere"))
    path.symlink_to(path.with_name("elsewhere"))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


@pytest.mark.parametrize("harm", [_missing, _short, _empty, _link, _folder, _fifo])
@pytest.mark.parametrize("height", [4, 8])
def test_files_that_are_none_are_unusable_or_made_again(
    tmp_path: Path, harm: Callable[[Path], None], height: int
) -> None:
    Tiles(FolderTiles(tmp_path), Leaves(LEAVES)).extend(700)
    harm(tmp_path / str(height))
    tree = Tiles(FolderTiles(tmp_path), Leaves(LEAVES))
    if harm in {_missing, _short, _empty}:  # a length that tells: the rest is written again
        assert over(LEAVES)(0, 700) == root_of(tree, 700)
    else:
        with pytest.raises(Unusable, match=str(tmp_path / str(height))):
            root_of(tree, 256 if height == 8 else 240)


def test_a_file_that_is_cut_under_the_reader_is_unusable(tmp_path: Path) -> None:
    tree = Tiles(FolderTiles(tmp_path), Leaves(LEAVES))
    tree.extend(700)
    os.truncate(tmp_path / "8", 32)
    with pytest.raises(Unusable, match="ends before node 2"):
        tree.hash(0, 512)


def test_a_folder_that_cannot_be_is_unusable(tmp_path: Path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(Unusable, match="Not a directory"):
        Tiles(FolderTiles(tmp_path / "file" / "tiles"), Leaves(LEAVES)).extend(16)
    (tmp_path / "tiles" / "12").mkdir(parents=True)
    made = MemoryTiles()
    Tiles(made, Leaves(LEAVES)).extend(16)
    with pytest.raises(Unusable, match=str(tmp_path / "tiles")):
        FolderTiles(tmp_path / "tiles").replace(made)


@pytest.mark.parametrize("leaves", [LEAVES[:39], [*LEAVES[:39], b"short"], [*LEAVES[:39], "ü" * 32]])
def test_leaves_that_are_missing_or_none_are_damage_of_the_log(leaves: list[bytes]) -> None:
    with pytest.raises(WrongError, match="leaves of records 33 to 40"):
        root_of(Tiles(MemoryTiles(), Leaves(leaves)), 40)


@pytest.mark.parametrize(("start", "end"), [(-1, 4), (0, 41), (5, 4), (1, 3), (8, 24), (40, 41)])
def test_what_is_no_subtree_has_no_hash(start: int, end: int) -> None:
    tree = Tiles(MemoryTiles(), Leaves(LEAVES))
    tree.extend(40)
    with pytest.raises(ValueError, match="no subtree"):
        tree.hash(start, end)


def test_an_interrupted_replacement_leaves_no_file_of_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    made = MemoryTiles()
    Tiles(made, Leaves(LEAVES)).extend(700)

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(tiles, "write_all", full)
    with pytest.raises(Unusable, match="No space left"):
        FolderTiles(tmp_path).replace(made)
    with pytest.raises(Unusable, match="No space left"):
        FolderTiles(tmp_path).write(4, 0, b"\0" * 32)
    assert {path.name for path in tmp_path.iterdir()} <= {"4"}


# -- what they answer -----------------------------------------------------------------------------------------------------


@settings(max_examples=60, deadline=None)
@given(st.lists(st.integers(0, MOST), min_size=1, max_size=4).map(sorted), st.data())
def test_proofs_are_those_of_the_definition_however_the_tree_grew(
    sizes: list[int], draw: st.DataObject
) -> None:
    tree = Tiles(MemoryTiles(), Leaves(LEAVES))
    naive = over(LEAVES)
    for size in sizes:
        assert naive(0, size) == root_of(tree, size)
    older = draw.draw(st.integers(0, size))
    assert naive(0, older) == tree.hash(0, older)
    assert merkle.consistency_proof(naive, older, size) == merkle.consistency_proof(tree.hash, older, size)
    if older:
        index = draw.draw(st.integers(0, older - 1))
        expected = merkle.inclusion_proof(naive, index, older)
        found = merkle.inclusion_proof(tree.hash, index, older)
        assert expected == found
        assert merkle.verify_inclusion(LEAVES[index], index, older, found, naive(0, older))


def test_files_hold_what_is_new_only(tmp_path: Path) -> None:
    leaves, grown = Leaves(LEAVES), tmp_path / "grown"
    tree = Tiles(FolderTiles(grown), leaves)
    done: list[int] = []
    for size in (0, 15, 300, 300, 3000, 4200):
        before = leaves.read
        tree.extend(size, done.append)
        assert leaves.read - before <= size - (done[-2] if len(done) > 1 else 0)
    assert leaves.read == 4200 >> 4 << 4, "each leaf once"
    assert done == [288, 2992, 4192]
    Tiles(FolderTiles(tmp_path / "at once"), Leaves(LEAVES)).extend(4200)
    files = [
        {path.name: path.read_bytes() for path in sorted(folder.iterdir())}
        for folder in (grown, tmp_path / "at once")
    ]
    assert files[0] == files[1]
    assert {name: len(data) // 32 for name, data in files[0].items()} == {"4": 262, "8": 16, "12": 1}
    assert grown.stat().st_mode & 0o777 == 0o700
    # C2SP tlog-tiles: entry n of tile 0 at level 1 is the root of leaves 256 n to 256 n + 255.
    assert b"".join(over(LEAVES)(at, at + 256) for at in range(0, 4096, 256)) == files[0]["8"]


def test_a_proof_asks_little_of_the_log(tmp_path: Path) -> None:
    Tiles(FolderTiles(tmp_path), Leaves(LEAVES)).extend(MOST)
    leaves = Leaves(LEAVES)
    tree = Tiles(FolderTiles(tmp_path), leaves)
    tree.extend(MOST)
    merkle.inclusion_proof(tree.hash, 1234, MOST)
    merkle.consistency_proof(tree.hash, 2345, MOST)
    assert leaves.asked <= 3
    assert leaves.read <= 3 * 16


def test_several_that_extend_at_once_write_the_same(tmp_path: Path) -> None:
    def grow(step: int) -> None:
        tree = Tiles(FolderTiles(tmp_path), Leaves(LEAVES))
        for size in range(0, MOST, step):
            try:
                tree.extend(size)
            except Unusable:  # a file that another one is about to write
                continue

    threads = [threading.Thread(target=grow, args=(step,)) for step in (17, 40, 333, 1024)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    tree = Tiles(FolderTiles(tmp_path), Leaves(LEAVES))
    assert over(LEAVES)(0, MOST) == root_of(tree, MOST)
    assert (tmp_path / "4").read_bytes() == b"".join(
        over(LEAVES)(at, at + 16) for at in range(0, MOST - 15, 16)
    )
