"""Records of pipelines: drafts byte for byte, what is refused, the read model, the words, and a store that does not answer."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable
from typing import Any

import msgspec
import pytest
import shop as shops
from hypothesis import given
from hypothesis import strategies as st
from muniment.app import runtime_records as records
from muniment.app.fact_drafts import TYPE, FactDrafts, fact_id
from muniment.app.reading import Reader
from muniment.app.redecide import every
from muniment.app.session import Session
from muniment.app.verify_tags import Derived
from muniment.app.verify_typed import reader
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.envelope import halves
from muniment.domain.errors import InvalidError, NotFoundError, UnavailableError
from muniment.domain.incident import Declare
from muniment.domain.policy import STRICTEST
from muniment.domain.records import TABLE, tags_of, validate
from muniment.projections import digest, words
from muniment.projections.model import ReadModel
from muniment.projections.registry import BY_NAME, DRIVER
from muniment.store.memory import MemoryLog

AT = "2026-11-21T00:00:00.000000Z"
SHA = "sha256:" + "a" * 64
U64 = str(2**64 - 1)
SPEC = {"spec": "demo", "spec_sha256": SHA}
COUNTS = {"read": U64, "published": "3", "committed": "2", "duplicates": "1", "filtered": "0", "dropped": "0"}
STAGE = {
    "stage": "digest",
    "state": "stalled",
    "alive": "yes",
    "lo": "17398",
    "hi": "17398",
    "lag": "1024",
    "lost": "0",
    "silent_ms": 4120,
}
RUNS = {"state": "running", "stage": "", "code": 0, "sequence": "0"}
GOOD: dict[str, dict[str, Any]] = {
    "spec_validated": {**SPEC, "model": "single_ring", "stages": 2, "lanes": 0},
    "spec_rejected": {
        "spec": "",
        "given_sha256": SHA,
        "problems": [{"code": "kv.syntax", "line": 3, "message": "no ="}],
        "more": 2,
    },
    "host_checked": {
        "profile": "low-latency",
        "ok": False,
        "host": {"kernel": "6.1", "cpus": 2, "boot_id": "b", "machine": SHA},
        "host_id": "h-1",
        "checks": [{"id": "memory-lock", "state": "failed", "required": True, "reason": "64 KiB"}],
    },
    "run_started": {
        **SPEC,
        "run": "run-1",
        "model": "single_ring",
        "profile": "default",
        "host_id": "h-1",
        "pid": 7,
        "ring_path": "/r/demo/ring",
        "source": "file:in",
        "resume_from": "8192",
        "left_over": "",
        "agent": "a-1",
    },
    "batch_acknowledged": {
        "run": "run-1",
        "spec": "towns",
        "source": "file:in",
        "shard": 0,
        "from_offset": "8192",
        "to_offset": U64,
        "lines": 5,
        "facts": 3,
        "duplicates": 1,
        "filtered": 1,
        "last_line_sha256": SHA,
        "last_line_bytes": 20,
    },
    "heartbeat_recorded": {
        "run": "run-1",
        "agent": "",
        "beat": 7,
        "reason": "transition",
        "unix_ns": U64,
        "uptime_ms": 9,
        "ring": {"cursor": "18422", "min_gating": "17398"},
        "stages": [{"stage": "digest", "state": "stalled"}],
        "changes": [{"stage": "digest", "from": "processing", "to": "stalled"}],
    },
    "snapshot_captured": {
        **SPEC,
        "run": "run-1",
        "lane": "",
        "reason": "asked",
        "ring_path": "/r/demo/ring",
        "cursor": "18422",
        "exact": True,
        "producer": {"blocked": True, "alive": "yes", "dropped": "0"},
        "stop": RUNS,
        "end": "",
        "stages": [{**STAGE, "stage": "head", "state": "idle"}, STAGE],
        "slowest_stage": "digest",
        "remaining_capacity": 0,
        "agent": "",
        "incident": "",
    },
    "run_ended": {
        "run": "run-1",
        "spec": "demo",
        "outcome": "failed",
        "stage": "digest",
        "sequence": "17399",
        "code": "filter.json_syntax",
        "error": "not JSON",
        "counts": COUNTS,
    },
}
FACT = {
    "source": "shop",
    "event_id": "e-1",
    "event_type": "order.placed",
    "subject": "slot:prod/stable/eu",
    "time": "",
    "media_type": "application/json",
    "body": '{"id":"e-1"}',
    "body_sha256": "",
}
EVERY = {f"runtime.{name}/1": data for name, data in GOOD.items()} | {TYPE: FACT}


def changed(data: Any, path: str, value: Any) -> Any:
    """A copy with the value at `a.0.b` put in, or taken away where it is `...`."""
    copy = json.loads(json.dumps(data))
    *way, last = path.split(".")
    place = copy
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


# -- schemas and tags --------------------------------------------------------------------------------------------------


def test_every_type_here_is_in_the_registry_and_good() -> None:
    assert {t for t in TABLE if t.startswith(("runtime.", "fact."))} == set(EVERY)
    for type_, data in EVERY.items():
        validate(type_, data)


@pytest.mark.parametrize(
    ("name", "path", "value"),
    [
        ("batch_acknowledged", "to_offset", 5),
        ("batch_acknowledged", "to_offset", "18446744073709551616"),
        ("batch_acknowledged", "to_offset", "007"),
        ("batch_acknowledged", "to_offset", "-1"),
        ("batch_acknowledged", "to_offset", ""),
        ("batch_acknowledged", "to_offset", "1\n"),
        ("batch_acknowledged", "source", ""),
        ("batch_acknowledged", "source", "x" * 513),
        ("run_started", "resume_from", "x"),
        ("run_started", "run", ""),
        ("run_started", "spec", "Demo"),
        ("run_started", "more", 1),
        ("run_started", "agent", ...),
        ("run_ended", "outcome", "done"),
        ("run_ended", "counts.read", 1),
        ("run_ended", "counts.more", "1"),
        ("snapshot_captured", "stages.0.state", "busy"),
        ("snapshot_captured", "producer.alive", True),
        ("snapshot_captured", "reason", "curious"),
        ("heartbeat_recorded", "changes.0.from_", "idle"),
        ("heartbeat_recorded", "unix_ns", 1.5),
        ("heartbeat_recorded", "stages.0.stage", "x" * 130),
        ("heartbeat_recorded", "stages.0.stage", "in/digest"),
        ("host_checked", "checks.0.state", "passed"),
        ("host_checked", "host_id", ""),
        ("spec_rejected", "problems", []),
        ("spec_validated", "model", "two_rings"),
    ],
)
def test_what_does_not_fit_is_refused(name: str, path: str, value: Any) -> None:
    with pytest.raises(InvalidError):
        validate(f"runtime.{name}/1", changed(GOOD[name], path, value))


def test_a_role_of_a_lane_and_a_stage_of_a_shard_have_two_names() -> None:
    two = f"{'l' * 64}.{'r' * 64}"
    validate("runtime.heartbeat_recorded/1", changed(GOOD["heartbeat_recorded"], "stages.0.stage", two))


@pytest.mark.parametrize(
    ("subject", "tags"),
    [
        ("slot:prod/stable/eu", {"slot:prod/stable/eu"}),
        (f"pack:{SHA}", {f"pack:{SHA}"}),
        ("build:b-1", {"build:b-1"}),
        ("incident:i-1", {"incident:i-1"}),
        ("release:r-1", {"release:r-1"}),
        ("", set()),
        ("slot:prod/stable", set()),
        ("pack:9f2c41", set()),
        ("incident:*", set()),
        ("scope:*", set()),
        ("key:0123456789abcdef", set()),
        ("build:b-1\n", set()),
        ("build:B", set()),
        ("order/17", set()),
    ],
)
def test_a_subject_that_is_a_reference_of_ours_is_a_tag(subject: str, tags: set[str]) -> None:
    data = {**FACT, "subject": subject}
    assert tags_of(TYPE, data) == tags | {"source:shop"}
    derived = Derived(TYPE)
    assert derived.missing(data, {"source:shop"}) == (subject if tags else "")
    assert derived.missing(data, tags | {"source:shop"}) == ""
    draft = FactDrafts(ActorRef("me"), "c").draft(at=AT, **without_sha(data))
    typed = reader(TYPE)
    assert typed is not None
    rows = typed.read([draft.leaf(AT)])
    assert rows is not None
    assert typed.tagged(rows)
    if tags:  # a tag of the payload that is not there is found
        cut = draft.leaf(AT).replace(f'"tags":["{subject}",'.encode(), b'"tags":[')
        rows = typed.read([cut])
        assert rows is not None
        assert not typed.tagged(rows)


# -- drafts of foreign events ------------------------------------------------------------------------------------------


def without_sha(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "body_sha256"}


words_of = st.text(st.characters(exclude_categories=["Cs"]), max_size=60)


@given(words_of, words_of.filter(bool), words_of.filter(bool), st.sampled_from(["", "build:b-1", "x"]))
def test_a_draft_has_the_bytes_of_every_other_record(
    body: str, event: str, source: str, subject: str
) -> None:
    actor = ActorRef("me", "service")
    data = {**FACT, "body": body, "event_id": event, "source": source, "subject": subject}
    drafts = FactDrafts(actor, "c-1")
    for _ in range(2):  # the second time from what the first one kept
        draft = drafts.draft(at=AT, **without_sha(data))
        record = {
            "v": 1,
            "id": fact_id(source, event),
            "type": TYPE,
            "occurred_at": AT,
            "actor": msgspec.to_builtins(actor),
            "correlation": "c-1",
            "data": data,
            "tags": sorted(tags_of(TYPE, data)),
        }
        assert (draft.head, draft.tail) == tuple(halves(record))
        assert (draft.id, draft.type, list(draft.tags)) == (record["id"], TYPE, record["tags"])
    validate(TYPE, data)


def test_a_draft_names_its_evidence_where_the_body_is_one() -> None:
    entry = {"role": "event-body", "bytes": 5, "blake3": "b", "sha256": "s", "media_type": "m"}
    given_ = {**without_sha(FACT), "body": ""}
    draft = FactDrafts(ActorRef("me"), "c").draft(at=AT, body_sha256=SHA, evidence=[entry], **given_)
    record = json.loads(draft.leaf(AT))
    assert ([entry], SHA) == (record["evidence"], record["data"]["body_sha256"])
    assert (draft.head, draft.tail) == tuple(
        halves({name: value for name, value in record.items() if name != "recorded_at"})
    )


@pytest.mark.parametrize(
    "fields",
    [
        {"source": ""},
        {"source": "x" * 513},
        {"event_id": ""},
        {"event_id": "x" * 513},
        {"event_type": ""},
        {"event_type": "x" * 201},
        {"subject": "x" * 513},
        {"time": "x" * 65},
        {"media_type": ""},
        {"body": "x" * 60_001},
        {"body": "\x00" * 20_000},
        {"body": "\ud800"},
        {"event_id": "\ud800"},
        {"body_sha256": "sha256:x"},
    ],
)
def test_an_event_that_fits_no_record_is_refused(fields: dict[str, str]) -> None:
    with pytest.raises(InvalidError) as caught:
        FactDrafts(ActorRef("me")).draft(at=AT, **{**without_sha(FACT), **fields})
    assert caught.value.exit_code == 10


def test_one_event_has_one_id() -> None:
    assert fact_id("a", "b") == fact_id("a", "b")
    ids = [
        fact_id(*pair)
        for pair in (("a", "b"), ("a", "c"), ("ab", ""), ("", "ab"), ("1:a", "b"), ("1", ":ab"))
    ]
    assert len(set(ids)) == len(ids)
    found = uuid.UUID(ids[0])
    assert (found.version, found.variant, str(found)) == (8, uuid.RFC_4122, ids[0])


# -- the read model ----------------------------------------------------------------------------------------------------


def told(*names: str, **options: Any) -> tuple[MemoryLog, ReadModel]:
    log, model = MemoryLog("records"), ReadModel()
    from muniment.app.handlers import Handler, Request
    from muniment.app.ids import uuid7

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
        from muniment.app.handlers import Handler, Request

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
    assert "cursor 18 422, stopped at stage digest, message 17 399 (code 64), " in line(snapshot, stop=by)
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


# -- through a session -------------------------------------------------------------------------------------------------


def packed_ring() -> tuple[bytes, dict[str, Any]]:
    from muniment.ring import snapshot_format as form
    from muniment.ring.snapshot import render

    cells = [(5, 5, 5, 0, 0, 0, 1, 7 << 32, 0, 0, 1, 0, 1, index) for index in (0, 1)]
    size = form.HEAD.size + 2 * form.CELL.size
    head = (form.MAGIC, 1, size, 1, 0, 8960, 2, 0, 1 << 20, 1024, 256, 1, 2, 1, 5, 0, 1, 2, 3, 1)
    packed = form.HEAD.pack(*head, 0, form.NO_STAGE, 0, 0, 0, bytes(range(32)))
    packed += b"".join(form.CELL.pack(*cell) for cell in cells)
    return packed, render(packed, ["digest"], "/r/demo/ring")


def test_a_snapshot_is_a_record_with_its_bytes(here: Any) -> None:
    packed, rendered = packed_ring()
    with here.open() as session:
        here.declared(session)
        shops.must(session.run(Declare("SEV3", "prod", "odd", "")))
        records.record_run_started(session, GOOD["run_started"], b"spec.version=1\n")
        at = records.record_snapshot(session, packed, rendered, "asked", "run-1", "i-1", spec="demo")
        (fact,) = session.facts((), until=at)[at - 1 :]
        (entry,) = fact.evidence
        assert ("runtime-snapshot", hashlib.sha256(packed).hexdigest()) == (entry["role"], entry["sha256"])
        assert session.evidence.read(entry["blake3"], limit=1 << 20) == packed
        assert {"incident:i-1", "run:run-1", "spec:demo"} == set(fact.tags)
        assert fact.data["stages"][0]["stage"] == "digest"
        with pytest.raises(NotFoundError):
            records.record_snapshot(session, packed, rendered, "asked", "run-1", "i-9")
        reading = Reader(session.log, now=session.log.now())
        assert str(reading.resolve("run:run-1")) == "run:run-1"
        assert list(every(session.log)) == []  # facts without a decision are no finding


def test_everything_is_recorded_and_the_store_verifies(here: Any) -> None:
    from muniment.app.verify import verify_store

    with here.open() as session:
        records.record_spec(session, spec="demo", model="single_ring", canonical=b"x=1\n", stages=1)
        problems = [{"code": "kv.syntax", "line": n, "message": "é" * 900} for n in range(100)]
        at = records.record_rejected_spec(session, given=b"\xff", problems=problems)
        assert session.facts((), until=at)[-1].data["more"] == 60
        records.record_host_check(session, GOOD["host_checked"], b"{}")
        records.record_run_started(session, GOOD["run_started"])
        records.record_heartbeat(session, GOOD["heartbeat_recorded"])
        records.record_run_ended(session, GOOD["run_ended"])
        drafts = FactDrafts(session.request(shops.Options()).actor)
        session.append(
            [drafts.draft(at=AT, **{**without_sha(FACT), "event_id": f"e-{n}"}) for n in range(50)]
        )
        same = [drafts.draft(at=AT, **{**without_sha(FACT), "event_id": "e-0"})]
        assert session.append(same).duplicate
    with Session(here.at) as session:
        report = verify_store(str(here.at), decisions=lambda: every(session.log))
    assert report.exit_code == 0, report


def test_a_store_that_does_not_answer_is_asked_a_few_times(
    here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    pauses: list[float] = []
    monkeypatch.setattr(records.time, "sleep", pauses.append)
    with here.open() as session:
        real: Callable[..., Any] = session.log.append
        fails = iter([True, True, False])

        def append(*args: Any, **options: Any) -> Any:
            if next(fails):
                raise UnavailableError("busy", code="store.busy")
            return real(*args, **options)

        monkeypatch.setattr(session.log, "append", append)
        before = session.log.head().size
        assert records.record_heartbeat(session, GOOD["heartbeat_recorded"]) == before + 1
        assert pauses == list(records.PAUSES[:2])


def test_a_store_that_is_down_is_an_error_the_caller_judges(
    here: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(records.time, "sleep", lambda _: None)
    with Session(here.at) as session:
        before = session.log.head().size
        with pytest.raises(UnavailableError):
            records.record_heartbeat(session, GOOD["heartbeat_recorded"])
        packed, rendered = packed_ring()
        with pytest.raises(UnavailableError):
            records.record_snapshot(session, packed, rendered, "periodic")
        assert session.log.head().size == before


def test_what_does_not_fit_leaves_no_evidence(here: Any) -> None:
    with here.open() as session:
        held = sum(1 for _ in session.evidence.iter())
        with pytest.raises(InvalidError):
            records.record_host_check(session, {**GOOD["host_checked"], "profile": "No"}, b"{}")
        assert sum(1 for _ in session.evidence.iter()) == held
