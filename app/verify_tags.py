"""Tags of a record: those its payload makes, and the rows that a database keeps of them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from muniment.domain.records import PREFIXES, TABLE
from muniment.store.inspect import TagCells


class Derived:
    """The tags that a payload makes (`domain.records.tags_of`), prepared for each type: 0.4 us in place of 2 us."""

    def __init__(self, type_: str) -> None:
        fields = TABLE[type_].tags.split()
        self.constant = frozenset("scope:*" if f == "*" else f for f in fields if f in ("*", "incident:*"))
        self.many = "slots" in fields
        self.scopes = tuple(f for f in fields if f in ("scope", "channel", "slot"))
        self.plain = tuple((f, PREFIXES[f] + ":") for f in fields if f in PREFIXES)

    def missing(self, data: dict[str, Any], tags: set[str]) -> str:
        """The first tag that is not there, "" if all are."""
        if not self.constant <= tags:
            return min(self.constant - tags)
        for field, prefix in self.plain:
            if (value := data.get(field)) and prefix + value not in tags:
                return str(prefix + value)
        for field in self.scopes:
            if value := data.get(field):
                tag = ("slot:" if value.count("/") == 2 else "scope:") + value
                if tag not in tags:
                    return str(tag)
        if self.many:
            for slot in data.get("slots") or ():
                if "slot:" + slot not in tags:
                    return f"slot:{slot}"
        return ""


class TagWalk:
    """The tag rows, taken record by record; both walks are in order of position."""

    def __init__(self, pages: Iterator[list[TagCells]]) -> None:
        self._rows = (row for page in pages for row in page)
        self._next: TagCells | None = next(self._rows, None)
        self.strays: list[Any] = []

    def row(self, position: int) -> TagCells | None:
        """The tag rows of a record, None if it has none."""
        row = self._next
        while row is not None and (type(row[0]) is not int or row[0] < position):
            self.strays.append(row[0])
            row = next(self._rows, None)
        if row is None or row[0] != position:
            self._next = row
            return None
        self._next = next(self._rows, None)
        return row

    @staticmethod
    def parsed(row: TagCells | None) -> tuple[set[Any], Any, Any, bool]:
        """Tag ids of a record, smallest and largest type id, and whether a tag is there twice."""
        if row is None:
            return set(), None, None, False
        _, count, low, high, joined = row
        ids = {int(part) if part.isascii() and part.isdigit() else part for part in str(joined).split(",")}
        return ids, low, high, len(ids) != count

    def rest(self, last: int) -> list[Any]:
        """Positions of tag rows that belong to no record."""
        self.row((last + 1) << 40)
        while self._next is not None:
            self.strays.append(self._next[0])
            self._next = next(self._rows, None)
        return self.strays
