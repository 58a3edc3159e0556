"""Evidence in a folder: what `tests/contract/test_evidence_places.py` does not ask of every place."""

from __future__ import annotations

import hashlib
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muniment.domain.errors import UnavailableError, UnfitError, UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.evidence_folder import EvidenceFolder

VECTORS = Path(os.environ.get("MUNIMENT_VECTORS") or Path(__file__).parents[2].parent / "shared" / "vectors")


@pytest.fixture
def store(tmp_path: Path) -> EvidenceFolder:
    return EvidenceFolder(tmp_path / "evidence", tmp_path / "staging")


def damage(store: EvidenceFolder, address: str, data: bytes) -> Path:
    path = store.path(address)
    path.chmod(0o600)
    path.write_bytes(data)
    path.chmod(0o400)
    return path


def test_one_file_of_its_owner_under_the_address(store: EvidenceFolder, tmp_path: Path) -> None:
    blob = store.put(b"x" * 5000)
    path = tmp_path / "evidence" / blob.blake3[:2] / blob.blake3[2:]
    assert path.read_bytes() == b"x" * 5000
    before = path.stat()
    assert (before.st_mode & 0o777, before.st_nlink) == (0o400, 1)
    assert {path.parent.stat().st_mode & 0o7777, store.root.stat().st_mode & 0o7777} == {0o700}
    store.put(b"x" * 5000)
    assert before == path.stat()
    assert list((tmp_path / "staging").iterdir()) == []


def test_a_failed_put_leaves_nothing_in_staging(store: EvidenceFolder) -> None:
    with pytest.raises(UnavailableError):
        store.put(io.BytesIO(b"x" * 10), size=11)
    assert list(store.staging.iterdir()) == []
    assert list(store.iter()) == []


def test_public_blake3_vectors_are_the_addresses(store: EvidenceFolder) -> None:
    file = VECTORS / "blake3" / "test_vectors.json"
    if not file.exists():
        pytest.skip(f"no public vectors at {file}: set MUNIMENT_VECTORS")
    for case in json.loads(file.read_text())["cases"]:
        data = bytes(i % 251 for i in range(case["input_len"]))
        assert case["hash"][:64] == store.put(data).blake3


def test_known_address_without_vectors(store: EvidenceFolder) -> None:
    assert store.put(b"").blake3 == "af1349b9f5f9a1a6a0404dea36dcc9499bcb25c9adc112b7cc9a93cae41f3262"


def test_evidence_form_of_a_record(store: EvidenceFolder) -> None:
    blob = store.put(b"abc")
    assert {
        "role": "log",
        "blake3": blob.blake3,
        "sha256": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
        "bytes": 3,
        "media_type": "text/plain",
    } == blob.as_evidence("log", "text/plain")


@pytest.mark.parametrize("put_there", ["symlink", "folder", "fifo"])
def test_what_is_no_file_is_no_blob(store: EvidenceFolder, tmp_path: Path, put_there: str) -> None:
    blob = store.put(b"abc")
    path = store.path(blob.blake3)
    path.unlink()
    if put_there == "symlink":
        (tmp_path / "elsewhere").write_bytes(b"abc")
        path.symlink_to(tmp_path / "elsewhere")
    elif put_there == "folder":
        path.mkdir()
    else:
        os.mkfifo(path)
    problem = store.check(*blob)
    assert problem is not None
    assert problem.code == "not_a_file"
    assert [blob.blake3] == store.missing([blob.blake3])
    assert list(store.iter()) == []
    assert [f"{blob.blake3[:2]}/{blob.blake3[2:]}"] == list(store.strays())
    with pytest.raises(WrongError):
        store.put(b"abc")


def test_reading_makes_no_folder(store: EvidenceFolder, tmp_path: Path) -> None:
    assert list(store.iter()) == []
    assert store.missing(["0" * 64]) == ["0" * 64]
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("staging", ["evidence", "evidence/tmp", "evidence/a/b"])
def test_staging_inside_evidence_is_refused(tmp_path: Path, staging: str) -> None:
    with pytest.raises(UsageError):
        EvidenceFolder(tmp_path / "evidence", tmp_path / staging)


@pytest.mark.parametrize("kind", ["absent", "folder", "fifo", "symlink", "device"])
def test_paths_that_are_no_regular_file(store: EvidenceFolder, tmp_path: Path, kind: str) -> None:
    path = tmp_path / "source"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "symlink":
        path.symlink_to("/etc/hostname")
    elif kind == "device":
        path = Path("/dev/zero")
    with pytest.raises((UsageError, UnavailableError)):
        store.put(path)
    assert list(store.iter()) == []


@pytest.mark.parametrize(
    ("call", "number", "code"),
    [
        ("write", 28, "evidence.disk_full"),
        ("write", 122, "evidence.disk_full"),
        ("write", 30, "evidence.read_only"),
        ("fsync", 5, "evidence.io"),
        ("fsync", 28, "evidence.disk_full"),
        ("link", 28, "evidence.disk_full"),
        ("link", 13, "evidence.permission"),
        ("link", 18, "evidence.file_system"),
        ("link", 1, "evidence.file_system"),
    ],
)
def test_a_failing_system_call_is_explained_and_leaves_no_blob(
    store: EvidenceFolder, monkeypatch: pytest.MonkeyPatch, call: str, number: int, code: str
) -> None:
    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises((UnavailableError, UnfitError)) as caught:
            store.put(b"abc")
    assert code == caught.value.code
    assert caught.value.hint
    assert list(store.iter()) == []
    assert list(store.staging.iterdir()) == []
    assert store.check(*store.put(b"abc")) is None


