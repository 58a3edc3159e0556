"""The cells beside the records against what the records give: types, index, head row."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from contextlib import suppress
from itertools import zip_longest
from typing import Any

import msgspec
from muniment.app.verify_tags import Index
from muniment.domain.errors import WrongError
from muniment.store.index_tail import MAX_TAIL, TYPE_BITS, TYPE_MASK, unpack
from muniment.store.inspect import Inspector, Tables
from muniment.store.merkle import HASH_SIZE, Frontier

_decode = msgspec.json.Decoder().decode

_INSTANT = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", re.ASCII)

Found = Callable[..., None]
"""`RecordPass.found`."""


def types_differing(made: dict[Any, Any], tables: Tables) -> Iterator[tuple[str, Any, Any]]:
    """(where, expected, found) of each number that names another type in the table than the records made it."""
    for number in made.keys() | tables.types.keys():
        if made.get(number) != tables.types.get(number):
            yield f"types.{number}", made.get(number, "no such type"), tables.types.get(number, "missing")


class TablePass:
    """Made after the pass over the records; `frontier` and `recorded_at` are what it ended with. `index` is None where types and
    postings are known to be right (`verify_sum`).

    Foreign events hold no time, so the head of their log has one of its own: then, not `exact`, it is only bounded from below.
    """

    def __init__(
        self, found: Found, index: Index | None, frontier: Frontier, recorded_at: str, *, exact: bool
    ) -> None:
        self.found = found
        self.index = index
        self.frontier = frontier
        self.recorded_at = recorded_at
        self.exact = exact

    def run(self, store: Inspector, tables: Tables) -> None:
        """Compare types, postings and head."""
        if self.index is not None:
            self._index(store, tables, self.index)
        self._head(tables.heads)

    def _index(self, store: Inspector, tables: Tables, index: Index) -> None:
        made = {number: name for name, number in index.types.items()}
        for where, expected, found in types_differing(made, tables):
            why = "types are numbered in the order of their first records"
            self.found("store.types", None, where, expected, found, why)
        terms, odd = index.differing(store.postings())
        for term, first, why in odd:
            self.found(
                "store.postings", None, f"postings of {term}", "a row of entries", f"first {first}", why
            )
        for term in terms:
            self._term(store, index, term)

    def _term(self, store: Inspector, index: Index, term: Any) -> None:
        """Name the first entry of a term in which the index as stored differs from the bodies."""
        stored: list[int] = []
        for page in store.postings():
            for found, _, data in page:
                if found == term and type(found) is type(term):
                    with suppress(WrongError, TypeError):
                        stored += unpack(data)
        made = [
            entry
            for rows in store.records()
            for position, _, _, body in rows
            if (entry := _entry(index, term, position, body))
        ]
        at = next((i for i, (a, b) in enumerate(zip(made, stored, strict=False)) if a != b), None)
        if at is None:
            at = min(len(made), len(stored))
        named = {number: name for name, number in index.types.items()}
        expected, there = (
            f"#{row[at] >> TYPE_BITS} {named.get(row[at] & TYPE_MASK, 'unknown type')}"
            if at < len(row)
            else "no more entries"
            for row in (made, stored)
        )
        field = f"postings of {named.get(term, term) if type(term) is int else term}"
        self.found("store.postings", None, field, expected, there, f"entry {at + 1} of its history")

    def _head(self, heads: list[tuple[Any, ...]]) -> None:
        if len(heads) != 1:
            self.found("log.head", None, "head", "one row", len(heads))
            return
        size = self.frontier.size
        indexed = heads[0][4]
        wanted = (1, size, self.frontier.to_bytes(), self.recorded_at)
        for field, expected, cell in zip(
            ("one", "size", "frontier", "recorded_at"), wanted, heads[0], strict=False
        ):
            if expected == cell and type(expected) is type(cell):
                continue
            if field == "recorded_at" and not self.exact and _is_later(cell, self.recorded_at):
                continue
            why = "the head row does not say what the records give"
            if field == "frontier" and type(cell) is bytes:
                expected, cell, why = self._subtree(cell)
            self.found("log.head", None, field, expected, cell, why)
        if type(indexed) is not int or not 0 <= size - indexed < MAX_TAIL or indexed < 0:
            self.found("log.head", None, "indexed", f"{max(size - MAX_TAIL + 1, 0)}..{size}", indexed)

    def _subtree(self, stored: bytes) -> tuple[str, str, str]:
        """The first subtree root in which the stored frontier differs, named by the positions it covers."""
        cut = [stored[at : at + HASH_SIZE] for at in range(0, len(stored), HASH_SIZE)]
        last, rest = 0, self.frontier.size
        for made, found in zip_longest(self.frontier.roots, cut):
            width = 1 << (rest.bit_length() - 1) if rest else 0
            first, last, rest = last + 1, last + width, rest - width
            if made != found:
                where = f"root of records {first} to {last}" if made is not None else "no further root"
                return made.hex() if made else "nothing", found.hex() if found else "nothing", where
        return "", "", ""  # unreachable: the caller has seen a difference


def _is_later(cell: Any, instant: str) -> bool:
    return type(cell) is str and _INSTANT.fullmatch(cell) is not None and cell >= instant


def _entry(index: Index, term: Any, position: Any, body: Any) -> int:
    """The entry of a record in the history of a term, 0 if it is not in it."""
    try:
        if not 0 < position <= index.indexed:
            return 0
        record = _decode(body)
        number = index.types[record["type"]]
        if number != term and term not in map(index.term, record["tags"]):
            return 0
    except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
        return 0
    return int(position) << TYPE_BITS | number
