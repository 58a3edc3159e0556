"""`sink:log` on a store: what is committed, acknowledged, found again, refused, and what outlasts a store that goes away."""

from __future__ import annotations

import sqlite3
import threading
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Self

import pytest
from muniment.app import ingest_sink, patience, running, runtime_watch
from muniment.app.session import Session
from muniment.domain.errors import ConflictError, InvalidError, UnavailableError
from muniment.ring.place import RunPlace
from muniment.store import sqlite_log
from muniment.store.api import Appended, Condition, Draft
from pipelines import Bench, event, events, single, spec_of, stage

LOG = single("sink:log")
BEAT = "runtime.heartbeat_recorded/1"


def counts(report: Any) -> tuple[int, int, int]:
    found = stage(report, "s0")
    return found["committed"], found["duplicates"], found["skipped"]


# -- what comes through ------------------------------------------------------------------------------------------------


def test_every_line_is_a_fact_once_and_the_input_goes_on_behind_it(bench: Bench) -> None:
    bench.feed(events(1, 5000))
    assert counts(bench.run(LOG)) == (5000, 0, 0)
    assert bench.position() == bench.input.stat().st_size
    assert bench.run(LOG).lines == 0
    bench.feed(events(1, 5010))
    report = bench.run(LOG)
    assert (report.lines, counts(report)) == (10, (10, 0, 0))
    assert bench.numbers() == [*range(1, 5011)]
    assert bench.lived() == ["completed"] * 3
    ended = bench.of("runtime.run_ended/1")[0]["counts"]
    assert (ended["read"], ended["committed"], ended["dropped"]) == ("5000", "5000", "0")


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", (0, 0, 0)),
        (b"\n\r\n  \n", (0, 0, 3)),
        (events(1, 2)[:-1], (2, 0, 0)),
        (events(1, 2).replace(b"\n", b"\r\n"), (2, 0, 0)),
        (b"\n" + events(1, 1) + b"\n" + events(2, 2) + b"\n", (2, 0, 3)),
        (events(1, 2) + events(1, 2), (2, 2, 0)),
        (event(1) + b"\n" + event(1), (1, 1, 0)),
    ],
)
def test_odd_inputs(bench: Bench, data: bytes, expected: tuple[int, int, int]) -> None:
    bench.feed(data)
    assert counts(bench.run(LOG)) == expected
    again = bench.run(LOG)
    assert (again.outcome, again.lines) == ("completed", 0), (
        "everything is acknowledged, also without a last line end"
    )


def test_from_the_start_everything_is_known(bench: Bench) -> None:
    bench.feed(events(1, 3000))
    bench.run(LOG)
    assert counts(bench.run(LOG, from_start=True)) == (0, 3000, 0)
    bench.feed(events(1, 3005))
    assert counts(bench.run(LOG)) == (5, 0, 0)
    assert bench.numbers() == [*range(1, 3006)]


def test_standard_input_begins_anew_and_its_lines_are_known(bench: Bench) -> None:
    bench.feed(events(1, 100))
    bench.run(LOG, source="other")
    bench.run(LOG, source="src")
    assert len(bench.numbers()) == 200, "an event without a source of its own has that of the input"


def test_a_position_is_of_a_source_and_a_spec(bench: Bench) -> None:
    bench.feed(events(1, 50, source="urn:x"))
    assert counts(bench.run(LOG)) == (50, 0, 0)
    other = bench.run(single("sink:log", name="q"))
    assert (other.resume_from, counts(other)) == (None, (0, 50, 0))
    assert (bench.position(), bench.position(spec="q")) == (bench.input.stat().st_size,) * 2


def test_what_a_filter_drops_is_acknowledged_with_the_rest(bench: Bench) -> None:
    bench.feed(events(1, 3000, kind="a") + events(3001, 3005, kind="b") + events(3006, 6000, kind="a"))
    bench.run(single("filter:kind=b", "sink:log"))
    assert bench.numbers() == [*range(3001, 3006)]
    assert bench.position() == bench.input.stat().st_size


