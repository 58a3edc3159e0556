"""Sharding: lines of one input to one of several rings by the value of a field, order kept a key (operator-flow.md, section 2)."""

from __future__ import annotations

import threading
import zlib
from collections import deque
from collections.abc import Sequence
from operator import itemgetter
from typing import Any

import msgspec
from muniment.domain.errors import InvalidError
from muniment.ring import _ring
from muniment.ring.floor import Reached
from muniment.ring.lines import Ended, Lines
from muniment.ring.spec import SingleRing

STEP = 4096  # lines routed at once, at most


class Router:
    """Reads lines from a descriptor and publishes each to the ring of its key.

    A line of one shard may be committed before an earlier line of another. What may be acknowledged is the floor: the offset before
    which every line of every shard is done.
    """

    def __init__(self, fd: int, offset: int, ring: SingleRing) -> None:
        self._path, self._shards = ring.shard_key.split("."), ring.shards
        self._most = max(
            min(STEP, ring.capacity // 2), 1
        )  # more than a ring holds would keep the other shards waiting
        self._input = Lines(fd, offset, ring.slot_bytes)
        self.offset, self.lines = offset, 0
        self._starts: list[deque[Reached]] = []  # of each shard, where the lines not yet done begin
        self._last: bytes | None = None
        self._lock = threading.Lock()

    def follow(self) -> None:
        """Keep the floor from now on; somebody says `done` for every line, or memory grows with the input."""
        self._starts = self._starts or [deque() for _ in range(self._shards)]

    def floor(self, shard: int, count: int) -> Reached:
        """The floor once the next `count` lines of a shard are done."""
        with self._lock:
            first = [
                starts[done]
                for index, starts in enumerate(self._starts)
                if len(starts) > (done := count if index == shard else 0)
            ]
            return min(first, key=itemgetter(0), default=Reached(self.offset, self._last))

    def done(self, shard: int, count: int) -> None:
        """They are."""
        with self._lock:
            for _ in range(count):
                self._starts[shard].popleft()

    def step(self, producers: Sequence[_ring.Producer], timeout: float) -> bool:
        """Route what can be read within `timeout` seconds; True at the end of input.

        Raises:
            InvalidError: a line has no such key, or does not fit a slot; the lines before it are published.
            UnavailableError: the input cannot be read. RingStopped.
        """
        try:
            lines = self._input.peek(self._most, timeout)
        except Ended:
            return True
        waiting: list[list[bytes]] = [[] for _ in producers]
        fault: InvalidError | None = None
        for line in lines:
            try:
                shard = self._shard(line)
            except InvalidError as error:
                fault = error
                break
            with self._lock:
                if self._starts:
                    self._starts[shard].append(Reached(self.offset, self._last))
                self.offset += len(line) + 1
                self._last = line
                self.lines += 1
            waiting[shard].append(line)
        for producer, batch in zip(producers, waiting, strict=True):
            if batch:
                producer.publish_many(batch)
        if fault is not None:
            raise fault
        self._input.release()
        return False

    def _shard(self, line: bytes) -> int:
        try:
            found: Any = msgspec.json.decode(line)
            for name in self._path:
                found = found[name]
        except (msgspec.DecodeError, UnicodeDecodeError, KeyError, TypeError, IndexError) as error:
            raise InvalidError(
                f"line {self.lines + 1} of the input, at byte {self.offset}, has no field {'.'.join(self._path)}",
                code="source.shard_key_missing",
                expected="a JSON object with the field that single_ring.shard_key names",
                found=line[:80].decode(errors="replace"),
                hint="mend the line, or take it out; everything before it was passed on",
            ) from error
        return zlib.crc32(msgspec.json.encode(found)) % self._shards
