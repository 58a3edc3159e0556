"""The supervisor's eye on real rings, with clocks that a test turns (rules: `app.runtime_watch`)."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
from muniment.app.runtime_watch import DOWN_S, GAP_S, HELD_LOOKS, QUIET_S, Recorder, Ring, Watch
from muniment.domain.errors import InvalidError, UnavailableError
from muniment.ring import _ring

S = 1_000_000_000


class Eye:
    """A watch on one ring of two slots and one stage; `now` is turned by hand. A stall takes no time to be one."""

    def __init__(self, **more: Any) -> None:
        broadcast = more.pop("broadcast", False)
        self.ring = _ring.Ring.create(
            None,
            capacity=2,
            slot_bytes=8,
            stages=[0],
            kind="broadcast" if broadcast else "gated",
            drop=more.pop("drop", False),
        )
        self.producer, self.consumer = self.ring.producer(), self.ring.consumer(0)
        self.now = 1000 * S
        self.down: Exception | None = None
        self.asked = 0
        self.beats: list[dict[str, Any]] = []
        self.snapshots: list[tuple[str, str]] = []
        self.told: list[str] = []
        self.watch = Watch(
            None,
            [Ring("r", "", "", self.ring)],
            Recorder(self._beat, self._snapshot) if more.pop("record", True) else None,
            run="run-1",
            now_ns=lambda: self.now,
            unix_ns=lambda: 7,
            told=lambda word, _text: self.told.append(word),
            **{"stall_ns": 0, **more},
        )

    def _beat(self, data: dict[str, Any]) -> None:
        self._ask()
        self.beats.append(data)

    def _snapshot(self, packed: bytes, seen: Any, reason: str, lane: str) -> None:
        self._ask()
        assert packed
        assert seen["cursor"]
        self.snapshots.append((reason, lane))

    def _ask(self) -> None:
        self.asked += 1
        if self.down:
            raise self.down

    def look(self, seconds: float = 0.25, reason: str = "") -> None:
        self.now += int(seconds * S)
        self.watch.look(reason)

    @property
    def reasons(self) -> list[str]:
        return [beat["reason"] for beat in self.beats]

    def close(self) -> None:
        self.consumer.close()
        self.producer.close()
        self.ring.close()


Make = Callable[..., Eye]


@pytest.fixture
def eye() -> Iterator[Make]:
    made: list[Eye] = []

    def make(**more: Any) -> Eye:
        made.append(Eye(**more))
        return made[-1]

    yield make
    for one in made:
        one.close()


def test_a_quiet_run_beats_at_the_start_periodically_and_at_the_end(eye: Make) -> None:
    one = eye(every=30.0)
    one.look(reason="started")
    for _ in range(4 * 65):
        one.look()
    one.look(reason="ended")
    assert one.reasons == ["started", "periodic", "periodic", "ended"]
    assert [beat["beat"] for beat in one.beats] == [1, 2, 3, 4]
    assert one.snapshots == [("ended", "")]
    assert one.beats[0]["uptime_ms"] == 250
    assert one.beats[0]["unix_ns"] == "7"


def test_idle_processing_and_idle_again_is_no_transition(eye: Make) -> None:
    one = eye(stall_ns=60 * S)
    one.look(reason="started")
    for _ in range(20):
        one.producer.publish(b"x")
        one.look()
        one.consumer.take(0)
        one.look()
    assert one.reasons == ["started"]
    assert one.snapshots == []
    assert one.told == []


def test_into_trouble_and_out_of_it_is_a_beat_and_a_snapshot_each(eye: Make) -> None:
    one = eye()
    one.look(reason="started")
    one.look(QUIET_S)
    one.producer.publish(b"x")
    for _ in range(40):  # it lasts ten seconds: one transition
        one.look()
    one.consumer.take(0)
    for _ in range(8):
        one.look()
    assert one.reasons == ["started", "transition", "transition"]
    assert one.snapshots == [("transition", "")] * 2
    assert one.told == ["stalled", "goes on"]
    assert one.beats[1]["changes"] == [{"stage": "0", "from": "idle", "to": "stalled"}]


def test_what_flickers_is_recorded_once_a_second_at_most(eye: Make) -> None:
    one = eye()
    one.look(reason="started")
    for _ in range(80):
        one.producer.publish(b"x")
        one.look(0.0625)
        one.consumer.take(0)
        one.look(0.0625)
    assert 2 <= len(one.reasons) - 1 <= 10 / QUIET_S


def test_trouble_that_comes_in_the_quiet_second_is_told_after_it(eye: Make) -> None:
    one = eye()
    one.look(reason="started")
    one.look(QUIET_S)
    one.producer.publish(b"x")
    one.look()
    one.consumer.take(0)
    one.look()
    assert one.reasons == ["started", "transition"]
    for _ in range(5):
        one.look()
    assert one.reasons == ["started", "transition", "transition"]
    assert one.told == ["stalled", "goes on"]


@pytest.mark.parametrize("looks", [HELD_LOOKS - 1, HELD_LOOKS])
def test_a_producer_held_back_for_a_moment_is_no_trouble(eye: Make, looks: int) -> None:
    one = eye(stall_ns=600 * S)
    one.look(reason="started")
    one.look(QUIET_S)
    one.producer.publish_many([b"x", b"x"], 0)
    for _ in range(looks):
        one.look()
    assert one.told == ([] if looks < HELD_LOOKS else ["gated"])
    one.consumer.take_many(2, 0)
    one.look(QUIET_S)
    for _ in range(HELD_LOOKS):
        one.look()
    assert one.told == ([] if looks < HELD_LOOKS else ["gated", "goes on"])


def test_a_message_that_was_dropped_is_a_transition(eye: Make) -> None:
    one = eye(drop=True, stall_ns=600 * S)
    one.look(reason="started")
    one.look(QUIET_S)
    assert one.producer.publish_many([b"x"] * 3, 0) == 2
    one.look()
    one.producer.publish_many([b"x"], 0)
    one.look(QUIET_S)
    assert one.told[:1] == ["dropped"]
    assert one.reasons.count("transition") == 1 + one.told.count("gated")


def test_a_reader_that_was_overtaken_is_a_transition(eye: Make) -> None:
    one = eye(broadcast=True, stall_ns=600 * S)
    one.look(reason="started")
    one.look(QUIET_S)
    one.producer.publish_many([b"x"] * 9, 0)
    with pytest.raises(_ring.RingOverrun):
        one.consumer.take(0)
    one.look()
    assert one.told == ["overrun"]
    assert one.reasons == ["started", "transition"]


@pytest.mark.parametrize("seconds", [GAP_S - 1, GAP_S + 1])
def test_silence_of_the_supervisor_itself_is_said(eye: Make, seconds: float) -> None:
    one = eye()
    one.look(reason="started")
    one.look(seconds)
    one.look()
    assert one.reasons == ["started"] + ["gap"] * (seconds > GAP_S)


def test_periodic_snapshots_only_where_they_are_asked_for(eye: Make) -> None:
    one, none = eye(snapshot_every=60.0), eye()
    for watched in (one, none):
        watched.look(reason="started")
        for _ in range(4 * 125):
            watched.look()
    assert one.snapshots == [("periodic", "")] * 2
    assert none.snapshots == []


def test_a_store_that_does_not_answer_is_counted_and_not_asked_at_every_look(eye: Make) -> None:
    one = eye(every=1.0)
    one.look(reason="started")
    one.down = UnavailableError("down", code="store.unreachable")
    for _ in range(4 * 40):
        one.look()
    assert 3 <= one.asked - 1 <= 40 / DOWN_S + 1
    assert one.watch.unrecorded >= 38
    assert one.watch.last_error is one.down
    assert one.told == ["not recorded"] * (one.asked - 1)
    one.down = None
    missed = one.watch.unrecorded
    for _ in range(4 * 20):
        one.look()
    assert one.watch.unrecorded < missed + DOWN_S + 1
    assert one.reasons[-1] == "periodic"
    assert one.beats[-1]["beat"] == len(one.beats) + one.watch.unrecorded, "the numbers tell what is missing"


def test_a_record_that_does_not_fit_is_counted_and_the_next_one_tried(eye: Make) -> None:
    one = eye(every=1.0)
    one.down = InvalidError("no", code="record.payload")
    one.look(reason="started")
    one.look(1.0)
    assert (one.asked, one.watch.unrecorded) == (2, 2)


def test_a_fault_of_ours_is_not_counted_as_a_store_that_is_down(eye: Make) -> None:
    one = eye()
    one.down = ZeroDivisionError()
    with pytest.raises(ZeroDivisionError):
        one.look(reason="started")


def test_a_stopped_ring_is_told(eye: Make) -> None:
    one = eye()
    one.look(reason="started")
    one.look(QUIET_S)
    one.ring.stop(0, 64, 1)
    one.look()
    assert one.told == ["stopped"]


def test_without_a_recorder_people_are_told_all_the_same(eye: Make) -> None:
    one = eye(record=False)
    one.look(reason="started")
    one.look(QUIET_S)
    one.producer.publish(b"x")
    one.look()
    assert one.told == ["stalled"]
    assert (one.asked, one.watch.unrecorded) == (0, 0)


def test_without_a_ring_it_beats(eye: Make) -> None:
    one = eye()
    one.watch._rings = []
    one.look(reason="started")
    one.look(reason="ended")
    assert one.reasons == ["started", "ended"]
    assert one.beats[0]["ring"] == {"cursor": "0", "min_gating": "0"}
