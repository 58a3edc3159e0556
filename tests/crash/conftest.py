"""A store with one of everything, and a copy of it to be damaged."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
import story
from muniment.app import home, rebuilding
from muniment.store import writer
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.sqlite_log import SqliteLog


@pytest.fixture(scope="session")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every kind of entity, evidence, a signed record, a saved memo and a head seen."""
    root = tmp_path_factory.mktemp("master")
    clock = story.Clock()
    log = SqliteLog.create(root / "store", kind="records", clock=clock)
    evidence = EvidenceFolder(root / "store" / "evidence", root / "store" / "staging")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "INDEX_EVERY", 16)  # a story is shorter than the tail that has no rows yet
        story.Story(log, clock, evidence).whole()
    rebuilding.rebuild(log, root / "home")
    head = log.head()
    assert home.remember_head(log.store_id, head.size, head.root, base=root / "home") == ""
    log.close()
    return root


@pytest.fixture
def store(master: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(master, tmp_path / "copy")
    return tmp_path / "copy"
