"""What a decision selects: items over types and tags, the shape of a dynamic consistency boundary.

A record matches an item if its type is among the item's types (or the item names none) and it carries all of the
item's tags. A record matches a query if it matches one item; the empty query matches every record.
Source: https://dcb.events specification, in the form of `eventsourcing.dcb.api`.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import NamedTuple


class Item(NamedTuple):
    """One alternative of a query: any of the types, all of the tags."""

    types: tuple[str, ...] = ()
    tags: tuple[str, ...] = ()

    def matches(self, type_: str, tags: frozenset[str] | set[str]) -> bool:
        """Tell whether a record of this type with these tags matches."""
        return (not self.types or type_ in self.types) and tags.issuperset(self.tags)


Query = tuple[Item, ...]


def union(*queries: Iterable[Item]) -> Query:
    """All items once, sorted: one set of items has one form, so a stored basis compares by equality."""
    return tuple(sorted({item for query in queries for item in query}))
