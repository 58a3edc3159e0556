"""The world a decision sees: the states of every entity, folded from the selected records.

One fold serves decisions and projections: each entity module lists `HANDLES`, type -> function(world, fact), and
touches its own part. A projection is the same functions run over the whole log. The states are plain mutable structs
owned by the fold that made them (ops/decisions/0003): nothing outside a fold writes to them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable

import msgspec
from muniment.domain.decision import Fact
from muniment.domain.errors import InvalidError
from muniment.domain.policy import STRICTEST, Policy, parse
from muniment.domain.refusal import Mark
from muniment.domain.states import (
    Build,
    Channel,
    Incident,
    Intake,
    Key,
    Pack,
    PolicyInForce,
    Product,
    Release,
    Scope,
    Slot,
)


class World(msgspec.Struct):
    """Entity states by id. Absent means: not among the selected records."""

    policy: PolicyInForce | None = None
    keys: dict[str, Key] = {}
    intakes: dict[str, Intake] = {}
    builds: dict[str, Build] = {}
    products: dict[str, Product] = {}
    packs: dict[str, Pack] = {}
    channels: dict[str, Channel] = {}
    scopes: dict[str, Scope] = {}
    slots: dict[str, Slot] = {}
    releases: dict[str, Release] = {}
    incidents: dict[str, Incident] = {}
    incident_count: int = 0

    def scope(self, scope: str) -> Scope:
        """The state of a scope, made on first use."""
        found = self.scopes.get(scope)
        if found is None:
            found = self.scopes[scope] = Scope(scope)
        return found

    def slot(self, slot: str) -> Slot:
        """The state of a slot, made on first use."""
        found = self.slots.get(slot)
        if found is None:
            found = self.slots[slot] = Slot(slot)
        return found


_parsed: tuple[dict[str, object], Policy] = (
    {},
    STRICTEST,
)  # by identity, which outlives no change: a fact has none


def policy_of(world: World) -> Policy:
    """The policy in force among the selected records; before one is published, the strictest. The last one is kept parsed."""
    global _parsed  # noqa: PLW0603 - a memo of a pure function
    if world.policy is None:
        return STRICTEST
    document, policy = _parsed
    if document is not world.policy.document:
        document, policy = _parsed = world.policy.document, parse(world.policy.document)
    return policy


Handler = Callable[[World, Fact], None]
Handles = dict[str, Handler]


def merge(*tables: Handles) -> dict[str, tuple[Handler, ...]]:
    """One dispatch table from several; a type may be handled by more than one entity."""
    merged: dict[str, tuple[Handler, ...]] = {}
    for table in tables:
        for type_, handler in table.items():
            merged[type_] = (*merged.get(type_, ()), handler)
    return merged


def fold(world: World, facts: Iterable[Fact], table: dict[str, tuple[Handler, ...]]) -> World:
    """Apply facts in order. Types outside the table change nothing here (the reader checks the registry)."""
    for fact in facts:
        for handler in table.get(fact.type, ()):
            try:
                handler(world, fact)
            except (KeyError, AttributeError, TypeError) as error:
                raise InvalidError(
                    f"record {fact.position} ({fact.type}) does not fit the records before it: {error!r}",
                    code="fold.mismatch",
                    hint="muniment verify store",
                ) from error
    return world


__all__ = ["Handler", "Handles", "Mark", "World", "fold", "merge", "policy_of"]
