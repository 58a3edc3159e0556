"""How a command is asked, and what became of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec
from muniment.domain.decision import ActorRef, Event
from muniment.domain.errors import DeniedError
from muniment.domain.refusal import Refusal
from muniment.domain.world import World


class Outcome(msgspec.Struct):
    """What became of a command.

    Attributes:
        events: decided events, in order, with their positions in `positions` (empty in a dry run).
        refusal: the no, if it was one; `positions` then holds the position of its record.
        expect: in a dry run, the position that a request made on its strength expects.
        repeated: the outcome stands in the log already (idempotency key, or an identical refusal within a minute).
        world: the facts it rests on; the handler's, so to be read before it decides again.
    """

    events: list[Event] = []
    refusal: Refusal | None = None
    positions: list[int] = []
    recorded_at: str = ""
    head: int = 0
    expect: int | None = None
    dry_run: bool = False
    repeated: bool = False
    world: World | None = None

    @property
    def exit_code(self) -> int:
        """0, or the refusal's 4 or 6; a dry run exits as the real run would (settled.md, 21)."""
        return self.refusal.exit_code if self.refusal is not None else 0

    def event(self, type_: str) -> dict[str, Any] | None:
        """The payload of the first event of a type, if there is one."""
        return next((event.data for event in self.events if event.type == type_), None)


Signer = Callable[[dict[str, Any]], dict[str, str]]  # a record to its member `signature`


class Request(msgspec.Struct):
    """How a command is asked, beside what it says."""

    actor: ActorRef
    reason: str = ""
    key: str = ""
    expect: int | None = None
    dry_run: bool = False
    correlation: str = ""
    causation: str = ""
    signer: Signer | None = None
    # the operating-system user, who stands for an actor that a key does not prove
    user: ActorRef | None = None


def check_signer(request: Request, signature: dict[str, str] | None = None) -> None:
    """Refuse an actor that claims a key which does not sign, and a signature that is not the actor's.

    Raises:
        DeniedError: not recorded, for nobody knows who asked.
    """
    signs = "os" if request.signer is None else request.actor.auth.replace("os", "an identity key")
    if signature is not None:
        signs = f"ed25519:{signature['key_id']}"
    if request.actor.auth != signs:
        raise DeniedError(
            f"{request.actor.id} acts by {request.actor.auth}, and the record would be signed by another",
            code="decision.signer",
            expected=request.actor.auth,
            found=signs,
            hint="sign with the key of the identity that acts",
        )
