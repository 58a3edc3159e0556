"""A lane graph at work: the four kinds of lanes, every kind of role, loss that is counted, and a role that fails."""

from __future__ import annotations

import hashlib
import json
import os
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from muniment.domain.errors import InvalidError, MunimentError, UnavailableError
from muniment.ring import work
from muniment.ring.journal_reader import Reader
from muniment.ring.lane_state import STATE
from pipelines import Bench, events, fifo, graph, held, ours, stage, until

ENDS = ["in stage identity - > a", "sum stage count a > -"]
KINDS = ("events capacity=64", "sequenced_slots capacity=64", "journal")
STRAIGHT = ["in stage identity - > a", "mid bridge identity a > b", "out stage sink:file:out.txt b > -"]


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, None)


@pytest.fixture
def python() -> Iterator[Any]:
    yield work.register
    work._registered.clear()


def numbers(count: int) -> bytes:
    return b"".join(b"%d\n" % number for number in range(count))


def state(bench: Bench) -> dict[str, Any]:
    return dict(json.loads((bench.base / "run" / "g" / STATE).read_text()))


def lane(bench: Bench, name: str) -> dict[str, Any]:
    return next(dict(found) for found in state(bench)["lanes"] if found["name"] == name)


@pytest.mark.parametrize("first", KINDS)
@pytest.mark.parametrize("second", KINDS)
@pytest.mark.parametrize("data", [b"", b"a", b"\n\n", b"a\r\nb", numbers(3000)])
def test_every_message_comes_through_in_order(bench: Bench, first: str, second: str, data: bytes) -> None:
    bench.feed(data)
    roles = STRAIGHT
    if first.split(maxsplit=1)[0] == second.split(maxsplit=1)[0]:
        roles = [role.replace("bridge", "stage") for role in STRAIGHT]
    report = bench.run(graph({"a": first, "b": second}, roles))
    assert report.outcome == "completed", report.failure
    expected = data if not data or data.endswith(b"\n") else data + b"\n"
    assert Path("out.txt").read_bytes() == expected
    assert {found["processed"] for found in report.stages} == {report.lines}
    at_end = state(bench)
    assert [role["state"] for role in at_end["roles"]] == ["ended"] * 3
    assert {role["processed"] for role in at_end["roles"]} == {str(report.lines)}


def test_a_router_gives_everything_to_every_lane_and_readers_share_none(bench: Bench) -> None:
    bench.feed(events(1, 2000))
    report = bench.run(
        graph(
            {"a": "events", "b": "sequenced_slots", "c": "journal"},
            [
                "in stage identity - > a",
                "split router identity a > b,c",
                "b1 stage count b > -",
                "b2 stage digest b > -",
                "c1 stage digest c > -",
            ],
        )
    )
    digest = hashlib.sha256(bench.input.read_bytes()).hexdigest()
    assert stage(report, "b1")["messages"] == 2000
    assert stage(report, "b2")["sha256"] == stage(report, "c1")["sha256"] == digest


def test_a_merge_keeps_the_order_of_each_lane(bench: Bench, python: Any) -> None:
    python("even")(lambda message: int(message) % 2 == 0)
    python("odd")(lambda message: int(message) % 2 == 1)
    bench.feed(numbers(3000))
    report = bench.run(
        graph(
            {"a": "sequenced_slots", "b": "events", "c": "events", "d": "events"},
            [
                "in stage identity - > a",
                "even stage python:even a > b",
                "odd stage python:odd a > c",
                "both merge identity b,c > d",
                "out stage sink:file:out.txt d > -",
            ],
        )
    )
    assert report.outcome == "completed"
    out = [int(line) for line in Path("out.txt").read_text().split()]
    assert sorted(out) == [*range(3000)]
    for rest in (0, 1):
        assert [n for n in out if n % 2 == rest] == [*range(rest, 3000, 2)]


def test_a_full_dropping_lane_counts_what_it_refused(bench: Bench, python: Any) -> None:
    python("slow")(lambda _message: time.sleep(0.001))
    bench.feed(numbers(2000))
    report = bench.run(
        graph(
            {"a": "events capacity=16 on_full=drop"},
            ["in stage identity - > a", "slow stage python:slow a > -"],
        )
    )
    taken = int(str(stage(report, "slow")["messages"]))
    assert report.dropped > 0
    assert taken + report.dropped == 2000
    assert lane(bench, "a")["drops"] == str(report.dropped)


