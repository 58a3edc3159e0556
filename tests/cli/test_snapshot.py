"""`snapshot` of a ring in another process: each state is caused there, and named in words, in JSON and on record."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pipelines
import pytest
from muniment.app.session import Session

SPEC = pipelines.single("identity", "identity", name="demo", capacity=8, slot_bytes=64)
BEGIN = f"""
import os, signal, sys, time
from dataclasses import replace
from muniment.ring import _ring
from muniment.ring.executor import make_ring
from muniment.ring.spec_rules import parse

def made(**changed):
    spec = parse({SPEC!r}.encode(), "spec")
    return make_ring(spec, replace(spec.pipeline, **changed), sys.argv[1], "park")

def rest():
    print("ready", flush=True)
    time.sleep(600)

def die():
    os.kill(os.getpid(), signal.SIGKILL)
"""
STOPPED = {"state": "stopped", "stage": "s1", "code": 64, "sequence": "2"}


class Case(NamedTuple):
    """A program that brings a ring into a state, and how the state is told.

    `words`: the lines of the answer, each found in one; `line`: in the record's line; `data`: members of the record's data.
    """

    program: str
    words: tuple[str, ...]
    line: str
    data: dict[str, Any]


def stage(name: str, state: str, lag: str, alive: str = "yes", lost: str = "0") -> dict[str, str]:
    return {"stage": name, "state": state, "lag": lag, "alive": alive, "lost": lost}


def producer(*, blocked: bool = False, alive: str = "yes", dropped: str = "0") -> dict[str, Any]:
    return {"blocked": blocked, "alive": alive, "dropped": dropped}


RUNS = """
ring = made()
producer, first, second = ring.producer(), ring.consumer(0), ring.consumer(1)
"""
CASES = {
    "idle": Case(
        RUNS + "producer.publish(b'x'); first.take(); second.take(); rest()",
        ("ring  cursor 1, 8 of 8 slots free, exact; producer goes on", "s1  idle at 1, 0 behind"),
        "demo: cursor 1, every stage idle",
        {"producer": producer(), "stages": [stage("s0", "idle", "0"), stage("s1", "idle", "0")]},
    ),
    "stalled": Case(
        RUNS + "producer.publish_many([b'x'] * 3); first.beat(); time.sleep(1.3); rest()",
        ("s0  stalled at 0, 3 behind, silent ", "s1  gated at 0, 3 behind"),
        "stage s0 stalled ",
        {"stages": [stage("s0", "stalled", "3"), stage("s1", "gated", "3")]},
    ),
    "blocked": Case(
        RUNS + "first.beat(); producer.publish_many([b'x'] * 9, 0.2); first.take_many(8); rest()",
        ("0 of 8 slots free, exact; producer is blocked, waits for stage s1", "s0  idle at 8"),
        "producer blocked",
        {"producer": producer(blocked=True), "remaining_capacity": 0, "slowest_stage": "s1"},
    ),
    "overrun": Case(
        """
ring = _ring.Ring.create(sys.argv[1], capacity=8, slot_bytes=64, stages=[0], kind="broadcast")
producer, reader = ring.producer(), ring.consumer(0)
producer.publish_many([b"x"] * 21)
try:
    reader.take()
except _ring.RingOverrun:
    reader.take()
rest()
""",
        ("8 slots, waits for nobody", "stage 0  ", ", lost 1"),
        "0 lost 1",
        {"producer": producer()},
    ),
    "dropped": Case(
        "ring = made(on_full='drop'); producer = ring.producer(); producer.publish_many([b'x'] * 8)\n"
        "for _ in range(3): producer.publish(b'x')\nproducer.beat(); rest()",
        ("producer is blocked, waits for stage s0, dropped 3", "s0  ", ", nobody is there"),
        "3 dropped",
        {"producer": producer(blocked=True, dropped="3")},
    ),
    "producer dead": Case(
        "ring = made(); producer = ring.producer(); producer.publish(b'x'); die()",
        ("producer is dead", "s0  "),
        "producer dead",
        {"producer": producer(alive="no"), "end": ""},
    ),
    "everybody dead": Case(
        RUNS + "producer.publish(b'x'); die()",
        ("producer is dead", "s0  stalled at 0, 1 behind, silent ", ", its process is dead"),
        "everybody dead",
        {"stages": [stage("s0", "stalled", "1", "no"), stage("s1", "gated", "1", "no")]},
    ),
    "stage dead": Case(
        """
