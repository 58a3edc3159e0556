"""A record of every type that tells of pipelines, each one good; `import runtime_samples` finds it."""

from __future__ import annotations

import json
from typing import Any

from muniment.app.fact_drafts import TYPE

AT = "2026-11-21T00:00:00.000000Z"
SHA = "sha256:" + "a" * 64
U64 = str(2**64 - 1)
SPEC = {"spec": "demo", "spec_sha256": SHA}
COUNTS = {"read": U64, "published": "3", "committed": "2", "duplicates": "1", "filtered": "0", "dropped": "0"}
STAGE = {
    "stage": "digest",
    "state": "stalled",
    "alive": "yes",
    "lo": "17398",
    "hi": "17398",
    "lag": "1024",
    "lost": "0",
    "silent_ms": 4120,
}
RUNS = {"state": "running", "stage": "", "code": 0, "sequence": "0"}
GOOD: dict[str, dict[str, Any]] = {
    "spec_validated": {**SPEC, "model": "single_ring", "stages": 2, "lanes": 0},
    "spec_rejected": {
        "spec": "",
        "given_sha256": SHA,
        "problems": [{"code": "kv.syntax", "line": 3, "message": "no ="}],
        "more": 2,
    },
    "host_checked": {
        "profile": "low-latency",
        "ok": False,
        "host": {"kernel": "6.1", "cpus": 2, "boot_id": "b", "machine": SHA},
        "host_id": "h-1",
        "checks": [{"id": "memory-lock", "state": "failed", "required": True, "reason": "64 KiB"}],
    },
    "run_started": {
        **SPEC,
        "run": "run-1",
        "model": "single_ring",
        "profile": "default",
        "host_id": "h-1",
        "pid": 7,
        "ring_path": "/r/demo/ring",
        "source": "file:in",
        "resume_from": "8192",
        "left_over": "",
        "agent": "a-1",
    },
    "batch_acknowledged": {
        "run": "run-1",
        "spec": "towns",
        "source": "file:in",
        "shard": 0,
        "from_offset": "8192",
        "to_offset": U64,
        "lines": 5,
        "facts": 3,
        "duplicates": 1,
        "filtered": 1,
        "last_line_sha256": SHA,
        "last_line_bytes": 20,
    },
    "heartbeat_recorded": {
        "run": "run-1",
        "agent": "",
        "beat": 7,
        "reason": "transition",
        "unix_ns": U64,
        "uptime_ms": 9,
        "ring": {"cursor": "18422", "min_gating": "17398"},
        "stages": [{"stage": "digest", "state": "stalled"}],
        "changes": [{"stage": "digest", "from": "processing", "to": "stalled"}],
    },
    "snapshot_captured": {
        **SPEC,
        "run": "run-1",
        "lane": "",
        "reason": "asked",
        "ring_path": "/r/demo/ring",
        "cursor": "18422",
        "exact": True,
        "producer": {"blocked": True, "alive": "yes", "dropped": "0"},
        "stop": RUNS,
        "end": "",
        "stages": [{**STAGE, "stage": "head", "state": "idle"}, STAGE],
        "slowest_stage": "digest",
        "remaining_capacity": 0,
        "agent": "",
        "incident": "",
    },
    "run_ended": {
        "run": "run-1",
        "spec": "demo",
        "outcome": "failed",
        "stage": "digest",
        "sequence": "17399",
        "code": "filter.json_syntax",
        "error": "not JSON",
        "counts": COUNTS,
    },
}
FACT = {
    "source": "shop",
    "event_id": "e-1",
    "event_type": "order.placed",
    "subject": "slot:prod/stable/eu",
    "time": "",
    "media_type": "application/json",
    "body": '{"id":"e-1"}',
    "body_sha256": "",
}
EVERY = {f"runtime.{name}/1": data for name, data in GOOD.items()} | {TYPE: FACT}


def changed(data: Any, path: str, value: Any) -> Any:
    """A copy with the value at `a.0.b` put in, or taken away where it is `...`."""
    copy = json.loads(json.dumps(data))
    *way, last = path.split(".")
    place = copy
    for step in way:
        place = place[int(step) if isinstance(place, list) else step]
    if value is ...:
        del place[last]
    else:
        place[last] = value
    return copy


def without_sha(data: dict[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in data.items() if name != "body_sha256"}
