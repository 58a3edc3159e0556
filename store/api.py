"""The port of the log: what every store does, in our words. The `eventsourcing` face is an adapter over it (`store.dcb`).

Promises, each tested by `tests/contract` on every store:

1. Positions are 1, 2, 3 … in commit order, without a gap, and no reader ever skips one.
2. An append is durable when it returns, whole or not at all.
3. An append whose condition is broken by any record after `condition.after` raises `AppendConflict`, writes nothing.
4. `recorded_at` never goes backwards along positions.
5. A record id is used once. The same id with equal content returns the first position; other content is a conflict.
6. Leaf hash and Merkle frontier are written in the transaction of the rows (settled.md, 2 and 3).
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterator, Sequence
from typing import NamedTuple, Protocol

from muniment.domain.errors import ConflictError, UnavailableError
from muniment.domain.query import Query

SCHEMA_VERSION = 1
MAX_RECORD = 65_535  # bytes; the entry limit of C2SP tlog-tiles (settled.md, 3)
DECISION_MAX_AGE_US = 5_000_000  # settled.md, 1: later than this the handler decides anew

KIND_RECORDS = "records"
KIND_OPAQUE = "opaque"


class Draft(NamedTuple):
    """A record before the store has set `recorded_at`: its canonical bytes in two halves.

    The leaf is `head + recorded_at + tail`, where head ends just inside the opening quote of the value of
    `recorded_at` and tail begins with the closing one. In an opaque log `tail` is None and the leaf is `head`.

    Attributes:
        id: UUIDv7 as text (the idempotency key), or None in an opaque log.
        type: `entity.past_tense/version`.
        tags: sorted tags, also found inside the bytes.
        head: bytes before the instant.
        tail: bytes after the instant.
    """

    id: str | None
    type: str
    tags: tuple[str, ...]
    head: bytes
    tail: bytes | None

    def leaf(self, recorded_at: str) -> bytes:
        """The bytes that are stored and hashed."""
        return self.head if self.tail is None else self.head + recorded_at.encode() + self.tail


class Condition(NamedTuple):
    """Fail if any record after position `after` matches the query."""

    query: Query
    after: int


class Appended(NamedTuple):
    """The answer to an append: positions `first..last`; `duplicate` if the ids were there already."""

    first: int
    last: int
    recorded_at: str
    duplicate: bool = False


class Head(NamedTuple):
    """Size of the log, RFC 6962 root over its leaves (32 bytes), `recorded_at` of the last record ("" if empty)."""

    size: int
    root: bytes
    recorded_at: str


class AppendConflict(ConflictError):  # noqa: N818 - it is what happened, an answer to decide again
    """The condition no longer holds, or a record id was reused with other content: decide again."""

    default_code = "store.conflict"


class StaleDecision(AppendConflict):
    """More than five seconds passed between deciding and appending (settled.md, 1): decide again."""

    default_code = "store.decision_stale"


def not_finished(name: str) -> UnavailableError:
    """The error for a log that is no store: it is being copied, was cut while it was, or is a backup."""
    return UnavailableError(
        f"{name} is no store: a copy that is not whole yet, or a backup",
        code="store.unfinished",
        hint="give the same muniment store copy or restore again, it goes on; of a backup: muniment store restore",
    )


Page = list[tuple[int, bytes]]


class Log(Protocol):
    """One ordered, verifiable log. Implementations: `store.sqlite`, `store.postgres`, `store.memory`."""

    @property
    def kind(self) -> str:
        """`records` (our closed registry) or `opaque` (any DCB application)."""
        ...

    @property
    def store_id(self) -> str:
        """The id named by the record at position 1 ("" before there is one)."""
        ...

    def append(
        self, drafts: Sequence[Draft], condition: Condition | None = None, *, decided_at: int | None = None
    ) -> Appended:
        """Append all drafts or none; return once durable. Concurrent callers share a commit.

        Args:
            drafts: at least one.
            condition: the decision's read set.
            decided_at: microseconds since 1970; the append is refused if the clock reads over five seconds more.

        Raises:
            AppendConflict: the condition is broken or an id is reused with other content.
            StaleDecision: see `decided_at`.
            InvalidError: a record over 65 535 bytes, or a draft of the wrong kind for this log.
            UnavailableError: disk full, locked, read-only; nothing was written.
        """
        ...

    def append_async(
        self, drafts: Sequence[Draft], condition: Condition | None = None, *, decided_at: int | None = None
    ) -> Awaitable[Appended]:
        """The same from a task of a running asyncio loop; tasks share commits as threads do."""
        ...

    def adopt(
        self, bodies: Sequence[bytes], *, recorded_at: str | None = None, after: int | None = None
    ) -> int:
        """Append records byte for byte as another log holds them (copy, restore), all or none; return the size reached.

        Args:
            recorded_at: of the last one, where the bodies do not say it (an opaque log).
            after: the size the log must have.

        Raises:
            AppendConflict: it has another size, or holds one of their ids. InvalidError: over 65 535 bytes.
            WrongError: no record. UnavailableError: see `append`.
        """
        ...

    def now(self) -> int:
        """The clock that stamps records, microseconds since 1970: the server's, else the host's (settled.md, 1)."""
        ...

    def pages(
        self, query: Query = (), *, after: int = 0, until: int | None = None, size: int = 1024
    ) -> Iterator[Page]:
        """Matching records `after < position <= until` in order, in lists of at most `size` of (position, bytes).

        Keyset pages: memory stays flat, and no read transaction is held between two pages.

        Raises:
            UnavailableError: a page cannot be had, also at a second try on a new connection. An iterator that ends without
                an error has handed out all; one that raised is over, and a new one goes on `after` the last position.
        """
        ...

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
        ...

    def last_match(self, query: Query, *, until: int | None = None) -> int:
        """Position of the last matching record, 0 if none."""
        ...

    def positions_of(self, ids: Sequence[str]) -> dict[str, int]:
        """Positions of those record ids that are in the log."""
        ...

    def types(self) -> list[str]:
        """Every type the log holds, in order of its first record; costs what the index costs, not the log."""
        ...

    def head(self) -> Head:
        """The head as of now; it covers every acknowledged record."""
        ...

    def frontier(self) -> tuple[int, list[bytes]]:
        """Size and the roots of the complete subtrees, largest first (RFC 6962, section 2.1)."""
        ...

    def leaves(self, *, after: int = 0, until: int | None = None) -> Iterator[bytes]:
        """Stored leaf hashes (32 bytes) in order of position."""
        ...

    def subscribe(self, query: Query = (), *, after: int = 0, poll_s: float = 0.1) -> Subscription:
        """Follow the log: an iterator that blocks at the end until a matching record arrives or it is stopped.

        What is lost on the way of a notification costs at most `poll_s`, then the log is asked. A server that does
        not answer at a second try on a new connection is told, not waited for: whoever waited would take "nothing is
        known" for "nothing happened". The same subscription goes on behind the last record it handed out when `next`
        is called again, and so does a new one with that position as `after`: none is lost, none comes twice.

        Raises:
            UnavailableError: from `next`: no answer, or a log shorter than what was read (`store.behind`).
        """
        ...

    def close(self) -> None:
        """Flush what was accepted, then release everything. Idempotent."""
        ...


class Subscription(Protocol):
    """A blocking iterator over (position, bytes); `stop()` from any thread ends it."""

    def __iter__(self) -> Iterator[tuple[int, bytes]]: ...

    def __next__(self) -> tuple[int, bytes]: ...

    def stop(self) -> None:
        """End the iteration."""
        ...
