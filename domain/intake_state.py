"""Intake: the fold of its records. The command and its decision stand in `domain.intake`."""

from __future__ import annotations

from muniment.domain.decision import Fact
from muniment.domain.query import Item
from muniment.domain.states import Intake
from muniment.domain.world import Handles, World


def on_recorded(world: World, fact: Fact) -> None:
    """Keep digest, size and origin."""
    data = fact.data
    world.intakes[data["intake"]] = Intake(
        intake=data["intake"],
        digest=data["digest"],
        files=data["files"],
        bytes=data["bytes"],
        origin=data["origin"],
        recorded=fact.mark(),
    )


HANDLES: Handles = {"intake.recorded/1": on_recorded}
TYPES = tuple(sorted(HANDLES))


def item(intake: str) -> Item:
    """The records of one intake."""
    return Item(TYPES, (f"intake:{intake}",))
