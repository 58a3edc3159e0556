"""Projections: the fold that makes them, their digests, and what they show."""

from __future__ import annotations

import json
from typing import Any

import pytest
import story
from muniment.domain import slot_state
from muniment.domain.decision import Fact
from muniment.domain.envelope import read_fact
from muniment.domain.errors import InvalidError
from muniment.domain.folding import FOLD
from muniment.domain.records import TABLE
from muniment.domain.world import World, fold, policy_of
from muniment.projections import digest, timeline, words
from muniment.projections.base import Simple
from muniment.projections.fold import KNOWN, WITHOUT_STATE, Driver, Stopped, decode_fact, decode_page
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, BY_NAME, DRIVER
from muniment.store.memory import MemoryLog

AT = "2026-10-01T00:00:00.000000Z"


@pytest.fixture(scope="module")
def log() -> MemoryLog:
    """The whole story on a log in memory."""
    return story.grown()[0]


# -- the fold ----------------------------------------------------------------------------------------------------------


def test_the_types_the_fold_knows_are_the_registry() -> None:
    assert set(TABLE) == KNOWN
    assert set(FOLD) & WITHOUT_STATE == set()


def test_every_part_of_the_model_belongs_to_one_projection() -> None:
    parts = [part for projection in ALL for part in projection.parts]
    assert sorted(ReadModel.__struct_fields__) == sorted(parts)


def test_every_handler_of_the_domain_is_used(log: MemoryLog) -> None:
    used = {(type_, handler) for p in ALL for type_, handlers in p.handles.items() for handler in handlers}
    assert {(type_, handler) for type_, handlers in FOLD.items() for handler in handlers} <= used


def test_projections_and_decisions_see_the_same_world(log: MemoryLog) -> None:
    facts = [read_fact(body, position) for position, body in log.read()]
    decided = fold(World(), facts, FOLD)
    model = story.model_of(log)
    for part in World.__struct_fields__:
        assert getattr(decided, part) == getattr(model, part), part


def test_a_fact_decoded_from_its_second_half_is_the_fact(log: MemoryLog) -> None:
    for position, body in log.read():
        expected, found = read_fact(body, position), decode_fact(body, position)
        for field in Fact.__struct_fields__:
            assert getattr(expected, field) == getattr(found, field), (position, field)


@pytest.mark.parametrize("where", ["command", "basis", "actor", "batch"])
def test_a_mark_inside_another_object_misleads_nobody(log: MemoryLog, where: str) -> None:
    record = {**story.raw(log, command={"name": "x", "args": {}, "key": ""}), "basis": {}, "batch": {}}
    inner = {"a": 1, "correlation": "c", "data": {"intake": "forged"}, "type": "clock.jump_observed/1"}
    record[where] = {**record[where], "args": inner, "zz": inner, "a}": "}"}
    body = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    assert decode_fact(body, 9).data == read_fact(body, 9).data == record["data"]
    assert decode_fact(body, 9).actor == read_fact(body, 9).actor


def test_an_unknown_type_stops_the_fold_and_says_where() -> None:
    log, _ = story.grown()
    story.append_raw(log, type="build.invented/1")
    with pytest.raises(Stopped) as stopped:
        story.model_of(log)
    assert stopped.value.exit_code == 10
    assert stopped.value.position == 103
    assert stopped.value.context["position"] == 104
    assert stopped.value.code == "record.type_unknown"


@pytest.mark.parametrize(
    "changed",
    [
        {"type": "build.finished/1"},
        {"type": "incident.contained/1", "data": {}},
        {"type": "intake.recorded/2"},
        {"data": []},
        {"actor": "alice"},
        {"type": 7},
    ],
)
def test_a_record_that_does_not_fit_stops_the_fold(changed: dict[str, Any]) -> None:
    log, _ = story.grown()
    record = story.raw(log, **changed)
    text = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    with pytest.raises(InvalidError) as stopped:
        DRIVER.page(story.model_of(log), [(104, text)], 103)
    assert stopped.value.exit_code == 10


def test_a_driver_refuses_a_type_outside_the_registry() -> None:
    odd = Simple(
        "odd", 1, "?", handles=({"x.y/1": slot_state.on_adopted},), parts=(), rows=lambda m, a, p: []
    )
    with pytest.raises(InvalidError):
        Driver([odd])


