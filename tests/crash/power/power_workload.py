"""The programs that lose power: run as a process of their own, below the shim.

    power_workload.py SCENARIO FOLDER SEED MUTANT PAGES

FOLDER is traced. After every promise of the code a mark is put into the trace, never before it. MUTANT takes one
guard away, by name, so that the tests can show that they would notice; PAGES is after how many pages of
write-ahead log SQLite merges it (0: as the code says).
"""

from __future__ import annotations

import ctypes
import json
import os
import random
import re
import sqlite3
import stat
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from muniment.app import creating, folder
from muniment.app.pack_check import passed
from muniment.app.pack_files import make_manifest, manifest_bytes, store_pack
from muniment.app.session import Session
from muniment.domain import channel
from muniment.domain.query import Item
from muniment.ring.journal import Writer
from muniment.store import merkle
from muniment.store.api import Condition, Draft, Log
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.open import create_log, open_log

_mark = ctypes.CDLL(None).power_mark


def mark(what: str, **facts: Any) -> None:
    text = json.dumps({"what": what, **facts}).encode()
    _mark(text, ctypes.c_size_t(len(text)))


# --- taking guards away


class Tuned(sqlite3.Connection):
    """A connection on which some settings are ours, whatever the code sets."""

    fixed: dict[str, str] = {}  # noqa: RUF012  # set once, before the first connection

    def execute(self, sql: str, *rest: Any) -> sqlite3.Cursor:
        found = re.match(r"\s*PRAGMA\s+(\w+)\s*=", sql, re.IGNORECASE)
        if found and found[1].lower() in self.fixed:
            sql = f"PRAGMA {found[1]} = {self.fixed[found[1].lower()]}"
        return super().execute(sql, *rest)


def tune(settings: dict[str, str]) -> None:
    real, Tuned.fixed = sqlite3.connect, settings

    def connect(*words: Any, **named: Any) -> sqlite3.Connection:
        db = real(*words, factory=Tuned, **named)
        for name, value in settings.items():
            db.execute(f"PRAGMA {name} = {value}")
        return db

    sqlite3.connect = connect


def deaf(skips: Callable[[str, bool], bool]) -> None:
    """Leave out `os.fsync` and `os.fdatasync` for some (path, is a folder)."""

    def with_ears(real: Callable[[int], None]) -> Callable[[int], None]:
        def sync(fd: int) -> None:
            path = str(Path(f"/proc/self/fd/{fd}").readlink())
            if not skips(path, stat.S_ISDIR(os.fstat(fd).st_mode)):
                real(fd)

        return sync

    os.fsync, os.fdatasync = with_ears(os.fsync), with_ears(os.fdatasync)


def _in_target(path: str) -> bool:
    return path.endswith("/disk/target") and any((Path(path) / "packs").iterdir())


MUTANTS: dict[str, Callable[[str, bool], bool]] = {
    "evidence-file": lambda path, is_folder: "/disk/store/staging/" in path and not is_folder,
    "evidence-folder": lambda path, is_folder: (
        is_folder and bool(re.search(r"/disk/store/evidence/..$", path))
    ),
    "evidence-root": lambda path, is_folder: is_folder and path.endswith("/disk/store/evidence"),
    "switch": lambda path, is_folder: is_folder and _in_target(path),
    "switch-last": lambda path, is_folder: (
        is_folder and _in_target(path) and not (Path(path) / ".active.next").is_symlink()
    ),
    "pack-files": lambda path, is_folder: "/disk/target/staging/" in path and not is_folder,
    "pack-folders": lambda path, is_folder: is_folder and "/disk/target/staging/" in path,
    "pack-name": lambda path, is_folder: is_folder and path.endswith("/disk/target/packs"),
    "store-name": lambda path, is_folder: is_folder and path.endswith("/disk"),
    "log-key": lambda path, is_folder: not is_folder and "/disk/store/keys/" in path,
    "log-key-name": lambda path, is_folder: is_folder and path.endswith("/disk/store/keys"),
    "journal-segment": lambda path, _: path.endswith(".seg"),
    "journal-header": lambda path, _: path.endswith(".seg.new"),
    "journal-names": lambda path, is_folder: is_folder and path.endswith("/disk/journal"),
    "journal-mark": lambda path, _: path.endswith(".acknowledged.new"),
}


