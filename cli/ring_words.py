"""A captured ring, for people: one line for the ring, one a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muniment.projections.runtime_words import number


def ring_lines(seen: Mapping[str, Any], lane: str = "") -> list[str]:
    """What `ring.snapshot.render` says, in lines; trouble is named in words."""
    producer = seen["producer"]
    trouble = [
        f"waits for stage {seen['slowest_stage']}"
        if seen["producer_blocked"] and seen["slowest_stage"]
        else "",
        "is dead" if producer["alive"] == "no" and seen["end"] is None else "",
        "has ended" if seen["end"] is not None else "",
        f"dropped {number(seen['dropped'])}" if seen["dropped"] != "0" else "",
    ]
    said = ", ".join(filter(None, trouble)) or "goes on"
    exact = "exact" if seen["exact"] else "within bounds"
    name = f"lane {lane}" if lane else "ring"
    room = f"{seen['remaining_capacity']} of {seen['capacity']} slots free"
    lines = [f"  {name}  cursor {number(seen['cursor'])}, {room}, {exact}; producer {said}"]
    if seen["stop"]["state"] != "running":
        stop = seen["stop"]
        lines.append(
            f"  STOPPED at stage {stop['stage'] or '?'}, message {number(stop['sequence'])}, code {stop['code']}"
        )
    wide = max((len(item["stage"]) for item in seen["gating"]), default=0)
    for item in seen["gating"]:
        silent = (
            f", silent {item['silent_ms'] / 1000:.1f} s"
            if item["state"] == "stalled" and item["silent_ms"] >= 0
            else ""
        )
        lost = f", lost {number(item['lost'])}" if item["lost"] != "0" else ""
        dead = ", its process is dead" if item.get("alive") == "no" else ""
        place = f"at {number(item['sequence'])}, {number(item['lag'])} behind"
        lines.append(f"  stage {item['stage']:<{wide}}  {item['state']} {place}{silent}{lost}{dead}")
    return lines
