"""What every log does the same way: admission, group commit, paging, following; a store adds primitives."""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterator, Sequence
from typing import Self

import msgspec
from muniment.domain.errors import UnavailableError, UsageError, WrongError
from muniment.domain.query import Query
from muniment.store import admission
from muniment.store.api import Appended, Condition, Draft, Head, Page
from muniment.store.groupcommit import GroupCommit, Work
from muniment.store.merkle import Frontier

Clock = Callable[[], int]
Select = Callable[[int, int, int, bool], Page]
"""(after, until, size, reverse) -> the first `size` matches in that direction."""

PAGE = 1024


def real_clock() -> int:
    """The host's clock in microseconds since 1970."""
    return time.time_ns() // 1000


class BaseLog(ABC):
    """A log but for its storage; see `store.api.Log` for the promises."""

    def __init__(self, kind: str) -> None:
        self._kind = kind
        self._store_id = ""
        self._listeners: set[threading.Event] = set()
        self._listening = threading.Lock()
        self._is_closed = False
        self._commits = GroupCommit(self._commit_and_tell)

    @abstractmethod
    def _commit(self, group: Sequence[Work]) -> None:
        """Commit a group in one transaction (`groupcommit.Commit`)."""

    @abstractmethod
    def _adopt(self, bodies: Sequence[bytes], recorded_at: str | None, after: int | None) -> int:
        """Append records as they are in one transaction; return the size reached."""

    @abstractmethod
    def now(self) -> int:
        """The clock of this log, microseconds since 1970."""

    @abstractmethod
    def _state(self) -> tuple[Frontier, str]:
        """Frontier and last `recorded_at`, of one moment."""

    @abstractmethod
    def _size(self) -> int:
        """Number of records."""

    @abstractmethod
    def _selector(self, query: Query, end: int) -> Select:
        """Prepare a query for positions up to `end`, which the log has reached."""

    @abstractmethod
    def positions_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Positions of those record ids that are in the log."""

    @abstractmethod
    def types(self) -> list[str]:
        """Every type the log holds, in order of its first record."""

    @abstractmethod
    def leaves(self, *, after: int = 0, until: int | None = None) -> Iterator[bytes]:
        """Stored leaf hashes in order of position."""

    @abstractmethod
    def _release(self) -> None:
        """Let go of files and connections; called once, after the last commit."""

    @property
    def kind(self) -> str:
        """`records` or `opaque`."""
        return self._kind

    @property
    def store_id(self) -> str:
        """The id named by the record at position 1 ("" before there is one).

        Raises:
            WrongError: that record names another kind of log than this file is.
        """
        if not self._store_id:
            for _, body in self.read(until=1):
                record = msgspec.json.decode(body)
                if record.get("type") == admission.CREATED:
                    data = record.get("data", {})
                    if data.get("kind", self._kind) != self._kind:
                        raise WrongError(
                            "the log is not of the kind its first record names",
                            code="store.kind",
                            expected=data["kind"],
                            found=self._kind,
                        )
                    self._store_id = str(data.get("store_id", ""))
        return self._store_id

    def append(
        self, drafts: Sequence[Draft], condition: Condition | None = None, *, decided_at: int | None = None
    ) -> Appended:
        """Append all drafts or none; return once durable (`store.api.Log.append`)."""
        admission.check(drafts, self._kind)
        return self._commits.append(Work(drafts, condition, decided_at))

    def append_async(
        self, drafts: Sequence[Draft], condition: Condition | None = None, *, decided_at: int | None = None
    ) -> Awaitable[Appended]:
        """The same from a task of a running asyncio loop."""
        admission.check(drafts, self._kind)
        return self._commits.append_async(Work(drafts, condition, decided_at))

    def adopt(
        self, bodies: Sequence[bytes], *, recorded_at: str | None = None, after: int | None = None
    ) -> int:
        """Append records byte for byte as another log holds them, in one transaction (`store.api.Log.adopt`)."""
        for body in bodies:
            admission.check_length(len(body))
        if not bodies:
            return self._size()
        return self._commits.alone(lambda: self._adopt(bodies, recorded_at, after))

    def pages(
        self, query: Query = (), *, after: int = 0, until: int | None = None, size: int = PAGE
    ) -> Iterator[Page]:
        """Matching records in lists of at most `size`; the end is the head when the first is asked for."""
        if size < 1:
            raise UsageError("a page holds at least one record", code="store.page_size", found=size)
        return self._pages(query, after, until, size)

    def _pages(self, query: Query, after: int, until: int | None, size: int) -> Iterator[Page]:
        end = self._end(until)
        select = self._selector(query, end)
        while after < end:
            page = select(after, end, size, False)
            if page:
                yield page
            if len(page) < size:
                return
            after = page[-1][0]

    def read(
        self,
        query: Query = (),
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[int, bytes]]:
        """The same, one record at a time; `reverse` begins with the newest."""
        if limit is not None and limit < 0:
            raise UsageError("a limit is not negative", code="store.limit", found=limit)
        return self._read(query, after, until, limit, reverse)

    def _read(
        self, query: Query, after: int, until: int | None, limit: int | None, reverse: bool
    ) -> Iterator[tuple[int, bytes]]:
        end = self._end(until)
        select = self._selector(query, end)
        while after < end and limit != 0:
            size = PAGE if limit is None else min(limit, PAGE)
            page = select(after, end, size, reverse)
            yield from page
            if len(page) < size:
                return
            if limit is not None:
                limit -= size
            if reverse:
                end = page[-1][0] - 1
            else:
                after = page[-1][0]

    def last_match(self, query: Query, *, until: int | None = None) -> int:
        """Position of the last matching record, 0 if none."""
        return next((position for position, _ in self.read(query, until=until, limit=1, reverse=True)), 0)

    def head(self) -> Head:
        """The head as of now; it covers every acknowledged record."""
        frontier, recorded_at = self._state()
        return Head(frontier.size, frontier.root(), recorded_at)

    def frontier(self) -> tuple[int, list[bytes]]:
        """Size and the roots of the complete subtrees, largest first."""
        frontier, _ = self._state()
        return frontier.size, frontier.roots

    def subscribe(self, query: Query = (), *, after: int = 0, poll_s: float = 0.1) -> Follower:
        """Follow the log; an append of this process wakes at once, one of another within `poll_s` seconds."""
        return Follower(self, query, after, poll_s)

    def close(self) -> None:
        """Flush what was accepted, end the subscriptions, release everything. Idempotent."""
        self._commits.close()
        with self._listening:
            if self._is_closed:
                return
            self._is_closed = True
            self._tell()
        self._release()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _end(self, until: int | None) -> int:
        size = self._size()
        return size if until is None else min(until, size)

    def _commit_and_tell(self, group: Sequence[Work]) -> None:
        self._commit(group)
        if self._listeners:
            with self._listening:
                self._tell()

    def _tell(self) -> None:
        for listener in self._listeners:
            listener.set()


def shorter(seen: int, size: int) -> UnavailableError:
    """The error for a log that ends before a position which was read from it."""
    return UnavailableError(
        "the log ends before what was read from it: a server that lags behind, or one that lost records",
        code="store.behind",
        hint="several hosts: target_session_attrs=read-write; then muniment verify store with the last checkpoint",
        expected=f"at least {seen} records",
        found=f"{size} records",
    )


class Follower:
    """A blocking iterator over (position, bytes). It ends by `stop()` or with its log.

    Positions are gap-free in commit order, so following them skips nothing; a lost wake-up costs one poll. After
    an error the next call goes on behind the last record that was handed out.
    """

    def __init__(self, log: BaseLog, query: Query, after: int, poll_s: float) -> None:
        self._log = log
        self._query = query
        self._seen = after  # all matches up to here were handed out
        self._until = after
        self._poll_s = poll_s
        self._wake = threading.Event()
        self._stopped = False
        self._records: Iterator[tuple[int, bytes]] = iter(())
        with log._listening:  # a follower is a part of its log
            log._listeners.add(self._wake)

    def __iter__(self) -> Iterator[tuple[int, bytes]]:
        return self

    def __next__(self) -> tuple[int, bytes]:
        while not self._over():
            try:
                for record in self._records:
                    self._seen = record[0]
                    return record
                self._seen = self._until
                self._wake.clear()
                size = self._log._size()
            except BaseException as error:
                self._records, self._until = iter(()), self._seen
                if isinstance(error, UnavailableError) and self._over():
                    break  # the log was closed in between: the end, not a fault
                raise
            if size < self._seen:
                raise shorter(self._seen, size)
            if size > self._seen:
                self._records = self._log.read(self._query, after=self._seen, until=size)
                self._until = size
            elif not self._over():  # a stop between the clear and here must not cost a poll
                self._wake.wait(self._poll_s)
        self.stop()
        raise StopIteration

    def stop(self) -> None:
        """End the iteration, also of a thread that is blocked in it."""
        self._stopped = True
        self._wake.set()
        with self._log._listening:
            self._log._listeners.discard(self._wake)

    def _over(self) -> bool:
        return self._stopped or self._log._is_closed
