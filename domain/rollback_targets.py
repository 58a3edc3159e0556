"""Which targets of a slot a rollback is about when nobody named one: those that run the failing pack, and no other.

1. A release brought the desired pack and some target runs it: that pack fails, and the targets that run it go back.
2. Else (it runs nowhere yet, or the desired pack is what a rollback selected) each target speaks for itself: it is on trial,
   half rolled back or stuck, its health failed, or it runs a pack that fails on another target or was rolled off one.
3. Where no target does and all run the desired pack, that pack is what the person means.

A target that runs another pack, good and not failed, gets nothing: to roll it back would quarantine a good pack (R6).
"""

from __future__ import annotations

from muniment.domain.states import Slot, Target


def failing_targets(slot: Slot, *, started: bool = False) -> list[str]:
    """Names of the targets to roll back, in the order they were adopted; [] if none is failing.

    Args:
        started: a rollback of this slot goes on that was cut; what it rolled back already is no failing pack (rule 3 is off).
    """
    active = {name: target for name, target in slot.targets.items() if target.active}
    if slot.release and any(target.active == slot.desired for target in active.values()):
        return [name for name, target in active.items() if target.active == slot.desired]
    bad = {target.active for target in active.values() if _failed(target)}
    gone = {pack for target in active.values() for pack in target.revoked if not _good_again(target, pack)}
    found = [
        name
        for name, target in active.items()
        if target.mode in ("TRIAL", "STUCK") or target.active in bad or target.active in gone
    ]
    if not found and not started and all(target.active == slot.desired for target in active.values()):
        return list(active)
    return found


def _failed(target: Target) -> bool:
    """It says itself that its pack fails: by its health, or by a rollback that has not left the pack yet."""
    health = target.health
    sick = health is not None and health.failed and health.pack == target.active
    return sick or (bool(target.rollback) and target.active in target.chain)


def _good_again(target: Target, pack: str) -> bool:
    return any(item.pack == pack for item in target.good())


def running(slot: Slot) -> str:
    """What runs where, in one line."""
    return ", ".join(f"{name} runs {target.active}" for name, target in slot.targets.items() if target.active)


__all__ = ["failing_targets", "running"]
