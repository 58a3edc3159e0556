"""What records of pipelines say, in words, beyond their fields: `projections.words` puts it behind the template."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from muniment.domain.ring_stops import words as stop_words

Data = Mapping[str, Any]
SHOWN = 2


def number(text: str | int) -> str:
    """`18422` as `18 422`."""
    return f"{int(text):,}".replace(",", " ")


def _ring(data: Data) -> str:
    """The ring by its spec and lane, or by the end of its path."""
    name = data["spec"] or "/".join(data["ring_path"].rsplit("/", 2)[-2:])
    return f"{name} lane {data['lane']}" if data["lane"] else str(name)


def _stage(stage: Data) -> str:
    silent = f" {stage['silent_ms'] / 1000:.1f} s" if stage["silent_ms"] >= 0 else ""
    since = silent if stage["state"] == "stalled" else ""
    return f"stage {stage['stage']} {stage['state']}{since} at {number(stage['hi'])} (lag {number(stage['lag'])})"


def _stopped(stop: Data) -> str:
    """`stopped at stage digest, message 3: the message is not JSON (code 1)`; by nobody of the ring: `stopped`."""
    where = f" at stage {stop['stage']}, message {number(stop['sequence'])}" if stop["stage"] else ""
    return f"{stop['state']}{where}{stop_words(stop['code'])}"


def _dead(producer: Data, stages: Sequence[Data]) -> list[str]:
    gone = [f"stage {stage['stage']} dead" for stage in stages if stage["alive"] == "no"]
    ours = ["producer dead"] if producer["alive"] == "no" else []
    if ours and len(gone) == len(stages):
        return ["everybody dead"]
    return [*ours, *gone[:SHOWN], *([f"{len(gone) - SHOWN} more dead"] if len(gone) > SHOWN else [])]


def snapshot(data: Data) -> str:
    """`demo: cursor 18 422, stage digest stalled 4.1 s at 17 398 (lag 1 024), producer blocked`."""
    stages, producer = data["stages"], data["producer"]
    stalled = [stage for stage in stages if stage["state"] == "stalled"]
    slowest = [stage for stage in stages if stage["stage"] == data["slowest_stage"]]
    parts = [f"cursor {number(data['cursor'])}"]
    parts += [] if data["stop"]["state"] == "running" else [_stopped(data["stop"])]
    parts += ["ended"] if data["end"] else []
    parts += [_stage(stage) for stage in (stalled or slowest)[:SHOWN]]
    parts += [f"{len(stalled) - SHOWN} more stalled"] if len(stalled) > SHOWN else []
    parts += ["every stage idle"] if stages and all(stage["state"] == "idle" for stage in stages) else []
    parts += ["producer blocked"] if producer["blocked"] else []
    parts += [] if data["end"] else _dead(producer, stages)
    parts += [f"{number(producer['dropped'])} dropped"] if producer["dropped"] != "0" else []
    parts += [f"{stage['stage']} lost {number(stage['lost'])}" for stage in stages if stage["lost"] != "0"]
    parts += [] if data["reason"] in ("asked", "ended") else [data["reason"].replace("_", "-")]
    return f"{_ring(data)}: {', '.join(parts)}"


def heartbeat(data: Data) -> str:
    """`transition: digest processing -> stalled, cursor 18 422`."""
    changes = [f"{one['stage']} {one['from'] or 'new'} -> {one['to']}" for one in data["changes"]]
    return ", ".join(
        [f"{data['reason']}:", *changes[:4], f"cursor {number(data['ring']['cursor'])}"]
    ).replace(":,", ":")


def ended(data: Data) -> str:
    """`failed at stage digest, message 17 398: code error`."""
    where = f" at stage {data['stage']}" if data["stage"] else ""
    where += f", message {number(data['sequence'])}" if data["sequence"] else ""
    why = " ".join(filter(None, (data["code"], data["error"])))
    counts = data["counts"]
    done = f" ({number(counts['read'])} read, {number(counts['committed'])} committed)"
    return f"{data['outcome']}{where}{': ' if why else ''}{why}{done}"


def rejected(data: Data) -> str:
    """`kv.syntax in line 3, and 2 more`."""
    first = data["problems"][0]
    left = len(data["problems"]) - 1 + data["more"]
    line = f" in line {first['line']}" if first["line"] else ""
    return f"{first['code']}{line}{f', and {left} more' if left else ''}"


def host(data: Data) -> str:
    """`fit`, or the required checks that failed."""
    failed = [check["id"] for check in data["checks"] if check["required"] and check["state"] == "failed"]
    return "fit" if data["ok"] else f"unfit: {', '.join(failed)}"


def acknowledged(data: Data) -> str:
    """`to byte 8 192: 20 lines, 18 facts, 1 known, 1 filtered`."""
    parts = [f"{number(data['lines'])} lines", f"{number(data['facts'])} facts"]
    parts += [f"{number(data['duplicates'])} known"] if data["duplicates"] else []
    parts += [f"{number(data['filtered'])} filtered"] if data["filtered"] else []
    return f"to byte {number(data['to_offset'])}: {', '.join(parts)}"


MORE: dict[str, Callable[[Data], str]] = {
    "runtime.spec_rejected": rejected,
    "runtime.host_checked": host,
    "runtime.run_ended": ended,
    "runtime.snapshot_captured": snapshot,
    "runtime.heartbeat_recorded": heartbeat,
    "runtime.batch_acknowledged": acknowledged,
}


def more(type_: str, data: Data) -> str:
    """What stands behind the template of a type; "" where there is nothing, or where the data is none of ours."""
    say = MORE.get(type_)
    try:
        return " " + say(data) if say is not None else ""
    except (KeyError, TypeError, ValueError, AttributeError, IndexError):
        return ""
