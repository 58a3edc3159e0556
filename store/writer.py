"""The writer of a log: one transaction for a group of appends, over the primitives of a database.

1. The head is that of the transaction; if another process has written, what this one knows of the log's end is
   read anew.
2. The happy path asks the database nothing. Ids: the unique index refuses a known id, and only then (or when a
   condition fails) are ids looked up and the group is done again in *careful* order. Conditions: the tail and the
   one before it hold the entries since `_floor`; only an item whose tags have all been written after
   `condition.after`, or one decided before `_floor`, is searched for.
3. Rows of the index are written when `INDEX_EVERY` records have none, in the transaction of the last of them:
   a commit of one record touches the pages of the record, its id and the head, however many tags it has.
4. A failed transaction is rolled back and forgets everything, the tail of the index included.
5. "It is there already" is an acknowledgement too: what was found may be on no disk, or on one server, when the process
   or the connection that wrote it is gone. So a transaction that found and wrote nothing still commits (`_uphold`).
"""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import NamedTuple

from muniment.domain import instant
from muniment.domain.errors import MunimentError, WrongError
from muniment.domain.query import Item
from muniment.store import admission
from muniment.store.api import KIND_RECORDS, Appended, Condition, Draft
from muniment.store.groupcommit import Work
from muniment.store.index_search import Search, selects_all
from muniment.store.index_tail import TYPE_BITS, Tail, adopted, follow
from muniment.store.merkle import Frontier
from muniment.store.reads import HeadRow, Reads, Term

INDEX_EVERY = 512  # at most MAX_TAIL; 256 to 1024 are within 4 % of each other (ops/decisions/0010)

_sha256 = hashlib.sha256


class Rows(NamedTuple):
    """Records on their way into the database, `first`, `first + 1` …: a column each."""

    first: int
    ids: Sequence[str | None]
    leaves: Sequence[bytes]
    bodies: Sequence[bytes]


class Unsettled(Exception):  # noqa: N818  # control flow between a writer and its primitives
    """What was assumed does not hold (a known id, a head that moved): do the group again in careful order."""


