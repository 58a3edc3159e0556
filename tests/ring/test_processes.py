"""Two processes on one file-mapped ring, one killed at random points: nothing published is lost, doubled or out of order."""

from __future__ import annotations

import os
import random
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from muniment.ring import _ring

KILLS = int(os.environ.get("MUNIMENT_RING_KILLS", "24"))
EACH = 300  # messages at least from one start to a kill, more than the ring holds: on one core a hand-over is a switch

# Message n is the text n: a producer that takes over goes on after the last published one.
PRODUCER = """
import random, sys
from muniment.ring import _ring
ring = _ring.Ring.attach(sys.argv[1])
producer = ring.producer()
print("ready", flush=True)
while True:
    n = random.randint(1, 300)
    numbers = [b"%016d" % (producer.at + 1 + i) for i in range(n)]
    if ring.fixed and n % 3 == 0:
        producer.publish_buffer(b"".join(numbers))
    elif ring.fixed and n % 3 == 1:
        with producer.claim(n) as claim:
            memoryview(claim)[:] = b"".join(numbers[: len(claim)])
            claim.commit()
    elif n < 20:
        for number in numbers:
            producer.publish(number)
    else:
        producer.publish_many(numbers)
"""

# Writes what it sees before it gives it back: after a kill what was not given back is seen again, nothing is missing.
CONSUMER = """
import os, random, sys
from muniment.ring import _ring
consumer = _ring.Ring.attach(sys.argv[1]).consumer(0)
out = os.open(sys.argv[2], os.O_WRONLY | os.O_APPEND | os.O_CREAT)
os.write(out, b"at %d\\n" % consumer.at)
print("ready", flush=True)
while True:
    if random.random() < 0.5:
        messages = consumer.peek_many(200)
        os.write(out, b"\\n".join(messages) + b"\\n")
        consumer.release()
    else:
        with consumer.view(200) as view:
            os.write(out, b"\\n".join(bytes(m) for m in view) + b"\\n")
"""


