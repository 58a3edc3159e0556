"""Words to write JSON Schemas with."""

from __future__ import annotations

from typing import Any

Shape = dict[str, Any]

TEXT: Shape = {"type": "string"}
COUNT: Shape = {"type": "integer"}
BOOL: Shape = {"type": "boolean"}
ANY_OBJECT: Shape = {"type": "object"}
PACK: Shape = {"type": "string", "pattern": "^(sha256:[0-9a-f]{64})?$"}
DIGEST: Shape = {"type": "string", "pattern": "^sha256:[0-9a-f]{64}$"}
INSTANT: Shape = {"type": "string", "pattern": "^(\\d{4}-\\d\\d-\\d\\dT\\d\\d:\\d\\d:\\d\\d\\.\\d{6}Z)?$"}


def obj(**members: Shape) -> Shape:
    """An object with exactly these members."""
    named = {name.removesuffix("_"): shape for name, shape in members.items()}
    return {
        "type": "object",
        "properties": named,
        "required": sorted(named),
        "additionalProperties": False,
    }


def rows(shape: Shape) -> Shape:
    """A list of these."""
    return {"type": "array", "items": shape}


def values(*shapes: Shape) -> Shape:
    """An object with any names and values of these shapes."""
    return {"type": "object", "additionalProperties": one_of(*shapes)}


def one_of(*shapes: Shape) -> Shape:
    """Any of these."""
    return shapes[0] if len(shapes) == 1 else {"anyOf": list(shapes)}


def either_null(shape: Shape) -> Shape:
    """This or null."""
    return {"anyOf": [shape, {"type": "null"}]}


def literal(value: str) -> Shape:
    """This word."""
    return {"const": value}


def words(*known: str) -> Shape:
    """One of these words."""
    return {"enum": list(known)}


WORDS = rows(TEXT)
