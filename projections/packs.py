"""Packs: which artifacts are there, and what stands against each?"""

from __future__ import annotations

from typing import Any

from muniment.domain import pack_state
from muniment.domain.policy import Policy
from muniment.domain.states import Pack
from muniment.projections.base import Simple, mark
from muniment.projections.model import ReadModel


def row(item: Pack, policy: Policy) -> dict[str, Any]:
    """One pack as JSON values; `verified` is "stale" if it was verified under another policy (R2)."""
    verified = item.verified
    if verified is None:
        verdict = "none"
    elif verified.policy != policy.verification_digest:
        verdict = "stale"
    else:
        verdict = verified.verdict
    return {
        "pack": item.pack,
        "state": item.state,
        "product": item.product,
        "seq": item.seq,
        "build": item.build,
        "security_epoch": item.security_epoch,
        "reads": list(item.reads),
        "writes": item.writes,
        "files": item.files,
        "bytes": item.bytes,
        "verified": verdict,
        "sites": list(item.sites),
        "blocks": [
            {"block": b.block, "scope": b.scope, "advisory": b.advisory, "by": mark(b.mark)}
            for b in item.blocks.values()
        ],
        "quarantines": {channel: mark(m) for channel, m in sorted(item.quarantines.items())},
        "registered": mark(item.registered),
        "withdrawn": mark(item.withdrawn),
    }


def rows(model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:  # noqa: ARG001
    """Packs by product and order; those not registered come last."""
    packs = sorted(model.packs.values(), key=lambda p: (not p.seq, p.product, p.seq, p.pack))
    return [row(item, policy) for item in packs]


PACKS = Simple(
    "packs",
    1,
    "Which artifacts are there, and what stands against each?",
    handles=(pack_state.HANDLES,),
    parts=("packs", "products"),
    rows=rows,
)
