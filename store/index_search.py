"""From a query to positions, in order, through the index; bodies are read last and only those asked for.

Each item becomes one or more arms, each a walk along the history of one term, so the cost of a page depends on
the page, not on the log:

* tags: walks the rarest tag, filters by the type inside each entry, probes the other tags;
* only types: one walk for each type;
* neither: every record, so the whole query selects every record.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Sequence
from itertools import chain
from typing import NamedTuple

from muniment.domain.errors import WrongError
from muniment.domain.query import Query
from muniment.store.api import Page
from muniment.store.index_tail import TYPE_BITS, TYPE_MASK, Tail, between, unpack
from muniment.store.reads import Reads, Term

PROBE = 32  # rows counted, at most, to find the rarer of two tags
ROWS_FIRST, ROWS_MOST = 2, 64  # rows fetched at once: few for a last match, at most 7 168 entries

_BODIES_AT_ONCE = 512


class Arm(NamedTuple):
    """Records with the term, all the other tags, and one of the types (any if there are none)."""

    term: Term
    types: frozenset[int] = frozenset()
    others: tuple[str, ...] = ()


class Search:
    """One query over the index rows up to `tail.base` and the tail after it (`index_tail`, rule 2)."""

    def __init__(self, query: Query, reads: Reads, tail: Tail) -> None:
        self._reads = reads
        self._tail = tail
        self._arms = list(dict.fromkeys(self._compile(query)))
        self._ahead: dict[Arm, tuple[int, int, list[int]]] = {}  # the hits of an arm in (after, reached]

    def positions(self, after: int, until: int, size: int, *, reverse: bool) -> list[int]:
        """The first `size` matches of `after < position <= until`, from the end if reversed."""
        if len(self._arms) == 1:
            return self._walk(self._arms[0], after, until, size, reverse=reverse)
        walk = self._walk_back if reverse else self._walk_on
        found = {at for arm in self._arms for at in walk(arm, after, until, size)}
        return sorted(found, reverse=reverse)[:size]

    def page(self, after: int, until: int, size: int, *, reverse: bool) -> Page:
        """The records at `positions`."""
        return bodies_at(self.positions(after, until, size, reverse=reverse), self._reads)

    def last(self, after: int, until: int) -> int:
        """Position of the last match of `after < position <= until`, 0 if none."""
        return next(iter(self.positions(after, until, 1, reverse=True)), 0)

    def _compile(self, query: Query) -> Iterator[Arm]:
        for types, tags in query:
            numbers = frozenset(self._tail.types[name] for name in types if name in self._tail.types)
            if types and not numbers:
                continue
            if tags:
                first, *others = self._rarest_first(tags)
                yield Arm(first, numbers, tuple(others))
            else:
                yield from (Arm(number) for number in sorted(numbers))

    def _rarest_first(self, tags: Sequence[str]) -> Sequence[str]:
        if len(tags) == 1:
            return tags
        return sorted(
            dict.fromkeys(tags),
            key=lambda tag: (self._reads.rows_of(tag, PROBE), len(self._tail.of(tag))),
        )

    def _walk_back(self, arm: Arm, after: int, until: int, size: int) -> list[int]:
        return self._walk(arm, after, until, size, reverse=True)

    def _walk_on(self, arm: Arm, after: int, until: int, size: int) -> list[int]:
        """Walk forward, and page after page over no entry twice: an arm of few hits reaches far ahead of the others."""
        start, reached, hits = self._ahead.get(arm, (after, after, []))
        if not start <= after <= reached:
            reached, hits = after, []
        hits = hits[bisect_right(hits, after) :]
        if (wanted := size - len(hits)) > 0 and reached < until:
            more = self._walk(arm, reached, until, wanted, reverse=False)
            reached = more[-1] if len(more) == wanted else until
            hits += more
        self._ahead[arm] = (after, reached, hits)
        return hits[: min(size, bisect_right(hits, until))]

    def _walk(self, arm: Arm, after: int, until: int, size: int, *, reverse: bool) -> list[int]:
        found: list[int] = []
        term, types, others = arm
        for entries in self._blocks(term, after, until, reverse=reverse):
            if types:
                hits = [entry >> TYPE_BITS for entry in entries if entry & TYPE_MASK in types]
            else:
                hits = [entry >> TYPE_BITS for entry in entries]
            for tag in others:
                hits = self._also(tag, hits)
            if reverse:
                hits.reverse()
            found += hits
            if len(found) >= size:
                break
        return found[:size]

    def _blocks(self, term: Term, after: int, until: int, *, reverse: bool) -> Iterator[Sequence[int]]:
        """Runs of entries in order, or runs in reverse order (each still ascending)."""
        tail = self._tail
        fresh = between(tail.of(term), after, until) if until > tail.base else ()
        if reverse and fresh:
            yield fresh
        stored = min(until, tail.base)
        if after < stored:
            rows = self._backward(term, after, stored) if reverse else self._forward(term, after, stored)
            for data in rows:
                yield between(unpack(data), after, stored)
        if fresh and not reverse:
            yield fresh

    def _forward(self, term: Term, after: int, until: int) -> Iterator[bytes]:
        count = ROWS_FIRST
        rows = self._reads.forward(term, after, until, count)
        while rows:
            yield from (data for _, data in rows)
            if len(rows) < count:
                return
            count = min(count * 4, ROWS_MOST)
            rows = self._reads.onward(term, rows[-1][0], until, count)

    def _backward(self, term: Term, after: int, until: int) -> Iterator[bytes]:
        count = ROWS_FIRST
        while rows := self._reads.backward(term, until, count):
            for first, data in rows:
                yield data
                if first <= after + 1:
                    return
            if len(rows) < count:
                return
            until, count = rows[-1][0] - 1, min(count * 4, ROWS_MOST)

    def _also(self, tag: str, positions: Sequence[int]) -> list[int]:
        """Those of some ascending positions that carry the tag too; each row of it is read once."""
        base = self._tail.base
        fresh = {entry >> TYPE_BITS for entry in self._tail.of(tag)}
        row: set[int] = set()
        last = 0  # position of the last entry of `row`
        found = []
        for at in positions:
            if at > base:
                row, last = fresh, at
            elif at > last:
                rows = self._reads.backward(tag, at, 1)
                row = {entry >> TYPE_BITS for entry in chain.from_iterable(unpack(data) for _, data in rows)}
                last = max(row, default=0)
            if at in row:
                found.append(at)
        return found


def selects_all(query: Query) -> bool:
    """Tell whether every record matches."""
    return not query or any(not types and not tags for types, tags in query)


def bodies_at(positions: Sequence[int], reads: Reads) -> Page:
    """The records at some positions, in their order.

    Raises:
        WrongError: the index names a record that is not there.
    """
    page: Page = []
    for start in range(0, len(positions), _BODIES_AT_ONCE):
        some = positions[start : start + _BODIES_AT_ONCE]
        rows = reads.bodies_at(some)
        if len(rows) != len(some):
            raise WrongError(
                "the index names records that are not there",
                code="store.index",
                hint="muniment verify; restore a copy",
                found=f"{len(rows)} of {len(some)} after position {min(some)}",
            )
        rows.sort(key=_position, reverse=some[0] > some[-1])
        page += rows
    return page


def _position(row: tuple[int, bytes]) -> int:
    return row[0]
