"""Evidence: stored once, under the digest of its bytes, never overwritten, never half there."""

from __future__ import annotations

import hashlib
import io
import json
import os
import resource
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from blake3 import blake3
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muniment.domain.errors import NotFoundError, UnavailableError, UnfitError, UsageError, WrongError
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.files import CHUNK, shown

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


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 3 * CHUNK + 7])
@pytest.mark.parametrize("form", ["bytes", "stream", "path"])
def test_any_form_gives_both_digests_and_one_file(
    store: EvidenceFolder, tmp_path: Path, size: int, form: str
) -> None:
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    source = {"bytes": data, "stream": io.BytesIO(data), "path": tmp_path / "source"}[form]
    blob = store.put(source)
    assert (blake3(data).hexdigest(), hashlib.sha256(data).hexdigest(), size) == blob
    path = tmp_path / "evidence" / blob.blake3[:2] / blob.blake3[2:]
    assert data == path.read_bytes()
    assert path.stat().st_mode & 0o777 == 0o400
    assert path.stat().st_nlink == 1
    assert list((tmp_path / "staging").iterdir()) == []
    assert store.check(*blob) is None
    assert data == store.read(blob.blake3, limit=size)


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


def test_same_bytes_are_stored_once(store: EvidenceFolder) -> None:
    first = store.put(b"x" * 5000)
    inode = store.path(first.blake3).stat().st_ino
    assert first == store.put(io.BytesIO(b"x" * 5000))
    assert inode == store.path(first.blake3).stat().st_ino
    assert [(first.blake3, 5000)] == list(store.iter())


@pytest.mark.parametrize("found", [b"", b"x" * 99, b"y" * 100, b"x" * 101])
def test_a_damaged_blob_is_named_and_left_alone(store: EvidenceFolder, found: bytes) -> None:
    blob = store.put(b"x" * 100)
    path = damage(store, blob.blake3, found)
    with pytest.raises(WrongError) as caught:
        store.put(b"x" * 100)
    assert caught.value.exit_code == 7
    assert found == path.read_bytes()
    problem = store.check(*blob)
    assert problem is not None
    assert ("digest" if len(found) == 100 else "size", 7) == (problem.code, problem.exit_code)
    with pytest.raises(WrongError):
        store.read(blob.blake3, limit=1000)
    with Path(os.devnull).open("wb") as out, pytest.raises(WrongError):
        store.copy(blob, out.fileno())


def test_a_wrong_sha256_beside_a_right_address_is_a_problem(store: EvidenceFolder) -> None:
    blob = store.put(b"abc")
    problem = store.check(blob.blake3, "0" * 64, 3)
    assert problem is not None
    assert problem.code == "digest"


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


def test_missing_blob(store: EvidenceFolder) -> None:
    blob = store.put(b"abc")
    other = blake3(b"never stored").hexdigest()
    assert [other] == store.missing([blob.blake3, other, other])
    with pytest.raises(NotFoundError):
        store.open(other)
    problem = store.check(other, "0" * 64, 1)
    assert problem is not None
    assert problem.code == "missing"


@pytest.mark.parametrize(
    "address", ["", "../" * 22, "A" * 64, "g" * 64, "a" * 63, "a" * 65, "a" * 64 + "\n", "/" * 64]
)
def test_no_address_leads_out(store: EvidenceFolder, address: str) -> None:
    for use in (store.path, store.open, lambda a: store.check(a, a, 0), lambda a: store.missing([a])):
        with pytest.raises(UsageError):
            use(address)


def test_read_has_a_limit(store: EvidenceFolder) -> None:
    blob = store.put(b"abc")
    with pytest.raises(UsageError):
        store.read(blob.blake3, limit=2)


def test_reading_makes_no_folder(store: EvidenceFolder, tmp_path: Path) -> None:
    assert list(store.iter()) == []
    assert store.missing(["0" * 64]) == ["0" * 64]
    assert list(tmp_path.iterdir()) == []