# --- the log


def drafts(batch: str, count: int, pad: int = 200) -> list[Draft]:
    """A batch; each record says which of how many it is, so that half of a batch can be told."""
    made = []
    for index in range(count):
        name = f"{batch}:{index}/{count}"
        raw = merkle.leaf_hash(name.encode()).hex()[:32]
        ident = "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))
        tags = (f"batch:{batch}", "shared")
        head = f'{{"id":"{ident}","name":"{name}","pad":"{"x" * pad}","recorded_at":"'.encode()
        tail = f'","tags":["{tags[0]}","{tags[1]}"],"type":"thing.happened/1"}}'.encode()
        made.append(Draft(ident, "thing.happened/1", tags, head, tail))
    return made


def append(log: Log, batch: str, count: int = 1, pad: int = 200, condition: Condition | None = None) -> int:
    new = drafts(batch, count, pad)
    done = log.append(new, condition)
    leaves = [merkle.leaf_hash(draft.leaf(done.recorded_at)).hex() for draft in new]
    mark("appended", first=done.first, leaves=leaves)
    return done.last


def threads(log: Log, name: str, count: int, each: int) -> None:
    def work(number: int) -> None:
        for turn in range(each):
            append(log, f"{name}{number}.{turn}")

    running = [threading.Thread(target=work, args=(number,)) for number in range(count)]
    for thread in running:
        thread.start()
    for thread in running:
        thread.join()


def log_scenario(disk: Path, chance: random.Random) -> None:
    """Single appends, batches, group commit, long records, index flushes, merges of the WAL, closing, opening."""
    store = disk / "store"
    log = create_log(store)
    mark("created")
    last = 0
    for number in range(25):
        last = append(log, f"s{number}", condition=Condition((Item(tags=("shared",)),), last))
    for number in range(6):
        append(log, f"b{number}", chance.choice([2, 30, 250]))
    threads(log, "t", 4, 10)
    log.close()
    mark("closed")
    log = open_log(store)
    for number in range(6):
        append(log, f"long{number}", pad=chance.choice([10, 5_000, 60_000]))
        append(log, f"after{number}")
    threads(log, "u", 4, 6)
    append(log, "last", 700, pad=20)
    append(log, "end")
    log.close()
    mark("closed")


def deep_scenario(disk: Path, chance: random.Random) -> None:
    """A store whose folders above it are made with it."""
    log = create_log(disk / "a" / "b" / "store")
    mark("created")
    for number in range(8):
        append(log, f"d{number}", chance.choice([1, 3]))
    log.close()


# --- evidence and the records that name it


def evidence_scenario(disk: Path, chance: random.Random) -> None:
    """Blobs of many sizes, the same bytes again, two writers' handles; then the record that counts on them."""
    store = disk / "store"
    log = create_log(store)
    mark("created")
    left, right = (EvidenceFolder(store / "evidence", store / "staging") for _ in range(2))
    kept: list[bytes] = []
    for number in range(14):
        data = chance.randbytes(chance.choice([0, 10, 700, 5_000, 70_000]))
        if number % 5 == 4:
            data = chance.choice(kept)  # a dedup hit
        kept.append(data)
        blob = chance.choice([left, right]).put(data)
        mark("blob", blake3=blob.blake3, sha256=blob.sha256, bytes=blob.bytes)
        if number % 3 == 0:
            append(log, f"e{number}")
    log.close()


# --- activation


