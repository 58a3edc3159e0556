"""Intake takes in everything or nothing, and never more than the folder or archive it was given."""

from __future__ import annotations

import gzip
import io
import os
import random
import socket
import stat
import struct
import tarfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muniment.app.archive import Limits
from muniment.app.intake import collect, manifest_digest, materialize
from muniment.app.tree import Tree, matching, path_problem, paths_problem
from muniment.domain import canonical
from muniment.domain.errors import (
    InvalidError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WrongError,
)
from muniment.store.evidence_folder import EvidenceFolder

FILES = {
    "a-b.txt": b"dash",
    "a/b.txt": b"slash",
    "a/c/run.sh": b"#!/bin/sh\n",
    "empty": b"",
    "grüße.txt": b"x" * 5000,
}


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
    return root


def tar(members: list[tuple[tarfile.TarInfo, bytes]], mode: str = "w") -> bytes:
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode=mode) as archive:
        for info, data in members:
            info.size = len(data) if info.isreg() else 0
            archive.addfile(info, io.BytesIO(data))
    return out.getvalue()


def member(
    name: str, data: bytes = b"x", kind: bytes = tarfile.REGTYPE, link: str = ""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname = kind, link
    return info, data


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


def bad_symlink(root: Path) -> None:
    (root / "l").symlink_to("/etc/passwd")


def bad_inner_symlink(root: Path) -> None:
    (root / "l").symlink_to("empty")


def bad_folder_symlink(root: Path) -> None:
    (root / "l").symlink_to("a", target_is_directory=True)


def bad_fifo(root: Path) -> None:
    os.mkfifo(root / "f")


def bad_socket(root: Path) -> None:
    here = Path.cwd()
    os.chdir(root)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("s")
    os.chdir(here)


def bad_device(root: Path) -> None:
    try:
        os.mknod(root / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs the right to make a device")


def bad_control(root: Path) -> None:
    (root / "a\x1b[2J").write_text("x")


def bad_newline(root: Path) -> None:
    (root / "a\nb").write_text("x")


def bad_bidi(root: Path) -> None:
    (root / "\u202egpj.exe").write_text("x")


def bad_undecodable(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe"))).write_text("x")


def bad_long_path(root: Path) -> None:
    here = Path.cwd()
    os.chdir(root)
    for _ in range(18):
        Path("d" * 240).mkdir()
        os.chdir("d" * 240)
    Path("f").write_text("x")
    os.chdir(here)


BAD: dict[str, Callable[[Path], None]] = {
    k[4:]: v for k, v in list(globals().items()) if k.startswith("bad_")
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_what_a_folder_must_not_hold(store: EvidenceFolder, folder: Path, kind: str) -> None:
    BAD[kind](folder)
    with pytest.raises(UsageError) as caught:
        collect(folder, store)
    assert caught.value.code.startswith("intake.")
    assert caught.value.message.isprintable()
    assert caught.value.hint


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


def change_content(root: Path) -> None:
    (root / "grüße.txt").write_bytes(b"y" * 5000)


def change_grow(root: Path) -> None:
    with (root / "grüße.txt").open("ab") as file:
        file.write(b"more")


def change_vanish(root: Path) -> None:
    (root / "grüße.txt").unlink()


def change_add(root: Path) -> None:
    (root / "a/c/late").write_text("x")


def change_replace(root: Path) -> None:
    (root / "new").write_bytes(b"x" * 5000)
    (root / "new").rename(root / "grüße.txt")


def change_to_symlink(root: Path) -> None:
    (root / "grüße.txt").unlink()
    (root / "grüße.txt").symlink_to("/etc/passwd")


def change_to_folder(root: Path) -> None:
    (root / "grüße.txt").unlink()
    (root / "grüße.txt").mkdir()


def change_parent_to_symlink(root: Path) -> None:
    outside = root.parent / "outside"
    (outside / "c").mkdir(parents=True, exist_ok=True)
    (outside / "c/run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "a").rename(root.parent / "moved")
    (root / "a").symlink_to(outside)


CHANGES: dict[str, Callable[[Path], None]] = {
    k[7:]: v for k, v in list(globals().items()) if k.startswith("change_")
}


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_a_folder_that_changes_meanwhile_fails(store: EvidenceFolder, folder: Path, kind: str) -> None:
    done: list[int] = []

    def meddle(count: int) -> None:
        if not done:
            CHANGES[kind](folder)
        done.append(count)

    with pytest.raises(UnavailableError):
        collect(folder, store, progress=meddle)


def test_a_swapped_parent_cannot_lead_out(folder: Path) -> None:
    with Tree(folder) as tree:
        nodes = {node.path: node for node in tree.files()}
        change_parent_to_symlink(folder)
        with pytest.raises(UnavailableError), tree.open(nodes["a/c/run.sh"]):
            pass


@pytest.mark.parametrize(
    "bad",
    [
        member("../evil"), member("/etc/passwd"), member("a/../../evil"), member("a//b"), member("a/./b"), member(""),
        member("a\x1bb"), member("a\nb"), member("x" * 300), member("\udcff"),
        member("l", kind=tarfile.SYMTYPE, link="/etc/passwd"), member("l", kind=tarfile.SYMTYPE, link="ok"),
        member("l", kind=tarfile.LNKTYPE, link="ok"), member("d", kind=tarfile.CHRTYPE),
        member("d", kind=tarfile.BLKTYPE), member("d", kind=tarfile.FIFOTYPE), member("s", kind=tarfile.GNUTYPE_SPARSE),
        member("ok"), member("ok/below"), member("../up", kind=tarfile.DIRTYPE),
    ],
    ids=lambda value: f"{value[0].name[:12]!r}-{value[0].type!r}",
)  # fmt: skip
@pytest.mark.parametrize("mode", ["w", "w:gz"])
def test_members_a_tar_must_not_hold(
    store: EvidenceFolder, tmp_path: Path, bad: tuple[tarfile.TarInfo, bytes], mode: str
) -> None:
    path = tmp_path / ("x.tar" if mode == "w" else "x.tgz")
    path.write_bytes(tar([member("ok"), bad], mode))
    with pytest.raises((UsageError, WrongError)):
        collect(path, store)
    assert not (tmp_path / "evil").exists()


def zipped(*names: tuple[str, bytes, int]) -> bytes:
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, data, mode in names:
            info = zipfile.ZipInfo(name)
            info.external_attr = mode << 16
            archive.writestr(info, data, zipfile.ZIP_DEFLATED)
    return out.getvalue()


@pytest.mark.parametrize(
    "bad",
    [
        ("../evil", b"x", 0o644), ("/abs", b"x", 0o644), ("a/../../e", b"x", 0o644), ("a//b", b"x", 0), ("./../e", b"x", 0),
        ("l", b"/etc/passwd", 0o120777), ("d", b"", 0o020644), ("f", b"", 0o010644), ("a\x1b", b"x", 0), ("ok/x", b"x", 0),
    ],
)  # fmt: skip
def test_members_a_zip_must_not_hold(
    store: EvidenceFolder, tmp_path: Path, bad: tuple[str, bytes, int]
) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(("ok", b"x", 0o644), bad))
    with pytest.raises((UsageError, WrongError)):
        collect(tmp_path / "x.zip", store)


@pytest.mark.filterwarnings("ignore:Duplicate name")
def test_the_same_name_twice_in_an_archive(store: EvidenceFolder, tmp_path: Path) -> None:
    (tmp_path / "x.zip").write_bytes(zipped(("ok", b"x", 0), ("ok", b"y", 0)))
    (tmp_path / "x.tar").write_bytes(tar([member("ok"), member("./ok")]))
    for name in ("x.zip", "x.tar"):
        with pytest.raises(UsageError):
            collect(tmp_path / name, store)


def test_an_encrypted_zip_is_refused(store: EvidenceFolder, tmp_path: Path) -> None:
    data = bytearray(zipped(("ok", b"x", 0)))
    at = data.index(b"PK\x01\x02")
    data[6] |= 1
    data[at + 8] |= 1
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises((UsageError, WrongError)):
        collect(tmp_path / "x.zip", store)


@pytest.mark.parametrize("kind", ["tgz", "zip"])
def test_a_bomb_ends_at_the_limit(store: EvidenceFolder, tmp_path: Path, kind: str) -> None:
    zeros = bytes(40 << 20)
    path = tmp_path / f"bomb.{kind}"
    path.write_bytes(zipped(("z", zeros, 0)) if kind == "zip" else gzip.compress(tar([member("z", zeros)])))
    with pytest.raises(UsageError) as caught:
        collect(path, store)
    assert caught.value.code == "intake.bomb"


def test_too_many_members(store: EvidenceFolder, tmp_path: Path) -> None:
    (tmp_path / "x.tar").write_bytes(tar([member(f"f{i}") for i in range(12)]))
    with pytest.raises(UsageError):
        collect(tmp_path / "x.tar", store, limits=Limits(max_files=10))


def test_a_huge_tar_header_is_not_read_into_memory(store: EvidenceFolder, tmp_path: Path) -> None:
    info = tarfile.TarInfo("pax")
    info.type, info.size = tarfile.XHDTYPE, 12 << 20
    (tmp_path / "x.tar").write_bytes(info.tobuf(tarfile.USTAR_FORMAT) + bytes((12 << 20) + 10240))
    with pytest.raises(UsageError) as caught:
        collect(tmp_path / "x.tar", store)
    assert caught.value.code == "intake.bomb"


def test_every_cut_of_a_tar_is_noticed(store: EvidenceFolder, tmp_path: Path) -> None:
    whole = tar([member("a", b"x" * 700), member("b", b"y" * 10)])
    (tmp_path / "x.tar").write_bytes(whole)
    assert collect(tmp_path / "x.tar", store).files == 2
    end = len(whole.rstrip(b"\0"))
    cuts = {1, 511, 512, 513, 1024, 1535, 1536, 2047, 2048, 2049, end, 2560, 2561, 3072}
    for cut in sorted(cuts):
        (tmp_path / "x.tar").write_bytes(whole[:cut])
        with pytest.raises(MunimentError):
            collect(tmp_path / "x.tar", store)


def test_a_broken_header_in_the_middle_of_a_tar_is_no_end(store: EvidenceFolder, tmp_path: Path) -> None:
    whole = bytearray(tar([member("a"), member("b"), member("c")]))
    whole[1024] ^= 1
    (tmp_path / "x.tar").write_bytes(whole)
    with pytest.raises(WrongError):
        collect(tmp_path / "x.tar", store)


@pytest.mark.parametrize("name", ["x.tar", "x.tar.gz", "x.zip"])
def test_garbage_is_no_archive(store: EvidenceFolder, tmp_path: Path, name: str) -> None:
    shuffle = random.Random(7)
    for size in (0, 1, 100, 5000):
        (tmp_path / name).write_bytes(shuffle.randbytes(size))
        with pytest.raises((WrongError, UsageError)):
            collect(tmp_path / name, store)


@settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(at=st.integers(0, 10**6), value=st.integers(0, 255), kind=st.sampled_from(["tar", "tgz", "zip"]))
def test_a_changed_byte_never_crashes_the_reader(
    store: EvidenceFolder, tmp_path: Path, at: int, value: int, kind: str
) -> None:
    data = bytearray(
        zipped(("a", b"x" * 50, 0o644), ("b/c", b"y", 0o755))
        if kind == "zip"
        else tar([member("a", b"x" * 50), member("b/c", b"y")], "w" if kind == "tar" else "w:gz")
    )
    data[at % len(data)] = value
    (tmp_path / f"x.{kind}").write_bytes(data)
    try:
        taken = collect(tmp_path / f"x.{kind}", store)
    except (UsageError, WrongError):
        return
    for item in taken.manifest["files"]:
        assert store.check(item["blake3"], item["sha256"], item["bytes"]) is None


def test_a_zip_whose_crc_is_wrong_is_damaged(store: EvidenceFolder, tmp_path: Path) -> None:
    data = bytearray(zipped(("a", b"x" * 50, 0o644)))
    at = data.index(b"PK\x01\x02")
    (crc,) = struct.unpack_from("<I", data, at + 16)
    struct.pack_into("<I", data, at + 16, crc ^ 1)
    struct.pack_into("<I", data, 14, crc ^ 1)
    (tmp_path / "x.zip").write_bytes(data)
    with pytest.raises(WrongError):
        collect(tmp_path / "x.zip", store)


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