def test_a_real_full_file_is_disk_full_and_the_store_works_afterwards(tmp_path: Path) -> None:
    script = f"""
import resource, signal
from pathlib import Path
from muniment.domain.errors import UnavailableError
from muniment.store.evidence_folder import EvidenceFolder
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (100_000, 100_000))
store = EvidenceFolder(Path({str(tmp_path / "evidence")!r}), Path({str(tmp_path / "staging")!r}))
try:
    store.put(b"x" * 200_000)
except UnavailableError as error:
    assert error.code == "evidence.disk_full", error.code
else:
    raise SystemExit("not refused")
assert list(store.iter()) == [], "half a blob"
store.put(b"x" * 50_000)
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=30)
    assert (done.returncode, done.stderr) == (0, "")


def test_file_is_synced_before_its_name_and_the_name_before_the_answer(
    store: EvidenceFolder, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[str] = []
    real_sync, real_link = os.fsync, os.link

    def sync(fd: int) -> None:
        path = Path(f"/proc/self/fd/{fd}").readlink()
        calls.append("fsync " + os.path.relpath(path, store.root.parent).split("-")[0])
        real_sync(fd)

    def link(*args: object, **kwargs: object) -> None:
        calls.append("link")
        real_link(*args, **kwargs)  # type: ignore[arg-type]

    monkeypatch.setattr(os, "fsync", sync)
    monkeypatch.setattr(os, "link", link)
    shard = f"evidence/{store.put(b'abc').blake3[:2]}"
    assert ["fsync staging/put", "link", f"fsync {shard}", "fsync evidence", "fsync ."] == calls
    calls.clear()
    rest = store.put(b"abc").blake3[2:]
    assert ["fsync staging/put", "link", f"fsync {shard}/{rest}", f"fsync {shard}"] == calls


@pytest.mark.parametrize("name", ["README", "{shard}/short", "{shard}/{rest}.part", "zz/{rest}", "AB/{rest}"])
def test_strays(store: EvidenceFolder, name: str) -> None:
    blob = store.put(b"abc")
    name = name.format(shard=blob.blake3[:2], rest=blob.blake3[2:])
    (store.root / name).parent.mkdir(exist_ok=True)
    (store.root / name).write_text("x")
    assert [(blob.blake3, 3)] == list(store.iter())
    assert [name.split("/")[0] if name[:2] in {"zz", "AB"} else name] == list(store.strays())


def test_a_group_shares_what_a_setgid_folder_offers_it(tmp_path: Path) -> None:
    tmp_path.chmod(0o2770)
    old = os.umask(0o077)
    try:
        store = EvidenceFolder(tmp_path / "evidence", tmp_path / "staging")
        path = store.path(store.put(b"abc").blake3)
    finally:
        os.umask(old)
    assert path.stat().st_mode & 0o777 == 0o440
    for folder in (path.parent, store.root, store.staging):
        assert folder.stat().st_mode & 0o7777 == 0o2770


@pytest.mark.parametrize("mode", [0o2750, 0o770, 0o2700, 0o755])
def test_a_folder_that_is_not_shared_keeps_all_private(tmp_path: Path, mode: int) -> None:
    tmp_path.chmod(mode)
    store = EvidenceFolder(tmp_path / "evidence", tmp_path / "staging")
    path = store.path(store.put(b"abc").blake3)
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.parent.stat().st_mode & 0o777 == 0o700


def test_a_mount_that_is_gone_has_no_missing_blobs_and_gets_none(tmp_path: Path) -> None:
    share = tmp_path / "share"
    share.mkdir()
    store = EvidenceFolder(share / "evidence", share / "staging", mounted=True)
    for use in (
        lambda: store.put(b"abc"),
        lambda: store.missing(["0" * 64]),
        lambda: store.open("0" * 64),
        lambda: list(store.iter()),
        lambda: list(store.strays()),
    ):
        with pytest.raises(UnavailableError) as caught:
            use()
        assert (caught.value.code, caught.value.exit_code) == ("evidence.no_place", 8)
    problem = store.check("0" * 64, "0" * 64, 1)
    assert problem is not None
    assert (problem.code, problem.exit_code) == ("unreadable", 8)
    assert list(share.iterdir()) == []
    (share / "evidence").mkdir()
    assert store.check(*store.put(b"abc")) is None


@settings(max_examples=40, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(
    data=st.binary(min_size=1, max_size=3000),
    pieces=st.lists(st.integers(1, 700), max_size=30),
    flip=st.data(),
)
def test_any_pieces_give_one_digest_and_any_flipped_bit_is_found(
    store: EvidenceFolder, data: bytes, pieces: list[int], flip: st.DataObject
) -> None:
    class Pieces:
        def __init__(self) -> None:
            self.rest, self.sizes = data, iter(pieces)

        def read(self, size: int, /) -> bytes:
            count = next(self.sizes, size)
            chunk, self.rest = self.rest[:count], self.rest[count:]
            return chunk

    blob = store.put(Pieces())
    assert (blake3(data).hexdigest(), hashlib.sha256(data).hexdigest(), len(data)) == blob
    at, bit = flip.draw(st.integers(0, len(data) - 1)), flip.draw(st.integers(0, 7))
    wrong = bytearray(data)
    wrong[at] ^= 1 << bit
    path = damage(store, blob.blake3, bytes(wrong))
    problem = store.check(*blob)
    assert problem is not None
    assert problem.code == "digest"
    path.unlink()


@pytest.mark.parametrize("name", ["a\x1b[2Jb", "a\nb", "\udcff", "\u202etxt", "\x00"])
def test_names_are_shown_harmless(name: str) -> None:
    assert shown(name).isprintable()
    assert shown(name).isascii()


def test_long_names_are_cut() -> None:
    assert len(shown("x" * 5000)) == 200
