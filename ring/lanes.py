"""Lanes: the ways between roles of a lane graph, one face over four kinds.

`events`, `sequenced_slots` and `fanout_broadcast` are rings: gated with one reader, gated with several, and ungated, where the
reader is overtaken and counts what it lost. `journal` is segments on disk: what a reader gets is durable, and can be replayed.
A reader shows messages, and gives them back when the work on them is done; a lane ends when its writer ends it.
"""

from __future__ import annotations

import threading
from collections.abc import Sequence
from pathlib import Path
from typing import Protocol

from muniment.domain.errors import InvalidError
from muniment.ring import _ring
from muniment.ring.files import faults
from muniment.ring.journal import Writer as JournalWriter
from muniment.ring.journal_reader import Reader as JournalReader
from muniment.ring.lane_state import LaneAt
from muniment.ring.lines import Ended
from muniment.ring.native import wait_word
from muniment.ring.spec import Lane

SLICE = 0.2  # seconds a role waits before it looks whether it should end


class LaneStopped(Exception):  # noqa: N818
    """The graph was stopped."""


class LaneReader(Protocol):
    """One reader's end."""

    @property
    def lost(self) -> int:
        """Messages that were overwritten before it read them: a broadcast waits for nobody."""
        ...

    def peek(self, most: int, timeout: float) -> list[bytes]:
        """Up to `most` messages, [] after `timeout` seconds without one. Raises Ended, LaneStopped."""
        ...

    def release(self) -> None:
        """What was shown is done."""
        ...

    def close(self) -> None:
        """Let go."""
        ...


class LaneWriter(Protocol):
    """The writer's end."""

    def put(self, messages: Sequence[bytes]) -> None:
        """Put all of them, waiting for room where the lane blocks. Raises LaneStopped. InvalidError: one does not fit."""
        ...

    def end(self) -> None:
        """No more will come."""
        ...


class RingLane:
    """A lane in memory.

    Args:
        path: of its ring file, which must not exist; None: anonymous.
        readers: how many roles read it.
        spec_text: the canonical spec, kept in the ring so that a reader can name the roles.
    """

    def __init__(
        self,
        lane: Lane,
        path: str | None,
        readers: int,
        wait: str,
        spec_sha256: bytes,
        spec_text: bytes = b"",
    ) -> None:
        broadcast = lane.kind == "fanout_broadcast"
        self.lane, self.path = lane, path or ""
        with faults("make the ring", path or "in memory", "ring"):
            self.ring = _ring.Ring.create(
                path,
                capacity=lane.capacity,
                slot_bytes=lane.slot_bytes,
                stages=[0] * readers,
                kind="broadcast" if broadcast else "gated",
                wait=wait_word(wait),
                drop=lane.on_full == "drop",
                meta=spec_text,
                spec_sha256=spec_sha256,
            )
        self.writer = _RingWriter(self.ring, lane)
        self._readers = [_RingReader(self.ring, index) for index in range(readers)]

    def reader(self, index: int) -> LaneReader:
        """The end of one reader."""
        return self._readers[index]

    def stop(self) -> None:
        """Wake and stop everybody."""
        self.ring.stop(None, 0, 0)

    def at(self, *, liveness: bool = False) -> LaneAt:
        """Where it stands."""
        return LaneAt(self.lane.name, self.lane.kind, self.path, self.ring.snapshot_raw(liveness))

    @property
    def dropped(self) -> int:
        """Messages that it refused, full."""
        return self.writer.lost

    def close(self) -> None:
        """Let go of the mapping; its file stays."""
        self.writer.close()
        for reader in self._readers:
            reader.close()
        self.ring.close()