def start(program: str, *args: object) -> subprocess.Popen[str]:
    child = subprocess.Popen(
        [sys.executable, "-c", program, *map(str, args)],
        stdout=subprocess.PIPE,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert child.stdout is not None
    assert child.stdout.readline() == "ready\n"
    return child


def kill(child: subprocess.Popen[str], ring: _ring.Ring, cell: int) -> None:
    """Kill; a dead owner is seen as dead before anybody has waited for it (a zombie still has its pid)."""
    child.send_signal(signal.SIGKILL)
    until = time.monotonic() + 60
    while alive(ring, cell):
        assert time.monotonic() < until
    assert child.wait(60) == -signal.SIGKILL
    assert child.stdout is not None
    child.stdout.close()


def alive(ring: _ring.Ring, cell: int) -> int:
    """`alive` of a cell of the packed snapshot: 0 the producer, 1 the first stage."""
    raw = ring.snapshot_raw(liveness=True)
    (found,) = struct.unpack_from("<I", raw, _ring.snapshot_size(cell) + 88)
    return int(found)


@pytest.fixture(params=["spin", "backoff", "park", "fixed"])
def ring(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[_ring.Ring]:
    fixed = request.param == "fixed"
    made = _ring.Ring.create(
        tmp_path / "ring",
        capacity=256,
        slot_bytes=16,
        stages=[0],
        wait="backoff" if fixed else request.param,
        fixed=fixed,
    )
    with made:
        yield made


def test_a_killed_producer_is_replaced_and_nothing_is_lost(ring: _ring.Ring) -> None:
    chance = random.Random(7)
    expected = 0

    def drain(messages: list[bytes]) -> int:
        assert [int(message) for message in messages] == list(
            range(expected + 1, expected + 1 + len(messages))
        )
        return len(messages)

    with ring.consumer(0) as consumer:
        for _ in range(KILLS // 4 or 1):
            child = start(PRODUCER, ring.path)
            with pytest.raises(_ring.RingBusy):
                ring.producer()
            assert alive(ring, 0) == 1
            until, enough = time.monotonic() + chance.random() * 0.05, expected + EACH
            while time.monotonic() < until or expected < enough:
                expected += drain(consumer.take_many(500, 60))
            kill(child, ring, 0)
            assert alive(ring, 0) == 0
            while consumer.lag:
                expected += drain(consumer.take_many(500, 60))
            with pytest.raises(_ring.RingTimeout):
                consumer.take(0)
        with ring.producer() as producer:
            assert producer.at == expected
            producer.publish(b"%016d" % (expected + 1))
        drain([consumer.take(5)])
        assert expected > 1000


def test_a_killed_consumer_is_replaced_and_nothing_is_missing(ring: _ring.Ring, tmp_path: Path) -> None:
    chance = random.Random(8)
    out = tmp_path / "seen"
    with ring.producer() as producer:
        for _ in range(KILLS // 4 or 1):
            child = start(CONSUMER, ring.path, out)
            with pytest.raises(_ring.RingBusy):
                ring.consumer(0)
            until, enough = time.monotonic() + chance.random() * 0.05, producer.at + EACH
            while time.monotonic() < until or producer.at < enough:
                first = producer.at + 1
                producer.publish_many([b"%016d" % n for n in range(first, first + 100)], 60)
            kill(child, ring, 1)
            assert alive(ring, 1) == 0
        with ring.consumer(0) as consumer:
            given_back = consumer.at
            left = [int(message) for message in (consumer.take_many(1000) if consumer.lag else [])]
        assert left == list(range(given_back + 1, producer.at + 1))
    seen = 0
    for part in out.read_bytes().split(b"at ")[1:]:
        head, *lines = part.split(b"\n")
        begun = int(head)
        assert begun <= seen, "what was given back had been written"
        assert seen - begun <= 256, "and only what was held is seen again"
        whole = [int(line) for line in lines if len(line) == 16]
        assert whole == list(range(begun + 1, begun + 1 + len(whole)))
        seen = max(seen, begun + len(whole))
    assert given_back <= seen <= producer.at
    assert seen > 200


CURSOR, OWNER, STAGE = (
    512,
    512 + 128 + 88,
    512 + 256,
)  # offsets in the mapping: cells of 256 bytes from 512 on


def test_a_pid_that_was_used_again_is_not_the_owner(tmp_path: Path) -> None:
    """The owner word holds the start time too: our own pid with another start is a dead owner, and its place is free."""
    path = tmp_path / "ring"
    with _ring.Ring.create(path, capacity=4, slot_bytes=16, stages=[0]) as ring:
        producer = ring.producer()
        raw = path.read_bytes()
        (owner,) = struct.unpack_from("<Q", raw, OWNER)
        assert owner >> 32 == os.getpid()
        producer.close()
        for word, free in ((owner, False), (owner ^ 1, True)):
            with path.open("r+b") as file:
                file.seek(OWNER)
                file.write(struct.pack("<Q", word))
            if free:
                assert alive(ring, 0) == 0
                ring.producer().close()
            else:
                assert alive(ring, 0) == 1
                with pytest.raises(_ring.RingBusy):
                    ring.producer()


@pytest.mark.parametrize(
    ("offset", "value", "call"),
    [
        (CURSOR, 7, "take"),
        (CURSOR, 1 << 63, "take"),
        (CURSOR, 0, "take"),
        (STAGE, 3, "publish"),
        (STAGE, 1 << 63, "publish"),
        ("slot", 17, "take"),
        ("slot", 17, "view"),
        ("slot", 0xFFFFFFFF, "peek"),
    ],
)
def test_an_impossible_word_is_named_corrupt(
    offset: int | str, value: int, call: str, tmp_path: Path
) -> None:
    path = tmp_path / "ring"
    with (
        _ring.Ring.create(path, capacity=4, slot_bytes=16, stages=[0]) as ring,
        ring.producer() as producer,
        ring.consumer(0) as consumer,
    ):
        producer.publish(b"one")
        consumer.take()
        if isinstance(offset, str) or call == "publish":
            producer.publish(b"two")
        with path.open("r+b") as file:
            file.seek(offset if isinstance(offset, int) else ring.mapped_bytes - 4096 + 2 * ring.stride)
            file.write(struct.pack("<Q", value))
        with pytest.raises(_ring.RingCorrupt) as error:
            {
                "take": lambda: consumer.take(0),
                "peek": lambda: consumer.peek_many(4, 0),
                "view": lambda: [bytes(message) for message in consumer.view(4, 0)],
                "publish": lambda: producer.publish_many([b"x"] * 4, 0),
            }[call]()
        assert error.value.code == _ring.CORRUPT
        error.value.__traceback__ = None
        del error


CORRUPT = """
import mmap, struct, sys
from muniment.ring import _ring

ALLOWED = (_ring.RingError, BufferError, ValueError)

def attempt(call):
    try:
        return call()
    except ALLOWED:
        return None

def everything(ring, producer, consumer, fixed):
    \"\"\"Every call that reads or writes the mapping; none may wait.\"\"\"
    for _ in range(3):
        attempt(lambda: producer.publish_many([b"0123456789abcdef"] * 3, 0))
        if fixed:
            attempt(lambda: producer.publish_buffer(b"0123456789abcdef" * 3, 0))
            claim = attempt(lambda: producer.claim(2, 0))
            if claim is not None:
                memoryview(claim)[:1] = b"x"
                attempt(claim.commit)
        for call in (consumer.take, lambda t: consumer.take_many(3, t), lambda t: consumer.run(_ring.Count(), t),
                     lambda t: consumer.run(_ring.Digest(), t)):
            attempt(lambda: call(0))
        if attempt(lambda: consumer.peek_many(3, 0)) is not None:
            attempt(lambda: consumer.held_bytes)
            attempt(lambda: consumer.mark([True] * 3))
            attempt(consumer.release)
        view = attempt(lambda: consumer.view(3, 0))
        if view is not None:
            attempt(lambda: [bytes(one) for one in view])
            attempt(lambda: bytes(memoryview(view)))
            attempt(view.release)
    attempt(lambda: ring.snapshot_raw(True))
    attempt(lambda: (ring.stopped, ring.ended, ring.meta, consumer.lag))
    for one in (producer, consumer):
        attempt(one.beat)

shape = dict(eval(sys.argv[2]))
fixed = bool(shape.get("fixed"))
counts = [0, 0, 0]
path = sys.argv[1] + "/ring"
import os
ring = _ring.Ring.create(path, capacity=4, slot_bytes=16, stages=[0, 1], meta=b"spec", **shape)
size = ring.mapped_bytes
ring.close()
clean = open(path, "rb").read()
words = [*range(0, 512, 4), *range(512, 512 + 3 * 256, 4), *range(512 + 17 * 256, 512 + 18 * 256, 4)]
words += [*range(512 + 33 * 256, size, 1024), *range(size - 4096, size - 4000, 4)]
for offset in words:
    for value in (0, 3, 0x7fffffff, 0xffffffff):
        for attached in (False, True):
            open(path, "r+b").write(clean)
            print(offset, hex(value), attached, file=sys.stderr, flush=True)
            with open(path, "r+b") as file:
                memory = mmap.mmap(file.fileno(), size)
            if not attached:
                memory[offset : offset + 4] = struct.pack("<I", value)
            try:
                ring = _ring.Ring.attach(path)
                producer, first, consumer = ring.producer(), ring.consumer(0), ring.consumer(1)
            except (_ring.RingError, ValueError):
                counts[0] += 1
                continue
            attempt(lambda: producer.publish_many([b"0123456789abcdef"] * 2, 0))
            attempt(lambda: first.take(0))
            if attached:
                memory[offset : offset + 4] = struct.pack("<I", value)
            everything(ring, producer, first, fixed)
            everything(ring, producer, consumer, fixed)
            for one in (producer, first, consumer, ring):
                one.close()
            memory.close()
            counts[1] += 1
print(*counts)
"""


@pytest.mark.parametrize(
    "shape",
    [
        {},
        {"fixed": True},
        {"multi": True},
        {"filters": 1},
        {"fixed": True, "filters": 1, "drop": True},
        {"kind": "broadcast"},
    ],
    ids=["plain", "fixed", "multi", "filters", "fixed_filters_drop", "broadcast"],
)
def test_no_corrupted_word_crashes(shape: dict[str, object], tmp_path: Path) -> None:
    """Each word of header, control, cells and slots takes four values, before the attach and under it: an answer or an error."""
    program = CORRUPT
    if "kind" in shape:
        program = program.replace("stages=[0, 1]", "stages=[0, 0]")
    done = subprocess.run(
        [sys.executable, "-c", program, str(tmp_path), repr(shape)],
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-1500:]
    refused, survived, _ = map(int, done.stdout.split())
    assert refused > 100
    assert survived > 100
