"""Payloads of pipelines and their runs, and of foreign events. `domain.records` binds them to types.

They are observed facts: no command decides them and no boundary names their types, so nobody can void a decision by running a
pipeline. "" means absent. What may pass 2^53 (sequences, nanoseconds, offsets) is decimal text.
"""

from __future__ import annotations

from typing import Annotated, Literal

from muniment.domain.payload_base import (
    U64,
    Count,
    Digest,
    Integer,
    Line,
    Name,
    NoDigest,
    NoName,
    NoU64,
    Payload,
    Text,
    Word,
)
from pydantic import ConfigDict, Field, StringConstraints

MAX_PROBLEMS = 40  # of at most 200 characters: the record stays below its limit whatever they hold
MAX_BODY = 60_000
STAGES = 64  # roles of a lane graph; a ring has 16 stages

Model = Literal["single_ring", "lane_graph"]
Alive = Literal["yes", "no", "unknown"]  # as the system said it from where it was asked
StageState = Literal["idle", "processing", "gated", "stalled", "inactive", "stopped", "ended"]
Source = Annotated[str, StringConstraints(min_length=1, max_length=512)]
Short = Annotated[str, StringConstraints(max_length=200)]
# `0.digest` of a shard, `lane.reader` of a graph: two names
StageName = Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9._-]{0,128}$")]


class SpecValidated(Payload):
    """A spec keeps every rule; its canonical text is evidence."""

    spec: Name
    spec_sha256: Digest
    model: Model
    stages: Count
    lanes: Count


class Problem(Payload):
    """One broken rule of a spec; line 0 is the whole."""

    code: Annotated[str, StringConstraints(min_length=1, max_length=64)]
    line: Count
    message: Short


class SpecRejected(Payload):
    """A spec breaks rules; the text as given is evidence. `more` counts the problems beyond those listed."""

    spec: NoName
    given_sha256: Digest
    problems: Annotated[list[Problem], Field(min_length=1, max_length=MAX_PROBLEMS)]
    more: Count


class Host(Payload):
    """The host that was looked at. `machine` is the digest of its machine id, which is never recorded itself."""

    kernel: Line
    cpus: Count
    boot_id: Line
    machine: NoDigest


class HostCheck(Payload):
    """One check; `required` by the profile asked for."""

    id: Name
    state: Literal["requested", "applied", "degraded", "failed"]
    required: bool
    reason: Short


class HostChecked(Payload):
    """What a host offers against what a profile asks; the full report is evidence."""

    profile: Name
    ok: bool
    host: Host
    host_id: Name
    checks: Annotated[list[HostCheck], Field(max_length=STAGES)]


class RunStarted(Payload):
    """A pipeline began. `resume_from`: the acknowledged offset of its source; `left_over`: what became of a ring found there."""

    run: Name
    spec: Name
    spec_sha256: Digest
    model: Model
    profile: NoName
    host_id: NoName
    pid: Count
    ring_path: Text
    source: Source
    resume_from: NoU64
    left_over: Line
    agent: NoName


class RunCounts(Payload):
    """Messages of a whole run."""

    read: U64
    published: U64
    committed: U64
    duplicates: U64
    filtered: U64
    dropped: U64


class RunEnded(Payload):
    """A pipeline ended; where a stage stopped it, which one, at which sequence and why."""

    run: Name
    spec: Name
    outcome: Literal["completed", "interrupted", "failed", "stopped"]
    stage: NoName
    sequence: NoU64
    code: Short
    error: Line
    counts: RunCounts


class Producer(Payload):
    """The producing side of a ring."""

    blocked: bool
    alive: Alive
    dropped: U64


class StageAt(Payload):
    """A stage at the moment of a snapshot: its sequence lay in [lo, hi].

    `alive`: as for the producer; `silent_ms` since its last heartbeat, -1: none yet; `lost`: overwritten before it read them.
    """

    stage: Name
    state: StageState
    alive: Alive
    lo: U64
    hi: U64
    lag: U64
    lost: U64
    silent_ms: Integer


class Stop(Payload):
    """Whether somebody stopped the ring: nobody passes message `sequence` of `stage` (empty: no stage did it)."""

    state: Literal["running", "stopping", "stopped"]
    stage: NoName
    code: Count
    sequence: U64


class SnapshotCaptured(Payload):
    """A ring at a moment; its packed bytes are evidence. `lane` is empty for the ring of a single-ring spec.

    `end` is the last sequence of a ring that has ended, empty before.
    """

    run: NoName
    spec: NoName
    spec_sha256: NoDigest
    lane: NoName
    reason: Literal["asked", "periodic", "left_over", "transition", "ended"]
    ring_path: Text
    cursor: U64
    exact: bool
    producer: Producer
    stop: Stop
    end: NoU64
    stages: Annotated[list[StageAt], Field(max_length=STAGES)]
    slowest_stage: NoName
    remaining_capacity: Count
    agent: NoName
    incident: NoName


class RingAt(Payload):
    """Where a ring stood at a heartbeat."""

    cursor: U64
    min_gating: U64


class StageSeen(Payload):
    """A stage or role and its state."""

    stage: StageName
    state: StageState


class StageChange(Payload):
    """A transition since the last heartbeat; `from` is empty for a stage seen first."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", validate_by_name=True, validate_by_alias=True
    )

    stage: StageName
    from_: Annotated[str, StringConstraints(max_length=16), Field(alias="from")]
    to: StageState


class HeartbeatRecorded(Payload):
    """A run lives, or was silent: written at transitions and gaps, and now and then between them."""

    run: Name
    agent: NoName
    beat: Count
    reason: Literal["started", "transition", "gap", "periodic", "ended"]
    unix_ns: U64
    uptime_ms: Count
    ring: RingAt
    stages: Annotated[list[StageSeen], Field(max_length=STAGES)]
    changes: Annotated[list[StageChange], Field(max_length=STAGES)]


class BatchAcknowledged(Payload):
    """The input [from_offset, to_offset) whose facts stand before this record, appended with them in one transaction.

    A position is of a source and a spec: another pipeline over the same input makes its own way.
    """

    run: Name
    spec: Name
    source: Source
    shard: Count
    from_offset: U64
    to_offset: U64
    lines: Count
    facts: Count
    duplicates: Count
    filtered: Count
    last_line_sha256: NoDigest
    last_line_bytes: Count


class FactImported(Payload):
    """A foreign event, kept as the text it came as; a longer one is evidence, and `body_sha256` names it.

    `subject` that is a reference of ours (`slot:…`, `pack:…`, `build:…`, `incident:…`, `release:…`) is a tag too.
    """

    source: Source
    event_id: Source
    event_type: Word
    subject: Annotated[str, StringConstraints(max_length=512)]
    time: Annotated[str, StringConstraints(max_length=64)]
    media_type: Word
    body: Annotated[str, StringConstraints(max_length=MAX_BODY)]
    body_sha256: NoDigest
