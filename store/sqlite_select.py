"""From a query to SQL: which positions match, in order, without reading a record.

Each item becomes one or more arms, each an index walk already in order of position, so that their UNION is a
merge that stops at the limit: the cost of a page depends on the page, not on the log.

* tags: walks `record_tags` of the rarest tag, filters types inside that index, probes the other tags;
* only types: one walk of `records_by_type` for each type;
* neither: every record, so the whole query selects every record.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

from muniment.domain.query import Query
from muniment.store.api import Page

Run = Callable[[str, Sequence[Any]], list[Any]]
Resolve = Callable[[str, Iterable[str]], dict[str, int]]
"""(table, names) -> ids of those that are known; `table` is `types` or `tags`."""

MAX_ARMS = 100  # SQLite compiles at most 500 terms of a compound select
PROBE = 512  # rows counted, at most, to find the rarer of two tags: 20 us

_FIXED = 3  # ?1 after, ?2 until, ?3 limit


class Arm(NamedTuple):
    """A select of positions with its own parameters; `{n}` stands for their numbers."""

    sql: str
    parameters: tuple[int, ...]


def compile_query(query: Query, run: Run, resolve: Resolve, after: int = 0) -> list[Arm] | None:
    """Return the arms of a query: None if it selects every record, an empty list if it can select none."""
    if not query or any(not types and not tags for types, tags in query):
        return None
    tag_ids = resolve("tags", {tag for _, tags in query for tag in tags})
    type_ids = resolve("types", {type_ for types, _ in query for type_ in types})
    arms: dict[Arm, None] = {}
    for types, tags in query:
        wanted = sorted({type_ids[name] for name in types if name in type_ids})
        if (types and not wanted) or any(tag not in tag_ids for tag in tags):
            continue
        if tags:
            ids = sorted({tag_ids[tag] for tag in tags})
            arms[_tag_arm(_rarest_first(ids, run, after), wanted)] = None
        else:
            arms.update({_type_arm(id_): None for id_ in wanted})
    return list(arms)


def _tag_arm(tags: list[int], types: list[int]) -> Arm:
    # Only numbers of parameters are put into the text, never a name.
    marks = iter(range(len(tags) + len(types)))
    sql = (
        "SELECT t.position AS position FROM record_tags AS t"  # noqa: S608
        f" WHERE t.tag = {{{next(marks)}}} AND t.position > ?1 AND t.position <= ?2"
    )
    for _ in tags[1:]:
        sql += (
            " AND EXISTS (SELECT 1 FROM record_tags AS o"  # noqa: S608
            f" WHERE o.tag = {{{next(marks)}}} AND o.position = t.position)"
        )
    if types:
        sql += f" AND t.type IN ({', '.join(f'{{{next(marks)}}}' for _ in types)})"
    return Arm(sql, (*tags, *types))


def _type_arm(type_: int) -> Arm:
    return Arm(
        "SELECT r.position AS position FROM records AS r INDEXED BY records_by_type"
        " WHERE r.type = {0} AND r.position > ?1 AND r.position <= ?2",
        (type_,),
    )


def _rarest_first(tags: list[int], run: Run, after: int) -> list[int]:
    if len(tags) == 1:
        return tags
    sql = "SELECT count(*) FROM (SELECT 1 FROM record_tags WHERE tag = ?1 AND position > ?2 LIMIT ?3)"
    return sorted(tags, key=lambda tag: run(sql, (tag, after, PROBE))[0][0])


def positions_sql(arms: Sequence[Arm], *, reverse: bool) -> tuple[str, list[int]]:
    """One statement over at most `MAX_ARMS` arms; its parameters follow (after, until, limit)."""
    parts: list[str] = []
    parameters: list[int] = []
    for arm in arms:
        first = _FIXED + len(parameters) + 1
        parts.append(arm.sql.format(*(f"?{first + n}" for n in range(len(arm.parameters)))))
        parameters.extend(arm.parameters)
    order = " DESC" if reverse else ""
    return " UNION ".join(parts) + f" ORDER BY position{order} LIMIT ?3", parameters


def select_page(
    arms: list[Arm] | None, run: Run, after: int, until: int, size: int, *, reverse: bool
) -> Page:
    """The first `size` matches of `after < position <= until`, from the end if reversed."""
    order = " DESC" if reverse else ""
    if arms is None:
        return run(
            "SELECT position, body FROM records WHERE position > ?1 AND position <= ?2"  # noqa: S608
            f" ORDER BY position{order} LIMIT ?3",
            (after, until, size),
        )
    page: Page = []
    for start in range(0, len(arms), MAX_ARMS):
        positions, parameters = positions_sql(arms[start : start + MAX_ARMS], reverse=reverse)
        page += run(
            # CROSS JOIN: the positions lead. Rows come in their order; the sort below makes sure at no cost.
            f"SELECT r.position, r.body FROM ({positions}) AS h CROSS JOIN records AS r"  # noqa: S608
            " ON r.position = h.position",
            (after, until, size, *parameters),
        )
    if len(arms) > MAX_ARMS:
        page = list(dict(page).items())
    page.sort(key=_position, reverse=reverse)
    return page[:size]


def last_position(arms: list[Arm] | None, run: Run, after: int, until: int) -> int:
    """Position of the last match of `after < position <= until`, 0 if none."""
    if arms is None:
        return until if until > after else 0
    last = 0
    for start in range(0, len(arms), MAX_ARMS):
        sql, parameters = positions_sql(arms[start : start + MAX_ARMS], reverse=True)
        rows = run(sql, (after, until, 1, *parameters))
        last = max(last, rows[0][0] if rows else 0)
    return last


def _position(row: tuple[int, bytes]) -> int:
    return row[0]
