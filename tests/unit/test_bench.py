"""Benchmarks run and print their rows at a tiny size; nothing here is timed. Their records are those of the registry."""

from __future__ import annotations

import importlib
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from muniment.domain.envelope import halves
from muniment.domain.records import tags_of, validate
from muniment.ops.bench import __main__ as command
from muniment.ops.bench import data, harness, report, ring_programs, ring_python
from muniment.projections.model import ReadModel
from muniment.projections.registry import DRIVER
from muniment.store.memory import MemoryLog

TINY = 60
CASES = {  # benchmark -> rows that its first table must have
    "bulk": {"muniment, encode and append", "bare, integer keys", "eventsourcing recorder"},
    "callers": {
        "muniment, 1 threads",
        "muniment, 16 tasks",
        "muniment, 64 threads",
        "bare coalescing, 64 tasks",
        "eventsourcing, 16 threads",
        "fdatasync of 4 KiB",
    },
    "decision": {
        "muniment decision, build",
        "muniment append, prepared",
        "bare, same bytes",
        "eventsourcing save",
        "fdatasync of 4 KiB",
    },
    "disk": {"muniment", "canonical bytes", "eventsourcing"},
    "fold": {"muniment, every projection", "eventsourcing, decode and fold", "bare cursor"},
    "growth": {"60 records"},
    "load": {"muniment, select and fold", "eventsourcing, get", "bare select and decode"},
    "memory": {"start", "fold, steady, 60", "rebuild, fleet, 60", "verify, fleet, 60"},
    "reading": {
        "slot at T",
        "slot at T, no memo",
        "history of a tag",
        "48 rollbacks, dry",
        "inclusion proof",
        "consistency proof",
        "first proof, no inner nodes",
    },
    "ring_log": {"muniment run, file, ring, log", "decode and append, no ring"},
    "ring_native": {
        "muniment, publish 1, spin",
        "muniment, publish 1, paced, core compiled apart",
        "muniment, batches of 64, park",
        "LMAX Disruptor, publish 1, yielding (its own test)",
        "LMAX Disruptor, batches of 64, spinning",
        "boost spsc_queue, 64 a push, consume_all",
        "moodycamel readerwriterqueue",
        "atomic_queue, one to one",
    },
    "ring_python": {"queue.SimpleQueue", "muniment publish, native stage, paced"},
    "ring_snapshot": {"three stages, at rest", "one stage, running"},
    "ring_waits": {"pair of pipes", "muniment, spin", "muniment, park, both asleep"},
    "startup": {"python -c 'import click'", "muniment --help", "muniment channel show"},
    "verify": {"muniment verify, every check but evidence", "one SHA-256 a record"},
}


def tiny(folder: Path) -> harness.Options:
    return harness.Options(sizes=(TINY,), runs=1, scale=0.005, folder=folder)


def test_every_benchmark_has_its_case() -> None:
    assert tuple(sorted(CASES)) == command.NAMES


@pytest.mark.parametrize("name", sorted(CASES))
def test_a_benchmark_runs_and_prints_its_rows(name: str, tmp_path: Path) -> None:
    options = tiny(tmp_path)
    tables = importlib.import_module(f"muniment.ops.bench.{name}").run(options)
    rows = {row.name for row in tables[0].rows}
    assert rows >= CASES[name], CASES[name] - rows
    made = report.section(name, tables, options)
    for row in CASES[name]:
        assert f"| {row}" in made
    assert "min | max |" in made
    assert list(tmp_path.iterdir()) == [], "a benchmark removes what it made"


def test_every_type_of_the_story_is_valid_and_tagged_as_the_registry_says() -> None:
    seen = {}
    for found in data.records(1, data.SETUP + 2 * data.CYCLE):
        validate(found["type"], found["data"])
        assert sorted(tags_of(found["type"], found["data"])) == found["tags"], found["type"]
        seen[found["type"]] = True
    assert len(seen) > 20, "several types"


def test_records_are_deterministic_and_of_the_promised_size() -> None:
    one, again = list(data.records(1, 300)), list(data.records(1, 300))
    assert one == again
    assert len({found["id"] for found in one}) == 300
    mean = sum(len(draft.leaf("0" * 27)) for draft in data.drafts(8, 250)) / 250
    assert 500 <= mean <= 650, mean
    tags = sum(len(found["tags"]) for found in data.records(8, 250)) / 250
    assert 2.5 <= tags <= 3.5, tags


@pytest.mark.parametrize("cycles", [0, 2])
def test_projections_fold_the_story(cycles: int) -> None:
    with MemoryLog() as log:
        data.fill(log, data.SETUP + 6 * data.CYCLE, cycles=cycles)
        model = ReadModel()
        DRIVER.fold(model, log.pages())
    told = cycles or 6
    assert len(model.builds) == len(model.packs) == len(model.releases) == told
    assert sum(build.gates["validate"].verdict == "PASS" for build in model.builds.values()) == told


def test_a_draft_is_the_record() -> None:
    found = data.record(40)
    head, tail = halves(found)
    assert data.draft(found).leaf("NOW") == head + b"NOW" + tail


def table(ours: list[float], floor: list[float], goal: harness.Goal) -> harness.Table:
    return harness.tabulate("t", {"ours": ours, "floor": floor}, base="floor", goals=[goal])


def test_a_ratio_is_made_within_a_run() -> None:
    # the medians are equal; within each run ours is half of the floor in two of three
    found = table([10, 20, 30], [20, 10, 60], harness.Goal("ours", "floor", 1))
    assert harness.ratio(found, "ours", "floor") == 0.5


