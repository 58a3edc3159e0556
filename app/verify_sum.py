"""The index as the bodies make it against the index as stored, by one secret sum on each side.

Both are sets of (term, position, type). Each side adds up term · position · type over its set, each of the three replaced by a
number that a key drawn for this run makes of it, modulo a prime. The difference of two sets that differ is a polynomial of degree
four in those numbers, so it comes out zero by chance only: at most 4 in 2^61 (Schwartz, Zippel), and whoever changed the
store did not know the key. Sums are added in any order, by any number of processes, and keep no term.

What is found to differ is named by `verify_tags.Index`, which knows every term.
"""

from __future__ import annotations

from array import array
from collections.abc import Iterable, Iterator, Sequence
from hashlib import blake2b, shake_128
from operator import mul
from typing import Any

from muniment.store.index_tail import TYPE_BITS, TYPE_MASK, unpack
from muniment.store.inspect import PostingCells

PRIME = 2**61 - 1
SPAN_BITS = 13  # positions of one survey
SPAN = 1 << SPAN_BITS
_LOW = SPAN - 1
LONGEST = 200  # characters of a tag
_KEPT = 50_000  # terms; one costs 1 us to make again


class Sum:
    """The numbers of one run, made from its key (32 bytes), for positions up to `indexed` and types of these numbers."""

    def __init__(self, key: bytes, indexed: int, types: Iterable[int]) -> None:
        self._key = key
        self._indexed = indexed
        words = array("Q", shake_128(key + b"low").digest(8 * SPAN))
        self.low = [word % PRIME for word in words]
        self._after = self.low[-1:] + self.low[:-1]  # by position, not by position - 1
        self._terms: dict[Any, int] = {}
        self._types = {number: self._number(b"type", b"%d" % number) for number in types}
        self._spans: dict[int, int] = {}

    def _number(self, kind: bytes, value: bytes) -> int:
        return int.from_bytes(blake2b(kind + value, key=self._key, digest_size=16).digest(), "little") % PRIME

    def term(self, term: Any) -> int:
        """The number of a tag, or of the number of a type as a term.

        Raises:
            KeyError: a tag so long that a store may keep something else in its place.
        """
        found = self._terms.get(term)
        if found is None:
            if type(term) is str and len(term) > LONGEST:
                raise KeyError(term)
            if len(self._terms) >= _KEPT:
                self._terms.clear()
            found = self._terms[term] = (
                self._number(b"tag", term.encode("utf-8", "surrogatepass"))
                if type(term) is str
                else self._number(b"number", b"%d" % term)
            )
        return found

    def span(self, high: int) -> int:
        """The number of a span of positions; that of a position is this times `low`."""
        found = self._spans.get(high)
        if found is None:
            found = self._spans[high] = self._number(b"span", b"%d" % high)
        return found

    def made(self, number: int, places: Iterable[int], tags: Sequence[Sequence[str]]) -> int:
        """The part of records of one type: where each stands in its span, and its distinct tags; times `span` is due."""
        own, known, low = self.term(number), self._terms, self.low
        try:
            sums = [sum(map(known.__getitem__, some), own) for some in tags]
        except KeyError:
            term = self.term
            sums = [sum(map(term, some), own) for some in tags]
        return int(sum(map(mul, sums, [low[at] for at in places]))) * self._types[number] % PRIME

    def stored(self, pages: Iterable[list[PostingCells]]) -> Iterator[int | None]:
        """The part of each page of rows; None, and then the end, where a row is none, out of order, or of what is unknown."""
        last: tuple[Any, int] = ("", 0)
        for page in pages:
            total = 0
            for term, first, data in page:
                if type(data) is not bytes or not data or len(data) % 8 or type(term) not in (str, int):
                    yield None
                    return
                entries = unpack(data).tolist()
                start, end = entries[0] >> TYPE_BITS, entries[-1] >> TYPE_BITS
                sound = start == first and type(first) is int and first > 0 and end <= self._indexed
                if not sound or (last[0] == term and last[1] >= start) or entries != sorted(entries):
                    yield None
                    return
                last = (term, end)
                try:
                    total += self._row(start - 1, end - 1, entries) % PRIME * self.term(term)
                except KeyError:
                    yield None
                    return
            yield total % PRIME

    def _row(self, start: int, end: int, entries: list[int]) -> int:
        low, types = self._after, self._types
        if start >> SPAN_BITS == end >> SPAN_BITS:
            numbers = [low[entry >> TYPE_BITS & _LOW] * types[entry & TYPE_MASK] for entry in entries]
            return sum(numbers) * self.span(start >> SPAN_BITS)
        return sum(
            low[entry >> TYPE_BITS & _LOW]
            * types[entry & TYPE_MASK]
            * self.span((entry >> TYPE_BITS) - 1 >> SPAN_BITS)
            for entry in entries
        )
