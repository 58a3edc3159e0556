"""The shape of `data` of every output."""

from __future__ import annotations

from muniment.cli.outputs_audit import AUDIT_LISTS, AUDIT_LISTS_ALONE, AUDIT_OBJECTS, AUDIT_OBJECTS_ALONE
from muniment.cli.outputs_host import HOST_OBJECTS_ALONE
from muniment.cli.outputs_run import RUN_OBJECTS_ALONE
from muniment.cli.outputs_shapes import (
    ANY_OBJECT,
    BOOL,
    COUNT,
    DIGEST,
    INSTANT,
    PACK,
    TEXT,
    WORDS,
    Shape,
    either_null,
    obj,
    rows,
    values,
    words,
)
from muniment.cli.outputs_spec import SPEC_OBJECTS_ALONE
from muniment.cli.outputs_store import STORE_OBJECTS, STORE_OBJECTS_ALONE

MARK = either_null(obj(position=COUNT, at=INSTANT, actor=TEXT, reason=TEXT))
EVENTS = rows(obj(type=TEXT, position=either_null(COUNT), data=ANY_OBJECT))
OUTCOME = {
    "dry_run": BOOL,
    "expect": either_null(COUNT),
    "repeated": BOOL,
    "positions": rows(COUNT),
    "recorded_at": INSTANT,
    "events": EVENTS,
}
DECISION = obj(**OUTCOME)
VERDICT = words("PASS", "FAIL", "ERROR")
CHECK = obj(id=TEXT, verdict=TEXT, expected=TEXT, observed=TEXT, path=TEXT, attack=TEXT)
SIGNALS = rows(ANY_OBJECT)
ACTIVATION = obj(
    id=TEXT,
    slot=TEXT,
    target=TEXT,
    location=TEXT,
    pack=PACK,
    state=TEXT,
    replaced=PACK,
    resumed=TEXT,
    checks=rows(CHECK),
    decisions=rows(DECISION),
)
CANDIDATE = obj(source=TEXT, pack=PACK, code=TEXT, detail=TEXT, position=COUNT)


def write(**more: Shape) -> Shape:
    """The answer of a write verb: `id`, what it says besides, and the outcome."""
    return obj(id=TEXT, **more, **OUTCOME)


