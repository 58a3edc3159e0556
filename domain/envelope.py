"""The record around a payload: field order, the two halves a store joins, and reading a record back.

Canonical order is alphabetical, so `recorded_at`, the one field that the store sets, falls between `occurred_at` and
`signature`/`tags`. A draft is therefore one canonical object cut at that place; no byte is encoded twice.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple, cast

import msgspec
from muniment.domain.canonical import check_profile, encode, encode_trusted
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.errors import InvalidError

VERSION = 1
BEFORE = (
    "actor",
    "basis",
    "batch",
    "causation",
    "command",
    "correlation",
    "data",
    "evidence",
    "id",
    "occurred_at",
)
AFTER = ("signature", "tags", "type", "v")
_FIELDS = frozenset((*BEFORE, *AFTER))
_SEAM = b',"recorded_at":"'
_EMPTY = _SEAM + b'"'


class Halves(NamedTuple):
    """Canonical bytes around the value of `recorded_at`."""

    head: bytes
    tail: bytes


def halves(record: dict[str, Any], *, trusted: str = "") -> Halves:
    """Cut a record without `recorded_at` where the store will set it.

    Args:
        record: the members of a record.
        trusted: a member that holds the profile as it was made: the basis, two thirds of the containers of a decided record.

    Raises:
        InvalidError: the record leaves the canonical profile, or has a field that no record has.
    """
    if not _FIELDS.issuperset(record):
        unknown = sorted(record.keys() - _FIELDS)
        raise InvalidError(
            f"no record has a field {unknown[0]}", code="record.field", found=", ".join(unknown)
        )
    check_profile({key: value for key, value in record.items() if key != trusted} if trusted else record)
    # Encoded once, with an empty instant, and cut there. No string holds a bare quote, so the text of the seam is a key; if it
    # is found twice, one is a field of the payload, and the halves are encoded apart.
    whole = encode_trusted({**record, "recorded_at": ""})
    cut = whole.find(_EMPTY) + len(_SEAM)
    if whole.find(_EMPTY, cut) < 0:
        return Halves(whole[:cut], whole[cut:])
    before = encode_trusted({key: record[key] for key in BEFORE if key in record})
    after = encode_trusted({key: record[key] for key in AFTER if key in record})
    return Halves(before[:-1] + _SEAM, b'",' + after[1:])


def signing_bytes(record: Mapping[str, Any]) -> bytes:
    """What a signature covers: the record without `recorded_at` and `signature` (settled.md, 4)."""
    return encode({key: value for key, value in record.items() if key not in ("recorded_at", "signature")})


class Envelope(msgspec.Struct, forbid_unknown_fields=True):
    """Every field a record may have; absent ones are None."""

    v: int
    id: str
    type: str
    tags: list[str]
    occurred_at: str
    recorded_at: str
    actor: dict[str, Any]
    correlation: str
    data: dict[str, Any]
    causation: str | None = None
    command: dict[str, Any] | None = None
    basis: dict[str, Any] | None = None
    batch: dict[str, Any] | None = None
    evidence: list[dict[str, Any]] = []
    signature: dict[str, str] | None = None
    position: int = 0


class Names(msgspec.Struct):
    """What queries match: type and tags of a record."""

    type: str
    tags: list[str]


class _Selected(msgspec.Struct, kw_only=True, gc=False):
    """A fact but for id and `recorded_at`, which no decision reads, its fields in the order of the bytes; evidence as it stands."""

    actor: ActorRef
    data: dict[str, Any]
    raw_evidence: msgspec.Raw = msgspec.field(name="evidence", default=msgspec.Raw(b"[]"))
    occurred_at: str
    tags: list[str] = msgspec.field(default_factory=list)
    type: str
    position: int = 0
    id = recorded_at = ""
    mark = Fact.mark

    @property
    def evidence(self) -> list[dict[str, Any]]:
        """Read when it is asked for: one handler in eighty does.

        Raises:
            InvalidError: it is no list of objects.
        """
        try:
            return _evidence.decode(self.raw_evidence)
        except msgspec.ValidationError as error:
            raise _unreadable(self.position, error) from error


_envelope = msgspec.json.Decoder(Envelope)
_evidence = msgspec.json.Decoder(list[dict[str, Any]])
_selected = msgspec.json.Decoder(_Selected)
_names = msgspec.json.Decoder(Names)
_fact = msgspec.json.Decoder(Fact)


def read(body: bytes, position: int) -> Envelope:
    """Read a whole record.

    Raises:
        InvalidError: not JSON, a missing or unknown field, another record version.
    """
    try:
        found = _envelope.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _unreadable(position, error) from error
    if found.v != VERSION:
        raise InvalidError(
            f"record {position} has version {found.v}", code="record.version", expected=VERSION, found=found.v
        )
    found.position = position
    return found


def read_fact(body: bytes, position: int) -> Fact:
    """Read the part of a record that folds use; bytes were validated when written (architecture.md, section 3).

    Raises:
        InvalidError: the bytes are no record.
    """
    try:
        fact = _fact.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _unreadable(position, error) from error
    fact.position = position
    return fact


def read_facts(rows: Iterable[tuple[int, bytes]]) -> list[Fact]:
    """Read what decisions fold, without `id` and `recorded_at` (both ""): a quarter less time than `read_fact`.

    Raises:
        InvalidError: the bytes at a position are no record.
    """
    facts = []
    decode, position = _selected.decode, 0
    try:
        for position, body in rows:
            fact = decode(body)
            fact.position = position
            facts.append(fact)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _unreadable(position, error) from error
    return cast("list[Fact]", facts)


def read_names(body: bytes, position: int) -> Names:
    """Read type and tags only, in a third of the time of a fact.

    Raises:
        InvalidError: the bytes are no record.
    """
    try:
        return _names.decode(body)
    except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
        raise _unreadable(position, error) from error


def _unreadable(position: int, error: Exception) -> InvalidError:
    return InvalidError(
        f"record {position} cannot be read: {error}", code="record.envelope", hint="muniment verify store"
    )
