"""Projections on every store: rebuild is live, at any batch size, from any memo, under any hash seed."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
import story
from muniment.app import memo, projecting, rebuilding
from muniment.projections.model import ReadModel
from muniment.store.api import Log
from muniment.store.merkle import Frontier
from muniment.store.sqlite_log import SqliteLog


@pytest.fixture
def told(make: Callable[..., Log]) -> Log:
    clock = story.Clock()
    log = make("records", clock)
    story.Story(log, clock).whole()
    return log


# Digests of the story: equal on every store, machine, Python and hash seed. A change here is a change of the meaning.
@pytest.fixture(scope="module")
def reference(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    clock = story.Clock()
    with SqliteLog.create(tmp_path_factory.mktemp("reference") / "s", kind="records", clock=clock) as log:
        story.Story(log, clock).whole()
        model = ReadModel()
        projecting.fold(log, model, until=log.head().size)
    return story.digests_of(model)


@pytest.mark.parametrize("size", [1, 2, 7, 64, 5000])
def test_any_batch_size_gives_the_same_digests(told: Log, reference: dict[str, str], size: int) -> None:
    model = ReadModel()
    projecting.fold(told, model, until=told.head().size, size=size)
    assert reference == story.digests_of(model)


def test_any_saved_memo_gives_the_same_digests(told: Log, reference: dict[str, str], tmp_path: Path) -> None:
    leaves = list(told.leaves())
    for position in range(1, len(leaves), 6):
        model, frontier = ReadModel(), Frontier()
        projecting.fold(told, model, until=position)
        frontier.extend(leaves[:position])
        assert memo.save(memo.place_of(told.store_id, tmp_path), told.store_id, model, frontier) == ""
        found = projecting.current(told, tmp_path)
        assert found.cursor.memo == position
        assert reference == story.digests_of(found.model)


def test_rebuild_is_live(told: Log, tmp_path: Path) -> None:
    rebuilding.rebuild(told, tmp_path)
    assert rebuilding.rebuild(told, tmp_path)["verdict"] == "equal"


_PROGRAM = """
import json, sys
from pathlib import Path
from muniment.app import projecting
from muniment.store.open import open_log
log = open_log(Path(sys.argv[1]), read_only=True)
print(json.dumps([[row["digest"], row["core"]] for row in projecting.digest(log, Path(sys.argv[2]))["data"]]))
log.close()
"""


def test_another_hash_seed_gives_the_same_digests(tmp_path: Path) -> None:
    clock = story.Clock()
    with SqliteLog.create(tmp_path / "s", kind="records", clock=clock) as log:
        story.Story(log, clock).whole()
        here = [[row["digest"], row["core"]] for row in projecting.digest(log, tmp_path / "home")["data"]]
    for seed in ("1", "2"):
        run = subprocess.run(
            [sys.executable, "-c", _PROGRAM, str(tmp_path / "s"), str(tmp_path / "home")],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
            timeout=60,
        )
        assert here == json.loads(run.stdout)