INTAKE = {
    "intake": TEXT,
    "digest": DIGEST,
    "files": COUNT,
    "bytes": COUNT,
    "origin": TEXT,
    "recorded": MARK,
}
BUILD = {
    "build": TEXT,
    "state": TEXT,
    "product": TEXT,
    "intake": TEXT,
    "intake_digest": TEXT,
    "pack": PACK,
    "reproduced": either_null(BOOL),
    "stages": values(TEXT),
    "gates": values(TEXT),
    "missing": WORDS,
    "requested": MARK,
    "finished": MARK,
}
PACK_ROW = {
    "pack": PACK,
    "state": TEXT,
    "product": TEXT,
    "seq": COUNT,
    "build": TEXT,
    "security_epoch": COUNT,
    "reads": rows(COUNT),
    "writes": COUNT,
    "files": COUNT,
    "bytes": COUNT,
    "verified": words("none", "stale", "PASS", "FAIL"),
    "sites": WORDS,
    "blocks": rows(obj(block=TEXT, scope=TEXT, advisory=TEXT, by=MARK)),
    "quarantines": values(MARK),
    "registered": MARK,
    "withdrawn": MARK,
}
TARGET = obj(
    target=TEXT,
    location=TEXT,
    driver=TEXT,
    mode=TEXT,
    active=PACK,
    epoch=COUNT,
    switched=COUNT,
    confirmed_at=INSTANT,
    health=TEXT,
    healthy_reports=COUNT,
    good=rows(obj(pack=PACK, position=COUNT)),
    lkg=PACK,
    lkg_position=COUNT,
    rollback=TEXT,
    rollback_pack=PACK,
    chain=rows(PACK),
    stuck=MARK,
    activation=TEXT,
    activation_state=TEXT,
)
SLOT = obj(
    slot=TEXT,
    desired=PACK,
    desired_by=MARK,
    release=TEXT,
    rollout=TEXT,
    rollbacks=COUNT,
    floor=COUNT,
    pin=either_null(obj(scope=TEXT, pack=PACK, owner=TEXT, expires_at=INSTANT, by=MARK)),
    freezes=rows(obj(scope=TEXT, freeze=TEXT, kind=TEXT, expires_at=INSTANT, incident=TEXT, by=MARK)),
    targets=rows(TARGET),
)
RELEASE = obj(
    release=TEXT,
    state=TEXT,
    pack=PACK,
    product=TEXT,
    stage=COUNT,
    phase=TEXT,
    stages=rows(obj(slots=WORDS, milli_percent=COUNT, soak_s=COUNT)),
    slots=WORDS,
    plan_digest=DIGEST,
    requester=TEXT,
    approvals=WORDS,
    exposed=COUNT,
    pauses=values(MARK),
    created=MARK,
    ended=MARK,
)
INCIDENT = obj(
    incident=TEXT,
    state=TEXT,
    severity=TEXT,
    scope=TEXT,
    summary=TEXT,
    commander=TEXT,
    class_=TEXT,
    notes=COUNT,
    slots=WORDS,
    releases=WORDS,
    cause_pack=PACK,
    freeze=TEXT,
    resolution=TEXT,
    declared=MARK,
    ended=MARK,
)
REPORTED = write(slot=TEXT, target=TEXT, status=TEXT, signals=SIGNALS, failed=either_null(BOOL))
ROLLED_BACK = obj(
    slot=TEXT,
    targets=rows(
        obj(
            rollback=TEXT,
            target=TEXT,
            failing=PACK,
            pack=PACK,
            reason=TEXT,
            trace=rows(CANDIDATE),
            refused=TEXT,
            message=TEXT,
            decision=DECISION,
            activation=either_null(ACTIVATION),
        )
    ),
)

