"""A new user with the installed command: a pipeline from its spec to an incident, a kill, and a run that goes on."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pipelines
import pytest

LINES, CAPACITY, HELD = 40, 8, 5
SPEC = """\
spec.version=1
spec.name=towns
spec.model=single_ring
single_ring.capacity=8
single_ring.slot_bytes=256
single_ring.stages.0.id=seen
single_ring.stages.0.op=count
single_ring.stages.1.id=slow
single_ring.stages.1.op=python:e2e_slow
single_ring.stages.1.depends_on=0
single_ring.stages.2.id=log
single_ring.stages.2.op=sink:log
single_ring.stages.2.depends_on=1
"""
# A stage as an installed package brings it; message 5 is not done as long as there is a file `hold`.
STAGE = f"""
import json, pathlib, time

def slow(message):
    while json.loads(message)["n"] == {HELD} and pathlib.Path("hold").exists():
        time.sleep(0.02)
"""


class User:
    """Somebody at a terminal in an empty folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        kept = {name: value for name, value in os.environ.items() if not name.startswith("MUNIMENT_")}
        self.env = {
            **kept,
            "PATH": f"{Path(sys.executable).parent}:{kept['PATH']}",
            "PYTHONPATH": str(folder / "packages"),
            "MUNIMENT_HOME": str(folder / "home"),
            "MUNIMENT_STORE": str(folder / "store"),
            "MUNIMENT_RUNTIME": str(folder / "runtime"),
            "COLUMNS": "200",
        }

    def begin(self, line: str, **more: Any) -> subprocess.Popen[str]:
        return subprocess.Popen(
            ["bash", "-o", "pipefail", "-c", f"exec {line}"],
            cwd=self.folder,
            env=self.env,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            **more,
        )

    def ask(self, line: str, code: int = 0) -> str:
        """What a command line prints; it must end with this code."""
        done = subprocess.run(
            ["bash", "-o", "pipefail", "-c", line],
            cwd=self.folder,
            env=self.env,
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode == code, f"{line}: {done.returncode}\n{done.stdout}{done.stderr}"
        return done.stdout + done.stderr

    def wait_for(self, run: subprocess.Popen[str], states: list[str]) -> None:
        """Until the stages of the rings of a run are so."""

        def there() -> bool:
            assert run.poll() is None, "it has ended"
            line = "muniment snapshot --run towns --no-record -o json"
            shown = subprocess.run(
                line.split(), cwd=self.folder, env=self.env, capture_output=True, check=False
            )
            rings = json.loads(shown.stdout)["data"]["rings"] if shown.returncode == 0 else []
            return [f"{item['stage']} {item['state']}" for ring in rings for item in ring["gating"]] == states

        pipelines.until(there)

    def json(self, line: str) -> Any:
        return json.loads(self.ask(f"{line} -o json"))["data"]


@pytest.fixture
def user(tmp_path: Path) -> User:
    folder = tmp_path / "packages" / "e2e_slow-1.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: e2e_slow\nVersion: 1\n")
    (folder / "entry_points.txt").write_text("[muniment.stages]\ne2e_slow = e2e_slow:slow\n")
    (tmp_path / "packages" / "e2e_slow.py").write_text(STAGE)
    (tmp_path / "towns.kv").write_text(SPEC)
    (tmp_path / "broken.kv").write_text(SPEC.replace("capacity=8", "capacity=7").replace("=count", "=cuont"))
    (tmp_path / "towns.ndjson").write_bytes(pipelines.events(1, LINES))
    return User(tmp_path)


@pytest.fixture
def first(user: User) -> Iterator[subprocess.Popen[str]]:
    """A run that stands at message 5."""
    user.ask("muniment init --policy solo")
    (user.folder / "hold").touch()
    run = user.begin("muniment run --spec towns.kv --input towns.ndjson --source towns")
    yield run
    run.kill()
    run.communicate()


def test_the_block_of_the_readme(user: User) -> None:
    readme = (Path(__file__).parents[2] / "README.md").read_text(encoding="utf-8")
    block = re.search(r"<!-- ci:pipeline -->\n```sh\n(.*?)```", readme, re.DOTALL)
    assert block is not None
    user.ask("muniment init --policy solo")
    said = user.ask(f"set -e\nexport DEMO=$(muniment demo --path)\n{block[1]}")
    for part in ("ok  ingest is a valid", "flowchart", "this host for profile default", "10 lines"):
        assert part in said
    assert len(user.json("muniment history list --type fact.imported")) == 10


def test_before_anything_runs(user: User) -> None:
    said = user.ask("muniment validate --spec towns.kv")
    assert "ok  towns is a valid single_ring" in said
    said = user.ask("muniment validate --spec broken.kv", 10)
    assert "INVALID  broken.kv: 2 problems" in said
    assert "line 4" in said
    assert "line 7" in said, "every problem at once"
    assert "python:e2e_slow" in user.ask("muniment describe --spec towns.kv")
    drawn = user.ask("muniment dot --spec towns.kv | cat")
    assert drawn.startswith("digraph")
    assert (drawn.count("{"), drawn.count('"') % 2) == (drawn.count("}"), 0)
    assert len(re.findall(r"->", drawn)) >= 3
    assert user.ask("muniment dot --spec towns.kv --format mermaid").startswith("flowchart")
    said = user.ask("muniment doctor || test $? = 9")
    assert re.match(r"(fit|UNFIT)  this host for profile default", said)
    assert "muniment init" in user.ask("muniment run --spec towns.kv --input towns.ndjson", 3)
    user.ask("muniment run --spec broken.kv --input towns.ndjson", 10)
    user.ask("muniment snapshot --run towns", 3)
    assert not (user.folder / "store").exists()


