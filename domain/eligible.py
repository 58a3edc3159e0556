"""R2, R3, R9: may this pack run in this slot, and may it move there now. Pure functions over selected facts.

Each check returns the first code that applies, in the order settled.md section 17 fixes for traces:
`excluded pin_target_is_current revoked not_admitted withdrawn blocked quarantined below_floor schema unverified unavailable
no_slot`.
"""

from __future__ import annotations

from typing import NamedTuple

from muniment.domain import pack_state as packs
from muniment.domain.channel_state import floor, floor_mark, is_declared, live_freezes, live_pin
from muniment.domain.decision import Context
from muniment.domain.policy import Policy
from muniment.domain.query import Item, Query
from muniment.domain.reference import channel_of, covers, scopes_of
from muniment.domain.refusal import Mark, Refusal
from muniment.domain.slot_state import items
from muniment.domain.states import Target
from muniment.domain.world import World, policy_of


class Finding(NamedTuple):
    """Why not: a code, a sentence, and the record behind it."""

    code: str
    detail: str
    mark: Mark | None = None


def ineligible(
    world: World,
    slot: str,
    target: Target | None,
    pack_id: str,
    context: Context,
    *,
    need_verified: bool = True,
) -> Finding | None:
    """R2: the first reason why E(pack, slot) does not hold, or None.

    Args:
        target: for the schema level of its data; None for a slot-wide question.
        need_verified: an activation makes the verification itself, so its plan asks without.
    """
    pack = world.packs.get(pack_id)
    if pack is None or pack.registered is None or pack.state == "REGISTERED":
        return Finding("not_admitted", "not admitted", pack.registered if pack else None)
    if pack.state == "WITHDRAWN":
        return Finding("withdrawn", "withdrawn", pack.withdrawn)
    for block in pack.blocks.values():
        if covers(block.scope, slot):
            return Finding("blocked", f"blocked at {block.scope} ({block.block})", block.mark)
    if context.actor.automation and (mark := pack.quarantines.get(channel_of(slot))):
        return Finding("quarantined", f"quarantined in {channel_of(slot)}", mark)
    if pack.security_epoch < (level := floor(world, slot)):
        return Finding("below_floor", f"epoch {pack.security_epoch} < floor {level}", floor_mark(world, slot))
    if (
        target is not None
        and target.schema_level
        and not pack.reads[0] <= target.schema_level <= pack.reads[1]
    ):
        return Finding("schema", f"reads {pack.reads[0]}..{pack.reads[1]}, data is at {target.schema_level}")
    if need_verified:
        verified = pack.verified
        if (
            verified is None
            or verified.verdict != "PASS"
            or verified.policy != context.policy.verification_digest
        ):
            return Finding(
                "unverified", "no PASS under the current policy", verified.mark if verified else None
            )
    if packs.STORE_SITE not in pack.sites:
        return Finding("unavailable", "bytes not available")
    if not is_declared(world, slot):
        return Finding("no_slot", f"slot {slot} is not declared")
    return None


def frozen(
    world: World, slot: str, at: str, *, kinds: tuple[str, ...] = ("FORWARD", "ALL")
) -> Refusal | None:
    """R8: the first live freeze of these kinds that covers the slot."""
    for scope, freeze in live_freezes(world, slot, at):
        if freeze.kind in kinds:
            by = f" by incident {freeze.incident}" if freeze.incident else ""
            return Refusal(
                "R8.frozen",
                slot,
                f"{scope} is frozen ({freeze.kind}{by}, id {freeze.freeze})",
                cause=freeze.mark,
                next=f"muniment channel unfreeze {scope} --id {freeze.freeze} --reason …",
            )
    return None


