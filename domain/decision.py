"""What every decider shares: facts in, a context, events or a refusal out.

A decider is three pure functions over one entity:

    boundary(command, world) -> Query      what must be selected; called again on what it selected, to a fixpoint
    HANDLES[type](world, fact)             how one recorded fact changes the state (the fold)
    decide(world, command, context)        events, or a refusal

The world holds only what the boundary selected, so a decision cannot lean on a record outside its condition (I11).
"""

from __future__ import annotations

from typing import Any

import msgspec
from muniment.domain.policy import Policy
from muniment.domain.refusal import Mark, Refusal


class ActorRef(msgspec.Struct, frozen=True, gc=False):
    """Who acts. `auth` is `os` or `ed25519:<key id>`; `kind` is human, service or agent."""

    id: str
    kind: str = "human"
    auth: str = "os"

    @property
    def automation(self) -> bool:
        """Agents and services are automation: quarantine and chain limits bind them (R2, R7)."""
        return self.kind != "human"


class Fact(msgspec.Struct, gc=False):
    """The part of a record that a fold reads; `position` is set by the reader, the rest is decoded from the bytes.

    JSON makes no cycle, so facts and marks are kept from the collector, which a page of facts would start ten times.
    """

    type: str
    occurred_at: str
    recorded_at: str
    actor: ActorRef
    data: dict[str, Any]
    id: str = ""
    tags: list[str] = []
    evidence: list[dict[str, Any]] = []
    position: int = 0

    def mark(self) -> Mark:
        """The who, when, where and why to keep in a state."""
        return Mark(self.position, self.occurred_at, self.actor.id, str(self.data.get("reason") or ""))


class Event(msgspec.Struct, frozen=True):
    """A decided event, before it is a record: type with version, payload, evidence it names."""

    type: str
    data: dict[str, Any]
    evidence: tuple[dict[str, Any], ...] = ()


class Context(msgspec.Struct, frozen=True):
    """What a decider may know besides its selected records.

    Attributes:
        at: the instant of the decision; becomes `occurred_at`, and every expiry is evaluated at it (settled.md, 1).
        actor: who asks.
        reason: the reason given, "" if none.
        policy: the policy in force among the selected records.
    """

    at: str
    actor: ActorRef
    reason: str
    policy: Policy


Decision = list[Event] | Refusal
