"""States of the entities, as the folds build them. The rules that read and write them stand in the entity's own file.

Conventions that digests rely on (`projections.fold`): a field that ends in `_at` or `_us` is a wall-clock fact, `position` and
fields that end in `_position` are positions, `host` and `location` are places; core digests leave clocks and places out and
replace positions by their order.
"""

from __future__ import annotations

import msgspec
from muniment.domain.refusal import Mark


class PolicyInForce(msgspec.Struct):
    """The policy document published last."""

    name: str
    digest: str
    document: dict[str, object]
    mark: Mark


class Key(msgspec.Struct):
    """An identity's signing key. `revoked` holds the record that ended it."""

    key_id: str
    identity: str
    kind: str
    public_key: str
    added: Mark
    revoked: Mark | None = None


class Intake(msgspec.Struct):
    """One immutable input with provenance."""

    intake: str
    digest: str
    files: int
    bytes: int
    origin: str
    recorded: Mark


class Attempt(msgspec.Struct, gc=False):
    """One attempt of a build stage; `status` is "" while it runs."""

    attempt: str
    status: str = ""
    exit_code: int | None = None
    position: int = 0


class Gate(msgspec.Struct, gc=False):
    """The last verdict of a gate: PASS, FAIL, ERROR or WAIVED (until `expires_at`)."""

    verdict: str
    mark: Mark
    tries: int = 1
    expires_at: str = ""


class Build(msgspec.Struct):
    """One gated run. `outcome` is "" until it is finished or cancelled."""

    build: str
    product: str
    intake: str
    intake_digest: str
    requested: Mark
    required: list[str] = []
    reproduce: str = "required"
    config_digest: str = ""
    pins: dict[str, str] = {}
    stages: dict[str, list[Attempt]] = {}
    gates: dict[str, Gate] = {}
    refused_compiles: int = 0
    pack: str = ""
    compiled: Mark | None = None
    reproduced: bool | None = None
    outcome: str = ""
    failed: list[str] = []
    finished: Mark | None = None


class Product(msgspec.Struct, gc=False):
    """Order of a product's packs: the last store-assigned `seq`."""

    product: str
    seq: int = 0


class Block(msgspec.Struct, gc=False):
    """A block of a pack within a scope."""

    block: str
    scope: str
    mark: Mark
    advisory: str = ""


class Verified(msgspec.Struct, gc=False):
    """The last verification of a pack: verdict and the verification policy it was made under."""

    verdict: str
    policy: str
    mark: Mark


class Pack(msgspec.Struct):
    """The artifact that gets activated. `state`: COMPILED (named by a build), REGISTERED, ELIGIBLE, WITHDRAWN."""

    pack: str
    state: str = "COMPILED"
    product: str = ""
    build: str = ""
    seq: int = 0
    security_epoch: int = 0
    reads: tuple[int, int] = (0, 0)
    writes: int = 0
    files: int = 0
    bytes: int = 0
    manifest: str = ""
    registered: Mark | None = None
    withdrawn: Mark | None = None
    sites: list[str] = []
    blocks: dict[str, Block] = {}
    quarantines: dict[str, Mark] = {}
    verified: Verified | None = None


class Channel(msgspec.Struct):
    """A declared channel: its place in the risk order is the policy's, its cohorts make its slots."""

    channel: str
    cohorts: list[str]
    upstream: list[str]
    declared: Mark


class Pin(msgspec.Struct, gc=False):
    """A pin of a scope to a pack; dead from `expires_at` on."""

    pack: str
    owner: str
    mark: Mark
    expires_at: str = ""


class Freeze(msgspec.Struct, gc=False):
    """A freeze of a scope: FORWARD stops forward moves, ALL stops rollbacks too (R8)."""

    freeze: str
    kind: str
    mark: Mark
    expires_at: str = ""
    incident: str = ""


class Scope(msgspec.Struct):
    """What acts at one level: pin, freezes, floor, baseline pack."""

    scope: str
    pin: Pin | None = None
    freezes: dict[str, Freeze] = {}
    floor: int = 0
    raised: Mark | None = None
    baseline: str = ""


