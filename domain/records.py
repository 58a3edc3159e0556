"""The closed registry of records: type and version, payload, the fields that become tags, the command that makes it.

`TABLE` is the one list; a new type is a reviewed change here, with its schema (`schemas/`) and its command. What is not in it
is refused: unknown type, unknown version, unknown or missing field (exit 10).
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

from muniment.domain import payloads_build as b
from muniment.domain import payloads_incident as i
from muniment.domain import payloads_release as r
from muniment.domain import payloads_runtime as t
from muniment.domain.errors import InvalidError
from muniment.domain.payload_base import Payload
from muniment.domain.reference import scope_tag, subject_tags
from pydantic import ValidationError


class Row(NamedTuple):
    """One type of the registry.

    Attributes:
        payload: the model of `data`.
        tags: payload fields that become tags; `*` is the tag `scope:*`, `incident:*` the numbering of incidents.
        command: the commands that make it, or how it comes about.
    """

    payload: type[Payload]
    tags: str
    command: str


TABLE: dict[str, Row] = {
    "store.created/1": Row(b.StoreCreated, "*", "init"),
    "store.maintenance_declared/1": Row(b.MaintenanceDeclared, "*", "store.maintain"),
    "policy.published/1": Row(b.PolicyPublished, "policy *", "init, policy.publish"),
    "identity.added/1": Row(b.IdentityAdded, "key_id *", "identity.add"),
    "key.revoked/1": Row(b.KeyRevoked, "key_id *", "key.revoke"),
    "clock.jump_observed/1": Row(b.ClockJumpObserved, "*", "any command after a boot"),
    "clock.jump_accepted/1": Row(b.ClockJumpAccepted, "*", "clock.accept"),
    "intake.recorded/1": Row(b.IntakeRecorded, "intake", "intake.add"),
    "build.requested/1": Row(b.BuildRequested, "build product intake", "build.start"),
    "build.inputs_frozen/1": Row(b.BuildInputsFrozen, "build intake", "build.start"),
    "build.stage_started/1": Row(b.BuildStageStarted, "build", "build.stage.start"),
    "build.stage_finished/1": Row(b.BuildStageFinished, "build", "build.stage.finish, build.finish"),
    "build.gate_decided/1": Row(b.BuildGateDecided, "build", "build.gate"),
    "build.gate_waived/1": Row(b.BuildGateWaived, "build", "build.waive"),
    "build.compile_refused/1": Row(
        b.BuildCompileRefused, "build", "build.stage.start, pack.create (refused)"
    ),
    "build.compiled/1": Row(b.BuildCompiled, "build pack", "pack.create"),
    "build.reproduced/1": Row(b.BuildReproduced, "build pack", "build.reproduce"),
    "build.finished/1": Row(b.BuildFinished, "build pack", "build.finish"),
    "build.cancelled/1": Row(b.BuildCancelled, "build", "build.cancel"),
    "pack.registered/1": Row(b.PackRegistered, "pack product build", "pack.register"),
    "pack.admitted/1": Row(b.PackAdmitted, "pack build", "pack.register"),
    "pack.available/1": Row(b.PackAvailable, "pack", "pack.register"),
    "pack.reverified/1": Row(b.PackReverified, "pack", "pack.verify, activation.verified"),
    "pack.blocked/1": Row(b.PackBlocked, "pack scope", "pack.block"),
    "pack.unblocked/1": Row(b.PackUnblocked, "pack scope", "pack.unblock"),
    "pack.withdrawn/1": Row(b.PackWithdrawn, "pack", "pack.withdraw"),
    "channel.declared/1": Row(r.ChannelDeclared, "* channel", "channel.declare"),
    "channel.pinned/1": Row(r.ChannelPinned, "scope pack", "channel.pin"),
    "channel.unpinned/1": Row(r.ChannelUnpinned, "scope pack", "channel.unpin"),
    "channel.frozen/1": Row(r.ChannelFrozen, "scope incident", "channel.freeze, incident.declare"),
    "channel.unfrozen/1": Row(r.ChannelUnfrozen, "scope", "channel.unfreeze, incident.close"),
    "channel.floor_raised/1": Row(r.ChannelFloorRaised, "scope pack", "health.report, slot.attest"),
    "channel.baselined/1": Row(r.ChannelBaselined, "scope pack", "channel.baseline"),
    "target.adopted/1": Row(r.TargetAdopted, "slot target", "activation.plan"),
    "slot.health_reported/1": Row(r.SlotHealthReported, "slot target pack", "health.report"),
    "slot.good_attested/1": Row(r.SlotGoodAttested, "slot target pack", "health.report, slot.attest"),
    "slot.good_revoked/1": Row(
        r.SlotGoodRevoked, "slot target pack", "health.report, activation.switch, incident.declare"
    ),
    "slot.quarantined/1": Row(r.SlotQuarantined, "channel pack", "activation.switch"),
    "slot.quarantine_lifted/1": Row(r.SlotQuarantineLifted, "channel pack", "slot.lift_quarantine"),
    "slot.stuck/1": Row(r.SlotStuck, "slot target pack", "rollback, activation.verified, activation.fail"),
    "slot.unstuck/1": Row(r.SlotUnstuck, "slot target pack", "slot.unstick"),
    "release.created/1": Row(r.ReleaseCreated, "release pack product slots", "release.create"),
    "release.submitted/1": Row(r.ReleaseSubmitted, "release slots", "release.start"),
    "release.approved/1": Row(r.ReleaseApproved, "release slots", "release.start"),
    "release.started/1": Row(r.ReleaseStarted, "release pack slots", "release.start"),
    "release.exposed/1": Row(r.ReleaseExposed, "release pack slots", "release.promote"),
    "release.promoted/1": Row(r.ReleasePromoted, "release pack slots", "release.promote"),
    "release.soaked/1": Row(r.ReleaseSoaked, "release slots", "release.promote, release.complete"),
    "release.gate_judged/1": Row(
        r.ReleaseGateJudged, "release slots", "release.promote, release.complete, release.abort, rollback"
    ),
    "release.paused/1": Row(r.ReleasePaused, "release slots", "release.pause, incident.declare"),
    "release.resumed/1": Row(r.ReleaseResumed, "release slots", "release.resume"),
    "release.completed/1": Row(r.ReleaseEnded, "release pack slots", "release.complete"),
    "release.rolled_back/1": Row(
        r.ReleaseEnded, "release pack slots", "release.abort, activation.confirm, activation.revert"
    ),
    "release.aborted/1": Row(
        r.ReleaseEnded,
        "release pack slots",
        "release.abort, rollback, activation.confirm, activation.revert, activation.verified, activation.fail",
    ),
    "activation.planned/1": Row(r.ActivationPlanned, "slot target pack release", "activation.plan"),
    "activation.fetched/1": Row(r.ActivationStep, "slot target pack", "activation.step"),
    "activation.fetch_failed/1": Row(r.ActivationFailed, "slot target pack", "activation.fail"),
    "activation.verified/1": Row(r.ActivationVerified, "slot target pack", "activation.verified"),
    "activation.verification_failed/1": Row(
        r.ActivationVerificationFailed, "slot target pack", "activation.verified"
    ),
    "activation.staged/1": Row(r.ActivationStep, "slot target pack", "activation.step"),
    "activation.stage_failed/1": Row(r.ActivationFailed, "slot target pack", "activation.fail"),
    "activation.switched/1": Row(r.ActivationSwitched, "slot target pack", "activation.switch"),
    "activation.confirmed/1": Row(r.ActivationConfirmed, "slot target pack", "activation.confirm"),
    "activation.abandoned/1": Row(r.ActivationFailed, "slot target pack", "activation.fail, rollback"),
    "activation.reverted/1": Row(r.ActivationReverted, "slot target pack", "activation.revert"),
    "rollback.requested/1": Row(r.RollbackRequested, "slot target failing", "rollback"),
    "rollback.pack_selected/1": Row(
        r.RollbackPackSelected, "slot target pack", "rollback, activation.verified, activation.fail"
    ),
    "rollback.no_candidate/1": Row(
        r.RollbackNoCandidate, "slot target failing", "rollback, activation.verified, activation.fail"
    ),
    "rollback.step_failed/1": Row(
        r.RollbackStepFailed, "slot target pack", "rollback, activation.verified, activation.fail"
    ),
    "rollback.completed/1": Row(r.RollbackCompleted, "slot target pack", "activation.confirm"),
    "incident.declared/1": Row(
        i.IncidentDeclared,
        "incident incident:* scope slots releases cause_pack",
        "incident.declare, rollback, activation.verified, activation.fail",
    ),
    "incident.noted/1": Row(i.IncidentNoted, "incident", "incident.note"),
    "incident.contained/1": Row(i.IncidentStep, "incident", "incident.contain, incident.resolve"),
    "incident.mitigated/1": Row(i.IncidentStep, "incident", "incident.resolve"),
    "incident.resolved/1": Row(i.IncidentResolved, "incident", "incident.resolve"),
    "incident.review_opened/1": Row(i.IncidentStep, "incident", "incident.close"),
    "incident.closed/1": Row(i.IncidentClosed, "incident", "incident.close"),
    "command.refused/1": Row(b.CommandRefused, "", "any refused command"),
    "runtime.spec_validated/1": Row(t.SpecValidated, "spec", "validate"),
    "runtime.spec_rejected/1": Row(t.SpecRejected, "* spec", "validate"),
    "runtime.host_checked/1": Row(t.HostChecked, "* host_id", "doctor"),
    "runtime.run_started/1": Row(t.RunStarted, "run spec source host_id agent", "run"),
    "runtime.run_ended/1": Row(t.RunEnded, "run spec", "run"),
    "runtime.snapshot_captured/1": Row(t.SnapshotCaptured, "run spec agent incident", "snapshot, run"),
    "runtime.heartbeat_recorded/1": Row(t.HeartbeatRecorded, "run agent", "run"),
    "runtime.batch_acknowledged/1": Row(t.BatchAcknowledged, "run spec source", "run"),
    "fact.imported/1": Row(t.FactImported, "source subject", "run"),
}

# Payload or argument field -> tag prefix (settled.md, 6).
PREFIXES = {
    name: name
    for name in (
        *("build", "pack", "product", "release", "target", "incident", "policy", "intake"),
        *("run", "spec", "source", "agent"),
    )
} | {"key_id": "key", "failing": "pack", "cause_pack": "pack", "host_id": "host"}


def field_tags(field: str, value: Any) -> Iterable[str]:
    """The tags that one field makes; an empty value makes none."""
    if field in ("slots", "releases"):
        return [f"{field[:-1]}:{name}" for name in value]
    if not isinstance(value, str) or not value:
        return ()
    if field in ("scope", "channel", "slot"):
        return (scope_tag(value),)
    if field == "subject":
        return subject_tags(value)
    prefix = PREFIXES.get(field)
    return (f"{prefix}:{value}",) if prefix else ()


def tags_of(type_: str, data: dict[str, Any]) -> set[str]:
    """The tags a record of this type carries for its payload."""
    found: set[str] = set()
    for field in TABLE[type_].tags.split():
        if field == "*":
            found.add("scope:*")
        elif field == "incident:*":
            found.add(field)
        else:
            found.update(field_tags(field, data.get(field)))
    return found


def argument_tags(args: dict[str, Any]) -> set[str]:
    """The tags of a refusal: what its command spoke of."""
    return {tag for field, value in args.items() for tag in field_tags(field, value)}


def validate(type_: str, data: dict[str, Any]) -> None:
    """Check a payload against its type.

    Raises:
        InvalidError: unknown type or version, unknown, missing or ill-typed field; exit 10.
    """
    row = TABLE.get(type_)
    if row is None:
        name = type_.partition("/")[0]
        versions = sorted(known.partition("/")[2] for known in TABLE if known.partition("/")[0] == name)
        raise InvalidError(
            f"unknown record type {type_!r}",
            code="record.type_unknown",
            expected=f"version {', '.join(versions)}" if versions else "a type of the registry",
            found=type_,
            hint="muniment schema list; the record may come from a newer version",
        )
    try:
        row.payload.model_validate(data)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        where = ".".join(str(part) for part in first["loc"]) or "data"
        raise InvalidError(
            f"payload of {type_}: {where}: {first['msg']}",
            code="record.payload",
            field=where,
            expected=first["type"],
            found=repr(first.get("input"))[:200],
            hint=f"muniment schema show {type_}",
        ) from error


def schemas() -> dict[str, dict[str, Any]]:
    """JSON Schema of every payload, by type."""
    out: dict[str, dict[str, Any]] = {}
    for type_, row in TABLE.items():
        schema = row.payload.model_json_schema()
        out[type_] = {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:muniment:record:{type_.replace('/', ':')}",
            **schema,
            "title": type_,
            "x-tags": row.tags.split(),
            "x-command": row.command,
        }
    return out
