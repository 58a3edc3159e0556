"""Slots: what should run where, what does run, what holds it there, and what would a rollback go to?"""

from __future__ import annotations

from typing import Any

from muniment.domain import channel_state as channel
from muniment.domain import rollback_select, slot_state
from muniment.domain.decision import ActorRef, Context
from muniment.domain.policy import Policy
from muniment.domain.states import Attested, Slot, Target
from muniment.projections.base import Simple, mark
from muniment.projections.model import ReadModel

# A person asks: quarantine binds automation only (R2), so LKG here is what a person may go back to.
_READER = ActorRef("reader")


def good_now(model: ReadModel, slot: str, target: Target, at: str, policy: Policy) -> Attested | None:
    """LKG of a target as of an instant (R4, I10), computed and never stored."""
    return rollback_select.lkg(model, slot, target, Context(at, _READER, "", policy))


def target_row(model: ReadModel, slot: Slot, target: Target, at: str, policy: Policy) -> dict[str, Any]:
    """One target of a slot as JSON values."""
    good = good_now(model, slot.slot, target, at, policy)
    return {
        "target": target.target,
        "location": target.location,
        "driver": target.driver,
        "mode": target.mode,
        "active": target.active,
        "epoch": target.epoch,
        "switched": target.switched_position,
        "confirmed_at": target.confirmed_at,
        "health": target.health.status if target.health is not None else "",
        "healthy_reports": target.healthy,
        "good": [{"pack": a.pack, "position": a.position} for a in target.good()],
        "lkg": good.pack if good is not None else "",
        "lkg_position": good.position if good is not None else 0,
        "rollback": target.rollback,
        "rollback_pack": target.rollback_pack,
        "chain": list(target.chain),
        "stuck": mark(target.stuck),
        "activation": target.activation.activation if target.activation is not None else "",
        "activation_state": target.activation.state if target.activation is not None else "",
    }


def row(model: ReadModel, slot: Slot, at: str, policy: Policy) -> dict[str, Any]:
    """One slot as JSON values; pins and freezes are those alive at the instant."""
    pin = channel.live_pin(model, slot.slot, at)
    return {
        "slot": slot.slot,
        "desired": slot.desired,
        "desired_by": mark(slot.desired_by),
        "release": slot.release,
        "rollout": slot.rollout,
        "rollbacks": slot.rollbacks,
        "floor": channel.floor(model, slot.slot),
        "pin": {
            "scope": pin[0],
            "pack": pin[1].pack,
            "owner": pin[1].owner,
            "expires_at": pin[1].expires_at,
            "by": mark(pin[1].mark),
        }
        if pin
        else None,
        "freezes": [
            {
                "scope": scope,
                "freeze": freeze.freeze,
                "kind": freeze.kind,
                "expires_at": freeze.expires_at,
                "incident": freeze.incident,
                "by": mark(freeze.mark),
            }
            for scope, freeze in channel.live_freezes(model, slot.slot, at)
        ],
        "targets": [target_row(model, slot, slot.targets[name], at, policy) for name in sorted(slot.targets)],
    }


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:
    """Slots by name."""
    return [row(model, model.slots[name], at, policy) for name in sorted(model.slots)]


def channel_rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:
    """Declared channels by name, each with its slots."""
    return [
        {
            "channel": item.channel,
            "cohorts": list(item.cohorts),
            "upstream": list(item.upstream),
            "declared": mark(item.declared),
            "slots": [
                row(model, model.slots[name], at, policy)
                for name in (f"{item.channel}/{cohort}" for cohort in item.cohorts)
                if name in model.slots
            ],
        }
        for _, item in sorted(model.channels.items())
    ]


SLOTS = Simple(
    "slots",
    1,
    "What should run where, what does run, what holds it, and what would a rollback go to?",
    handles=(slot_state.HANDLES, channel.HANDLES),
    parts=("slots", "channels", "scopes"),
    rows=rows,
)
