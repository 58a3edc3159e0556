"""Timeline: how much happened when? Records by day and type, for at most ten years of days with records."""

from __future__ import annotations

from typing import Any

from muniment.domain.decision import Fact
from muniment.domain.policy import Policy
from muniment.domain.world import World
from muniment.projections.base import Simple
from muniment.projections.model import ReadModel

MAX_DAYS = 3660


def on_any(world: World, fact: Fact) -> None:
    """Count one record. `recorded_at` never goes backwards, so the first day kept is the oldest."""
    assert isinstance(world, ReadModel)
    timeline = world.timeline
    timeline.records += 1
    day = fact.recorded_at[:10]
    types = timeline.days.get(day)
    if types is None:
        types = timeline.days[day] = {}
        if len(timeline.days) > MAX_DAYS:
            _forget_oldest(timeline.days, timeline.earlier)
    types[fact.type] = types.get(fact.type, 0) + 1


def _forget_oldest(days: dict[str, dict[str, int]], earlier: dict[str, int]) -> None:
    for type_, count in days.pop(min(days)).items():
        earlier[type_] = earlier.get(type_, 0) + count


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Days in order; the day "" sums what is older than the oldest day kept."""
    every = [("", model.timeline.earlier)] if model.timeline.earlier else []
    every += sorted(model.timeline.days.items())
    return [
        {"day": day, "records": sum(types.values()), "types": dict(sorted(types.items()))}
        for day, types in every
    ]


TIMELINE = Simple(
    "timeline",
    1,
    "How much happened when?",
    handles=({"*": on_any},),
    parts=("timeline",),
    rows=rows,
    exempt=True,
)
