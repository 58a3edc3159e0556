"""What a log asks of its database: a few selects, each one statement and so of one moment.

The index (`store.index_search`), the writer and every reader are written once over these; SQLite and PostgreSQL
each say them in their own words. Rows come as stored: whether they fit together is judged by those who asked.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple, Protocol

from muniment.store.api import Page

Term = str | int
"""A tag, or the number of a type."""


class HeadRow(NamedTuple):
    """The row of the head: size of the log, its frontier (32 bytes a root), the last `recorded_at`, and how far
    the index reaches."""

    size: int
    frontier: bytes
    recorded_at: str
    indexed: int


class Reads(Protocol):
    """The selects; positions are bounded as `after < position <= until`. Errors are those of `store.api.Log`."""

    def head(self) -> HeadRow:
        """The head as of now."""
        ...

    def size(self) -> int:
        """Its size alone."""
        ...

    def types(self) -> dict[str, int]:
        """Numbers of the types that have a row, in order."""
        ...

    def bodies(self, after: int, until: int, size: int, *, reverse: bool = False) -> Page:
        """The first `size` records of a range, from its end if reversed."""
        ...

    def bodies_at(self, positions: Sequence[int]) -> Page:
        """The records at some positions, in any order; a few hundred at once."""
        ...

    def leaves(self, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        """The first `size` leaf hashes of a range."""
        ...

    def by_ids(self, ids: Sequence[str]) -> list[tuple[str, int, bytes]]:
        """(id, position, body) of those records that are in the log."""
        ...

    def forward(self, term: Term, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        """(first, entries) of rows of a term, ascending, from the one that may reach beyond `after`."""
        ...

    def onward(self, term: Term, after: int, until: int, size: int) -> list[tuple[int, bytes]]:
        """The same, only rows that begin beyond `after`."""
        ...

    def backward(self, term: Term, until: int, size: int) -> list[tuple[int, bytes]]:
        """The same, descending, from the last row that begins at or before `until`."""
        ...

    def rows_of(self, term: Term, most: int) -> int:
        """Number of rows of a term, counted up to `most`."""
        ...
