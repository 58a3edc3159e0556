"""SIGKILL at random points of evidence writes: what was acknowledged is there and right, nothing wrong is ever there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest
from evidence_places import FolderPlace, PostgresPlace, S3Place, Setup, s3_for_tests
from kills import until_alone
from muniment.store.files import Blob

KILLS = {"folder": 60, "postgres": 16, "s3": 16}
LARGEST = {"folder": 900_000, "postgres": 5_000_000, "s3": 9_000_000}  # bytes; several chunks, several parts

CHILD = """
import os, random, sys
chance = random.Random(int(sys.argv[1]))
while True:
    # one in three is shared by all children: killed writers and dedup hits meet
    shared = chance.random() < 0.33
    source = random.Random(chance.randrange(40)) if shared else chance
    blob = store.put(source.randbytes(source.choice([10, 4000, 70_000, int(sys.argv[2])])))
    os.write(1, f"{blob.blake3} {blob.sha256} {blob.bytes}\\n".encode())
"""


@pytest.fixture(params=KILLS)
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Setup]:
    if request.param == "folder":
        yield FolderPlace(tmp_path)
    elif request.param == "postgres":
        yield PostgresPlace(request.getfixturevalue("pg_url"))
    else:
        with s3_for_tests() as server:
            yield S3Place(server)


def test_no_acknowledged_blob_is_lost_and_none_is_wrong(place: Setup) -> None:
    kind = place.kind
    store = place.store()
    chance = random.Random(20261120)
    acknowledged: set[Blob] = set()
    for kill in range(10 * KILLS[kind]):
        if kill >= KILLS[kind] and len(acknowledged) > KILLS[kind] and hit(place, acknowledged):
            break  # else it takes more kills: a machine may be slow, and only one time in five is a put in its transaction
        child = subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", place.code() + CHILD, str(kill), str(LARGEST[kind])],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # else what came together with the first line stays in a buffer that `communicate` passes by
        )
        assert child.stdout is not None
        first = child.stdout.readline()  # at work
        longest = 0.03 if kind == "folder" else 0.4
        time.sleep(chance.uniform(0, longest * max(1, 1 + (kill - KILLS[kind]) / 8)))
        child.send_signal(signal.SIGKILL)
        rest, errors = child.communicate(timeout=20)
        assert (child.returncode, errors) == (-signal.SIGKILL, b"")
        lines = (first + rest).split(b"\n")[:-1]  # the last line may be cut
        for line in lines:
            blake3, sha256, size = line.decode().split()
            acknowledged.add(Blob(blake3, sha256, int(size)))
        assert list(store.strays()) == []
    assert [problem for blob in acknowledged if (problem := store.check(*blob))] == []
    for found in store.iter():
        assert found.bytes == len(store.read(found.blake3, limit=10 << 20))
    assert len(acknowledged) > KILLS[kind]
    assert hit(place, acknowledged), "no kill hit a write"


def hit(place: Setup, acknowledged: set[Blob]) -> int:
    """What killed writes left behind, none of it where evidence is read."""
    if isinstance(place, FolderPlace):
        left = list((place.base / "staging").iterdir())
        assert all(path.name.startswith("put-") for path in left)
        assert {"evidence", "staging"} == {path.name for path in place.base.iterdir()}
        return len(left)
    if isinstance(place, PostgresPlace):
        until_alone(place.url)
        end, found = time.monotonic() + 2, None
        while time.monotonic() < end and not (
            found and found[0]
        ):  # before PostgreSQL 15 statistics come late
            with place.connect() as db:
                found = db.execute(
                    "SELECT xact_rollback FROM pg_stat_database WHERE datname = current_database()"
                ).fetchone()
            time.sleep(0.1)
        return found[0] if found else 0
    import obstore

    names = [item["path"] for page in obstore.list(place.client()) for item in page]
    staged = [name for name in names if name.startswith("team/store/staging/put-")]
    assert all(name.startswith("team/store/evidence/") for name in set(names) - set(staged))
    with urllib.request.urlopen(f"{place.server.url}/{place.bucket}?uploads") as answer:
        uploads = answer.read().count(b"<UploadId>")
    unanswered = {item.blake3 for item in place.store().iter()} - {blob.blake3 for blob in acknowledged}
    return len(staged) + uploads + len(unanswered)
