"""Activation: its commands. Decisions stand in `domain.activation` and `domain.activation_plan`."""

from __future__ import annotations

from typing import Any, Literal

import msgspec

ATTACKS = (
    "arbitrary_software",
    "key_below_threshold",
    "rollback",
    "fast_forward",
    "stale_freeze",
    "mix_and_match",
    "partial_set",
    "wrong_software",
    "extraneous_dependency",
    "endless_data",
    "truncated",
    "incompatible",
    "below_floor",
    "blocked",
)


class Plan(msgspec.Struct, frozen=True, tag="activation.plan"):
    """Begin: adopt the target if it is new, and plan what the slot should run.

    `found` is the pack that the target's own link names ("" if none); `waive_rollback` acknowledges that no rollback target exists.
    """

    activation: str
    slot: str
    target: str
    location: str
    driver: str
    found: str
    waive_rollback: bool
    repair: bool = False  # the pack is active already, and the service found it damaged on the target


class Step(msgspec.Struct, frozen=True, tag="activation.step"):
    """Fetched or staged."""

    activation: str
    slot: str
    target: str
    step: Literal["fetched", "staged"]
    detail: dict[str, Any]


class Verified(msgspec.Struct, frozen=True, tag="activation.verified"):
    """Every check, evaluated on the target; the verdict follows from them."""

    activation: str
    slot: str
    target: str
    checks: list[dict[str, Any]]


class Switch(msgspec.Struct, frozen=True, tag="activation.switch"):
    """The commit point."""

    activation: str
    slot: str
    target: str
    waive_rollback: bool


class Confirm(msgspec.Struct, frozen=True, tag="activation.confirm"):
    """The link as read back from the target."""

    activation: str
    slot: str
    target: str
    link: str


class Fail(msgspec.Struct, frozen=True, tag="activation.fail"):
    """A step failed before the switch: fetch_failed, stage_failed or abandoned."""

    activation: str
    slot: str
    target: str
    step: Literal["fetch_failed", "stage_failed", "abandoned"]
    reason: str


class Revert(msgspec.Struct, frozen=True, tag="activation.revert"):
    """The switch was recorded and cannot be carried out; `link` is what the target says."""

    activation: str
    slot: str
    target: str
    link: str


Command = Plan | Step | Verified | Switch | Confirm | Fail | Revert