# -- what stops it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("at", [1, 2, 2048, 2049, 3000])
@pytest.mark.parametrize("bad", [b"{", b'{"id":"x"}', b'{"id":"","type":"t"}', b'{"id":"\xff","type":"t"}'])
def test_a_line_that_is_no_event_stops_there(bench: Bench, bad: bytes, at: int) -> None:
    good = events(1, at - 1)
    bench.feed(good + bad + b"\n" + events(at + 1, at + 100))
    for _ in range(2):
        report = bench.run(LOG)
        assert report.failure is not None
        assert isinstance(report.failure.error, InvalidError)
        assert report.failure.error.exit_code == 10
        assert bench.numbers() == [*range(1, at)]
        assert bench.position() == len(good)
    bench.feed(good + event(at) + b"\n" + events(at + 1, at + 100))
    assert bench.run(LOG).outcome == "completed"
    assert bench.numbers() == [*range(1, at + 101)]


def test_a_bad_line_behind_dropped_ones_leaves_the_position_at_it(bench: Bench) -> None:
    good = events(1, 100, kind="a")
    bench.feed(good + b'{"kind":"b"}\n')
    assert bench.failed(single("filter:kind=b", "sink:log")).code == "ingest.no_event"
    assert bench.position() == len(good)


@pytest.mark.parametrize("apart", [0, 10, 5000])
def test_an_id_with_other_content_stops_there(bench: Bench, apart: int) -> None:
    good = events(1, 1 + apart)
    bench.feed(good + event(1, other=True) + b"\n" + events(9001, 9002))
    for _ in range(2):
        error = bench.failed(LOG)
        assert isinstance(error, ConflictError)
        assert (error.code, error.exit_code) == ("ingest.id_reused", 5)
        assert bench.numbers() == [*range(1, apart + 2)]
        assert bench.position() == len(good)


def test_a_line_too_long_leaves_all_before_it_committed(bench: Bench) -> None:
    good = events(1, 3000)
    bench.feed(good + b"x" * 300 + b"\n")
    spec = single("sink:log", slot_bytes=256)
    for _ in range(2):
        assert bench.failed(spec).code == "source.line_too_long"
        assert (len(bench.numbers()), bench.position()) == (3000, len(good))


def test_another_input_under_the_name_is_refused(bench: Bench) -> None:
    bench.feed(events(1, 100))
    bench.run(LOG)
    for other in (events(1, 50), events(2, 101), events(1, 99) + event(5) + b"\n"):
        bench.feed(other)
        with pytest.raises(ConflictError) as caught:
            bench.run(LOG)
        assert (caught.value.code, caught.value.exit_code) == ("source.changed", 5)
    assert bench.lived() == ["completed"], "a run that never began is not on record as one that ended"
    assert len(bench.of("runtime.run_started/1")) == 1


def test_a_spec_that_runs_is_not_run_twice(bench: Bench) -> None:
    bench.feed(events(1, 10))
    with RunPlace("p"), pytest.raises(ConflictError) as caught:
        bench.run(LOG)
    assert (caught.value.code, caught.value.exit_code) == ("run.live", 5)
    assert bench.numbers() == []


