"""SIGKILL at random moments of appending: what was acknowledged is there, whole, and the head covers it.

The killed are forks of this process, so a hundred of them cost seconds. Each tells the parent of an append
over a pipe only after it returned. Power loss is not simulated here.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time

import pytest
from muniment.domain.query import Item
from muniment.store import merkle, writer
from muniment.store.api import AppendConflict, Condition, Draft
from muniment.store.sqlite_log import SqliteLog

KILLS = 20  # for each way of appending and of indexing
TAG = Item(tags=("shared",))


def draft(name: str) -> Draft:
    raw = name.encode().hex().rjust(32, "0")
    id_ = "-".join((raw[:8], raw[8:12], raw[12:16], raw[16:20], raw[20:]))
    tags = ("name:" + name, "shared")
    body = f'{{"id":"{id_}","name":"{name}","pad":"{"x" * 300}","recorded_at":"'.encode()
    tail = f'","tags":["{tags[0]}","{tags[1]}"],"type":"thing.happened/1"}}'.encode()
    return Draft(id_, "thing.happened/1", tags, body, tail)


def single(log: SqliteLog, tell, seed: int) -> None:
    n = 0
    while True:
        d = draft(f"{seed}.{n}")
        tell(log.append([d], Condition((TAG,), log.head().size)).first, [d])
        n += 1


def batches(log: SqliteLog, tell, seed: int) -> None:
    n = 0
    while True:
        drafts = [draft(f"{seed}.{n}.{i}") for i in range(1 + n % 40)]
        tell(log.append(drafts).first, drafts)
        n += 1


def threads(log: SqliteLog, tell, seed: int) -> None:
    def work(k: int) -> None:
        n = 0
        while True:
            d = draft(f"{seed}.{k}.{n}")
            try:
                tell(log.append([d]).first, [d])
            except AppendConflict:
                os._exit(3)
            n += 1

    for k in range(4):
        threading.Thread(target=work, args=(k,), daemon=True).start()
    time.sleep(60)


def child(folder, way, seed: int, pipe: int) -> None:
    """Never returns; the parent kills it."""
    try:
        log = SqliteLog.open(folder, busy_s=20)

        def tell(first: int, drafts: list[Draft]) -> None:
            os.write(pipe, f"{first} {len(drafts)} {drafts[0].id}\n".encode())

        way(log, tell, seed)
    finally:
        os._exit(9)


def kill_one(folder, way, seed: int, delay: float) -> list[tuple[int, int, str]]:
    answer, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        child(folder, way, seed, answering)
    os.close(answering)
    with os.fdopen(answer) as pipe:
        first = pipe.readline()  # it is at work: from here on every moment is worth a kill
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        lines = [first, *pipe]
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the child ended by itself: {status}"
    told = [line.split() for line in lines if line.endswith("\n")]
    return [(int(first), int(count), id_) for first, count, id_ in told]


@pytest.mark.parametrize("every", [2, 512])
@pytest.mark.parametrize("way", [single, threads, batches])
def test_no_acknowledged_record_is_lost(tmp_path, way, every, monkeypatch):
    """With rows of the index in every second commit or so, and with the usual few."""
    monkeypatch.setattr(writer, "INDEX_EVERY", every)
    folder = tmp_path / "store"
    SqliteLog.create(folder, kind="records").close()
    chance = random.Random(f"{way.__name__}{every}")
    told: list[tuple[int, int, str]] = []
    for seed in range(KILLS):
        told += kill_one(folder, way, seed, chance.uniform(0, 0.03))
        with SqliteLog.open(folder) as log:
            size = log.head().size
            last = max(first + count - 1 for first, count, _ in told)
            assert last <= size, "an acknowledged record is gone"
            assert log.last_match((TAG,)) == size, "the tags end where the records end"
    with SqliteLog.open(folder) as log:
        rows = list(log.read())
        assert list(range(1, len(rows) + 1)) == [position for position, _ in rows]
        leaves = [merkle.leaf_hash(body) for _, body in rows]
        assert leaves == list(log.leaves())
        assert (len(rows), merkle.root(leaves)) == log.head()[:2]
        assert rows == list(log.read((TAG,)))
        assert rows == list(log.read((Item(("thing.happened/1",)),)))
        for first, count, id_ in told:
            assert f'"id":"{id_}"'.encode() in rows[first - 1][1]
            if way is batches:
                names = [
                    body.split(b'"name":"')[1].split(b'"')[0].decode()
                    for _, body in rows[first - 1 : first - 1 + count]
                ]
                stem = names[0].rpartition(".")[0]
                assert [f"{stem}.{i}" for i in range(count)] == names, "a batch is whole"
        if way is batches:
            last_names = {}
            for _, body in rows:
                stem, _, index = body.split(b'"name":"')[1].split(b'"')[0].decode().rpartition(".")
                last_names.setdefault(stem, []).append(int(index))
            for stem, indices in last_names.items():
                n = int(stem.partition(".")[2])
                assert list(range(1 + n % 40)) == indices, "no half of a batch, acknowledged or not"
        assert len(told) >= KILLS
        assert log.append([draft("after")], Condition((TAG,), len(rows))).first == len(rows) + 1
