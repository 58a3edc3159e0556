"""`muniment run` as a person meets it: exit codes, words, JSON, standard input, signals, profiles."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from muniment.app import runtime_records as records
from muniment.app.host_check_facts import HostFacts
from muniment.app.session import Session
from muniment.domain.query import Item
from pipelines import events, graph, single, until

LOG = single("sink:log")
MAIN = "import sys; from muniment.cli.main import run; sys.exit(run(sys.argv[1:]))"
# a stage that takes its time, and says when it began
SLOW = """
import sys, time
from pathlib import Path
from muniment.ring.work import register
from muniment.cli.main import run
@register("slow")
def slow(message):
    Path("began").touch()
    time.sleep(0.05)
@register("held")
def held(message):
    Path("began").touch()
    while not Path("go").exists():
        time.sleep(0.02)
sys.exit(run(sys.argv[1:]))
"""


@pytest.fixture
def here(place: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty store, and where it lies."""
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "run"))
    return place("empty")


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No store at all."""
    for name in ("RUNTIME", "HOME", "STORE"):
        monkeypatch.setenv(f"MUNIMENT_{name}", str(tmp_path / name.lower()))
    monkeypatch.chdir(tmp_path)
    return tmp_path


def written(text: str, data: bytes = b"", name: str = "p.kv") -> str:
    Path(name).write_text(text)
    Path("in").write_bytes(data)
    return name


def facts(here: Path, type_: str) -> list[dict[str, Any]]:
    with Session(here / "store") as session:
        return [dict(fact.data) for fact in session.facts((Item((type_,)),))]


def numbers(here: Path) -> list[int]:
    return [json.loads(data["body"])["n"] for data in facts(here, "fact.imported/1")]


def test_a_run_and_its_resume(here: Path, cli: Callable[..., Any]) -> None:
    spec = written(LOG, events(1, 30))
    first = cli("run", "--spec", spec, "--input", "in", "-o", "json")
    assert first.code == 0, first.err
    data = first.json["data"]
    assert (data["outcome"], data["lines"], data["resume_from"], data["error"]) == (
        "completed",
        30,
        None,
        None,
    )
    assert data["stages"][0]["committed"] == 30
    with Path("in").open("ab") as more:
        more.write(events(31, 40))
    again = cli("run", "--spec", spec, "--input", "in")
    assert again.code == 0
    assert "went on at" in again.out
    assert numbers(here) == [*range(1, 41)]
    said = cli("history", "list", "--where", f"run={data['run']}")
    assert said.code == 0
    assert "started" in said.out


def test_the_digest_is_that_of_sha256sum(bare: Path, cli: Callable[..., Any]) -> None:
    spec = written(single("digest"), events(1, 3000))
    told = cli("run", "--spec", spec, "--input", "in", "--no-record", "-o", "json")
    assert told.code == 0
    stages = told.json["data"]["stages"]
    assert stages[0]["sha256"] == hashlib.sha256(Path("in").read_bytes()).hexdigest()
    assert not (bare / "store").exists()


@pytest.mark.parametrize(
    ("text", "words", "code", "said"),
    [
        (single("count"), [], 3, "muniment init"),
        (LOG, ["--no-record"], 3, "store.not_found"),
        (single("exec:true"), ["--no-record"], 10, "run.op_unsupported"),
        (single("guard:x"), ["--no-record"], 10, "guard"),
        (single("http_post:https://h/"), ["--no-record"], 10, "http_post"),
        (single("python:nobody"), ["--no-record"], 10, "python:nobody"),
        (single("schema:nothing"), ["--no-record"], 10, "nothing"),
        (single("count"), ["--no-record", "--input", "absent"], 3, "absent"),
        (single("count"), ["--no-record", "--input", "."], 2, "folder"),
        (single("count"), ["--no-record", "--source", "No!"], 2, "source"),
        (single("count"), ["--no-record", "--profile", "low-latency"], 3, "init"),
        (single("count"), ["--no-record", "--heartbeat", "0.1"], 2, "heartbeat"),
        (single("count", capacity=3), ["--no-record"], 10, "capacity"),
        (single("count") + "x=1\n", ["--no-record"], 10, "x"),
    ],
)
def test_what_is_refused_before_anything_runs(
    bare: Path, cli: Callable[..., Any], text: str, words: list[str], code: int, said: str
) -> None:
    spec = written(text, b"{}\n")
    ran = cli("run", "--spec", spec, "--input", "in", *words)
    assert ran.code == code, ran.err
    assert said in ran.out + ran.err
    assert not list(bare.glob("runtime/p/ring*"))


@pytest.mark.parametrize(
    ("text", "data", "code", "word"),
    [
        (LOG, events(1, 3) + b"{\n", 10, "ingest.no_event"),
        (LOG, events(1, 3) + b'{"id":"e1","type":"t","n":9}\n', 5, "ingest.id_reused"),
        (LOG, events(1, 3) + b"x" * 5000, 10, "source.line_too_long"),
        (single("filter:a=b", "sink:log"), b"{}\n[1]", 10, "filter.json_object"),
        (single("schema:event", "sink:log"), b"{}\n", 10, "schema.unfit"),
    ],
)
def test_a_pipeline_that_stops_says_where_and_is_on_record(
    here: Path, cli: Callable[..., Any], text: str, data: bytes, code: int, word: str
) -> None:
    spec = written(text, data)
    ran = cli("run", "--spec", spec, "--input", "in", "-o", "json")
    assert ran.code == code
    told = ran.json["data"]
    assert (told["outcome"], told["error"]["code"]) == ("failed", word)
    ended = facts(here, "runtime.run_ended/1")[-1]
    assert (ended["outcome"], ended["code"], ended["sequence"]) == ("failed", word, told["error"]["sequence"])
    text_ = cli("run", "--spec", spec, "--input", "in")
    assert text_.code == code
    assert "FAILED" in text_.out
    assert f"code  {word}" in text_.out


def test_a_profile_needs_a_fresh_check(here: Path, cli: Callable[..., Any]) -> None:
    spec = written(single("count"), b"a\n" * 100)
    ran = cli("run", "--spec", spec, "--input", "in", "--profile", "low-latency")
    assert ran.code == 9
    assert "muniment doctor --profile low-latency" in ran.out + ran.err
    assert facts(here, "runtime.run_started/1") == []


def test_a_profile_with_a_fresh_check_runs_and_pins_a_thread_to_a_cpu_each(here: Path) -> None:
    """In a process of its own: a tuned process stays tuned. Waiting `spin` on shared cores: few lines."""
    host = HostFacts()
    checks = [{"id": "memory-lock", "state": "applied", "required": True, "reason": ""}]
    with Session(here / "store", write=True) as session:
        records.record_host_check(
            session,
            {
                "profile": "low-latency",
                "ok": True,
                "host": {
                    "kernel": "6.1",
                    "cpus": 2,
                    "boot_id": host.boot_id,
                    "machine": "sha256:" + "a" * 64,
                },
                "host_id": host.host_id,
                "checks": checks,
            },
            b"{}",
        )
    spec = written(single("count", "count"), b"a\n" * 100)
    ran = muniment("run", "--spec", spec, "--input", "in", "--profile", "low-latency", "-o", "json")
    said = json.loads(ran.stdout or ran.stderr)
    if ran.returncode == 9:  # memory cannot be locked here
        assert said["code"] == "tuning.failed"
        assert facts(here, "runtime.run_started/1") == []
        return
    assert ran.returncode == 0, said
    knobs = {knob["knob"]: knob for knob in said["data"]["tuning"]}
    assert knobs["pin"]["state"] in ("applied", "degraded")
    cpus = len(os.sched_getaffinity(0))
    assert cpus < 2 or "-" in knobs["pin"]["reason"] or "," in knobs["pin"]["reason"]


def muniment(*words: str, data: bytes = b"") -> subprocess.CompletedProcess[bytes]:
    return subprocess.run(
        [sys.executable, "-c", MAIN, *words],
        input=data,
        capture_output=True,
        timeout=60,
        check=False,
    )


def test_standard_input_is_the_default(here: Path) -> None:
    spec = written(LOG)
    for known in (0, 50):
        ran = muniment("run", "--spec", spec, "-o", "json", data=events(1, 50)[:-1])
        assert ran.returncode == 0, ran.stderr
        data = json.loads(ran.stdout)["data"]
        assert (data["source"], data["lines"], data["stages"][0]["duplicates"]) == ("stdin", 50, known)
    assert numbers(here) == [*range(1, 51)]


def waiting(terminal: int) -> bytes:
    """What a terminal was written; it is not waited for."""
    os.set_blocking(terminal, False)
    try:
        return os.read(terminal, 1 << 16)
    except BlockingIOError:
        return b""


@pytest.mark.parametrize(
    ("words", "terminal", "said"),
    [
        ([], False, True),
        ([], True, True),
        (["-q"], True, False),
        (["-o", "json"], False, False),
        (["-o", "json", "-v"], False, True),
        (["-o", "json"], True, True),
        (["-o", "json", "-q"], True, False),
    ],
)
def test_trouble_is_said_when_it_happens_and_only_on_standard_error(
    here: Path,
    begun: Callable[..., subprocess.Popen[bytes]],
    words: list[str],
    terminal: bool,
    said: bool,
) -> None:
    spec = written(single("python:held", "count"), events(1, 5))
    keeper, stderr = os.openpty() if terminal else (-1, os.open("err", os.O_WRONLY | os.O_CREAT))
    try:
        process = begun(
            "run", "--spec", spec, "--input", "in", *words, stdin=subprocess.DEVNULL, stderr=stderr
        )
        until(lambda: '"to": "stalled"' in json.dumps(facts(here, "runtime.heartbeat_recorded/1")))
        heard = waiting(keeper) if terminal else Path("err").read_bytes()
        assert (b"stalled  stage s0 at 0" in heard) is said
        assert process.poll() is None
        Path("go").touch()
        assert process.wait(20) == 0
        assert process.stdout is not None
        out = process.stdout.read()
        assert b"stalled  stage" not in out
        assert out
        if "json" in words:
            assert json.loads(out)["data"]["outcome"] == "completed"
        if not terminal:
            assert Path("err").read_bytes().count(b"stalled") == said
    finally:
        os.close(stderr)
        if terminal:
            os.close(keeper)


def test_a_left_over_ring_is_said_at_the_start_even_if_the_run_then_cannot_begin(
    here: Path, begun: Callable[..., subprocess.Popen[bytes]], cli: Callable[..., Any]
) -> None:
    spec = written(single("python:held", "count"), events(1, 5))
    process = begun("run", "--spec", spec, "--input", "in")
    until(lambda: Path("began").exists())
    process.kill()
    process.wait()
    Path(spec).write_text(single("schema:nothing", "count"))
    ran = cli("run", "--spec", spec, "--input", "in")
    assert ran.code == 10
    assert "left over  ring at " in ran.err


# -- signals -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def begun() -> Iterator[Callable[..., subprocess.Popen[bytes]]]:
    """Starts a run that has `python:slow`; killed at the end, if it is still there."""
    processes: list[subprocess.Popen[bytes]] = []

    def start(*words: str, **how: Any) -> subprocess.Popen[bytes]:
        process = subprocess.Popen(
            [sys.executable, "-c", SLOW, *words],
            **{"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **how},
        )
        processes.append(process)
        return process

    yield start
    for process in processes:
        process.kill()
        process.communicate()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
@pytest.mark.parametrize("model", ["ring", "shards", "graph"])
def test_an_interrupt_works_off_what_was_taken(
    here: Path, begun: Callable[..., subprocess.Popen[bytes]], number: int, model: str
) -> None:
    """The pipe stays open: only the signal ends it."""
    spec = {
        "ring": single("python:slow", "sink:log"),
        "shards": single("python:slow", "sink:log", shards=2, ordering="per_key", shard_key="id"),
        "graph": graph(
            {"a": "events", "b": "events"},
            ["in stage identity - > a", "slow stage python:slow a > b", "log stage sink:log b > -"],
        ),
    }[model]
    process = begun("run", "--spec", written(spec), "-o", "json", stdin=subprocess.PIPE)
    assert process.stdin is not None
    process.stdin.write(events(1, 20))
    process.stdin.flush()
    until(lambda: Path("began").exists())
    process.send_signal(number)
    assert process.wait(60) == 130
    assert process.stdout is not None
    data = json.loads(process.stdout.read())["data"]
    assert (data["outcome"], data["error"]) == ("interrupted", None)
    assert sorted(numbers(here)) == [*range(1, data["lines"] + 1)]
    assert facts(here, "runtime.run_ended/1")[-1]["outcome"] == "interrupted"


def test_a_second_interrupt_stops_at_once_and_the_next_run_completes(
    here: Path, begun: Callable[..., subprocess.Popen[bytes]], cli: Callable[..., Any]
) -> None:
    spec = written(single("python:slow", "sink:log"), events(1, 500))
    process = begun("run", "--spec", spec, "--input", "in", "-o", "json", "-v", stdin=subprocess.DEVNULL)
    until(lambda: Path("began").exists())
    process.send_signal(signal.SIGINT)
    assert process.stderr is not None
    assert any(line.startswith(b"interrupted") for line in process.stderr), "two signals at a time are one"
    assert process.poll() is None, "500 messages take 25 seconds"
    process.send_signal(signal.SIGINT)
    assert process.wait(60) == 130
    assert process.stdout is not None
    data = json.loads(process.stdout.read())["data"]
    assert (data["outcome"], data["error"]) == ("interrupted", None)
    done = len(numbers(here))
    assert done < 400
    Path(spec).write_text(Path(spec).read_text().replace("python:slow", "identity"))
    assert cli("run", "--spec", spec, "--input", "in").code == 0
    assert numbers(here) == [*range(1, 501)]
    assert [data["outcome"] for data in facts(here, "runtime.run_ended/1")] == ["interrupted", "completed"]


def test_an_interrupted_file_is_no_whole_file(
    here: Path, begun: Callable[..., subprocess.Popen[bytes]]
) -> None:
    process = begun(
        "run", "--spec", written(single("python:slow", "sink:file:out.txt")), stdin=subprocess.PIPE
    )
    assert process.stdin is not None
    process.stdin.write(b"a\nb\n")
    process.stdin.flush()
    until(lambda: Path("began").exists())
    process.send_signal(signal.SIGTERM)
    assert process.wait(60) == 130
    assert not Path("out.txt").exists()
    assert Path("out.txt.partial").read_bytes() == b"a\nb\n"
