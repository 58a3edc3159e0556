"""Timeline: how much happened when? Records by day and type, for at most ten years of days with records."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from operator import attrgetter
from typing import Any

from muniment.domain.decision import Fact
from muniment.domain.policy import Policy
from muniment.projections.base import Simple
from muniment.projections.model import ReadModel

MAX_DAYS = 3660

_recorded_at, _type = attrgetter("recorded_at"), attrgetter("type")


def on_page(model: ReadModel, facts: Sequence[Fact]) -> None:
    """Count records. `recorded_at` never goes backwards, so the first day kept is the oldest."""
    timeline = model.timeline
    timeline.records += len(facts)
    times = list(map(_recorded_at, facts))
    first, last = min(times, default="")[:10], max(times, default="")[:10]
    if first == last:  # nearly always
        counted = {(first, type_): n for type_, n in Counter(map(_type, facts)).items()}
    else:
        counted = Counter([(fact.recorded_at[:10], fact.type) for fact in facts])
    for (day, type_), count in counted.items():
        types = timeline.days.get(day)
        if types is None:
            types = timeline.days[day] = {}
            if len(timeline.days) > MAX_DAYS:
                _forget_oldest(timeline.days, timeline.earlier)
        types[type_] = types.get(type_, 0) + count


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
    handles=(),
    on_page=on_page,
    parts=("timeline",),
    rows=rows,
    exempt=True,
)
