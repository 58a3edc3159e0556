"""Broadcast rings from Python: readers are never waited for, and hear of every loss once, in its place."""

from __future__ import annotations

import threading
from typing import ClassVar

import hypothesis.strategies as st
import pytest
from hypothesis import settings
from hypothesis.stateful import RuleBasedStateMachine, initialize, rule
from muniment.ring import _ring


class Broadcast(RuleBasedStateMachine):
    """Two readers that fall behind; what each got and lost is the whole, in order."""

    fixed: ClassVar = False

    @initialize(capacity=st.sampled_from([1, 2, 8]))
    def start(self, capacity: int) -> None:
        self.ring = _ring.Ring.create(
            None, capacity=capacity, slot_bytes=12, stages=[0, 0], kind="broadcast", fixed=self.fixed
        )
        self.producer = self.ring.producer()
        self.readers = [self.ring.consumer(i) for i in range(2)]
        self.log: list[bytes] = []
        self.at = [0, 0]
        self.lost = [0, 0]

    @rule(n=st.integers(1, 20), how=st.sampled_from(["many", "one", "buffer"]))
    def publish(self, n: int, how: str) -> None:
        messages = [b"%012d" % (len(self.log) + i) for i in range(n)]
        if not self.fixed:
            messages = [message[12 - i % 13 :] for i, message in enumerate(messages)]
        if how == "many" or (how == "buffer" and not self.fixed):
            assert self.producer.publish_many(messages, 0) == n
        elif how == "one":
            assert all(map(self.producer.publish, messages))
        else:
            assert self.producer.publish_buffer(b"".join(messages), 0) == n
        self.log += messages

    def lose(self, which: int, error: _ring.RingOverrun) -> None:
        behind = len(self.log) - self.at[which]
        assert error.lost > 0
        assert error.lost >= behind - self.ring.capacity, "what was overwritten is lost"
        assert error.sequence == self.at[which] + error.lost + 1
        assert error.sequence <= len(self.log) + 1
        self.at[which] += error.lost
        self.lost[which] += error.lost

    @rule(which=st.integers(0, 1))
    def take(self, which: int) -> None:
        try:
            message = self.readers[which].take(0)
        except _ring.RingTimeout:
            assert self.at[which] == len(self.log)
        except _ring.RingOverrun as error:
            assert len(self.log) - self.at[which] > self.ring.capacity
            self.lose(which, error)
        else:
            assert message == self.log[self.at[which]]
            self.at[which] += 1
        self.counts()

    @rule(which=st.integers(0, 1), most=st.integers(1, 20))
    def take_many(self, which: int, most: int) -> None:
        try:
            found = self.readers[which].take_many(most, 0)
        except _ring.RingTimeout:
            assert self.at[which] == len(self.log)
        except _ring.RingOverrun as error:
            assert len(self.log) - self.at[which] > self.ring.capacity
            self.lose(which, error)
        else:
            assert 1 <= len(found) <= most
            assert found == self.log[self.at[which] : self.at[which] + len(found)]
            self.at[which] += len(found)
        self.counts()

    def counts(self) -> None:
        assert [reader.lost for reader in self.readers] == self.lost
        assert [reader.at for reader in self.readers] == self.at

    @rule(which=st.integers(0, 1))
    def open_again(self, which: int) -> None:
        self.readers[which].close()
        self.readers[which] = self.ring.consumer(which)
        self.counts()


LIMITS = settings(max_examples=80, stateful_step_count=60, deadline=None)
TestBroadcast = Broadcast.TestCase
TestBroadcast.settings = LIMITS
TestFixedBroadcast = type("FixedBroadcast", (Broadcast,), {"fixed": True}).TestCase
TestFixedBroadcast.settings = LIMITS


def test_a_reader_beside_a_fast_producer_gets_or_misses_each_message_once() -> None:
    """Two threads; the reader checks that what it got and what it was told it lost are every sequence, once, in order."""
    ring = _ring.Ring.create(None, capacity=64, slot_bytes=32, stages=[0], kind="broadcast", wait="spin")
    producer, reader = ring.producer(), ring.consumer(0)
    total = 200_000

    def publish() -> None:
        for first in range(1, total + 1, 50):
            producer.publish_many([b"%d %d" % (n, n * 7919) for n in range(first, first + 50)])
        producer.end()

    writing = threading.Thread(target=publish)
    writing.start()
    next_one, got, lost = 1, 0, 0
    told: list[tuple[int, int]] = []
    while True:
        try:
            for message in reader.take_many(40, 10):
                number, check = map(int, message.split())
                assert (number, check) == (next_one, next_one * 7919)
                next_one += 1
                got += 1
        except _ring.RingOverrun as error:
            lost += error.lost
            next_one += error.lost
            told.append((error.sequence, next_one))
        except _ring.RingEnded:
            break
    writing.join()
    assert all(said == expected for said, expected in told)
    assert got + lost == total == reader.at
    assert lost == reader.lost
    assert got > 0


@pytest.mark.parametrize("call", ["view", "peek_many", "run", "claim", "mark", "release"])
def test_what_a_broadcast_ring_cannot_is_refused(call: str) -> None:
    ring = _ring.Ring.create(None, capacity=4, slot_bytes=8, stages=[0], kind="broadcast", fixed=True)
    producer, reader = ring.producer(), ring.consumer(0)
    producer.publish(b"12345678")
    with pytest.raises(BufferError):
        {
            "view": lambda: reader.view(1, 0),
            "peek_many": lambda: reader.peek_many(1, 0),
            "run": lambda: reader.run(_ring.Count(), 0),
            "claim": lambda: producer.claim(1, 0),
            "mark": lambda: reader.mark([True]),
            "release": reader.release,
        }[call]()
    assert reader.take(0) == b"12345678"


@pytest.mark.parametrize(
    "argument",
    [{"stages": [0, 1]}, {"multi": True}, {"drop": True}, {"filters": 1}],
    ids=lambda a: next(iter(a)),
)
def test_what_a_broadcast_ring_has_not_is_refused(argument: dict[str, object]) -> None:
    given = {"capacity": 4, "slot_bytes": 8, "stages": [0], "kind": "broadcast", **argument}
    with pytest.raises(ValueError, match="broadcast"):
        _ring.Ring.create(None, **given)  # type: ignore[arg-type]
