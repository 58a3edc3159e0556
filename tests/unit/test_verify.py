"""The report of a verification, and what it says of logs that have no columns."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from pathlib import Path
from typing import Any

import msgspec
import pytest
import story
from eventsourcing.dcb.api import DCBEvent
from muniment.app import home, redecide
from muniment.app.verify import Anchor, verify_store
from muniment.app.verify_report import CHECKS, FAIL, NOT_APPLICABLE, PASS, SKIPPED, Check, Finding, Report
from muniment.app.verify_sequel import CREATED
from muniment.app.verify_tags import Derived
from muniment.app.verify_typed import reader
from muniment.domain.canonical import encode
from muniment.domain.errors import NotFoundError
from muniment.domain.records import TABLE, tags_of
from muniment.store.api import Draft
from muniment.store.dcb import MunimentDCBRecorder, created_draft
from muniment.store.memory import MemoryLog
from muniment.store.open import create_log

raw_encode = msgspec.json.Encoder(order="deterministic").encode


def told() -> tuple[MemoryLog, Any]:
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    teller = story.Story(log, clock)
    teller.whole()
    return log, teller


def altered(position: int, change: Any) -> MemoryLog:
    """The story with one record changed, as an honest log of it."""
    made = MemoryLog("records", clock=story.Clock())
    drafts = []
    for at, body in told()[0].read():
        record = json.loads(body)
        if at == position:
            change(record)
        text = raw_encode(record)  # ours refuses what some of these cases need
        start = text.find(b'"recorded_at":"') + 15
        drafts.append((text[:start], text[start + 27 :]))
        made._clock = lambda at=at: story.START + at * 1_000_000  # type: ignore[misc]
        made.append([Draft(json.loads(body)["id"], record["type"], (), *drafts[-1])])
    return made


def test_a_log_in_memory_passes_and_says_what_does_not_apply(tmp_path: Path) -> None:
    log, _ = told()
    report = verify_store(log, base=tmp_path, decisions=lambda: redecide.every(log))
    assert report.failed() == []
    assert report.ok
    assert report.root == log.head().root.hex()
    assert report["decisions"].verdict == PASS
    skipped = {c.id for c in report.checks if c.verdict == NOT_APPLICABLE}
    assert {"store.schema", "column.id", "evidence.present", "head.last_seen"} <= skipped
    assert json.loads(json.dumps(report.as_json()))["ok"] is True


def test_no_store_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify_store(tmp_path, base=tmp_path)


def test_an_empty_log_is_no_store(tmp_path: Path) -> None:
    report = verify_store(MemoryLog(), base=tmp_path)
    assert report.failed() == ["store.created"]


@pytest.mark.parametrize(
    ("position", "change", "check"),
    [
        (40, lambda r: r.update(tags=[]), "record.tags"),
        (40, lambda r: r.update(tags=r["tags"][::-1]), "record.tags"),
        (40, lambda r: r.update(tags=[*r["tags"], r["tags"][-1]]), "record.tags"),
        (40, lambda r: r.update(tags="slot"), "record.tags"),
        (40, lambda r: r.update(v=2), "record.registry"),
        (40, lambda r: r["data"].update(epoch=2.5), "record.canonical"),
        (40, lambda r: r["data"].update(epoch=2**53), "record.canonical"),
        (8, lambda r: r["data"]["tool"].update(major=2**53), "record.canonical"),
        (41, lambda r: r["batch"].update(size=-(2**53)), "record.canonical"),
        (40, lambda r: r.update(type="slot.good_attested/2"), "record.registry"),
        (40, lambda r: r.pop("correlation"), "record.registry"),
        (40, lambda r: r.pop("data"), "record.registry"),
        (40, lambda r: r.update(data=[]), "record.registry"),
        (1, lambda r: r.update(type="clock.jump_accepted/1"), "store.created"),
        (40, lambda r: r.update(type=CREATED), "store.created"),
        (40, lambda r: r["batch"].update(size=2), "record.batch"),
        (40, lambda r: r["batch"].update(index=0), "record.batch"),
        (40, lambda r: r["batch"].update(first="x"), "record.batch"),
        (41, lambda r: r.pop("batch"), "record.batch"),
        (103, lambda r: r.update(batch={"first": r["id"], "index": 0, "size": 2}), None),
        (65, lambda r: r.pop("signature"), "record.signature"),
        (65, lambda r: r["signature"].update(signature="AAAA"), "record.signature"),
        (65, lambda r: r["signature"].update(key_id="0" * 16), "record.signature"),
        (65, lambda r: r["actor"].update(id="bob"), "record.signature"),
        (65, lambda r: r["actor"].update(auth="os"), "record.signature"),
        (3, lambda r: r["data"].update(identity="mallory"), "record.signature"),
        (3, lambda r: r.update(type="clock.jump_accepted/1"), "record.signature"),
    ],
)
def test_a_record_that_is_wrong_in_itself_is_named(
    tmp_path: Path, position: int, change: Any, check: str | None
) -> None:
    report = verify_store(altered(position, change), base=tmp_path)
    if check is None:
        return
    assert check in report.failed(), report.failed()
    assert report.exit_code == 7


def test_what_a_revoked_key_signed_before_stays_good_and_after_is_found(tmp_path: Path) -> None:
    log, teller = told()
    from muniment.app import keys

    teller.must(story.command("key.revoke", keys.key_id(teller.key)))
    assert verify_store(log, base=tmp_path).ok
    record = json.loads(next(log.read(after=64, until=65))[1])
    del record["recorded_at"]
    record["id"] = "01900000-0000-7000-8000-000000000000"
    record["signature"] = keys.record_signature(
        teller.key, {k: v for k, v in record.items() if k != "signature"}
    )
    text = encode({**record, "recorded_at": ""})
    head, mark, tail = text.partition(b'"recorded_at":"')
    log.append([Draft(record["id"], record["type"], tuple(record["tags"]), head + mark, tail)])
    report = verify_store(log, base=tmp_path)
    assert report.failed() == ["record.signature"]
    assert "revoked" in report["record.signature"].findings[0].found


@pytest.mark.parametrize(
    ("size", "root", "failed"),
    [(0, "", []), (40, "right", []), (40, "wrong", ["head.against"]), (104, "right", ["head.against"])],
)
def test_known_heads_are_compared(tmp_path: Path, size: int, root: str, failed: list[str]) -> None:
    log, _ = told()
    from muniment.store.merkle import root as root_of

    right = root_of(list(log.leaves())[:size]).hex()
    anchor = Anchor(size, right if root == "right" else "0" * 64 if root else "", "checkpoint")
    report = verify_store(log, base=tmp_path, against=[anchor])
    assert report.failed() == failed


def test_a_head_seen_is_compared_and_a_shorter_log_found(tmp_path: Path) -> None:
    log, teller = told()
    teller.must(story.command("clock.accept", 1))
    head = log.head()
    assert home.remember_head("s-story", head.size, head.root, base=tmp_path) == ""
    assert verify_store(log, base=tmp_path)["head.last_seen"].verdict == PASS
    report = verify_store(told()[0], base=tmp_path)
    assert report.failed() == ["head.last_seen"]


def test_decisions_that_differ_are_findings(tmp_path: Path) -> None:
    log, _ = told()
    report = verify_store(log, base=tmp_path, decisions=lambda: [(67, "data", "a", "b")])
    assert report.failed() == ["decisions"]
    assert report.touched["positions"] == [67]


def test_only_a_pass_of_everything_is_ok() -> None:
    def report(*verdicts: str) -> Report:
        return Report([Check(str(i), "", verdict) for i, verdict in enumerate(verdicts)])

    assert report(PASS, NOT_APPLICABLE).exit_code == 0
    assert report(PASS, SKIPPED).exit_code == 8
    assert not report(PASS, SKIPPED).ok
    assert report(SKIPPED, FAIL, PASS).exit_code == 7


def test_findings_are_kept_and_counted() -> None:
    check = Check("x", "")
    for at in range(50):
        check.fail(Finding("a", "b", at))
    assert (check.count, len(check.findings), check.verdict) == (50, 10, FAIL)
    check.leave(SKIPPED, "never mind")
    assert check.verdict == FAIL, "a failed check is never taken back"


def test_every_check_is_in_every_report(tmp_path: Path) -> None:
    assert [c.id for c in verify_store(told()[0], base=tmp_path).checks] == list(CHECKS)


def test_derived_tags_are_those_of_the_registry() -> None:
    values = {
        "slots": ["a/b/c", "a/b/d"],
        "releases": ["r-1"],
        "scope": "prod",
        "channel": "prod/stable",
        "slot": "prod/stable/eu",
    }
    for type_, row in TABLE.items():
        data = {field: values.get(field, f"x-{field}") for field in row.payload.model_fields}
        tags = tags_of(type_, data)
        derived = Derived(type_)
        assert derived.missing(data, set(tags)) == ""
        for tag in tags:
            assert derived.missing(data, set(tags) - {tag}) == tag, (type_, tag)


def by_type() -> dict[str, list[bytes]]:
    found: dict[str, list[bytes]] = {}
    for _, body in told()[0].read():
        found.setdefault(json.loads(body)["type"], []).append(body)
    return found


def test_honest_records_pass_as_a_page() -> None:
    """Else the quick look would be quick to no end: what it does not understand is looked at one by one."""
    for type_, bodies in by_type().items():
        typed = reader(type_)
        assert typed is not None
        rows = typed.read(bodies)
        assert rows is not None, type_
        assert typed.tagged(rows), type_


def test_every_type_has_a_reader_and_no_other() -> None:
    assert all(reader(type_) is not None for type_ in TABLE)
    assert reader("build.invented/1") is None


@pytest.mark.parametrize(
    "damage",
    [
        lambda b: b.replace(b'":', b'": ', 1),
        lambda b: b + b"\n",
        lambda b: b"\n" + b,
        lambda b: b + b,
        lambda b: b[:-1],
        lambda b: b.replace(b'"v":1', b'"v":1,"v":1'),
        lambda b: b.replace(b'"v":1', b'"v":1.0'),
        lambda b: b.replace(b'"v":1', b'"v":2'),
        lambda b: b.replace(b'"v":1', b'"v":1,"z":1'),
        lambda b: b.replace(b'"exit_code":0', b'"exit_code":9007199254740992'),
        lambda b: b.replace(b'"exit_code":0', b'"exit_code":0.5'),
        lambda b: b.replace(b'"tool":{', b'"tool":{"a":9007199254740992,'),
        lambda b: b.replace(b'"tool":{', b'"tool":{"a":0.5,'),
        lambda b: b.replace(b'"tool":{', b'"tool":{"zz":1,"a":1,'),
        lambda b: b.replace(b'"tool":{', b'"tool":{ '),
        lambda b: b.replace(b'"reason":"', '"reason":"\U0001f600'.encode()),
        lambda b: b.replace(b'"reason":"', b'"reason":"\xff'),
        lambda b: b.replace(b'"reason":"', b'"reason":"\\u0041'),
        lambda b: b.replace(b"stage_finished", b"stage_started"),
        lambda _: b"",
    ],
)
def test_a_page_with_one_record_that_is_not_certainly_right_is_not_taken(damage: Any) -> None:
    bodies = by_type()["build.stage_finished/1"]
    typed = reader("build.stage_finished/1")
    assert typed is not None
    assert typed.read(bodies) is not None
    changed = damage(bodies[1])
    assert changed != bodies[1]
    assert typed.read([bodies[0], changed, *bodies[2:]]) is None


def test_two_bodies_cut_at_another_place_are_not_taken() -> None:
    one, two = by_type()["build.stage_finished/1"][:2]
    typed = reader("build.stage_finished/1")
    assert typed is not None
    for cut in (1, len(two) // 2, len(two) - 1):
        assert typed.read([one + b"\n" + two[:cut], two[cut:]]) is None


@pytest.mark.parametrize("drop", range(3))
def test_a_missing_tag_is_no_pass_of_a_page(drop: int) -> None:
    type_ = "activation.switched/1"
    typed = reader(type_)
    assert typed is not None
    record = json.loads(by_type()[type_][0])
    record["tags"] = sorted(tags_of(type_, record["data"]))
    del record["tags"][drop]
    rows = typed.read([encode(record)])
    assert rows is not None
    assert not typed.tagged(rows)


def test_a_log_of_foreign_events_is_verified_without_the_rules_of_records(tmp_path: Path) -> None:
    folder = tmp_path / "opaque"
    with contextlib.closing(create_log(folder, "opaque")) as log:
        log.append([created_draft("s-opaque", occurred_at="2026-09-21T00:00:00.000000Z")])
        recorder = MunimentDCBRecorder(log)
        for n in range(5):
            recorder.append([DCBEvent("Enrolled", b"x", [f"course:{n}", "school"])])
        size = log.head().size
    report = verify_store(folder, base=tmp_path)
    assert report.failed() == []
    assert report.size == size
    left = {c.id for c in report.checks if c.verdict == NOT_APPLICABLE}
    assert {"record.registry", "record.tags", "record.signature"} <= left
    assert {report[id_].verdict for id_ in ("log.leaves", "store.postings", "record.canonical")} == {PASS}
    with contextlib.closing(sqlite3.connect(folder / "log.db", isolation_level=None)) as db:
        for cell in ("2001-01-01T00:00:00.000000Z", "later", 9):
            db.execute("UPDATE head SET recorded_at = ?", (cell,))
            assert verify_store(folder, base=tmp_path).failed() == ["log.head"]
        db.execute("DROP TRIGGER records_hold")
        db.execute("UPDATE records SET body = CAST(replace(CAST(body AS TEXT), 'school', 'schoox') AS BLOB)")
    failed = set(verify_store(folder, base=tmp_path).failed())
    assert {"log.leaves", "log.head", "store.schema"} <= failed
