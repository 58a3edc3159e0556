"""Proofs from stored inner nodes are the same whatever store the log is in."""

from __future__ import annotations

from pathlib import Path

import pytest
from muniment.app.proving import Prover
from muniment.domain.errors import WrongError
from muniment.ops.bench import data
from muniment.store import merkle
from muniment.store.api import Log


def test_every_store_gives_the_proofs_of_the_definition(log: Log, tmp_path: Path) -> None:
    for first, size in ((1, 90), (91, 300)):
        data.fill(log, size, first=first)
        leaves = list(log.leaves())
        naive = merkle.over_leaves(lambda start, end, leaves=leaves: leaves[start:end])  # type: ignore[misc]
        with Prover(log, tmp_path / "home") as prover:
            for position, body in log.read():
                proof = prover.inclusion(position, body)
                assert merkle.inclusion_proof(naive, position - 1, size) == proof.path
                assert proof.root == log.head().root
                assert merkle.consistency_proof(naive, position, size) == prover.consistency(position).path
            assert prover.note == ""
            with pytest.raises(WrongError, match="record #2"):
                prover.inclusion(2, body)
    assert {path.name for path in tmp_path.glob("home/tiles/s-bench/*")} == {"4", "8"}


def test_an_empty_log_has_the_proof_of_nothing(log: Log, tmp_path: Path) -> None:
    with Prover(log, tmp_path / "home") as prover:
        assert prover.consistency(0) == (0, merkle.EMPTY_ROOT, 0, merkle.EMPTY_ROOT, [])


def test_leaves_end_at_the_head_whatever_end_is_asked_for(log: Log) -> None:
    assert [] == list(log.leaves(until=5)) == list(log.leaves(after=3, until=2**62))
    data.fill(log, 40)
    leaves = [merkle.leaf_hash(body) for _, body in log.read()]
    for after, until in (
        (0, 41),
        (-3, 50),
        (39, 2**62),
        (40, 41),
        (50, 60),
        (5, 40),
        (7, 3),
        (-5, -1),
        (2, 0),
    ):
        assert leaves[max(after, 0) : min(max(until, 0), 40)] == list(log.leaves(after=after, until=until))
