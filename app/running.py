"""`run`: a spec over an input, in this process, watched and recorded.

1. The spec is valid before anything is touched; an op that cannot run here is refused, not skipped.
2. A left-over ring of the same name is captured before it is set aside; a living run of it is never disturbed (exit 5).
3. The input goes on where the log says it was acknowledged, if a `sink:log` is in the spec.
4. The run is recorded: started, heartbeats and snapshots, ended. A start that cannot be recorded does not happen; after that the
   store may go away and come back (the watch counts what it missed), but a `sink:log` waits for it and then stops the pipeline.
5. Only an input read to its end, with every stage finished, is `completed`.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from contextlib import ExitStack
from dataclasses import dataclass, field
from typing import Any

from muniment.app import home, ids, tuning
from muniment.app import runtime_records as records
from muniment.app.fact_drafts import FactDrafts
from muniment.app.host_check_facts import HostFacts
from muniment.app.ingest_schema import SchemaStage
from muniment.app.ingest_sink import Ledger, LogSink, Mark, position_item
from muniment.app.left_over import capture
from muniment.app.patience import Patience
from muniment.app.run_report import Report
from muniment.app.runtime_watch import EVERY_S, SNAPSHOT_S, Recorder, Ring, Watch, supervise
from muniment.app.session import Options, Session
from muniment.domain.canonical import encode
from muniment.domain.errors import InvalidError, MunimentError, NotFoundError
from muniment.ring.executor import Failure, Pipeline
from muniment.ring.floor import Floor, Ways
from muniment.ring.graph import GraphPipeline
from muniment.ring.lane_state import STATE
from muniment.ring.place import RunPlace
from muniment.ring.sources import open_source
from muniment.ring.spec import Op, SingleRing, Spec
from muniment.ring.spec_text import canonical, spec_sha256
from muniment.ring.work import FileSink, PythonStage, Work

AGENT = "MUNIMENT_AGENT_ID"
LATER = ("guard", "http_post", "exec")  # valid in a spec, run by nothing yet


@dataclass(slots=True)
class Asked:
    """What a person asks of a run.

    Attributes:
        input: a path, or "-" for standard input.
        source: its name in the log, "" to derive it.
        record: heartbeats, snapshots, start and end go to the log.
        from_start: read the input from its beginning, whatever is acknowledged (the ids still drop what is there).
        every: seconds between heartbeats. snapshots: seconds between snapshots, 0 for none but at transitions.
    """

    input: str = "-"
    source: str = ""
    profile: str = "default"
    record: bool = True
    from_start: bool = False
    every: float = EVERY_S
    snapshots: float = 0.0
    agent: str = field(default_factory=lambda: os.environ.get(AGENT, ""))


Told = Callable[[str, str], None]


def needs_store(spec: Spec) -> bool:
    """Does an op write to the log?"""
    return any(op.name == "sink:log" for op in spec.ops)


def check_runnable(spec: Spec) -> None:
    """Refuse what no executor here does (operator-flow.md, section 2: executors fail closed).

    Raises:
        InvalidError: names every such op.
    """
    found = sorted({str(op) for op in spec.ops if op.name in LATER})
    if found:
        raise InvalidError(
            f"spec {spec.name}: cannot run {', '.join(found)}",
            code="run.op_unsupported",
            expected="identity count digest filter schema sink:log sink:file python",
            found=", ".join(found),
            hint="muniment describe --spec F; take these stages out",
        )
    if isinstance(spec.pipeline, SingleRing) and sum(op.name == "sink:log" for op in spec.ops) > 1:
        raise InvalidError(
            f"spec {spec.name} has more than one sink:log: which of them acknowledges the input?",
            code="run.two_sinks",
            expected="one sink:log in a ring",
            hint="let one stage write to the log; two filters side by side go into it by way of a lane graph",
        )


def run(
    spec: Spec, session: Session | None, asked: Asked, *, told: Told, progress: Callable[[int], None]
) -> Report:
    """Run a spec to the end of its input.

    Args:
        session: an open store for writing; None: nothing is recorded, and no op may need one.
        told: gets (word, text) of what is worth a line while it runs.
        progress: gets the bytes of input taken so far.

    Raises:
        InvalidError: it cannot be run. ConflictError: it runs already, or the input is not what was acknowledged.
        UnfitError: the profile has no fresh passing check of this host, or a knob cannot be turned.
        NotFoundError, UnavailableError: no input, no store, no room.
    """
    check_runnable(spec)
    if asked.profile != "default":
        if session is None:
            raise _no_store(f"profile {asked.profile} asks for a check of this host, which is a record")
        tuning.demand_fresh_check(session, asked.profile)
    if session is None and needs_store(spec):
        raise _no_store(f"spec {spec.name} has a sink:log")
    with ExitStack() as stack:
        return _Run(spec, session, asked, told, progress, stack).go()


class _Run:
    """One run, while it lasts."""

    def __init__(
        self,
        spec: Spec,
        session: Session | None,
        asked: Asked,
        told: Told,
        progress: Callable[[int], None],
        stack: ExitStack,
    ) -> None:
        self.spec, self.session, self.asked, self.told, self.progress = spec, session, asked, told, progress
        self.id, self.sha = ids.short_id("run-"), spec_sha256(spec)
        self.keeps = session if asked.record else None
        journals = (session.folder if session else home.home()) / "journals" / spec.name
        self.source = stack.enter_context(open_source(asked.input, asked.source))
        self.place = stack.enter_context(RunPlace(spec.name, journals=journals))
        self.started = self.untold = False
        self.resume: int | None = None
        self.ledger: Ledger | None = None
        self.patience = Patience(told)
        self.sink: LogSink | None = None

    def go(self) -> Report:
        """All of it."""
        began = time.monotonic()
        left_over = capture(self.place, self.keeps, self.told)
        self._find_place()
        self.place.begin(self.id, self.sha.removeprefix("sha256:"))
        try:
            report = self._run(left_over, began)
        except BaseException as error:
            self._broke_off(error)
            raise
        if self.keeps is not None:
            report.end_unrecorded = self._record_end(report)
        self.place.end()
        if report.failure is None:
            self.place.clear()
        return report

    def _run(self, left_over: str, began: float) -> Report:
        """From the first ring to the last thread; the start is on record once nothing stands against it."""
        pipeline = self._pipeline()
        try:
            applied = tuning.apply(self.asked.profile, pipeline.crew.prepare())
            tuning.refuse_failed(applied, self.asked.profile)
            if self.keeps is not None:
                self._record_start(left_over)
            self.started = True
            watch = self._watch(pipeline)
            supervise(pipeline, watch, lambda: self._tick(pipeline), self.told)
            self._settle()
            return self._report(pipeline, watch, applied, left_over, time.monotonic() - began)
        except BaseException:
            pipeline.stop()  # or its threads would be waited for
            raise
        finally:
            pipeline.close()

    def _broke_off(self, error: BaseException) -> None:
        """Something else than the pipeline failed: a start that is on record gets its end, one that is not leaves no ring."""
        if self.started and self.keeps is not None:
            self._record_end(Report(self.id, self.spec, "failed", failure=Failure("", 0, error)))
        self.place.end()
        if not self.started:
            self.place.clear()

    # -- before ----------------------------------------------------------------------------------------------------

    def _find_place(self) -> None:
        """Where the input goes on (rule 3)."""
        ring = self.spec.pipeline
        if self.session is None or not needs_store(self.spec):
            return
        if ring.on_full != "block" if isinstance(ring, SingleRing) else Ways(ring).lossy:
            return  # what was committed is no prefix of the input: the ids alone tell
        after, at = self.session.log.head().size, Mark(0)
        last = self.session.last(position_item(self.source.name, self.spec.name))
        if last is not None and not self.asked.from_start:
            mark = Mark(
                int(last.data["to_offset"]), last.data["last_line_sha256"], last.data["last_line_bytes"]
            )
            found = self.source.resume(*mark)
            self.resume = found.offset
            at = mark if found.offset == mark.offset else Mark(found.offset)
            if found.note:
                self.told("input", found.note)
        self.ledger = Ledger(self.source.name, self.spec.name, at, after)

    def _record_start(self, left_over: str) -> None:
        assert self.keeps is not None
        data = {
            "run": self.id,
            "spec": self.spec.name,
            "spec_sha256": self.sha,
            "model": self.spec.model,
            "profile": self.asked.profile,
            "host_id": HostFacts().host_id,
            "pid": os.getpid(),
            "ring_path": str(self.place.folder),
            "source": self.source.name,
            "resume_from": "" if self.resume is None else str(self.resume),
            "left_over": left_over,
            "agent": self.asked.agent,
        }
        records.record_run_started(self.keeps, data, canonical(self.spec))

    # -- running ---------------------------------------------------------------------------------------------------

    def _pipeline(self) -> Pipeline | GraphPipeline:
        ring, fd, offset = self.spec.pipeline, self.source.fd, self.resume or 0
        knobs = tuning.PROFILES[self.asked.profile]
        wait = "" if self.asked.profile == "default" else knobs.wait
        if isinstance(ring, SingleRing):
            shards = [self.place.ring(None if ring.shards == 1 else shard) for shard in range(ring.shards)]
            return Pipeline(self.spec, fd, offset, [str(path) for path in shards], self._resolve, wait=wait)
        return GraphPipeline(
            self.spec, fd, offset, self.place.lane, self.place.journal, self._resolve, wait=wait
        )

    def _resolve(self, op: Op, shard: int, floor: Floor | None) -> Work:
        if op.name == "python":
            return PythonStage(op.argument)
        if op.name == "schema":
            return SchemaStage(op.argument)
        if op.name == "sink:file":
            return FileSink(op.argument if floor is None else f"{op.argument}.{shard}")
        assert op.name == "sink:log"
        assert self.session is not None
        if self.ledger is not None:
            self.ledger.floor = floor
            if floor is not None:
                floor.follow()
        drafts = FactDrafts(self.session.request(Options()).actor)
        self.sink = LogSink(
            self.session,
            drafts,
            run=self.id,
            source=self.source.name,
            ledger=self.ledger,
            patience=self.patience,
            shard=shard,
        )
        return self.sink

    def _watch(self, pipeline: Pipeline | GraphPipeline) -> Watch:
        keeps = self.keeps
        recorder = None
        if keeps is not None:

            def beat(data: dict[str, Any]) -> None:
                self.patience.check()
                records.record_heartbeat(keeps, data)

            def snapshot(packed: bytes, seen: Mapping[str, Any], reason: str, lane: str) -> None:
                self.patience.check()
                more = {"spec": self.spec.name, "lane": lane, "agent": self.asked.agent}
                records.record_snapshot(keeps, packed, seen, reason, self.id, **more)

            recorder = Recorder(beat, snapshot)
        rings = [
            Ring(ring.path or "", lane, f"{lane or at}." if len(pipeline.rings) > 1 else "", ring)
            for at, (lane, ring) in enumerate(pipeline.rings)
        ]
        return Watch(
            self.spec,
            rings,
            recorder,
            run=self.id,
            agent=self.asked.agent,
            every=self.asked.every,
            snapshot_every=self.asked.snapshots or (SNAPSHOT_S if self.asked.agent else 0.0),
            told=self.told,
        )

    def _tick(self, pipeline: Pipeline | GraphPipeline) -> None:
        """A few times a second: progress, and what only this process knows of a lane graph, for whoever takes a snapshot."""
        self.progress(pipeline.read[1])
        if isinstance(pipeline, GraphPipeline):
            try:
                self.place.tell(STATE, encode(pipeline.state()))
            except MunimentError as error:
                if not self.untold:
                    self.told("not told", str(error))
                self.untold = True
            else:
                self.untold = False

    # -- after -----------------------------------------------------------------------------------------------------

    def _settle(self) -> None:
        """The last acknowledgement; without it lines are read again, and their ids are known."""
        if self.sink is not None:
            try:
                self.sink.settle()
            except MunimentError as error:
                self.told("not acknowledged", f"the last of the input: {error}")

    def _report(
        self,
        pipeline: Pipeline | GraphPipeline,
        watch: Watch,
        applied: list[tuning.Applied],
        left_over: str,
        seconds: float,
    ) -> Report:
        failure = pipeline.result()
        outcome = "failed" if failure else "interrupted" if pipeline.interrupted else "completed"
        lines, offset = pipeline.read
        return Report(
            run=self.id,
            spec=self.spec,
            outcome=outcome,
            ring_path=str(self.place.folder),
            source=self.source.name,
            resume_from=self.resume,
            lines=lines,
            offset=offset,
            dropped=pipeline.dropped,
            stages=pipeline.summary(),
            seconds=seconds,
            tuning=applied,
            left_over=left_over,
            unrecorded=watch.unrecorded,
            failure=failure,
        )

    def _record_end(self, report: Report) -> str:
        """Record it; why not, if the store would not have it: that is said and leaves the outcome as it is."""
        assert self.keeps is not None
        try:
            records.record_run_ended(self.keeps, report.ended())
        except MunimentError as fault:
            self.told("not recorded", f"the end of run {self.id}: {fault}")
            return str(fault)
        return ""


def _no_store(why: str) -> NotFoundError:
    return NotFoundError(
        f"{why}, and there is no store", code="run.no_store", hint="muniment init, or --store URL"
    )
