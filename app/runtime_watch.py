"""Watching a running pipeline: what a supervisor records of it, and when.

1. A heartbeat at the start, at the end, every `every` seconds, at a transition, and after a gap in which the supervisor itself
   was silent. Moves between idle, processing and gated are the ordinary life of a stage and no transition; `stalled`,
   `inactive`, a producer held back, a message dropped, a reader overrun are.
2. A transition into trouble, and out of it, records a snapshot too: the packed bytes of that moment. With an agent id, and when
   asked, snapshots are also periodic.
3. Trouble that lasts is one transition, and what flickers is recorded at most once a second: a stage at fault must not fill the
   log.
4. A store that does not answer is counted and said, never waited for: the pipeline does not depend on being watched.
"""

from __future__ import annotations

import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from functools import partial
from typing import Any, NamedTuple, Protocol

from muniment.domain.errors import MunimentError
from muniment.ring import _ring
from muniment.ring.crew import Crew
from muniment.ring.snapshot import STALL_NS, render, stage_names
from muniment.ring.spec import Spec

TICK_S = 0.25
EVERY_S = 30.0
SNAPSHOT_S = 60.0
GAP_S = 5.0  # silence of the supervisor itself
QUIET_S = 1.0  # between two transitions
DOWN_S = 10.0  # a store that did not answer is not asked again so soon
HELD_LOOKS = 4
TROUBLE = ("stalled", "inactive", "stopped")


class Ring(NamedTuple):
    """A ring that is watched.

    Attributes:
        lane: "" for the ring of a single-ring spec.
        prefix: before the names of its stages where several rings have equal ones ("" or "0." and so on).
    """

    path: str
    lane: str
    prefix: str
    ring: _ring.Ring


class Recorder(NamedTuple):
    """Where notes go; each raises MunimentError if it cannot."""

    heartbeat: Callable[[dict[str, Any]], object]
    snapshot: Callable[[bytes, Mapping[str, Any], str, str], object]  # packed, rendered, reason, lane


