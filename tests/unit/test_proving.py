"""Proofs of a log: a wrong one is never answered, whatever lies in the reader's home or in the log."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from muniment.app.home import tile_dir
from muniment.app.proving import Prover
from muniment.domain.errors import MunimentError, NotFoundError, UnavailableError, WrongError
from muniment.ops.bench import data
from muniment.store import merkle
from muniment.store.api import Log
from muniment.store.open import create_log, open_log
from muniment.store.sqlite_log import SqliteLog

SIZE = 700  # files of heights 4 and 8


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Path:
    root = tmp_path_factory.mktemp("proving")
    with contextlib.closing(create_log(root / "store")) as log:
        data.fill(log, SIZE)
    return root


@pytest.fixture
def root(made: Path, tmp_path: Path) -> Path:
    """A store of `SIZE` records, and a home whose nodes are those of it."""
    shutil.copytree(made / "store", tmp_path / "store")
    with opened(tmp_path) as log:
        prove_all(log, tmp_path / "home")
    return tmp_path


@contextlib.contextmanager
def opened(root: Path) -> Iterator[Log]:
    with contextlib.closing(open_log(root / "store")) as log:
        yield log


def files(root: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in tile_dir("s-bench", root / "home").iterdir()}


def record(log: Log, position: int) -> bytes:
    return next(body for _, body in log.read(after=position - 1, until=position))


def prove_all(log: Log, home: Path, every: int = 61) -> set[str]:
    """Proofs of many records and sizes, each compared with the definition; return the notes."""
    leaves = list(log.leaves())
    size = len(leaves)

    def naive(start: int, end: int) -> bytes:
        return merkle.root(leaves[start:end])

    notes = set()
    with Prover(log, home) as prover:
        for position in {*range(1, size + 1, every), size}:
            proof = prover.inclusion(position, record(log, position))
            assert (position, size, leaves[position - 1], naive(0, size)) == proof[:4]
            assert merkle.inclusion_proof(naive, position - 1, size) == proof.path
            assert merkle.verify_inclusion(proof.leaf, position - 1, size, proof.path, proof.root)
            grown = prover.consistency(position)
            assert (position, naive(0, position), size, naive(0, size)) == grown[:4]
            assert merkle.consistency_proof(naive, position, size) == grown.path
            older = min(position + 17, size)
            assert naive(0, older) == prover.inclusion(position, record(log, position), older).root
            assert naive(0, position) == prover.consistency(position, older).old_root
            notes.add(prover.note)
    return notes


# -- the reader's home ----------------------------------------------------------------------------------------------------


def _flip(path: Path) -> None:
    raw = bytearray(path.read_bytes())
    raw[: len(raw) : 32] = bytes(one ^ 1 for one in raw[: len(raw) : 32])
    path.write_bytes(raw)


def _zeros(path: Path) -> None:
    path.write_bytes(bytes(path.stat().st_size))


def _shift(path: Path) -> None:
    path.write_bytes(path.read_bytes()[32:] + bytes(32))


def _leaves(path: Path) -> None:
    """Whole files of another tree: a foreign log of the same size."""
    path.write_bytes(b"".join(merkle.leaf_hash(b"%d" % n) for n in range(path.stat().st_size // 32)))


def _longer(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-32] + bytes(64_000))


def _folder(path: Path) -> None:
    path.unlink()
    path.mkdir()


def _fifo(path: Path) -> None:
    path.unlink()
    os.mkfifo(path)


def _link(path: Path) -> None:
    path.unlink()
    path.symlink_to("/dev/zero")


@pytest.mark.parametrize("harm", [_flip, _zeros, _shift, _leaves, _longer, _fifo, _link, _folder])
@pytest.mark.parametrize("height", [4, 8])
def test_nodes_that_are_wrong_give_no_wrong_proof_and_are_made_anew(
    root: Path, harm: Callable[[Path], None], height: int
) -> None:
    good = files(root)
    harm(tile_dir("s-bench", root / "home") / str(height))
    with opened(root) as log:
        notes = prove_all(log, root / "home")
    assert any("made anew" in note or "cannot be" in note for note in notes)
    if harm is not _folder:  # which stands in the way, so nodes stay in memory
        assert files(root) == good
        with opened(root) as log:
            assert prove_all(log, root / "home") == {""}


@pytest.mark.parametrize("cut", [0, 1, 31, 32, 33, 300])
@pytest.mark.parametrize("height", [4, 8])
def test_nodes_that_are_cut_are_added_again(root: Path, cut: int, height: int) -> None:
    good = files(root)
    os.truncate(tile_dir("s-bench", root / "home") / str(height), min(cut, len(good[str(height)])))
    with opened(root) as log:
        assert prove_all(log, root / "home") == {""}
    assert files(root) == good


def test_one_wrong_bit_anywhere_gives_no_wrong_proof(root: Path) -> None:
    chance = random.Random(7)
    for name, raw in sorted(files(root).items()):
        for _ in range(8):
            at, bit = chance.randrange(len(raw)), 1 << chance.randrange(8)
            wrong = bytearray(raw)
            wrong[at] ^= bit
            (tile_dir("s-bench", root / "home") / name).write_bytes(wrong)
            position = min((at // 32 << int(name)) + 1, SIZE)
            with opened(root) as log:
                prove_all(log, root / "home", every=SIZE)
                with Prover(log, root / "home") as prover:
                    proof = prover.inclusion(position, record(log, position))
                    assert proof.root == log.head().root
                    assert merkle.verify_inclusion(
                        proof.leaf, position - 1, SIZE, proof.path, log.head().root
                    )


def test_a_wrong_node_gives_no_wrong_root_of_an_older_tree(root: Path) -> None:
    """The root of an older tree is made of nodes too: that a proof fits it says nothing."""
    good = files(root)
    asked: list[Callable[[Log, Prover], bytes]] = [
        lambda log, prover: prover.inclusion(300, record(log, 300), 512).root,
        lambda _, prover: prover.consistency(300, 512).root,
        lambda _, prover: prover.consistency(512).old_root,
    ]
    for ask in asked:
        (tile_dir("s-bench", root / "home") / "8").write_bytes(bytes(32) + good["8"][32:])
        with opened(root) as log, Prover(log, root / "home") as prover:
            assert merkle.root(log.leaves(until=512)) == ask(log, prover)
            assert "made anew" in prover.note
        assert files(root) == good


def test_nodes_of_a_log_that_went_another_way_are_made_anew(tmp_path: Path) -> None:
    """A log restored from a backup has the same name: its head is cut back, and it grows otherwise."""
    with contextlib.closing(create_log(tmp_path / "store")) as log:
        data.fill(log, 100)
    shutil.copytree(tmp_path / "store", tmp_path / "backup")
    with opened(tmp_path) as log:
        data.fill(log, SIZE, first=101)
        assert prove_all(log, tmp_path / "home") == {""}
    shutil.rmtree(tmp_path / "store")
    (tmp_path / "backup").rename(tmp_path / "store")
    with opened(tmp_path) as log:
        assert prove_all(log, tmp_path / "home") == {""}, "the nodes of its first records are right"
        data.fill(log, SIZE + 50, first=101, cycles=1)
        assert prove_all(log, tmp_path / "home") == {
            "stored inner nodes were not those of this log: made anew"
        }
        assert prove_all(log, tmp_path / "home") == {""}


def test_a_home_that_cannot_be_written_costs_time_only(root: Path) -> None:
    (root / "home" / "file").write_bytes(b"")
    with opened(root) as log:
        notes = prove_all(log, root / "home" / "file")
    assert len(notes) == 1
    assert "cannot be kept" in notes.pop()


def test_disk_full_while_nodes_are_added_costs_time_only(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    good = files(root)
    os.truncate(tile_dir("s-bench", root / "home") / "4", 320)
    with monkeypatch.context() as patch, opened(root) as log:
        patch.setattr("muniment.store.tiles.write_all", full)
        assert "No space left" in prove_all(log, root / "home").pop()
    with opened(root) as log:
        assert prove_all(log, root / "home") == {""}
    assert files(root) == good


# -- the log --------------------------------------------------------------------------------------------------------------


def attack(root: Path, sql: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(root / "store" / "log.db", isolation_level=None)) as db:
        for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
            db.execute(f"DROP TRIGGER {name}")
        assert db.execute(sql, values).rowcount > 0


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("UPDATE records SET leaf = zeroblob(32) WHERE position = 300", "proof.record"),
        ("UPDATE records SET body = CAST(replace(body, '2026', '2027') AS blob) WHERE position = 300", "proof.record"),
        ("UPDATE records SET leaf = zeroblob(32) WHERE position = 301", "proof.head"),
        ("UPDATE records SET leaf = zeroblob(31) WHERE position = 301", "proof.leaves"),
        ("UPDATE records SET leaf = 'text' WHERE position = 301", "proof.leaves"),
        ("UPDATE head SET frontier = zeroblob(length(frontier))", "proof.head"),
        ("UPDATE head SET size = size + 1", "store.head_mismatch"),
        ("DELETE FROM records WHERE position = 301", "store.head_mismatch"),
        ("DELETE FROM records WHERE position = 300", "store.head_mismatch"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("kept", [True, False])
def test_a_log_that_is_damaged_gives_no_proof(root: Path, sql: str, code: str, kept: bool) -> None:
    if not kept:
        shutil.rmtree(root / "home")
    with opened(root) as log:
        body = record(log, 300)
    attack(root, sql)
    with opened(root) as log, Prover(log, root / "home") as prover:
        if "replace" in sql:
            body = record(log, 300)
        with pytest.raises(MunimentError) as error:
            prover.inclusion(300, body)
    assert (error.value.code, error.value.exit_code) == (code, 7)
    assert "verify store" in error.value.hint


def test_bytes_of_another_record_are_not_proven(root: Path) -> None:
    with opened(root) as log, Prover(log, root / "home") as prover:
        for position, body in ((5, record(log, 6)), (5, b""), (5, record(log, 5) + b" ")):
            with pytest.raises(WrongError, match="record #5") as error:
                prover.inclusion(position, body)
            assert error.value.context["found"] == merkle.leaf_hash(body).hex()


@pytest.mark.parametrize(("position", "size"), [(0, None), (-1, None), (SIZE + 1, None), (301, 300), (1, 0)])
def test_no_such_record_has_no_proof(root: Path, position: int, size: int | None) -> None:
    with opened(root) as log, Prover(log, root / "home") as prover, pytest.raises(NotFoundError):
        prover.inclusion(position, b"", size)


@pytest.mark.parametrize(("old", "size", "error"), [
    (-1, None, NotFoundError),
    (SIZE + 1, None, NotFoundError),
    (301, 300, NotFoundError),
    (1, SIZE + 1, UnavailableError),
    (0, -1, NotFoundError),
])  # fmt: skip
def test_no_such_tree_has_no_proof(
    root: Path, old: int, size: int | None, error: type[MunimentError]
) -> None:
    with opened(root) as log, Prover(log, root / "home") as prover, pytest.raises(error):
        prover.consistency(old, size)


# -- what holds -----------------------------------------------------------------------------------------------------------


def test_proofs_in_an_older_tree_rest_on_the_head(root: Path) -> None:
    chance = random.Random(3)
    with opened(root) as log, Prover(log, root / "home") as prover:
        leaves = list(log.leaves())
        for _ in range(60):
            size = chance.randint(1, SIZE)
            position = chance.randint(1, size)
            proof = prover.inclusion(position, record(log, position), size)
            assert proof.root == merkle.root(leaves[:size])
            assert merkle.verify_inclusion(proof.leaf, position - 1, size, proof.path, proof.root)
            grown = prover.consistency(position, size)
            assert (grown.old_root, grown.root) == (merkle.root(leaves[:position]), proof.root)
            assert merkle.verify_consistency(position, size, grown.path, grown.old_root, grown.root)
        assert prover.consistency(0).path == []
        assert prover.consistency(SIZE).old_root == log.head().root
        assert prover.consistency(0, 0).root == merkle.EMPTY_ROOT


def test_a_log_that_grew_costs_what_is_new(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read = []
    leaves = SqliteLog.leaves

    def counted(self: SqliteLog, *, after: int = 0, until: int | None = None) -> Iterator[bytes]:
        for leaf in leaves(self, after=after, until=until):
            read.append(leaf)
            yield leaf

    with opened(root) as log:
        data.fill(log, SIZE + 90, first=SIZE + 1)
        monkeypatch.setattr(SqliteLog, "leaves", counted)
        with Prover(log, root / "home") as prover:
            prover.consistency(SIZE)
            assert 90 < len(read) <= 90 + 3 * 16
            read.clear()
            prover.inclusion(17, record(log, 17))
            assert len(read) <= 3 * 16
            assert prover.note == ""


def test_progress_is_told_where_nodes_are_made(root: Path) -> None:
    shutil.rmtree(root / "home")
    done: list[int] = []
    with opened(root) as log:
        for _ in range(2):
            with Prover(log, root / "home", progress=done.append) as prover:
                prover.consistency(1)
    assert done == [SIZE >> 4 << 4]
