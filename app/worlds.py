"""Worlds: what decisions selected and folded, kept from one decision to the next.

1. All that is kept stands at one position. Before it is used the log is asked what it holds behind that; the frontier kept with
   it, extended by those records, must give the frontier of the log as it is (RFC 6962, 2.1.2). Else nothing kept is used.
2. A world is kept by its query, and is the fold of exactly the records of that query. Deciders change none (decision 0003).
3. The facts of a query are kept too, so that a query which shares items with earlier ones reads only the rest.
4. It is bounded. Who uses it has it alone: a handler takes it, and what fails while it is taken is not given back.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence

import msgspec
from muniment.app.collector import quiet_collector
from muniment.domain.decision import Fact
from muniment.domain.envelope import read_facts, read_names
from muniment.domain.errors import MunimentError
from muniment.domain.folding import FOLD
from muniment.domain.query import Item, Query
from muniment.domain.world import World, fold
from muniment.store.api import Appended, Draft, Log
from muniment.store.merkle import Frontier

MAX_NEW = 1024  # records behind the kept position that are read; where there are more it begins anew
MAX_READS, MAX_READ_BYTES = 512, 8 << 20  # bytes of records; as facts they take about three times that
MAX_WORLDS, MAX_WORLD_BYTES = 512, 16 << 20  # bytes as msgpack
_SMALL = 64 << 10  # up to here a world is taken to be as large as its records, which it is not


class _Kept:
    """The facts of a query, or the world they fold to; `size` in bytes."""

    __slots__ = ("facts", "query", "size", "world")

    def __init__(self, query: Query, size: int, facts: list[Fact], world: World | None = None) -> None:
        self.query, self.size, self.facts, self.world = query, size, facts, world

    def add(self, fact: Fact) -> None:
        """Take in one more."""
        if self.world is None:
            self.facts.append(fact)
        else:
            fold(self.world, (fact,), FOLD)


class _Shelf:
    """Some of one kind by their query, the one used longest ago first."""

    def __init__(self, most: int, most_bytes: int) -> None:
        self.by_query: dict[Query, _Kept] = {}
        self._most, self._most_bytes, self._bytes = most, most_bytes, 0

    def put(self, kept: _Kept) -> None:
        self.by_query[kept.query] = kept
        self._bytes += kept.size

    def used(self, query: Query) -> _Kept | None:
        kept = self.by_query.pop(query, None)
        if kept is not None:
            self.by_query[query] = kept
        return kept

    def grow(self, kept: _Kept, size: int) -> None:
        kept.size += size
        self._bytes += size

    def drop(self, kept: _Kept) -> None:
        del self.by_query[kept.query]
        self._bytes -= kept.size

    def too_much(self) -> _Kept | None:
        """The one to let go of, None if all is within bounds."""
        if len(self.by_query) > self._most or self._bytes > self._most_bytes:
            return next(iter(self.by_query.values()))
        return None


class Worlds:
    """The worlds of one log, for one user at a time."""

    def __init__(self, log: Log) -> None:
        self._log = log
        self._frontier = Frontier()
        self._forget()

    @property
    def at(self) -> int:
        """The position that everything kept stands at."""
        return self._frontier.size

    def advance(self) -> int:
        """Take in what the log holds behind `at`, and return the new `at`.

        Raises:
            UnavailableError, WrongError: the log could not be read.
        """
        size, roots = self._log.frontier()
        known = self._frontier
        if size != known.size or roots != known.roots:
            if self._by_tag and not (self._follow(size) and known.roots == roots):
                self._forget()
            known.size, known.roots = size, roots
        return size

    def appended(self, answer: Appended, drafts: Sequence[Draft]) -> None:
        """Take in what was appended without reading it, if it came right behind `at`; `advance` compares the frontiers."""
        if answer.first == self.at + 1 and not answer.duplicate:
            for draft in drafts:
                body = draft.leaf(answer.recorded_at)
                self._frontier.append(body)
                self._add(self.at, body, draft.type, draft.tags)

    def world(self, query: Query) -> World:
        """The fold of the records of a query up to `at`. It is to be read only, and moves on with what is here.

        Raises:
            InvalidError: a record is none, or does not fit those before it.
        """
        kept = self._worlds.used(query)
        if kept is None:
            with quiet_collector():
                facts, size = self._facts(query)
                world = fold(World(), facts, FOLD)
            size = size if size <= _SMALL else len(msgspec.msgpack.encode(world))
            kept = _Kept(query, size, [], world)
            self._keep(kept)
        assert kept.world is not None
        return kept.world

    def trim(self) -> None:
        """Let go of what was not used for longest, until the rest is within bounds."""
        for shelf in (self._reads, self._worlds):
            while (kept := shelf.too_much()) is not None:
                self._drop(kept)

    # -- facts -----------------------------------------------------------------------------------------------------

    def _facts(self, query: Query) -> tuple[list[Fact], int]:
        """The facts of a query in order, and the bytes of their records."""
        missing = tuple(item for item in query if item not in self._read_of)
        if missing:
            self._read(missing)
        wanted = frozenset(query)
        for kept in self._holding(query):
            if not wanted.issuperset(kept.query):
                self._split(kept)
        reads = self._holding(query)
        for kept in reads:
            self._reads.used(kept.query)
        size = sum(kept.size for kept in reads)
        found = [kept.facts for kept in reads if kept.facts]
        if len(found) == 1:
            return found[0], size
        merged = {fact.position: fact for facts in found for fact in facts}
        return [merged[position] for position in sorted(merged)], size

    def _holding(self, query: Query) -> list[_Kept]:
        return list({id(kept): kept for kept in (self._read_of[item] for item in query)}.values())

    def _read(self, query: Query) -> None:
        """Read the facts of items that no read holds yet, all at once."""
        rows = list(self._log.read(query, until=self.at)) if self.at else []
        self._keep(_Kept(query, sum(len(body) for _, body in rows), read_facts(rows)))

    def _split(self, kept: _Kept) -> None:
        """Keep the facts of each item apart: another query wants some of them."""
        self._drop(kept)
        carried = [(fact, frozenset(fact.tags)) for fact in kept.facts]
        each = kept.size // (len(carried) or 1)
        for item in kept.query:
            own = [fact for fact, tags in carried if item.matches(fact.type, tags)]
            self._keep(_Kept((item,), each * len(own), own))

    # -- what is new -----------------------------------------------------------------------------------------------

    def _follow(self, size: int) -> bool:
        """Add the records behind `at`; False if they are too many, or not as they should be."""
        if not 0 < size - self.at <= MAX_NEW:
            return False
        for position, body in self._log.read(after=self.at, until=size):
            self._frontier.append(body)
            try:
                names = read_names(body, position)
            except MunimentError:  # whoever selects it will say so
                return False
            self._add(position, body, names.type, names.tags)
        return self.at == size

    def _add(self, position: int, body: bytes, type_: str, tags: Iterable[str]) -> None:
        """Add a record to all that selects it. What it does not fit is dropped: its own decision will say so."""
        carried = frozenset(tags)
        near: list[_Kept] = []
        for tag in carried:
            near += (kept for kept in self._by_tag.get(tag, ()) if kept not in near)
        fact = None
        for kept in near:
            if any(item.matches(type_, carried) for item in kept.query):
                try:
                    fact = fact or read_facts(((position, body),))[0]
                    kept.add(fact)
                except MunimentError:
                    self._drop(kept)
                else:
                    (self._reads if kept.world is None else self._worlds).grow(kept, len(body))

    # -- what is kept ----------------------------------------------------------------------------------------------

    def _keep(self, kept: _Kept) -> None:
        if kept.world is None:
            self._reads.put(kept)
            self._read_of.update(dict.fromkeys(kept.query, kept))
        else:
            self._worlds.put(kept)
        for tag in {_key(item) for item in kept.query}:
            self._by_tag[tag].append(kept)

    def _drop(self, kept: _Kept) -> None:
        if kept.world is None:
            self._reads.drop(kept)
            for item in kept.query:
                del self._read_of[item]
        else:
            self._worlds.drop(kept)
        for tag in {_key(item) for item in kept.query}:
            self._by_tag[tag].remove(kept)
            if not self._by_tag[tag]:
                del self._by_tag[tag]

    def _forget(self) -> None:
        self._reads = _Shelf(MAX_READS, MAX_READ_BYTES)
        self._worlds = _Shelf(MAX_WORLDS, MAX_WORLD_BYTES)
        self._read_of: dict[Item, _Kept] = {}
        self._by_tag: defaultdict[str, list[_Kept]] = defaultdict(list)


def _key(item: Item) -> str:
    """The tag an item is found by: each has one (settled.md, 6)."""
    return item.tags[0]


__all__ = ["Worlds"]
