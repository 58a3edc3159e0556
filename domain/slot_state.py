"""Slot: the fold of what happens to (slot, target): activations, health, attestations, rollbacks, the rollout's hold.

Derived and never stored: `active` changes only by `activation.switched` and its reversal (I2); LKG is computed from
attestations and revocations (R4); a chain is the packs that failed since the last confirmation (R7).
"""

from __future__ import annotations

from muniment.domain.channel_state import HANDLES as CHANNEL_HANDLES
from muniment.domain.channel_state import scope_item
from muniment.domain.decision import Fact
from muniment.domain.query import Item, Query
from muniment.domain.reference import scopes_of
from muniment.domain.refusal import NOT_FOUND, Refusal
from muniment.domain.states import Activation, Attested, HealthReport, Slot, Target
from muniment.domain.world import Handler, Handles, World

ENDED_WITHOUT_EFFECT = ("FETCH_FAILED", "VERIFY_FAILED", "STAGE_FAILED", "ABANDONED")
OPEN_STATES = ("PLANNED", "FETCHED", "VERIFIED", "STAGED")


def no_slot(slot: str) -> Refusal:
    """No channel declares the slot."""
    return Refusal(
        "R2.no_slot",
        slot,
        f"slot {slot} is not declared",
        next="muniment channel declare ENV/CHANNEL",
        exit_code=NOT_FOUND,
    )


def _at(world: World, fact: Fact) -> tuple[Slot, Target]:
    slot = world.slot(fact.data["slot"])
    return slot, slot.target(fact.data["target"])


def on_adopted(world: World, fact: Fact) -> None:
    """A target belongs to the slot. What it ran before is a fact, never good."""
    _, target = _at(world, fact)
    target.location, target.driver = fact.data["location"], fact.data["driver"]
    if fact.data["active"] and not target.active:
        target.active, target.mode = fact.data["active"], "STEADY"


def on_planned(world: World, fact: Fact) -> None:
    """A new activation attempt."""
    _, target = _at(world, fact)
    data = fact.data
    target.activation = Activation(
        activation=data["activation"],
        pack=data["pack"],
        kind=data["kind"],
        state="PLANNED",
        planned=fact.mark(),
        rollback=data["rollback"],
        release=data["release"],
        replaced=data["replaced"],
    )


def _step(state: str) -> Handler:
    def on_step(world: World, fact: Fact) -> None:
        _, target = _at(world, fact)
        if target.activation is not None and target.activation.activation == fact.data["activation"]:
            target.activation.state = state

    on_step.__doc__ = f"The activation is {state}."
    return on_step


def on_switched(world: World, fact: Fact) -> None:
    """The commit point: this pack is active, on trial until confirmed (I2)."""
    _, target = _at(world, fact)
    data = fact.data
    target.active, target.epoch, target.mode = data["pack"], data["epoch"], "TRIAL"
    target.schema_level = max(target.schema_level, data["schema_level"])
    target.switched_position, target.healthy, target.health = fact.position, 0, None
    target.interrupted_at = ""
    if target.activation is not None:
        target.activation.state = "SWITCHED"


def on_confirmed(world: World, fact: Fact) -> None:
    """The link was read back: steady, and a rollback chain ends (R7). The soak begins: reports before it do not count (R4).

    A forward switch may be confirmed while a rollback from it is open already: that rollback goes on.
    """
    _, target = _at(world, fact)
    if not target.rollback or fact.data["kind"] == "rollback":
        target.mode, target.chain = "STEADY", []
    target.confirmed_at, target.confirmed_position, target.healthy = fact.occurred_at, fact.position, 0
    if target.activation is not None:
        target.activation.state = "CONFIRMED"


def on_reverted(world: World, fact: Fact) -> None:
    """The switch could not be carried out; the pack before is active."""
    _, target = _at(world, fact)
    target.active, target.epoch = fact.data["active"], fact.data["epoch"]
    target.mode = "ROLLING_BACK" if target.rollback else "STEADY" if target.active else "EMPTY"
    target.interrupted_at, target.healthy, target.health = fact.occurred_at, 0, None
    if target.activation is not None:
        target.activation.state = "REVERTED"


def on_health(world: World, fact: Fact) -> None:
    """A healthy report of the active pack counts for the soak; a failing one starts it again."""
    _, target = _at(world, fact)
    data = fact.data
    target.health = HealthReport(data["status"], data["pack"], data["failed"], fact.mark())
    if data["pack"] == target.active:
        target.healthy = (
            target.healthy + 1 if data["status"] == "HEALTHY" else 0 if data["failed"] else target.healthy
        )
        if data["failed"]:
            target.interrupted_at = fact.occurred_at


def on_attested(world: World, fact: Fact) -> None:
    """Good, from this position on (R4)."""
    _, target = _at(world, fact)
    target.attestations.append(Attested(fact.data["pack"], fact.data["activation"], fact.position))


