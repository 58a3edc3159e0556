"""Tags of a record: those its payload makes, and the rows that a database keeps of them."""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from itertools import chain, groupby
from operator import itemgetter
from typing import Any

import msgspec
from muniment.domain.records import PREFIXES, TABLE
from muniment.domain.reference import subject_tags
from muniment.store.index_tail import TYPE_BITS, pack, unpack
from muniment.store.inspect import Cells, PostingCells
from muniment.store.reads import Term

_decode = msgspec.json.Decoder().decode

MAX_TERMS = 20  # that differ are looked at entry by entry
ENTRY = 8  # bytes
SHORT = 12 * ENTRY
SURE = 64  # characters: every store keeps a tag of fewer as it is
BLOCK_BITS = 15
MAX_POSITION = 2**40 - 1  # what an entry holds beside the type


class Derived:
    """The tags that a payload makes (`domain.records.tags_of`), prepared for each type: 0.4 us in place of 2 us."""

    def __init__(self, type_: str) -> None:
        fields = TABLE[type_].tags.split()
        self.constant = frozenset("scope:*" if f == "*" else f for f in fields if f in ("*", "incident:*"))
        self.many = tuple((f, f[:-1] + ":") for f in fields if f in ("slots", "releases"))
        self.scopes = tuple(f for f in fields if f in ("scope", "channel", "slot"))
        self.plain = tuple((f, PREFIXES[f] + ":") for f in fields if f in PREFIXES)
        self.subject = "subject" in fields

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
        for field, prefix in self.many:
            for name in data.get(field) or ():
                if prefix + name not in tags:
                    return f"{prefix}{name}"
        if self.subject:
            return next((tag for tag in subject_tags(data["subject"]) if tag not in tags), "")
        return ""


class Index:
    """The index as the bodies make it, against the index as stored (`store.index_tail`).

    For each term, a tag or the number of a type, both sides keep a digest of its entries in order, chained by blocks of
    positions: 150 bytes a term, whatever its history. Only where they differ are the entries themselves compared.

    Args:
        term: gives the form in which the store keeps a term.
    """

    def __init__(self, indexed: int, term: Callable[[Term], Any] = lambda term: term) -> None:
        self.term = term
        self.indexed = min(indexed, MAX_POSITION)
        self.types: dict[str, int] = {}
        self._open: defaultdict[Any, list[int]] = defaultdict(list)
        self._block = 0
        self._made: dict[Any, bytes] = {}

    @classmethod
    def of(cls, pages: Iterable[list[Cells]], indexed: int, term: Callable[[Term], Any]) -> Index:
        """The index that the bodies make; a row that is no record of type and tags has none."""
        index, last = cls(indexed, term), 0
        for page in pages:
            for position, _, _, body in page:
                last = max(position, last + 1) if type(position) is int else last + 1
                try:
                    record = _decode(body)
                    if type(record["type"]) is not str:
                        continue
                    tags = record.get("tags")
                    held = set(tags) if type(tags) in (list, str, dict) else set()
                except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError, RecursionError):
                    continue
                index.add(last, [(record["type"], held)])
        return index

    def add(self, position: int, records: Sequence[tuple[str, Iterable[str]]]) -> None:
        """Add (type, distinct tags) of records that follow one another from a position on; positions only grow."""
        block = position >> BLOCK_BITS
        if (position + len(records) - 1) >> BLOCK_BITS != block and len(records) > 1:
            cut = ((block + 1) << BLOCK_BITS) - position
            self.add(position, records[:cut])
            self.add(position + cut, records[cut:])
            return
        if block != self._block:
            self._close()
            self._block = block
        if position + len(records) - 1 > self.indexed:
            records = records[: max(self.indexed - position + 1, 0)]
        types, terms = self.types, self._open
        entry = (position - 1) << TYPE_BITS
        for type_, tags in records:
            number = types.get(type_)
            if number is None:
                number = types[type_] = len(types) + 1
            entry += 1 << TYPE_BITS
            typed = entry | number
            terms[number].append(typed)
            for tag in tags:
                terms[tag if len(tag) < SURE else self.term(tag)].append(typed)

    def _close(self) -> None:
        made = self._made
        for term, entries in self._open.items():
            made[term] = _chained(made.get(term, b""), pack(entries))
        self._open.clear()

    def differing(self, rows: Iterable[list[PostingCells]]) -> tuple[list[Any], list[tuple[Any, Any, str]]]:
        """The terms that differ, at most `MAX_TERMS`; and rows that are no rows: (term, first, why). Asked once."""
        self._close()
        made = self._made
        differ: set[Any] = set()
        odd: list[tuple[Any, Any, str]] = []
        for term, group in groupby(chain.from_iterable(rows), key=itemgetter(0)):
            value = b""
            chunks: list[bytes] = []
            now = -1
            for _, first, data in group:
                if type(data) is not bytes or len(data) % ENTRY or type(term) not in (str, int, bytes):
                    odd.append((term, first, "no term, or no whole number of entries"))
                    continue
                start = int.from_bytes(data[:ENTRY], "little") >> TYPE_BITS
                if not data or start != first or type(first) is not int:
                    odd.append((term, first, "the first entry is another one"))
                for block, part in _blocks(start, data):
                    if block != now:
                        if chunks:
                            value = _chained(value, b"".join(chunks))
                        now, chunks = block, []
                    chunks.append(part)
            if made.pop(term, b"") != _chained(value, b"".join(chunks)):
                differ.add(term)
        return sorted({*differ, *made}, key=str)[:MAX_TERMS], odd


def _chained(before: bytes, entries: bytes) -> bytes:
    """The digest of a history grown by a block; a short one stands for itself, and no digest has its length."""
    if not before and len(entries) <= SHORT:
        return entries
    return b"\x00" + hashlib.sha256(before + entries).digest()


def _blocks(start: int, data: bytes) -> Iterable[tuple[int, bytes]]:
    """A row of postings cut where blocks of positions end; nearly all lie in one."""
    if int.from_bytes(data[-ENTRY:], "little") >> (TYPE_BITS + BLOCK_BITS) == start >> BLOCK_BITS:
        return ((start >> BLOCK_BITS, data),)
    pieces: dict[int, list[int]] = {}
    for entry in unpack(data):
        pieces.setdefault(entry >> (TYPE_BITS + BLOCK_BITS), []).append(entry)
    return [(block, pack(entries)) for block, entries in pieces.items()]
