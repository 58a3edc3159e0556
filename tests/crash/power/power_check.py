"""What must hold of a store and a target after power came back; every breach is a line of text."""

from __future__ import annotations

import json
import re
import sqlite3
from collections.abc import Iterator
from contextlib import closing, suppress
from itertools import chain
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app import creating, folder, keys
from muniment.app.pack_check import passed, read_manifest, verify_tree
from muniment.app.pack_manifest import parse_manifest
from muniment.app.session import Session
from muniment.domain import channel
from muniment.domain.envelope import read_fact
from muniment.domain.errors import ConflictError, MunimentError, NotFoundError
from muniment.domain.query import Item
from muniment.ring.journal import Writer
from muniment.ring.journal_reader import Reader
from muniment.store import checkpoint, merkle
from muniment.store.api import Condition, Draft, Log
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.open import create_log, open_log

_name = re.compile(rb'"name":"([^"]*):(\d+)/(\d+)"')


class Promised(NamedTuple):
    """What the program had been told by then."""

    created: bool
    leaves: dict[int, str]
    blobs: list[tuple[str, str, int]]
    adopted: bool
    staged: list[str]
    active: list[str | None]
    key: str
    heads: list[tuple[int, str]]


def promised(marks: list[bytes]) -> Promised:
    """Sum the marks up. After `switching` and before `switched` both packs may be active."""
    created = adopted = False
    leaves: dict[int, str] = {}
    blobs: list[tuple[str, str, int]] = []
    staged: list[str] = []
    active: list[str | None] = [None]
    key, heads = "", []
    for text in marks:
        fact: dict[str, Any] = json.loads(text)
        what = fact["what"]
        if what == "created":
            created = True
        elif what == "appended":
            leaves.update(enumerate(fact["leaves"], fact["first"]))
        elif what == "blob":
            blobs.append((fact["blake3"], fact["sha256"], fact["bytes"]))
        elif what == "adopted":
            adopted = True
        elif what == "staged":
            staged.append(fact["pack"])
        elif what == "switching":
            active = [active[-1], fact["pack"]]
        elif what == "switched":
            active = [fact["pack"]]
        if what in {"init", "head"}:
            key = fact.get("key", key)
            heads.append((fact["size"], fact["root"]))
    return Promised(created, leaves, blobs, adopted, staged, active, key, heads)


def breaches(scenario: str, disk: Path, told: Promised, base: Path) -> list[str]:
    """Everything that is wrong with a disk; the code's own recovery runs, and goes on working afterwards."""
    match scenario:
        case "activation":
            found = _target(disk / "target", told, base)
        case "journal":
            found = _journal(disk / "journal", told)
        case "init":
            found = _init(disk / "store", told)
        case "checkpoint":
            found = _checkpoint(disk / "store", told)
        case "evidence":
            found = chain(_log(disk / "store", told), _evidence(disk / "store", told))
        case "deep":
            found = _log(disk / "a" / "b" / "store", told)
        case _:
            found = _log(disk / "store", told)
    return list(found)


# --- the log


def _log(store: Path, told: Promised) -> Iterator[str]:
    try:
        log = open_log(store)
    except NotFoundError:
        if told.created:
            yield "the store is gone"
            return
        log = create_log(store)
    except MunimentError as error:
        yield f"does not open: {error}"
        return
    try:
        yield from _records(log, told)
    except MunimentError as error:
        yield f"does not read or append: {error.code}: {error} {error.context}"
    except Exception as error:  # whatever else it is, it is no answer
        yield f"does not read or append: {error!r}"
    finally:
        log.close()
    for path in store.glob("*.db"):
        db = sqlite3.connect(path)
        try:
            if (said := db.execute("PRAGMA integrity_check").fetchall()) != [("ok",)]:
                yield f"integrity_check: {said[:3]}"
        except sqlite3.Error as error:
            yield f"integrity_check: {error}"
        finally:
            db.close()


def _records(log: Log, told: Promised) -> Iterator[str]:
    rows = [row for page in log.pages() for row in page]
    leaves = [merkle.leaf_hash(body) for _, body in rows]
    if [position for position, _ in rows] != list(range(1, len(rows) + 1)):
        yield "positions have gaps"
    lost = [at for at, leaf in told.leaves.items() if at > len(leaves) or leaves[at - 1].hex() != leaf]
    if lost:
        yield f"{len(lost)} acknowledged records are lost or other, the first at {min(lost)} of {len(leaves)}"
    if leaves != list(log.leaves()):
        yield "stored leaf hashes are not those of the bodies"
    if (len(leaves), merkle.root(leaves)) != log.head()[:2]:
        yield "the head is not that of the records"
    frontier = merkle.Frontier()
    frontier.extend(leaves)
    if frontier.to_bytes() != b"".join(log.frontier()[1]):
        yield "the frontier is not that of the records"
    if [at for at, _ in log.read((Item(tags=("shared",)),))] != list(range(1, len(rows) + 1)):
        yield "the index of tags is not that of the records"
    if log.last_match((Item(types=("thing.happened/1",)),)) != len(rows):
        yield "the index of types is not that of the records"
    batches: dict[bytes, list[tuple[int, int]]] = {}
    for _, body in rows:
        name = _name.search(body)
        assert name is not None
        batches.setdefault(name[1], []).append((int(name[2]), int(name[3])))
    for batch, parts in batches.items():
        if parts != [(index, parts[0][1]) for index in range(parts[0][1])]:
            yield f"batch {batch.decode()} is not whole"
    body = b'{"id":"ffffffff-ffff-ffff-ffff-ffffffffffff","name":"again:0/1","recorded_at":"'
    tail = b'","tags":["shared"],"type":"thing.happened/1"}'
    again = Draft("f" * 8 + "-ffff-ffff-ffff-" + "f" * 12, "thing.happened/1", ("shared",), body, tail)
    done = log.append([again], Condition((Item(tags=("shared",)),), len(rows)))
    if (done.first, done.duplicate) != (len(rows) + 1, False):
        yield f"the next append got position {done.first} after {len(rows)}"


