"""Payloads of channel, slot, release, activation and rollback. `domain.records` binds them to types."""

from __future__ import annotations

from typing import Annotated, Literal

from muniment.domain.payload_base import (
    Channel,
    Count,
    Digest,
    Json,
    Line,
    Lines,
    Name,
    NoInstant,
    NoPack,
    PackId,
    Payload,
    Scope,
    Slot,
    Text,
    Word,
)
from pydantic import Field


class ChannelDeclared(Payload):
    """A channel with (further) cohorts."""

    channel: Channel
    cohorts: list[Name]
    upstream: list[Channel]
    owner: Line
    reason: Text


class ChannelPinned(Payload):
    """A scope is held at a pack."""

    scope: Scope
    pack: PackId
    owner: Line
    expires_at: NoInstant
    reason: Text


class ChannelUnpinned(Payload):
    """The pin of a scope is lifted."""

    scope: Scope
    pack: PackId
    reason: Text


class ChannelFrozen(Payload):
    """Moves within a scope are stopped (R8)."""

    scope: Scope
    freeze: Name
    kind: Literal["FORWARD", "ALL"]
    owner: Line
    expires_at: NoInstant
    incident: Annotated[str, Field(max_length=64)]
    reason: Text


class ChannelUnfrozen(Payload):
    """One freeze is lifted."""

    scope: Scope
    freeze: Name
    reason: Text


class ChannelFloorRaised(Payload):
    """A floor rose (R3)."""

    scope: Scope
    floor: Count
    pack: NoPack
    reason: Text


class ChannelBaselined(Payload):
    """The pack of last resort of an environment."""

    scope: Name
    pack: PackId
    owner: Line
    reason: Text


class AtTarget(Payload):
    """What happens at (slot, target)."""

    slot: Slot
    target: Name


class TargetAdopted(AtTarget):
    """A target belongs to a slot; what it ran is a fact, never good."""

    driver: Literal["folder", "exec", "observe"]
    location: Text
    active: NoPack


class SlotHealthReported(AtTarget):
    """A health report of the active pack; `failed` is what the policy says of the status."""

    pack: PackId
    status: Literal["HEALTHY", "DEGRADED", "UNHEALTHY", "UNKNOWN"]
    failed: bool
    signals: list[Json]
    reason: Text


class SlotGoodAttested(AtTarget):
    """Good from here on (R4)."""

    pack: PackId
    activation: Annotated[str, Field(max_length=64)]
    healthy: Count
    epoch: Count
    reason: Text


class SlotGoodRevoked(AtTarget):
    """No longer good."""

    pack: PackId
    cause: Line


class SlotQuarantined(Payload):
    """Automation may not select the pack in the channel (R6)."""

    channel: Channel
    pack: PackId
    cause: Line


class SlotQuarantineLifted(Payload):
    """It may again."""

    channel: Channel
    pack: PackId
    reason: Text


class SlotStuck(AtTarget):
    """No rollback target."""

    rollback: Name
    pack: PackId
    reason: Line


class SlotUnstuck(AtTarget):
    """A person named the way out."""

    pack: PackId
    reason: Text


class OfRelease(Payload):
    """What happens to a release; it carries every slot it touches."""

    release: Name
    slots: list[Slot]


class PlanStage(Payload):
    """A stage of a plan."""

    slots: Annotated[list[Slot], Field(min_length=1)]
    milli_percent: Annotated[int, Field(ge=1, le=100_000)]
    soak_s: Count


class ReleaseCreated(OfRelease):
    """A draft with a frozen plan."""

    pack: PackId
    product: Name
    stages: Annotated[list[PlanStage], Field(min_length=1)]
    plan_digest: Digest


class ReleaseSubmitted(OfRelease):
    """Submitted for approval."""

    plan_digest: Digest
    reason: Text


class ReleaseApproved(OfRelease):
    """Approved, by whom."""

    by: list[Line]
    plan_digest: Digest


class ReleaseStarted(OfRelease):
    """Running."""

    pack: PackId


class ReleaseExposed(OfRelease):
    """A stage is exposed."""

    stage: Count
    pack: PackId
    milli_percent: Count


class ReleasePromoted(OfRelease):
    """The pack is desired in these slots."""

    stage: Count
    pack: PackId
    reason: Text


class ReleaseSoaked(OfRelease):
    """The soak of a stage is over."""

    stage: Count


class ReleaseGateJudged(OfRelease):
    """The gate of a stage (R11)."""

    stage: Count
    verdict: Literal["PASS", "FAIL", "INCONCLUSIVE"]
    facts: Lines


class ReleasePaused(OfRelease):
    """Held, by a cause."""

    cause: Word
    reason: Text


class ReleaseResumed(OfRelease):
    """Going on."""

    cleared: Lines
    reason: Text


class ReleaseEnded(OfRelease):
    """Completed or rolled back."""

    pack: PackId


class OfActivation(AtTarget):
    """A step of an activation."""

    activation: Name
    pack: PackId


class ActivationPlanned(OfActivation):
    """Begun."""

    kind: Literal["forward", "rollback"]
    rollback: Annotated[str, Field(max_length=64)]
    release: Annotated[str, Field(max_length=64)]
    replaced: NoPack
    waive_rollback: bool
    reason: Text


class ActivationStep(OfActivation):
    """Fetched or staged."""

    detail: Json


class ActivationVerified(OfActivation):
    """Every check passed on the target."""

    checks: list[Json]


class ActivationVerificationFailed(OfActivation):
    """Some check did not; the attack classes it points to."""

    attacks: list[Word]
    checks: list[Json]


class ActivationSwitched(OfActivation):
    """The commit point: this pack is active."""

    kind: Literal["forward", "rollback"]
    replaced: NoPack
    epoch: Count
    schema_level: Count


class ActivationConfirmed(OfActivation):
    """The link, read back."""

    kind: Literal["forward", "rollback"]
    link: PackId


class ActivationFailed(OfActivation):
    """Fetch or stage failed, or abandoned; `active` is untouched."""

    reason: Text


class ActivationReverted(OfActivation):
    """The pack before is active again."""

    active: NoPack
    epoch: Count


class OfRollback(AtTarget):
    """A step of a rollback."""

    rollback: Name


class RollbackRequested(OfRollback):
    """Requested, with trigger and failing pack."""

    trigger: Literal[
        "verification_failed",
        "health_regressed",
        "incompatible",
        "policy_violation",
        "determinism_drift",
        "operator",
        "emergency",
    ]
    failing: PackId
    reason: Text


class Candidate(Payload):
    """A line of the trace (R5)."""

    source: Literal["explicit", "pin", "lkg", "older", "safer", "baseline"]
    pack: PackId
    code: Word
    detail: Line
    position: Count


class RollbackPackSelected(OfRollback):
    """R5's choice, with every candidate looked at."""

    pack: PackId
    trace: list[Candidate]


class RollbackNoCandidate(OfRollback):
    """R5 has none; the slot is stuck."""

    failing: PackId
    reason: Line
    trace: list[Candidate]


class RollbackStepFailed(OfRollback):
    """The selected pack failed its activation."""

    pack: PackId
    reason: Line


class RollbackCompleted(OfRollback):
    """Done."""

    pack: PackId