# -- views -------------------------------------------------------------------------------------------------------------


def test_rows_are_json_and_change_nothing(log: MemoryLog) -> None:
    model = story.model_of(log)
    for projection in ALL:
        before = digest.full(projection, model)
        rows = projection.rows(model, AT, policy_of(model))
        assert json.loads(json.dumps(rows)) == rows
        assert digest.full(projection, model) == before


def test_slots_say_what_runs_what_holds_it_and_where_a_rollback_would_go(log: MemoryLog) -> None:
    model = story.model_of(log)
    (slot,) = BY_NAME["slots"].rows(model, AT, policy_of(model))
    (target,) = slot["targets"]
    first = story.Story(log, story.Clock()).pack_id("b-1")
    assert slot["desired"] == target["active"] == target["lkg"] == first
    assert target["mode"] == "STEADY"
    assert [freeze["freeze"] for freeze in slot["freezes"]] == ["fz-i-1"]
    assert slot["pin"] is None


def test_expiry_is_evaluated_at_the_instant_given() -> None:
    log, teller = story.grown()
    teller.must(
        story.command("channel.freeze", "prod/stable", "fz-9", "FORWARD", "2026-09-25T00:00:00.000000Z")
    )
    first = teller.pack_id("b-1")
    teller.must(story.command("channel.pin", "prod/stable", first, "2026-09-25T00:00:00.000000Z"))
    model = story.model_of(log)
    (before,) = BY_NAME["slots"].rows(model, "2026-09-24T23:59:59.999999Z", policy_of(model))
    (after,) = BY_NAME["slots"].rows(model, "2026-09-25T00:00:00.000000Z", policy_of(model))
    assert {f["freeze"] for f in before["freezes"]} - {f["freeze"] for f in after["freezes"]} == {"fz-9"}
    assert before["pin"]["pack"] == first
    assert after["pin"] is None


def test_lkg_is_computed_and_a_blocked_pack_is_none() -> None:
    log, teller = story.grown()
    teller.must(story.command("pack.block", teller.pack_id("b-1"), "prod", "bl-9", "CVE-9"))
    model = story.model_of(log)
    (slot,) = BY_NAME["slots"].rows(model, AT, policy_of(model))
    assert slot["targets"][0]["lkg"] == ""
    assert slot["targets"][0]["good"] != []


def test_evidence_counts_files_bytes_and_roles_of_a_subject(log: MemoryLog) -> None:
    rows = {
        row["subject"]: row
        for row in BY_NAME["evidence"].rows(story.model_of(log), AT, policy_of(ReadModel()))
    }
    assert rows["build:b-1"]["roles"] == {"pack-manifest": 1, "stage-log": 2}
    assert rows["intake:in-1"]["files"] == 1
    assert not [subject for subject in rows if subject.startswith(("scope:", "command:"))]


