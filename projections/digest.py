"""Digests of a state: the full one, and the core digest that two honest logs of the same story share (I12; settled.md, 19).

The core digest leaves out wall-clock fields (`at`, `*_at`, `*_us`), places (`host`, `location`) and attempt ids, and replaces each
position by its order among the positions of the same entity: records of unrelated tags may then stand in any order.
"""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
from muniment.domain.canonical import digest as canonical_digest
from muniment.domain.canonical import encode_trusted
from muniment.projections.fold import Projection
from muniment.projections.model import ReadModel

_DROPPED = frozenset({"at", "host", "location", "attempt"})


def state(projection: Projection, model: ReadModel) -> dict[str, Any]:
    """The parts a projection owns, as JSON values."""
    return {part: msgspec.to_builtins(getattr(model, part)) for part in projection.parts}


def full(projection: Projection, model: ReadModel) -> str:
    """`sha256:…` over name, version and whole state. The states are decoded canonical JSON, so no profile check is due."""
    return _digest(
        {"name": projection.name, "state": state(projection, model), "version": projection.version}
    )


def core(projection: Projection, model: ReadModel) -> str:
    """The same without clocks, places, attempt ids, and with positions as order."""
    parts = {
        part: {key: _core_entity(item) for key, item in value.items()}
        if isinstance(value, dict)
        else _core_entity(value)
        for part, value in state(projection, model).items()
    }
    return _digest({"name": projection.name, "state": parts, "version": projection.version})


def combined(digests: dict[str, str]) -> str:
    """One digest over the digests of all projections, by name."""
    return canonical_digest(digests)


def _digest(value: Any) -> str:
    return "sha256:" + hashlib.sha256(encode_trusted(value)).hexdigest()


def _core_entity(value: Any) -> Any:
    found: set[int] = set()
    _collect(value, found)
    order = {position: rank for rank, position in enumerate(sorted(found - {0}), 1)}
    order[0] = 0
    return _strip(value, order)


def _is_position(key: str, value: Any) -> bool:
    return type(value) is int and (key == "position" or key.endswith("_position"))


def _positions_by_pack(key: str, value: Any) -> bool:
    # Target.revoked: pack -> position (domain.states); Key.revoked is a Mark.
    return key == "revoked" and isinstance(value, dict) and all(type(item) is int for item in value.values())


def _collect(value: Any, found: set[int]) -> None:
    if isinstance(value, dict):
        for key, item in value.items():
            if _is_position(key, item):
                found.add(item)
            elif _positions_by_pack(key, item) and "at" not in item:
                found.update(item.values())
            else:
                _collect(item, found)
    elif isinstance(value, list):
        for item in value:
            _collect(item, found)


def _strip(value: Any, order: dict[int, int]) -> Any:
    if isinstance(value, dict):
        return {
            key: order[item]
            if _is_position(key, item)
            else {pack: order[at] for pack, at in item.items()}
            if _positions_by_pack(key, item) and "at" not in item
            else _strip(item, order)
            for key, item in value.items()
            if not _is_dropped(key, item)
        }
    if isinstance(value, list):
        return [_strip(item, order) for item in value]
    return value


def _is_dropped(key: str, value: Any) -> bool:
    # An activation id is the id of one attempt to activate; the struct of that name stays.
    return key in _DROPPED or key.endswith(("_at", "_us")) or (key == "activation" and isinstance(value, str))
