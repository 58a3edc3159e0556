"""`sink:log` in a lane graph: what is acknowledged of the input, whichever way its lines take, and what is not."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

import pytest
from muniment.domain.errors import ConflictError
from muniment.ring import work
from pipelines import Bench, check_marks, event, events, graph, stage

INTO = [
    "in stage identity - > i",
    "all router identity i > a,b",
    "log stage sink:log a > -",
    "sum stage count b > -",
]


@pytest.fixture
def python() -> Iterator[Any]:
    yield work.register
    work._registered.clear()


def test_a_graph_into_the_log_goes_on_where_it_was_acknowledged(bench: Bench) -> None:
    text = graph({"i": "events", "a": "events", "b": "journal"}, INTO)
    bench.feed(events(1, 3000))
    assert stage(bench.run(text), "log")["committed"] == 3000
    assert bench.position(spec="g") == bench.input.stat().st_size
    bench.feed(events(1, 3000) + events(3001, 3100))
    report = bench.run(text)
    assert (report.lines, stage(report, "log")["duplicates"]) == (100, 0)
    size = bench.input.stat().st_size
    again = bench.run(text, from_start=True)
    assert (again.outcome, stage(again, "log")["duplicates"]) == ("completed", 3100)
    assert bench.position(spec="g") == size
    bench.feed(events(1, 3100) + event(1, other=1) + b"\n")
    error = bench.failed(text)
    assert (error.code, error.exit_code) == ("ingest.id_reused", 5)
    assert bench.position(spec="g") == size
    assert bench.numbers() == [*range(1, 3101)]
    assert bench.lived() == ["completed"] * 3 + ["failed"]
    check_marks(bench.input.read_bytes(), bench.of("runtime.batch_acknowledged/1"))
    bench.feed(events(2, 3000))
    with pytest.raises(ConflictError) as caught:
        bench.run(text)
    assert caught.value.code == "source.changed"


@pytest.mark.parametrize("kind", ["fanout_broadcast", "events on_full=drop", "sequenced_slots on_full=drop"])
@pytest.mark.parametrize(("lane", "reaches"), [("i", False), ("a", False), ("b", True)])
def test_what_may_lose_lines_on_the_way_to_the_log_is_not_acknowledged(
    bench: Bench, kind: str, lane: str, reaches: bool
) -> None:
    """The ids alone tell what is there; a lane that loses what would only be counted is no hindrance."""
    lanes = {"i": "events", "a": "events", "b": "events"}
    bench.feed(events(1, 100))
    text = graph({**lanes, lane: kind}, INTO)
    bench.run(text)
    assert bench.position(spec="g") == (bench.input.stat().st_size if reaches else 0)
    assert bench.run(text).lines == (0 if reaches else 100)


@pytest.mark.parametrize("end", ["filter", "held", "merge"])
def test_lines_that_come_to_an_end_elsewhere_are_acknowledged_at_last(
    bench: Bench, python: Any, end: str
) -> None:
    """Rejected; slower than the sink; or read twice by it."""
    python("slow")(lambda _message: time.sleep(0.002))
    roles = {
        "filter": ["in stage filter:n=x - > i", "log stage sink:log i > -"],
        "held": ["in stage identity - > i", "s stage python:slow i > a", "log stage sink:log a > -"],
        "merge": [
            "in stage identity - > d",
            "r router identity d > i,a",
            "s stage python:slow a > b",
            "m merge identity i,b > c",
            "log stage sink:log c > -",
        ],
    }[end]
    named = {name for role in roles for name in role.split()[3].split(",") + role.split()[5].split(",")}
    bench.feed(events(1, 150))
    text = graph(dict.fromkeys(sorted(named - {"-"}), "events capacity=4"), roles)
    report = bench.run(text)
    assert report.outcome == "completed", report.failure
    assert bench.position(spec="g") == bench.input.stat().st_size
    check_marks(bench.input.read_bytes(), bench.of("runtime.batch_acknowledged/1"))
    assert bench.run(text).lines == 0


def test_a_failing_role_beside_the_log_leaves_the_position_before_what_is_not_there(
    bench: Bench, python: Any
) -> None:
    def bad(message: bytes) -> None:
        if b'"n": 4900' in message:
            raise ValueError

    python("bad")(bad)
    text = graph(
        dict.fromkeys("iab", "events capacity=16"),
        [
            "in stage identity - > i",
            "s stage python:bad i > a",
            "t stage identity a > b",
            "log stage sink:log b > -",
        ],
    )
    bench.feed(events(1, 5000))
    assert bench.failed(text).code == "stage.raised"
    there = len(bench.numbers())
    assert bench.numbers() == [*range(1, there + 1)]
    assert 0 < bench.position(spec="g") <= len(events(1, there))