def test_read_only_store_refuses(tmp_path: Path) -> None:
    store = EvidenceFolder(tmp_path / "evidence", tmp_path / "staging", read_only=True)
    with pytest.raises(UnavailableError) as caught:
        store.put(b"abc")
    assert (caught.value.exit_code, caught.value.code) == (8, "evidence.read_only")
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("staging", ["evidence", "evidence/tmp", "evidence/a/b"])
def test_staging_inside_evidence_is_refused(tmp_path: Path, staging: str) -> None:
    with pytest.raises(UsageError):
        EvidenceFolder(tmp_path / "evidence", tmp_path / staging)


@pytest.mark.parametrize(("said", "given_"), [(10, 9), (10, 11), (0, 1), (1, 0)])
def test_a_source_of_another_size_is_refused(store: EvidenceFolder, said: int, given_: int) -> None:
    with pytest.raises(UnavailableError, match="changed"):
        store.put(io.BytesIO(b"x" * given_), size=said)
    assert list(store.iter()) == []
    assert list(store.staging.iterdir()) == []


def test_an_endless_source_ends_at_the_limit(store: EvidenceFolder) -> None:
    with Path("/dev/zero").open("rb") as endless, pytest.raises(UsageError):
        store.put(endless, limit=3 * CHUNK)
    assert list(store.staging.iterdir()) == []


class Growing(io.RawIOBase):
    """Appends to a file while it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def __call__(self, done: int) -> None:
        with self.path.open("ab") as file:
            file.write(b"more")


def test_a_file_that_changes_while_read_is_refused(store: EvidenceFolder, tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"x" * (2 * CHUNK))
    with pytest.raises(UnavailableError, match="changed"):
        store.put(source, progress=Growing(source))


def test_a_file_touched_while_read_is_refused(store: EvidenceFolder, tmp_path: Path) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"x" * (2 * CHUNK))
    with pytest.raises(UnavailableError, match="changed"):
        store.put(source, progress=lambda _: os.utime(source, ns=(1, 1)))


def test_a_stream_that_breaks_leaves_nothing(store: EvidenceFolder) -> None:
    class Broken:
        def __init__(self) -> None:
            self.calls = 0

        def read(self, size: int, /) -> bytes:
            self.calls += 1
            if self.calls > 2:
                raise OSError(5, "Input/output error")
            return b"x" * size

    with pytest.raises(UnavailableError) as caught:
        store.put(Broken())
    assert caught.value.code == "evidence.io"
    assert list(store.iter()) == []
    assert list(store.staging.iterdir()) == []


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


def test_progress_counts_up_to_the_size(store: EvidenceFolder) -> None:
    seen: list[int] = []
    store.put(b"x" * (2 * CHUNK + 5), progress=seen.append)
    assert seen == [CHUNK, 2 * CHUNK, 2 * CHUNK + 5]


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


def test_many_threads_store_the_same_bytes_once(store: EvidenceFolder) -> None:
    answers: list[object] = []

    def work() -> None:
        answers.extend(store.put(bytes([i]) * 10_000) for i in range(8))

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(answers) == 48
    assert 8 == len(set(answers)) == len(list(store.iter()))
    assert list(store.staging.iterdir()) == []


def test_memory_stays_flat(tmp_path: Path) -> None:
    source = tmp_path / "large"
    with source.open("wb") as file:
        file.truncate(192 << 20)
    store = EvidenceFolder(tmp_path / "evidence", tmp_path / "staging")
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    blob = store.put(source)
    grown = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before
    assert blob.bytes == 192 << 20
    assert grown < 32 << 10, f"{grown} KiB"
    store.path(blob.blake3).unlink()


def test_iter_is_sorted_and_strays_are_told_apart(store: EvidenceFolder) -> None:
    blobs = sorted(store.put(bytes([i])).blake3 for i in range(40))
    (store.root / "README").write_text("x")
    (store.root / blobs[0][:2] / "short").write_text("x")
    assert blobs == [item.blake3 for item in store.iter()]
    assert {"README", f"{blobs[0][:2]}/short"} == set(store.strays())


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