def test_an_overtaken_reader_counts_what_it_lost(bench: Bench, python: Any) -> None:
    python("slow")(lambda _message: time.sleep(0.001))
    bench.feed(numbers(20_000))
    report = bench.run(
        graph(
            {"a": "fanout_broadcast capacity=16"},
            ["in stage identity - > a", "slow stage python:slow a > -", "sum stage count a > -"],
        )
    )
    assert report.outcome == "completed"
    taken = int(str(stage(report, "slow")["messages"])) + int(str(stage(report, "sum")["messages"]))
    lost = int(lane(bench, "a")["overruns"])
    assert lost > 0
    assert taken + lost == 40_000
    told = [stage(report, name) for name in ("slow", "sum")]
    assert [int(str(one["messages"])) + int(str(one.get("lost", 0))) for one in told] == [20_000, 20_000]


def test_a_journal_lane_can_be_replayed_and_grows_over_runs(bench: Bench) -> None:
    text = graph({"a": "journal"}, ENDS)
    for run in (1, 2):
        bench.feed(numbers(500 * run))
        assert stage(bench.run(text), "sum")["messages"] == 500 * run
    folder = bench.base / "home" / "journals" / "g" / "a"
    reader = Reader(folder)
    found: list[bytes] = []
    while part := reader.take_many(400, 0):
        found += part
    reader.close()
    assert found == numbers(500).split() + numbers(1000).split()


def test_the_state_is_told_while_it_runs(bench: Bench, python: Any) -> None:
    gate = threading.Event()
    python("gate")(lambda _message: gate.wait() and None)
    bench.feed(numbers(200))
    text = graph(
        {"a": "events capacity=16", "b": "events"},
        ["in stage identity - > a", "gate stage python:gate a > b", "end stage count b > -"],
    )
    answer: list[Any] = []
    runs = threading.Thread(target=lambda: answer.append(bench.run(text)))
    runs.start()
    try:
        until(lambda: (bench.base / "run" / "g" / STATE).exists() and lane(bench, "a")["depth"] == "16")
        until(lambda: [role["state"] for role in state(bench)["roles"]] == ["gated", "stalled", "idle"])
        now = lane(bench, "a")
        assert (now["head"], now["tail"], now["initialized"]) == ("16", "0", 2)
    finally:
        gate.set()
        runs.join(20)
    assert answer[0].outcome == "completed"
    assert lane(bench, "a")["depth"] == "0"


# -- what stops it -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "fanout_broadcast"])
@pytest.mark.parametrize("role", ["in", "mid", "out"])
def test_a_role_that_fails_stops_all_of_them(bench: Bench, python: Any, kind: str, role: str) -> None:
    """The input does not end, so nobody ends who is not stopped."""

    def bad(message: bytes) -> None:
        if message == b"77":
            raise RuntimeError("seventy-seven")

    python("bad")(bad)
    pipe = fifo(bench.base / "pipe")
    os.write(pipe, numbers(100))
    op = {name: "python:bad" if name == role else "identity" for name in ("in", "mid", "out")}
    roles = [f"in stage {op['in']} - > a", f"mid stage {op['mid']} a > b", f"out stage {op['out']} b > -"]
    try:
        report = bench.run(graph({"a": kind, "b": kind}, roles), input=str(bench.base / "pipe"))
    finally:
        os.close(pipe)
    assert report.failure is not None
    assert report.failure.stage == role
    assert str(report.failure.error) == "python:bad raised RuntimeError: seventy-seven"
    if kind != "fanout_broadcast capacity=64":
        assert report.failure.sequence == 78
    told = {found["name"]: found for found in state(bench)["roles"]}
    assert told[role]["last_error"] == "python:bad raised RuntimeError: seventy-seven"
    assert {found["state"] for found in told.values()} <= {"stopped", "ended"}
    assert {found["last_error"] for name, found in told.items() if name != role} == {""}


def test_what_was_cut_short_is_no_whole_file(bench: Bench, python: Any) -> None:
    python("bad")(lambda message: int(message) >= 0)
    bench.feed(numbers(100) + b"x\n")
    lanes = {"a": "events", "b": "events"}
    roles = ["in stage identity - > a", "bad stage python:bad a > b", "out stage sink:file:out.txt b > -"]
    assert bench.failed(graph(lanes, roles)).code == "stage.raised"
    assert not Path("out.txt").exists()


