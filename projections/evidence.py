"""Evidence: which proof do the records of each subject promise? Whether the bytes are there is looked up by the application."""

from __future__ import annotations

from typing import Any

from muniment.domain.decision import Fact
from muniment.domain.policy import Policy
from muniment.domain.world import World
from muniment.projections.base import Simple
from muniment.projections.model import EvidenceOf, ReadModel

# Tags that name a subject; `scope:` and `command:` tags do not.
SUBJECTS = ("build", "incident", "intake", "pack", "product", "release", "slot", "target")
_PREFIXES = tuple(f"{name}:" for name in SUBJECTS)


def on_any(world: World, fact: Fact) -> None:
    """Count the files a record names, for each subject it is tagged with."""
    if not fact.evidence:
        return
    assert isinstance(world, ReadModel)
    for tag in fact.tags:
        if tag.startswith(_PREFIXES) and tag != "incident:*":
            found = world.evidence.get(tag)
            if found is None:
                found = world.evidence[tag] = EvidenceOf(first_position=fact.position)
            found.last_position = fact.position
            for item in fact.evidence:
                found.files += 1
                found.bytes += item["bytes"]
                found.roles[item["role"]] = found.roles.get(item["role"], 0) + 1


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Subjects by tag."""
    return [
        {
            "subject": subject,
            "files": item.files,
            "bytes": item.bytes,
            "roles": dict(sorted(item.roles.items())),
            "first": item.first_position,
            "last": item.last_position,
        }
        for subject, item in sorted(model.evidence.items())
    ]


EVIDENCE = Simple(
    "evidence",
    1,
    "Which proof do the records of each subject promise?",
    handles=({"*": on_any},),
    parts=("evidence",),
    rows=rows,
)
