"""Builds and the intakes they came from: what was built, from what, and how far did it get?"""

from __future__ import annotations

from typing import Any

from muniment.domain import build_state, intake_state
from muniment.domain.policy import Policy
from muniment.domain.states import Build
from muniment.projections.base import Simple, mark
from muniment.projections.model import ReadModel


def row(build: Build, at: str) -> dict[str, Any]:
    """One build as JSON values; `missing` is what keeps it from being eligible at this instant."""
    return {
        "build": build.build,
        "state": build_state.state(build, at),
        "product": build.product,
        "intake": build.intake,
        "intake_digest": build.intake_digest,
        "pack": build.pack,
        "reproduced": build.reproduced,
        "stages": {name: tries[-1].status or "RUNNING" for name, tries in build.stages.items()},
        "gates": {name: gate.verdict for name, gate in sorted(build.gates.items())},
        "missing": build.failed if build.outcome else build_state.failed_conditions(build, at),
        "requested": mark(build.requested),
        "finished": mark(build.finished),
    }


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Builds in the order they were requested."""
    return [row(build, at) for build in sorted(model.builds.values(), key=lambda b: b.requested.position)]


def intake_rows(model: ReadModel) -> list[dict[str, Any]]:
    """Intakes in the order they were recorded."""
    return [
        {
            "intake": item.intake,
            "digest": item.digest,
            "files": item.files,
            "bytes": item.bytes,
            "origin": item.origin,
            "recorded": mark(item.recorded),
        }
        for item in sorted(model.intakes.values(), key=lambda i: i.recorded.position)
    ]


BUILDS = Simple(
    "builds",
    1,
    "What was built, from what, and how far did it get?",
    handles=(build_state.HANDLES, intake_state.HANDLES),
    parts=("builds", "intakes"),
    rows=rows,
)