LISTS: dict[str, Shape] = {
    "identity.list/1": obj(
        key_id=TEXT,
        identity=TEXT,
        kind=TEXT,
        public_key=TEXT,
        state=words("live", "revoked"),
        added=MARK,
        revoked=MARK,
    ),
    "key.list/1": obj(name=TEXT, key_id=TEXT, public=TEXT, problem=TEXT),
    "intake.list/1": obj(**INTAKE),
    "build.list/1": obj(**BUILD),
    "pack.list/1": obj(**PACK_ROW),
    "channel.list/1": obj(channel=TEXT, cohorts=WORDS, upstream=WORDS, declared=MARK, slots=rows(SLOT)),
    "channel.show/1": SLOT,
    "release.list/1": RELEASE,
    "incident.list/1": INCIDENT,
    **AUDIT_LISTS,
}
LISTS_ALONE: dict[str, Shape] = {
    "schema.list/1": obj(schema=TEXT, kind=words("record", "output"), command=TEXT, tags=WORDS),
    **AUDIT_LISTS_ALONE,
}
OBJECTS: dict[str, Shape] = {
    "init/1": obj(
        store_id=TEXT,
        store=TEXT,
        policy=TEXT,
        policy_digest=DIGEST,
        log_key_id=TEXT,
        verifier=TEXT,
        checkpoint=TEXT,
        size=COUNT,
        root=TEXT,
    ),
    "identity.add/1": write(identity=TEXT, kind=TEXT, public_key=TEXT),
    "key.create/1": obj(name=TEXT, key_id=TEXT, path=TEXT),
    "key.revoke/1": write(),
    "policy.show/1": obj(policy=TEXT, digest=DIGEST, document=ANY_OBJECT, by=MARK),
    "policy.publish/1": write(digest=DIGEST),
    "clock.accept/1": obj(seconds=COUNT, **OUTCOME),
    "intake.add/1": write(digest=DIGEST, files=COUNT, bytes=COUNT, excluded=COUNT),
    "intake.show/1": obj(**INTAKE, manifest=ANY_OBJECT),
    "build.start/1": write(),
    "build.stage/1": {
        "anyOf": [
            write(stage=TEXT),
            write(
                stage=TEXT,
                attempt=TEXT,
                status=VERDICT,
                exit_code=either_null(COUNT),
                reason=TEXT,
                wall_us=COUNT,
            ),
        ]
    },
    "build.gate/1": write(gate=TEXT, verdict=VERDICT),
    "build.waive/1": write(gate=TEXT, expires_at=INSTANT),
    "build.reproduce/1": write(pack=PACK, equal=BOOL),
    "build.finish/1": write(outcome=TEXT, failed=WORDS),
    "build.cancel/1": write(),
    "build.show/1": obj(**BUILD),
    "pack.create/1": write(build=TEXT, files=COUNT, bytes=COUNT),
    "pack.register/1": write(product=TEXT, seq=either_null(COUNT)),
    "pack.verify/1": write(verdict=words("PASS", "FAIL"), checks=rows(CHECK)),
    "pack.block/1": write(pack=PACK, scope=TEXT),
    "pack.unblock/1": write(pack=PACK),
    "pack.withdraw/1": write(),
    "pack.show/1": obj(**PACK_ROW, manifest=ANY_OBJECT),
    "channel.declare/1": write(channel=TEXT),
    "channel.pin/1": write(scope=TEXT, pack=PACK, expires_at=INSTANT),
    "channel.unpin/1": write(scope=TEXT),
    "channel.freeze/1": write(scope=TEXT, kind=words("FORWARD", "ALL"), expires_at=INSTANT),
    "channel.unfreeze/1": write(scope=TEXT),
    "channel.baseline/1": write(environment=TEXT, pack=PACK),
    "release.create/1": write(pack=PACK),
    "release.start/1": write(),
    "release.promote/1": write(stage=either_null(COUNT), slots=WORDS, pack=either_null(PACK)),
    "release.pause/1": write(),
    "release.resume/1": write(),
    "release.complete/1": write(),
    "release.show/1": RELEASE,
    "activate/1": ACTIVATION,
    "rollback/1": ROLLED_BACK,
    "health.report/1": REPORTED,
    "health.collect/1": REPORTED,
    "slot.attest/1": write(slot=TEXT, target=TEXT, pack=either_null(PACK)),
    "slot.unstick/1": write(slot=TEXT, target=TEXT, pack=PACK),
    "slot.lift-quarantine/1": write(channel=TEXT, pack=PACK),
    "incident.declare/1": write(scope=TEXT, severity=TEXT),
    "incident.note/1": write(attached=COUNT),
    "incident.contain/1": write(),
    "incident.resolve/1": write(),
    "incident.close/1": write(),
    "incident.show/1": INCIDENT,
    "store.maintain/1": write(),
    **AUDIT_OBJECTS,
    **STORE_OBJECTS,
}
OBJECTS_ALONE: dict[str, Shape] = {
    "active/1": obj(slot=TEXT, target=TEXT, location=TEXT, pack=PACK, files=COUNT),
    "schema.show/1": obj(name=TEXT, schema=ANY_OBJECT),
    "schema.check/1": obj(type=TEXT, ok=BOOL),
    "demo.path/1": obj(path=TEXT),
    "demo/1": obj(store=TEXT, target=TEXT, tampered=TEXT, commands=COUNT, seconds=COUNT),
    **AUDIT_OBJECTS_ALONE,
    **HOST_OBJECTS_ALONE,
    **SPEC_OBJECTS_ALONE,
    **RUN_OBJECTS_ALONE,
    **STORE_OBJECTS_ALONE,
}
