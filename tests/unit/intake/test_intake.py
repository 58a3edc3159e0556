"""Intake takes in everything or nothing, with the digest of its bytes alone, and gives it back as it was."""

from __future__ import annotations

import io
import os
import tarfile
import zipfile
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from intake_samples import FILES, member, tar
from muniment.app.archive import Limits
from muniment.app.intake import collect, manifest_digest, materialize
from muniment.app.tree import matching, path_problem, paths_problem
from muniment.domain import canonical
from muniment.domain.errors import InvalidError, NotFoundError, UsageError, WrongError
from muniment.store.evidence_folder import EvidenceFolder


def test_folder_manifest_is_sorted_by_bytes_and_complete(store: EvidenceFolder, folder: Path) -> None:
    taken = collect(folder, store)
    assert [f["path"] for f in taken.manifest["files"]] == [
        "a-b.txt",
        "a/b.txt",
        "a/c/run.sh",
        "empty",
        "grüße.txt",
    ]
    assert [f["mode_exec"] for f in taken.manifest["files"]] == [False, False, True, False, False]
    assert (5, sum(map(len, FILES.values())), []) == (taken.files, taken.bytes, taken.manifest["excluded"])
    for item in taken.manifest["files"]:
        assert store.check(item["blake3"], item["sha256"], item["bytes"]) is None
    assert taken.digest == manifest_digest(taken.manifest)
    canonical.check_profile(taken.manifest)


def test_metadata_never_changes_the_digest_and_bytes_always_do(store: EvidenceFolder, folder: Path) -> None:
    before = collect(folder, store).digest
    os.utime(folder / "a/b.txt", ns=(1, 1))
    (folder / "a/b.txt").chmod(0o755)
    (folder / "nothing-here").mkdir()
    assert before == collect(folder, store).digest
    (folder / "a/b.txt").write_bytes(b"slasH")
    assert before != collect(folder, store).digest
    (folder / "a/b.txt").write_bytes(b"slash")
    (folder / "a/b.txt").rename(folder / "a/b2.txt")
    assert before != collect(folder, store).digest


@pytest.mark.parametrize("suffix", [".tar", ".tar.gz", ".tgz", ".zip"])
def test_an_archive_of_a_folder_is_the_same_intake(
    store: EvidenceFolder, folder: Path, tmp_path: Path, suffix: str
) -> None:
    path = tmp_path / f"src{suffix}"
    if suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            for file in sorted(folder.rglob("*"), reverse=True):
                archive.write(file, file.relative_to(folder))
    else:
        with tarfile.open(path, "w" if suffix == ".tar" else "w:gz") as archive:
            archive.add(folder, ".")
    taken, plain = collect(path, store), collect(folder, store)
    assert plain.digest == taken.digest
    assert plain.manifest["files"] == taken.manifest["files"]
    kept = taken.manifest["archive"]
    assert store.check(kept["blake3"], kept["sha256"], kept["bytes"]) is None
    assert path.stat().st_size == kept["bytes"]


def test_one_file_and_standard_input(store: EvidenceFolder, folder: Path) -> None:
    assert [f["path"] for f in collect(folder / "a/b.txt", store).manifest["files"]] == ["b.txt"]
    taken = collect("-", store, stdin=io.BytesIO(b"slash"))
    assert [(f["path"], f["bytes"]) for f in taken.manifest["files"]] == [("stdin", 5)]


def test_endless_standard_input_ends(store: EvidenceFolder) -> None:
    with Path("/dev/zero").open("rb") as endless, pytest.raises(UsageError):
        collect("-", store, stdin=endless, limits=Limits(max_bytes=5_000_000))


def test_exclusions_are_listed_with_their_pattern(store: EvidenceFolder, folder: Path) -> None:
    (folder / ".git").mkdir()
    (folder / ".git/HEAD").symlink_to("/etc/passwd")
    (folder / "link").symlink_to("empty")
    taken = collect(folder, store, exclude=[".git", "*.sh", "link", "a/b*"])
    assert taken.manifest["excluded"] == [
        {"path": ".git/", "pattern": ".git"},
        {"path": "a/b.txt", "pattern": "a/b*"},
        {"path": "a/c/run.sh", "pattern": "*.sh"},
        {"path": "link", "pattern": "link"},
    ]
    assert [f["path"] for f in taken.manifest["files"]] == ["a-b.txt", "empty", "grüße.txt"]


def test_exclusions_reach_into_archives(store: EvidenceFolder, tmp_path: Path) -> None:
    path = tmp_path / "x.tar"
    path.write_bytes(tar([member("keep"), member("vendor/a"), member("vendor/b/c"), member("x.pyc")]))
    taken = collect(path, store, exclude=["vendor", "*.pyc"])
    assert [f["path"] for f in taken.manifest["files"]] == ["keep"]
    assert [(e["path"], e["pattern"]) for e in taken.manifest["excluded"]] == [
        ("vendor/", "vendor"),
        ("x.pyc", "*.pyc"),
    ]


