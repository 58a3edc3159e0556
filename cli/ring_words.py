"""A captured ring, for people: one line for the ring, one a stage."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from muniment.domain.ring_stops import words as stop_words
from muniment.projections.runtime_words import number


def ring_lines(seen: Mapping[str, Any], lane: str = "") -> list[str]:
    """What `ring.snapshot.render` says, in lines; trouble is named in words."""
    exact = "exact" if seen["exact"] else "within bounds"
    broken = "" if seen["consistent"] else "; its values CONTRADICT each other: a foreign or broken writer"
    name = f"lane {lane}" if lane else "ring"
    room = f"{number(seen['remaining_capacity'])} of {number(seen['capacity'])} slots free"
    if seen["region"]["kind"] == "broadcast":
        room = f"{number(seen['capacity'])} slots, waits for nobody"
    lines = [
        f"  {name}  cursor {number(seen['cursor'])}, {room}, {exact}; producer {_producer(seen)}{broken}"
    ]
    stop = seen["stop"]
    if stop["state"] != "running":
        where = f" at stage {stop['stage']}, message {number(stop['sequence'])}" if stop["stage"] else ""
        lines.append(f"  {stop['state'].upper()}{where}{stop_words(stop['code'])}")
    wide = max((len(item["stage"]) for item in seen["gating"]), default=0)
    return lines + [f"  stage {item['stage']:<{wide}}  {_stage(item)}" for item in seen["gating"]]


def _producer(seen: Mapping[str, Any]) -> str:
    if seen["end"] is not None:
        said = "has ended"
    elif seen["producer"]["alive"] == "no":
        said = "is dead"
    elif not any(cell["pid"] for cell in seen["producer"]["cells"]):
        said = "is not there"
    elif seen["producer_blocked"]:
        said = "is blocked"
    else:
        said = "goes on"
    waits = f", waits for stage {seen['slowest_stage']}" if said == "is blocked" else ""
    dropped = f", dropped {number(seen['dropped'])}" if seen["dropped"] != "0" else ""
    return f"{said}{waits}{dropped}"


def _stage(item: Mapping[str, Any]) -> str:
    silent = f", silent {item['silent_ms'] / 1000:.1f} s" if item["silent_ms"] >= 0 else ""
    parts = [
        f"{item['state']} at {number(item['sequence'])}, {number(item['lag'])} behind",
        silent if item["state"] == "stalled" else "",
        f", lost {number(item['lost'])}" if item["lost"] != "0" else "",
        ", its process is dead" if item["alive"] == "no" else "" if item["pid"] else ", nobody is there",
    ]
    return "".join(parts)
