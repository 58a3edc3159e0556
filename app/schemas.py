"""The published schemas of records: what `schema list` and `schema show` answer, and the bytes checked in below `schemas/`.

The source is the closed registry (`domain.records`). Titles that the model library makes up from field names are dropped:
they say nothing, and they would differ with its version.
"""

from __future__ import annotations

import copy
import difflib
import functools
import hashlib
import json
from typing import Any, NamedTuple

from muniment.domain.errors import NotFoundError
from muniment.domain.records import TABLE, schemas

# Members of a schema that hold schemas by name; below them `title` is a name, not a keyword.
_NAMED = ("properties", "$defs", "patternProperties")


class Entry(NamedTuple):
    """One record type: name, version, fields and fixed scopes that become tags, the commands that make it."""

    type: str
    version: int
    tags: tuple[str, ...]
    command: str

    @property
    def file_name(self) -> str:
        """Name of the checked-in file, `channel.pinned.1.json`."""
        return f"{self.type.replace('/', '.')}.json"


def entries() -> list[Entry]:
    """Every record type, in the order of the registry."""
    return [
        Entry(type_, int(type_.rpartition("/")[2]), tuple(row.tags.split()), row.command)
        for type_, row in TABLE.items()
    ]


def show(type_: str) -> dict[str, Any]:
    """The JSON Schema of a record's `data`; a name without version means its newest one.

    Raises:
        NotFoundError: the registry has no such type.
    """
    found = _schemas()
    if type_ in found:
        return copy.deepcopy(found[type_])
    versions = [known for known in found if known.partition("/")[0] == type_]
    if versions:
        return copy.deepcopy(found[max(versions, key=lambda known: int(known.rpartition("/")[2]))])
    near = difflib.get_close_matches(type_, found, n=3)
    raise NotFoundError(
        f"no record type {type_!r}",
        code="schema.unknown",
        expected="a type of the registry",
        found=type_,
        hint=f"did you mean {', '.join(near)}?" if near else "muniment schema list",
    )


def files() -> dict[str, bytes]:
    """What `schemas/records/` must hold: file name and bytes."""
    found = _schemas()
    return {entry.file_name: render(found[entry.type]) for entry in entries()}


def render(schema: dict[str, Any]) -> bytes:
    """The bytes of a checked-in schema: indented for reviewers, sorted, so equal schemas are equal files."""
    return (json.dumps(schema, indent=2, sort_keys=True, ensure_ascii=False) + "\n").encode()


def shape_digest(schema: dict[str, Any]) -> str:
    """Digest of what a schema accepts: wording (`description`, `title`, `x-…`) may improve, the shape may not."""
    return "sha256:" + hashlib.sha256(render(_without(schema, wording=True))).hexdigest()


@functools.cache  # 60 ms for 76 types
def _schemas() -> dict[str, dict[str, Any]]:
    return {
        type_: {**_without(schema, wording=False), "title": type_, "description": schema["description"]}
        for type_, schema in schemas().items()
    }


def _without(schema: dict[str, Any], *, wording: bool) -> dict[str, Any]:
    kept: dict[str, Any] = {}
    for key, value in schema.items():
        if key == "title" or (wording and (key == "description" or key.startswith("x-"))):
            continue
        if key in _NAMED:
            kept[key] = {name: _without(inner, wording=wording) for name, inner in value.items()}
        elif isinstance(value, dict):
            kept[key] = _without(value, wording=wording)
        elif isinstance(value, list):
            kept[key] = [_without(one, wording=wording) if isinstance(one, dict) else one for one in value]
        else:
            kept[key] = value
    return kept
