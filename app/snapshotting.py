"""`snapshot`: the live state of a run from another process, read-only, and the record of it.

A ring is mapped without the right to write, read without stopping anybody, and what is kept is the packed bytes; everything shown
is rendered from them. The rings of one run are read one after the other: each is exact within its own bounds, not one moment of
all.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app import runtime_records as records
from muniment.app.left_over import spec_of
from muniment.app.session import Session
from muniment.domain.canonical import encode
from muniment.domain.errors import InvalidError, NotFoundError, UnavailableError, WrongError
from muniment.ring import _ring
from muniment.ring.lane_state import STATE, LaneAt, RoleAt, lane_graph_state
from muniment.ring.place import Run, find_run
from muniment.ring.snapshot import render
from muniment.ring.spec import Spec


class Captured(NamedTuple):
    """One ring as it stood.

    Attributes:
        lane: "" for the ring of a single-ring spec.
    """

    path: str
    lane: str
    packed: bytes
    seen: dict[str, Any]


class Picture(NamedTuple):
    """Every ring of a run, and of a lane graph its state."""

    run: str
    spec: str
    live: bool | None  # None: a ring by its path, nobody says whose it is
    rings: list[Captured]
    graph: dict[str, Any] | None


def of_ring(path: str) -> Picture:
    """The ring at a path.

    Raises: as `capture`.
    """
    one, spec = _capture(Path(path), "")
    return Picture("", spec.name if spec else "", None, [one], None)


def of_run(key: str) -> Picture:
    """Every ring of the run with this id, or of this spec.

    Raises:
        NotFoundError: no such run, or it has no ring. Others as `capture`.
    """
    run = find_run(key)
    rings = [_capture(path, path.name if path.parent != run.folder else "")[0] for path in run.rings]
    if not rings:
        raise NotFoundError(
            f"run {run.run or key} of spec {run.spec} has no ring any more",
            code="snapshot.no_ring",
            hint=f"muniment history list --where run={run.run}" if run.run else "muniment history list",
        )
    graph = _graph(run, rings) if any(ring.lane for ring in rings) else None
    return Picture(run.run, run.spec, run.live, rings, graph)


def _capture(path: Path, lane: str) -> tuple[Captured, Spec | None]:
    """Read one ring, and the spec it carries.

    Raises:
        NotFoundError: no such file. WrongError: it is no ring, or a damaged one. UnavailableError: it cannot be read.
    """
    try:
        with _ring.Ring.attach(path, writable=False) as ring:
            packed, spec = ring.snapshot_raw(True), spec_of(ring, str(path))
    except FileNotFoundError as error:
        raise NotFoundError(
            f"there is no ring {path}",
            code="snapshot.no_ring",
            hint="muniment snapshot --run SPEC, or see run's output",
        ) from error
    except _ring.RingError as error:
        raise WrongError(
            f"{path} is no ring that can be read: {error}",
            code="snapshot.not_a_ring",
            hint="a ring that was never finished, or is damaged, is recreated by the next run",
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"ring {path} cannot be read: {error.strerror}", code="snapshot.unreadable"
        ) from error
    try:
        seen = render(packed, spec, str(path))
    except InvalidError:
        spec = None  # it is not of this ring
        seen = render(packed, None, str(path))
    return Captured(str(path), lane, packed, seen), spec


def _graph(run: Run, rings: Sequence[Captured]) -> dict[str, Any]:
    """Lanes as they were just read; journals and roles as the run said them last (`lane_graph_state.json`)."""
    try:
        told: dict[str, Any] = json.loads((run.folder / STATE).read_bytes())
        kinds = {lane["name"]: lane["kind"] for lane in told["lanes"]}
        roles = [
            RoleAt(
                role["name"],
                role["kind"],
                role["inputs"],
                role["outputs"],
                role["state"] if run.live or role["state"] in ("ended", "stopped") else "inactive",
                int(role["processed"]),
                role["last_error"],
            )
            for role in told["roles"]
        ]
        sha = str(told["spec_sha256"])
    except (OSError, ValueError, KeyError, TypeError):
        kinds, roles, sha = {}, [], ""
    lanes = [LaneAt(ring.lane, kinds.get(ring.lane, "events"), ring.path, ring.packed) for ring in rings]
    state = lane_graph_state(sha, lanes, roles)
    if sha:
        state["lanes"] += [lane for lane in told["lanes"] if lane["kind"] == "journal"]
    return state


def keep(session: Session, picture: Picture, incident: str = "") -> list[int]:
    """Record every ring of a picture; positions of the records.

    Raises:
        NotFoundError: no such incident. Others as `runtime_records.record`.
    """
    graph = encode(picture.graph) if picture.graph is not None else b""
    return [
        records.record_snapshot(
            session,
            ring.packed,
            ring.seen,
            "asked",
            picture.run,
            incident or None,
            spec=picture.spec,
            lane=ring.lane,
            graph=graph,
        )
        for ring in picture.rings
    ]