class Writer(ABC):
    """One writing connection of a process; used by one thread at a time (group commit sees to it).

    Args:
        name: what errors call the log.
        reads: selects on the writing connection.
    """

    def __init__(self, name: str, kind: str, reads: Reads, clock: Callable[[], int]) -> None:
        self._name = name
        self._kind = kind
        self._reads = reads
        self._clock = clock
        self._tail = self._older = Tail(0, {})
        self._floor = 0
        self._frontier = Frontier()
        self._head = HeadRow(0, b"", "", 0)
        self._known = False  # whether all above speaks of the log as it is
        self._assumed = False  # whether the head of this transaction may have moved already (`_begin`)
        self._ids: list[str | None] = []  # of the records of this transaction, and their bodies
        self._bodies: list[bytes] = []
        self._names: list[
            tuple[str, Iterable[str]]
        ] = []  # (type, tags) of those that the tail has not taken yet
        self._staged: dict[str, tuple[int, bytes]] = {}  # position and body by id; filled when somebody asks
        self._size = 0  # with the records not yet inserted
        self._second: int | None = None
        self._prefix = ""

    @abstractmethod
    def close(self) -> None:
        """Let go of the connection."""

    @abstractmethod
    def _begin(self, *, careful: bool) -> HeadRow:
        """Begin a transaction and return the head it sees.

        If not careful, a database may answer with the head it knows and set `_assumed`: then a refusal is judged
        again in careful order, and `_finish` says `Unsettled` if that head has moved.
        """

    @abstractmethod
    def _finish(self, rows: Rows, tail: Tail | None, before: HeadRow, after: HeadRow) -> None:
        """Insert rows, those of the index if there is a tail to index, set the head, commit.

        Raises:
            Unsettled: an id is known, or `before` is not the head; nothing was written.
        """

    @abstractmethod
    def _abandon(self) -> None:
        """End the transaction, if one is open, without a trace; never raises."""

    @abstractmethod
    def _uphold(self, head: HeadRow) -> None:
        """End a transaction that inserted nothing, so that all it saw is as durable as a commit of its own (rule 5)."""

    @abstractmethod
    def _translated(self, error: BaseException) -> BaseException:
        """Say in our words what the driver said; any other error as it is."""

    def commit(self, group: Sequence[Work]) -> None:
        """Commit a group (`groupcommit.Commit`).

        Raises:
            UnavailableError: locked, full, read-only, no connection; nothing was written.
            WrongError: the log is damaged.
        """
        with self._translating():
            try:
                self._transaction(group, careful=False)
            except Unsettled:
                self._transaction(group, careful=True)

    def adopt(self, bodies: Sequence[bytes], recorded_at: str | None, after: int | None = None) -> int:
        """Append records byte for byte as another log holds them (copy, restore); return the size reached.

        Args:
            recorded_at: of the last one, for bodies that do not say it (an opaque log).
            after: the size the log must have.

        Raises:
            AppendConflict: it has another, or holds one of the ids.
            WrongError: a body names no type and tags.
            UnavailableError: as `commit`.
        """
        with self._translating():
            try:
                before = self._enter(careful=True)
                admission.check_size(self._size, after)
                self._ids, names, at = adopted(bodies, self._size)
                self._bodies = list(bodies)
                self._names = names
                self._size += len(bodies)
                stamp = at or recorded_at or before.recorded_at
                self._leave(before, max(stamp, before.recorded_at))
            except BaseException as error:
                self._forget()
                if isinstance(error, Unsettled):
                    raise admission.id_known() from error
                raise
        return self._size

    @contextmanager
    def _translating(self) -> Iterator[None]:
        try:
            yield
        except Exception as error:
            translated = self._translated(error)
            if translated is error:
                raise
            raise translated from error

    def _transaction(self, group: Sequence[Work], *, careful: bool) -> None:
        try:
            before = self._enter(careful=careful)
            now = self._clock()
            stamp = max(self._instant(now), before.recorded_at)
            instant_bytes = stamp.encode()
            for work in group:
                work.error = None
                try:
                    work.answer = self._admit(work, now, stamp, instant_bytes, careful=careful)
                except MunimentError as error:
                    work.error = error
            if self._bodies:
                self._leave(before, stamp)
            elif any(work.error is None for work in group):
                self._uphold(before)
            else:
                self._abandon()
        except BaseException:
            self._forget()
            raise

    def _enter(self, *, careful: bool) -> HeadRow:
        head = self._begin(careful=careful)
        if not self._known or head.size != self._head.size or head.frontier != self._head.frontier:
            try:
                self._frontier = Frontier.from_bytes(head.size, head.frontier)
            except ValueError as error:
                raise WrongError(
                    f"{self._name}: the frontier does not fit the size of the log",
                    code="store.head_mismatch",
                    hint="muniment verify store; restore a copy",
                    found=f"{len(head.frontier)} bytes for {head.size} records",
                ) from error
            tail = self._tail if self._known else None
            self._tail = self._older = follow(tail, self._reads, head.size, head.indexed)
            self._floor, self._known = self._tail.base, True
        self._head, self._size = head, head.size
        return head

    def _leave(self, before: HeadRow, stamp: str) -> None:
        tail = self._told_tail()
        leaves = [
            _sha256(b"\0" + body).digest() for body in self._bodies
        ]  # merkle.leaf_hash, without the call
        rows = Rows(before.size + 1, self._ids, leaves, self._bodies)
        self._clear()
        due = self._size - tail.base >= INDEX_EVERY
        self._frontier.extend(leaves)
        after = HeadRow(self._size, self._frontier.to_bytes(), stamp, tail.size if due else tail.base)
        self._finish(rows, tail if due else None, before, after)
        self._head = after
        if due:
            self._older, self._tail = tail, Tail(tail.size, tail.types)
            self._floor = tail.base

    def _told_tail(self) -> Tail:
        """The tail, with all that is staged."""
        names, self._names = self._names, []
        self._tail.check_room(len(names))
        self._tail.add(names)
        return self._tail

    def _clear(self) -> None:
        self._ids, self._bodies, self._names, self._staged = [], [], [], {}

    def _forget(self) -> None:
        self._known = False
        self._clear()
        self._abandon()

    def _instant(self, micros: int) -> str:
        """`instant.from_micros`, but for the part that changes once a second: 0.5 us instead of 3.6 us."""
        second, rest = divmod(micros, 1_000_000)
        if second != self._second:
            self._second, self._prefix = second, instant.from_micros(second * 1_000_000)[:20]
        return f"{self._prefix}{rest:06d}Z"

    def _admit(self, work: Work, now: int, stamp: str, instant_bytes: bytes, *, careful: bool) -> Appended:
        drafts = work.drafts
        if careful:
            earlier = self._earlier(drafts)
            if earlier is not None:
                return earlier
        try:
            if work.decided_at is not None:
                admission.check_age(work.decided_at, now)
            if self._kind != KIND_RECORDS:
                admission.check_place(drafts, self._kind, self._size)
            if work.condition is not None:
                self._check_condition(work.condition)
        except MunimentError as error:
            if self._assumed:  # what was judged may be out of date
                raise Unsettled from error
            # Ids come before the condition (settled.md, 9): a repeated append meets its own first records.
            earlier = None if careful else self._earlier(drafts)
            if earlier is not None:
                return earlier
            raise
        first = self._size + 1
        self._stage(drafts, instant_bytes)
        return Appended(first, self._size, stamp)

    def _earlier(self, drafts: Sequence[Draft]) -> Appended | None:
        """The answer of the same append done before, also earlier in this group."""
        staged = self._staged
        for at in range(len(staged), len(self._bodies)):
            staged[self._ids[at] or str(at)] = (self._head.size + 1 + at, self._bodies[at])
        ids = [draft.id for draft in drafts if draft.id is not None]
        found = {id_: (at, body) for id_, at, body in self._reads.by_ids(ids)} if ids else {}
        found.update((id_, staged[id_]) for id_ in ids if id_ in staged)
        earlier = admission.duplicate(drafts, [found.get(draft.id or "") for draft in drafts])
        return None if earlier is None else Appended(*earlier, duplicate=True)

    def _check_condition(self, condition: Condition) -> None:
        query, after = condition
        size = self._size
        if after == size:
            return
        admission.check_ahead(condition, size)
        tail = self._told_tail()
        suspects = [item for item in query if self._may_be_broken(item, after)]
        if selects_all(query):
            raise admission.conflict(size, after)
        if not suspects:
            return
        position = Search(tuple(suspects), self._reads, tail).last(after, size)
        if position:
            raise admission.conflict(position, after)

    def _may_be_broken(self, item: Item, after: int) -> bool:
        """Tell whether what was seen since `_floor` leaves room for a match after `after`."""
        if after < self._floor:
            return True
        types, tags = item
        first = (after + 1) << TYPE_BITS
        if any(self._last_entry(tag) < first for tag in tags):
            return False
        return not types or any(self._last_entry(self._tail.types.get(type_, 0)) >= first for type_ in types)

    def _last_entry(self, term: Term) -> int:
        entries = self._tail.of(term) or self._older.of(term)
        return entries[-1] if entries else 0

    def _stage(self, drafts: Sequence[Draft], instant_bytes: bytes) -> None:
        """Give positions and bytes to records; nothing can refuse them from here on."""
        for draft in drafts:
            id_, type_, tags, head, tail = draft
            self._ids.append(id_)
            self._bodies.append(head if tail is None else head + instant_bytes + tail)
            self._names.append((type_, tags))
        self._size += len(drafts)
