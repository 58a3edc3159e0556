"""The `eventsourcing` face of a log: any DCB application of that library can keep its events in one.

1. Position 1 of the (opaque) log is its `store.created` record. The library does not see it: its position n
   is our n + 1, which makes its position the leaf index of the record.
2. The leaf of an event is the canonical JSON of {"data": base64, "tags": as given, "type": …}.
3. A log of kind `records` refuses foreign events (settled.md, 2).

Source: eventsourcing.dcb.api 9.5; its test cases run against this face in `tests/contract`.
"""

from __future__ import annotations

import base64
import os
import uuid
from collections.abc import Iterator, Sequence
from typing import Any

import msgspec
from eventsourcing.dcb.api import (
    DCBAppendCondition,
    DCBEvent,
    DCBQuery,
    DCBReadResponse,
    DCBRecorder,
    DCBSequencedEvent,
    DCBSubscription,
)
from eventsourcing.dcb.persistence import DCBInfrastructureFactory
from eventsourcing.persistence import (
    InfrastructureFactoryError,
    IntegrityError,
    ProgrammingError,
    TrackingRecorder,
)
from muniment.domain import canonical, instant
from muniment.domain.errors import ConflictError, InvalidError, NotFoundError, WrongError
from muniment.domain.query import Item, Query
from muniment.store.admission import CREATED
from muniment.store.api import (
    KIND_OPAQUE,
    SCHEMA_VERSION,
    AppendConflict,
    Condition,
    Draft,
    Log,
)
from muniment.store.base import real_clock
from muniment.store.open import create_log, open_log

HIDDEN = 1  # records before the first event (rule 1)
STORE_KEY = "MUNIMENT_STORE"

_DEFAULT_STORE = ".muniment"


def created_draft(store_id: str, *, kind: str = KIND_OPAQUE, occurred_at: str = "") -> Draft:
    """Return the record at position 1 of a log that is embedded in an application."""
    record_id = _uuid7()
    record = {
        "actor": {"auth": "os", "id": f"uid:{os.getuid()}", "kind": "service"},
        "correlation": record_id,
        "data": {
            "kind": kind,
            "profile": canonical.PROFILE,
            "schema_version": SCHEMA_VERSION,
            "store_id": store_id,
        },
        "id": record_id,
        "occurred_at": occurred_at or instant.from_micros(real_clock()),
        "recorded_at": "",
        "tags": [],
        "type": CREATED,
        "v": 1,
    }
    head, mark, tail = canonical.encode(record).partition(b'"recorded_at":"')
    return Draft(record_id, CREATED, (), head + mark, tail)


class MunimentDCBRecorder(DCBRecorder):
    """A `DCBRecorder` over a log of kind `opaque`; the caller owns the log and closes it.

    Raises:
        InvalidError: a log of another kind, or one whose first record is missing.
    """

    def __init__(self, log: Log) -> None:
        if log.kind != KIND_OPAQUE:
            raise InvalidError(
                "a log of our own records takes no events of another application",
                code="store.kind",
                hint="create a log of kind opaque",
                expected=KIND_OPAQUE,
                found=log.kind,
            )
        if log.head().size == 0:
            raise InvalidError(
                "the log has no store.created record",
                code="store.kind",
                hint="append dcb.created_draft(store_id) first",
            )
        self.log = log

    def read(
        self, query: DCBQuery | None = None, *, after: int | None = None, limit: int | None = None
    ) -> DCBReadResponse:
        """Read events after a position; `head` is that of the log, or of the last event read if limited."""
        until = self.log.head().size
        records = self.log.read(
            _query(query),
            after=_our_position(after),
            until=until,
            limit=None if limit is None else max(limit, 0),
        )
        return _Response(records, until - HIDDEN if limit is None else None)

    def append(self, events: Sequence[DCBEvent], condition: DCBAppendCondition | None = None) -> int:
        """Append events, durable on return, and answer the position of the last.

        Raises:
            IntegrityError: the condition failed.
            ProgrammingError: no events.
            MunimentError: everything else, see `store.api.Log.append`.
        """
        if not events:
            raise ProgrammingError("Should be at least one event. Avoid this elsewhere")
        ours = None
        if condition is not None:
            # The query without items means every event, but not the record we hide: so never before it.
            ours = Condition(_query(condition.fail_if_events_match), _our_position(condition.after))
            ours = self._within(ours)
        try:
            return self.log.append([to_draft(event) for event in events], ours).last - HIDDEN
        except AppendConflict as error:
            raise IntegrityError(condition) from error

    def subscribe(
        self, query: DCBQuery | None = None, *, after: int | None = None
    ) -> DCBSubscription[MunimentDCBRecorder]:
        """Follow the events after a position."""
        return _Subscription(self, query, after)

    def _within(self, condition: Condition) -> Condition:
        # The library allows any number here, also one no event has reached; nothing can match after it yet.
        size = self.log.head().size
        return condition if condition.after <= size else Condition(condition.query, size)


