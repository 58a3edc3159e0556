"""What the catalog of PostgreSQL says of a log's schema, as name -> definition, and what it should say.

1. Every relation, column, constraint, index, trigger, function, rule and policy of the schema has a line: one too many shows.
2. Rights are lines too: whoever but the owner may change or remove rows that stay, or make triggers.

`EXPECTED` is what a server says after `postgres_schema.create`; a test makes a log and compares.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from muniment.store.postgres_pool import Connection

_SQL = Path(__file__).parent / "sql"
EXPECTED: dict[str, str] = json.loads((_SQL / "postgres_facts.json").read_text(encoding="utf-8"))


def found(db: Connection, schema: str) -> dict[str, str]:
    """The facts, without the name of the schema."""
    query = (_SQL / "postgres_facts.sql").read_text(encoding="utf-8").encode()
    rows: list[Any] = db.execute(query, {"schema": schema}).fetchall()
    facts = {}
    for name, definition in rows:
        # Which names are quoted depends on the words a version of the server reserves.
        facts[name] = definition.replace('"', "").replace(f" {schema}.", " ").strip()
    return facts
