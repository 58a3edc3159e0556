"""Read many records of one type at once, strictly: a fast way to know that nothing is wrong with them, and no more.

1. `Reader.read` returns rows only if every body is, byte for byte, the canonical encoding of a record of version 1 with the
   fields of its type: it decodes into closed structs whose fields stand in canonical order, encodes again and compares.
2. It returns None for whatever it does not understand. That is no finding: the caller looks at each record by itself then.
3. No float and no integer beyond 2^53-1 fits the structs. What a payload leaves open is kept raw, decoded as a tree, encoded
   and compared on its own.

Measured, in place of each record by itself: a whole verification of 20 000 records is 1 to 4 % shorter, no more.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from functools import lru_cache
from itertools import pairwise
from operator import attrgetter
from typing import Annotated, Any, Literal, get_args, get_origin

import msgspec
from muniment.domain.canonical import MAX_INT
from muniment.domain.records import PREFIXES, TABLE
from muniment.domain.reference import scope_tag, subject_tags
from pydantic import BaseModel

_INT = Annotated[int, msgspec.Meta(ge=-MAX_INT, le=MAX_INT)]
_ASTRAL = tuple(bytes((lead,)) for lead in range(0xF0, 0xF5))  # RFC 8785 may sort keys with these otherwise
_encode = msgspec.json.Encoder(order="deterministic").encode_lines
_long_number = re.compile(rb'(?:":|[,\[\n])-?[0-9]{16}').search  # or a text that looks so: rule 2


def _no_float(text: str) -> float:
    raise msgspec.ValidationError(f"a number that is no integer: {text[:40]}")


_decode_any = msgspec.json.Decoder(float_hook=_no_float).decode_lines


class _Actor(msgspec.Struct, forbid_unknown_fields=True, gc=False):
    auth: str
    id: str
    kind: str


def _type_of(annotation: Any) -> Any:
    """The msgspec type that holds what a payload annotation allows; wider is fine (rule 2). What has no closed form is raw."""
    origin, args = get_origin(annotation), get_args(annotation)
    if origin is Annotated:
        return _type_of(args[0])
    if origin is list:
        inner = _type_of(args[0])
        return msgspec.Raw if inner is msgspec.Raw else list[inner]  # type: ignore[valid-type]
    if annotation in (str, bool):
        return annotation
    if annotation is int:
        return _INT
    if origin is Literal and all(type(value) is str for value in args):
        return str
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        fields = _fields_of(annotation)
        return msgspec.Raw if any(_is_raw(kind) for _, kind, _ in fields) else _define(annotation, fields)
    return msgspec.Raw


def _is_raw(kind: Any) -> bool:
    return kind is msgspec.Raw or msgspec.Raw in get_args(kind)


def _fields_of(model: type[BaseModel]) -> list[tuple[str, Any, Any]]:
    fields: list[tuple[str, Any, Any]] = []
    for alias, name, info in sorted((f.alias or name, name, f) for name, f in model.model_fields.items()):
        kind = _type_of(info.annotation)
        if info.is_required():
            fields.append((name, kind, msgspec.field(name=alias)))
        else:
            fields.append((name, kind | msgspec.UnsetType, msgspec.field(default=msgspec.UNSET, name=alias)))
    return fields


def _define(model: type[BaseModel], fields: list[tuple[str, Any, Any]]) -> Any:
    return msgspec.defstruct(model.__name__, fields, kw_only=True, forbid_unknown_fields=True, gc=False)


def _record(type_: str, data: Any) -> Any:
    absent, unset = msgspec.UNSET, msgspec.UnsetType
    raw = msgspec.Raw | unset
    fields: list[Any] = [  # in canonical order
        ("actor", _Actor),
        ("basis", raw, absent),
        ("batch", raw, absent),
        ("causation", str | unset, absent),
        ("command", raw, absent),
        ("correlation", str),
        ("data", data),
        ("evidence", list[dict[str, str | _INT]] | unset, absent),
        ("id", str),
        ("occurred_at", str),
        ("recorded_at", str),
        ("signature", dict[str, str] | unset, absent),
        ("tags", tuple[str, ...]),
        ("type", Literal[type_]),
        ("v", Literal[1]),
    ]
    return msgspec.defstruct("Row", fields, kw_only=True, forbid_unknown_fields=True, gc=False)


class _Scopes(dict[str, str]):
    """Scope, channel or slot -> its tag; there are few."""

    def __missing__(self, name: str) -> str:
        tag = scope_tag(name)
        if len(self) < 10_000:
            self[name] = tag
        return tag


_scopes = _Scopes()


class Reader:
    """Records of one type."""

    def __init__(self, type_: str) -> None:
        fields = _fields_of(TABLE[type_].payload)
        data = _define(TABLE[type_].payload, fields)
        self._decode = msgspec.json.Decoder(_record(type_, data)).decode_lines
        self._raw = [attrgetter(f"data.{name}") for name, kind, _ in fields if _is_raw(kind)]
        self._raw += map(attrgetter, ("basis", "batch", "command"))
        self._constant: list[str] = []
        self._fields: list[tuple[str, str]] = []  # (field, prefix), "" for what scope_tag makes
        self._many: list[tuple[str, str]] = []
        self._subject = False
        for field in TABLE[type_].tags.split():
            if field in ("*", "incident:*"):
                self._constant.append("scope:*" if field == "*" else field)
            elif field in ("slots", "releases"):
                self._many.append((field, f"{field[:-1]}:"))
            elif field == "subject":
                self._subject = True
            else:
                self._fields.append((field, f"{PREFIXES[field]}:" if field in PREFIXES else ""))
        # In the order in which their tags are sorted, mostly; where not, `_held` decides.
        self._fields.sort(key=lambda item: item[1] or item[0])
        spans = [(tag, tag) for tag in self._constant]
        spans += [(prefix or "scope:", prefix or "slot:") for _, prefix in self._fields]
        self._in_order = not (self._many or self._subject) and all(
            a[1] < b[0] for a, b in pairwise(spans)
        )  # else each is looked at
        self._bare = frozenset(prefix or "scope:" for _, prefix in self._fields)

    def read(self, bodies: Sequence[bytes]) -> list[Any] | None:
        """The rows, or None if it is not certain that all are canonical and of this type (rules 1 and 2)."""
        joined = b"\n".join(bodies) + b"\n"
        if not joined.isascii() and any(lead in joined for lead in _ASTRAL):
            return None
        try:
            rows: list[Any] = self._decode(joined)
            # A line break is in no canonical record, so equal bytes and equal number give equal records one by one.
            good = len(rows) == len(bodies) and _encode(rows) == joined and self._raw_good(rows)
        except (msgspec.MsgspecError, UnicodeError, TypeError, OverflowError, RecursionError):
            return None
        return rows if good else None

    def _raw_good(self, rows: list[Any]) -> bool:
        for get in self._raw:
            parts = [raw for raw in map(get, rows) if raw is not msgspec.UNSET]
            if parts:
                joined = b"\n".join(parts) + b"\n"
                trees = _decode_any(joined)
                if len(trees) != len(parts) or _encode(trees) != joined or _long_number(b"\n" + joined):
                    return False
        return True

    def tagged(self, rows: Sequence[Any]) -> bool:
        """Tell whether each carries the tags of its payload, and its tags are sorted and distinct."""
        tags = [row.tags for row in rows]
        try:
            expected = self._expected([row.data for row in rows])
        except (TypeError, AttributeError):
            return False  # absent, null or sealed
        if expected == tags:
            return self._in_order or all(map(_ascending, tags))
        return all(self._held(wanted, found) for wanted, found in zip(expected, tags, strict=True))

    def _expected(self, payloads: Sequence[Any]) -> list[tuple[str, ...]]:
        columns: list[Iterable[str]] = [[tag] * len(payloads) for tag in self._constant]
        for field, prefix in self._fields:
            values = map(attrgetter(field), payloads)
            columns.append(
                [prefix + value for value in values] if prefix else [_scopes[value] for value in values]
            )
        expected: list[tuple[str, ...]] = [()] * len(payloads)
        if columns:
            expected = list(zip(*columns, strict=True))
        for field, prefix in self._many:
            add = prefix.__add__
            expected = [
                fixed + tuple(map(add, sorted(getattr(data, field))))
                for fixed, data in zip(expected, payloads, strict=True)
            ]
        if self._subject:  # each of its tags stands before `source:`
            expected = [
                subject_tags(data.subject) + fixed for fixed, data in zip(expected, payloads, strict=True)
            ]
        return expected

    def _held(self, expected: tuple[str, ...], tags: tuple[str, ...]) -> bool:
        """More tags than the payload makes are allowed; an empty value makes none, here it has made a bare prefix."""
        held = set(tags)
        if list(tags) != sorted(held):
            return False
        return held.issuperset(tag for tag in expected if tag not in self._bare)


def _ascending(tags: tuple[str, ...]) -> bool:
    count = len(tags)
    if count == 3:
        return tags[0] < tags[1] < tags[2]
    if count == 2:
        return tags[0] < tags[1]
    return count < 2 or list(tags) == sorted(set(tags))


@lru_cache
def reader(type_: str) -> Reader | None:
    """The reader of a type, None if the registry has no such type. Made once: 0.25 ms."""
    return Reader(type_) if type_ in TABLE else None
