"""A single ring at work: every op, every odd input, every way to stop."""

from __future__ import annotations

import hashlib
import json
import resource
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest
from muniment.domain.errors import ConflictError, InvalidError, MunimentError, NotFoundError, UnavailableError
from muniment.ring import work
from pipelines import Bench, events, ours, single, stage

WHOLE = single("identity", "count", "digest", "sink:file:out.txt")


@pytest.fixture
def bench(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Bench:
    """No store: what runs here needs none."""
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.chdir(tmp_path)
    return Bench(tmp_path, None)


@pytest.fixture
def registered() -> Iterator[dict[str, work.Function]]:
    yield work._registered
    work._registered.clear()


@pytest.mark.parametrize(
    ("data", "lines"),
    [
        (b"", []),
        (b"a\nb\n", [b"a", b"b"]),
        (b"a\nb", [b"a", b"b"]),
        (b"\n\na\n\n", [b"", b"", b"a", b""]),
        (b"a\r\nb\r\n", [b"a\r", b"b\r"]),
        (b"\n", [b""]),
        (b"\xff\x00\n" * 5000, [b"\xff\x00"] * 5000),
    ],
)
def test_lines_come_through_as_they_are(bench: Bench, data: bytes, lines: list[bytes]) -> None:
    bench.feed(data)
    report = bench.run(WHOLE)
    out = b"".join(line + b"\n" for line in lines)
    assert (report.outcome, report.lines) == ("completed", len(lines))
    assert Path("out.txt").read_bytes() == out
    assert stage(report, "s1")["messages"] == len(lines)
    assert stage(report, "s1")["bytes"] == sum(map(len, lines))
    assert stage(report, "s2")["sha256"] == hashlib.sha256(out).hexdigest()
    assert not Path("out.txt.partial").exists()


def test_a_filter_drops_for_those_behind_it_and_for_no_other(bench: Bench) -> None:
    bench.feed(events(1, 500, kind="a") + events(501, 800, kind="b"))
    report = bench.run(
        single("identity", ("filter:kind=b", "0"), ("count", "1"), ("count", "0"), ("sink:file:out.txt", "1"))
    )
    assert [stage(report, f"s{at}")["messages"] for at in range(5)] == [800, 800, 300, 800, 300]
    assert stage(report, "s1")["rejected"] == 500
    assert [json.loads(line)["n"] for line in Path("out.txt").read_text().splitlines()] == [*range(501, 801)]


def test_a_python_stage_rejects_and_the_rest_goes_on(
    bench: Bench, registered: dict[str, work.Function]
) -> None:
    work.register("odd")(lambda message: int(message) % 2 == 1)
    bench.feed(b"".join(b"%d\n" % number for number in range(100)))
    report = bench.run(single("python:odd", "sink:file:out.txt"))
    assert Path("out.txt").read_text().split() == [str(number) for number in range(1, 100, 2)]
    assert stage(report, "s0") == {"id": "s0", "op": "python:odd", "messages": 100, "rejected": 50}


@pytest.mark.parametrize("at", [1, 2, 700, 2049, 5000])
def test_a_line_too_long_names_line_and_byte_after_all_before_it(bench: Bench, at: int) -> None:
    before = b"x\n" * (at - 1)
    bench.feed(before + b"y" * 257 + b"\nz\n")
    report = bench.run(single("count", slot_bytes=256))
    assert report.failure is not None
    error = report.failure.error
    assert isinstance(error, InvalidError)
    assert error.code == "source.line_too_long"
    assert error.exit_code == 10
    assert f"line {at} of the input, at byte {len(before)}," in error.message
    assert stage(report, "s0")["messages"] == at - 1
    assert (report.failure.stage, report.failure.sequence, report.lines) == ("", at, at - 1)


def test_what_was_cut_short_is_no_whole_file(bench: Bench) -> None:
    """The last line does not fit, so the input was not read to its end."""
    bench.feed(b"a\nb\n" + b"y" * 257)
    assert bench.failed(single("sink:file:out.txt", slot_bytes=256)).code == "source.line_too_long"
    assert not Path("out.txt").exists()
    assert Path("out.txt.partial").read_bytes() == b"a\nb\n"


@pytest.mark.parametrize(
    ("bad", "code"),
    [(b"{", "filter.json_syntax"), (b"", "filter.json_syntax"), (b"[]", "filter.json_object")],
)
def test_a_filter_stops_at_what_it_cannot_read(bench: Bench, bad: bytes, code: str) -> None:
    bench.feed(events(1, 300, kind="a") + bad + b"\n" + events(301, 400, kind="a"))
    report = bench.run(single("filter:kind=a", "sink:file:out.txt"))
    assert report.failure is not None
    assert (report.failure.stage, report.failure.sequence) == ("s0", 301)
    assert (report.failure.error.code, report.failure.error.exit_code) == (code, 10)  # type: ignore[attr-defined]
    assert not Path("out.txt").exists()


def test_a_stage_in_python_stops_at_the_very_message(
    bench: Bench, registered: dict[str, work.Function]
) -> None:
    seen: list[bytes] = []

    def picky(message: bytes) -> None:
        if message == b"17":
            raise RuntimeError("no")
        seen.append(message)

    work.register("picky")(picky)
    bench.feed(b"".join(b"%d\n" % number for number in range(5000)))
    report = bench.run(single("python:picky", "count"))
    assert report.failure is not None
    assert (report.failure.stage, report.failure.sequence) == ("s0", 18)
    assert seen == [b"%d" % number for number in range(17)]
    assert int(str(stage(report, "s1")["messages"])) <= 17


@pytest.mark.parametrize("at", [1, 2, 3, 1000, 2047, 2048, 2049, 4000])
def test_a_schema_stage_finds_the_one_that_does_not_fit(bench: Bench, at: int) -> None:
    bench.feed(events(1, at - 1) + b'{"id":7}\n' + events(at + 1, at + 3000))
    report = bench.run(single("schema:event", "sink:file:out.txt"))
    assert report.failure is not None
    assert (report.failure.sequence, report.failure.error.code) == (at, "schema.unfit")  # type: ignore[attr-defined]
    assert stage(report, "s0")["messages"] == at - 1


def test_the_place_of_a_failure_counts_what_a_filter_dropped_before_it(bench: Bench) -> None:
    bench.feed(events(1, 100, kind="a") + b'{"kind":"b","id":7}\n' + events(102, 110, kind="b"))
    report = bench.run(single("filter:kind=b", "schema:event"))
    assert report.failure is not None
    assert (report.failure.stage, report.failure.sequence) == ("s1", 101)
    assert "message 101 " in str(report.failure.error)


@pytest.mark.parametrize(
    ("op", "code", "exit_code"),
    [
        ("guard:rule", "run.op_unsupported", 10),
        ("http_post:https://h/x", "run.op_unsupported", 10),
        ("exec:true", "run.op_unsupported", 10),
        ("python:nobody", "stage.not_registered", 10),
        ("schema:nothing", "schema.unknown", 10),
        ("sink:log", "run.no_store", 3),
        ("sink:file:taken.txt", "sink.file_exists", 5),
        ("sink:file:half.txt", "sink.file_exists", 5),
        ("sink:file:none/out.txt", "sink.file_unwritable", 8),
    ],
)
def test_an_op_that_cannot_run_here_is_refused_before_anything_runs(
    bench: Bench, op: str, code: str, exit_code: int
) -> None:
    Path("taken.txt").write_text("mine")
    Path("half.txt.partial").write_text("half")
    bench.feed(b"{}\n")
    with pytest.raises(MunimentError) as caught:
        bench.run(single("sink:file:first.txt", op))
    assert (caught.value.code, caught.value.exit_code) == (code, exit_code)
    assert Path("taken.txt").read_text() == "mine"
    assert Path("half.txt.partial").read_text() == "half"
    assert not list(bench.base.glob("first.txt*")), "nothing came through, so nothing is left in the way"
    assert not list((bench.base / "run").glob("p/ring*"))
    bench.run(single("sink:file:first.txt"))
    assert not [said for word, said in bench.told if word == "left over"], "it never began"


def test_a_shard_that_cannot_begin_leaves_nothing_of_the_others(bench: Bench) -> None:
    Path("out.txt.1").write_text("mine")
    bench.feed(b'{"k":1}\n')
    with pytest.raises(ConflictError):
        bench.run(single("sink:file:out.txt", shards=2, ordering="per_key", shard_key="k"))
    assert sorted(path.name for path in bench.base.glob("out*")) == ["out.txt.1"]
    assert not list((bench.base / "run").glob("p/ring*"))


def test_a_file_taken_meanwhile_is_not_overwritten(
    bench: Bench, registered: dict[str, work.Function]
) -> None:
    work.register("take")(lambda _message: Path("out.txt").write_text("mine") and None)
    bench.feed(b"a\n")
    error = bench.failed(single("python:take", "sink:file:out.txt"))
    assert isinstance(error, ConflictError)
    assert Path("out.txt").read_text() == "mine"
    assert Path("out.txt.partial").read_text() == "a\n"


def test_an_input_that_is_none(bench: Bench) -> None:
    with pytest.raises(NotFoundError):
        bench.run(single("count"))
    assert not (bench.base / "run" / "p").exists()


def test_an_input_that_cannot_be_read_on(bench: Bench, monkeypatch: pytest.MonkeyPatch) -> None:
    """A file of /proc that opens and does not read: EIO, as a failing disk answers."""
    error = None
    try:
        error = bench.failed(single("count"), input="/proc/self/mem")
    except MunimentError as refused:
        error = refused
    assert isinstance(error, UnavailableError)
    assert error.code == "source.unreadable"


def test_two_sinks_of_one_ring_would_both_acknowledge(bench: Bench) -> None:
    with pytest.raises(InvalidError) as caught:
        bench.run(single("sink:log", "sink:log"))
    assert caught.value.code == "run.two_sinks"


def test_a_ring_for_several_producers_ends_too(bench: Bench) -> None:
    bench.feed(b"a\n" * 3000)
    report = bench.run(single("count", producer="multi"))
    assert (report.outcome, stage(report, "s0")["messages"]) == ("completed", 3000)


def test_a_dropping_ring_counts_what_it_refused(bench: Bench, registered: dict[str, work.Function]) -> None:
    import time

    work.register("slow")(lambda _message: time.sleep(0.0005))
    bench.feed(b"a\n" * 4000)
    report = bench.run(single("python:slow", on_full="drop", capacity=16))
    taken = int(str(stage(report, "s0")["messages"]))
    assert report.dropped > 0
    assert (report.lines, taken + report.dropped) == (4000, 4000)


class Broken:
    """A work that fails where it is told to."""

    batch = 8

    def __init__(self, where: str) -> None:
        self.where = where

    def take(self, messages: Sequence[bytes], span: work.Span) -> Sequence[bool] | None:
        if self.where == "take":
            raise MemoryError("broken")
        if self.where == "answers":
            return [True]
        return None

    def finish(self) -> None:
        if self.where == "finish":
            raise OSError("broken")

    def abandon(self) -> None:
        pass

    def summary(self) -> dict[str, object]:
        return {}


@pytest.mark.parametrize("where", ["take", "answers", "finish"])
def test_a_stage_that_breaks_anywhere_ends_the_run(
    bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    from muniment.app import running

    monkeypatch.setattr(running, "PythonStage", lambda _name: Broken(where))
    bench.feed(b"a\n" * 100_000)
    report = bench.run(single("python:x", "count"))
    assert report.outcome == "failed"
    assert report.failure is not None
    assert report.failure.stage == "s0"


def test_memory_is_flat_over_ten_times_the_input(bench: Bench) -> None:
    def grown(lines: int, text: str) -> int:
        part = events(1, 2000, fill="x" * 200)
        with bench.input.open("wb") as file:  # in parts: the peak that is measured is that of the run
            for _ in range(lines // 2000):
                file.write(part)
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        assert bench.run(text).lines == lines
        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before

    sharded = single("count", shards=2, ordering="per_key", shard_key="id")
    for text in (single("filter:type=t", "schema:event"), sharded):
        grown(20_000, text)
        assert grown(200_000, text) < 6_000, text  # KiB; 200 000 numbers kept would be more
    assert ours() == []
