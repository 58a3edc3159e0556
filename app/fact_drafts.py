"""Foreign events as records `fact.imported/1`: the hot path of a pipeline into the log.

What all facts of a run share is encoded once; a fact is one encoding of its payload, spliced between those pieces. The bytes are
those of `domain.envelope.halves`, which a test compares. Measured: 4.4 us a fact with 250 bytes of body, half of it for the id.
"""

from __future__ import annotations

from collections.abc import Sequence
from hashlib import sha256
from typing import Any

import msgspec
from muniment.app import ids
from muniment.domain.canonical import encode_trusted
from muniment.domain.decision import ActorRef
from muniment.domain.errors import InvalidError
from muniment.domain.payloads_runtime import MAX_BODY
from muniment.domain.records import validate
from muniment.domain.reference import subject_tags
from muniment.store.api import MAX_RECORD, Draft

TYPE = "fact.imported/1"
MEDIA_TYPE = "application/json"
_TAIL = b',"type":"fact.imported/1","v":1}'
_MAX_SOURCES = 1000


class _Data(msgspec.Struct, gc=False):
    """The payload, its fields in canonical order."""

    body: str
    body_sha256: str
    event_id: str
    event_type: str
    media_type: str
    source: str
    subject: str
    time: str


_encode = msgspec.json.Encoder().encode


def fact_id(source: str, event_id: str) -> str:
    """The record id of a foreign event: the same event has the same id whenever it comes (UUIDv8, RFC 9562, section 5.8).

    Raises:
        InvalidError: text that is not Unicode.
    """
    try:
        digest = sha256(f"{len(source)}:{source}{event_id}".encode()).hexdigest()
    except UnicodeEncodeError as error:
        raise InvalidError(f"not Unicode: {error}", code="record.payload", field="event_id") from error
    variant = "89ab"[int(digest[16], 16) & 3]
    return f"{digest[:8]}-{digest[8:12]}-8{digest[13:16]}-{variant}{digest[17:20]}-{digest[20:32]}"


class FactDrafts:
    """Makes drafts of foreign events for one run.

    Args:
        actor: who imports; a fact is not signed.
        correlation: one id for the whole run; by default a new one.
    """

    def __init__(self, actor: ActorRef, correlation: str = "") -> None:
        front = {"actor": msgspec.to_builtins(actor), "correlation": correlation or ids.uuid7()}
        self._front = encode_trusted(front)[:-1] + b',"data":'
        self._tails: dict[str, tuple[tuple[str, ...], bytes]] = {}

    def draft(
        self,
        *,
        source: str,
        event_id: str,
        event_type: str,
        body: str,
        at: str,
        subject: str = "",
        time: str = "",
        media_type: str = MEDIA_TYPE,
        body_sha256: str = "",
        evidence: Sequence[dict[str, Any]] = (),
        id_: str = "",
    ) -> Draft:
        """One event.

        Args:
            at: the instant it is imported at, as records have it.
            body: the event as it came; "" if it is evidence, which `body_sha256` and `evidence` then name.
            id_: its record id, if `fact_id` was asked already.

        Raises:
            InvalidError: a field that does not fit its schema, or a record that would be too large; exit 10.
        """
        data = _Data(body, body_sha256, event_id, event_type, media_type, source, subject, time)
        if not (
            0 < len(source) <= 512
            and 0 < len(event_id) <= 512
            and 0 < len(event_type) <= 200
            and 0 < len(media_type) <= 200
            and len(subject) <= 512
            and len(time) <= 64
            and len(body) <= MAX_BODY
            and not body_sha256
        ):
            validate(TYPE, msgspec.to_builtins(data))
        try:
            payload = _encode(data)
        except UnicodeEncodeError as error:
            raise InvalidError(f"not Unicode: {error}", code="record.payload", field="body") from error
        tags, tail = self._tagged(source, subject)
        id_ = id_ or fact_id(source, event_id)
        more = b',"evidence":' + encode_trusted(list(evidence)) if evidence else b""
        named = f',"id":"{id_}","occurred_at":"{at}","recorded_at":"'.encode()
        head = b"".join((self._front, payload, more, named))
        if len(head) + len(at) + len(tail) > MAX_RECORD:
            raise InvalidError(
                f"event {event_id[:80]!r} makes a record of over {MAX_RECORD} bytes",
                code="record.size",
                expected=f"at most {MAX_RECORD}",
                found=len(head) + len(at) + len(tail),
                hint="keep its bytes as evidence",
            )
        return Draft(id_, TYPE, tags, head, tail)

    def _tagged(self, source: str, subject: str) -> tuple[tuple[str, ...], bytes]:
        """Tags and the bytes from them on; those without a reference, one for each source, are kept."""
        named = subject_tags(subject) if subject else ()
        if not named and (known := self._tails.get(source)) is not None:
            return known
        tags = (*named, f"source:{source}")  # sorted: each kind of reference stands before `source`
        made = tags, b'","tags":' + encode_trusted(tags) + _TAIL
        if not named and len(self._tails) < _MAX_SOURCES:
            self._tails[source] = made
        return made
