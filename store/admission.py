"""What a draft must be before a store looks at it, and when two records are one (settled.md, 2, 3, 9)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import msgspec
from muniment.domain import canonical
from muniment.domain.errors import InvalidError
from muniment.store.api import (
    DECISION_MAX_AGE_US,
    KIND_RECORDS,
    MAX_RECORD,
    AppendConflict,
    Condition,
    Draft,
    StaleDecision,
)

CREATED = "store.created/1"
INSTANT_BYTES = 27

# Set anew by the store or by a retry of the same command: no part of what a record says (settled.md, 9).
_VOLATILE = ("basis", "occurred_at", "recorded_at", "signature")

# The id column holds 16 bytes; only this one spelling comes back from them, so no other is let in.
_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch


MAX_TYPE = 1000  # bytes: a type is an entry of a B-tree in PostgreSQL, which holds 2 704


def is_record_id(id_: str) -> bool:
    """Tell whether a text is the one spelling of an id that a record may have."""
    return _uuid(id_) is not None


@lru_cache(4096)
def _is_type(type_: str) -> bool:
    # What one store's index refuses, none takes: index rows are written many appends later, and would fail them all.
    return type_ != "" and "\0" not in type_ and _is_utf8(type_) and len(type_.encode()) <= MAX_TYPE


def _is_utf8(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:  # a lone surrogate
        return False
    return True


def check(drafts: Sequence[Draft], kind: str) -> None:
    """Refuse drafts that no state of the log would admit.

    Raises:
        InvalidError: no draft, wrong kind, malformed id, a type or tag that no index could hold, tags not sorted and
            distinct, over 65 535 bytes.
        AppendConflict: one id twice in the batch.
    """
    if not drafts:
        raise InvalidError("an append needs at least one record", code="store.empty_append")
    for draft in drafts:
        id_, type_, tags, head, tail = draft
        if tail is None:
            if kind == KIND_RECORDS:
                raise _wrong_kind(draft, kind)
            length = len(head)
        else:
            if id_ is None or (kind != KIND_RECORDS and type_ != CREATED):
                raise _wrong_kind(draft, kind)
            length = len(head) + INSTANT_BYTES + len(tail)
        if length > MAX_RECORD:
            check_length(length, type_)
        if id_ is not None and not _uuid(id_):
            raise InvalidError(
                f"not a record id: {id_[:60]!r}", code="store.record_id", expected="a lower-case UUID"
            )
        if not _is_type(type_):
            raise InvalidError(
                f"not a type: {type_[:60]!r}",
                code="store.type",
                expected=f"1 to {MAX_TYPE} bytes of UTF-8, no NUL",
            )
        before: str | None = None
        for tag in tags:
            if not tag.isascii() and not _is_utf8(tag):
                raise InvalidError(f"not a tag: {tag[:60]!r}", code="store.tags", expected="UTF-8")
            if before is not None and tag <= before:
                raise InvalidError(
                    f"tags of a {type_} are not sorted and distinct", code="store.tags", found=list(tags)
                )
            before = tag
    if len(drafts) > 1:
        ids = [draft.id for draft in drafts if draft.id is not None]
        if len(set(ids)) != len(ids):
            raise AppendConflict("one record id twice in a batch", code="store.id_reused")


def check_length(length: int, type_: str = "unknown") -> None:
    """Refuse a record that no exported tile could hold (settled.md, 3).

    Raises:
        InvalidError: over 65 535 bytes.
    """
    if length > MAX_RECORD:
        raise InvalidError(
            f"record of type {type_} is too large",
            code="store.record_size",
            hint="keep the bytes as evidence and name their digest",
            expected=f"at most {MAX_RECORD} bytes",
            found=length,
        )


def check_place(drafts: Sequence[Draft], kind: str, size: int) -> None:
    """Demand that an opaque log begins with its `store.created` record and holds no other of ours.

    Raises:
        InvalidError: see above.
    """
    if kind == KIND_RECORDS:
        return
    foreign = [draft.tail is None for draft in drafts]
    if foreign != [size > 0] * len(drafts) or (size == 0 and len(drafts) > 1):
        raise InvalidError(
            "position 1 of an opaque log, and no other, is its store.created record",
            code="store.kind",
            expected="store.created/1" if size == 0 else "foreign events",
            found=drafts[0].type,
        )


def check_age(decided_at: int | None, now: int) -> None:
    """Refuse a decision older than five seconds by the raw clock (settled.md, 1).

    The clamped `recorded_at` must not be used: after one record in 2099 every decision would be stale.

    Raises:
        StaleDecision: decide again.
    """
    if decided_at is not None and now - decided_at > DECISION_MAX_AGE_US:
        raise StaleDecision(
            "the decision is too old to be appended",
            hint="decide again",
            expected=f"at most {DECISION_MAX_AGE_US // 1_000_000} s",
            found=f"{(now - decided_at) / 1_000_000:.3f} s",
        )


def check_ahead(condition: Condition, size: int) -> None:
    """Refuse a decision made at a position the log has not reached: it was made on another log.

    Raises:
        AppendConflict: decide again, on this log.
    """
    if condition.after > size:
        raise AppendConflict(
            "the decision was made at a position this log has not reached",
            code="store.ahead",
            hint="was the store restored from a copy?",
            expected=f"at most {size}",
            found=condition.after,
        )


def check_size(size: int, expected: int | None) -> None:
    """Demand that a log ends where records are to be adopted.

    Raises:
        AppendConflict: somebody else has written.
    """
    if expected is not None and size != expected:
        raise AppendConflict(
            "the log does not end where the records are to go",
            code="store.size",
            hint="does another copy write to it?",
            expected=f"{expected} records",
            found=f"{size} records",
        )


def id_known() -> AppendConflict:
    """The error for a record to be adopted whose id is in the log."""
    return AppendConflict("a record id is in the log already", code="store.id_reused")


def conflict(position: int, after: int) -> AppendConflict:
    """The error for a broken condition; `position` is one record that breaks it."""
    return AppendConflict(
        f"a record at position {position} has changed what was decided on at position {after}",
        hint="decide again",
        position=position,
        after=after,
    )


def same_content(draft: Draft, stored: bytes) -> bool:
    """Tell whether a stored record says what the draft says, whenever it was decided and recorded."""
    instant = "0" * INSTANT_BYTES
    return _content(draft.leaf(instant)) == _content(stored)


def recorded_at_of(record: bytes) -> str:
    """The instant inside a stored record; "" in one of an opaque log."""
    found = msgspec.json.decode(record).get("recorded_at", "")
    return found if isinstance(found, str) else ""


def duplicate(
    drafts: Sequence[Draft], found: Sequence[tuple[int, bytes] | None]
) -> tuple[int, int, str] | None:
    """Judge an append whose ids may be in the log already.

    Args:
        drafts: what is to be appended.
        found: for each draft the (position, bytes) of the record with its id, or None.

    Returns:
        First and last position and `recorded_at` of the same append done earlier; None if no id is known.

    Raises:
        AppendConflict: an id is reused with other content, or only a part of the batch is there.
    """
    known = [entry for entry in found if entry is not None]
    if not known:
        return None
    if len(known) < len(drafts):
        raise AppendConflict(
            "a part of the batch is in the log already",
            code="store.partly_present",
            expected=f"none or all of {len(drafts)}",
            found=f"{len(known)}, the first at position {known[0][0]}",
        )
    for draft, (position, stored) in zip(drafts, known, strict=True):
        if not same_content(draft, stored):
            raise AppendConflict(
                f"record id {draft.id} is used at position {position} with other content",
                code="store.id_reused",
                position=position,
            )
    first, last = known[0][0], known[-1][0]
    if [position for position, _ in known] != list(range(first, first + len(known))):
        raise AppendConflict(
            "the records of the batch are in the log, but not as one batch",
            code="store.partly_present",
            found=f"positions {first} to {last}",
        )
    return first, last, recorded_at_of(known[-1][1])


def _content(record: bytes) -> bytes:
    try:
        value: Any = msgspec.json.decode(record)
    except msgspec.DecodeError:
        return record
    if isinstance(value, dict):
        for name in _VOLATILE:
            value.pop(name, None)
    return canonical.encode_trusted(value)


def _wrong_kind(draft: Draft, kind: str) -> InvalidError:
    return InvalidError(
        f"a log of kind {kind} does not take a record such as {draft.type}",
        code="store.kind",
        expected="a record with an id" if kind == KIND_RECORDS else "an opaque event",
        found="an opaque event" if draft.tail is None else f"a record with id {draft.id}",
    )
