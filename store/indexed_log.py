"""A log over a database: reading through the index, writing through a `Writer`; SQLite and PostgreSQL fill in the rest."""

from __future__ import annotations

import threading
from abc import abstractmethod
from collections.abc import Iterator, Sequence

from muniment.domain.errors import MunimentError, UnavailableError, WrongError
from muniment.domain.query import Query
from muniment.store.admission import is_record_id
from muniment.store.api import Page
from muniment.store.base import PAGE, BaseLog, Select, shorter
from muniment.store.groupcommit import Work
from muniment.store.index_search import Search, selects_all
from muniment.store.index_tail import MAX_TAIL, Tail, follow
from muniment.store.merkle import Frontier
from muniment.store.reads import Reads
from muniment.store.writer import Writer


class IndexedLog(BaseLog):
    """A log but for its connections.

    Args:
        name: what errors call it; never holds a password.
        reads: the selects, each on a connection that no other thread uses meanwhile.
    """

    def __init__(self, kind: str, name: str, reads: Reads, *, read_only: bool) -> None:
        super().__init__(kind)
        self._name = name
        self._reads = reads
        self._read_only = read_only
        self._tail: Tail | None = None
        self._tailing = threading.Lock()
        self._writer: Writer | None = None

    @abstractmethod
    def _make_writer(self) -> Writer:
        """The writer of this process; called before its first append."""

    def _ready_writer(self) -> Writer:
        if self._read_only:
            raise UnavailableError(
                f"{self._name} was opened read-only", code="store.read_only", hint="open it for writing"
            )
        if self._writer is None:
            self._writer = self._make_writer()
        return self._writer

    def _commit(self, group: Sequence[Work]) -> None:
        self._ready_writer().commit(group)

    def _adopt(self, bodies: Sequence[bytes], recorded_at: str | None, after: int | None) -> int:
        return self._ready_writer().adopt(bodies, recorded_at, after)

    def _selector(self, query: Query, end: int) -> Select:
        if selects_all(query):

            def select_all(after: int, until: int, size: int, reverse: bool) -> Page:
                page = self._reads.bodies(after, until, size, reverse=reverse)
                if len(page) < min(size, until - max(after, 0)):
                    raise self._incomplete(until)
                return page

            return select_all
        search = Search(query, self._reads, self._tail_to(end))

        def select(after: int, until: int, size: int, reverse: bool) -> Page:
            return search.page(after, until, size, reverse=reverse)

        return select

    def _incomplete(self, until: int) -> MunimentError:
        size = self._size()
        if size < until:
            return shorter(until, size)
        return WrongError(
            f"{self._name}: records are missing below its head",
            code="store.head_mismatch",
            hint="muniment verify store; restore a copy",
        )

    def last_match(self, query: Query, *, until: int | None = None) -> int:
        """Position of the last matching record, 0 if none; reads no matching record."""
        end = self._end(until)
        if selects_all(query):
            return max(end, 0)
        return Search(query, self._reads, self._tail_to(end)).last(0, end)

    def _tail_to(self, end: int) -> Tail:
        """What follows the rows of the index, at least up to a position the log has reached.

        Threads share it: entries are only ever added, and each search takes those up to its own end.
        """
        tail = self._tail
        if tail is not None and tail.size >= end:
            return tail
        with self._tailing:
            tail, self._tail = self._tail, None  # a failure below leaves none that is half extended
            if tail is None or end - tail.base >= MAX_TAIL:
                head = self._reads.head()
                tail = follow(tail, self._reads, head.size, head.indexed)
            elif tail.size < end:
                # Rows may have come since; what was in memory before them is as true as they are.
                tail = follow(tail, self._reads, end, tail.base)
            self._tail = tail
            return tail

    def positions_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Positions of those record ids that are in the log."""
        known = [id_ for id_ in ids if is_record_id(id_)]
        return {id_: position for id_, position, _ in self._reads.by_ids(known)} if known else {}

    def types(self) -> list[str]:
        """Every type the log holds, in order of its first record."""
        return list(self._tail_to(self._size()).types)

    def leaves(self, *, after: int = 0, until: int | None = None) -> Iterator[bytes]:
        """Stored leaf hashes in order of position; the size is asked for only where rows are fewer than `until` says."""
        end, known = (self._size(), True) if until is None else (until, False)
        while after < end:
            rows = self._reads.leaves(after, end, PAGE)
            if len(rows) < min(PAGE, end - max(after, 0)):
                if known:
                    raise self._incomplete(end)
                end, known = self._end(end), True
                continue
            for _, leaf in rows:
                yield leaf
            if len(rows) < PAGE:
                return
            after = rows[-1][0]

    def _state(self) -> tuple[Frontier, str]:
        head = self._reads.head()
        try:
            return Frontier.from_bytes(head.size, head.frontier), head.recorded_at
        except ValueError as error:
            raise WrongError(
                f"{self._name}: the frontier does not fit the size of the log",
                code="store.head_mismatch",
                hint="muniment verify store; restore a copy",
                found=f"{len(head.frontier)} bytes for {head.size} records",
            ) from error

    def _size(self) -> int:
        return self._reads.size()
