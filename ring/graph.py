"""A lane-graph spec at work in this process: a thread a role, lanes between them.

Each role takes messages from its input lanes, does its op, puts what goes on into every output lane, and only then gives its inputs
back: a role that dies leaves its messages where they were. Order is kept within a lane. A merge takes from its inputs in turn.
A role that fails stops the whole graph; nobody passes the failed message. Works are finished only if the input was read to its
end.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path
from typing import Any

from muniment.domain.errors import MunimentError
from muniment.ring import _ring
from muniment.ring.crew import Crew
from muniment.ring.executor import Failure, abandon
from muniment.ring.floor import KEEPS, Floor, GraphFloor
from muniment.ring.lane_state import RoleAt, lane_graph_state
from muniment.ring.lanes import SLICE, AnyLane, JournalLane, LaneReader, LaneStopped, RingLane
from muniment.ring.lines import Ended, Lines
from muniment.ring.native import NativeWork, is_native, native_stage
from muniment.ring.spec import MAX_SLOT_BYTES, LaneGraph, Op, Role, Spec
from muniment.ring.spec_text import canonical, spec_sha256
from muniment.ring.work import Span, Work

STALL_S = 1.0
MERGE_S = 0.001  # between two looks at several lanes that are all empty


class _Worker:
    """A role at work."""

    def __init__(
        self,
        role: Role,
        work: Work,
        inputs: Sequence[LaneReader],
        outputs: Sequence[AnyLane],
        floor: GraphFloor,
    ) -> None:
        self.role, self.work, self.inputs, self.outputs = role, work, list(inputs), outputs
        self._floor, self._names = floor, role.inputs or ("",)
        self.state, self.processed, self.last_error = "idle", 0, ""
        self.since = time.monotonic()  # when the state last changed or a batch was done

    def busy(self, state: str) -> None:
        """Say what it does now."""
        self.state, self.since = state, time.monotonic()

    def at(self) -> RoleAt:
        """What it is doing; working or putting for over a second without an end is `stalled` or `gated`."""
        state = self.state
        if state in ("processing", "gated") and time.monotonic() - self.since <= STALL_S:
            state = "processing"
        elif state == "processing":
            state = "stalled"
        role = self.role
        return RoleAt(role.id, role.kind, role.inputs, role.outputs, state, self.processed, self.last_error)

    def run(self) -> None:
        """To the end of every input."""
        waiting = list(self.inputs)
        while waiting:
            found = False
            for reader in list(waiting):
                try:
                    messages = reader.peek(self.work.batch, 0 if len(waiting) > 1 else SLICE)
                except Ended:
                    waiting.remove(reader)
                    continue
                if messages:
                    found = True
                    self._do(reader, messages)
            if len(waiting) > 1 and not found:
                time.sleep(MERGE_S)

    def _do(self, reader: LaneReader, messages: list[bytes]) -> None:
        """One list; a failing one is halved until the one that fails stands alone, behind all that were done."""
        lists, put = [messages], 0
        while lists:
            part = lists.pop(0)
            self.busy("processing")
            try:
                kept = self.work.take(part, Span(self.processed + 1, len(part), sum(map(len, part))))
            except MunimentError as error:
                if len(part) < 2 or error.retryable:
                    raise
                lists[:0] = [part[: len(part) // 2], part[len(part) // 2 :]]
                continue
            going = part if kept is None else [m for m, keep in zip(part, kept, strict=True) if keep]
            self.busy("gated")
            for lane in self.outputs:
                if going:
                    lane.writer.put(going)
            put += len(going)
            self.processed += len(part)
            self.busy("idle")
        reader.release()
        self._floor.through(self.role.id, self._names[self.inputs.index(reader)], messages, put)


class _Input:
    """The role without inputs reads the run's input, as a lane shows it."""

    lost = 0

    def __init__(self, fd: int, offset: int, room: int, quit_: threading.Event) -> None:
        self.lines, self._quit = Lines(fd, offset, room), quit_
        self.whole = False

    def peek(self, most: int, timeout: float) -> list[bytes]:
        """Lines, as long as there are some and nobody asked to end."""
        if self._quit.is_set():
            raise Ended
        try:
            return self.lines.peek(most, timeout)
        except Ended:
            self.whole = True
            raise

    def release(self) -> None:
        """They are in the graph."""
        self.lines.release()

    def close(self) -> None:
        """The descriptor belongs to the caller."""


