"""An evidence store and a folder to take in."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
from intake_samples import FILES
from muniment.store.evidence_folder import EvidenceFolder


@pytest.fixture
def store(tmp_path: Path) -> EvidenceFolder:
    return EvidenceFolder(tmp_path / "store" / "evidence", tmp_path / "store" / "staging")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "src"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    (root / "a/c/run.sh").chmod(0o755)
    for path in (root, *root.rglob("*")):
        os.utime(path, ns=(10**18, 10**18))  # a change must show, and clocks of files stand still for 10 ms
    return root
