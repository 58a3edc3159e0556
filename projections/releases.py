"""Releases: which rollouts are there, how far did each get, and what holds it?"""

from __future__ import annotations

from typing import Any

from muniment.domain import release_state
from muniment.domain.policy import Policy
from muniment.domain.states import Release
from muniment.projections.base import Simple, mark
from muniment.projections.model import ReadModel


def row(item: Release) -> dict[str, Any]:
    """One release as JSON values; `stage` counts from 0."""
    return {
        "release": item.release,
        "state": item.state,
        "pack": item.pack,
        "product": item.product,
        "stage": item.stage,
        "phase": item.phase,
        "stages": [
            {"slots": list(s.slots), "milli_percent": s.milli_percent, "soak_s": s.soak_s}
            for s in item.stages
        ],
        "slots": item.slots,
        "plan_digest": item.plan_digest,
        "requester": item.requester,
        "approvals": list(item.approvals),
        "exposed": item.exposed_position,
        "pauses": {cause: mark(m) for cause, m in sorted(item.pauses.items())},
        "created": mark(item.created),
        "ended": mark(item.ended),
    }


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Releases in the order they were created."""
    return [row(item) for item in sorted(model.releases.values(), key=lambda r: r.created.position)]


RELEASES = Simple(
    "releases",
    1,
    "Which rollouts are there, how far did each get, and what holds it?",
    handles=(release_state.HANDLES,),
    parts=("releases",),
    rows=rows,
)
