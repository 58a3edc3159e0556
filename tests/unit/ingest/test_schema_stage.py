"""`schema:event` asks of a line what `sink:log` does."""

from __future__ import annotations

import pytest
from muniment.app.ingest_schema import SchemaStage
from muniment.domain.errors import InvalidError
from muniment.ring.work import Span


@pytest.mark.parametrize("line", [b'{"type":"t"}', b'{"id":"e"}', b'{"id":1,"type":"t"}', b"[]", b"{"])
def test_a_line_without_id_and_type_is_no_event(line: bytes) -> None:
    good = b'{"id":"e","type":"t"}'
    stage = SchemaStage("event")
    stage.take([good], Span(1, 1, len(good)))
    with pytest.raises(InvalidError, match="message 3 ") as caught:
        stage.take([good, line], Span(2, 2, len(good) + len(line)))
    assert "schema.unfit" == caught.value.code


def test_an_empty_line_is_no_event_and_goes_by_as_at_the_sink() -> None:
    good = b'{"id":"e","type":"t"}'
    stage = SchemaStage("event")
    assert stage.take([b"", good, b""], Span(1, 3, len(good))) is None
    assert stage.summary() == {"messages": 1, "skipped": 2}


@pytest.mark.parametrize("line", [b" ", b"\r", b"\0", b"null"])
def test_a_line_that_only_looks_empty_is_no_event(line: bytes) -> None:
    with pytest.raises(InvalidError, match="message 1 "):
        SchemaStage("event").take([line], Span(1, 1, len(line)))


def test_to_a_type_an_empty_line_is_no_payload() -> None:
    with pytest.raises(InvalidError, match="message 1 ") as caught:
        SchemaStage("build.requested/1").take([b""], Span(1, 1, 0))
    assert caught.value.context["found"] == "an empty line"
