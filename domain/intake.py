"""Intake: an immutable input snapshot with provenance.

1. Equal bytes give the same digest; metadata never changes it. The digest is made by the caller over path, SHA-256 and
   size of each file and checked again by `verify store` from the stored manifest.
2. An intake id is used once.
"""

from __future__ import annotations

from typing import Any

import msgspec
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.intake_state import item
from muniment.domain.query import Query
from muniment.domain.refusal import Refusal
from muniment.domain.world import World


class Add(msgspec.Struct, frozen=True, tag="intake.add"):
    """Record an input whose files are stored as evidence already."""

    intake: str
    digest: str
    files: int
    bytes: int
    excluded: int
    origin: str
    authority: str
    fetched_at: str
    transformations: list[dict[str, Any]]
    evidence: list[dict[str, Any]]


def boundary(command: Add, world: World) -> Query:  # noqa: ARG001
    """The intake itself."""
    return (item(command.intake),)


def decide(world: World, command: Add, context: Context) -> Decision:  # noqa: ARG001
    """Refuse a used id; else record."""
    if (known := world.intakes.get(command.intake)) is not None:
        return Refusal(
            "intake.id_used",
            command.intake,
            f"intake {command.intake} was recorded before",
            cause=known.recorded,
            next=f"muniment intake show {command.intake}",
        )
    return [
        Event(
            "intake.recorded/1",
            {
                "intake": command.intake,
                "digest": command.digest,
                "files": command.files,
                "bytes": command.bytes,
                "excluded": command.excluded,
                "origin": command.origin,
                "authority": command.authority,
                "fetched_at": command.fetched_at,
                "transformations": command.transformations,
            },
            tuple(command.evidence),
        )
    ]
