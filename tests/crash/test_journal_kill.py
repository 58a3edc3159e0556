"""SIGKILL at random moments of a journal's writer: every acknowledged record is there, in order, once, and batches are whole.

The killed are forks of this process; each tells the parent of an append over a pipe only after it was acknowledged.
"""

from __future__ import annotations

import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest
from muniment.domain.errors import ConflictError
from muniment.ring.journal import Writer
from muniment.ring.journal_cursor import load_mark
from muniment.ring.journal_reader import Reader, check

KILLS = 25  # for each way of writing


def records(life: int, turn: int) -> list[bytes]:
    count = 1 + (life * 7 + turn) % 40
    return [f"{life} {turn} {index} {count} ".encode() + b"x" * (turn % 300) for index in range(count)]


def child(folder: Path, way: dict[str, int], life: int, pipe: int) -> None:
    """Never returns; the parent kills it."""
    try:
        writer = Writer(folder, **way)
        turn = told = 0
        while True:
            writer.append(records(life, turn))
            turn += 1
            if turn % 5 == 4 and way["sync_ms"]:
                writer.sync()
            if writer.acknowledged > told:
                told = writer.acknowledged
                os.write(pipe, f"{told} {turn}\n".encode())
    finally:
        os._exit(9)


def kill_one(folder: Path, way: dict[str, int], life: int, delay: float) -> tuple[int, int]:
    """The last record and the number of batches that the killed one was told of."""
    answer, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        child(folder, way, life, answering)
    os.close(answering)
    with os.fdopen(answer) as pipe:
        lines = [pipe.readline()]
        drain = threading.Thread(target=lambda: lines.extend(pipe))  # a full pipe would stop the writer
        drain.start()
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        drain.join()
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"the child ended by itself: {status}"
    last, turns = next(line for line in reversed(lines) if line.endswith("\n")).split()
    return int(last), int(turns)


@pytest.mark.parametrize(
    "way",
    [
        {"sync_ms": 0, "segment_bytes": 1 << 26},
        {"sync_ms": 0, "segment_bytes": 3_000},
        {"sync_ms": 5, "segment_bytes": 20_000},
    ],
    ids=["synced", "small segments", "synced now and then"],
)
def test_every_acknowledged_record_is_there_in_order_once(tmp_path, way):
    folder, chance = tmp_path / "journal", random.Random(str(way))
    reader, found, acknowledged = None, [], {}
    for life in range(KILLS):
        last, turns = kill_one(folder, way, life, chance.uniform(0, 0.03))
        acknowledged[life] = turns
        reader = reader or Reader(folder)
        assert last <= reader.last, "an acknowledged record is gone"
        while taken := reader.take_many(1000, 0):
            found += taken
        assert reader.at == len(found) >= last
    reader.close()
    with Writer(folder, **way) as writer:
        assert len(found) <= writer.sequence
        writer.append([b"after"])
    with Reader(folder) as again:
        every = again.take_many(1 << 24, 0)
    assert [*found, b"after"] == every, "what a reader saw while writers came and went is what there is"
    at, lives = 0, []
    while at < len(found):
        life, turn, index, count = map(int, found[at].split()[:4])
        assert (0, records(life, turn)) == (index, found[at : at + count]), "a batch is whole"
        lives.append((life, turn))
        at += count
    for life in range(KILLS):
        turns = [turn for one, turn in lives if one == life]
        assert list(range(len(turns))) == turns, "in order, once, without a gap"
        assert len(turns) >= acknowledged[life]
    assert sorted(lives) == lives


def test_a_dead_writer_keeps_nobody_out_and_a_living_one_does(tmp_path):
    folder = tmp_path / "journal"
    go_on, waiting = os.pipe()
    pid = os.fork()
    if pid == 0:
        writer = Writer(folder)
        os.write(waiting, b"x")
        signal.pause()
        writer.close()
    os.read(go_on, 1)
    with pytest.raises(ConflictError) as caught:
        Writer(folder)
    assert f"pid {pid}" == caught.value.context["found"]
    assert pid == load_mark(folder).pid
    os.kill(pid, signal.SIGKILL)
    os.waitpid(pid, 0)
    with Writer(folder) as writer:
        writer.append([b"a"])
    assert 1 == check(folder)
