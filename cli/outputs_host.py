"""The shape of `data` of `doctor`."""

from __future__ import annotations

from muniment.cli.outputs_shapes import BOOL, COUNT, TEXT, Shape, either_null, obj, rows, words

_PROFILE = words("default", "low-latency", "isolated-core")
_HOST = obj(
    id=TEXT,
    kernel=TEXT,
    cpus=either_null(COUNT),
    cpus_usable=either_null(COUNT),
    boot_id=TEXT,
    python=TEXT,
    libc=TEXT,
    machine=TEXT,
)
_CHECK = obj(
    id=TEXT,
    required_by=rows(_PROFILE),
    state=words("requested", "applied", "degraded", "failed"),
    observed=TEXT,
    expected=TEXT,
    reason=TEXT,
)
HOST_OBJECTS_ALONE: dict[str, Shape] = {
    "doctor/1": obj(
        doctor_v=COUNT,
        profile=_PROFILE,
        ok=BOOL,
        host=_HOST,
        checks=rows(_CHECK),
        position=either_null(COUNT),
        not_recorded=TEXT,
    ),
}