# --- a journal


def _journal(folder: Path, told: Promised) -> Iterator[str]:
    """Whoever reads first, the records are the same; a writer goes on behind them."""
    try:
        kept: list[bytes] = []
        if told.leaves or folder.is_dir():
            with suppress(NotFoundError), Reader(folder) as reader:
                kept = reader.take_many(1 << 20, 0)
        leaves = [merkle.leaf_hash(record).hex() for record in kept]
        if lost := [at for at, leaf in told.leaves.items() if leaves[at - 1 : at] != [leaf]]:
            yield f"{len(lost)} acknowledged records are lost or other, the first at {lost[0]} of {len(leaves)}"
        parts = [match for record in kept if (match := _name.search(record))]
        for index, (batch, at, count) in enumerate(part.groups() for part in parts):
            if int(at) == 0 and [p.groups() for p in parts[index : index + int(count)]] != [
                (batch, b"%d" % n, count) for n in range(int(count))
            ]:
                yield f"batch {batch.decode()} is not whole"
        with Writer(folder) as writer:
            writer.append([b"again"])
        with Reader(folder) as reader:
            if [*kept, b"again"] != reader.take_many(1 << 20, 0):
                yield "after the next append other records are read"
    except MunimentError as error:
        yield f"journal: {error.code}: {error} {error.context}"


# --- evidence


def _evidence(store: Path, told: Promised) -> Iterator[str]:
    evidence = EvidenceFolder(store / "evidence", store / "staging")
    for blob in told.blobs:
        if (problem := evidence.check(*blob)) is not None:
            yield f"acknowledged blob: {problem}"
    for path in evidence.strays():
        yield f"a stray under evidence/: {path}"
    for found in evidence.iter():
        try:
            evidence.read(found.blake3, limit=1 << 20)
        except MunimentError as error:
            yield f"a name under evidence/ stands for other bytes: {error.code}"
    try:
        evidence.put(b"again")
    except MunimentError as error:
        yield f"the next put: {error.code}: {error.message}"


# --- a store through the services


def _init(store: Path, told: Promised) -> Iterator[str]:
    try:
        if told.key:
            yield from _promised_heads(store, told)
        with suppress(ConflictError):  # it is whole already
            creating.create_store(str(store))
        yield from _key(store, told)
        with Session(store, write=True) as session:
            outcome = session.run(channel.Declare("again/stable", ["eu"], []))
            if outcome.refusal is not None:
                yield f"the next command is refused: {outcome.refusal.rule}"
    except MunimentError as error:
        yield f"init does not go on: {error.code}: {error} {error.context}"


def _promised_heads(store: Path, told: Promised) -> Iterator[str]:
    with closing(open_log(store)) as log:
        leaves = [merkle.leaf_hash(body) for _, body in log.read()]
    for size, root in told.heads:
        if merkle.root(leaves[:size]).hex() != root or len(leaves) < size:
            yield f"the log of {len(leaves)} records is not the one whose head of {size} was told"


def _key(store: Path, told: Promised) -> Iterator[str]:
    key = keys.load_key(creating.LOG_KEY, store / "keys")
    with closing(open_log(store)) as log:
        made = next(read_fact(body, at) for at, body in log.read((), limit=1)).data
    if keys.key_id(key) != made["log_key_id"] or (told.key and keys.key_id(key) != told.key):
        yield "the log key is another one"
    for note in (store / "exports").glob("checkpoint-*"):
        checkpoint.verify(note.read_bytes(), [checkpoint.verifier_key(made["origin"], key)])


def _checkpoint(store: Path, told: Promised) -> Iterator[str]:
    if told.key and not list((store / "exports").glob("checkpoint-*")):
        yield "the checkpoint that init named is gone"


# --- the target


def _target(target: Path, told: Promised, base: Path) -> Iterator[str]:
    if told.adopted:
        try:
            active = folder.read_active(target)
            if active not in told.active:
                yield f"active is {active}, expected one of {told.active}"
            if active is not None and not passed(folder.verify_active(target)):
                yield "the active pack is not whole"
            here = folder.installed(target)
            yield from (f"staged and gone: {pack}" for pack in told.staged if pack not in here)
            for pack in here:
                place = target / "packs" / pack[7:]
                if not passed(verify_tree(place, read_manifest(place), keys={}, threshold=0, wanted=pack)):
                    yield f"an installed pack is not whole: {pack}"
        except MunimentError as error:
            yield f"cannot tell what is active: {error.code}: {error.message}"
    try:
        yield from _again(target, told, base)
    except MunimentError as error:
        yield f"the route does not go on: {error.code}: {error.message}"


def _again(target: Path, told: Promised, base: Path) -> Iterator[str]:
    """The whole route once more, for both packs, under the names of attempts that were cut."""
    evidence = EvidenceFolder(base / "evidence", base / "tmp", read_only=True)
    folder.adopt(target, "-", "prod/stable/eu")
    for turn, name in enumerate(("one", "two")):
        manifest = parse_manifest((base / "source" / f"{name}.json").read_bytes())
        wanted = str(manifest["runtime_pack_id"])
        folder.fetch(target, manifest, evidence, f"attempt-{turn}")
        folder.stage(target, f"attempt-{turn}", wanted)
        folder.switch(target, wanted)
        if folder.read_active(target) != wanted or not passed(folder.verify_active(target)):
            yield f"the route ends elsewhere for {name}"
