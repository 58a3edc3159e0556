"""What a pipeline spec says, as values; reading one is `muniment.ring.spec_rules.parse`.

1. A spec is one of two shapes: a `SingleRing` (one ring, a graph of stages that gate each other) or a `LaneGraph` (roles joined
   by lanes).
2. A value that exists is valid: the constructors are called by the parser only, after every rule has been checked.
3. Equal values have equal canonical bytes and the other way round, so one pipeline has one `spec_sha256`.
"""

from __future__ import annotations

from dataclasses import dataclass

VERSION = "1"
MAX_BYTES = (
    1 << 20
)  # of a spec file and of the canonical form: a ring keeps the text in its mapping (RC_MAX_META)
MAX_LINES = 4096
MAX_STAGES = 16  # RC_STAGES
MAX_SHARDS = 64
MAX_LANES = MAX_ROLES = 64
MAX_READERS = 16  # of one lane: they are the stages of its ring
MAX_CAPACITY = 1 << 30  # RC_MAX_CAPACITY
MAX_SLOT_BYTES = 1 << 20  # RC_MAX_SLOT

WAITS = ("spin", "paced", "backoff", "park")
ORDERINGS = ("strict", "per_key")
ON_FULL = ("block", "drop")
LANE_KINDS = ("events", "journal", "sequenced_slots", "fanout_broadcast")
ROLE_KINDS = ("stage", "bridge", "router", "merge")
# What a lane of a kind does when it is full, the default first. A kind with one way has no `on_full` key.
LANE_ON_FULL = {
    "events": ON_FULL,
    "journal": ("block",),
    "sequenced_slots": ON_FULL,
    "fanout_broadcast": ("overwrite",),
}


@dataclass(frozen=True, slots=True)
class Op:
    """What a stage does.

    Attributes:
        name: `identity count digest filter schema sink:log sink:file python guard http_post exec`.
        argument: what stands after the name and a colon, "" if the op takes none.
    """

    name: str
    argument: str = ""

    def __str__(self) -> str:
        return f"{self.name}:{self.argument}" if self.argument else self.name

    @property
    def filter(self) -> tuple[str, str]:
        """Path of names joined by dots, and the value asked for; of `filter:<field>=<value>`."""
        assert self.name == "filter"
        field, _, value = self.argument.partition("=")
        return field, value

    @property
    def words(self) -> tuple[str, ...]:
        """Program and arguments of `exec:PROGRAM|ARG|…`."""
        assert self.name == "exec"
        return tuple(self.argument.split("|"))


@dataclass(frozen=True, slots=True)
class Stage:
    """A stage of a ring. `depends_on`: indices of earlier stages, strictly increasing; () waits for the producer."""

    id: str
    op: Op
    depends_on: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class SingleRing:
    """One ring, or `shards` equal ones.

    Attributes:
        shard_key: names joined by dots, the member of a JSON message that picks the shard; "" if `ordering` is strict.
        capacity: slots, a power of two.
        slot_bytes: the largest payload.
    """

    stages: tuple[Stage, ...]
    shards: int = 1
    ordering: str = "strict"
    shard_key: str = ""
    producer: str = "single"
    scheduling: str = "dedicated"
    capacity: int = 1024
    slot_bytes: int = 256
    on_full: str = "block"
    wait: str = "backoff"

    @property
    def leaves(self) -> tuple[int, ...]:
        """Stages that nobody depends on: they release slots."""
        gating = {index for stage in self.stages for index in stage.depends_on}
        return tuple(index for index in range(len(self.stages)) if index not in gating)


@dataclass(frozen=True, slots=True)
class Lane:
    """A way from one role to others. `capacity` is 0 and says nothing for a journal; `on_full` as in `LANE_ON_FULL`."""

    name: str
    kind: str
    capacity: int = 1024
    slot_bytes: int = 256
    on_full: str = "block"


@dataclass(frozen=True, slots=True)
class Role:
    """A worker between lanes, which it names: `inputs` () reads the input of the run, `outputs` () is the end of a line."""

    id: str
    kind: str
    op: Op
    inputs: tuple[str, ...] = ()
    outputs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class LaneGraph:
    """Roles joined by lanes; it has no cycle and exactly one role without inputs."""

    lanes: tuple[Lane, ...]
    roles: tuple[Role, ...]
    wait: str = "backoff"


@dataclass(frozen=True, slots=True)
class Spec:
    """A named pipeline."""

    name: str
    pipeline: SingleRing | LaneGraph

    @property
    def model(self) -> str:
        """`single_ring` or `lane_graph`."""
        return "single_ring" if isinstance(self.pipeline, SingleRing) else "lane_graph"

    @property
    def ops(self) -> tuple[Op, ...]:
        """The op of every stage or role, in order."""
        steps = self.pipeline.stages if isinstance(self.pipeline, SingleRing) else self.pipeline.roles
        return tuple(step.op for step in steps)
