"""What a tar or zip must not hold; archives that are cut, damaged or too large."""

from __future__ import annotations

import gzip
import random
import struct
import tarfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from intake_samples import member, tar, zipped
from muniment.app.archive import Limits
from muniment.app.intake import collect
from muniment.domain.errors import MunimentError, UsageError, WrongError
from muniment.store.evidence_folder import EvidenceFolder


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