class GraphPipeline:
    """A lane graph over an input; the same face as `executor.Pipeline`.

    Args:
        lane_path: of the ring file of a lane, which must not exist. journal_folder: of a journal lane, on a disk.
        resolve: makes the Work of an op in Python: (op, number, floor); a role that keeps gets its number among these, and the
            floor of the graph.
    """

    def __init__(
        self,
        spec: Spec,
        fd: int,
        offset: int,
        lane_path: Callable[[str], Path],
        journal_folder: Callable[[str], Path],
        resolve: Callable[[Op, int, Floor | None], Work],
        *,
        wait: str = "",
    ) -> None:
        graph = spec.pipeline
        assert isinstance(graph, LaneGraph)
        self._spec, self._graph, self._sha = spec, graph, spec_sha256(spec)
        self._lock, self._quit, self.crew = threading.Lock(), threading.Event(), Crew()
        self.failure: Failure | None = None
        self.interrupted = False
        self.lanes: dict[str, AnyLane] = {}
        self.workers: list[_Worker] = []
        self._input = _Input(fd, offset, _room(graph), self._quit)
        self._floor, keepers = GraphFloor(graph, offset), 0
        readers = {
            lane.name: [role.id for role in graph.roles if lane.name in role.inputs] for lane in graph.lanes
        }
        sha = bytes.fromhex(self._sha.removeprefix("sha256:"))
        try:
            for lane in graph.lanes:
                if lane.kind == "journal":
                    self.lanes[lane.name] = JournalLane(
                        lane, journal_folder(lane.name), len(readers[lane.name]), sha
                    )
                else:
                    path = str(lane_path(lane.name))
                    self.lanes[lane.name] = RingLane(
                        lane, path, len(readers[lane.name]), wait or graph.wait, sha, canonical(spec)
                    )
            for role in graph.roles:
                ends = [self.lanes[name].reader(readers[name].index(role.id)) for name in role.inputs] or [
                    self._input
                ]
                if is_native(role.op):
                    work: Work = NativeWork(native_stage(role.op), role.op)
                elif role.op.name == KEEPS:
                    work = resolve(role.op, keepers, self._floor)
                    keepers += 1
                else:
                    work = resolve(role.op, 0, None)
                outputs = [self.lanes[name] for name in role.outputs]
                self.workers.append(_Worker(role, work, ends, outputs, self._floor))
        except BaseException:
            abandon(worker.work for worker in self.workers)
            self.close()
            raise
        for worker in self.workers:
            self.crew.add(f"role {worker.role.id}", partial(self._role, worker))

    def start(self) -> None:
        """Begin."""
        self.crew.start()

    def alive(self) -> bool:
        """True while a role works."""
        return self.crew.alive()

    def finish_early(self) -> None:
        """Take no more input; what is in the lanes is worked off."""
        self.interrupted = True
        self._quit.set()

    def stop(self) -> None:
        """Stop every role where it is."""
        self.finish_early()
        self._stop_lanes()
        self.crew.release()

    def state(self, *, liveness: bool = False) -> dict[str, Any]:
        """`lane_graph_state.json`."""
        lanes = [self.lanes[lane.name].at(liveness=liveness) for lane in self._graph.lanes]
        return lane_graph_state(self._sha, lanes, [worker.at() for worker in self.workers])

    @property
    def rings(self) -> list[tuple[str, _ring.Ring]]:
        """The lanes that are rings, by name."""
        return [(name, lane.ring) for name, lane in self.lanes.items() if isinstance(lane, RingLane)]

    @property
    def read(self) -> tuple[int, int]:
        """Lines taken from the input, and the offset after them."""
        return self._input.lines.lines, self._input.lines.offset

    @property
    def dropped(self) -> int:
        """Messages that full dropping lanes refused."""
        return sum(lane.dropped for lane in self.lanes.values())

    def result(self) -> Failure | None:
        """What stopped it, None if nothing did."""
        return self.failure

    def summary(self) -> list[dict[str, object]]:
        """What each role did, and what a broadcast overwrote before it looked."""
        told: list[dict[str, object]] = []
        for worker in self.workers:
            role, lost = worker.role, sum(reader.lost for reader in worker.inputs)
            done = {**worker.work.summary(), "processed": worker.processed}
            told.append({"id": role.id, "op": str(role.op), **done, **({"lost": lost} if lost else {})})
        return told

    def close(self) -> None:
        """Join the threads, let go of the lanes."""
        self.crew.join()
        for lane in self.lanes.values():
            lane.close()

    def _stop_lanes(self) -> None:
        for lane in self.lanes.values():
            lane.stop()

    def _role(self, worker: _Worker) -> None:
        try:
            worker.run()
            if self._input.whole:
                worker.work.finish()
            else:
                worker.work.abandon()
            for lane in worker.outputs:
                lane.writer.end()
            worker.busy("ended")
        except LaneStopped:
            worker.work.abandon()
            worker.busy("stopped")
        except BaseException as error:
            worker.last_error = str(error)
            worker.busy("stopped")
            with self._lock:
                if self.failure is None:
                    self.failure = Failure(worker.role.id, worker.processed + 1, error)
            self._quit.set()
            self._stop_lanes()
            worker.work.abandon()


def _room(graph: LaneGraph) -> int:
    """The longest line that every lane of the role that reads the input holds."""
    first = next(role for role in graph.roles if not role.inputs)
    return min(
        (lane.slot_bytes for lane in graph.lanes if lane.name in first.outputs), default=MAX_SLOT_BYTES
    )
