"""What readers know of pipelines: specs, hosts, runs, and how far each source was acknowledged.

"" and None mean: not on record. A run may be known by its heartbeats alone, since a store that is down stops no pipeline.
"""

from __future__ import annotations

import msgspec
from muniment.domain.refusal import Mark


class Run(msgspec.Struct):
    """One run of a spec; sequences and offsets are decimal text. `stages` and `cursor` are as last seen."""

    run: str
    spec: str = ""
    spec_sha256: str = ""
    model: str = ""
    profile: str = ""
    source: str = ""
    location: str = ""
    agent: str = ""
    resume_from: str = ""
    left_over: str = ""
    started: Mark | None = None
    outcome: str = ""
    stage: str = ""
    sequence: str = ""
    error: str = ""
    counts: dict[str, str] = {}
    ended: Mark | None = None
    cursor: str = ""
    stages: dict[str, str] = {}
    slowest: str = ""
    blocked: bool = False
    seen: Mark | None = None
    beats: int = 0
    snapshots: int = 0
    batches: int = 0
    lines: int = 0
    facts: int = 0
    duplicates: int = 0
    filtered: int = 0


class Acknowledged(msgspec.Struct):
    """How far a shard of a source is in the log."""

    run: str
    to_offset: str
    last_line_sha256: str
    last_line_bytes: int
    by: Mark


class SourceSeen(msgspec.Struct):
    """A source by its shards."""

    source: str
    shards: dict[str, Acknowledged] = {}
    batches: int = 0
    lines: int = 0
    facts: int = 0


class SpecSeen(msgspec.Struct):
    """A spec by its name: the last valid text, the last refusal."""

    spec: str
    spec_sha256: str = ""
    model: str = ""
    valid: Mark | None = None
    rejected: Mark | None = None
    runs: int = 0
    snapshots: int = 0


class HostVerdict(msgspec.Struct):
    """The last check of a host for a profile; `failed` are the required checks that failed."""

    ok: bool
    failed: list[str]
    checked: Mark


class HostSeen(msgspec.Struct):
    """A host by its id."""

    host_id: str
    profiles: dict[str, HostVerdict] = {}