def test_progress_is_one_count_over_all_files(store: EvidenceFolder, folder: Path) -> None:
    seen: list[int] = []
    taken = collect(folder, store, progress=seen.append)
    assert sorted(seen) == seen
    assert taken.bytes == seen[-1]


def test_nothing_to_take_in(store: EvidenceFolder, tmp_path: Path, folder: Path) -> None:
    (tmp_path / "void").mkdir()
    (tmp_path / "e.tar").write_bytes(tar([]))
    for source in (tmp_path / "void", tmp_path / "absent", tmp_path / "e.tar"):
        with pytest.raises(UsageError):
            collect(source, store)
    with pytest.raises(UsageError):
        collect(folder, store, exclude=["*"])


def test_a_store_inside_the_folder_must_be_excluded(folder: Path) -> None:
    store = EvidenceFolder(folder / ".muniment" / "evidence", folder / ".muniment" / "staging")
    store.put(b"a store that is in use")
    with pytest.raises(UsageError, match="evidence store itself"):
        collect(folder, store)
    assert collect(folder, store, exclude=[".muniment"]).files == 5


@pytest.mark.parametrize("limits", [Limits(max_files=3), Limits(max_bytes=5000)])
def test_limits_of_a_folder(store: EvidenceFolder, folder: Path, limits: Limits) -> None:
    with pytest.raises(UsageError):
        collect(folder, store, limits=limits)


def test_materialize_gives_the_tree_back(store: EvidenceFolder, folder: Path, tmp_path: Path) -> None:
    taken = collect(folder, store)
    materialize(taken.manifest, store, tmp_path / "out")
    found = {
        p.relative_to(tmp_path / "out").as_posix(): p.read_bytes()
        for p in (tmp_path / "out").rglob("*")
        if p.is_file()
    }
    assert found == FILES
    assert os.access(tmp_path / "out/a/c/run.sh", os.X_OK)
    assert (tmp_path / "out/empty").stat().st_mode & 0o777 == 0o644
    assert taken.digest == collect(tmp_path / "out", store).digest
    with pytest.raises(UsageError):
        materialize(taken.manifest, store, tmp_path / "out")


def test_materialize_from_damaged_or_missing_evidence_leaves_nothing(
    store: EvidenceFolder, folder: Path, tmp_path: Path
) -> None:
    taken = collect(folder, store)
    path = store.path(taken.manifest["files"][-1]["blake3"])
    path.chmod(0o600)
    path.write_bytes(b"y" * 5000)
    before = sorted(tmp_path.iterdir())
    with pytest.raises(WrongError):
        materialize(taken.manifest, store, tmp_path / "out")
    path.unlink()
    with pytest.raises(NotFoundError):
        materialize(taken.manifest, store, tmp_path / "out")
    assert before == sorted(tmp_path.iterdir())


@pytest.mark.parametrize(
    "change",
    [
        {"path": "../evil"}, {"path": "/abs"}, {"path": "a/../b"}, {"path": ""}, {"path": 5}, {"blake3": "../" * 22},
        {"blake3": None}, {"sha256": "0"}, {"bytes": -1}, {"bytes": "5"}, {"bytes": True}, {"path": "a\nb"},
    ],
)  # fmt: skip
def test_materialize_trusts_no_manifest(
    store: EvidenceFolder, folder: Path, tmp_path: Path, change: dict[str, object]
) -> None:
    item = collect(folder / "a/b.txt", store).manifest["files"][0]
    with pytest.raises(InvalidError):
        materialize({"files": [{**item, **change}]}, store, tmp_path / "out")
    with pytest.raises(InvalidError):
        materialize({"files": [item, item]}, store, tmp_path / "out")
    for broken in ({}, {"files": []}, {"files": None}, {"files": [{}]}):
        with pytest.raises(InvalidError):
            materialize(broken, store, tmp_path / "out")


@given(st.text(max_size=30))
def test_a_path_that_passes_stays_below(path: str) -> None:
    if path_problem(path) is None:
        assert not path.startswith("/")
        assert ".." not in path.split("/")
        assert Path("/root", path).relative_to("/root").as_posix() == path


def test_path_lists() -> None:
    assert paths_problem(["a-b", "a/b", "b"]) is None
    for bad in (["a", "a"], ["b", "a"], ["a/b", "a-b"], ["a", "a/b"], ["a", "a-b", "a/b"]):
        assert paths_problem(bad) is not None


def test_patterns() -> None:
    assert matching("x/y.pyc", ["*.pyc"]) == "*.pyc"
    assert matching("x/y", ["x/*"]) == "x/*"
    assert matching("build", ["build/"]) == "build/"
    assert matching("x/y", ["y2", "/y"]) is None