@pytest.mark.parametrize(
    ("ours", "bound", "at_least", "word"),
    [
        (7.0, 0.7, True, "reached"),
        (6.9, 0.7, True, "MISSED"),
        (16.0, 1.6, False, "reached"),
        (16.1, 1.6, False, "MISSED"),
    ],
)
def test_a_missed_goal_says_so(ours: float, bound: float, at_least: bool, word: str) -> None:
    found = table([ours], [10.0], harness.Goal("ours", "floor", bound, at_least))
    assert harness.verdicts(found)[0].startswith(word)


def test_a_case_that_cannot_be_taken_is_a_row_that_says_why() -> None:
    cases = ring_programs.Cases()
    cases.add("ours", lambda: lambda: 4.0)
    cases.add("peer", lambda: missing("no java"))
    goals = [harness.Goal("ours", "peer", 1)]
    found = cases.table("t", harness.Options(runs=2), base="peer", unit="M/s", goals=goals, notes=[])
    assert harness.text(found)[2:] == ["| ours | 4 | 4 | 4 | - |", "| peer | not measured: no java | | | |"]
    assert harness.verdicts(found) == ["not judged: ours against peer: not measured: peer"]


def test_a_goal_names_what_it_is() -> None:
    found = table([15.0], [10.0], harness.Goal("ours", "floor", 2, word="moonshot:"))
    assert harness.verdicts(found) == ["MISSED: ours = 1.50 x floor (moonshot: at least 2 x)"]


def missing(why: str) -> Callable[[], float]:
    raise ring_programs.Missing(why)


@pytest.fixture
def checkout(monkeypatch: pytest.MonkeyPatch) -> None:
    """The core's sources are those beside these tests, also where the package is installed and has none."""
    monkeypatch.setattr(ring_programs, "core_sources", lambda: Path(__file__).parents[2] / "ring")


@pytest.mark.usefixtures("checkout")
@pytest.mark.parametrize("name", ["ring_waits", "ring_snapshot", "ring_native"])
def test_without_compilers_every_row_is_there_and_none_has_a_figure(
    name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ring_programs.shutil, "which", lambda _name: None)
    for found in importlib.import_module(f"muniment.ops.bench.{name}").run(tiny(tmp_path)):
        assert found.rows
        assert all("no " in row.missing and not row.figures for row in found.rows)
        assert all(line.startswith("not judged") for line in harness.verdicts(found))
        assert not any("reached" in note for note in found.notes)
        assert "not measured: no" in report.section(name, [found], tiny(tmp_path))


def test_from_a_wheel_the_core_is_missing_and_the_row_says_so(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(ring_programs.importlib.util, "find_spec", lambda _name: None)
    with pytest.raises(ring_programs.Missing, match="checkout"):
        ring_programs.core_sources()


@pytest.mark.usefixtures("checkout")
def test_a_program_of_ours_that_fails_is_an_error_and_a_peer_without_a_form_is_missing(
    tmp_path: Path,
) -> None:
    with ring_programs.workshop(tiny(tmp_path)) as shop:
        with pytest.raises(RuntimeError, match="shape="):
            shop.ours("throughput")(shape="ring")
        with pytest.raises(RuntimeError, match="payload"):
            shop.ours("throughput")(payload=16)
        here = bool(shutil.which("g++"))
        with pytest.raises(RuntimeError if here else ring_programs.Missing, match=r"queue=|no compiler"):
            shop.peer("deque")
        with pytest.raises(ring_programs.Missing, match=r"batches|is missing|no compiler"):
            shop.peer("atomic_queue")(batch=2, count=1)


@pytest.mark.parametrize("argv", [["nothing", "5"], ["call", "5", "nothing", "0"], ["snapshot"]])
def test_a_wrong_python_case_is_an_error(argv: list[str]) -> None:
    with pytest.raises(RuntimeError, match=argv[0]):
        ring_python.reading(argv)()


def test_cases_take_turns_and_each_comes_first_once() -> None:
    order: list[str] = []
    cases = {name: lambda name=name: float(order.append(name) or 1) for name in "abc"}
    harness.interleave(cases, 3)
    assert "".join(order) == "abcbcacab"


def test_a_section_is_replaced_and_the_others_stay(tmp_path: Path) -> None:
    path = tmp_path / "RESULTS.md"
    options = tiny(tmp_path)
    found = [table([1.0], [2.0], harness.Goal("ours", "floor", 0.7))]
    for name in ("verify", "bulk"):
        report.write(name, report.section(name, found, options), path)
    first = path.read_text()
    report.write("bulk", report.section("bulk", [found[0]._replace(title="anew")], options), path)
    text = path.read_text()
    assert text.index("## bulk") < text.index("## verify")
    assert "### anew" in text
    assert text.count("<!-- begin bulk -->") == text.count("<!-- end bulk -->") == 1
    assert first[first.index("<!-- begin verify") :] == text[text.index("<!-- begin verify") :]


@pytest.mark.parametrize("argv", [["nothing"], [], ["fold", "--runs", "many"]])
def test_a_wrong_call_is_a_usage_error(argv: list[str], capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as caught:
        command.main(argv)
    assert caught.value.code == 2
    assert "usage:" in capsys.readouterr().err


def test_the_command_prints_and_writes_nothing_unasked(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    results = tmp_path / "RESULTS.md"
    monkeypatch.setattr(report, "RESULTS", results)
    argv = ["disk", "--records", str(TINY), "--runs", "1", "--folder", str(tmp_path)]
    assert command.main(argv) == 0
    assert "canonical bytes" in capsys.readouterr().out
    assert not results.exists()