def test_two_runs_on_one_source_and_spec_the_later_append_is_refused(
    bench: Bench, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two hosts: the runtime folders differ, the log is one."""
    bench.feed(events(1, 10))
    assert bench.session is not None
    take = ingest_sink.LogSink.take

    def overtaken(self: ingest_sink.LogSink, *args: Any) -> None:
        monkeypatch.setattr(ingest_sink.LogSink, "take", take)
        monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "other"))
        with Session(bench.session.url, write=True) as other:  # type: ignore[union-attr]
            asked = running.Asked(str(bench.input), "src")
            running.run(spec_of(LOG), other, asked, told=lambda *_: None, progress=lambda _: None)
        take(self, *args)

    monkeypatch.setattr(ingest_sink.LogSink, "take", overtaken)
    error = bench.failed(LOG)
    assert (error.code, error.exit_code) == ("ingest.source_taken", 5)
    assert bench.numbers() == [*range(1, 11)]
    assert bench.run(LOG).lines == 0


def test_a_start_that_finds_an_op_it_cannot_run_is_not_on_record(bench: Bench) -> None:
    bench.feed(events(1, 1))
    with pytest.raises(InvalidError):
        bench.run(single("python:nobody", "sink:log"))
    assert bench.of("runtime.run_started/1") == []
    bench.run(LOG)
    assert bench.of("runtime.snapshot_captured/1")[0]["reason"] != "left_over"


def test_without_record_only_facts_and_positions(bench: Bench) -> None:
    bench.feed(events(1, 10))
    bench.run(LOG, record=False)
    assert (len(bench.numbers()), len(bench.of("runtime.batch_acknowledged/1"))) == (10, 1)
    for kind in ("run_started", "run_ended", "heartbeat_recorded", "snapshot_captured"):
        assert bench.of(f"runtime.{kind}/1") == []


def test_a_dropping_ring_acknowledges_nothing(bench: Bench) -> None:
    bench.feed(events(1, 500))
    for _ in range(3):
        bench.run(single("sink:log", on_full="drop", capacity=64))
    assert bench.position() == 0
    assert len(set(bench.numbers())) == len(bench.numbers())


# -- a store that goes away --------------------------------------------------------------------------------------------


@pytest.fixture
def hasty(monkeypatch: pytest.MonkeyPatch) -> None:
    """Waits of milliseconds; before the store is opened."""
    monkeypatch.setitem(sqlite_log.SqliteLog.open.__func__.__kwdefaults__, "busy_s", 0.05)
    monkeypatch.setattr(patience, "WAITS", (0.1, 0.2))


def test_a_store_that_is_locked_for_ever_loses_nothing(hasty: None, bench: Bench) -> None:
    bench.feed(events(1, 100))
    bench.run(LOG)
    bench.feed(events(1, 200))
    with lock_at_first_take(bench, None):
        report = bench.run(LOG)
    assert report.failure is not None
    assert isinstance(report.failure.error, UnavailableError)
    assert report.failure.error.exit_code == 8
    assert report.failure.error.code == "store.locked"
    assert "run it again on the same input" in report.failure.error.hint
    assert report.unrecorded > 0
    assert "locked" in report.end_unrecorded
    assert [word for word, _ in bench.told if word == "waits"] == ["waits"]
    assert any(word == "not recorded" and said.startswith("the end of run") for word, said in bench.told)
    assert bench.lived() == ["completed"]
    assert bench.numbers() == [*range(1, 101)]
    bench.run(LOG)
    assert bench.numbers() == [*range(1, 201)]


@pytest.mark.parametrize("shards", [1, 4])
def test_one_sink_waits_for_the_store_and_nobody_else_asks_it_meanwhile(
    hasty: None, bench: Bench, monkeypatch: pytest.MonkeyPatch, shards: int
) -> None:
    """Each who asks may hold the only writer for seconds, so it is counted who did."""

    class Asked(Session):
        def append(self, drafts: Sequence[Draft], condition: Condition | None = None) -> Appended:
            asked.append(drafts[-1].type)
            beats.update({drafts[-1].id: len(asked)} if drafts[-1].type == BEAT else {})
            try:
                return super().append(drafts, condition)
            except UnavailableError:
                asked.append("in vain")
                raise

    asked: list[str] = []
    beats: dict[str | None, int] = {}  # when each was asked for last
    monkeypatch.setattr(patience, "WAITS", (0.6,) * 6)
    monkeypatch.setattr(patience, "LIMIT_S", 1.0)
    monkeypatch.setattr(runtime_watch, "DOWN_S", 0.0)
    more = {"shards": shards, "ordering": "per_key", "shard_key": "n"} if shards > 1 else {}
    bench.feed(events(1, 400))
    assert bench.session is not None
    with Asked(bench.session.url, write=True) as session, lock_at_first_take(bench, None):
        bench.session = session
        report = bench.run(single("sink:log", **more), every=0.25)
    assert report.failure is not None
    assert report.failure.error.exit_code == 8
    first = asked.index("in vain", asked.index(ingest_sink.ACKNOWLEDGED))
    assert asked.count(ingest_sink.ACKNOWLEDGED) == 3, (
        "at 0, 0.6 and 1.2 seconds or later, by one sink of all"
    )
    assert sum(at > first for at in beats.values()) <= 1, "one may have been under way"
    assert report.unrecorded >= 2


def test_the_end_is_on_record_if_the_store_takes_it_by_then(
    hasty: None, bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The lock goes when the sink has given up."""
    bench.feed(events(1, 100))
    with lock_at_first_take(bench, None) as lock:

        def abandon(_sink: ingest_sink.LogSink) -> None:
            lock.db.rollback()

        monkeypatch.setattr(ingest_sink.LogSink, "abandon", abandon)
        report = bench.run(LOG)
    assert report.failure is not None
    assert report.end_unrecorded == ""
    assert bench.lived() == ["failed"]
    assert bench.of("runtime.run_ended/1")[-1]["code"] == "store.locked"
    assert bench.numbers() == []


class lock_at_first_take:  # noqa: N801 - it reads as what it does
    """From the first batch of a run on, another connection holds the write lock; `seconds` None: until the end."""

    def __init__(self, bench: Bench, seconds: float | None) -> None:
        self.path, self.seconds = next(bench.base.glob("store/*.db")), seconds
        self.patch, self.locked = pytest.MonkeyPatch(), False

    def __enter__(self) -> Self:
        self.db = sqlite3.connect(self.path, isolation_level=None, check_same_thread=False, timeout=20)
        take = ingest_sink.LogSink.take
        guard = threading.Lock()

        def taking(sink: ingest_sink.LogSink, *args: Any) -> None:
            with guard:
                if not self.locked:
                    self.db.execute("BEGIN IMMEDIATE")
                    self.locked = True
                    if self.seconds is not None:
                        threading.Timer(self.seconds, self.db.rollback).start()
            take(sink, *args)

        self.patch.setattr(ingest_sink.LogSink, "take", taking)
        return self

    def __exit__(self, *_: object) -> None:
        self.patch.undo()
        self.db.close()


def test_a_store_that_is_locked_for_a_while_is_waited_for(
    hasty: None,
    bench: Bench,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(patience, "WAITS", (0.1, 0.3, 1.0, 3.0))
    bench.feed(events(1, 5000))
    began = time.monotonic()
    with lock_at_first_take(bench, 1.5):
        report = bench.run(LOG)
    assert report.outcome == "completed"
    assert [word for word, _ in bench.told].count("waits") == 1
    assert ("goes on", "the store can be written again") in bench.told
    assert time.monotonic() - began > 1.5
    assert bench.numbers() == [*range(1, 5001)]


def test_a_clock_that_jumped_is_not_waited_for(bench: Bench) -> None:
    class Jumped(Session):
        tries = 0

        def append(self, drafts: Sequence[Draft], condition: Condition | None = None) -> Appended:
            if any(draft.type == ingest_sink.ACKNOWLEDGED for draft in drafts):
                self.tries += 1
                raise UnavailableError("it jumped", code="clock.jump_refused")
            return super().append(drafts, condition)

    assert bench.session is not None
    bench.feed(events(1, 5))
    with Jumped(bench.session.url, write=True) as session:
        bench.session = session
        assert bench.failed(LOG).code == "clock.jump_refused"
        assert session.tries == 1
        assert bench.numbers() == []
