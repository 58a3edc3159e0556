"""Build: its commands. Decisions stand in `domain.build` and `domain.build_compile`."""

from __future__ import annotations

from typing import Any

import msgspec

STAGES = ("ingest", "extract", "resolve", "validate", "compile")
ENDED = ("ELIGIBLE", "REJECTED", "ERRORED", "CANCELLED")


class Start(msgspec.Struct, frozen=True, tag="build.start"):
    """Request a build of a product from an intake and freeze its inputs."""

    build: str
    product: str
    intake: str
    config_digest: str
    pins: dict[str, str]


class StartStage(msgspec.Struct, frozen=True, tag="build.stage.start"):
    """Begin an attempt of a stage; argv and environment are recorded before it runs."""

    build: str
    stage: str
    attempt: str
    argv: list[str]
    environment: dict[str, Any]


class FinishStage(msgspec.Struct, frozen=True, tag="build.stage.finish"):
    """Record how an attempt ended."""

    build: str
    stage: str
    attempt: str
    status: str
    exit_code: int | None
    reason: str
    wall_us: int
    user_us: int
    system_us: int
    max_rss_kib: int
    tool: dict[str, Any]
    outputs: list[dict[str, Any]]
    evidence: list[dict[str, Any]]


class DecideGate(msgspec.Struct, frozen=True, tag="build.gate"):
    """Record the verdict of a gate; `report` says what it rests on."""

    build: str
    gate: str
    verdict: str
    report: dict[str, Any]
    evidence: list[dict[str, Any]]


class WaiveGate(msgspec.Struct, frozen=True, tag="build.waive"):
    """Let a gate count as passed until an instant (R10; never for an unwaivable gate)."""

    build: str
    gate: str
    expires_at: str


class Compile(msgspec.Struct, frozen=True, tag="pack.create"):
    """Name the pack that the build's compile gave."""

    build: str
    pack: str
    files: int
    bytes: int
    compiler: dict[str, str]
    evidence: list[dict[str, Any]]


class Reproduce(msgspec.Struct, frozen=True, tag="build.reproduce"):
    """Compare the pack of a second compile."""

    build: str
    pack: str


class Finish(msgspec.Struct, frozen=True, tag="build.finish"):
    """End the build with the list of failed conditions."""

    build: str


class Cancel(msgspec.Struct, frozen=True, tag="build.cancel"):
    """End the build without a result."""

    build: str


Command = Start | StartStage | FinishStage | DecideGate | WaiveGate | Compile | Reproduce | Finish | Cancel
