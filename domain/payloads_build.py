"""Payloads of store, policy, identity, clock, refusal, intake, build and pack. `domain.records` binds them to types."""

from __future__ import annotations

from typing import Annotated, Literal

from muniment.domain.payload_base import (
    Count,
    Digest,
    Instant,
    Integer,
    Json,
    KeyId,
    Line,
    Lines,
    Name,
    NoDigest,
    NoInstant,
    NoPack,
    PackId,
    Payload,
    Scope,
    Text,
    Word,
)
from pydantic import Field

Status = Literal["PASS", "FAIL", "ERROR", "SKIP"]


class StoreCreated(Payload):
    """The store's facts; always position 1."""

    store_id: Name
    kind: Literal["records", "opaque"]
    canonical: Word
    versions: dict[str, Line]
    origin: Word
    log_key_id: KeyId
    log_public_key: Line


class PolicyPublished(Payload):
    """A policy document is in force from here."""

    policy: Name
    digest: Digest
    document: Json
    reason: Text


class IdentityAdded(Payload):
    """A key is bound to a name."""

    identity: Name
    kind: Literal["human", "service", "agent"]
    key_id: KeyId
    public_key: Line
    reason: Text


class KeyRevoked(Payload):
    """A key signs nothing new."""

    key_id: KeyId
    identity: Name
    reason: Text


class ClockJumpObserved(Payload):
    """Across boots the clock moved forward; recorded, never refused."""

    seconds: Integer


class ClockJumpAccepted(Payload):
    """A person accepted a forward jump within one boot."""

    seconds: Integer
    reason: Text


class MaintenanceDeclared(Payload):
    """What the owner of the database announced to do; one transaction of his names this record."""

    act: Text
    reason: Text


class IntakeRecorded(Payload):
    """An immutable input with provenance; its files are named by the manifest in evidence."""

    intake: Name
    digest: Digest
    files: Count
    bytes: Count
    excluded: Count
    origin: Line
    authority: Line
    fetched_at: Instant
    transformations: list[Json]


class BuildRequested(Payload):
    """A build of a product from an intake, with the gates it must pass."""

    build: Name
    product: Name
    intake: Name
    required_gates: list[Name]
    reproduce: Literal["required", "waived"]
    config_digest: NoDigest
    pins: dict[str, Line]
    reason: Text


class BuildInputsFrozen(Payload):
    """The inputs can no longer change."""

    build: Name
    intake: Name
    intake_digest: Digest
    files: Count


class BuildStageStarted(Payload):
    """An attempt of a stage begins."""

    build: Name
    stage: Name
    attempt: Name
    argv: Annotated[list[Text], Field(max_length=500)]
    environment: Json


class BuildStageFinished(Payload):
    """An attempt ended; logs and outputs are evidence."""

    build: Name
    stage: Name
    attempt: Name
    status: Status
    exit_code: Integer | None
    reason: Text
    wall_us: Count
    user_us: Count
    system_us: Count
    max_rss_kib: Count
    tool: Json
    outputs: list[Json]


class BuildGateDecided(Payload):
    """The verdict of a gate and what it rests on."""

    build: Name
    gate: Name
    verdict: Literal["PASS", "FAIL", "ERROR"]
    required: bool
    report: Json


class BuildGateWaived(Payload):
    """A gate counts as passed until an instant."""

    build: Name
    gate: Name
    expires_at: Instant
    owner: Line
    reason: Text


class BuildCompileRefused(Payload):
    """Somebody tried to compile without the gates (I13)."""

    build: Name
    failed: Lines


class BuildCompiled(Payload):
    """The build names its pack."""

    build: Name
    pack: PackId
    files: Count
    bytes: Count
    compiler: dict[str, Line]


class BuildReproduced(Payload):
    """A second compile, compared."""

    build: Name
    pack: PackId
    second: PackId
    equal: bool


class BuildFinished(Payload):
    """The build ended, with the list of failed conditions."""

    build: Name
    outcome: Literal["ELIGIBLE", "REJECTED", "ERRORED"]
    failed: Lines
    pack: NoPack
    reason: Text


class BuildCancelled(Payload):
    """The build ended without a result."""

    build: Name
    reason: Text


class PackRegistered(Payload):
    """A pack has its place in the order of its product; `seq` is assigned by the store."""

    pack: PackId
    product: Name
    seq: Annotated[int, Field(ge=1)]
    build: Name
    security_epoch: Count
    reads: Annotated[list[Count], Field(min_length=2, max_length=2)]
    writes: Count
    files: Count
    bytes: Count


class PackAdmitted(Payload):
    """The guards of admission hold."""

    pack: PackId
    build: Name
    signed_by: list[KeyId]


class PackAvailable(Payload):
    """Its bytes are at a site."""

    pack: PackId
    site: Name


class PackReverified(Payload):
    """A verification and the verification policy it was made under."""

    pack: PackId
    verdict: Literal["PASS", "FAIL"]
    policy: Digest
    site: Line
    checks: list[Json]


class PackBlocked(Payload):
    """Forbidden within a scope."""

    pack: PackId
    scope: Scope
    block: Name
    advisory: Line
    reason: Text


class PackUnblocked(Payload):
    """One block is lifted."""

    pack: PackId
    scope: Scope
    block: Name
    reason: Text


class PackWithdrawn(Payload):
    """Ended for good."""

    pack: PackId
    reason: Text


class Cause(Payload):
    """The record that made a refusal so."""

    position: Count
    at: NoInstant
    actor: Line
    reason: Text


class CommandRefused(Payload):
    """No, with its rule; no state changes by it."""

    rule: Word
    subject: Line
    message: Text
    cause: Cause | None
    next: Line
    facts: Lines
    exit_code: Literal[4, 6]
