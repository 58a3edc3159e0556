"""The selects of a log (`store.reads`) in the words of SQLite."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from muniment.domain.errors import WrongError
from muniment.store.api import Page
from muniment.store.reads import HeadRow, Term

Run = Callable[[str, Sequence[Any]], list[Any]]

_IDS_AT_ONCE = 500

_HEAD = "SELECT size, frontier, recorded_at, indexed FROM head"
_TYPES = "SELECT name, id FROM types ORDER BY id"
_BODIES = "SELECT position, body FROM records WHERE position > ? AND position <= ? ORDER BY position LIMIT ?"
_BODIES_REVERSED = _BODIES.replace("ORDER BY position", "ORDER BY position DESC")
_LEAVES = _BODIES.replace("body", "leaf")
# The row before the first one after `after` may reach beyond it.
# plain places: Python 3.12 up to 3.12.3 warns of numbered ones
_FORWARD = """SELECT first, entries FROM postings WHERE term = ? AND first <= ?
    AND first >= ifnull((SELECT max(first) FROM postings WHERE term = ? AND first <= ?), ?)
    ORDER BY first LIMIT ?"""
_ONWARD = """SELECT first, entries FROM postings WHERE term = ? AND first > ? AND first <= ?
    ORDER BY first LIMIT ?"""
_BACKWARD = """SELECT first, entries FROM postings WHERE term = ? AND first <= ?
    ORDER BY first DESC LIMIT ?"""
_COUNT = "SELECT count(*) FROM (SELECT 1 FROM postings WHERE term = ? LIMIT ?)"


class SqliteReads:
    """Over anything that runs a select and returns its rows."""

    def __init__(self, run: Run, name: str) -> None:
        self._run = run
        self._name = name

    def head(self) -> HeadRow:
        """See `store.reads`; so for each below."""
        return HeadRow(*self._only_row(_HEAD))

    def size(self) -> int:
        """Raises WrongError unless the head is one row with a number."""
        row = self._only_row("SELECT size FROM head")
        if type(row[0]) is not int:
            raise self._damaged([row])
        return row[0]

    def types(self) -> dict[str, int]:
        return dict(self._run(_TYPES, ()))

    def bodies(self, after: int, until: int, size: int, *, reverse: bool = False) -> Page:
        return self._run(_BODIES_REVERSED if reverse else _BODIES, (after, until, size))

    def bodies_at(self, positions: Sequence[int]) -> Page:
        marks = ", ".join("?" * len(positions))
        return self._run(f"SELECT position, body FROM records WHERE position IN ({marks})", positions)  # noqa: S608

    def leaves(self, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        return self._run(_LEAVES, (after, until, size))

    def by_ids(self, ids: Sequence[str]) -> list[tuple[str, int, bytes]]:
        raw = {bytes.fromhex(id_.replace("-", "")): id_ for id_ in ids}
        keys, found = list(raw), []
        for start in range(0, len(keys), _IDS_AT_ONCE):
            some = keys[start : start + _IDS_AT_ONCE]
            marks = ", ".join("?" * len(some))
            sql = f"SELECT id, position, body FROM records WHERE id IN ({marks})"  # noqa: S608  # only marks
            found += [(raw[key], position, body) for key, position, body in self._run(sql, some)]
        return found

    def forward(self, term: Term, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        return self._run(_FORWARD, (term, until, term, after, after, size))

    def onward(self, term: Term, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        return self._run(_ONWARD, (term, after, until, size))

    def backward(self, term: Term, until: int, size: int) -> list[tuple[int, bytes]]:
        return self._run(_BACKWARD, (term, until, size))

    def rows_of(self, term: Term, most: int) -> int:
        return int(self._run(_COUNT, (term, most))[0][0])

    def _only_row(self, sql: str) -> Any:
        rows = self._run(sql, ())
        if len(rows) != 1:
            raise self._damaged(rows)
        return rows[0]

    def _damaged(self, rows: list[Any]) -> WrongError:
        return WrongError(
            f"{self._name}: the head is damaged",
            code="store.head_mismatch",
            hint="muniment verify store",
            expected="one row with a number",
            found=repr(rows)[:100],
        )
