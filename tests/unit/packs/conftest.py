"""An evidence store; a folder that is a pack; two stored packs and a target to install them on."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from muniment.app import folder as driver
from muniment.app.pack_files import store_pack, write_manifest
from muniment.store.evidence_folder import EvidenceFolder
from pack_samples import FILES, SLOT, make


@pytest.fixture
def store(tmp_path: Path) -> EvidenceFolder:
    return EvidenceFolder(tmp_path / "evidence", tmp_path / "staging")


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pack"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture
def manifest(folder: Path) -> dict[str, Any]:
    made = make(folder)
    write_manifest(folder, made)
    return made


@pytest.fixture
def packs(tmp_path: Path, store: EvidenceFolder) -> list[dict[str, Any]]:
    made = []
    for name in ("one", "two"):
        source = tmp_path / name
        (source / "lib").mkdir(parents=True)
        (source / "lib/code").write_bytes(name.encode() * 500)
        (source / "same").write_bytes(b"same")
        manifest = make(source, build=f"b-{name}")
        store_pack(source, manifest, store)
        made.append(manifest)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    driver.adopt(tmp_path / "target", "-", SLOT)
    return tmp_path / "target"
