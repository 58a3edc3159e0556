"""Idempotency keys: what was asked under a key is found by it, and the same question is told from another (settled.md, 9)."""

from __future__ import annotations

import hashlib
from typing import Any

from muniment.domain import commands
from muniment.domain.query import Item

# made anew by a client each time: ids it generated, and times it measured
GENERATED = frozenset({"rollback", "activation", "attempt", "fetched_at", "freeze", "block"})


def key_item(key: str) -> Item:
    """The record of an idempotency key."""
    return Item(tuple(sorted(TYPES())), (key_tag(key),))


def key_tag(key: str) -> str:
    """The tag of an idempotency key (settled.md, 9)."""
    return "command:" + hashlib.sha256(key.encode()).hexdigest()


def same_arguments(recorded: dict[str, Any], command: commands.AnyCommand) -> bool:
    """Equal but for what a client makes anew each time: ids it generated, evidence it stored again, measured times."""
    fresh = commands.arguments(command)
    return all(recorded.get(name) == value for name, value in fresh.items() if name not in GENERATED)


def TYPES() -> list[str]:  # noqa: N802 - read as a constant; a function since the registry imports pydantic
    """Every type of the registry."""
    from muniment.domain.records import TABLE

    return list(TABLE)
