"""Records of pipelines in the read model and in words."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.policy import STRICTEST
from muniment.projections import digest, words
from muniment.projections.model import ReadModel
from muniment.projections.registry import BY_NAME, DRIVER
from muniment.store.memory import MemoryLog
from runtime_samples import AT, COUNTS, EVERY, GOOD, RUNS, STAGE, U64

# -- the read model ----------------------------------------------------------------------------------------------------


def told(*names: str, **options: Any) -> tuple[MemoryLog, ReadModel]:
    log, model = MemoryLog("records"), ReadModel()
    from muniment.app.handlers import Handler
    from muniment.app.ids import uuid7
    from muniment.app.request import Request

    handler = Handler(log, now=lambda: 1_790_000_000_000_000, new_id=uuid7)
    for name in names or tuple(GOOD):
        handler.record_fact(f"runtime.{name}/1", options.get(name, GOOD[name]), Request(ActorRef("me")))
    DRIVER.fold(model, log.pages())
    return log, model


def rows(model: ReadModel) -> list[dict[str, Any]]:
    return BY_NAME["runtime"].rows(model, AT, STRICTEST)


def test_a_run_is_what_was_last_seen_of_it() -> None:
    _, model = told()
    (row,) = rows(model)
    assert ("run-1", "failed", "demo", "8192") == (row["run"], row["state"], row["spec"], row["resume_from"])
    assert row["stopped_at"] == {"stage": "digest", "sequence": "17399", "error": "not JSON"}
    assert row["acknowledged"] == {
        "batches": 1,
        "lines": 5,
        "facts": 3,
        "duplicates": 1,
        "filtered": 1,
        "offsets": {"0": U64},
    }
    assert (row["cursor"], row["stages"], row["producer_blocked"]) == (
        "18422",
        {"head": "idle", "digest": "stalled"},
        True,
    )
    assert (1, 1, COUNTS) == (row["heartbeats"], row["snapshots"], row["counts"])
    source = model.sources["file:in"]
    assert (1, 5, 3, U64) == (source.batches, source.lines, source.facts, source.shards["0"].to_offset)
    host = model.hosts["h-1"].profiles["low-latency"]
    assert (host.ok, host.failed) == (False, ["memory-lock"])
    assert (model.specs["demo"].runs, model.specs["demo"].snapshots) == (1, 1)


@pytest.mark.parametrize(
    "name", ["run_ended", "batch_acknowledged", "heartbeat_recorded", "snapshot_captured"]
)
def test_a_run_whose_start_is_not_on_record_is_a_run(name: str) -> None:
    _, model = told(name)
    (row,) = rows(model)
    assert (row["run"], row["started"]) == ("run-1", None)


def test_a_snapshot_of_a_ring_without_a_run_makes_none() -> None:
    _, model = told("snapshot_captured", snapshot_captured={**GOOD["snapshot_captured"], "run": ""})
    assert rows(model) == []
    assert model.specs["demo"].snapshots == 1


def test_a_run_that_did_not_end_is_running() -> None:
    _, model = told("run_started", "heartbeat_recorded")
    assert rows(model)[0]["state"] == "running"
    assert rows(model)[0]["stopped_at"] is None


@given(st.permutations(sorted(GOOD)))
def test_records_of_different_things_stand_in_any_order(order: list[str]) -> None:
    """Two runs of two specs from two sources: whichever is told first, the core digest is one (I12)."""

    def other(name: str) -> dict[str, Any]:
        return msgspec.json.decode(
            msgspec.json.encode(GOOD[name])
            .replace(b"run-1", b"run-2")
            .replace(b"demo", b"else")
            .replace(b"h-1", b"h-2")
            .replace(b"file:in", b"stdin")
            .replace(b"a-1", b"a-2")
        )

    def core(second: list[str], *, between: bool) -> str:
        log, model = MemoryLog("records"), ReadModel()
        from muniment.app.handlers import Handler
        from muniment.app.request import Request

        count = iter(range(1, 100))
        handler = Handler(log, now=lambda: 1, new_id=lambda: f"00000000-0000-7000-8000-{next(count):012d}")
        mine = [(name, GOOD[name]) for name in GOOD]
        theirs = [(name, other(name)) for name in second]
        every_ = [x for pair in zip(mine, theirs, strict=True) for x in pair] if between else theirs + mine
        for name, data in every_:
            handler.record_fact(f"runtime.{name}/1", data, Request(ActorRef("me")))
        DRIVER.fold(model, log.pages())
        return digest.core(BY_NAME["runtime"], model)

    assert core(order, between=True) == core(order, between=False)


# -- words -------------------------------------------------------------------------------------------------------------


def line(name: str, **change: Any) -> str:
    data = {**EVERY[name], **change}
    return words.line(Fact(name, AT, AT, ActorRef("me"), data))


def test_a_ring_in_words() -> None:
    snapshot = "runtime.snapshot_captured/1"
    assert (
        line(snapshot)
        == "ring demo: cursor 18 422, stage digest stalled 4.1 s at 17 398 (lag 1 024), producer blocked"
    )
    idle = [{**STAGE, "state": "idle", "lag": "0"}]
    calm = {"blocked": False, "alive": "no", "dropped": "1200"}
    assert (
        line(snapshot, stages=idle, slowest_stage="", producer=calm, spec="", lane="in", reason="left_over")
        == "ring demo/ring lane in: cursor 18 422, every stage idle, producer dead, 1 200 dropped, left-over"
    )
    lost = [{**STAGE, "state": "processing", "lost": "9"}]
    assert "stage digest processing at 17 398 (lag 1 024), producer blocked, digest lost 9" in line(
        snapshot, stages=lost
    )
    many = [{**STAGE, "stage": f"s{n}"} for n in range(4)]
    assert "2 more stalled" in line(snapshot, stages=many)


def test_a_ring_that_does_not_go_on_in_words() -> None:
    snapshot = "runtime.snapshot_captured/1"
    by = {"state": "stopped", "stage": "digest", "code": 64, "sequence": "17399"}
    assert "cursor 18 422, stopped at stage digest, message 17 399: the stage failed (code 64), " in line(
        snapshot, stop=by
    )
    foreign = {**by, "code": 99}
    assert "message 17 399: code 99, " in line(snapshot, stop=foreign)
    assert "cursor 18 422, stopped, " in line(snapshot, stop={**RUNS, "state": "stopped"})
    alive, dead = {**STAGE, "state": "idle"}, {**STAGE, "state": "idle", "alive": "no"}
    calm = {"blocked": False, "alive": "yes", "dropped": "0"}
    gone = {**calm, "alive": "no"}
    said = lambda *stages, by, end="": line(snapshot, stages=stages, producer=by, slowest_stage="", end=end)  # noqa: E731
    assert said(alive, by=calm) == "ring demo: cursor 18 422, every stage idle"
    assert said(alive, dead, by=calm).endswith("every stage idle, stage digest dead")
    assert said(alive, dead, by=gone).endswith("every stage idle, producer dead, stage digest dead")
    assert said(dead, dead, by=gone).endswith("every stage idle, everybody dead")
    assert said(alive, *[dead] * 4, by=calm).endswith("stage digest dead, stage digest dead, 2 more dead")
    assert said(dead, by=gone, end="18422").endswith("ended, every stage idle")


ENDED = (
    "run run-1 of demo failed at stage digest, message 17 399: filter.json_syntax not JSON"
    " (18 446 744 073 709 551 615 read, 2 committed)"
)


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        (
            "runtime.heartbeat_recorded/1",
            "run run-1 heartbeat 7 transition: digest processing -> stalled, cursor 18 422",
        ),
        ("runtime.spec_rejected/1", "spec  rejected: kv.syntax in line 3, and 2 more"),
        ("runtime.host_checked/1", "host h-1 checked for low-latency: unfit: memory-lock"),
        (
            "runtime.run_ended/1",
            ENDED,
        ),
        (
            "runtime.batch_acknowledged/1",
            "run run-1 acknowledged file:in to byte 18 446 744 073 709 551 615: 5 lines, 3 facts, 1 known, 1 filtered",
        ),
    ],
)
def test_what_runs_say_in_words(name: str, expected: str) -> None:
    assert line(name) == expected


@pytest.mark.parametrize("name", sorted(EVERY))
def test_words_of_data_that_is_none_of_ours_are_still_a_line(name: str) -> None:
    for field in EVERY[name]:
        for odd in (None, [], 7, "\x1b[31m" + "x" * 500):
            said = line(name, **{field: odd})
            assert said.isprintable()
            assert len(said) <= words.MAX
