"""A spec as text: its one canonical form with its digest, and a description for people. Equal specs give equal bytes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from hashlib import sha256

from muniment.ring.spec import LANE_ON_FULL, VERSION, Lane, LaneGraph, Role, SingleRing, Spec

Pairs = Iterator[tuple[str, object]]


def canonical(spec: Spec) -> bytes:
    """Every key that has a value, defaults too, in the fixed order; indices ascend; each line ends with LF."""
    return "".join(f"{key}={value}\n" for key, value in pairs(spec)).encode()


def spec_sha256(spec: Spec) -> str:
    """`sha256:` and 64 hex digits over the canonical form."""
    return "sha256:" + sha256(canonical(spec)).hexdigest()


def pairs(spec: Spec) -> Pairs:
    """Keys and values in canonical order."""
    yield "spec.version", VERSION
    yield "spec.name", spec.name
    yield "spec.model", spec.model
    body = _ring(spec.pipeline) if isinstance(spec.pipeline, SingleRing) else _graph(spec.pipeline)
    for key, value in body:
        yield f"{spec.model}.{key}", value


def _ring(ring: SingleRing) -> Pairs:
    yield "shards", ring.shards
    yield "ordering", ring.ordering
    if ring.shard_key:
        yield "shard_key", ring.shard_key
    for name in ("producer", "scheduling", "capacity", "slot_bytes", "on_full", "wait"):
        yield name, getattr(ring, name)
    for index, stage in enumerate(ring.stages):
        yield f"stages.{index}.id", stage.id
        yield f"stages.{index}.op", stage.op
        if stage.depends_on:
            yield f"stages.{index}.depends_on", ",".join(map(str, stage.depends_on))


def _graph(graph: LaneGraph) -> Pairs:
    yield "wait", graph.wait
    for index, lane in enumerate(graph.lanes):
        yield f"lanes.{index}.name", lane.name
        yield f"lanes.{index}.kind", lane.kind
        if lane.capacity:
            yield f"lanes.{index}.capacity", lane.capacity
        yield f"lanes.{index}.slot_bytes", lane.slot_bytes
        if len(LANE_ON_FULL[lane.kind]) > 1:
            yield f"lanes.{index}.on_full", lane.on_full
    for index, role in enumerate(graph.roles):
        yield f"roles.{index}.id", role.id
        yield f"roles.{index}.kind", role.kind
        yield f"roles.{index}.op", role.op
        if role.inputs:
            yield f"roles.{index}.inputs", ",".join(role.inputs)
        if role.outputs:
            yield f"roles.{index}.outputs", ",".join(role.outputs)


def describe(spec: Spec) -> str:
    """The spec in stable words, lines without a last line end."""
    body = _told_ring(spec.pipeline) if isinstance(spec.pipeline, SingleRing) else _told_graph(spec.pipeline)
    return "\n".join([f"{spec.name}  {spec.model}  {spec_sha256(spec)}", *body])


def _table(rows: Sequence[tuple[str, ...]]) -> Iterator[str]:
    sizes = [max(map(len, column)) for column in zip(*rows, strict=True)]
    for row in rows:
        yield "  " + "  ".join(cell.ljust(size) for cell, size in zip(row, sizes, strict=True)).rstrip()


def _told_ring(ring: SingleRing) -> Iterator[str]:
    full = "the producer waits" if ring.on_full == "block" else "the new message is dropped and counted"
    key = f" by {ring.shard_key}" if ring.shard_key else ""
    shards = "1 shard" if ring.shards == 1 else f"{ring.shards} shards"
    yield f"  input   {ring.producer} producer, {shards}, ordering {ring.ordering}{key}, scheduling {ring.scheduling}"
    yield f"  ring    {ring.capacity} slots of at most {ring.slot_bytes} bytes, wait {ring.wait}; when full, {full}"
    rows = []
    for index, stage in enumerate(ring.stages):
        after = ", ".join(f"{at} {ring.stages[at].id}" for at in stage.depends_on) or "input"
        last = "  releases slots" if index in ring.leaves else ""
        rows.append((f"stage {index}", stage.id, str(stage.op), f"<- {after}{last}"))
    yield from _table(rows)


def _told_lane(lane: Lane) -> tuple[str, ...]:
    slots = f"{lane.capacity} slots of at most {lane.slot_bytes} bytes"
    room = slots if lane.capacity else f"messages of at most {lane.slot_bytes} bytes"
    full = {
        "block": "the writer waits" if lane.capacity else "it grows",
        "drop": "when full, the new message is dropped and counted",
        "overwrite": "when full, the oldest is overwritten and its readers count it",
    }[lane.on_full]
    return lane.kind, f"{room}; " + (
        f"when full, {full}" if lane.on_full == "block" and lane.capacity else full
    )


def _told_role(role: Role) -> tuple[str, ...]:
    way = f"{', '.join(role.inputs) or 'input'} -> {', '.join(role.outputs) or 'end'}"
    return role.kind, str(role.op), way


def _told_graph(graph: LaneGraph) -> Iterator[str]:
    yield f"  graph   {len(graph.lanes)} lanes, {len(graph.roles)} roles, wait {graph.wait}"
    if graph.lanes:
        yield from _table(
            [(f"lane {at}", lane.name, *_told_lane(lane)) for at, lane in enumerate(graph.lanes)]
        )
    yield from _table([(f"role {at}", role.id, *_told_role(role)) for at, role in enumerate(graph.roles)])
