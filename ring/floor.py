"""The floor of an input: before it every line is done, whichever way each of them went.

Of a lane graph, done means: through every role on a way to a role that keeps messages (`KEEPS`), kept there or filtered before.
Messages carry no number; but a lane keeps its order, and a role puts what goes on before it gives its input back. So it is enough
to count: what a role has read of a lane, and what it had put into its lanes by then. Something read is done when every reader
below has done as much as was put. What is counted late is believed late: the floor may be low, never high.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Sequence
from graphlib import TopologicalSorter
from typing import NamedTuple, Protocol, TypeVar

from muniment.ring.spec import LaneGraph, Role

KEEPS = "sink:log"
MOST = 4096  # lists a role is ahead of the slowest below it; more are counted as one

Entry = TypeVar("Entry")


class Reached(NamedTuple):
    """A place in an input.

    Attributes:
        offset: every line before it is done.
        last: the line that ends there, without its line end; None: nothing was read yet.
    """

    offset: int
    last: bytes | None


class Floor(Protocol):
    """Who knows it."""

    def follow(self) -> None:
        """Keep it from now on."""
        ...

    def floor(self, shard: int, count: int) -> Reached:
        """Where it is, at the highest, once the next `count` messages of a shard are done."""
        ...

    def done(self, shard: int, count: int) -> None:
        """They are."""
        ...


class Ways:
    """The roles and lanes of a graph that lead to a role that keeps.

    Attributes:
        readers: of each such lane, those of its readers that do.
        roles: in an order that readers come before writers.
        lossy: one of the lanes drops or overwrites, so what is missing below was not kept.
    """

    def __init__(self, graph: LaneGraph) -> None:
        after = {
            role.id: {other.id for other in graph.roles if set(role.outputs) & set(other.inputs)}
            for role in graph.roles
        }
        roles = {role.id: role for role in graph.roles}
        self.roles: list[Role] = []
        self.readers: dict[str, list[str]] = {}
        for name in TopologicalSorter(after).static_order():
            role = roles[name]
            if role.op.name == KEEPS or any(lane in self.readers for lane in role.outputs):
                self.roles.append(role)
                for lane in role.inputs:
                    self.readers.setdefault(lane, []).append(name)
        self.lossy = any(lane.on_full != "block" for lane in graph.lanes if lane.name in self.readers)


class GraphFloor:
    """Counts; one for a run of a graph.

    Args:
        offset: of the input where it begins.
    """

    def __init__(self, graph: LaneGraph, offset: int) -> None:
        self._ways, self._lock = Ways(graph), threading.Lock()
        self._reached, self._floor = Reached(offset, None), Reached(offset, None)
        self._put = {role.id: 0 for role in self._ways.roles}
        self._read = {(role.id, lane): 0 for role in self._ways.roles for lane in role.inputs}
        self._done = dict(self._read)
        # of each role and input, what it had read and put when a list was through, oldest first; the source: where it was
        self._open: dict[tuple[str, str], deque[tuple[int, int]]] = {key: deque() for key in self._read}
        self._source: deque[tuple[Reached, int]] = deque()
        self._following = False

    def follow(self) -> None:
        """Count from now on."""
        self._following = True

    def through(self, role: str, lane: str, messages: Sequence[bytes], put: int) -> None:
        """A role is through with messages of a lane ("" the input), and has put `put` of them into each of its lanes."""
        if not self._following or role not in self._put:
            return
        with self._lock:
            self._put[role] += put
            if lane:
                self._read[role, lane] += len(messages)
                _append(self._open[role, lane], (self._read[role, lane], self._put[role]))
            else:
                offset = self._reached.offset + sum(map(len, messages)) + len(messages)
                self._reached = Reached(offset, messages[-1])
                _append(self._source, (self._reached, self._put[role]))

    def floor(self, shard: int = 0, count: int = 0) -> Reached:  # noqa: ARG002  # what is not through is not counted
        """Where it is."""
        with self._lock:
            for role in self._ways.roles:
                lanes = [lane for lane in role.outputs if lane in self._ways.readers]
                through = [self._done[reader, lane] for lane in lanes for reader in self._ways.readers[lane]]
                put = min(through, default=self._put[role.id])
                for lane in role.inputs:
                    ways = self._open[role.id, lane]
                    while ways and ways[0][1] <= put:
                        self._done[role.id, lane] = ways.popleft()[0]
                while not role.inputs and self._source and self._source[0][1] <= put:
                    self._floor = self._source.popleft()[0]
            return self._floor

    def done(self, shard: int, count: int) -> None:
        """Known by `through`."""


def _append(ways: deque[Entry], entry: Entry) -> None:
    if len(ways) == MOST:
        ways.pop()
    ways.append(entry)
