"""The closed registry, the record around a payload, and the machines that have no dead end."""

from __future__ import annotations

from typing import Any

import jsonschema
import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.domain.canonical import encode
from muniment.domain.commands import COMMANDS, DECIDERS, from_record
from muniment.domain.envelope import AFTER, BEFORE, halves, read, read_fact, signing_bytes
from muniment.domain.errors import InvalidError
from muniment.domain.folding import FOLD
from muniment.domain.records import TABLE, field_tags, schemas, tags_of, validate

# No command decides these: the handler makes the one, the clock check the other.
UNDECIDED = {
    "command.refused/1": "any refused command",
    "clock.jump_observed/1": "any command after a boot",
    "runtime.spec_validated/1": "validate",
    "runtime.spec_rejected/1": "validate",
    "runtime.host_checked/1": "doctor",
    "runtime.run_started/1": "run",
    "runtime.run_ended/1": "run",
    "runtime.snapshot_captured/1": "snapshot, run",
    "runtime.heartbeat_recorded/1": "run",
    "runtime.batch_acknowledged/1": "run",
    "fact.imported/1": "run",
}
STATELESS = {
    "store.created/1",
    "store.maintenance_declared/1",
    "clock.jump_observed/1",
    "clock.jump_accepted/1",
    "release.soaked/1",
    "rollback.no_candidate/1",
    "command.refused/1",
    *(type_ for type_ in TABLE if type_.startswith("runtime.")),
    "fact.imported/1",
}
# Every non-terminal state and the commands that leave it (release-rules.md, section 4).
EXITS = {
    "build GATING": "build.gate build.waive build.finish build.cancel",
    "build GATED": "pack.create build.finish build.cancel",
    "build COMPILED": "build.reproduce build.finish build.cancel",
    "pack ELIGIBLE": "pack.block pack.withdraw",
    "pack BLOCKED": "pack.unblock pack.withdraw",
    "release DRAFT": "release.start",
    "release RUNNING": "release.promote release.complete release.pause release.abort",
    "release PAUSED": "release.resume release.abort",
    "release ABORTING": "activation.confirm activation.revert rollback",
    "activation PLANNED": "activation.step activation.fail",
    "activation FETCHED": "activation.verified activation.fail",
    "activation VERIFIED": "activation.step activation.fail",
    "activation STAGED": "activation.switch activation.fail",
    "activation SWITCHED": "activation.confirm activation.revert",
    "target ROLLING_BACK": "activation.switch rollback",
    "target STUCK": "slot.unstick",
    "incident DECLARED": "incident.contain incident.resolve",
    "incident CONTAINED": "incident.resolve",
    "incident RESOLVED": "incident.close",
    "incident IN_REVIEW": "incident.close",
}
RECORD = {
    "v": 1,
    "id": "01890000-0000-7000-8000-000000000000",
    "type": "policy.published/1",
    "tags": ["scope:*"],
    "occurred_at": "2026-01-01T00:00:00.000000Z",
    "actor": {"id": "a", "kind": "human", "auth": "os"},
    "correlation": "c",
    "data": {"ä": "\U0001f600", "n": 1},
}


@pytest.mark.parametrize("type_", sorted(TABLE))
def test_every_event_has_a_command_that_makes_it(type_: str) -> None:
    makers = TABLE[type_].command
    if type_ in UNDECIDED:
        assert UNDECIDED[type_] == makers
    else:
        assert set(makers.replace(" (refused)", "").split(", ")) <= set(COMMANDS)


def test_every_command_makes_something() -> None:
    made = {name for row in TABLE.values() for name in row.command.replace(" (refused)", "").split(", ")}
    assert set(COMMANDS) <= made
    assert set(COMMANDS.values()) == set(DECIDERS)


def test_every_state_has_an_exit() -> None:
    assert not {
        state: exits for state, exits in EXITS.items() if not exits or set(exits.split()) - set(COMMANDS)
    }


def test_every_type_is_folded_or_known_to_change_no_state() -> None:
    assert set(TABLE) == set(FOLD) | STATELESS
    assert not set(FOLD) & STATELESS


@pytest.mark.parametrize("type_", sorted(TABLE))
def test_schemas_are_valid_and_closed(type_: str) -> None:
    schema = schemas()[type_]
    jsonschema.Draft202012Validator.check_schema(schema)
    assert schema["additionalProperties"] is False
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate({"surplus": 1}, schema)


