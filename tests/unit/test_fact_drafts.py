"""Drafts of foreign events: byte for byte what any other record is, and which events are refused."""

from __future__ import annotations

import json
import uuid

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.app.fact_drafts import TYPE, FactDrafts, fact_id
from muniment.domain.decision import ActorRef
from muniment.domain.envelope import halves
from muniment.domain.errors import InvalidError
from muniment.domain.records import tags_of, validate
from runtime_samples import AT, FACT, SHA, without_sha

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