def forward_refusal(
    world: World, slot: str, target: Target | None, pack_id: str, context: Context, *, need_verified: bool
) -> Refusal | None:
    """R9 without its dry run: E, freezes, STUCK, TRIAL, pin, revocation and upstream, in that order."""
    finding = ineligible(world, slot, target, pack_id, context, need_verified=need_verified)
    if finding:
        return Refusal(
            f"R2.{finding.code}",
            pack_id,
            f"pack {pack_id} may not run in {slot}: {finding.detail}",
            cause=finding.mark,
            next="muniment pack show " + pack_id if finding.code != "no_slot" else "muniment channel declare",
        )
    if refusal := frozen(world, slot, context.at):
        return refusal
    targets = (
        [target]
        if target is not None
        else list(world.slots[slot].targets.values())
        if slot in world.slots
        else []
    )
    for one in targets:
        if one.mode == "STUCK":
            return Refusal(
                "R9.stuck",
                slot,
                f"target {one.target} of {slot} is STUCK: it has no rollback target",
                cause=one.stuck,
                next=f"muniment slot unstick {slot} --target {one.target} --to PACK",
            )
        if target is not None and one.mode == "TRIAL":
            return Refusal(
                "R9.trial",
                slot,
                f"target {one.target} is on trial with {one.active}",
                next=f"muniment activate {slot} --target {one.location or one.target}",
            )
        if one.revoked.get(pack_id, 0) > max(
            (a.position for a in one.attestations if a.pack == pack_id), default=0
        ):
            return Refusal(
                "R9.revoked",
                pack_id,
                f"pack {pack_id} was revoked on {slot} target {one.target}",
                cause=Mark(one.revoked[pack_id], "", "", ""),
                next=f"muniment explain '#{one.revoked[pack_id]}'",
            )
    if (pin := live_pin(world, slot, context.at)) and pin[1].pack != pack_id:
        scope, held = pin
        return Refusal(
            "R9.pinned",
            slot,
            f"{scope} is pinned to pack {held.pack}",
            cause=held.mark,
            next=f"muniment channel unpin {scope} --reason …",
        )
    channel = world.channels[channel_of(slot)]
    cohort = slot.rsplit("/", 1)[1]
    for upstream in channel.upstream:
        above = f"{upstream}/{cohort}"
        if not good_everywhere(world, above, pack_id):
            return Refusal(
                "R9.upstream",
                above,
                f"pack {pack_id} is not good yet in upstream slot {above}",
                next=f"muniment channel show {upstream}",
            )
    return None


def good_everywhere(world: World, slot: str, pack_id: str) -> bool:
    """Good on every reporting target of the slot; a slot without targets proves nothing (fail closed)."""
    found = world.slots.get(slot)
    if found is None or not found.targets:
        return False
    return all(any(item.pack == pack_id for item in target.good()) for target in found.targets.values())


def safer_slot(world: World, slot: str, policy: Policy) -> str:
    """The same cohort in the next safer declared channel of the environment, "" if there is none (R5, step 4)."""
    environment, name, cohort = slot.split("/")
    order = policy.risk_order
    if name not in order:
        return ""
    for safer in order[order.index(name) + 1 :]:
        candidate = f"{environment}/{safer}/{cohort}"
        if is_declared(world, candidate):
            return candidate
    return ""


def upstream_slots(world: World, slot: str) -> list[str]:
    """The slots that must be good before a forward move (R9)."""
    channel = world.channels.get(channel_of(slot))
    cohort = slot.rsplit("/", 1)[1]
    return [f"{upstream}/{cohort}" for upstream in channel.upstream] if channel else []


def candidate_packs(world: World, slot: str) -> set[str]:
    """Every pack that a rule about this slot may have to look at, as far as the world shows them."""
    found: set[str] = set()
    for scope in scopes_of(slot):
        if (level := world.scopes.get(scope)) is not None:
            found |= {level.baseline, level.pin.pack if level.pin else ""}
    if (state := world.slots.get(slot)) is not None:
        found.add(state.desired)
        for target in state.targets.values():
            found |= {target.active, target.rollback_pack, *(item.pack for item in target.attestations)}
            if target.activation is not None:
                found.add(target.activation.pack)
    return found - {""}


def reading(world: World, slot: str, *more: str) -> Query:
    """The boundary of a decision about a slot: the slot, its upstream and next safer slot, and every candidate's records."""
    slots = [slot, *upstream_slots(world, slot), safer_slot(world, slot, policy_of(world))]
    queried: list[Item] = []
    pack_ids = set(more) - {""}
    for one in filter(None, dict.fromkeys(slots)):
        queried += items(one)
        pack_ids |= candidate_packs(world, one)
    return (*queried, *(packs.item(pack) for pack in sorted(pack_ids)))
