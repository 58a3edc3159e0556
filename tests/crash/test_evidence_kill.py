"""SIGKILL at random points of evidence writes: what was acknowledged is there and right, nothing wrong is ever there."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.files import Blob

KILLS = 60

CHILD = """
import os, random, sys
from pathlib import Path
from muniment.store.evidence_folder import EvidenceFolder
base, seed = Path(sys.argv[1]), int(sys.argv[2])
store, chance = EvidenceFolder(base / "evidence", base / "staging"), random.Random(seed)
while True:
    # one in three is shared by all children: killed writers and dedup hits meet
    shared = chance.random() < 0.33
    source = random.Random(chance.randrange(40)) if shared else chance
    blob = store.put(source.randbytes(source.choice([10, 4000, 70_000, 900_000])))
    os.write(1, f"{blob.blake3} {blob.sha256} {blob.bytes}\\n".encode())
"""


def test_no_acknowledged_blob_is_lost_and_none_is_wrong(tmp_path: Path) -> None:
    store = EvidenceFolder(tmp_path / "evidence", tmp_path / "staging")
    chance = random.Random(20261120)
    acknowledged: set[Blob] = set()
    for kill in range(KILLS):
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path), str(kill)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert child.stdout is not None
        first = child.stdout.readline()  # at work
        time.sleep(chance.uniform(0, 0.03))
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
        assert found.bytes == len(store.read(found.blake3, limit=1 << 20))
    assert len(acknowledged) > KILLS
    # the kills did hit writes: they left temporary files, in staging and nowhere else
    left = list((tmp_path / "staging").iterdir())
    assert left
    assert all(path.name.startswith("put-") for path in left)
    assert {"evidence", "staging"} == {path.name for path in tmp_path.iterdir()}