def build(source: Path, evidence: EvidenceFolder, name: str) -> dict[str, Any]:
    for number in range(4):
        path = source / name / f"d{number % 2}" / f"file{number}"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(f"{name} {number} ".encode() * 300)
    manifest = make_manifest(
        source / name,
        product="demo",
        build=f"b-{name}",
        intake="sha256:" + "1" * 64,
        security_epoch=1,
        reads=(1, 1),
        writes=1,
        compiler={"name": "cc", "version": "1"},
        config_digest="sha256:" + "2" * 64,
        compatibility={},
    )
    store_pack(source / name, manifest, evidence)
    (source / f"{name}.json").write_bytes(manifest_bytes(manifest))
    return manifest


def activation_scenario(disk: Path, chance: random.Random) -> None:
    """Two packs by turns: fetch, verify, stage, switch. What they are made of lies beside the disk."""
    base = disk.parent
    evidence = EvidenceFolder(base / "evidence", base / "tmp")
    packs = [build(base / "source", evidence, name) for name in ("one", "two")]
    target = disk / "target"
    folder.adopt(target, "-", "prod/stable/eu")
    mark("adopted")
    for turn in range(5):
        manifest = packs[turn % 2]
        wanted = str(manifest["runtime_pack_id"])
        attempt = f"attempt-{turn}"
        folder.fetch(target, manifest, evidence, attempt)
        if turn == 2:
            folder.abandon(target, attempt)
            folder.fetch(target, manifest, evidence, attempt)
        assert passed(folder.verify(target, attempt, wanted))
        folder.stage(target, attempt, wanted)
        mark("staged", pack=wanted)
        mark("switching", pack=wanted)
        folder.switch(target, wanted)
        mark("switched", pack=wanted)


# --- a store through the services


def init_scenario(disk: Path, chance: random.Random) -> None:
    """`init` and a few commands: log key, first records, checkpoint. `MUNIMENT_HOME` lies beside the disk."""
    store = disk / "store"
    made = creating.create_store(str(store), policy="solo")
    mark("init", key=made["log_key_id"], size=made["size"], root=made["root"])
    for number in range(3):
        with Session(store, write=True) as session:
            session.run(channel.Declare(f"e{number}/stable", ["eu"], []))
            head = session.log.head()
            mark("head", size=head.size, root=head.root.hex())


# --- a journal


def journal_scenario(disk: Path, chance: random.Random) -> None:
    """Batches synced one by one and together, many segments, writers that end and writers that are killed."""
    told = 0
    for life in range(8):
        together = life % 2 * 3_600_000  # ms: no append syncs by itself
        writer = Writer(disk / "journal", sync_ms=together, segment_bytes=chance.choice([900, 9_000]))
        pending: list[str] = []
        for turn in range(10):
            count, pad = chance.choice([1, 3, 20]), "x" * chance.choice([0, 50, 600])
            names = [f"j{life}.{turn}:{index}/{count}" for index in range(count)]
            records = [f'{{"name":"{name}","pad":"{pad}"}}'.encode() for name in names]
            writer.append(records)
            pending += [merkle.leaf_hash(record).hex() for record in records]
            if not together or turn % 3 == 2:
                writer.sync()
            if (done := writer.acknowledged - told) > 0:
                mark("appended", first=told + 1, leaves=pending[:done])
                told, pending = told + done, pending[done:]
        if life % 3 == 2:
            writer._release()  # as SIGKILL leaves it: what was not synced is taken over by the next writer
            with Writer(disk / "journal") as writer:
                mark("appended", first=told + 1, leaves=pending)
        else:
            writer.close()
            mark("appended", first=told + 1, leaves=pending)
        told += len(pending)


SCENARIOS = {
    "journal": journal_scenario,
    "log": log_scenario,
    "deep": deep_scenario,
    "evidence": evidence_scenario,
    "activation": activation_scenario,
    "init": init_scenario,
}


def main() -> None:
    scenario, disk, seed, mutant, pages = sys.argv[1:]
    settings = {"wal_autocheckpoint": pages} if int(pages) else {}
    if mutant.startswith("synchronous="):
        settings["synchronous"] = mutant.partition("=")[2]
    elif mutant:
        deaf(MUTANTS[mutant])
    if settings:
        tune(settings)
    SCENARIOS[scenario](Path(disk), random.Random(f"{scenario} {seed}"))


main()
