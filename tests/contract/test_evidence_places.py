"""What every place of evidence promises: one suite for a folder, PostgreSQL and S3."""

from __future__ import annotations

import hashlib
import io
import os
import random
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
import s3_server
from blake3 import blake3
from evidence_places import KINDS, FolderPlace, PostgresPlace, S3Place, Setup, s3_for_tests
from muniment.domain.errors import NotFoundError, UnavailableError, UsageError, WrongError
from muniment.store.evidence import EvidenceStore
from muniment.store.files import CHUNK


@pytest.fixture(scope="module")
def s3() -> Iterator[s3_server.Server]:
    with s3_for_tests() as server:
        yield server


@pytest.fixture(params=KINDS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Setup:
    if request.param == "folder":
        return FolderPlace(tmp_path / "place")
    if request.param == "postgres":
        return PostgresPlace(request.getfixturevalue("pg_url"))
    return S3Place(request.getfixturevalue("s3"))


@pytest.fixture
def store(place: Setup) -> EvidenceStore:
    return place.store()


# --- what is wrong is found


def changed(data: bytes) -> dict[str, bytes]:
    """Damages of a blob of several chunks."""
    flipped = bytearray(data)
    flipped[len(data) // 2] ^= 1
    return {
        "one flipped bit": bytes(flipped),
        "truncated": data[:-1],
        "truncated by a chunk": data[:CHUNK],
        "longer": data + b"x",
        "empty": b"",
        "swapped chunks": data[CHUNK : 2 * CHUNK] + data[:CHUNK] + data[2 * CHUNK :],
    }


DATA = random.Random(3).randbytes(2 * CHUNK + 77)


@pytest.mark.parametrize("how", changed(DATA))
def test_a_damaged_blob_is_named_and_left_alone(place: Setup, store: EvidenceStore, how: str) -> None:
    blob, found = store.put(DATA), changed(DATA)[how]
    place.damage(blob.blake3, found)
    for use in (
        lambda: store.put(DATA),
        lambda: store.open(blob.blake3),
        lambda: store.read(blob.blake3, limit=1 << 30),
        lambda: store.blob(blob.blake3),
    ):
        with pytest.raises(WrongError) as caught:
            use()
        assert caught.value.exit_code == 7
        assert caught.value.hint
    with Path(os.devnull).open("wb") as out, pytest.raises(WrongError):
        store.copy(blob, out.fileno())
    problem = store.check(*blob)
    assert problem is not None
    assert ("digest" if len(found) == len(DATA) else "size", 7) == (problem.code, problem.exit_code)
    assert store.missing([blob.blake3]) == []


@pytest.mark.parametrize("said", [("0" * 64, 3), ("", 4), ("", 2), ("", 0)])
def test_other_promises_than_the_bytes_keep_are_a_problem(
    store: EvidenceStore, said: tuple[str, int]
) -> None:
    blob = store.put(b"abc")
    problem = store.check(blob.blake3, said[0] or blob.sha256, said[1])
    assert problem is not None
    assert problem.code == ("digest" if said[0] else "size")
    with Path(os.devnull).open("wb") as out, pytest.raises(WrongError):
        store.copy(blob._replace(sha256=said[0] or blob.sha256, bytes=said[1]), out.fileno())


def test_missing_blob(place: Setup, store: EvidenceStore) -> None:
    blob, gone = store.put(b"abc"), store.put(b"gone")
    place.remove(gone.blake3)
    other = blake3(b"never stored").hexdigest()
    absent = sorted([other, gone.blake3])
    assert absent == store.missing([blob.blake3, other, gone.blake3, other])
    for address in absent:
        for use in (store.open, store.blob, lambda a: store.read(a, limit=9)):
            with pytest.raises(NotFoundError) as caught:
                use(address)
            assert caught.value.code == "evidence.missing"
        problem = store.check(address, "0" * 64, 1)
        assert problem is not None
        assert (problem.code, problem.exit_code) == ("missing", 7)


HOSTILE = [
    "",
    "../" * 22,
    "A" * 64,
    "g" * 64,
    "a" * 63,
    "a" * 65,
    "a" * 64 + "\n",
    "/" * 64,
    "'; --" + "a" * 59,
]


@pytest.mark.parametrize("address", HOSTILE)
def test_no_address_leads_out(store: EvidenceStore, address: str) -> None:
    for use in (
        store.open,
        store.blob,
        lambda a: store.check(a, a, 0),
        lambda a: store.missing([a]),
        lambda a: store.sizes(["0" * 64, a]),
        lambda a: store.read(a, limit=1),
    ):
        with pytest.raises(UsageError):
            use(address)


def test_strays_are_told_apart(place: Setup, store: EvidenceStore) -> None:
    blobs = sorted(store.put(bytes([i])).blake3 for i in range(12))
    name = place.stray()
    assert blobs == [item.blake3 for item in store.iter()]
    assert {1} == {item.bytes for item in store.iter()}
    assert [name] == list(store.strays())


def test_an_empty_place_has_nothing(store: EvidenceStore) -> None:
    assert [] == list(store.iter()) == list(store.strays())
    assert store.missing(["0" * 64]) == ["0" * 64]
    assert store.sizes([]) == {}


def test_read_only_store_refuses(place: Setup) -> None:
    store = place.store(read_only=True)
    with pytest.raises(UnavailableError) as caught:
        store.put(b"abc")
    assert (caught.value.exit_code, caught.value.code) == (8, "evidence.read_only")
    assert list(store.iter()) == []


def test_read_has_a_limit(store: EvidenceStore) -> None:
    blob = store.put(b"abc")
    with pytest.raises(UsageError):
        store.read(blob.blake3, limit=2)


# --- what is offered wrongly is not stored


@pytest.mark.parametrize(("said", "given"), [(10, 9), (10, 11), (0, 1), (1, 0)])
def test_a_source_of_another_size_is_refused(store: EvidenceStore, said: int, given: int) -> None:
    with pytest.raises(UnavailableError, match="changed"):
        store.put(io.BytesIO(b"x" * given), size=said)
    assert list(store.iter()) == []


def test_an_endless_source_ends_at_the_limit(store: EvidenceStore) -> None:
    with Path("/dev/zero").open("rb") as endless, pytest.raises(UsageError):
        store.put(endless, limit=3 * CHUNK)
    assert list(store.iter()) == []


def test_a_stream_that_breaks_leaves_nothing(store: EvidenceStore) -> None:
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


@pytest.mark.parametrize("touch", [True, False])
def test_a_file_that_changes_while_read_is_refused(store: EvidenceStore, tmp_path: Path, touch: bool) -> None:
    source = tmp_path / "log"
    source.write_bytes(b"x" * (2 * CHUNK))

    def change(_: int) -> None:
        if touch:
            os.utime(source, ns=(1, 1))
            return
        with source.open("ab") as file:
            file.write(b"more")

    with pytest.raises(UnavailableError, match="changed"):
        store.put(source, progress=change)


# --- what is right


@pytest.mark.parametrize("size", [0, 1, CHUNK - 1, CHUNK, CHUNK + 1, 9 * CHUNK + 7])
@pytest.mark.parametrize("form", ["bytes", "stream", "path"])
def test_any_form_gives_both_digests_and_the_same_bytes(
    store: EvidenceStore, tmp_path: Path, size: int, form: str
) -> None:
    data = os.urandom(size)
    (tmp_path / "source").write_bytes(data)
    source = {"bytes": data, "stream": io.BytesIO(data), "path": tmp_path / "source"}[form]
    seen: list[int] = []
    blob = store.put(source, progress=seen.append)
    assert (blake3(data).hexdigest(), hashlib.sha256(data).hexdigest(), size) == blob
    assert seen == sorted(seen)
    assert size == (seen[-1] if size else 0)
    assert store.check(*blob) is None
    assert blob == store.blob(blob.blake3)
    assert data == store.read(blob.blake3, limit=size)
    with (tmp_path / "out").open("w+b") as out:
        store.copy(blob, out.fileno())
        assert data == (tmp_path / "out").read_bytes()
    with store.open(blob.blake3) as stream:  # seekable: archives are read where they lie
        stream.seek(size // 2)
        assert data[size // 2 :] == stream.read()
    assert [(blob.blake3, size)] == list(store.iter())
    assert {blob.blake3: size} == store.sizes([blob.blake3, "0" * 64])


def test_same_bytes_are_stored_once(place: Setup, store: EvidenceStore) -> None:
    first = store.put(b"x" * 5000)
    assert first == store.put(io.BytesIO(b"x" * 5000)) == place.store().put(b"x" * 5000)
    assert [(first.blake3, 5000)] == list(store.iter())
    assert list(store.strays()) == []


@pytest.mark.parametrize("size", [3000, 2 * CHUNK, 9 * CHUNK])
def test_many_writers_of_the_same_and_of_other_bytes(place: Setup, size: int) -> None:
    answers: list[object] = []
    failures: list[BaseException] = []
    start = threading.Barrier(6)

    def work() -> None:
        try:
            store = place.store()
            start.wait()
            answers.extend(store.put(bytes([i]) * size) for i in range(3))
        except BaseException as error:
            failures.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert failures == []
    assert len(answers) == 18
    store = place.store()
    assert 3 == len(set(answers)) == len(list(store.iter()))
    assert [] == [found for blob in set(answers) if (found := store.check(*blob))]  # type: ignore[misc]
    assert list(store.strays()) == []


MEMORY = """
import resource
class Much:
    left = 100 << 20
    def read(self, size):
        size = min(size, self.left)
        self.left -= size
        return bytes([self.left >> 20 & 255]) * size
blob = store.put(b"warm" * 4_000_000)  # libraries, threads, buffers
assert store.check(*blob) is None
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
blob = store.put(Much())
with open("/dev/null", "wb") as out:
    store.copy(blob, out.fileno())
with store.open(blob.blake3) as stream:
    assert len(stream.read(10)) == 10
assert blob.bytes == 100 << 20
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before)
"""


def test_memory_stays_flat(place: Setup) -> None:
    done = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", place.code() + MEMORY], capture_output=True, text=True
    )
    assert (done.returncode, done.stderr) == (0, "")
    grown = int(done.stdout)
    assert grown < 48 << 10, f"{grown} KiB"
