"""Waiting without the interpreter lock: second threads are refused, signals are served; and objects of a parent after a fork."""

from __future__ import annotations

import gc
import os
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable

import pytest
from muniment.ring import _ring
from rings import filled, record


def test_a_busy_object_refuses_a_second_thread(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring, 0)
    answers: list[bytes] = []
    waiting = threading.Thread(target=lambda: answers.append(consumer.take()))
    waiting.start()
    while not consumer.stalls:
        time.sleep(0.001)
    for call in (lambda: consumer.take(0), consumer.close, lambda: consumer.view(1, 0), consumer.beat):
        with pytest.raises(BufferError, match="another thread"):
            call()
    with pytest.raises(BufferError):
        ring.close()
    producer.publish(record(5))
    waiting.join(10)
    assert answers == [record(5)]
    assert producer.publish_many([record(i) for i in range(8)], 0) == 8
    full = threading.Thread(target=producer.publish, args=(record(9),))
    full.start()
    while not producer.stalls:
        time.sleep(0.001)
    for call in (
        lambda: producer.publish(record(1)),
        producer.close,
        producer.end,
        lambda: _ring.Feeder(producer),
    ):
        with pytest.raises(BufferError, match="another thread"):
            call()
    consumer.take()
    full.join(10)
    assert producer.at == 10


def test_a_list_that_changes_while_it_waits_is_looked_at_again(ring: _ring.Ring) -> None:
    producer, consumer = filled(ring, 8)
    messages: list[bytes] = [record(100), record(101)]
    failed: list[BaseException] = []

    def publish() -> None:
        try:
            producer.publish_many(messages)
        except IndexError as error:
            failed.append(error)

    waiting = threading.Thread(target=publish)
    waiting.start()
    while not producer.stalls:
        time.sleep(0.001)
    messages.clear()
    gc.collect()
    consumer.take()
    waiting.join(10)
    assert not waiting.is_alive()
    assert len(failed) == 1
    assert producer.at == 8


class Caught(Exception):  # noqa: N818
    """Raised by the signal handler."""


def alarmed(call: Callable[[], object]) -> None:
    """The alarm may come before the call waits, but not before somebody expects it."""
    signal.setitimer(signal.ITIMER_REAL, 0.05)
    call()


@pytest.mark.parametrize("what", ["take", "view", "run", "publish", "publish_many", "claim", "feed"])
def test_a_signal_ends_a_wait(ring: _ring.Ring, what: str) -> None:
    producer, consumer = filled(ring, 8 if what.startswith(("pub", "cl")) else 0)
    reading, writing = os.pipe()
    calls: dict[str, Callable[[], object]] = {
        "take": consumer.take,
        "view": lambda: consumer.view(1),
        "run": lambda: consumer.run(_ring.Count()),
        "publish": lambda: producer.publish(record(1)),
        "publish_many": lambda: producer.publish_many([record(1)]),
        "claim": lambda: producer.claim(1),
        "feed": lambda: _ring.Feeder(producer).feed(reading),
    }

    def handler(*_: object) -> None:
        raise Caught

    before = signal.signal(signal.SIGALRM, handler)
    try:
        start = time.monotonic()
        with pytest.raises(Caught):
            alarmed(calls[what])
        assert time.monotonic() - start < 20  # without it they wait for ever
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
        os.close(reading)
        os.close(writing)
    producer.close()
    consumer.close()
    ring.close()


FORKED = """
import gc, os
from muniment.ring import _ring
record = b"0123456789abcdef"
ring = _ring.Ring.create(None, capacity=8, slot_bytes=16, stages=[0, 0], fixed=True)
producer, consumer = ring.producer(), ring.consumer(0)
producer.publish_many([record] * 4)
view, claim = consumer.view(1, 0), producer.claim(1, 0)
reading, writing = os.pipe()
child = os.fork()
if not child:
    said = []
    for call in (lambda: producer.publish(record), lambda: consumer.take(0), view.release, claim.commit, consumer.beat,
                 lambda: ring.consumer(0), ring.producer, lambda: ring.consumer(1).take(0) == record, lambda: len(view[0])):
        try:
            said.append(repr(call()))
        except (BufferError, _ring.RingBusy) as error:
            said.append(type(error).__name__)
    del view, claim, producer, consumer
    gc.collect()
    os.write(writing, " ".join(said).encode())
    os._exit(0)
os.close(writing)
with os.fdopen(reading) as file:
    print(file.read())
assert os.waitpid(child, 0)[1] == 0
view.release()
assert claim.commit() == 1
assert consumer.take(0) == record
try:
    ring.producer()
except _ring.RingBusy:
    print("still ours")
ring.consumer(1).close()
"""


def test_objects_of_the_parent_are_refused_in_a_child() -> None:
    """The inherited ring works there: the free stage can be taken, the parent's places cannot, nor are they given up."""
    done = subprocess.run([sys.executable, "-c", FORKED], capture_output=True, text=True, timeout=60)
    assert done.stderr == ""
    assert done.stdout == f"{' '.join(['BufferError'] * 5)} RingBusy RingBusy True 16\nstill ours\n"
