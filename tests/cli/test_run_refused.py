"""What stands in the way of `run`: nothing of it is called a bug of ours, a success, or somebody else's exit code."""

from __future__ import annotations

import resource
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click
import pytest
from muniment.app.session import Session
from muniment.domain.query import Item
from muniment.ring import work
from pipelines import events, graph, single


@pytest.fixture
def here(place: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store with an input `in` of 20 events, and a runtime folder of its own."""
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "run"))
    root = place("empty")
    (root / "in").write_bytes(events(1, 20))
    return root


def ran(cli: Callable[..., Any], text: str, *words: str) -> Any:
    Path("p.kv").write_text(text)
    return cli("run", "--spec", "p.kv", "--input", "in", *words)


class Foreign(Exception):  # noqa: N818  # named as what it is
    """An exception of somebody else's, with members that mean something else here."""

    code = 3
    exit_code = 0


RAISED = {
    "an error": ValueError("no such town"),
    "an exit": SystemExit(0),
    "members of the same names": Foreign("no such town"),
    "an exit of click": click.exceptions.Exit(0),
    "no text": RuntimeError(),
    "much text": ValueError("x" * 100_000),
}


@pytest.mark.parametrize("kind", RAISED)
def test_a_function_that_raises_fails_the_run_and_its_end_is_on_record(
    here: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    def raises(_message: bytes) -> bool:
        raise RAISED[kind]

    monkeypatch.setitem(work._registered, "raises", raises)
    said = ran(cli, single("python:raises"), "-o", "json")
    data = said.json["data"]
    assert (said.code, data["outcome"]) == (8, "failed")
    assert (data["error"]["code"], data["error"]["sequence"]) == ("stage.raised", "1")
    assert type(RAISED[kind]).__name__ in data["error"]["message"]
    assert len(data["error"]["message"]) < 300
    with Session(here / "store") as session:
        end = session.last(Item(("runtime.run_ended/1",)))
        assert end is not None
        assert (end.data["run"], end.data["code"]) == (data["run"], "stage.raised")


MODULES = {
    "nothing of that name in it": "",
    "no function": "there = 7",
    "an import that fails": "import no_such_module_anywhere",
    "an import that raises": "raise RuntimeError('no')",
    "no Python": "def (",
}


@pytest.mark.parametrize("kind", MODULES)
def test_a_registered_function_that_cannot_be_loaded_is_invalid(
    here: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    name = f"refused_{list(MODULES).index(kind)}"
    (here / "site" / f"{name}-1.dist-info").mkdir(parents=True)
    (here / "site" / f"{name}-1.dist-info" / "METADATA").write_text(f"Name: {name}\nVersion: 1\n")
    (here / "site" / f"{name}-1.dist-info" / "entry_points.txt").write_text(
        f"[muniment.stages]\n{name} = {name}:there\n"
    )
    (here / "site" / f"{name}.py").write_text(MODULES[kind])
    monkeypatch.syspath_prepend(str(here / "site"))
    said = ran(cli, single(f"python:{name}"), "-o", "json")
    assert (said.code, said.json["code"]) == (10, "stage.not_loadable")
    assert said.json["hint"]


BAD = {
    b"null": "null",
    b'{"id": "cut': "cut",
    b"not json": "not json",
}


@pytest.mark.parametrize("line", BAD)
def test_a_line_that_stops_a_run_is_shown(here: Path, cli: Callable[..., Any], line: bytes) -> None:
    (here / "in").write_bytes(events(1, 2) + line + b"\n" + events(3, 4))
    said = ran(cli, single("schema:event"))
    assert said.code == 10
    assert "stage s0 at message 3" in said.out
    assert any(shown.strip().startswith("found  ") and BAD[line] in shown for shown in said.out.splitlines())


def test_a_line_that_is_too_long_says_what_a_slot_takes(here: Path, cli: Callable[..., Any]) -> None:
    (here / "in").write_bytes(b"x" * 65 + b"\n")
    said = ran(cli, single("count", slot_bytes=64))
    assert said.code == 10
    assert any(shown.strip().startswith("expected  ") and "64" in shown for shown in said.out.splitlines())


def test_a_sink_without_its_folder_says_what_to_do(here: Path, cli: Callable[..., Any]) -> None:
    said = ran(cli, single("sink:file:no/such/folder/out"), "-o", "json")
    assert (said.code, said.json["code"]) == (8, "sink.file_unwritable")
    assert "make the folder" in said.json["hint"]
    assert not list(here.glob("no*"))


FILE_BYTES = 8 << 20
GRAPH = graph({"a": "events slot_bytes=65536"}, ["r stage identity - > a", "w stage count a > -"])


@pytest.mark.parametrize("text", [single("count", slot_bytes=65536), GRAPH], ids=["ring", "lane"])
def test_no_room_for_the_ring_is_no_bug_and_leaves_none(
    here: Path, tmp_path: Path, cli: Callable[..., Any], text: str
) -> None:
    """64 MiB where a file may have 8."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (FILE_BYTES, hard))
    try:
        said = ran(cli, text, "-o", "json")
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert (said.code, said.json["code"]) == (8, "ring.disk_full")
    assert said.json["hint"]
    assert [path.name for path in (tmp_path / "run").rglob("*") if path.is_file()] == ["run.json"]
    with Session(here / "store") as session:
        assert not list(session.facts((Item(("runtime.run_started/1",)),)))


@pytest.mark.parametrize("option", ["--heartbeat", "--snapshots"])
@pytest.mark.parametrize("value", ["nan", "inf", "-inf", "1e400", "0.2", "-1", "x", ""])
def test_a_time_span_is_a_number_of_seconds(
    here: Path, tmp_path: Path, cli: Callable[..., Any], option: str, value: str
) -> None:
    said = ran(cli, single("count"), option, value)
    assert (said.code, said.out) == (2, "")
    assert not (tmp_path / "run").exists()


@pytest.mark.parametrize("words", [(), ("--input", "-"), ("--no-record",)])
def test_standard_input_is_not_spec_and_input_at_once(
    here: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """The spec was read to the end of it, and the run of no line was done."""
    for given in (("--spec", "-"), ()):
        monkeypatch.setenv("MUNIMENT_SPEC", "-")
        said = cli("run", *given, *words, "-o", "json", stdin=single("count").encode())
        assert (said.code, said.json["code"]) == (2, "run.stdin_twice")


def test_a_run_whose_answer_is_lost_is_not_to_be_repeated(here: Path, cli: Callable[..., Any]) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this host has no /dev/full")
    (here / "p.kv").write_text(single("count"))
    words = ("run", "--spec", "p.kv", "--input", "in")
    for more, told in ((), "history list --where run=run-"), (("--no-record",), "the run is over"):
        done = full(*words, *more)
        assert done.returncode == 8
        assert told in done.stderr
        assert "ask again" not in done.stderr
    assert f"#{cli('history', 'list', '-o', 'json').json['as_of'] + 1}" in full("doctor").stderr
    assert (
        f"#{cli('history', 'list', '-o', 'json').json['as_of'] + 1}"
        in full("validate", "--spec", "p.kv", "--record").stderr
    )


def full(*words: str) -> subprocess.CompletedProcess[str]:
    """A command line whose standard output is a full disk."""
    program = [sys.executable, "-c", "from muniment.cli.main import main; main()", *words]
    with Path("/dev/full").open("w") as disk:
        return subprocess.run(program, stdout=disk, stderr=subprocess.PIPE, text=True, timeout=60)
