"""Payloads of incidents. `domain.records` binds them to types."""

from __future__ import annotations

from typing import Annotated, Literal

from muniment.domain.payload_base import Line, Name, NoPack, Payload, Scope, Slot, Text
from pydantic import ConfigDict, Field


class IncidentDeclared(Payload):
    """Declared: it freezes and pauses in the same transaction."""

    incident: Name
    severity: Literal["SEV0", "SEV1", "SEV2", "SEV3", "SEV4"]
    scope: Scope
    summary: Text
    commander: Line
    cause_pack: NoPack
    slots: list[Slot]
    releases: list[Name]
    freeze: Annotated[str, Field(max_length=64)]
    reason: Text


class IncidentNoted(Payload):
    """A note."""

    model_config = ConfigDict(
        frozen=True, strict=True, extra="forbid", validate_by_name=True, validate_by_alias=True
    )

    incident: Name
    text: Text
    class_: Annotated[str, Field(max_length=64, alias="class")]


class IncidentStep(Payload):
    """Contained, mitigated or in review."""

    incident: Name
    reason: Text


class IncidentResolved(Payload):
    """Resolved, with the words for it."""

    incident: Name
    resolution: Text
    reason: Text


class IncidentClosed(Payload):
    """The record is complete."""

    incident: Name
    causes: list[Text]
    actions: list[dict[str, Text]]
    reason: Text