class _Response(DCBReadResponse):
    def __init__(self, records: Iterator[tuple[int, bytes]], head: int | None) -> None:
        self._records = records
        self._limited = head is None
        self._head = head or None  # the library says None of an empty log

    @property
    def head(self) -> int | None:
        return self._head

    def __next__(self) -> DCBSequencedEvent:
        event = _sequenced(next(self._records))
        if self._limited:
            self._head = event.position
        return event


class _Subscription(DCBSubscription[MunimentDCBRecorder]):
    def __init__(self, recorder: MunimentDCBRecorder, query: DCBQuery | None, after: int | None) -> None:
        super().__init__(recorder, query, after)
        self._follower = recorder.log.subscribe(_query(query), after=_our_position(after))

    def __next__(self) -> DCBSequencedEvent:
        return _sequenced(next(self._follower))

    def stop(self) -> None:
        super().stop()
        self._follower.stop()


class Factory(DCBInfrastructureFactory[TrackingRecorder]):
    """Serves `PERSISTENCE_MODULE=muniment.store.sqlite`; `MUNIMENT_STORE` names the store (`.muniment`).

    The log is created at first use.
    """

    _log: Log | None = None

    def dcb_recorder(self) -> DCBRecorder:
        """Open the log, or create it, and return its recorder."""
        if self._log is None:
            log = _open_or_create(self.env.get(STORE_KEY, _DEFAULT_STORE))
            try:
                MunimentDCBRecorder(log)
            except BaseException:
                log.close()
                raise
            self._log = log
        return MunimentDCBRecorder(self._log)

    def tracking_recorder(self, tracking_recorder_class: type[Any] | None = None) -> TrackingRecorder:  # noqa: ARG002
        """Refuse: a log of evidence keeps no cursors of other programs."""
        raise InfrastructureFactoryError("this store keeps no tracking records")

    def close(self) -> None:
        """Close the log."""
        if self._log is not None:
            self._log.close()


def _open_or_create(url: str) -> Log:
    try:
        log = open_log(url)
    except NotFoundError:
        try:
            log = create_log(url, KIND_OPAQUE)
        except ConflictError:  # another process was first
            log = open_log(url)
    if log.kind == KIND_OPAQUE and log.head().size == 0:
        try:
            log.append([created_draft(f"s-{uuid.uuid4().hex}")])
        except InvalidError:
            if log.head().size == 0:
                raise  # else another process was first: its record stands
    return log


def to_draft(event: DCBEvent) -> Draft:
    """The event as it is stored (rule 2)."""
    tags = list(event.tags)
    data = base64.b64encode(event.data).decode()
    leaf = canonical.encode({"data": data, "tags": tags, "type": event.type})
    return Draft(None, event.type, tuple(sorted(set(tags))), leaf, None)


def to_event(leaf: bytes) -> DCBEvent:
    """The event that was stored.

    Raises:
        WrongError: the leaf is not one of an event.
    """
    try:
        value = msgspec.json.decode(leaf, type=_Event)
        return DCBEvent(type=value.type, data=base64.b64decode(value.data, validate=True), tags=value.tags)
    except (msgspec.DecodeError, ValueError) as error:
        raise WrongError(
            "not the leaf of an event", code="store.leaf", found=leaf[:80].decode("utf-8", "replace")
        ) from error


class _Event(msgspec.Struct, forbid_unknown_fields=True):
    type: str
    data: str
    tags: list[str]


def _sequenced(record: tuple[int, bytes]) -> DCBSequencedEvent:
    position, leaf = record
    return DCBSequencedEvent(event=to_event(leaf), position=position - HIDDEN)


def _query(query: DCBQuery | None) -> Query:
    if query is None:
        return ()
    return tuple(Item(tuple(item.types), tuple(item.tags)) for item in query.items)


def _our_position(after: int | None) -> int:
    return max(after or 0, 0) + HIDDEN


def _uuid7() -> str:
    value = real_clock() // 1000 << 80 | int.from_bytes(os.urandom(10), "big")
    value = value & ~(0xF << 76) | 0x7 << 76
    return str(uuid.UUID(int=value & ~(0x3 << 62) | 0x2 << 62))