ring = made()
producer, first = ring.producer(), ring.consumer(0)
if not os.fork():
    other = _ring.Ring.attach(sys.argv[1])
    second = other.consumer(1)
    die()
os.wait()
rest()
""",
        (
            "producer goes on",
            "s0  idle at 0, 0 behind",
            "s1  idle at 0, 0 behind, its process is dead",
        ),
        "every stage idle, stage s1 dead",
        {"stages": [stage("s0", "idle", "0"), stage("s1", "idle", "0", "no")]},
    ),
    "stopped": Case(
        RUNS + "producer.publish_many([b'x'] * 3); ring.stop(1, 64, 2); rest()",
        ("STOPPED at stage s1, message 2: the stage failed (code 64)", "s0  stopped at 0, 3 behind"),
        "cursor 3, stopped at stage s1, message 2: the stage failed (code 64)",
        {"stop": STOPPED, "end": ""},
    ),
    "ended": Case(
        RUNS + "producer.publish(b'x'); producer.end(); first.take(); rest()",
        ("producer has ended", "s0  idle at 1"),
        "cursor 1, ended",
        {"end": "1", "stop": {"state": "running", "stage": "", "code": 0, "sequence": "0"}},
    ),
}
Holder = Callable[[str], Path]


@pytest.fixture
def hold(tmp_path: Path) -> Iterator[Holder]:
    """Have a process bring a ring into a state; it holds it, or is dead, when this returns."""
    held: list[subprocess.Popen[str]] = []

    def begin(program: str) -> Path:
        path = tmp_path / "ring"
        command = [sys.executable, "-c", BEGIN + program, str(path)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
        held.append(process)
        assert process.stdout is not None
        said = process.stdout.readline().strip()
        if said != "ready":
            assert process.wait(20) == -signal.SIGKILL
        return path

    yield begin
    for process in held:
        process.kill()
        process.wait()
        assert process.stdout is not None
        process.stdout.close()


@pytest.mark.parametrize("name", CASES)
def test_a_state_is_named_in_words_in_json_and_on_record(
    place: Callable[[str], Path], hold: Holder, cli: Callable[..., Any], name: str
) -> None:
    root, case = place("empty"), CASES[name]
    path = hold(case.program)
    bytes_before = path.read_bytes()
    said = cli("snapshot", "--ring-path", str(path))
    assert said.code == 0, said.err
    for part in case.words:
        assert part in said.out, said.out
    shown = cli("-o", "json", "snapshot", "--ring-path", str(path)).json["data"]
    assert path.read_bytes() == bytes_before, "a reader changes nothing"
    [seen], [position] = shown["rings"], shown["positions"]
    with Session(root / "store") as session:
        record = json.loads(next(session.log.read(after=position - 1))[1])
        [entry] = record["evidence"]
        packed = session.evidence.read(entry["blake3"], limit=1 << 20)
    assert (record["type"], entry["role"], packed[:4]) == (
        "runtime.snapshot_captured/1",
        "runtime-snapshot",
        b"MNS1",
    )
    told = record["data"]
    assert told["ring_path"] == str(path)
    for key, value in case.data.items():
        if key == "stages":
            for found in (told["stages"], seen["gating"]):
                assert [{name: item[name] for name in value[0]} for item in found] == value
        else:
            assert told[key] == value
    assert told["producer"] == {
        "blocked": seen["producer_blocked"],
        "alive": seen["producer"]["alive"],
        "dropped": seen["dropped"],
    }
    assert (told["stop"], told["end"]) == (seen["stop"], seen["end"] or "")
    assert seen["consistent"] is True
    assert case.line in cli("history", "list", "--limit", "1").out
