"""SIGKILL at random moments of `muniment run` into the log: every line is a fact exactly once, and the run says where it was.

The killed are processes of the command line as a person starts it. `MUNIMENT_TEST_KILLS` asks for more of them.
"""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest
from kills import Moments, until_alone
from muniment.app import creating
from muniment.app.session import Session
from muniment.domain.query import Item
from muniment.ring.place_runs import look
from pipelines import check_marks, event, graph, single
from postgres_programs import wait

KILLS = int(os.environ.get("MUNIMENT_TEST_KILLS", "16"))
MAIN = "import sys; from muniment.cli.main import run; sys.exit(run(sys.argv[1:]))"
SPECS = {
    "ring": single("filter:type=t", "sink:log", capacity=256),
    "shards": single("sink:log", capacity=128, shards=3, ordering="per_key", shard_key="k"),
    # two ways into the log, one of them over a disk, and one that loses but leads nowhere
    "graph": graph(
        {
            "a": "events capacity=256 slot_bytes=4096",
            "b": "events capacity=64 slot_bytes=4096",
            "c": "journal",
            "d": "fanout_broadcast slot_bytes=4096",
            "e": "events capacity=512 slot_bytes=4096",
            "f": "sequenced_slots capacity=64 slot_bytes=4096",
        },
        [
            "in stage identity - > a",
            "split router identity a > b,c,d",
            "even stage filter:even=yes b > e",
            "log stage sink:log e > -",
            "odd stage filter:even=no c > f",
            "log2 stage sink:log f > -",
            "see stage count d > -",
        ],
        name="p",
    ),
}


class Runs:
    """Runs of one spec over an input that grows as long as somebody is to be killed."""

    def __init__(self, base: Path, url: str, text: str) -> None:
        self.base, self.url, self.fed = base, url, 0
        self.part = 10_000  # lines that no run comes to the end of before it is killed
        self.spec, self.input = base / "p.kv", base / "in"
        self.spec.write_text(text)

    def feed(self, reached: int) -> None:
        """Add a part unless so much is there that is not acknowledged."""
        if (self.input.stat().st_size if self.fed else 0) - reached > 40 * self.part:
            return
        with self.input.open("ab") as file:
            for n in range(self.fed + 1, self.fed + self.part + 1):
                file.write(event(n, k=n % 29, even="no" if n % 2 else "yes") + b"\n")
        self.fed += self.part

    def start(self) -> subprocess.Popen[bytes]:
        words = ["run", "--spec", str(self.spec), "--input", str(self.input), "--source", "src", "-o", "json"]
        return subprocess.Popen(
            [sys.executable, "-c", MAIN, *words, "--store", self.url],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )

    def kill(self, delay: float, *, at_work: bool) -> int:
        """Start one and kill it some time after it has begun, or after its ring is there; how many rings it left."""
        process = self.start()
        ring = self.base / "run" / "p"
        before = look(self.base / "run", "p").run if ring.exists() else ""

        def begun() -> bool:
            found = look(self.base / "run", "p") if ring.exists() else None
            there = found is not None and found.run != before and (not at_work or bool(found.rings))
            return there or process.poll() is not None

        wait(begun, "a run that has begun")
        time.sleep(delay)
        os.kill(process.pid, signal.SIGKILL)
        _, err = process.communicate(timeout=30)
        assert process.returncode in (0, -signal.SIGKILL), err
        if process.returncode == 0:
            self.part *= 2
        if self.url.startswith("postgres"):
            until_alone(self.url)
        found = look(self.base / "run", "p")
        return len(found.rings) if found.left_over else 0

    def finish(self) -> dict[str, Any]:
        process = self.start()
        out, err = process.communicate(timeout=120)
        assert process.returncode == 0, err
        return dict(json.loads(out)["data"])

    def of(self, type_: str) -> list[dict[str, Any]]:
        with Session(self.url) as session:
            return [dict(fact.data) for fact in session.facts((Item((type_,)),))]


def check_claims(runs: Runs) -> None:
    """Every acknowledged position is the end of a line, and every line before it is a fact before the record that says so."""
    data = runs.input.read_bytes()
    with Session(runs.url) as session:
        facts = session.facts((Item(("fact.imported/1", "runtime.batch_acknowledged/1")),))
    check_marks(data, [fact.data for fact in facts if fact.type.startswith("runtime")])
    there: set[int] = set()
    first, at = 1, 0
    for fact in facts:
        if fact.type.startswith("fact"):
            there.add(json.loads(fact.data["body"])["n"])
            continue
        lines = data[at : int(fact.data["to_offset"])].count(b"\n")
        assert there >= set(range(first, first + lines)), "acknowledged, and not there"
        first, at = first + lines, int(fact.data["to_offset"])


def kill_often(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, url: str, text: str, kills: int) -> None:
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    creating.create_store(url, policy="solo")
    runs, left, reached, moved = Runs(tmp_path, url, text), list[int](), 0, 0
    moments = Moments(kills, 0.3, share=0.7)
    for turn in range(10 * kills):
        if turn >= kills and sum(map(bool, left)) > kills // 2 and moved > kills // 3:
            break
        runs.feed(reached)
        left.append(runs.kill(moments.next(), at_work=turn % 4 != 3))
        positions = [int(row["to_offset"]) for row in runs.of("runtime.batch_acknowledged/1")]
        assert positions == sorted(positions), "an acknowledged position never goes back"
        moments.was(late=bool(positions) and positions[-1] > reached)
        moved += bool(positions) and positions[-1] > reached
        reached = positions[-1] if positions else 0
    last = runs.finish()
    check_claims(runs)
    assert last["resume_from"] == str(reached)
    found = [json.loads(data["body"])["n"] for data in runs.of("fact.imported/1")]
    assert sorted(found) == [*range(1, runs.fed + 1)], "every line is a fact, exactly once"
    keys = 29 if "per_key" in text else 2 if "lane_graph" in text else 1
    for key in range(keys):
        mine = [n for n in found if n % keys == key]
        assert mine == sorted(mine)
    captured = [row for row in runs.of("runtime.snapshot_captured/1") if row["reason"] == "left_over"]
    assert len(captured) == sum(left), "every ring that was left is on record"
    started = [row["run"] for row in runs.of("runtime.run_started/1")]
    assert {row["run"] for row in captured if row["cursor"] != "0"} <= set(started), (
        "nothing moves before the start is on record"
    )
    assert len({row["run"] for row in captured}) == sum(map(bool, left))
    assert sum(map(bool, left)) > kills // 2, "most kills hit a run at work"
    assert moved > kills // 3, "and in between it went on"
    verified = subprocess.run(
        [sys.executable, "-c", MAIN, "verify", "store", "--store", url],
        capture_output=True,
        check=False,
        timeout=120,
    )
    assert verified.returncode == 0, verified.stdout + verified.stderr


@pytest.mark.parametrize("kind", SPECS)
def test_every_line_is_a_fact_once_after_any_kill(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, kind: str
) -> None:
    kills = KILLS // 2 if kind == "graph" else KILLS
    kill_often(tmp_path, monkeypatch, str(tmp_path / "store"), SPECS[kind], kills)


def test_every_line_is_a_fact_once_after_any_kill_on_postgresql(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_url: str
) -> None:
    kill_often(tmp_path, monkeypatch, pg_url, SPECS["ring"], 6)
