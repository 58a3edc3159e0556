"""Rules of lane graphs.

1. A lane has one writer and at least one reader; an `events` lane exactly one, the others at most 16.
2. stage: at most one input and one output. bridge: one of each, of different kinds. router: one input, one or more outputs.
   merge: one or more inputs, one output.
3. Exactly one role has no inputs: it reads the input of the run. That there is none needs no rule of its own: then a lane has no
   writer, or there is a cycle. For the same reason every role is reached from it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from graphlib import CycleError, TopologicalSorter

from muniment.ring.spec import (
    LANE_KINDS,
    LANE_ON_FULL,
    MAX_CAPACITY,
    MAX_LANES,
    MAX_READERS,
    MAX_ROLES,
    MAX_SLOT_BYTES,
    ROLE_KINDS,
    WAITS,
    Lane,
    LaneGraph,
    Op,
    Role,
)
from muniment.ring.spec_fields import Fields
from muniment.ring.spec_lines import shown

ARITY = {
    "stage": (0, 1, 0, 1),
    "bridge": (1, 1, 1, 1),
    "router": (1, 1, 1, MAX_LANES),
    "merge": (1, MAX_LANES, 1, 1),
}
SHOWN = 200  # characters of a cycle
LANES, ROLES = "lane_graph.lanes", "lane_graph.roles"


@dataclass(slots=True)
class _LaneDraft:
    """A lane as far as it could be read; None is bad, which has been said."""

    at: str
    name: str | None
    kind: str | None
    capacity: int | None
    slot_bytes: int | None
    on_full: str | None


@dataclass(slots=True)
class _RoleDraft:
    """A role as far as it could be read."""

    at: str
    id: str | None
    kind: str | None
    op: Op | None
    inputs: list[str] | None
    outputs: list[str] | None


def read_graph(fields: Fields) -> LaneGraph | None:
    """The graph, or None if it cannot be one; problems are in `fields`."""
    wait = fields.choice("lane_graph.wait", WAITS, default="backoff")
    before = len(fields.problems)
    first_lanes = fields.steps(LANES, MAX_LANES, "graph.too_many")
    first_roles = fields.steps(ROLES, MAX_ROLES, "graph.too_many")
    whole = len(fields.problems) == before
    if not first_roles and not fields.any(ROLES):
        fields.say("graph.no_roles", fields.last, "the graph has no roles", f"{ROLES}.0.id=…")
    lanes = [_lane(fields, f"{LANES}.{index}", line) for index, line in first_lanes.items()]
    roles = [_role(fields, f"{ROLES}.{index}", line) for index, line in first_roles.items()]
    unique = _unique(fields, [(f"{lane.at}.name", lane.name) for lane in lanes])
    _unique(fields, [(f"{role.at}.id", role.id) for role in roles])
    known = all(lane.name for lane in lanes) and all(
        role.inputs is not None and role.outputs is not None for role in roles
    )
    if whole and unique and known and roles:
        _Wiring(fields, lanes, roles).judge()
    if fields.problems:
        return None
    return LaneGraph(
        tuple(Lane(lane.name, lane.kind, lane.capacity, lane.slot_bytes, lane.on_full) for lane in lanes),  # type: ignore[arg-type]
        tuple(Role(role.id, role.kind, role.op, tuple(role.inputs), tuple(role.outputs)) for role in roles),  # type: ignore[arg-type]
        str(wait),
    )


def _lane(fields: Fields, at: str, line: int) -> _LaneDraft:
    kind = fields.choice(f"{at}.kind", LANE_KINDS, at=line)
    capacity = on_full = None
    if kind == "journal":
        capacity = 0
        _only_others(fields, f"{at}.capacity", kind)
    else:
        capacity = fields.capacity(f"{at}.capacity", 1024, MAX_CAPACITY)
    if kind is not None:
        ways = LANE_ON_FULL[kind]
        on_full = ways[0]
        if len(ways) > 1:
            on_full = fields.choice(f"{at}.on_full", ways, default=ways[0])
        else:
            _only_others(fields, f"{at}.on_full", kind)
    return _LaneDraft(
        at,
        fields.name(f"{at}.name", at=line),
        kind,
        capacity,
        fields.number(f"{at}.slot_bytes", 256, 1, MAX_SLOT_BYTES),
        on_full,
    )


def _only_others(fields: Fields, key: str, kind: str) -> None:
    if fields.given(key):
        what = {
            "journal": "a journal grows and never drops",
            "fanout_broadcast": "fanout_broadcast overwrites the oldest",
        }[kind]
        fields.say("graph.lane_kind_mismatch", fields.line(key), f"{key} says nothing: {what}", "no such key")


def _role(fields: Fields, at: str, line: int) -> _RoleDraft:
    kind = fields.choice(f"{at}.kind", ROLE_KINDS, at=line)
    inputs, outputs = fields.listed(f"{at}.inputs"), fields.listed(f"{at}.outputs")
    for name, lanes in (("inputs", inputs), ("outputs", outputs)):
        if lanes is not None and len(set(lanes)) != len(lanes):
            key = f"{at}.{name}"
            fields.say("kv.bad_value", fields.line(key), f"{key} names a lane twice", "each lane once")
    if kind is not None and inputs is not None and outputs is not None:
        low_in, high_in, low_out, high_out = ARITY[kind]
        for name, count, low, high in (
            ("inputs", len(inputs), low_in, high_in),
            ("outputs", len(outputs), low_out, high_out),
        ):
            if not low <= count <= high:
                key = f"{at}.{name}"
                wanted = str(low) if low == high else f"{low} to {high}"
                place = fields.line(key if fields.given(key) else f"{at}.kind")
                fields.say(
                    "graph.role_arity", place, f"a {kind} has another number of {name}", wanted, str(count)
                )
    return _RoleDraft(
        at, fields.name(f"{at}.id", at=line), kind, fields.op(f"{at}.op", at=line), inputs, outputs
    )


def _unique(fields: Fields, names: Sequence[tuple[str, str | None]]) -> bool:
    first: dict[str, str] = {}
    unique = True
    for key, name in names:
        if name is not None and first.setdefault(name, key) != key:
            unique = False
            other = f"line {fields.line(first[name])} has it"
            fields.say(
                "graph.duplicate_name", fields.line(key), f"{name} is given again; {other}", "another name"
            )
    return unique


class _Wiring:
    """What lanes and roles say of each other; every name and list is known."""

    def __init__(self, fields: Fields, lanes: Sequence[_LaneDraft], roles: Sequence[_RoleDraft]) -> None:
        self._fields, self._roles = fields, roles
        self._lanes = {str(lane.name): lane for lane in lanes}
        self._writers: dict[str, list[_RoleDraft]] = {name: [] for name in self._lanes}
        self._readers: dict[str, list[_RoleDraft]] = {name: [] for name in self._lanes}
        # ends that are certain: a role that names no lane, or none where it must, may have meant any
        self._certain = {
            what: all(
                set(getattr(role, what)) <= self._lanes.keys()
                and (role.kind is None or len(getattr(role, what)) >= ARITY[role.kind][at])
                for role in roles
            )
            for at, what in ((0, "inputs"), (2, "outputs"))
        }

    def judge(self) -> None:
        """Report what does not fit."""
        for role in self._roles:
            self._sort(role, "inputs", role.inputs or [], self._readers)
            self._sort(role, "outputs", role.outputs or [], self._writers)
        for lane in self._lanes.values():
            self._ends(lane)
        for role in self._roles:
            if role.kind == "bridge":
                self._bridge(role)
        sources = [role for role in self._roles if not role.inputs and role.kind in (None, "stage")]
        for role in sources[1:]:
            message = f"{role.at} has no inputs, and {sources[0].at} reads the input of the run already"
            self._fields.say("graph.multiple_sources", self._line(role, "id"), message, f"{role.at}.inputs=…")
        self._cycles()

    def _line(self, role: _RoleDraft, *names: str) -> int:
        keys = [f"{role.at}.{name}" for name in names]
        return self._fields.line(next((key for key in keys if self._fields.given(key)), f"{role.at}.kind"))

    def _sort(
        self, role: _RoleDraft, what: str, names: Sequence[str], ends: dict[str, list[_RoleDraft]]
    ) -> None:
        for name in dict.fromkeys(names):
            if name in ends:
                ends[name].append(role)
            else:
                known = " ".join(self._lanes)[:SHOWN] or "a lane that is declared"
                message = f"{role.at}.{what} names no lane"
                self._fields.say("graph.unknown_lane", self._line(role, what), message, known, shown(name))

    def _ends(self, lane: _LaneDraft) -> None:
        name = str(lane.name)
        writers, readers = self._writers[name], self._readers[name]
        line, say = self._fields.line(f"{lane.at}.name"), self._fields.say
        unread = not readers and self._certain["inputs"]
        unwritten = not writers and self._certain["outputs"]
        if unread and unwritten:
            say(
                "graph.unreferenced_lane",
                line,
                f"nobody writes or reads lane {name}",
                "a writer and a reader",
            )
        elif unread and writers:
            say("graph.no_reader", line, f"nobody reads lane {name}", f"{name} in the inputs of a role")
        elif unwritten and readers:
            say("graph.no_writer", line, f"nobody writes lane {name}", f"{name} in the outputs of a role")
        for writer in writers[1:]:
            message = f"{writer.at} writes lane {name}, and {writers[0].at} does already"
            say("graph.multiple_writers", self._line(writer, "outputs"), message, "one writer")
        most = 1 if lane.kind == "events" else MAX_READERS
        if lane.kind is not None and len(readers) > most:
            where = self._line(readers[most], "inputs")
            message = f"too many read lane {name} of kind {lane.kind}"
            say("graph.multiple_readers", where, message, f"at most {most}", str(len(readers)))

    def _bridge(self, role: _RoleDraft) -> None:
        kinds = [
            self._lanes[name].kind
            for name in [*(role.inputs or []), *(role.outputs or [])]
            if name in self._lanes
        ]
        if len(kinds) == 2 and kinds[0] is not None and kinds[0] == kinds[1]:
            message = f"{role.at} is a bridge between two lanes of one kind"
            self._fields.say(
                "graph.lane_kind_mismatch",
                self._line(role, "kind"),
                message,
                "different kinds, or a stage",
                kinds[0],
            )

    def _cycles(self) -> None:
        before = {
            at: {
                self._roles.index(writer)
                for name in role.inputs or []
                for writer in self._writers.get(name, ())
            }
            for at, role in enumerate(self._roles)
        }
        while True:
            try:
                TopologicalSorter(before).prepare()
            except CycleError as error:
                way: list[int] = error.args[1]
            else:
                return
            start = way.index(min(way))
            ring = way[start:-1] + way[:start]
            found = " -> ".join(self._roles[at].id or self._roles[at].at for at in [*ring, ring[0]])
            line = self._line(self._roles[ring[0]], "inputs")
            self._fields.say("graph.cycle", line, "messages would go round", "no cycle", found[:SHOWN])
            # a second way round through the same roles is the same cause
            before = {at: ends - set(ring) for at, ends in before.items() if at not in ring}
