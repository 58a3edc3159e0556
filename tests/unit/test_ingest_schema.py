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
