"""The shape of `data` of the outputs about specs."""

from __future__ import annotations

from muniment.cli.outputs_shapes import BOOL, COUNT, DIGEST, TEXT, Shape, either_null, obj, rows, words

_MODEL = words("single_ring", "lane_graph")
_PROBLEM = obj(code=TEXT, line=COUNT, message=TEXT, expected=TEXT, found=TEXT)

SPEC_OBJECTS_ALONE: dict[str, Shape] = {
    "validate/1": obj(
        ok=BOOL,
        spec=TEXT,
        model=either_null(_MODEL),
        spec_sha256=either_null(DIGEST),
        canonical=TEXT,
        problems=rows(_PROBLEM),
        position=either_null(COUNT),
        not_recorded=TEXT,
    ),
    "describe/1": obj(spec=TEXT, model=_MODEL, spec_sha256=DIGEST, text=TEXT),
    "dot/1": obj(spec=TEXT, model=_MODEL, spec_sha256=DIGEST, format=words("dot", "mermaid"), text=TEXT),
}
