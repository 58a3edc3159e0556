"""What proof exists: gaps and damage are found behind manifests too, and a release speaks for pack, build and intake."""

import json
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest


def _blobs(store: Path) -> Iterator[Path]:
    return (path for path in sorted((store / "store" / "evidence").rglob("*")) if path.is_file())


def _holding(store: Path, text: bytes) -> Path:
    return next(path for path in _blobs(store) if text in path.read_bytes())


def _listed_file(store: Path) -> Path:
    """A file that no record names itself: only the manifest of a pack does."""
    manifest = json.loads(_holding(store, b'"runtime_pack_id"').read_bytes())
    address = manifest["files"][0]["blake3"]
    return store / "store" / "evidence" / address[:2] / address[2:]


def test_a_release_speaks_for_its_pack_build_and_intake(told: Path, cli: Callable[..., Any]) -> None:
    ran = cli("evidence-summary", "r-1", "-o", "json")
    assert ran.code == 0
    assert {"pack-manifest", "intake-manifest", "stage-stdout"} <= set(ran.json["data"]["roles"])


@pytest.mark.parametrize("damage", ["missing", "shorter"])
def test_a_listed_file_that_is_not_there_is_found_without_hashing(
    told: Path, cli: Callable[..., Any], damage: str
) -> None:
    path = _listed_file(told)
    if damage == "missing":
        path.unlink()
    else:
        path.chmod(0o600)
        path.write_bytes(path.read_bytes()[:-1])
    ran = cli("evidence-summary")
    assert ran.code == 7
    assert "pack-manifest:" in ran.out


def test_a_listed_file_with_other_bytes_is_found_by_check(told: Path, cli: Callable[..., Any]) -> None:
    path = _listed_file(told)
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\0")
    assert cli("evidence-summary").code == 0
    ran = cli("evidence-summary", "--check")
    assert ran.code == 7
    assert "damaged" in ran.out


def test_a_manifest_that_cannot_be_read_is_damaged(told: Path, cli: Callable[..., Any]) -> None:
    path = _holding(told, b'"runtime_pack_id"')
    path.chmod(0o600)
    path.write_bytes(b"x" * path.stat().st_size)
    assert cli("evidence-summary").code == 7


def test_no_evidence_folder_is_a_gap(told: Path, cli: Callable[..., Any]) -> None:
    shutil.rmtree(told / "store" / "evidence")
    assert cli("evidence-summary").code == 7
