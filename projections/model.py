"""The read model: the world that decisions see, over the whole log, with what only readers ask for beside it."""

from __future__ import annotations

import msgspec
from muniment.domain.world import World
from muniment.projections.runtime_model import HostSeen, Run, SourceSeen, SpecSeen


class EvidenceOf(msgspec.Struct):
    """Evidence that the records of one subject promise: files counted as often as they are named, and their bytes."""

    files: int = 0
    bytes: int = 0
    roles: dict[str, int] = {}
    first_position: int = 0
    last_position: int = 0


class Timeline(msgspec.Struct):
    """Records by day of `recorded_at` and by type; days before the oldest kept one are summed in `earlier`."""

    records: int = 0
    days: dict[str, dict[str, int]] = {}
    earlier: dict[str, int] = {}


class ReadModel(World):
    """Every state that some projection owns. One fold makes all of it (architecture.md, 6)."""

    evidence: dict[str, EvidenceOf] = msgspec.field(default_factory=dict)
    timeline: Timeline = msgspec.field(default_factory=Timeline)
    runs: dict[str, Run] = msgspec.field(default_factory=dict)
    sources: dict[str, SourceSeen] = msgspec.field(default_factory=dict)
    specs: dict[str, SpecSeen] = msgspec.field(default_factory=dict)
    hosts: dict[str, HostSeen] = msgspec.field(default_factory=dict)
