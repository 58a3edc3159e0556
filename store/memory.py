"""A log in memory, for tests: the contract of `store.api` but for durability, and nothing else."""

from __future__ import annotations

import threading
from collections.abc import Iterable, Iterator, Sequence

from muniment.domain import instant
from muniment.domain.errors import MunimentError, UnavailableError
from muniment.domain.query import Item, Query
from muniment.store import admission
from muniment.store.api import (
    KIND_RECORDS,
    Appended,
    Condition,
    Page,
)
from muniment.store.base import BaseLog, Clock, Select, real_clock
from muniment.store.groupcommit import Work
from muniment.store.index_tail import adopted
from muniment.store.merkle import Frontier


class MemoryLog(BaseLog):
    """Lists under a lock; every rule is written in its plainest form, so it is the model of the others."""

    def __init__(self, kind: str = KIND_RECORDS, *, clock: Clock | None = None) -> None:
        super().__init__(kind)
        self._clock = clock or real_clock
        self._lock = threading.RLock()
        self._bodies: list[bytes] = []
        self._leaves: list[bytes] = []
        self._kinds: list[tuple[str, frozenset[str]]] = []
        self._ids: dict[str, int] = {}
        self._edge = Frontier()
        self._recorded_at = ""

    def now(self) -> int:
        """The host's clock."""
        return self._clock()

    def _adopt(self, bodies: Sequence[bytes], recorded_at: str | None, after: int | None) -> int:
        ids, kinds, at = adopted(bodies, len(self._bodies))
        with self._lock:
            admission.check_size(len(self._bodies), after)
            for id_, body, (type_, tags) in zip(ids, bodies, kinds, strict=True):
                self._store(id_, type_, tags, body)
            self._recorded_at = max(self._recorded_at, at or recorded_at or "")
            return len(self._bodies)

    def _store(self, id_: str | None, type_: str, tags: Iterable[str], body: bytes) -> None:
        self._bodies.append(body)
        self._leaves.append(self._edge.append(body))
        self._kinds.append((type_, frozenset(tags)))
        if id_ is not None:
            self._ids[id_] = len(self._bodies)

    def _commit(self, group: Sequence[Work]) -> None:
        with self._lock:
            now = self._clock()
            stamp = max(instant.from_micros(now), self._recorded_at)
            for work in group:
                try:
                    work.answer = self._append(work, now, stamp)
                except MunimentError as error:
                    work.error = error

    def _append(self, work: Work, now: int, stamp: str) -> Appended:
        size = len(self._bodies)
        found = [self._ids.get(draft.id or "") for draft in work.drafts]
        earlier = admission.duplicate(
            work.drafts, [None if at is None else (at, self._bodies[at - 1]) for at in found]
        )
        if earlier is not None:
            return Appended(*earlier, duplicate=True)
        admission.check_age(work.decided_at, now)
        admission.check_place(work.drafts, self._kind, size)
        if work.condition is not None:
            admission.check_ahead(work.condition, size)
            self._check_condition(work.condition)
        for draft in work.drafts:
            self._store(draft.id, draft.type, draft.tags, draft.leaf(stamp))
        self._recorded_at = stamp
        return Appended(size + 1, len(self._bodies), stamp)

    def _check_condition(self, condition: Condition) -> None:
        for position in range(max(condition.after, 0) + 1, len(self._kinds) + 1):
            if self._matches(condition.query, position):
                raise admission.conflict(position, condition.after)

    def _matches(self, query: Query, position: int) -> bool:
        type_, tags = self._kinds[position - 1]
        return not query or any(Item(*item).matches(type_, tags) for item in query)

    def _selector(self, query: Query, end: int) -> Select:  # noqa: ARG002  # the lists grow in place
        def select(after: int, until: int, size: int, reverse: bool) -> Page:
            with self._lock:
                positions = range(max(after, 0) + 1, min(until, len(self._bodies)) + 1)
                page: Page = []
                for position in reversed(positions) if reverse else positions:
                    if self._matches(query, position):
                        page.append((position, self._bodies[position - 1]))
                        if len(page) == size:
                            break
                return page

        return select

    def _state(self) -> tuple[Frontier, str]:
        self._check_open()
        with self._lock:
            return self._edge.copy(), self._recorded_at

    def _size(self) -> int:
        self._check_open()
        return len(self._bodies)

    def types(self) -> list[str]:
        """Every type the log holds, in order of its first record."""
        with self._lock:
            return list(dict.fromkeys(type_ for type_, _ in self._kinds))

    def positions_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Positions of those record ids that are in the log."""
        self._check_open()
        with self._lock:
            return {id_: self._ids[id_] for id_ in ids if id_ in self._ids}

    def leaves(self, *, after: int = 0, until: int | None = None) -> Iterator[bytes]:
        """Leaf hashes in order of position."""
        return iter(self._leaves[max(after, 0) : max(self._end(until), 0)])

    def _release(self) -> None:
        """Memory goes with the object."""

    def _check_open(self) -> None:
        if self._is_closed:
            raise UnavailableError("the log is closed", code="store.closed", hint="open it again")
