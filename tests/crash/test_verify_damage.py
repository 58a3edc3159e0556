"""Files that are changed, added, forged or cut: evidence, memos, the database."""

from __future__ import annotations

from pathlib import Path

import pytest
from attacks import found, verify
from muniment.app import memo
from muniment.projections.model import ReadModel
from muniment.store.evidence_folder import EvidenceFolder


def _blobs(root: Path) -> list[Path]:
    return sorted(path for path in (root / "store" / "evidence").rglob("*") if path.is_file())


def test_every_evidence_file_is_covered(store: Path) -> None:
    blobs = _blobs(store)
    assert len(blobs) > 8
    for path in blobs:
        data = path.read_bytes()
        path.chmod(0o600)
        for damage in (bytes([data[0] ^ 1]) + data[1:], data[:-1], data + b"x", b""):
            path.write_bytes(damage)
            found(verify(store), "evidence.present", "evidence.manifests")
        path.unlink()
        found(verify(store), "evidence.present", "evidence.manifests")
        path.write_bytes(data)
    assert verify(store).ok


def test_orphans_are_information_and_junk_is_a_finding(store: Path) -> None:
    evidence = EvidenceFolder(store / "store" / "evidence", store / "store" / "staging")
    blob = evidence.put(b"nobody names me")
    report = verify(store)
    assert report.ok
    assert report.information["evidence"]["orphans"] == 1
    path = evidence.path(blob.blake3)
    path.chmod(0o600)
    path.write_bytes(b"nobody names ME")
    found(verify(store), "evidence.folder")
    path.unlink()
    for junk in ("junk", "ab/junk", f"ab/{'0' * 62}"):
        place = store / "store" / "evidence" / junk
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"junk")
        found(verify(store), "evidence.folder")
        place.unlink()
    assert verify(store).ok


def test_a_forged_memo_is_found(store: Path) -> None:
    place = memo.place_of("s-story", store / "home")
    step = place.steps()[-1]
    live = memo.opened(place, step, "s-story", lambda _: ReadModel())
    assert live.model is not None
    assert live.model.packs
    for pack in live.model.packs.values():
        pack.state = "WITHDRAWN"
    assert memo.save(place, "s-story", live.model, live.frontier) == ""
    found(verify(store), "projections.memo")


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_file_that_is_no_database_is_wrong_and_nothing_passes(store: Path, size: int) -> None:
    path = store / "store" / "log.db"
    path.write_bytes(b"x" * size)
    report = verify(store)
    assert report.exit_code == 7
    assert {c.verdict for c in report.checks} <= {"fail", "skipped"}


def test_a_truncated_database_is_wrong(store: Path) -> None:
    path = store / "store" / "log.db"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 // 4096 * 4096])
    assert verify(store).exit_code == 7
