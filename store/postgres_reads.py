"""The selects of a log (`store.reads`) in the words of PostgreSQL.

Names are qualified: no `search_path` decides which log is read. A term of the index is bytes: `#` and the number of a
type, `t` and a tag, or `h` and the SHA-256 of a tag too long for a B-tree entry.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any

from muniment.domain.errors import WrongError
from muniment.store.api import Page
from muniment.store.postgres_arrays import Int8Array, UuidArray
from muniment.store.reads import HeadRow, Term
from psycopg import sql

Run = Callable[[sql.Composed, Sequence[Any]], list[Any]]

LONGEST_TERM = 1000  # bytes; a B-tree entry holds 2 704 (PostgreSQL documentation, section 67.4)

_TEXTS = {
    "head": "SELECT size, frontier, recorded_at, indexed FROM {s}.head",
    "size": "SELECT size FROM {s}.head",
    "types": "SELECT name, id FROM {s}.types ORDER BY id",
    "bodies": "SELECT position, body FROM {s}.records WHERE position > %s AND position <= %s"
    " ORDER BY position LIMIT %s",
    "reversed": "SELECT position, body FROM {s}.records WHERE position > %s AND position <= %s"
    " ORDER BY position DESC LIMIT %s",
    "bodies_at": "SELECT position, body FROM {s}.records WHERE position = ANY(%s::bigint[])",
    "leaves": "SELECT position, leaf FROM {s}.records WHERE position > %s AND position <= %s"
    " ORDER BY position LIMIT %s",
    "by_ids": "SELECT id::text, position, body FROM {s}.records WHERE id = ANY(%s::uuid[])",
    # The row before the first one after `after` may reach beyond it.
    "forward": "SELECT first, entries FROM {s}.postings WHERE term = %s AND first <= %s AND first >="
    " coalesce((SELECT max(first) FROM {s}.postings WHERE term = %s AND first <= %s), %s)"
    " ORDER BY first LIMIT %s",
    "onward": "SELECT first, entries FROM {s}.postings WHERE term = %s AND first > %s AND first <= %s"
    " ORDER BY first LIMIT %s",
    "backward": "SELECT first, entries FROM {s}.postings WHERE term = %s AND first <= %s"
    " ORDER BY first DESC LIMIT %s",
    "rows_of": "SELECT count(*) FROM (SELECT 1 FROM {s}.postings WHERE term = %s LIMIT %s) AS counted",
}


def term_key(term: Term) -> bytes:
    """A term as the index stores it."""
    if isinstance(term, int):
        return b"#%d" % term
    raw = term.encode()
    return b"t" + raw if len(raw) <= LONGEST_TERM else b"h" + hashlib.sha256(raw).digest()


class PostgresReads:
    """Over anything that runs a select, with binary results."""

    def __init__(self, run: Run, schema: str, name: str) -> None:
        self._run = run
        self._name = name
        place = sql.Identifier(schema)
        self._sql = {key: sql.SQL(text).format(s=place) for key, text in _TEXTS.items()}

    def head(self) -> HeadRow:
        """See `store.reads`; so for each below."""
        return HeadRow(*self._only_row("head"))

    def size(self) -> int:
        """Raises WrongError unless the head is one row."""
        return int(self._only_row("size")[0])

    def types(self) -> dict[str, int]:
        return dict(self._run(self._sql["types"], ()))

    def bodies(self, after: int, until: int, size: int, *, reverse: bool = False) -> Page:
        return self._run(self._sql["reversed" if reverse else "bodies"], (after, until, size))

    def bodies_at(self, positions: Sequence[int]) -> Page:
        return self._run(self._sql["bodies_at"], (Int8Array(positions),))

    def leaves(self, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        return self._run(self._sql["leaves"], (after, until, size))

    def by_ids(self, ids: Sequence[str]) -> list[tuple[str, int, bytes]]:
        return self._run(self._sql["by_ids"], (UuidArray(ids),))

    def forward(self, term: Term, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        key = term_key(term)
        return self._run(self._sql["forward"], (key, until, key, after, after, size))

    def onward(self, term: Term, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        return self._run(self._sql["onward"], (term_key(term), after, until, size))

    def backward(self, term: Term, until: int, size: int) -> list[tuple[int, bytes]]:
        return self._run(self._sql["backward"], (term_key(term), until, size))

    def rows_of(self, term: Term, most: int) -> int:
        return int(self._run(self._sql["rows_of"], (term_key(term), most))[0][0])

    def _only_row(self, which: str) -> Any:
        rows = self._run(self._sql[which], ())
        if len(rows) != 1:
            raise WrongError(
                f"{self._name}: the head is damaged",
                code="store.head_mismatch",
                hint="muniment verify store",
                expected="one row",
                found=f"{len(rows)} rows",
            )
        return rows[0]
