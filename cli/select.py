"""--where, --cursor, --limit and --fields over rows of any verb."""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from typing import Any

from muniment.domain.errors import UsageError


def member(row: dict[str, Any], path: str) -> Any:
    """A member by dotted path; KeyError if the row has none."""
    if path in row:
        return row[path]
    found: Any = row
    for part in path.split("."):
        if not isinstance(found, dict):
            raise KeyError(path)
        found = found[part]
    return found


def as_word(value: Any) -> str:
    """A value as it is written in `--where`: words as they are, anything else as JSON."""
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


def conditions(where: list[str]) -> list[tuple[str, str]]:
    """`K=V`, read.

    Raises:
        UsageError: no `=`.
    """
    found = []
    for text in where:
        name, sign, value = text.partition("=")
        if not sign or not name:
            raise UsageError(f"--where takes K=V, got {text[:80]!r}", code="cli.where")
        found.append((name, value))
    return found


def matching(rows: Iterable[dict[str, Any]], where: list[str]) -> Iterator[dict[str, Any]]:
    """The rows that have every value; a list has a value if it holds it.

    Raises:
        UsageError: a member that no row has.
    """
    wanted = conditions(where)
    missing, seen = {name for name, _ in wanted}, False
    names: set[str] = set()
    for row in rows:
        seen = True
        names |= set(row)
        if _matches(row, wanted, missing):
            yield row
    if seen and missing:
        raise UsageError(
            f"no row has a member {min(missing)!r}",
            code="cli.where",
            expected=", ".join(sorted(names)),
            found=min(missing),
        )


def _matches(row: dict[str, Any], wanted: list[tuple[str, str]], missing: set[str]) -> bool:
    good = True
    for name, value in wanted:
        try:
            found = member(row, name)
        except KeyError:
            good = False
            continue
        missing.discard(name)
        held = found if isinstance(found, list) else [found]
        good = good and value in [as_word(item) for item in held] + [as_word(found)]
    return good


def page(
    rows: list[dict[str, Any]], key: str, limit: int | None, cursor: str
) -> tuple[list[dict[str, Any]], str | None, int]:
    """Rows after the cursor, at most `limit`; the next cursor and how many are left out behind it.

    Raises:
        UsageError: no row has the cursor's key.
    """
    if cursor:
        at = next((i for i, row in enumerate(rows) if as_word(row[key]) == cursor), None)
        if at is None:
            raise UsageError(
                f"no row is at cursor {cursor[:80]!r}", code="cli.cursor", hint=f"give a {key} of this list"
            )
        rows = rows[at + 1 :]
    if limit is None or len(rows) <= limit:
        return rows, None, 0
    return rows[:limit], as_word(rows[limit - 1][key]), len(rows) - limit


def project(row: dict[str, Any], fields: list[str]) -> dict[str, Any]:
    """Only these members.

    Raises:
        UsageError: a member that the row does not have.
    """
    found = {}
    for name in fields:
        try:
            found[name] = member(row, name)
        except KeyError:
            raise UsageError(
                f"no member {name!r} here", code="cli.fields", expected=", ".join(sorted(row)), found=name
            ) from None
    return found
