"""`schema`: the shapes of records and of what this program prints."""

from __future__ import annotations

from typing import Any

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings

schema = Noun(
    "schema",
    "Shapes of records and outputs.",
    ["muniment schema list", "muniment schema show channel.pinned"],
)


@schema.verb(
    "list",
    uses=("where", "fields", "limit", "cursor"),
    examples=["muniment schema list", "muniment schema list --where kind=output"],
)
def list_(settings: Settings) -> Rows:  # noqa: ARG001
    """Every record type and every output."""
    from muniment.app import schemas
    from muniment.cli.outputs import SCHEMAS

    rows: list[dict[str, Any]] = [
        {"schema": item.type, "kind": "record", "command": item.command, "tags": list(item.tags)}
        for item in schemas.entries()
    ]
    rows += [{"schema": name, "kind": "output", "command": "", "tags": []} for name in SCHEMAS]
    return Rows("schema.list/1", rows, ("schema", "kind", "command"), "schema", None)


@schema.verb("show", examples=["muniment schema show channel.pinned", "muniment schema show channel.show/1"])
@click.argument("name", metavar="TYPE[/VERSION]")
def show(settings: Settings, name: str) -> Result:  # noqa: ARG001
    """The JSON Schema of a record's data, or of an output."""
    from muniment.app import schemas
    from muniment.cli.outputs import SCHEMAS
    from muniment.domain.errors import NotFoundError

    try:
        found = schemas.show(name)
    except NotFoundError:
        named = SCHEMAS.get(name) or SCHEMAS.get(f"{name}/1")
        if named is None:
            raise
        found = named
    text = schemas.render(found).decode().rstrip("\n")
    return Result("schema.show/1", {"name": name, "schema": found}, lines=text.split("\n"), brief=name)


@schema.verb(
    "check",
    examples=["muniment schema check pinned.json --type channel.pinned", "muniment schema check record.json"],
)
@click.argument("file", metavar="FILE|-")
@click.option(
    "--type", "type_", metavar="TYPE", help="Check as the data of this type; else a whole record is read."
)
def check(settings: Settings, file: str, type_: str | None) -> Result:  # noqa: ARG001
    """Check a record, or the data of one, against the registry; exit 10 if it does not fit."""
    import json
    import sys
    from pathlib import Path

    from muniment.app import schemas
    from muniment.domain.errors import InvalidError, NotFoundError, UnavailableError
    from muniment.domain.records import validate

    try:
        data = sys.stdin.buffer.read() if file == "-" else Path(file).read_bytes()
    except FileNotFoundError as error:
        raise NotFoundError(f"{file}: {error.strerror}", code="schema.file") from error
    except OSError as error:
        why = error.strerror or str(error)
        raise UnavailableError(f"{file} cannot be read: {why}", code="schema.unreadable") from error
    try:
        value = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"{file} is no JSON: {error}", code="schema.syntax") from error
    if type_ is None:
        if not isinstance(value, dict) or not isinstance(value.get("type"), str) or "data" not in value:
            raise InvalidError(
                f"{file} is no record",
                code="schema.record",
                expected="an object with type and data",
                hint="--type TYPE",
            )
        type_, value = str(value["type"]), value["data"]
    known = {item.type: item for item in schemas.entries()}
    full = type_ if type_ in known else max((k for k in known if k.partition("/")[0] == type_), default="")
    if not full:
        schemas.show(type_)
    if not isinstance(value, dict):
        raise InvalidError(f"{file}: data is no object", code="record.data", expected="an object")
    validate(full, value)
    return Result("schema.check/1", {"type": full, "ok": True}, lines=[f"ok  {file} is {full}"], brief=full)
