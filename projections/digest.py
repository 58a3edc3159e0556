"""Digests of a state: the full one, and the core digest that two honest logs of the same story share (I12; settled.md, 19).

The core digest leaves out wall-clock fields (`at`, `*_at`, `*_us`), places (`host`, `location`) and attempt ids, and replaces each
position by its order among the positions of the same entity: records of unrelated tags may then stand in any order.

Both are SHA-256 over one canonical document, which is hashed entity by entity and never stands in memory: a part that is
read late (`LateMapping`) is read through once.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterable, Iterator
from typing import Any, Protocol, runtime_checkable

import msgspec
from muniment.domain.canonical import digest as canonical_digest
from muniment.domain.canonical import encode_trusted
from muniment.projections.fold import Projection
from muniment.projections.model import ReadModel

_KEEP, _DROP, _POSITION, _REVOKED, _ACTIVATION = range(1, 6)
_DROPPED = frozenset({"at", "host", "location", "attempt"})
_MAX_KINDS = 10_000

_encode_sorted = msgspec.json.Encoder(order="sorted").encode
_kinds: dict[str, int] = {}


@runtime_checkable
class LateMapping(Protocol):
    """A part of a model that is no dict, because most of it is not in memory."""

    def each(self, order: Callable[[str], Any]) -> Iterator[tuple[str, Any]]:
        """Every id with its entity, ids ordered by `order`; what is read for this is not kept."""
        ...


def full(projection: Projection, model: ReadModel) -> str:
    """`sha256:…` over name, version and whole state. The states are decoded canonical JSON, so no profile check is due."""
    return _digest(projection, model, _encode)


def core(projection: Projection, model: ReadModel) -> str:
    """The same without clocks, places, attempt ids, and with positions as order."""
    return _digest(
        projection, model, lambda entity: encode_trusted(_core_entity(msgspec.to_builtins(entity)))
    )


def combined(digests: dict[str, str]) -> str:
    """One digest over the digests of all projections, by name."""
    return canonical_digest(digests)


def _digest(projection: Projection, model: ReadModel, encode: Callable[[Any], bytes]) -> str:
    """Hash `{"name":…,"state":{part:{id:entity}},"version":…}` as it is written; a part without ids is taken by its fields."""
    found = hashlib.sha256(b'{"name":' + encode_trusted(projection.name) + b',"state":')
    parts = ((part, getattr(model, part)) for part in sorted(projection.parts))
    for data in _object((part, _part(value, encode)) for part, value in parts):
        found.update(data)
    found.update(b',"version":' + encode_trusted(projection.version) + b"}")
    return "sha256:" + found.hexdigest()


def _part(value: Any, encode: Callable[[Any], bytes]) -> Iterator[bytes]:
    if not isinstance(value, LateMapping):
        if isinstance(value, msgspec.Struct):
            value = msgspec.to_builtins(value)
        if not isinstance(value, dict):
            return iter((encode(value),))
        items: Iterable[tuple[str, Any]] = ((key, value[key]) for key in sorted(value, key=_utf16))
    else:
        items = value.each(_utf16)
    return _object((key, (encode(entity),)) for key, entity in items)


def _object(items: Iterable[tuple[str, Iterable[bytes]]]) -> Iterator[bytes]:
    before = b"{"
    for key, values in items:
        yield before + encode_trusted(key) + b":"
        yield from values
        before = b","
    yield b"}" if before == b"," else b"{}"


def _utf16(key: str) -> bytes:
    """RFC 8785, 3.2.3: keys stand in the order of their UTF-16 code units."""
    return key.encode("utf-16-be")


def _encode(entity: Any) -> bytes:
    data = _encode_sorted(entity)
    return data if data.isascii() else encode_trusted(msgspec.to_builtins(entity))


def _core_entity(value: Any) -> Any:
    found: set[int] = set()
    _collect(value, found)
    order = {position: rank for rank, position in enumerate(sorted(found - {0}), 1)}
    order[0] = 0
    return _strip(value, order)


def _kind(key: str) -> int:
    """What a name says about a field; the values below say whether it is so."""
    if key in _DROPPED or key.endswith(("_at", "_us")):
        kind = _DROP
    elif key == "position" or key.endswith("_position"):
        kind = _POSITION
    else:
        # Target.revoked: pack -> position (domain.states); Key.revoked is a Mark.
        # An activation id is the id of one attempt to activate; the struct of that name stays.
        kind = {"revoked": _REVOKED, "activation": _ACTIVATION}.get(key, _KEEP)
    if len(_kinds) < _MAX_KINDS:
        _kinds[key] = kind
    return kind


def _by_pack(item: Any) -> bool:
    return type(item) is dict and "at" not in item and all(type(at) is int for at in item.values())


def _collect(value: Any, found: set[int]) -> None:
    if type(value) is list:
        for item in value:
            _collect(item, found)
    elif type(value) is dict:
        for key, item in value.items():
            type_ = type(item)
            if type_ is int:
                if (_kinds.get(key) or _kind(key)) == _POSITION:
                    found.add(item)
            elif key == "revoked" and _by_pack(item):
                found.update(item.values())
            elif type_ is dict or type_ is list:
                _collect(item, found)


def _strip(value: Any, order: dict[int, int]) -> Any:
    if type(value) is list:
        return [_strip(item, order) for item in value]
    if type(value) is not dict:
        return value
    kept: dict[str, Any] = {}
    for key, item in value.items():
        kind = _kinds.get(key) or _kind(key)
        type_ = type(item)
        if kind == _DROP or (kind == _ACTIVATION and type_ is str):
            continue
        if kind == _POSITION and type_ is int:
            kept[key] = order[item]
        elif kind == _REVOKED and _by_pack(item):
            kept[key] = {pack: order[at] for pack, at in item.items()}
        elif type_ is dict or type_ is list:
            kept[key] = _strip(item, order)
        else:
            kept[key] = item
    return kept
