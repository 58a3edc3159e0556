"""Evidence: which proof do the records of each subject promise? Whether the bytes are there is looked up by the application."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muniment.domain.decision import Fact
from muniment.domain.policy import Policy
from muniment.projections.base import Simple
from muniment.projections.fold import Misfit
from muniment.projections.model import EvidenceOf, ReadModel

# Tags that name a subject; `scope:` and `command:` tags do not.
SUBJECTS = ("build", "incident", "intake", "pack", "product", "release", "run", "slot", "target")
_PREFIXES = tuple(f"{name}:" for name in SUBJECTS)


def on_page(model: ReadModel, facts: Sequence[Fact]) -> None:
    """Count the files that records name, for each subject they are tagged with."""
    for fact in facts:
        if fact.evidence:
            for tag in fact.tags:
                if tag.startswith(_PREFIXES) and tag != "incident:*":
                    try:
                        _count(model, tag, fact)
                    except (KeyError, TypeError) as error:
                        found = Misfit(f"evidence of record {fact.position} has no role or size: {error!r}")
                        found.position = fact.position
                        raise found from error


def _count(model: ReadModel, tag: str, fact: Fact) -> None:
    found = model.evidence.get(tag)
    if found is None:
        found = model.evidence[tag] = EvidenceOf(first_position=fact.position)
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
    handles=(),
    on_page=on_page,
    parts=("evidence",),
    rows=rows,
)
