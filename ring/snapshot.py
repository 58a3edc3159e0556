"""A ring at a moment, as people and programs read it (`single_ring_snapshot.json`), made of the packed record alone.

A stage's sequence is shown as `hi`, the last one seen; `bounds` has the interval it was in when the cursor was read. With `hi`
nothing is claimed that is not certain: upstream is read before downstream, so what was available to a stage had been; and a
producer whose ring is full by `hi` was held by it. Decimal text is what may pass 2^53.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from muniment.domain.errors import InvalidError
from muniment.ring.snapshot_format import (
    BROADCAST,
    CAPABILITIES,
    DROP,
    MULTI,
    NO_STAGE,
    WAITS,
    unpack,
)
from muniment.ring.spec import SingleRing, Spec

STALL_NS = 1_000_000_000
ALIVE = ("no", "yes", "unknown")
_U64 = (1 << 64) - 1
_HALF = 1 << 63
_NS_A_MS = 1_000_000

Names = Sequence[str]


def render(
    packed: bytes,
    spec: Spec | Names | None,
    ring_path: str,
    *,
    stall_ns: int = STALL_NS,
    samples: Sequence[str] = (),
    adapters: Sequence[Mapping[str, Any]] = (),
) -> dict[str, Any]:
    """`single_ring_snapshot.json` (operator-flow.md, section 3) as JSON values.

    Args:
        spec: the spec, or the names of the stages in order; None: they are called by their index.
        stall_ns: a stage with work before it that was silent for longer has stalled.
        samples: SHA-256 of payloads, where somebody took them; payloads are in no snapshot.

    Raises:
        InvalidError: bytes that are no snapshot, or a spec with another number of stages.
    """
    snap = unpack(packed)
    names = _names(spec, snap["stages"])
    producers = snap["cell"][: snap["cells"] - snap["stages"]]
    stages = snap["cell"][snap["cells"] - snap["stages"] :]
    cursor, broadcast = snap["cursor"], snap["kind"] == BROADCAST
    gating = [_stage(snap, producers, stages, index, names, stall_ns) for index in range(len(stages))]
    behind = [_behind(cursor, stages[index]["hi"]) for index in _gates(stages)]
    most = max(behind, default=0)
    held = 0 if broadcast else min(most, snap["capacity"])
    slowest = max(
        (item for item in gating if item["active"]), key=lambda item: int(item["lag"]), default=None
    )
    return {
        "snapshot_v": 1,
        "captured_unix_ns": str(snap["unix_ns"]),
        "ring_path": ring_path,
        "spec_sha256": f"sha256:{snap['spec_sha256']}" if int(snap["spec_sha256"], 16) else "",
        "region": {
            "magic": "MRN1",
            "version": 1,
            "flags": snap["kind"],
            "kind": "broadcast" if broadcast else "gated",
            "capabilities": [word for bit, word in CAPABILITIES.items() if snap["capabilities"] & bit],
            "layout_bytes": snap["layout_bytes"],
            "mapped_bytes": snap["mapped_bytes"],
            "initialized": snap["initialized"],
            "wait": WAITS[snap["wait"]],
            "created_unix_ns": str(snap["created_unix_ns"]),
        },
        "capacity": snap["capacity"],
        "slot_bytes": snap["slot_bytes"],
        "cursor": str(cursor),
        "gating": gating,
        "min_gating": str((cursor - most) & _U64),
        "slowest_stage": slowest["stage"] if slowest is not None and int(slowest["lag"]) else "",
        "remaining_capacity": snap["capacity"] - held,
        "producer_blocked": not broadcast and most == snap["capacity"],
        "exact": bool(snap["exact"]),
        "bounds": [
            {"stage": name, "lo": str(cell["lo"]), "hi": str(cell["hi"])}
            for name, cell in zip(names, stages, strict=True)
        ],
        "t0_ns": str(snap["t0_ns"]),
        "t1_ns": str(snap["t1_ns"]),
        "dropped": str(sum(cell["lost"] for cell in producers) & _U64 if snap["capabilities"] & DROP else 0),
        "stalls": str(sum(cell["stalls"] for cell in producers) & _U64),
        "heartbeats": [
            {"stage": name, "last_unix_ns": _unix(snap, cell["heartbeat_ns"])}
            for name, cell in zip(names, stages, strict=True)
        ],
        "consistent": _consistent(snap, stages),
        "attempts": 1,
        "payload_sample_sha256": list(samples),
        "adapters": [dict(item) for item in adapters],
        "producer": _producer(snap, producers),
        "stop": {
            "state": ("running", "stopping", "stopped")[snap["stop"]],
            "stage": _stage_name(names, snap["stop_stage"]) if snap["stop"] == 2 else "",
            "code": snap["stop_code"],
            "sequence": str(snap["stop_sequence"]),
        },
        "end": str((snap["end"] - 1) & _U64) if snap["end"] else None,
    }


def stage_names(spec: Spec | None, lane: str) -> Names | None:
    """Names of the stages of a ring that carries this spec; those of a lane are the roles that read it. None: nobody says."""
    if spec is None:
        return None
    if isinstance(spec.pipeline, SingleRing):
        return [stage.id for stage in spec.pipeline.stages]
    return [role.id for role in spec.pipeline.roles if lane in role.inputs] or None


def _names(spec: Spec | Names | None, stages: int) -> list[str]:
    if spec is None:
        return [str(index) for index in range(stages)]
    if isinstance(spec, Spec):
        spec = [stage.id for stage in spec.pipeline.stages] if isinstance(spec.pipeline, SingleRing) else []
    names = list(spec)
    if len(names) != stages:
        raise InvalidError(
            "the snapshot is of a ring with another number of stages than the spec has",
            code="snapshot.spec",
            expected=len(names),
            found=stages,
            hint="take the spec that the ring was made from; its digest is in the snapshot",
        )
    return names


def _stage_name(names: Names, index: int) -> str:
    return names[index] if index < len(names) else "" if index == NO_STAGE else str(index)


def _behind(ahead: int, sequence: int) -> int:
    """How far a sequence is behind another; 0 if it is not."""
    distance = (ahead - sequence) & _U64
    return distance if distance < _HALF else 0


def _gates(stages: Sequence[Mapping[str, Any]]) -> list[int]:
    """The active stages that nobody depends on: they release slots."""
    needed = 0
    for cell in stages:
        needed |= cell["deps"]
    return [index for index, cell in enumerate(stages) if cell["active"] and not needed >> index & 1]


def _stage(
    snap: Mapping[str, Any],
    producers: Sequence[Mapping[str, Any]],
    stages: Sequence[Mapping[str, Any]],
    index: int,
    names: Names,
    stall_ns: int,
) -> dict[str, Any]:
    cell, cursor = stages[index], snap["cursor"]
    depends = [at for at in range(index) if cell["deps"] >> at & 1]
    lag = _behind(cursor, cell["hi"])
    unpublished = (
        [_behind(cursor, (p["held_lo"] - 1) & _U64) for p in producers if p["held_hi"]]
        if snap["capabilities"] & MULTI
        else []
    )
    # How far behind the cursor the messages end that this stage may read: at the slowest upstream, or at the first that is
    # claimed by some producer and not published.
    short = max(
        [*(_behind(cursor, stages[at]["hi"]) for at in depends), *([] if depends else unpublished)], default=0
    )
    silent = _silent(snap, cell)
    if not cell["active"]:
        state = "inactive"
    elif snap["stop"] == 2:
        state = "stopped"
    elif lag == 0:
        state = "idle"
    elif lag <= short:
        state = "gated"
    elif cell["alive"] == 0 or silent > stall_ns:
        state = "stalled"
    else:
        state = "processing"
    return {
        "index": index,
        "stage": names[index],
        "active": bool(cell["active"]),
        "sequence": str(cell["hi"]),
        "lag": str(lag),
        "depends_on": [names[at] for at in depends],
        "state": state,
        "alive": ALIVE[cell["alive"]],
        "pid": cell["owner"] >> 32,
        "silent_ms": silent // _NS_A_MS if cell["heartbeat_ns"] else -1,
        "batches": str(cell["batches"]),
        "stalls": str(cell["stalls"]),
        "lost": str(cell["lost"]),
    }


def _silent(snap: Mapping[str, Any], cell: Mapping[str, int]) -> int:
    """Nanoseconds since the last heartbeat; without one, since the ring was made."""
    if cell["heartbeat_ns"]:
        return max(int(snap["t1_ns"]) - cell["heartbeat_ns"], 0)
    return max(int(snap["unix_ns"]) - int(snap["created_unix_ns"]), 0)


def _unix(snap: Mapping[str, Any], beat: int) -> str | None:
    return str(max(snap["unix_ns"] - max(snap["t1_ns"] - beat, 0), 0)) if beat else None


def _producer(snap: Mapping[str, Any], cells: Sequence[Mapping[str, Any]]) -> dict[str, Any]:
    """The one producer, or what several amount to: one that died holding a claim holds up all."""
    answers = {cell["alive"] for cell in cells}
    return {
        "alive": ALIVE[next((answer for answer in (0, 1) if answer in answers), 2)],
        "pid": cells[0]["owner"] >> 32 if len(cells) == 1 else 0,
        "silent_ms": min(
            (_silent(snap, cell) // _NS_A_MS for cell in cells if cell["heartbeat_ns"]), default=-1
        ),
        "cells": [
            {
                "index": cell["index"],
                "pid": cell["owner"] >> 32,
                "alive": ALIVE[cell["alive"]],
                "sequence": str(cell["hi"]),
                "held_lo": str(cell["held_lo"]),
                "held_hi": str(cell["held_hi"]),
                "stalls": str(cell["stalls"]),
                "lost": str(cell["lost"]),
            }
            for cell in cells
        ],
    }


def _consistent(snap: Mapping[str, Any], stages: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the protocol's invariants hold between the values; False names a broken or foreign writer, never a moving one."""
    cursor = snap["cursor"]
    if snap["torn"] or snap["initialized"] != 2 or snap["stop"] == 1:
        return False
    gated = snap["kind"] != BROADCAST
    for index, cell in enumerate(stages):
        if (cell["hi"] - cell["lo"]) & _U64 >= _HALF or (cursor - cell["lo"]) & _U64 >= _HALF:
            return False
        above = [stages[at] for at in range(index) if cell["deps"] >> at & 1]
        if cell["active"] and any((up["lo"] - cell["lo"]) & _U64 >= _HALF for up in above):
            return False
    return not gated or all(_behind(cursor, stages[at]["hi"]) <= snap["capacity"] for at in _gates(stages))