class _RingWriter:
    def __init__(self, ring: _ring.Ring, lane: Lane) -> None:
        self._producer, self._lane = ring.producer(), lane

    @property
    def lost(self) -> int:
        return self._producer.lost

    def put(self, messages: Sequence[bytes]) -> None:
        try:
            self._producer.publish_many(list(messages))
        except _ring.RingStopped as error:
            raise LaneStopped from error
        except ValueError as error:
            lane = self._lane
            raise InvalidError(
                f"a message does not fit a slot of lane {lane.name}",
                code="lane.message_too_long",
                expected=f"at most {lane.slot_bytes} bytes (slot_bytes of the lane)",
                found=f"{max(map(len, messages))} bytes",
                hint="give the lane the slot_bytes of the lane before it",
            ) from error

    def end(self) -> None:
        self._producer.end()

    def close(self) -> None:
        self._producer.close()


class _RingReader:
    def __init__(self, ring: _ring.Ring, index: int) -> None:
        self._ring, self._consumer = ring, ring.consumer(index)
        self._broadcast = ring.kind == "broadcast"

    @property
    def lost(self) -> int:
        return self._consumer.lost

    def peek(self, most: int, timeout: float) -> list[bytes]:
        if self._ring.stopped is not None:  # a reader has a ring of messages in hand before it looks itself
            raise LaneStopped
        try:
            return (
                self._consumer.take_many(most, timeout)
                if self._broadcast
                else self._consumer.peek_many(most, timeout)
            )
        except (
            _ring.RingTimeout,
            _ring.RingOverrun,
        ):  # an overrun is counted in the reader's cell and seen in the state
            return []
        except _ring.RingEnded as error:
            raise Ended from error
        except _ring.RingStopped as error:
            raise LaneStopped from error

    def release(self) -> None:
        if not self._broadcast:
            self._consumer.release(self._consumer.held)

    def close(self) -> None:
        self._consumer.close()


class JournalLane:
    """A lane on disk. Readers begin behind what an earlier run left there: the input is fed again, not the journal."""

    def __init__(self, lane: Lane, folder: Path, readers: int, spec_sha256: bytes) -> None:
        self.lane, self._folder = lane, folder
        self.stopped, self.ended = threading.Event(), threading.Event()
        self._writer = JournalWriter(folder, spec_sha256=spec_sha256)
        self.writer = self
        self._readers = [_JournalReader(self, folder, self._writer.acknowledged) for _ in range(readers)]

    def put(self, messages: Sequence[bytes]) -> None:
        """Durable when it returns."""
        if self.stopped.is_set():
            raise LaneStopped
        self._writer.append(messages)

    def end(self) -> None:
        """No more will come."""
        self.ended.set()

    def reader(self, index: int) -> LaneReader:
        """The end of one reader."""
        return self._readers[index]

    def stop(self) -> None:
        """Stop everybody at their next look."""
        self.stopped.set()

    @property
    def head(self) -> int:
        """The last acknowledged sequence."""
        return self._writer.acknowledged

    def at(self, *, liveness: bool = False) -> LaneAt:  # noqa: ARG002
        """Where it stands; the tail is the slowest reader."""
        tail = min((reader.done for reader in self._readers), default=0)
        return LaneAt(self.lane.name, self.lane.kind, str(self._folder), head=self.head, tail=tail)

    dropped = 0

    def close(self) -> None:
        """Release the journal; its segments stay."""
        for reader in self._readers:
            reader.close()
        self._writer.close()


class _JournalReader:
    lost = 0

    def __init__(self, lane: JournalLane, folder: Path, after: int) -> None:
        self._lane, self._reader = lane, JournalReader(folder, after=after)
        self.done, self._shown = after, after

    def peek(self, most: int, timeout: float) -> list[bytes]:
        if self._lane.stopped.is_set():
            raise LaneStopped
        ended = self._lane.ended.is_set()  # asked first: what was put before the end is then seen below
        found = self._reader.take_many(most, timeout)
        if not found and ended:
            raise Ended
        self._shown += len(found)
        return found

    def release(self) -> None:
        self.done = self._shown

    def close(self) -> None:
        self._reader.close()


AnyLane = RingLane | JournalLane