class Watch:
    """The supervisor's eye.

    Args:
        recorder: None: look, record nothing.
        now_ns: CLOCK_MONOTONIC, unix_ns: the wall clock.
        told: is told what is worth a line for people: (word, text).
    """

    def __init__(
        self,
        spec: Spec | None,
        rings: Sequence[Ring],
        recorder: Recorder | None,
        *,
        run: str,
        agent: str = "",
        every: float = EVERY_S,
        snapshot_every: float = 0.0,
        stall_ns: int = STALL_NS,
        now_ns: Callable[[], int] = time.monotonic_ns,
        unix_ns: Callable[[], int] = time.time_ns,
        told: Callable[[str, str], None] = lambda _word, _text: None,
    ) -> None:
        self._spec, self._rings, self._recorder = spec, rings, recorder
        self._run, self._agent, self._every, self._snapshot_every = run, agent, every, snapshot_every
        self._stall_ns, self._now, self._unix, self._told = stall_ns, now_ns, unix_ns, told
        self._start = self._last_beat = self._last_snapshot = self._last_look = self._last_change = now_ns()
        self._beats = self._down_until = 0
        self._states: dict[str, str] = {}
        self._marks: dict[str, Any] = {}
        self._blocked: dict[str, tuple[bool, int]] = {}
        self.unrecorded = 0
        self.last_error: MunimentError | None = None

    def look(self, reason: str = "") -> None:
        """Look once; record what rules 1 to 3 ask for. `reason` `started` or `ended`: record whatever it looks like."""
        now = self._now()
        pictures = [
            (
                ring,
                packed := ring.ring.snapshot_raw(),
                render(packed, stage_names(self._spec, ring.lane), ring.path, stall_ns=self._stall_ns),
            )
            for ring in self._rings
        ]
        gap = (now - self._last_look) / 1e9 > GAP_S
        self._last_look = now
        states = {
            ring.prefix + item["stage"]: item["state"]
            for ring, _, seen in pictures
            for item in seen["gating"]
        }
        marks = {ring.path: self._trouble(ring, seen) for ring, _, seen in pictures}
        changed = marks != self._marks and self._states != {}
        if not reason and changed and (now - self._last_change) / 1e9 < QUIET_S:
            changed = False  # rule 3: looked at again in the next tick
        if changed:
            self._last_change = now
            for ring, _, seen in pictures:
                self._say(ring, seen, self._marks.get(ring.path), marks[ring.path])
        why = reason or ("transition" if changed else "gap" if gap else "")
        if not why and (now - self._last_beat) / 1e9 >= self._every:
            why = "periodic"
        if why:
            self._beat(why, now, pictures, states)
        if changed or why == "ended":
            self._snapshot("ended" if why == "ended" else "transition", now, pictures)
        elif self._snapshot_every and (now - self._last_snapshot) / 1e9 >= self._snapshot_every:
            self._snapshot("periodic", now, pictures)
        if changed or not self._states or why:
            self._states, self._marks = states, marks

    def _trouble(self, ring: Ring, seen: Mapping[str, Any]) -> tuple[object, ...]:
        """What of a picture is a transition if it differs: stages in trouble, a producer held back, loss."""
        held = self._held_back(ring.path, blocked=seen["producer_blocked"])
        lost = any(int(item["lost"]) for item in seen["gating"])
        return (
            tuple(item["stage"] for item in seen["gating"] if item["state"] in TROUBLE),
            held,
            int(seen["dropped"]) > 0,
            lost,
        )

    def _held_back(self, path: str, *, blocked: bool) -> bool:
        """A producer held back at four looks, until it is free at four: a ring that is full now and then is no trouble."""
        was, count = self._blocked.get(path, (False, 0))
        count = count + 1 if blocked != was else 0
        self._blocked[path] = (not was, 0) if count >= HELD_LOOKS else (was, count)
        return self._blocked[path][0]

    def _say(self, ring: Ring, seen: Mapping[str, Any], before: Any, after: tuple[Any, ...]) -> None:
        earlier = before or ((), False, False, False)
        for item in seen["gating"]:
            name = ring.prefix + item["stage"]
            if item["stage"] in after[0] and item["stage"] not in earlier[0]:
                self._told(item["state"], f"stage {name} at {item['sequence']}, {item['lag']} behind")
            elif item["stage"] in earlier[0] and item["stage"] not in after[0]:
                self._told("goes on", f"stage {name} is {item['state']} again")
        if after[1] and not earlier[1]:
            self._told(
                "gated",
                f"the producer waits for stage {ring.prefix}{seen['slowest_stage']}: the ring is full",
            )
        if earlier[1] and not after[1]:
            self._told("goes on", f"the producer of {ring.lane or 'the ring'}")
        if after[2] and not earlier[2]:
            self._told("dropped", f"{seen['dropped']} messages were refused by the full ring")
        if after[3] and not earlier[3]:
            self._told("overrun", f"a reader of {ring.lane or 'the ring'} was overtaken")

    def _beat(self, reason: str, now: int, pictures: Sequence[Any], states: Mapping[str, str]) -> None:
        self._last_beat = now
        self._beats += 1
        seen = pictures[0][2] if pictures else {"cursor": "0", "min_gating": "0"}  # journals only: no ring
        changes = [
            {"stage": name, "from": self._states.get(name, ""), "to": state}
            for name, state in states.items()
            if state != self._states.get(name, "")
        ]
        data = {
            "run": self._run,
            "agent": self._agent,
            "beat": self._beats,
            "reason": reason,
            "unix_ns": str(self._unix()),
            "uptime_ms": (now - self._start) // 1_000_000,
            "ring": {"cursor": seen["cursor"], "min_gating": seen["min_gating"]},
            "stages": [{"stage": name, "state": state} for name, state in states.items()][:64],
            "changes": changes[:64],
        }
        self._record(lambda recorder: recorder.heartbeat(data))

    def _snapshot(self, reason: str, now: int, pictures: Sequence[Any]) -> None:
        self._last_snapshot = now
        for ring, packed, seen in pictures:
            self._record(partial(_keep, ring.lane, packed, seen, reason))

    def _record(self, act: Callable[[Recorder], object]) -> None:
        if self._recorder is None:
            return
        if self._now() < self._down_until:
            self.unrecorded += 1
            return
        try:
            act(self._recorder)
        except MunimentError as error:
            self.unrecorded += 1
            self.last_error = error
            if error.retryable:
                self._down_until = self._now() + int(DOWN_S * 1e9)
            self._told("not recorded", str(error))


def _keep(lane: str, packed: bytes, seen: Mapping[str, Any], reason: str, recorder: Recorder) -> None:
    recorder.snapshot(packed, seen, reason, lane)


class Watched(Protocol):
    """A pipeline at work: `ring.executor.Pipeline`, `ring.graph.GraphPipeline`."""

    crew: Crew

    def start(self) -> None: ...
    def alive(self) -> bool: ...
    def finish_early(self) -> None: ...
    def stop(self) -> None: ...


def supervise(
    pipeline: Watched, watch: Watch, tick: Callable[[], None], told: Callable[[str, str], None]
) -> None:
    """Start a pipeline and look at it until its last thread has ended.

    The first interrupt (SIGINT, SIGTERM) ends the input and works off what is in the ring; the second stops every stage where it
    is.
    """
    with _interrupts() as asked:
        done = 0
        pipeline.start()
        reason = "started"
        while pipeline.alive() or reason:
            watch.look(reason)
            reason = ""
            tick()
            pipeline.crew.wait(TICK_S)
            if len(asked) > done:
                done = len(asked)
                told(
                    "interrupted",
                    "stopping; what a stage has in hand is waited for"
                    if done > 1
                    else "the ring is worked off; again to stop where it is",
                )
                (pipeline.stop if done > 1 else pipeline.finish_early)()
        watch.look("ended")
        tick()


@contextmanager
def _interrupts() -> Iterator[list[int]]:
    """The signals that asked to end, as they come. An exception in their place could cut an append or the start of a thread."""
    asked: list[int] = []
    if threading.current_thread() is not threading.main_thread():
        yield asked
        return
    before = {
        number: signal.signal(number, lambda number, _frame: asked.append(number))
        for number in (signal.SIGINT, signal.SIGTERM)
    }
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