@pytest.mark.parametrize(
    ("sizes", "code"),
    [((64, 256), "source.line_too_long"), ((256, 64), "lane.message_too_long")],
)
@pytest.mark.parametrize("kind", ["events", "fanout_broadcast"])
def test_a_message_that_no_slot_holds(bench: Bench, sizes: tuple[int, int], code: str, kind: str) -> None:
    bench.feed(b"a\n" * 10 + b"y" * 100 + b"\n")
    lanes = {name: f"{kind} slot_bytes={size}" for name, size in zip("ab", sizes, strict=True)}
    error = bench.failed(graph(lanes, [role.replace("bridge", "stage") for role in STRAIGHT]))
    assert isinstance(error, InvalidError)
    assert (error.code, error.exit_code) == (code, 10)
    if code == "source.line_too_long":
        assert "line 11 of the input, at byte 20," in error.message


def test_a_line_without_an_end_is_not_gathered_for_ever(bench: Bench) -> None:
    pipe = fifo(bench.base / "pipe")
    os.write(pipe, b"x" * 5000)
    try:
        text = graph({"a": "events slot_bytes=4096"}, ENDS)
        assert bench.failed(text, input=str(bench.base / "pipe")).code == "source.line_too_long"
    finally:
        os.close(pipe)


def test_a_filter_role_stops_at_what_it_cannot_read(bench: Bench) -> None:
    bench.feed(events(1, 700, kind="a") + b"{\n" + events(701, 800, kind="a"))
    report = bench.run(
        graph(
            {"a": "events", "b": "events"},
            ["in stage identity - > a", "some stage filter:kind=a a > b", "out stage count b > -"],
        )
    )
    assert report.failure is not None
    assert (report.failure.stage, report.failure.sequence) == ("some", 701)
    assert stage(report, "some")["messages"] == 700


@pytest.mark.parametrize(
    ("op", "code"),
    [
        ("python:nobody", "stage.not_registered"),
        ("schema:nothing", "schema.unknown"),
        ("sink:file:none/out.txt", "sink.file_unwritable"),
        ("sink:log", "run.no_store"),
        ("exec:true", "run.op_unsupported"),
    ],
)
def test_a_role_that_cannot_run_is_refused_before_anything_runs(bench: Bench, op: str, code: str) -> None:
    bench.feed(b"a\n")
    with pytest.raises(MunimentError) as caught:
        bench.run(graph({"a": "events"}, ["in stage sink:file:first.txt - > a", f"out stage {op} a > -"]))
    assert caught.value.code == code
    assert not list(bench.base.glob("first*"))
    assert not (bench.base / "run" / "g" / STATE).exists()
    assert bench.run(graph({"a": "events"}, ENDS)).outcome == "completed"
    assert not [said for word, said in bench.told if word == "left over"]


def test_a_journal_of_another_spec_or_a_damaged_one_stops_before_the_first_line(bench: Bench) -> None:
    text = graph({"a": "journal"}, ENDS)
    bench.feed(numbers(10))
    bench.run(text)
    segment = next(
        path
        for path in sorted((bench.base / "home" / "journals" / "g" / "a").iterdir())
        if path.stat().st_size > 64
    )
    data = bytearray(segment.read_bytes())
    data[len(data) // 2] ^= 1
    segment.write_bytes(data)
    with pytest.raises(MunimentError):
        bench.run(text)


def test_nothing_is_left_of_a_graph_that_is_stopped_at_once(bench: Bench) -> None:
    from muniment.ring.graph import GraphPipeline
    from pipelines import spec_of

    bench.feed(numbers(100_000))

    def go() -> None:
        with bench.input.open("rb") as file:
            lanes = bench.base / "lanes"
            lanes.mkdir()
            text = graph(
                {"a": "events", "b": "events"},
                ["in stage identity - > a", "x stage identity a > b", "y stage count b > -"],
            )
            pipeline = GraphPipeline(
                spec_of(text),
                file.fileno(),
                0,
                lambda name: lanes / name,
                lambda name: lanes / name,
                lambda *_: pytest.fail("none"),
            )
            pipeline.start()
            pipeline.stop()
            until(lambda: not pipeline.alive())
            assert pipeline.result() is None
            assert pipeline.interrupted
            pipeline.close()

    held(go)
    assert ours() == []


def test_an_input_that_fails_is_unavailable(bench: Bench) -> None:
    text = graph({"a": "events"}, ENDS)
    error = bench.failed(text, input="/proc/self/mem")
    assert isinstance(error, UnavailableError)
    assert error.code == "source.unreadable"