def test_a_stalled_stage_an_incident_a_kill_and_on(user: User, first: subprocess.Popen[str]) -> None:
    user.wait_for(first, ["seen idle", "slow stalled", "log gated"])
    said = user.ask("muniment snapshot --run towns")
    assert "0 of 8 slots free, exact; producer is blocked, waits for stage slow" in said
    assert re.search(r"stage slow  stalled at 4, 8 behind, silent \d+\.\d s\n", said)
    assert re.search(r"stage seen  idle at 12, 0 behind\n", said)
    assert "run.live" in user.ask("muniment run --spec towns.kv --input towns.ndjson", 5)

    user.ask("muniment channel declare prod/stable --cohort all")
    user.ask("muniment incident declare --severity SEV2 --scope prod/stable --summary 'towns stand still'")
    said = user.ask("muniment snapshot --run towns --incident i-1 -O ring.json")
    position = re.search(r"record #(\d+)", said)
    assert position is not None
    ring = json.loads((user.folder / "ring.json").read_bytes())
    assert (ring["slowest_stage"], ring["producer_blocked"], ring["cursor"]) == ("slow", True, "12")
    shown = "ring towns: cursor 12, stage slow stalled"
    for line in ("incident timeline i-1", f"history show '#{position[1]}'"):
        assert shown in user.ask(f"muniment {line}"), line
    user.ask("muniment snapshot --run towns -O ring.json", 5)
    user.ask("muniment snapshot --run towns --incident i-9 -O other.json", 3)
    assert not (user.folder / "other.json").exists()

    first.send_signal(signal.SIGKILL)
    first.wait(10)
    said = user.ask("muniment snapshot --run towns --no-record")
    assert "(not running any more)" in said
    assert "producer is dead" in said
    assert said.count("its process is dead") == 3

    (user.folder / "hold").unlink()
    began = time.monotonic()
    said = user.ask("muniment run --spec towns.kv --input towns.ndjson --source towns")
    assert time.monotonic() - began < 15
    assert "left over  ring at 12 of run run-" in said
    assert "captured" in said
    assert "went on at " in said
    facts = user.json("muniment history list --type fact.imported --limit 1000")
    assert len(facts) == LINES
    assert "everybody dead, left-over" in user.ask("muniment history list --type runtime.snapshot_captured")
    user.ask("muniment run --spec towns.kv --input towns.ndjson --source towns --from-start")
    assert len(user.json("muniment history list --type fact.imported --limit 1000")) == LINES, "known by id"
    assert "verified" in user.ask("muniment verify store --decisions")


def test_a_lane_graph_names_the_role_that_stands_still(user: User) -> None:
    lanes = {
        "in": "events capacity=8 slot_bytes=256 on_full=block",
        "mid": "events capacity=8 slot_bytes=256 on_full=block",
        "kept": "journal slot_bytes=256",
        "out": "fanout_broadcast capacity=8 slot_bytes=256",
    }
    roles = [
        "read stage identity - > in",
        "work stage python:e2e_slow in > mid",
        "split router identity mid > kept,out",
        "sum stage digest kept > -",
        "watch stage count out > -",
    ]
    (user.folder / "towns.kv").write_text(pipelines.graph(lanes, roles, "towns"))
    user.ask("muniment init --policy solo")
    (user.folder / "hold").touch()
    run = user.begin("muniment run --spec towns.kv --input towns.ndjson")
    try:
        user.wait_for(run, ["work stalled", "split idle", "watch idle"])
        said = user.ask("muniment snapshot --run towns -O graph.json")
        assert (
            "lane in  cursor 12, 0 of 8 slots free, exact; producer is blocked, waits for stage work" in said
        )
        assert re.search(r"stage work  stalled at 4, 8 behind, silent", said)
        assert "journal kept  to 4, read to 4" in said
        assert re.search(r"role work  (processing|stalled), 4 done", said)
        assert said.count("record #") == 3
        state = json.loads((user.folder / "graph.json").read_bytes())
        assert [lane["name"] for lane in state["lanes"]] == ["in", "mid", "out", "kept"]
        assert {role["name"]: role["processed"] for role in state["roles"]}["work"] == "4"
        assert "ring towns lane in: cursor 12, stage work stalled" in user.ask(
            "muniment history list --limit 9"
        )
    finally:
        run.kill()
        run.communicate()


def test_a_pipeline_that_stopped_says_where_until_the_next_run(user: User) -> None:
    (user.folder / "towns.kv").write_text(pipelines.single("count", "filter:n=3", name="towns", capacity=64))
    events = (user.folder / "towns.ndjson").read_bytes()
    (user.folder / "towns.ndjson").write_bytes(pipelines.events(1, 6) + b"no JSON\n" + events)
    user.ask("muniment init --policy solo")
    user.ask("muniment run --spec towns.kv --input towns.ndjson", 10)
    said = user.ask("muniment snapshot --run towns")
    assert "(not running any more)" in said
    assert "STOPPED at stage s1, message 7: the message is not JSON (code 1)" in said
    [found] = user.json("muniment history list --where spec=towns --type runtime.snapshot_captured --limit 1")
    assert "stopped at stage s1, message 7" in found["summary"]
    (user.folder / "towns.ndjson").write_bytes(events)
    user.ask("muniment run --spec towns.kv --input towns.ndjson")
    user.ask("muniment snapshot --run towns", 3)
