"""The JSON Schema of every `-o json` output; `schemas/outputs/` is made from `SCHEMAS` by `muniment.ops.generate`.

Every output is `{"schema", "as_of", "data", "next", "omitted"}`; only an error and a refusal are shaped otherwise. `data` of a
list is a list of rows. No output has a member that is not named here.
"""

from __future__ import annotations

from typing import Any

from muniment.cli import outputs_data as data
from muniment.cli.outputs_shapes import (
    BOOL,
    COUNT,
    TEXT,
    WORDS,
    Shape,
    either_null,
    literal,
    obj,
    rows,
    values,
)

DIALECT = "https://json-schema.org/draft/2020-12/schema"


def envelope(name: str, shape: Shape, *, store: bool) -> Shape:
    """The schema of one output; `store` is False where the answer speaks of no log."""
    as_of: Shape = COUNT if store else {"type": "null"}
    return {
        "$schema": DIALECT,
        "title": name,
        **obj(
            schema=literal(name),
            as_of=as_of,
            data=shape,
            next=either_null(TEXT),
            omitted=COUNT,
        ),
    }


def _alone(name: str, **members: Shape) -> Shape:
    return {"$schema": DIALECT, "title": name, **obj(schema=literal(name), **members)}


ERROR = _alone(
    "error/1",
    code=TEXT,
    message=TEXT,
    hint=TEXT,
    context=values(TEXT, BOOL, COUNT, WORDS, {"type": "null"}),
    exit=COUNT,
)
REFUSED = _alone(
    "refused/1",
    as_of=COUNT,
    rule=TEXT,
    subject=TEXT,
    message=TEXT,
    cause=data.MARK,
    next=TEXT,
    facts=WORDS,
    position=either_null(COUNT),
    dry_run=BOOL,
    repeated=BOOL,
    exit={"enum": [4, 6]},
)

SCHEMAS: dict[str, Shape] = {
    "error/1": ERROR,
    "refused/1": REFUSED,
    **{name: envelope(name, rows(shape), store=True) for name, shape in data.LISTS.items()},
    **{name: envelope(name, rows(shape), store=False) for name, shape in data.LISTS_ALONE.items()},
    **{name: envelope(name, shape, store=True) for name, shape in data.OBJECTS.items()},
    **{name: envelope(name, shape, store=False) for name, shape in data.OBJECTS_ALONE.items()},
}


def schema_of(output: dict[str, Any]) -> Shape:
    """The schema that an output names.

    Raises:
        KeyError: it names none of ours.
    """
    return SCHEMAS[str(output["schema"])]
