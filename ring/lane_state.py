"""A lane graph at a moment (`lane_graph_state.json`): lanes from their packed snapshots, roles as they say of themselves."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from muniment.ring.snapshot import render

STATE = "lane_graph_state.json"  # a running graph writes it into its place


class LaneAt(NamedTuple):
    """A lane: `packed` is the snapshot of one that is a ring; of a journal head, tail and the rest are given."""

    name: str
    kind: str
    path: str
    packed: bytes = b""
    initialized: int = 2
    head: int = 0
    tail: int = 0
    capacity: int = 0
    drops: int = 0
    overruns: int = 0


class RoleAt(NamedTuple):
    """A role, by its id in the spec; `processed` counts messages."""

    name: str
    kind: str
    inputs: Sequence[str]
    outputs: Sequence[str]
    state: str
    processed: int
    last_error: str = ""


def lane_graph_state(
    spec_sha256: str,
    lanes: Sequence[LaneAt],
    roles: Sequence[RoleAt],
    adapters: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """`lane_graph_state.json` (operator-flow.md, section 3) as JSON values, lanes and roles in the order given.

    Raises:
        InvalidError: a lane's bytes are no snapshot.
    """
    return {
        "state_v": 1,
        "spec_sha256": spec_sha256,
        "lanes": [_lane(lane) for lane in lanes],
        "roles": [
            {
                "name": role.name,
                "kind": role.kind,
                "inputs": list(role.inputs),
                "outputs": list(role.outputs),
                "state": role.state,
                "processed": str(role.processed),
                "last_error": role.last_error,
            }
            for role in roles
        ],
        "adapters": [dict(item) for item in adapters],
    }


def _lane(lane: LaneAt) -> dict[str, Any]:
    if lane.packed:
        ring = render(lane.packed, None, lane.path)
        head, tail = int(ring["cursor"]), int(ring["min_gating"])
        lane = lane._replace(
            initialized=ring["region"]["initialized"],
            head=head,
            tail=tail,
            capacity=ring["capacity"],
            drops=int(ring["dropped"]),
            overruns=sum(int(stage["lost"]) for stage in ring["gating"]),
        )
    depth = (lane.head - lane.tail) % (1 << 64)
    return {
        "name": lane.name,
        "kind": lane.kind,
        "path": lane.path,
        "initialized": lane.initialized,
        "head": str(lane.head),
        "tail": str(lane.tail),
        "depth": str(min(depth, lane.capacity) if lane.packed else depth),
        "capacity": str(lane.capacity),
        "drops": str(lane.drops),
        "overruns": str(lane.overruns),
    }
