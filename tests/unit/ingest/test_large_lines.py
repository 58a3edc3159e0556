"""`sink:log` and lines that no record holds: their bytes are evidence, their fact names them, and they are found again."""

from __future__ import annotations

import errno
import json
import os
from hashlib import sha256
from typing import Any

import pytest
from muniment.app import fact_drafts
from muniment.app.session import Session
from muniment.cli.main import run as run_cli
from muniment.domain.errors import UnavailableError
from muniment.domain.query import Item
from muniment.store.api import MAX_RECORD
from pipelines import Bench, event, events, graph, single, stage

LOG = single("sink:log", slot_bytes=1 << 20, capacity=16)


def texts(session: Session) -> list[tuple[bytes, bool]]:
    """Each event as it came, and whether it is evidence."""
    found = []
    for fact in session.facts((Item(("fact.imported/1",)),)):
        data = fact.data
        if data["body_sha256"]:
            assert data["body"] == ""
            assert [item["role"] for item in fact.evidence] == ["event"]
            text = session.evidence.read(fact.evidence[0]["blake3"], limit=1 << 20)
            assert data["body_sha256"] == f"sha256:{sha256(text).hexdigest()}"
            found.append((text, True))
        else:
            assert not fact.evidence
            found.append((data["body"].encode(), False))
    return found


@pytest.mark.parametrize(
    "pad",
    ["x" * 59_000, "x" * 60_000, "x" * 65_535, '"' * 20_000, '"' * 40_000, "é" * 30_000, "x" * 1_000_000],
    ids=lambda pad: f"{len(pad)} of {pad[0]}",
)
def test_a_line_of_any_size_is_kept_as_it_came_and_found_again(bench: Bench, pad: str) -> None:
    lines = [event(1), event(2, pad=pad), event(3)]
    bench.feed(b"\n".join(lines))
    report = bench.run(LOG)
    assert report.outcome == "completed", report.failure
    assert bench.session is not None
    kept = texts(bench.session)
    assert [text for text, _ in kept] == lines
    assert [large for _, large in kept] == [
        False,
        len(json.dumps(lines[1].decode())) > 64_000 or len(lines[1]) > 60_000,
        False,
    ]
    again = bench.run(LOG, from_start=True)
    assert (stage(again, "s0")["duplicates"], stage(again, "s0")["committed"]) == (3, 0)
    assert run_cli(["verify", "store", "--store", bench.session.url, "-q"]) == 0


def test_an_id_with_another_large_text_stops_there(bench: Bench) -> None:
    bench.feed(event(1, pad="x" * 70_000) + b"\n")
    bench.run(LOG)
    for other in (event(1, pad="y" * 70_000), event(1), event(1, pad="x" * 70_001)):
        bench.feed(other + b"\n")
        error = bench.failed(LOG, from_start=True)
        assert (error.code, error.exit_code) == ("ingest.id_reused", 5)
        assert len(bench.of("fact.imported/1")) == 1


def test_a_text_is_the_same_whether_its_record_holds_or_names_it(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    """How long a record gets depends on who imports: another person's run of the same input finds every line there."""
    bench.feed(event(1, pad="x" * 50_000) + b"\n" + event(2, pad="x" * 1000) + b"\n")
    with monkeypatch.context() as patch:
        patch.setattr(fact_drafts, "MAX_RECORD", 40_000)
        bench.run(LOG)
    assert bench.session is not None
    assert [large for _, large in texts(bench.session)] == [True, False]
    assert stage(bench.run(LOG, from_start=True), "s0")["duplicates"] == 2
    bench.feed(event(1, pad="x" * 49_999 + "y") + b"\n")
    assert bench.failed(LOG, from_start=True).code == "ingest.id_reused"
    assert MAX_RECORD == fact_drafts.MAX_RECORD


def test_a_large_line_that_cannot_be_stored_is_in_no_record(
    bench: Bench, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full(_data: object) -> Any:
        raise UnavailableError(os.strerror(errno.ENOSPC), code="evidence.full", hint="make room")

    monkeypatch.setattr("muniment.app.patience.WAITS", (0.01,))
    good = events(1, 3)
    bench.feed(good + event(4, pad="x" * 70_000) + b"\n")
    assert bench.session is not None
    with monkeypatch.context() as patch:
        patch.setattr(bench.session.evidence, "put", full)
        error = bench.failed(LOG, record=False)
    assert (error.code, error.exit_code) == ("evidence.full", 8)
    assert bench.position() <= len(good)
    assert bench.run(LOG).outcome == "completed"
    assert [large for _, large in texts(bench.session)] == [False, False, False, True]


def test_a_large_line_comes_through_a_graph_too(bench: Bench) -> None:
    lanes = {"a": "events slot_bytes=1048576 capacity=4", "b": "journal"}
    roles = ["in stage identity - > a", "m bridge identity a > b", "log stage sink:log b > -"]
    line = event(1, pad="x" * 900_000)
    bench.feed(line + b"\n")
    assert bench.run(graph(lanes, roles)).outcome == "completed"
    assert bench.session is not None
    assert texts(bench.session) == [(line, True)]
    assert bench.position(spec="g") == len(line) + 1


@pytest.mark.parametrize("line", [1, 3])
def test_a_line_that_no_slot_holds_is_named_by_line_and_byte(bench: Bench, line: int) -> None:
    good = events(1, line - 1)
    bench.feed(good + event(9, pad="x" * (1 << 20)) + b"\n")
    error = bench.failed(LOG)
    assert (error.code, error.exit_code) == ("source.line_too_long", 10)
    assert f"line {line} of the input, at byte {len(good)}," in str(error)
    assert "slot_bytes" in error.hint
