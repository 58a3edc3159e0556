"""The public JCS vectors (cyberphone/json-canonicalization), read from the shared folder where it is present."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pytest
import rfc8785
from muniment.domain.canonical import MAX_INT, encode
from muniment.domain.errors import InvalidError

DEFAULT = Path(__file__).parents[2].parent / "shared" / "vectors"
FOLDER = Path(os.environ.get("MUNIMENT_VECTORS", DEFAULT)) / "jcs"
NAMES = sorted(path.name for path in (FOLDER / "input").glob("*.json"))


def outside(value: Any) -> bool:
    """Whether a value leaves our profile: a float, or an integer beyond 2^53-1."""
    if isinstance(value, dict):
        return any(outside(item) for item in value.values())
    if isinstance(value, list):
        return any(outside(item) for item in value)
    return isinstance(value, float) or (type(value) is int and abs(value) > MAX_INT)


def load(name: str) -> tuple[Any, bytes]:
    return json.loads((FOLDER / "input" / name).read_bytes()), (FOLDER / "output" / name).read_bytes().rstrip(
        b"\n"
    )


def test_the_vectors_are_there() -> None:
    if not NAMES:
        pytest.skip(f"no public vectors at {FOLDER}; tests/unit/test_canonical.py holds our own cases")
    assert len(NAMES) >= 6
    assert {True, False} == {outside(load(name)[0]) for name in NAMES}


@pytest.mark.parametrize("name", NAMES)
def test_inside_the_profile_equal_outside_refused(name: str) -> None:
    value, expected = load(name)
    if outside(value):
        with pytest.raises(InvalidError):
            encode(value)
    else:
        assert expected == encode(value)


@pytest.mark.parametrize("name", NAMES)
def test_the_reference_agrees_with_every_vector(name: str) -> None:
    value, expected = load(name)
    assert expected == rfc8785.dumps(value)
