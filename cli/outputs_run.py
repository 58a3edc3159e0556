"""The shape of `data` of `run` and `snapshot`."""

from __future__ import annotations

from muniment.cli.outputs_shapes import (
    ANY_OBJECT,
    BOOL,
    COUNT,
    TEXT,
    Shape,
    either_null,
    obj,
    one_of,
    rows,
    values,
    words,
)

_KNOB = obj(knob=TEXT, requested=TEXT, state=words("requested", "applied", "degraded", "failed"), reason=TEXT)
RUN_OBJECTS_ALONE: dict[str, Shape] = {
    "run/1": obj(
        run=TEXT,
        spec=TEXT,
        outcome=words("completed", "interrupted", "failed"),
        source=TEXT,
        ring_path=TEXT,
        resume_from=either_null(TEXT),
        lines=COUNT,
        offset=TEXT,
        dropped=COUNT,
        seconds=TEXT,
        stages=rows(values(one_of(TEXT, COUNT))),
        tuning=rows(_KNOB),
        left_over=TEXT,
        recorded=BOOL,
        end_recorded=BOOL,
        unrecorded=COUNT,
        error=either_null(obj(stage=TEXT, sequence=TEXT, code=TEXT, message=TEXT)),
    ),
    "snapshot/1": obj(
        run=TEXT,
        spec=TEXT,
        live=either_null(BOOL),
        rings=rows(ANY_OBJECT),
        graph=either_null(ANY_OBJECT),
        positions=rows(COUNT),
        not_recorded=TEXT,
    ),
}