def test_timeline_counts_every_record_and_forgets_the_oldest_day_last(
    log: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(timeline, "MAX_DAYS", 2)
    model = story.model_of(log)
    assert sum(row["records"] for row in timeline.rows(model, AT, policy_of(model))) == 103
    fact = read_fact(next(log.read())[1], 1)
    for day in range(22, 27):
        fact.recorded_at = f"2026-09-{day}T00:00:00.000000Z"
        timeline.on_page(model, [fact])
    assert list(model.timeline.days) == ["2026-09-25", "2026-09-26"]
    rows = timeline.rows(model, AT, policy_of(model))
    assert sum(row["records"] for row in rows) == model.timeline.records == 108
    assert rows[0]["day"] == ""


def test_words_name_every_type_with_fields_it_has() -> None:
    assert {type_.partition("/")[0] for type_ in TABLE} == set(words._WORDS)
    import string

    for type_, row in TABLE.items():
        fields = {
            field
            for _, field, _, _ in string.Formatter().parse(words._WORDS[type_.partition("/")[0]])
            if field
        }
        assert fields <= set(row.payload.model_fields), type_


def test_words_are_one_line_without_control_characters(log: MemoryLog) -> None:
    fact = read_fact(next(log.read(after=96, until=97))[1], 97)
    fact.data["summary"] = "a\nb\x1b[31m" + "x" * 500
    line = words.line(fact)
    assert line.isprintable()
    assert len(line) <= words.MAX
    fact.type = "no.such/1"
    assert words.line(fact) == "no.such/1"


# -- digests -----------------------------------------------------------------------------------------------------------


def test_core_digest_leaves_clocks_places_and_attempts_out() -> None:
    slots, model = BY_NAME["slots"], story.model_of(story.grown()[0])
    core, full = digest.core(slots, model), digest.full(slots, model)
    target = model.slots[story.SLOT].targets["t1"]
    target.location, target.confirmed_at = "/elsewhere", AT
    assert target.activation is not None
    target.activation.activation = "a-other"
    assert target.stuck is None
    assert digest.full(slots, model) != full
    assert digest.core(slots, model) == core
    target.active = "sha256:" + "0" * 64
    assert digest.core(slots, model) != core


def test_core_digest_keeps_the_order_of_positions() -> None:
    slots, model = BY_NAME["slots"], story.model_of(story.grown()[0])
    core = digest.core(slots, model)
    target = model.slots[story.SLOT].targets["t1"]
    (attested,) = target.attestations
    (pack,) = target.revoked
    attested.position -= 1
    assert digest.core(slots, model) == core, "the order is the same"
    attested.position = target.revoked[pack] + 1
    assert digest.core(slots, model) != core, "good after the revocation is another story"


def test_every_field_of_a_projection_is_in_its_full_digest() -> None:
    model = story.model_of(story.grown()[0])
    before = {p.name: digest.full(p, model) for p in ALL}
    model.incident_count += 1
    model.timeline.records += 1
    after = {p.name: digest.full(p, model) for p in ALL}
    assert {name for name in before if before[name] != after[name]} == {"incidents", "timeline"}


def test_a_page_decoded_at_once_is_the_same_as_record_by_record(monkeypatch: pytest.MonkeyPatch) -> None:
    page = list(story.grown()[0].read())
    one_by_one, at_once_model = ReadModel(), ReadModel()
    monkeypatch.setattr("muniment.projections.fold.LONG", 0)
    assert decode_page(page) is None
    DRIVER.fold(one_by_one, [page])
    monkeypatch.setattr("muniment.projections.fold.LONG", 10**6)
    DRIVER.fold(at_once_model, [page])
    assert story.digests_of(at_once_model) == story.digests_of(one_by_one)
    at_once = decode_page(page)
    assert at_once is not None
    for fact, (position, body) in zip(at_once, page, strict=True):
        one = decode_fact(body, position)
        for field in ("type", "occurred_at", "recorded_at", "actor", "data", "tags", "evidence", "position"):
            assert getattr(fact, field) == getattr(one, field)
        assert fact.mark() == one.mark()


@pytest.mark.parametrize(
    "change",
    [
        lambda b: [b[0] + b[1], b[2][:-1], b[2][-1:]],
        lambda b: [b[0] + b"\n" + b[1], b[2], b""],
        lambda b: [b[0], b[1][:40], b[1][40:]],
        lambda b: [b[0], b"[" + b[1] + b"]", b[2]],
        lambda b: [b[0], b[1] + b[2], b"{}"],
        lambda b: [b[0], b[1], b[2] + b" "],
        lambda b: [b[0], b'{"a":"}', b'{"}'],
        lambda b: [b[0], b"\xff", b[2]],
    ],
)
def test_a_page_is_not_decoded_at_once_if_a_record_could_be_taken_for_another(change: Any) -> None:
    bodies = [body for _, body in story.grown()[0].read()]
    bodies = sorted(bodies, key=len)[:3]
    assert decode_page(list(enumerate(bodies, 1))) is not None
    assert decode_page(list(enumerate(change(bodies), 1))) is None


@pytest.mark.parametrize("long", [0, 10**6])
@pytest.mark.parametrize("size", [1, 7, 1000])
def test_evidence_without_a_size_stops_the_fold_at_its_record(
    monkeypatch: pytest.MonkeyPatch, size: int, long: int
) -> None:
    monkeypatch.setattr("muniment.projections.fold.LONG", long)
    page = list(story.grown()[0].read())
    at, body = next((p, b) for p, b in page if b'"evidence":[{' in b)
    page[at - 1] = (at, body.replace(b'"bytes":', b'"bytez":'))
    with pytest.raises(Stopped) as stopped:
        DRIVER.fold(ReadModel(), [page[i : i + size] for i in range(0, len(page), size)])
    assert stopped.value.position == at - 1
