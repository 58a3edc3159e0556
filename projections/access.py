"""Access: whose keys are bound, and which policy is in force?"""

from __future__ import annotations

from typing import Any

from muniment.domain import channel_state, identity_state
from muniment.domain.policy import Policy
from muniment.projections.base import Simple, mark
from muniment.projections.model import ReadModel


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Keys in the order they were bound, revoked ones too."""
    return [
        {
            "key_id": key.key_id,
            "identity": key.identity,
            "kind": key.kind,
            "public_key": key.public_key,
            "state": "revoked" if key.revoked is not None else "live",
            "added": mark(key.added),
            "revoked": mark(key.revoked),
        }
        for key in sorted(model.keys.values(), key=lambda k: k.added.position)
    ]


def policy_row(model: ReadModel) -> dict[str, Any] | None:
    """The policy in force, None before one is published."""
    found = model.policy
    if found is None:
        return None
    return {
        "policy": found.name,
        "digest": found.digest,
        "document": found.document,
        "by": mark(found.mark),
    }


ACCESS = Simple(
    "access",
    1,
    "Whose keys are bound, and which policy is in force?",
    handles=(identity_state.HANDLES, channel_state.POLICY_HANDLES),
    parts=("keys", "policy"),
    rows=rows,
)
