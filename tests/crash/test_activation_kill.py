"""SIGKILL at random points of fetch, verify, stage and switch: the old pack or the new one, never a mixture."""

from __future__ import annotations

import random
import signal
import subprocess
import sys
import time
from pathlib import Path

from muniment.app import folder
from muniment.app.pack_check import passed, read_manifest, verify_tree
from muniment.app.pack_files import manifest_bytes, store_pack
from muniment.store.evidence_folder import EvidenceFolder
from pack_samples import make

KILLS = 60

CHILD = """
import os, shutil, sys
from pathlib import Path
from muniment.app import folder
from muniment.app.pack_check import passed, read_manifest, verify_tree
from muniment.app.pack_manifest import parse_manifest
from muniment.store.evidence_folder import EvidenceFolder
base, target = Path(sys.argv[1]), Path(sys.argv[1]) / "target"
store = EvidenceFolder(base / "evidence", base / "tmp", read_only=True)
packs = [parse_manifest((base / name).read_bytes()) for name in ("one.json", "two.json")]
say = lambda *words: os.write(1, (" ".join(words) + "\\n").encode())
say("ready", "-")
while True:
    with folder.locked(target):
        active = folder.read_active(target)
        manifest = next(pack for pack in packs if pack["runtime_pack_id"] != active)
        wanted = manifest["runtime_pack_id"]
        trash = base / "trash"
        shutil.rmtree(trash, ignore_errors=True)
        place = target / "packs" / wanted[7:]
        if place.exists() and os.getpid() % 2:  # half of the children install anew, half find the pack there
            place.rename(trash)
        folder.fetch(target, manifest, store, "attempt")
        assert passed(folder.verify(target, "attempt", wanted))
        folder.stage(target, "attempt", wanted)
        say("begin", wanted)
        folder.switch(target, wanted)
        say("done", wanted)
"""


def build(base: Path, name: str) -> dict[str, object]:
    source = base / name
    for number in range(8):
        path = source / f"d{number % 3}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{name} {number} ".encode() * 1500)
    manifest = make(source, build=f"b-{name}")
    (base / f"{name}.json").write_bytes(manifest_bytes(manifest))
    store_pack(source, manifest, EvidenceFolder(base / "evidence", base / "tmp"))
    return manifest


def test_active_is_old_or_new_and_whole_after_every_kill(tmp_path: Path) -> None:
    one, two = build(tmp_path, "one"), build(tmp_path, "two")
    store, target, chance = (
        EvidenceFolder(tmp_path / "evidence", tmp_path / "tmp"),
        tmp_path / "target",
        random.Random(1120),
    )
    both = {one["runtime_pack_id"], two["runtime_pack_id"]}
    folder.adopt(target, "-", "prod/stable/eu")
    switches = 0
    for kills in range(10 * KILLS):
        if kills >= KILLS and switches >= 10:  # on a busy machine most kills come before the first switch
            break
        before = folder.read_active(target)
        child = subprocess.Popen(
            [sys.executable, "-c", CHILD, str(tmp_path)],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            bufsize=0,  # else what came together with the first line stays in a buffer that `communicate` passes by
        )
        assert child.stdout is not None
        child.stdout.readline()  # ready
        time.sleep(chance.uniform(0, 0.08 + kills / 1000))
        child.send_signal(signal.SIGKILL)
        rest, errors = child.communicate(timeout=20)
        assert (child.returncode, errors) == (-signal.SIGKILL, b"")
        words = [line.decode().split() for line in rest.split(b"\n")[:-1]]
        done = [pack for word, pack in words if word == "done"]
        settled = done[-1] if done else before
        allowed = {settled, words[-1][1]} if words and words[-1][0] == "begin" else {settled}
        active = folder.read_active(target)
        assert active in allowed
        if active is not None:
            assert active in both
            assert passed(folder.verify_active(target))
        for pack in folder.installed(target):
            manifest = read_manifest(target / "packs" / pack[7:])
            assert passed(
                verify_tree(target / "packs" / pack[7:], manifest, keys={}, threshold=0, wanted=pack)
            )
        switches += len(done)
    assert switches >= 10
    for manifest in (one, two):  # a fresh run continues where the killed one left off, with the same attempt
        folder.fetch(target, manifest, store, "attempt")
        wanted = str(manifest["runtime_pack_id"])
        assert passed(folder.verify(target, "attempt", wanted))
        assert wanted == folder.stage(target, "attempt", wanted)
        folder.switch(target, wanted)
        assert wanted == folder.read_active(target)
    assert list((target / "staging").iterdir()) == []
    assert {"active", "journal", "lock", "packs", "staging", "target.json"} == {
        p.name for p in target.iterdir()
    }
