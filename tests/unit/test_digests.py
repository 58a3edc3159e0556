"""Digests made piece by piece are those of the one document they describe."""

from __future__ import annotations

import hashlib
from typing import Any

import msgspec
import pytest
import rfc8785
from muniment.domain.refusal import Mark
from muniment.domain.states import Attested, Build, Key, Slot, Target
from muniment.ops.bench import data
from muniment.projections import digest
from muniment.projections.base import Simple
from muniment.projections.model import EvidenceOf, ReadModel
from muniment.projections.registry import ALL, BY_NAME, DRIVER
from muniment.store.memory import MemoryLog


def the_document(projection: Simple, model: ReadModel, change: Any = lambda value: value) -> str:
    """The digest by the words of the rule: RFC 8785 over name, version and state, made whole."""
    state = {part: msgspec.to_builtins(getattr(model, part)) for part in projection.parts}
    state = {
        part: {key: change(item) for key, item in value.items()} if isinstance(value, dict) else change(value)
        for part, value in state.items()
    }
    whole = {"name": projection.name, "state": state, "version": projection.version}
    return (
        "sha256:" + hashlib.sha256(rfc8785.dumps(msgspec.json.decode(msgspec.json.encode(whole)))).hexdigest()
    )


def without(entity: Any) -> Any:  # noqa: C901 - the rule in one piece
    """An entity without clocks, places and attempts, its positions as ranks: the rule of the core digest, plainly."""
    found: set[int] = {0}

    def positions(key: str, value: Any) -> Any:
        """The positions that a field is made of, with a function that puts others in their place; None if it is no such."""
        if type(value) is int and (key == "position" or key.endswith("_position")):
            return [value], lambda ranks: ranks[value]
        if key == "revoked" and isinstance(value, dict) and "at" not in value:
            return list(value.values()), lambda ranks: {pack: ranks[at] for pack, at in value.items()}
        return None

    def look(value: Any) -> None:
        for key, item in value.items() if isinstance(value, dict) else enumerate(value):
            if isinstance(key, str) and (made := positions(key, item)):
                found.update(made[0])
            elif isinstance(item, dict | list):
                look(item)

    def strip(value: Any) -> Any:
        if isinstance(value, list):
            return [strip(item) for item in value]
        if not isinstance(value, dict):
            return value
        kept = {}
        for key, item in value.items():
            if key in ("at", "host", "location", "attempt") or key.endswith(("_at", "_us")):
                continue
            if key == "activation" and isinstance(item, str):
                continue
            made = positions(key, item)
            kept[key] = made[1](ranks) if made else strip(item)
        return kept

    if isinstance(entity, dict | list):
        look(entity)
    ranks = {position: rank for rank, position in enumerate(sorted(found))}
    return strip(entity)


@pytest.fixture(scope="module")
def fleet() -> ReadModel:
    """A model in which every projection has something."""
    log, model = MemoryLog(), ReadModel()
    data.fill(log, 600)
    DRIVER.fold(model, log.pages())
    target = next(iter(model.slots.values())).target("host")  # a name that is a place's, too
    target.attestations = [Attested("p", "a-1", 40), Attested("q", "a-2", 30)]
    target.revoked = {"p": 35, "q": 50, "host": 36}
    model.keys["k"] = Key("k", "Ada \u00e9\U0001f511", "human", "", Mark(9, "x", "a"), Mark(12, "y", "b"))
    for id_ in ("\uffff", "\U0001f511", "a", "\u00e9"):  # UTF-16 puts the second before the first
        model.builds[id_] = Build(
            id_, "p", "i", "", Mark(7, "x", id_), pins={"\uffff": "1", "\U0001f511": "2"}
        )
        model.evidence[id_] = EvidenceOf(1, 2, {id_: 1}, 5, 4)
    return model


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_a_digest_is_that_of_the_whole_document(fleet: ReadModel, name: str) -> None:
    projection = BY_NAME[name]
    assert digest.full(projection, fleet) == the_document(projection, fleet)
    assert digest.core(projection, fleet) == the_document(projection, fleet, without)


@pytest.mark.parametrize("name", sorted(BY_NAME))
def test_an_empty_state_has_a_digest_too(name: str) -> None:
    projection, model = BY_NAME[name], ReadModel()
    assert digest.full(projection, model) == the_document(projection, model)
    assert digest.core(projection, model) == the_document(projection, model, without)


def test_no_two_projections_share_a_digest(fleet: ReadModel) -> None:
    for made in (digest.full, digest.core):
        assert len({made(p, fleet) for p in ALL}) == len(ALL)


@pytest.mark.parametrize("field", ["at", "confirmed_at", "wall_us", "host", "location", "attempt"])
def test_a_name_says_what_is_left_out_whatever_it_names(field: str) -> None:
    slots, one, other = BY_NAME["slots"], ReadModel(), ReadModel()
    one.slots["s"] = Slot("s", targets={field: Target("t")})
    other.slots["s"] = Slot("s")
    assert digest.core(slots, one) == digest.core(slots, other)
    assert digest.full(slots, one) != digest.full(slots, other)
