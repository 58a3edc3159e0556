"""`sink:log` of a ring in shards, and an append whose answer was lost: what is acknowledged stays before what is not committed."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence

import pytest
from muniment.app import ingest_sink, patience
from muniment.app.session import Session
from muniment.domain.errors import ConflictError, UnavailableError
from muniment.store.api import Appended, Condition, Draft
from pipelines import Bench, check_marks, event, fifo, single

LOG = single("sink:log")
SHARDED = single("sink:log", shards=4, ordering="per_key", shard_key="k")


def keyed(first: int, last: int) -> bytes:
    return b"".join(event(n, k=f"k{n % 13}") + b"\n" for n in range(first, last + 1))


def test_shards_keep_the_order_of_a_key_and_lose_nothing(bench: Bench) -> None:
    bench.feed(keyed(1, 6000))
    report = bench.run(SHARDED)
    assert report.outcome == "completed"
    assert len(report.stages) == 4
    found = bench.numbers()
    assert sorted(found) == [*range(1, 6001)]
    for key in range(13):
        mine = [n for n in found if n % 13 == key]
        assert mine == sorted(mine)
    assert bench.position() == bench.input.stat().st_size
    floors = [int(row["to_offset"]) for row in bench.of(ingest_sink.ACKNOWLEDGED)]
    assert floors == sorted(floors)
    check_marks(bench.input.read_bytes(), bench.of(ingest_sink.ACKNOWLEDGED))
    bench.run(SHARDED)
    bench.feed(keyed(1, 6001)[:-1])
    bench.run(SHARDED)
    check_marks(bench.input.read_bytes(), bench.of(ingest_sink.ACKNOWLEDGED))
    bench.feed(keyed(1, 6003))
    assert bench.run(SHARDED).lines == 2


def test_another_input_is_refused_for_shards_too(bench: Bench) -> None:
    bench.feed(keyed(1, 1000))
    bench.run(SHARDED)
    for other in (keyed(1, 500), keyed(2, 1001), keyed(1, 999) + event(1) + b"\n"):
        bench.feed(other)
        with pytest.raises(ConflictError) as caught:
            bench.run(SHARDED)
        assert caught.value.code == "source.changed"
    assert bench.lived() == ["completed"]


def test_a_floor_that_does_not_move_keeps_the_name_of_its_line(bench: Bench) -> None:
    """The first line of the second run fails in its shard, the others are committed: the floor is where it was."""
    good = keyed(1, 300)
    bench.feed(good)
    bench.run(SHARDED)
    bench.feed(good + json.dumps({"k": "k3", "type": "t", "id": 7}).encode() + b"\n" + keyed(302, 2000))
    assert bench.failed(SHARDED).code == "ingest.no_event"
    rows = bench.of(ingest_sink.ACKNOWLEDGED)
    assert {int(row["to_offset"]) for row in rows[-2:]} == {len(good)}
    check_marks(bench.input.read_bytes(), rows)


@pytest.mark.parametrize("bad", [b'{"id":"x","type":"t"}', b"[]", b"{", b"", b'{"k":'])
def test_a_line_without_the_key_stops_the_run_behind_all_before_it(bench: Bench, bad: bytes) -> None:
    good = keyed(1, 5000)
    bench.feed(good + bad + b"\n" + keyed(5002, 5010))
    for _ in range(2):
        error = bench.failed(SHARDED)
        assert (error.code, error.exit_code) == ("source.shard_key_missing", 10)
        assert sorted(bench.numbers()) == [*range(1, 5001)]
        assert bench.position() == len(good)


@pytest.mark.parametrize("bad", ["sink", "filter"])
def test_one_shard_that_fails_ends_all_of_them(bench: Bench, bad: str) -> None:
    """The input does not end by itself: who waits for its end hangs."""
    pipe = fifo(bench.base / "pipe")
    line = b'{"k":"k1","type":7}\n' if bad == "sink" else b'{"k":"k1","kind":"\xff"}\n'
    os.write(pipe, b"".join(event(n, k=f"k{n % 13}", kind="a") + b"\n" for n in range(100)) + line)
    more = {"shards": 4, "ordering": "per_key", "shard_key": "k"}
    spec = single("filter:kind=a", "sink:log", **more) if bad == "filter" else single("sink:log", **more)
    try:
        error = bench.failed(spec, input=str(bench.base / "pipe"))
    finally:
        os.close(pipe)
    assert error.exit_code == 10


def test_a_failing_shard_leaves_the_floor_before_its_message(bench: Bench) -> None:
    bad = json.dumps({"k": "k3", "type": "t", "id": 7}).encode() + b"\n"
    good = keyed(1, 300)
    bench.feed(good + bad + keyed(302, 9000))
    assert bench.failed(SHARDED).code == "ingest.no_event"
    assert bench.position() <= len(good)
    bench.feed(good + keyed(302, 9000))
    assert bench.run(SHARDED).outcome == "completed"
    assert sorted(bench.numbers()) == [*range(1, 301), *range(302, 9001)]


# -- a lost answer -----------------------------------------------------------------------------------------------------


class Lost(Session):
    """Commits, and the answer is lost with the connection: `at` counts batches of facts from 1."""

    at = 0

    def append(self, drafts: Sequence[Draft], condition: Condition | None = None) -> Appended:
        done = super().append(drafts, condition)
        if any(draft.type == ingest_sink.ACKNOWLEDGED for draft in drafts):
            self.at -= 1
            if self.at == 0:
                raise UnavailableError("the connection broke", code="store.commit_unknown")
        return done


@pytest.mark.parametrize("spec", [LOG, SHARDED])
@pytest.mark.parametrize("at", [1, 2])
def test_a_lost_answer_is_no_other_run(bench: Bench, spec: str, at: int) -> None:
    assert bench.session is not None
    with Lost(bench.session.url, write=True) as session:
        session.at = at
        bench.feed(b"".join(event(n, k=n % 7) + b"\n" for n in range(1, 9001)))
        bench.session = session
        report = bench.run(spec)
        assert report.outcome == "completed", report.failure
        assert session.at < 1
        assert sorted(bench.numbers()) == [*range(1, 9001)]
        assert sum(row["facts"] for row in bench.of(ingest_sink.ACKNOWLEDGED)) == 9000
        assert (
            sum(found["committed"] for found in report.stages),  # type: ignore[misc]
            sum(found["duplicates"] for found in report.stages),  # type: ignore[misc]
        ) == (9000, 0)
        assert bench.run(spec).lines == 0


def test_a_shard_does_not_take_the_lost_answer_of_another_for_its_own(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The one whose answer was lost gives up at once; what the others had in hand must come again."""
    monkeypatch.setattr(patience, "WAITS", ())
    assert bench.session is not None
    with Lost(bench.session.url, write=True) as session:
        session.at = 3
        bench.feed(keyed(1, 9000))
        bench.session = session
        assert bench.failed(SHARDED).exit_code in (5, 8)
        assert bench.run(SHARDED).outcome == "completed"
        assert sorted(bench.numbers()) == [*range(1, 9001)]


def test_a_feeder_that_meets_a_stopped_ring_ends_the_others(bench: Bench) -> None:
    """Far more lines than the rings hold, so it stands before the ring of the bad line when that stops."""
    bench.feed(b'{"k":"k1","kind":7,"kind":8}\n' + keyed(1, 5000))
    spec = single("filter:kind=a", "count", shards=4, ordering="per_key", shard_key="k", capacity=2)
    assert bench.failed(spec).code == "filter.json_duplicate"
