"""The shape of `data` of the outputs that auditors read: verify, projections, history, explain, tour."""

from __future__ import annotations

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

_ROW = {
    "position": COUNT,
    "recorded_at": INSTANT,
    "occurred_at": INSTANT,
    "type": TEXT,
    "actor": TEXT,
    "summary": TEXT,
    "reason": TEXT,
    "id": TEXT,
    "tags": WORDS,
}
_RECORD = obj(position=COUNT, summary=TEXT, bytes=COUNT, leaf=TEXT, record=ANY_OBJECT)
_CANDIDATE = obj(source=TEXT, pack=PACK, code=TEXT, detail=TEXT, position=COUNT)
_EXPLAIN = obj(
    reference=TEXT,
    subject=TEXT,
    state=either_null(ANY_OBJECT),
    record=_RECORD,
    answer=words("refused", "decided", "observed"),
    rule=obj(id=TEXT, text=TEXT, subject=TEXT, findings=WORDS, exit_code=COUNT),
    who=ANY_OBJECT,
    when=obj(occurred_at=INSTANT, recorded_at=INSTANT),
    reason=TEXT,
    command=either_null(ANY_OBJECT),
    events=rows(obj(position=COUNT, type=TEXT, summary=TEXT)),
    policy=either_null(obj(policy=TEXT, digest=DIGEST, position=COUNT, cited=TEXT, equal=BOOL)),
    facts=rows(obj(position=COUNT, recorded_at=INSTANT, type=TEXT, actor=TEXT, summary=TEXT)),
    facts_omitted=COUNT,
    candidates=rows(_CANDIDATE),
    cause=either_null(obj(**_ROW)),
    next=TEXT,
    redecided=obj(
        verdict=words("equal", "different", "unruled"),
        divergences=rows(obj(field=TEXT, expected=TEXT, found=TEXT)),
    ),
)
_FILE = obj(
    position=COUNT,
    type=TEXT,
    role=TEXT,
    state=words("present", "gap", "damaged", "unreadable"),
    found=TEXT,
    bytes=COUNT,
    media_type=TEXT,
    blake3=TEXT,
    sha256=TEXT,
)
_CHAPTER = obj(
    title=TEXT,
    question=TEXT,
    answers=rows(obj(name=TEXT, value=TEXT)),
    records=rows(obj(position=COUNT, at=INSTANT, actor=TEXT, type=TEXT, summary=TEXT)),
    look=WORDS,
)

AUDIT_LISTS: dict[str, Shape] = {
    "history.list/1": obj(**_ROW),
    "incident.timeline/1": obj(position=COUNT, at=INSTANT, actor=TEXT, type=TEXT, said=TEXT, reason=TEXT),
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
    "history.show/1": _RECORD,
    "explain/1": _EXPLAIN,
    "evidence.summary/1": obj(
        subject=TEXT,
        verdict=TEXT,
        checked=BOOL,
        counts=values(COUNT),
        bytes=COUNT,
        roles=values(COUNT),
        files=rows(_FILE),
    ),
    "tour/1": obj(release=TEXT, state=TEXT, pack=PACK, size=COUNT, chapters=rows(_CHAPTER)),
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