def on_revoked(world: World, fact: Fact) -> None:
    """No longer good here, until attested again."""
    _, target = _at(world, fact)
    target.revoked[fact.data["pack"]] = fact.position


def on_stuck(world: World, fact: Fact) -> None:
    """No rollback target (I9: `active` stays)."""
    _, target = _at(world, fact)
    target.mode, target.stuck = "STUCK", fact.mark()
    target.rollback, target.rollback_pack, target.requested = "", "", None


def on_unstuck(world: World, fact: Fact) -> None:
    """A person named the way out."""
    slot, target = _at(world, fact)
    target.mode, target.stuck, target.chain = ("STEADY" if target.active else "EMPTY"), None, []
    slot.desired, slot.desired_by, slot.release = fact.data["pack"], fact.mark(), ""


def on_rollback_requested(world: World, fact: Fact) -> None:
    """The failing pack joins the chain (R7)."""
    slot, target = _at(world, fact)
    slot.rollbacks += 1
    target.mode, target.rollback, target.rollback_pack = "ROLLING_BACK", fact.data["rollback"], ""
    target.requested = fact.mark()
    if fact.data["failing"] not in target.chain:
        target.chain = [*target.chain, fact.data["failing"]]


def on_pack_selected(world: World, fact: Fact) -> None:
    """The rollback's target pack is what the slot should run."""
    slot, target = _at(world, fact)
    target.rollback_pack = fact.data["pack"]
    slot.desired, slot.desired_by, slot.release = fact.data["pack"], fact.mark(), ""


def on_step_failed(world: World, fact: Fact) -> None:
    """The selected pack failed too: chain + 1."""
    _, target = _at(world, fact)
    if fact.data["pack"] not in target.chain:
        target.chain = [*target.chain, fact.data["pack"]]


def on_rollback_completed(world: World, fact: Fact) -> None:
    """Done."""
    _, target = _at(world, fact)
    target.rollback, target.rollback_pack, target.requested = "", "", None


def on_release_started(world: World, fact: Fact) -> None:
    """R12: the slots of the plan are held by this rollout."""
    for slot in fact.data["slots"]:
        world.slot(slot).rollout = fact.data["release"]


def on_release_promoted(world: World, fact: Fact) -> None:
    """Desired is set for the slots of the stage (settled.md, 15)."""
    for name in fact.data["slots"]:
        slot = world.slot(name)
        slot.desired, slot.desired_by, slot.release = fact.data["pack"], fact.mark(), fact.data["release"]


def on_release_ended(world: World, fact: Fact) -> None:
    """The slots are free for another rollout."""
    for slot in fact.data["slots"]:
        if world.slot(slot).rollout == fact.data["release"]:
            world.slot(slot).rollout = ""


HANDLES: Handles = {
    "target.adopted/1": on_adopted,
    "activation.planned/1": on_planned,
    "activation.fetched/1": _step("FETCHED"),
    "activation.fetch_failed/1": _step("FETCH_FAILED"),
    "activation.verified/1": _step("VERIFIED"),
    "activation.verification_failed/1": _step("VERIFY_FAILED"),
    "activation.staged/1": _step("STAGED"),
    "activation.stage_failed/1": _step("STAGE_FAILED"),
    "activation.abandoned/1": _step("ABANDONED"),
    "activation.switched/1": on_switched,
    "activation.confirmed/1": on_confirmed,
    "activation.reverted/1": on_reverted,
    "slot.health_reported/1": on_health,
    "slot.good_attested/1": on_attested,
    "slot.good_revoked/1": on_revoked,
    "slot.stuck/1": on_stuck,
    "slot.unstuck/1": on_unstuck,
    "rollback.requested/1": on_rollback_requested,
    "rollback.pack_selected/1": on_pack_selected,
    "rollback.step_failed/1": on_step_failed,
    "rollback.completed/1": on_rollback_completed,
    "release.started/1": on_release_started,
    "release.promoted/1": on_release_promoted,
    "release.completed/1": on_release_ended,
    "release.rolled_back/1": on_release_ended,
    "release.aborted/1": on_release_ended,
}
HEALTH = "slot.health_reported/1"
TYPES = tuple(sorted({*HANDLES, *CHANNEL_HANDLES} - {HEALTH}))


def item(slot: str) -> Item:
    """Everything that happens at one slot, its own pins and freezes included, but reports of health."""
    return Item(TYPES, (f"slot:{slot}",))


def reports(slot: str, target: Target | None = None) -> Item:
    """The reports of health at one slot; with a target, those that tell of the pack which it runs.

    A switch begins them anew, and a report names the pack that is active when it is decided: no other one counts.
    """
    of = (f"pack:{target.active}", f"target:{target.target}") if target is not None else ()
    return Item((HEALTH,), tuple(sorted((f"slot:{slot}", *of))))


def items(slot: str) -> Query:
    """The slot and what acts on it from above (settled.md, 6)."""
    return (item(slot), *(scope_item(scope) for scope in scopes_of(slot)[1:]))
