"""Records of pipelines: what is refused, their tags, and how a session keeps them."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from typing import Any

import pytest
import shop as shops
from muniment.app import runtime_records as records
from muniment.app.fact_drafts import TYPE, FactDrafts
from muniment.app.reading import Reader
from muniment.app.redecide import every
from muniment.app.session import Session
from muniment.app.verify_tags import Derived
from muniment.app.verify_typed import reader
from muniment.domain.decision import ActorRef
from muniment.domain.errors import InvalidError, NotFoundError, UnavailableError
from muniment.domain.incident import Declare
from muniment.domain.records import TABLE, tags_of, validate
from muniment.ring.snapshot import render
from runtime_samples import AT, EVERY, FACT, GOOD, SHA, changed, without_sha
from snapshot_samples import chain, pack

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


# -- through a session -------------------------------------------------------------------------------------------------


def packed_ring() -> tuple[bytes, dict[str, Any]]:
    packed = pack(5, chain(5))
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