class Attested(msgspec.Struct, gc=False):
    """A good attestation of a pack on a target (R4)."""

    pack: str
    activation: str
    position: int


class HealthReport(msgspec.Struct, gc=False):
    """The last health report for a target."""

    status: str
    pack: str
    failed: bool
    mark: Mark


class Activation(msgspec.Struct):
    """The last activation of a target.

    `state`: PLANNED FETCHED VERIFIED STAGED SWITCHED CONFIRMED, or an end without effect: FETCH_FAILED VERIFY_FAILED
    STAGE_FAILED ABANDONED, or REVERTED.
    """

    activation: str
    pack: str
    kind: str
    state: str
    planned: Mark
    rollback: str = ""
    release: str = ""
    replaced: str = ""


class Target(msgspec.Struct):
    """A host or device of a slot. `mode`: EMPTY STEADY TRIAL ROLLING_BACK STUCK."""

    target: str
    location: str = ""
    driver: str = "folder"
    mode: str = "EMPTY"
    active: str = ""
    epoch: int = 0
    schema_level: int = 0
    switched_position: int = 0
    confirmed_at: str = ""
    confirmed_position: int = 0
    interrupted_at: str = ""
    healthy: int = 0
    health: HealthReport | None = None
    attestations: list[Attested] = []
    revoked: dict[str, int] = {}
    chain: list[str] = []
    rollback: str = ""
    rollback_pack: str = ""
    requested: Mark | None = None
    stuck: Mark | None = None
    activation: Activation | None = None

    def good(self) -> list[Attested]:
        """Attestations in force, newest first, one a pack (R4: no revocation follows it)."""
        found: dict[str, Attested] = {}
        for item in reversed(self.attestations):
            if item.pack not in found and self.revoked.get(item.pack, 0) < item.position:
                found[item.pack] = item
        return list(found.values())


class Slot(msgspec.Struct):
    """(environment, channel, cohort): the desired pack and, per target, what runs."""

    slot: str
    desired: str = ""
    desired_by: Mark | None = None
    release: str = ""
    rollout: str = ""
    targets: dict[str, Target] = {}
    rollbacks: int = 0

    def target(self, target: str) -> Target:
        """The state of a target, made on first use."""
        found = self.targets.get(target)
        if found is None:
            found = self.targets[target] = Target(target)
        return found


class Stage(msgspec.Struct):
    """A stage of a release plan: its slots, share of the cohort in milli-percent, soak in seconds."""

    slots: list[str]
    milli_percent: int
    soak_s: int


class Release(msgspec.Struct):
    """The rollout of one pack with its plan.

    `state`: DRAFT SUBMITTED APPROVED RUNNING PAUSED ABORTING, terminal COMPLETED ROLLED_BACK ABORTED_STUCK SUPERSEDED.
    `phase` within RUNNING or PAUSED: OPEN, EXPOSED; `stage` counts from 0.
    """

    release: str
    pack: str
    product: str
    stages: list[Stage]
    plan_digest: str
    created: Mark
    state: str = "DRAFT"
    stage: int = 0
    phase: str = "OPEN"
    exposed_position: int = 0
    exposed_at: str = ""
    requester: str = ""
    approvals: list[str] = []
    pauses: dict[str, Mark] = {}
    ended: Mark | None = None

    @property
    def slots(self) -> list[str]:
        """Every slot of the plan, in plan order, once."""
        return list(dict.fromkeys(slot for stage in self.stages for slot in stage.slots))


class Incident(msgspec.Struct):
    """An incident. `state`: DECLARED CONTAINED MITIGATED RESOLVED IN_REVIEW CLOSED FALSE_ALARM."""

    incident: str
    severity: str
    scope: str
    summary: str
    commander: str
    declared: Mark
    state: str = "DECLARED"
    class_: str = msgspec.field(default="", name="class")
    notes: int = 0
    freeze: str = ""
    freeze_scope: str = ""
    releases: list[str] = []
    slots: list[str] = []
    cause_pack: str = ""
    resolution: str = ""
    ended: Mark | None = None