@pytest.mark.parametrize(
    ("type_", "data", "code"),
    [
        ("pack.pinned/1", {}, "record.type_unknown"),
        ("pack.withdrawn/2", {}, "record.type_unknown"),
        ("pack.withdrawn", {}, "record.type_unknown"),
        ("build.cancelled/1", {"build": "b"}, "record.payload"),
        ("build.cancelled/1", {"build": "b", "reason": "", "more": 1}, "record.payload"),
        ("build.cancelled/1", {"build": "B", "reason": ""}, "record.payload"),
        ("build.cancelled/1", {"build": 1, "reason": ""}, "record.payload"),
        ("build.cancelled/1", {"build": "b\n", "reason": ""}, "record.payload"),
        ("clock.jump_accepted/1", {"seconds": True, "reason": ""}, "record.payload"),
        ("clock.jump_accepted/1", {"seconds": 1.0, "reason": ""}, "record.payload"),
        ("clock.jump_accepted/1", {"seconds": 2**53, "reason": ""}, "record.payload"),
    ],
)
def test_what_is_not_in_the_table_is_refused(type_: str, data: Any, code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        validate(type_, data)
    assert (code, 10) == (caught.value.code, caught.value.exit_code)
    assert caught.value.hint


def test_every_id_a_record_names_is_a_tag() -> None:
    """settled.md, 6."""
    assert {"slot:a/b/c"} == set(field_tags("scope", "a/b/c"))
    assert {"scope:a/b"} == set(field_tags("channel", "a/b"))
    assert {"pack:x"} == set(field_tags("failing", "x"))
    assert {"release:r1", "release:r2"} == set(field_tags("releases", ["r1", "r2"]))
    assert set() == set(field_tags("pack", ""))
    assert set() == set(field_tags("reason", "x"))
    named = {
        "build",
        "pack",
        "product",
        "release",
        "slot",
        "target",
        "incident",
        "key_id",
        "policy",
        "scope",
        "channel",
    }
    for type_, row in TABLE.items():
        if type_ not in ("pack.reverified/1", "command.refused/1"):  # there `policy` is a digest
            assert named & set(row.payload.model_fields) <= set(row.tags.split()), type_
    assert {"scope:*", "scope:prod/stable"} == tags_of("channel.declared/1", {"channel": "prod/stable"})


# -- the record around it ----------------------------------------------------------------------------------------------


def joined(record: dict[str, Any], recorded_at: str) -> bytes:
    head, tail = halves(record)
    return head + recorded_at.encode() + tail


OPTIONAL = {
    "signature": {"alg": "ed25519"},
    "causation": "c",
    "command": {"name": "x", "args": {}},
    "basis": {"after": 0},
    "batch": {"index": 0},
    "evidence": [],
}


@given(st.sets(st.sampled_from(sorted(OPTIONAL))), st.text(st.characters(exclude_categories=["Cs"])))
def test_the_halves_join_to_the_canonical_record(fields: set[str], text: str) -> None:
    record = RECORD | {name: OPTIONAL[name] for name in fields} | {"data": {text: text}}
    at = "2026-01-01T00:00:01.000000Z"
    assert encode({**record, "recorded_at": at}) == joined(record, at)


def test_halves_refuse_what_no_record_has() -> None:
    for name in ("surplus", "recorded_at", "position"):
        with pytest.raises(InvalidError):
            halves({**RECORD, name: "x"})
    with pytest.raises(InvalidError):
        halves({**RECORD, "data": {"x": 1.5}})
    assert "recorded_at" not in (*BEFORE, *AFTER)


def test_a_signature_covers_all_but_itself_and_the_stores_time() -> None:
    bare = signing_bytes(RECORD)
    assert bare == signing_bytes({**RECORD, "recorded_at": "x", "signature": {"alg": "y"}})
    for name in RECORD:
        assert bare != signing_bytes({**RECORD, name: "changed"})


@pytest.mark.parametrize(
    "change",
    [{"v": 2}, {"surplus": 1}, {"tags": "x"}, {"data": []}, {"id": None}],
)
def test_a_record_of_another_form_is_not_read(change: dict[str, Any]) -> None:
    body = encode({**RECORD, "recorded_at": "x", **change})
    with pytest.raises(InvalidError):
        read(body, 1)


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b'{"type":1}', b"\xff"])
def test_bytes_that_are_no_record(body: bytes) -> None:
    for reader in (read, read_fact):
        with pytest.raises(InvalidError):
            reader(body, 1)


def test_a_recorded_command_reads_back_or_is_refused() -> None:
    assert COMMANDS["release.start"]("r") == from_record("release.start", {"release": "r"})
    for name, args in (("release.begin", {}), ("release.start", {}), ("release.start", {"release": 1})):
        with pytest.raises(InvalidError):
            from_record(name, args)


def test_reading_gives_what_was_written() -> None:
    envelope = read(joined(RECORD, "2026-01-01T00:00:01.000000Z"), 7)
    assert (7, RECORD["data"]) == (envelope.position, envelope.data)
    assert msgspec.json.decode(joined(RECORD, "t"))["recorded_at"] == "t"
