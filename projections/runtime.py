"""Runtime: which pipelines ran, in which state were they last seen, what did they acknowledge?

Each handler touches only what its record is tagged with, so the order of unrelated records changes nothing (settled.md, 19).
"""

from __future__ import annotations

from typing import Any

from muniment.domain.decision import Fact
from muniment.domain.policy import Policy
from muniment.domain.world import Handles
from muniment.projections.base import Simple, mark
from muniment.projections.model import ReadModel
from muniment.projections.runtime_model import Acknowledged, HostSeen, HostVerdict, Run, SourceSeen, SpecSeen


def _run(model: Any, name: str) -> Run:
    found: Run | None = model.runs.get(name)
    if found is None:
        found = model.runs[name] = Run(name)
    return found


def _spec(model: Any, name: str) -> SpecSeen:
    found: SpecSeen | None = model.specs.get(name)
    if found is None:
        found = model.specs[name] = SpecSeen(name)
    return found


def on_spec_validated(model: Any, fact: Fact) -> None:
    """The last valid text of a spec."""
    spec = _spec(model, fact.data["spec"])
    spec.spec_sha256, spec.model, spec.valid = fact.data["spec_sha256"], fact.data["model"], fact.mark()


def on_spec_rejected(model: Any, fact: Fact) -> None:
    """A text without a name belongs to no spec."""
    if name := fact.data["spec"]:
        _spec(model, name).rejected = fact.mark()


def on_host_checked(model: Any, fact: Fact) -> None:
    """The last check for each profile."""
    data = fact.data
    host = model.hosts.get(data["host_id"])
    if host is None:
        host = model.hosts[data["host_id"]] = HostSeen(data["host_id"])
    failed = [check["id"] for check in data["checks"] if check["required"] and check["state"] == "failed"]
    host.profiles[data["profile"]] = HostVerdict(data["ok"], failed, fact.mark())


def on_run_started(model: Any, fact: Fact) -> None:
    """A run, or what is to be known of one that was seen before."""
    data = fact.data
    run = _run(model, data["run"])
    for field in ("spec", "spec_sha256", "model", "profile", "source", "agent", "resume_from", "left_over"):
        setattr(run, field, data[field])
    run.location, run.started = data["ring_path"], fact.mark()
    _spec(model, data["spec"]).runs += 1


def on_run_ended(model: Any, fact: Fact) -> None:
    """How it ended; a run of which only the end is on record has its spec from here."""
    data = fact.data
    run = _run(model, data["run"])
    run.spec = run.spec or data["spec"]
    for field in ("outcome", "stage", "sequence", "error", "counts"):
        setattr(run, field, data[field])
    run.ended = fact.mark()


def on_snapshot(model: Any, fact: Fact) -> None:
    """What the run looked like; of a lane graph the last lane."""
    data = fact.data
    if data["spec"]:
        _spec(model, data["spec"]).snapshots += 1
    if not data["run"]:
        return
    run = _run(model, data["run"])
    run.snapshots += 1
    run.cursor, run.slowest, run.blocked = data["cursor"], data["slowest_stage"], data["producer"]["blocked"]
    run.stages = {stage["stage"]: stage["state"] for stage in data["stages"]}
    run.seen = fact.mark()


def on_heartbeat(model: Any, fact: Fact) -> None:
    """A sign of life."""
    data = fact.data
    run = _run(model, data["run"])
    run.beats += 1
    run.cursor = data["ring"]["cursor"]
    run.stages = {stage["stage"]: stage["state"] for stage in data["stages"]}
    run.seen = fact.mark()


def on_acknowledged(model: Any, fact: Fact) -> None:
    """How far a source is in the log, and what the run brought."""
    data = fact.data
    run, source = _run(model, data["run"]), model.sources.get(data["source"])
    if source is None:
        source = model.sources[data["source"]] = SourceSeen(data["source"])
    source.shards[str(data["shard"])] = Acknowledged(
        data["run"], data["to_offset"], data["last_line_sha256"], data["last_line_bytes"], fact.mark()
    )
    for total in (run, source):
        total.batches += 1
        total.lines += data["lines"]
        total.facts += data["facts"]
    run.duplicates += data["duplicates"]
    run.filtered += data["filtered"]


HANDLES: Handles = {
    "runtime.spec_validated/1": on_spec_validated,
    "runtime.spec_rejected/1": on_spec_rejected,
    "runtime.host_checked/1": on_host_checked,
    "runtime.run_started/1": on_run_started,
    "runtime.run_ended/1": on_run_ended,
    "runtime.snapshot_captured/1": on_snapshot,
    "runtime.heartbeat_recorded/1": on_heartbeat,
    "runtime.batch_acknowledged/1": on_acknowledged,
}


def row(model: ReadModel, run: Run) -> dict[str, Any]:
    """One run as JSON values; `state` is its outcome, or `running` where no end is on record.

    `acknowledged.offsets` has the shards of its source that no later run has taken further.
    """
    source = model.sources.get(run.source)
    shards = source.shards if source is not None else {}
    return {
        "run": run.run,
        "state": run.outcome or "running",
        "spec": run.spec,
        "spec_sha256": run.spec_sha256,
        "model": run.model,
        "profile": run.profile,
        "source": run.source,
        "resume_from": run.resume_from,
        "ring_path": run.location,
        "left_over": run.left_over,
        "agent": run.agent,
        "cursor": run.cursor,
        "stages": dict(run.stages),
        "slowest": run.slowest,
        "producer_blocked": run.blocked,
        "stopped_at": {"stage": run.stage, "sequence": run.sequence, "error": run.error}
        if run.stage or run.error
        else None,
        "counts": dict(run.counts),
        "acknowledged": {
            "batches": run.batches,
            "lines": run.lines,
            "facts": run.facts,
            "duplicates": run.duplicates,
            "filtered": run.filtered,
            "offsets": {shard: at.to_offset for shard, at in sorted(shards.items()) if at.run == run.run},
        },
        "heartbeats": run.beats,
        "snapshots": run.snapshots,
        "started": mark(run.started),
        "seen": mark(run.seen),
        "ended": mark(run.ended),
    }


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Runs in the order in which they are first on record as begun; those without a beginning first, by id."""
    return [
        row(model, run)
        for run in sorted(
            model.runs.values(), key=lambda r: (r.started.position if r.started is not None else 0, r.run)
        )
    ]


RUNTIME = Simple(
    "runtime",
    1,
    "Which pipelines ran, in which state were they last seen, what did they acknowledge?",
    handles=(HANDLES,),
    parts=("runs", "sources", "specs", "hosts"),
    rows=rows,
)
