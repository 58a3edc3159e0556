"""A ring at a moment where people look: timeline, tour, history, evidence, explain and the projections."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.app import runtime_records as records
from muniment.app.session import Session

SHA = "sha256:" + "a" * 64
RENDERED: dict[str, Any] = {
    "spec_sha256": SHA,
    "ring_path": "/r/demo/ring",
    "cursor": "18422",
    "exact": True,
    "producer_blocked": True,
    "producer": {"alive": "yes"},
    "dropped": "0",
    "bounds": [{"stage": "digest", "lo": "17398", "hi": "17398"}],
    "stop": {"state": "running", "stage": "", "code": 0, "sequence": "0"},
    "end": None,
    "gating": [
        {
            "stage": "digest",
            "state": "stalled",
            "alive": "yes",
            "lag": "1024",
            "lost": "0",
            "silent_ms": 4120,
        }
    ],
    "slowest_stage": "digest",
    "remaining_capacity": 0,
}
SAID = "ring demo: cursor 18 422, stage digest stalled 4.1 s at 17 398 (lag 1 024), producer blocked"


def heartbeat(run: str, beat: int) -> dict[str, Any]:
    return {
        "run": run,
        "agent": "",
        "beat": beat,
        "reason": "gap",
        "unix_ns": "1",
        "uptime_ms": 1,
        "ring": {"cursor": "1", "min_gating": "1"},
        "stages": [],
        "changes": [],
    }


@pytest.fixture
def shown(released: Path, cli: Callable[..., Any]) -> Callable[..., Any]:
    """An incident with one snapshot taken for it, and signs of life of two runs before, in and after it."""

    def beats(number: int) -> None:
        with Session(released / "store", write=True) as session:
            for run in ("run-1", "run-2"):
                records.record_heartbeat(session, heartbeat(run, number))

    beats(1)
    assert (
        cli("incident", "declare", "--severity", "SEV2", "--scope", "prod/stable", "--summary", "x").code == 0
    )
    beats(2)
    with Session(released / "store", write=True) as session:
        records.record_snapshot(session, b"packed", RENDERED, "asked", "run-1", "i-1", spec="demo")
        records.record_snapshot(session, b"packed", RENDERED, "asked", "run-2", spec="demo")
    assert cli("incident", "note", "i-1", "--text", "t", "--class", "operating-context").code == 0
    assert cli("health", "report", "prod/stable/all", "--status", "HEALTHY", "--signal", "errors=0").code == 0
    assert cli("incident", "resolve", "i-1", "--resolution", "r").code == 0
    close = ("incident", "close", "i-1", "--cause", "c", "--action", "write one,alice,2026-12-01,test_it")
    assert cli(*close).code == 0
    beats(3)
    return cli


def test_the_timeline_has_the_rings_of_the_incident_and_no_others(shown: Callable[..., Any]) -> None:
    rows = shown("incident", "timeline", "i-1", "-o", "json").json["data"]
    said = [row["said"] for row in rows if row["type"].startswith("runtime.")]
    assert said == ["run run-1 heartbeat 2 gap: cursor 1", SAID]


def test_the_tour_shows_the_ring(shown: Callable[..., Any]) -> None:
    said = shown("tour", "r-1", "-o", "json").json["data"]
    (chapter,) = [item for item in said["chapters"] if item["title"] == "incident"]
    assert [item["summary"] for item in chapter["records"] if item["type"].startswith("runtime.")] == [SAID]


def test_history_finds_a_run_and_shows_its_ring(shown: Callable[..., Any]) -> None:
    rows = shown("history", "list", "--where", "run=run-1", "-o", "json").json["data"]
    assert len(rows) == 4
    assert SAID in {row["summary"] for row in rows}
    assert shown("history", "list", "--where", "spec=demo", "-o", "json").json["data"] != rows
    (row,) = [row for row in rows if row["summary"] == SAID]
    assert SAID in shown("history", "show", f"#{row['position']}").out
    assert shown("history", "list", "--where", "agent=nobody", "-o", "json").json["data"] == []


def test_the_packed_bytes_are_evidence_of_the_run_and_of_the_incident(shown: Callable[..., Any]) -> None:
    for ref in ("incident:i-1", "run:run-1"):
        ran = shown("evidence-summary", ref, "--check", "-o", "json")
        assert ran.code == 0, ran.err
        assert ran.json["data"]["roles"] == {"runtime-snapshot": 1}


def test_the_projection_is_current_and_has_a_digest(shown: Callable[..., Any]) -> None:
    rows = shown("projection", "status", "-o", "json").json["data"]
    assert "runtime" in {row["projection"] for row in rows}
    digests = shown("projection", "digest", "-o", "json").json["data"]
    assert "runtime" in {row["projection"] for row in digests}
    assert shown("projection", "rebuild").code == 0
    assert json.loads(shown("verify", "store", "--decisions", "-o", "json").out)
    assert shown("verify", "store", "--decisions").code == 0
