"""`snapshot`: the live state of a run from another process, read-only, and the record of it.

A ring is mapped without the right to write, read without stopping anybody, and what is kept is the packed bytes; everything shown
is rendered from them. The rings of one run are read one after the other: each is exact within its own bounds, not one moment of
all. They are recorded by one append: all or none.
"""

from __future__ import annotations

import json
import stat
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app import runtime_records as records
from muniment.app.left_over import spec_of
from muniment.app.session import Session
from muniment.domain.canonical import encode
from muniment.domain.errors import InvalidError, NotFoundError, UnavailableError, WrongError
from muniment.domain.os_faults import shown
from muniment.ring import _ring
from muniment.ring.lane_state import STATE, LaneAt, RoleAt, lane_graph_state
from muniment.ring.place import Run, find_run
from muniment.ring.snapshot import Names, render, stage_names
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
    one, spec = _capture(Path(path).absolute())
    return Picture("", spec.name if spec else "", None, [one], None)


def of_run(key: str) -> Picture:
    """Every ring of the run with this id, or of this spec.

    Raises:
        NotFoundError: no such run, or it has no ring. Others as `capture`.
    """
    run = find_run(key)
    told = _told(run)
    if not run.rings:
        raise NotFoundError(
            f"run {run.run or key} of spec {run.spec} has no ring any more",
            code="snapshot.no_ring",
            hint=f"muniment history list --where run={run.run}" if run.run else "muniment history list",
        )
    rings, lanes = [], False
    for path in run.rings:
        if path.parent == run.folder:
            rings.append(_capture(path)[0])
        else:
            rings.append(_capture(path, path.name, told.readers(path.name))[0])
            lanes = True
    return Picture(run.run, run.spec, run.live, rings, told.graph(run, rings) if lanes else None)


def _capture(path: Path, lane: str = "", readers: Names = ()) -> tuple[Captured, Spec | None]:
    """Read one ring, and the spec it carries.

    Args:
        readers: the names of a lane's stages, where they are known: its ring does not carry them.

    Raises:
        NotFoundError: no such file. WrongError: it is no ring, or a damaged one. UnavailableError: it cannot be read.
    """
    try:
        if not stat.S_ISREG(mode := path.lstat().st_mode):
            kind = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link"}.get(
                stat.S_IFMT(mode), "something special"
            )
            raise WrongError(
                f"{shown(path)} is no ring",
                code="snapshot.not_a_ring",
                hint="name the file itself",
                expected="a file that a run made",
                found=kind,
            )
        with _ring.Ring.attach(path, writable=False) as ring:
            packed, spec = ring.snapshot_raw(True), spec_of(ring, str(path))
    except (FileNotFoundError, NotADirectoryError, ValueError) as error:  # ValueError: a NUL in the path
        raise NotFoundError(
            f"there is no ring {shown(path)}", code="snapshot.no_ring", hint="muniment snapshot --run SPEC"
        ) from error
    except _ring.RingError as error:
        raise WrongError(
            f"{shown(path)} is no ring that can be read: {error}",
            code="snapshot.not_a_ring",
            hint="muniment snapshot --run SPEC finds the rings of a run"
            if error.code == _ring.MAGIC_BAD
            else "a ring that was never finished, or is damaged, is recreated by the next run",
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"ring {shown(path)} cannot be read: {error.strerror}",
            code="snapshot.unreadable",
            hint="look as the user whose run it is",
        ) from error
    try:
        seen = render(packed, stage_names(spec, lane or path.name) or readers or None, str(path))
    except InvalidError:
        spec = None  # it is not of this ring
        seen = render(packed, None, str(path))
    return Captured(str(path), lane, packed, seen), spec


class _Told(NamedTuple):
    """What a run said of its lane graph last (`lane_graph_state.json`): nobody else knows of its roles and journals."""

    spec_sha256: str
    kinds: dict[str, str]
    roles: list[RoleAt]
    journals: list[dict[str, Any]]

    def readers(self, lane: str) -> list[str]:
        """The roles that read a lane, in the order of its stages."""
        return [role.name for role in self.roles if lane in role.inputs]

    def graph(self, run: Run, rings: Sequence[Captured]) -> dict[str, Any]:
        """Lanes as they were just read; journals and roles as told, but nobody of a run that is gone is at work."""
        roles = [
            role if run.live or role.state in ("ended", "stopped") else role._replace(state="inactive")
            for role in self.roles
        ]
        lanes = [
            LaneAt(ring.lane, self.kinds.get(ring.lane, "events"), ring.path, ring.packed) for ring in rings
        ]
        state = lane_graph_state(self.spec_sha256, lanes, roles)
        state["lanes"] += self.journals
        return state


def _told(run: Run) -> _Told:
    """Read what the run said; nothing if it said nothing (yet) that can be read."""
    try:
        told: dict[str, Any] = json.loads((run.folder / STATE).read_bytes())
        return _Told(
            str(told["spec_sha256"]),
            {lane["name"]: lane["kind"] for lane in told["lanes"]},
            [
                RoleAt(
                    str(role["name"]),
                    str(role["kind"]),
                    list(role["inputs"]),
                    list(role["outputs"]),
                    str(role["state"]),
                    int(role["processed"]),
                    str(role["last_error"]),
                )
                for role in told["roles"]
            ],
            [lane for lane in told["lanes"] if lane["kind"] == "journal"],
        )
    except (OSError, ValueError, KeyError, TypeError, RecursionError):
        return _Told("", {}, [], [])


def keep(session: Session, picture: Picture, incident: str = "") -> list[int]:
    """Record every ring of a picture, all or none; positions of the records.

    Somebody waits to see it: a store that is busy for longer than its own patience (5 s) is not asked again.

    Raises:
        NotFoundError: no such incident. Others as `runtime_records.record`.
    """
    graph = encode(picture.graph) if picture.graph is not None else b""
    drafts = [
        records.snapshot_draft(
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
    kept = session.append(drafts)
    return list(range(kept.first, kept.last + 1))
