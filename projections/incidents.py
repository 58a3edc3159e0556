"""Incidents: what went wrong, where, and is it over?"""

from __future__ import annotations

from typing import Any

from muniment.domain import incident_state
from muniment.domain.policy import Policy
from muniment.domain.states import Incident
from muniment.projections.base import Simple, mark
from muniment.projections.model import ReadModel


def row(item: Incident) -> dict[str, Any]:
    """One incident as JSON values."""
    return {
        "incident": item.incident,
        "state": item.state,
        "severity": item.severity,
        "scope": item.scope,
        "summary": item.summary,
        "commander": item.commander,
        "class": item.class_,
        "notes": item.notes,
        "slots": list(item.slots),
        "releases": list(item.releases),
        "cause_pack": item.cause_pack,
        "freeze": item.freeze,
        "resolution": item.resolution,
        "declared": mark(item.declared),
        "ended": mark(item.ended),
    }


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Incidents in the order they were declared."""
    return [row(item) for item in sorted(model.incidents.values(), key=lambda i: i.declared.position)]


INCIDENTS = Simple(
    "incidents",
    1,
    "What went wrong, where, and is it over?",
    handles=(incident_state.HANDLES,),
    parts=("incidents", "incident_count"),
    rows=rows,
)
