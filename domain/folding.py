"""How every recorded fact changes the world: the one table of the fold. It knows no command, so readers load none."""

from __future__ import annotations

from muniment.domain import (
    build_state,
    channel_state,
    identity_state,
    incident_state,
    intake_state,
    pack_state,
    release_state,
    slot_state,
)
from muniment.domain.world import Handler, merge

# An entity may handle a type that another one makes.
FOLD: dict[str, tuple[Handler, ...]] = merge(
    build_state.HANDLES,
    channel_state.POLICY_HANDLES,
    channel_state.HANDLES,
    identity_state.HANDLES,
    incident_state.HANDLES,
    intake_state.HANDLES,
    pack_state.HANDLES,
    release_state.HANDLES,
    slot_state.HANDLES,
)
