"""The index of a log: rows for positions 1 .. `indexed`, and in memory the tail that follows them.

1. An *entry* is one number, position * 2^24 + number of the type, so entries sort by position and a query for
   types needs no record. A *term* is a tag (text) or the number of a type.
2. Postings are written in order and never changed, so whoever knows a tail (base, size] and reads rows only up
   to `base` sees one log, however far others have written since.
3. Types are numbered in order of their first record: every process that reads the same bodies numbers them
   the same, before and after they are written.
4. No commit leaves `MAX_TAIL` records or more without rows, which bounds what a reader decodes and keeps.

Source: the memtable and sorted runs of O'Neil et al., The log-structured merge-tree (1996), with one run a term.
"""

from __future__ import annotations

import sys
from array import array
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import msgspec
from muniment.domain.errors import UnfitError, WrongError
from muniment.store.reads import Reads, Term

TYPE_BITS = 24
TYPE_MASK = (1 << TYPE_BITS) - 1
# A part of the format: a reader never meets more. 0.6 us of decoding each.
MAX_TAIL = 1024
# 896 bytes and a tag: a row of over 1002 bytes spills into pages of its own (SQLite file format, section 1.6).
ROW_ENTRIES = 112

_PAGE = 256


class Names(msgspec.Struct):
    """What the index takes from a body, in a log of either kind; a foreign event has neither id nor instant."""

    type: str
    tags: list[str]
    id: str | None = None
    recorded_at: str = ""


class Tail:
    """Entries of the records `base < position <= size`, by term.

    Attributes:
        types: numbers of all types up to `size`, also of those that have no row yet.
        stored: how many of them have one.
    """

    __slots__ = ("base", "by_tag", "by_type", "size", "stored", "types")

    def __init__(self, base: int, types: dict[str, int]) -> None:
        self.base = self.size = base
        self.types = types
        self.stored = len(types)
        self.by_tag: defaultdict[str, list[int]] = defaultdict(list)
        self.by_type: defaultdict[int, list[int]] = defaultdict(list)

    def check_room(self, records: int) -> None:
        """Demand numbers for as many new types as some records could bring.

        Raises:
            UnfitError: more types than an entry can tell apart; no registry comes near.
        """
        if len(self.types) + records > TYPE_MASK:
            raise UnfitError("too many types", code="store.types", expected=f"at most {TYPE_MASK}")

    def add(self, records: Iterable[tuple[str, Iterable[str]]]) -> None:
        """Add the next records, (type, tags) of each; never fails, so no half of a batch is added."""
        types, by_type, by_tag = self.types, self.by_type, self.by_tag
        entry = self.size << TYPE_BITS
        for type_, tags in records:
            number = types.get(type_)
            if number is None:
                number = types[type_] = len(types) + 1
            entry += 1 << TYPE_BITS
            typed = entry | number
            by_type[number].append(typed)
            for tag in tags:
                by_tag[tag].append(typed)
        self.size = entry >> TYPE_BITS

    def of(self, term: Term) -> list[int]:
        """The entries of a term, in order."""
        found = self.by_tag.get(term) if isinstance(term, str) else self.by_type.get(term)
        return found or []

    def new_types(self) -> list[tuple[int, str]]:
        """Rows of `types` that are missing."""
        return [(number, name) for name, number in self.types.items() if number > self.stored]

    def postings(self) -> Iterator[tuple[Term, int, bytes]]:
        """Rows of `postings` for the whole tail, in the order of their key."""
        terms: tuple[dict[Any, list[int]], ...] = (self.by_type, self.by_tag)
        for some in terms:
            for term in sorted(some):
                entries = some[term]
                for start in range(0, len(entries), ROW_ENTRIES):
                    row = entries[start : start + ROW_ENTRIES]
                    yield term, row[0] >> TYPE_BITS, pack(row)


def follow(tail: Tail | None, reads: Reads, size: int, indexed: int) -> Tail:
    """Return the tail of a log whose head says `size` and `indexed`: `tail` itself, extended, if its base still holds.

    Raises:
        WrongError: the head cannot be true, or a body names no type and tags.
    """
    if not 0 <= size - indexed < MAX_TAIL or indexed < 0:
        raise WrongError(
            "the head says of the index what cannot be",
            code="store.head_mismatch",
            hint="muniment verify; restore a copy",
            expected=f"at most {MAX_TAIL - 1} records after it",
            found=f"{indexed} of {size} indexed",
        )
    if tail is None or tail.base != indexed or tail.size > size:
        tail = Tail(indexed, reads.types())
    while tail.size < size:
        rows = reads.bodies(tail.size, size, _PAGE)
        if not rows:
            raise _missing(tail.size + 1)
        for position, body in rows:
            if position != tail.size + 1:
                raise _missing(tail.size + 1)
            tail.add((names_of(position, body),))
    return tail


def names_of(position: int, body: bytes) -> tuple[str, Iterable[str]]:
    """Type and distinct tags of a stored record.

    Raises:
        WrongError: it names none.
    """
    names = _names(position, body)
    return names.type, names.tags if len(names.tags) < 2 else dict.fromkeys(names.tags)


def adopted(
    bodies: Iterable[bytes], size: int
) -> tuple[list[str | None], list[tuple[str, Iterable[str]]], str]:
    """Take apart records that another log holds: the id, and (type, tags), of each; the instant of the last ("" in
    an opaque log).

    Raises:
        WrongError: one names no type and tags.
    """
    ids: list[str | None] = []
    kinds: list[tuple[str, Iterable[str]]] = []
    recorded_at = ""
    for position, body in enumerate(bodies, size + 1):
        names = _names(position, body)
        ids.append(names.id)
        kinds.append((names.type, dict.fromkeys(names.tags)))
        recorded_at = names.recorded_at
    return ids, kinds, recorded_at


def _names(position: int, body: bytes) -> Names:
    try:
        return _decode(body)
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError) as error:
        raise WrongError(
            f"the record at position {position} names no type and tags",
            code="store.leaf",
            hint="muniment verify; restore a copy",
            found=str(error)[:100],
        ) from error


_decode = msgspec.json.Decoder(Names).decode


def pack(entries: Sequence[int]) -> bytes:
    """The bytes of a row."""
    numbers = array("Q", entries)
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers.tobytes()


def unpack(data: bytes) -> array[int]:
    """The entries of a row.

    Raises:
        WrongError: no whole number of them.
    """
    numbers = array("Q")
    try:
        numbers.frombytes(data)
    except (ValueError, TypeError) as error:
        raise WrongError(
            "a row of the index is damaged", code="store.index", hint="muniment verify; restore a copy"
        ) from error
    if sys.byteorder == "big":
        numbers.byteswap()
    return numbers


def between(entries: Sequence[int], after: int, until: int) -> Sequence[int]:
    """The entries with `after < position <= until`."""
    low, high = (after + 1) << TYPE_BITS, (until + 1) << TYPE_BITS
    if not entries or (entries[0] >= low and entries[-1] < high):
        return entries
    return entries[bisect_left(entries, low) : bisect_left(entries, high)]


def _missing(position: int) -> WrongError:
    return WrongError(
        f"the record at position {position} is missing",
        code="store.head_mismatch",
        hint="muniment verify; restore a copy",
    )
