"""The shape of `data` of the outputs that auditors read: verify, projections, history, explain, tour."""

from __future__ import annotations

from muniment.cli.outputs_shapes import (
    ANY_OBJECT,
    BOOL,
    COUNT,
    DIGEST,
    TEXT,
    Shape,
    either_null,
    obj,
    rows,
    words,
)

_FINDING = obj(expected=TEXT, found=TEXT, position=either_null(COUNT), field=TEXT, detail=TEXT)
_VERIFY_CHECK = obj(
    id=TEXT,
    verdict=words("pass", "fail", "skipped", "not_applicable"),
    claim=TEXT,
    expected=TEXT,
    observed=TEXT,
    position=either_null(COUNT),
    field=TEXT,
    detail=TEXT,
    count=COUNT,
    findings=rows(_FINDING),
)

AUDIT_LISTS: dict[str, Shape] = {
    "projection.status/1": obj(
        projection=TEXT, version=COUNT, question=TEXT, position=COUNT, lag=COUNT, stale=BOOL, digest=DIGEST
    ),
    "projection.rebuild/1": obj(
        projection=TEXT, version=COUNT, live=TEXT, rebuilt=DIGEST, equal=either_null(BOOL)
    ),
    "projection.digest/1": obj(projection=TEXT, version=COUNT, digest=DIGEST, core=DIGEST),
}
AUDIT_LISTS_ALONE: dict[str, Shape] = {}
AUDIT_OBJECTS: dict[str, Shape] = {
    "verify.store/1": obj(
        ok=BOOL,
        head=obj(store_id=TEXT, size=COUNT, root=TEXT),
        provable_prefix=COUNT,
        touched=ANY_OBJECT,
        information=ANY_OBJECT,
        checks=rows(_VERIFY_CHECK),
    ),
}
AUDIT_OBJECTS_ALONE: dict[str, Shape] = {}
