"""What Muniment is measured against: the `eventsourcing` library and a bare table, both with the same records.

The library stores one event a record: the record's type, tags, actor, data and evidence are fields of the event, its id and
time the event's own. Ten events an aggregate, random ids, as its users have them. It runs with its default durability. The bare
table (`grounds`) has integer keys and one unique index over (stream, version), which is the least that holds an expected
version: no tags, no id, no hash.
"""

from __future__ import annotations

import queue
import random
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import msgspec
from eventsourcing.application import Application
from eventsourcing.domain import Aggregate, event
from eventsourcing.persistence import StoredEvent
from muniment.ops.bench import data

PER_STREAM = 10
PAGE = 500  # notifications a page; the library's own default section is 10
BATCH = 1000


class Subject(Aggregate):
    """Counts its records."""

    def __init__(self) -> None:
        self.count = 0
        self.last = ""

    class Recorded(Aggregate.Event):
        """One record."""

        kind: str
        correlation: str
        tags: list[str]
        actor: dict[str, Any]
        data: dict[str, Any]
        evidence: list[dict[str, Any]]

    @event(Recorded)
    def note(
        self,
        kind: str,
        correlation: str,
        tags: list[str],  # noqa: ARG002  # kept in the event
        actor: dict[str, Any],  # noqa: ARG002
        data: dict[str, Any],  # noqa: ARG002
        evidence: list[dict[str, Any]],  # noqa: ARG002
    ) -> None:
        """Record."""
        self.count += 1
        self.last = kind + correlation


class Subjects(Application[uuid.UUID]):
    """The library's application over SQLite."""


TOPIC = f"{Subject.__module__}:Subject.Recorded"
_EPOCH = datetime(2026, 9, 21, tzinfo=UTC)


def fields(record: data.Record) -> dict[str, Any]:
    """The fields of the event for a record."""
    return {
        "kind": record["type"],
        "correlation": record["correlation"],
        "tags": record["tags"],
        "actor": record["actor"],
        "data": record["data"],
        "evidence": record.get("evidence", []),
    }


def application(env: dict[str, str]) -> Subjects:
    """An application over whatever the environment names."""
    return Subjects(env=env)


def stored_events(first: int, count: int, seed: int = 1) -> list[StoredEvent]:
    """Events as the library's mapper would write them."""
    ids = random.Random(seed * 1_000_003 + first)  # reproducible, not secret
    streams = [uuid.UUID(int=ids.getrandbits(128), version=4) for _ in range(-(-count // PER_STREAM))]
    out = []
    for k, record in enumerate(data.records(first, count)):
        at = {"_type_": "datetime_iso", "_data_": (_EPOCH + timedelta(milliseconds=first + k)).isoformat()}
        state = msgspec.json.encode({"timestamp": at, **fields(record)})
        out.append(StoredEvent(streams[k % len(streams)], k // len(streams) + 1, TOPIC, state))
    return out


def fill_application(app: Subjects, size: int) -> None:
    """Insert so many events, in batches of 500: of 1000 it hangs for ever over PostgreSQL."""
    for first in range(1, size + 1, PAGE):
        app.recorder.insert_events(stored_events(first, min(PAGE, size + 1 - first)))


Row = tuple[int, int, int, int, bytes]
"""Position, stream, version, type and bytes of a record in the bare table."""


class Bare:
    """The bare table, but for its database."""

    def __init__(self) -> None:
        self.size = 0

    def rows(self, bodies: Iterable[bytes]) -> list[Row]:
        """Rows for bodies, ten a stream; positions go on from the last made."""
        made = []
        for body in bodies:
            self.size += 1
            made.append((self.size, self.size // PER_STREAM, self.size % PER_STREAM, 7, body))
        return made

    def insert_each(self, rows: Sequence[Row]) -> None:
        """One durable commit a row."""
        raise NotImplementedError

    def insert_group(self, rows: Sequence[Row]) -> None:
        """One durable commit."""
        raise NotImplementedError

    def insert_many(self, rows: Sequence[Row], batch: int = BATCH) -> None:
        """One durable commit a batch."""
        for start in range(0, len(rows), batch):
            self.insert_group(rows[start : start + batch])

    def fill(self, size: int) -> None:
        """Insert the records of `data`."""
        for first in range(1, size + 1, BATCH):
            self.insert_many(self.rows(bodies(first, min(BATCH, size + 1 - first))))

    def scan(self, size: int = 2000) -> Iterator[list[tuple[int, bytes]]]:
        """Pages of (position, body)."""
        raise NotImplementedError

    def stream(self, number: int) -> list[tuple[int, bytes]]:
        """(position, body) of one stream, in order of version."""
        raise NotImplementedError

    def close(self) -> None:
        """Close."""
        raise NotImplementedError


def bodies(first: int, count: int) -> list[bytes]:
    """Canonical bytes of records, as they are stored."""
    return [draft.leaf("2026-09-21T00:00:00.000000Z") for draft in data.drafts(first, count)]


class Coalescing(threading.Thread):
    """The bare floor of group commit: drain what waits, one transaction, one fsync, answer all."""

    def __init__(self, bare: Bare) -> None:
        super().__init__(daemon=True)
        self.queue: queue.SimpleQueue[tuple[Row, Callable[[], None]] | None] = queue.SimpleQueue()
        self._bare = bare

    def run(self) -> None:
        """Until None comes."""
        waiting = self.queue
        while (item := waiting.get()) is not None:
            group = [item]
            while not waiting.empty():
                more = waiting.get_nowait()
                if more is None:
                    waiting.put(None)
                    break
                group.append(more)
            self._bare.insert_group([row for row, _ in group])
            for _, answer in group:
                answer()

    def stop(self) -> None:
        """Finish what waits and end."""
        self.queue.put(None)
        self.join()
