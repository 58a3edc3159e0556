"""The records that benchmarks use: a deterministic story of a fleet, about 590 canonical bytes and 3 tags a record.

The n-th record is a function of n alone. The first records set the store up (store, policy, channels); then cycles of 25 records
follow, each one intake, its build, its pack, its release and one activation with health reports. Payloads and tags are
those of the registry, so every projection folds them; `tests/unit/test_bench.py` validates each type. They are observed
facts: no `command` and no `basis`, which a decided record has and bulk intake has not.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from muniment.domain.envelope import VERSION, halves
from muniment.domain.instant import from_micros
from muniment.domain.policy import parse
from muniment.store.api import Draft, Log

START_US = 1_790_000_000_000_000  # 2026-09-21
STEP_US = 250_000
PRODUCTS = 20
PLACES = 192  # (slot, target) pairs; they do not grow with the log, builds and packs do
CHANNELS = ("prod/canary", "prod/stable", "stage/canary", "stage/stable")
COHORTS = 12
BATCH = 1000

Record = dict[str, Any]
Plan = tuple[str, Record, tuple[str, ...], bool]  # type, payload, tags, with evidence


def record(n: int, cycles: int = 0) -> Record:
    """The n-th record (n >= 1) without `recorded_at`; with `cycles`, builds and packs are told again after so many."""
    type_, data, tags, with_evidence = _setup(n) if n <= SETUP else _cycle(n - SETUP - 1, cycles)
    at = from_micros(START_US + n * STEP_US)
    found: Record = {
        "v": VERSION,
        "id": record_id(n),
        "type": type_,
        "occurred_at": at,
        "actor": {"id": f"agent-{n % 17:02d}", "kind": "service", "auth": "os"},
        "correlation": record_id((n - 1) // CYCLE + 1, "c"),
        "data": data,
        "tags": sorted(tags),
    }
    if with_evidence:
        found["evidence"] = [_evidence(n)]
    return found


def records(first: int, count: int, cycles: int = 0) -> Iterator[Record]:
    """Records first .. first + count - 1."""
    return (record(n, cycles) for n in range(first, first + count))


def draft(found: Record) -> Draft:
    """A record as a store takes it."""
    head, tail = halves(found)
    return Draft(found["id"], found["type"], tuple(found["tags"]), head, tail)


def drafts(first: int, count: int, cycles: int = 0) -> list[Draft]:
    """Records as a store takes them."""
    return [draft(found) for found in records(first, count, cycles)]


def fill(log: Log, size: int, first: int = 1, cycles: int = 0) -> None:
    """Append records first .. size in batches of 1000."""
    for start in range(first, size + 1, BATCH):
        log.append(drafts(start, min(BATCH, size + 1 - start), cycles))


def record_id(n: int, kind: str = "r") -> str:
    """A text like a UUIDv7: 48 bits of time, the rest from a digest of n."""
    random = hashlib.sha256(f"{kind}{n}".encode()).hexdigest()
    time = f"{(START_US + n * STEP_US) // 1000:012x}"
    return f"{time[:8]}-{time[8:]}-7{random[:3]}-8{random[3:6]}-{random[6:18]}"


def sha(text: str) -> str:
    """`sha256:` and 64 digits."""
    return "sha256:" + hashlib.sha256(text.encode()).hexdigest()


def place(number: int) -> tuple[str, str]:
    """A (slot, target) pair."""
    channel = CHANNELS[number % len(CHANNELS)]
    return f"{channel}/c-{number // len(CHANNELS) % COHORTS:02d}", f"host-{number % PLACES:03d}"


def _evidence(n: int) -> Record:
    digest = hashlib.sha256(f"evidence{n}".encode()).hexdigest()
    return {
        "role": "log",
        "blake3": digest,
        "sha256": digest,
        "bytes": 4096 + n % 9999,
        "media_type": "text/plain",
    }


def _setup(n: int) -> Plan:
    if n == 1:
        data = {
            "store_id": "s-bench",
            "kind": "records",
            "canonical": "jcs-rfc8785/1",
            "versions": {"muniment": "0"},
            "origin": "muniment/s-bench",
            "log_key_id": "0" * 16,
            "log_public_key": "A" * 43 + "=",
        }
        return "store.created/1", data, ("scope:*",), False
    if n == 2:
        document = json.loads(
            (Path(__file__).parents[1] / "policies" / "solo.json").read_text(encoding="utf-8")
        )
        policy = {
            "policy": "solo",
            "digest": parse(document).digest,
            "document": document,
            "reason": "benchmark",
        }
        return "policy.published/1", policy, ("policy:solo", "scope:*"), False
    channel = CHANNELS[n - 3]
    declared = {
        "channel": channel,
        "cohorts": [f"c-{k:02d}" for k in range(COHORTS)],
        "upstream": [],
        "owner": "bench",
        "reason": "benchmark",
    }
    return "channel.declared/1", declared, ("scope:*", f"scope:{channel}"), False


SETUP = 2 + len(CHANNELS)


def _cycle(n: int, cycles: int) -> Plan:
    """Record n >= 0 of the endless part."""
    cycle, step = divmod(n, CYCLE)
    return _STEPS[step](cycle % cycles if cycles else cycle, n)


class _Names:
    """The ids of one cycle."""

    def __init__(self, cycle: int) -> None:
        self.intake = f"in-{cycle:07d}"
        self.build = f"b-{cycle:07d}"
        self.product = f"product-{cycle % PRODUCTS:02d}"
        self.pack = sha(f"pack{cycle}")
        self.release = f"r-{cycle:07d}"
        self.activation = f"a-{cycle:07d}"
        self.slot, self.target = place(cycle)
        self.at: Record = {"slot": self.slot, "target": self.target}
        self.here = (f"pack:{self.pack}", f"slot:{self.slot}", f"target:{self.target}")


def _taken(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    data = {
        "intake": of.intake,
        "digest": sha(of.intake),
        "files": 3,
        "bytes": 4096,
        "excluded": 0,
        "origin": "dir:input",
        "authority": "bench",
        "fetched_at": from_micros(START_US + n * STEP_US),
        "transformations": [],
    }
    return "intake.recorded/1", data, (f"intake:{of.intake}",), False


def _requested(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    data = {
        "build": of.build,
        "product": of.product,
        "intake": of.intake,
        "required_gates": ["validate"],
        "reproduce": "waived",
        "config_digest": sha(f"config{cycle % 7}"),
        "pins": {"compiler": "1.2.3", "schema": f"{cycle % 9}.0"},
        "reason": f"nightly build {n}",
    }
    return (
        "build.requested/1",
        data,
        (f"build:{of.build}", f"intake:{of.intake}", f"product:{of.product}"),
        False,
    )


def _frozen(cycle: int, n: int) -> Plan:  # noqa: ARG001  # one shape for all
    of = _Names(cycle)
    data = {"build": of.build, "intake": of.intake, "intake_digest": sha(of.intake), "files": 3}
    return "build.inputs_frozen/1", data, (f"build:{of.build}", f"intake:{of.intake}"), False


def _started(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    data = {
        "build": of.build,
        "stage": "validate",
        "attempt": f"at-{n:08d}",
        "argv": ["python3", "validate.py", "--input", "in", "--output", "out", "--strict"],
        "environment": {"LANG": "C.UTF-8"},
    }
    return "build.stage_started/1", data, (f"build:{of.build}",), False


def _finished(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    data = {
        "build": of.build,
        "stage": "validate",
        "attempt": f"at-{n - 1:08d}",
        "status": "PASS",
        "exit_code": 0,
        "reason": "",
        "wall_us": 1_000_000 + n,
        "user_us": 900_000,
        "system_us": 50_000,
        "max_rss_kib": 50_000,
        "tool": {"name": "python3", "version": "3.11"},
        "outputs": [],
    }
    return "build.stage_finished/1", data, (f"build:{of.build}",), True


def _gate(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    report = {
        "format": "junit",
        "tests": 120 + n % 9,
        "failures": 0,
        "skipped": 1,
        "sha256": sha(f"report{n}"),
    }
    data = {"build": of.build, "gate": "validate", "verdict": "PASS", "required": True, "report": report}
    return "build.gate_decided/1", data, (f"build:{of.build}",), False


def _compiled(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    data = {
        "build": of.build,
        "pack": of.pack,
        "files": 12,
        "bytes": 90_000 + n % 999,
        "compiler": {"name": "compile.py", "version": "1.2.3"},
    }
    return "build.compiled/1", data, (f"build:{of.build}", f"pack:{of.pack}"), False


def _registered(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    data = {
        "pack": of.pack,
        "product": of.product,
        "seq": cycle // PRODUCTS + 1,
        "build": of.build,
        "security_epoch": 1,
        "reads": [1, 2],
        "writes": 2,
        "files": 12,
        "bytes": 90_000 + n % 999,
    }
    tags = (f"build:{of.build}", f"pack:{of.pack}", f"product:{of.product}")
    return "pack.registered/1", data, tags, False


def _slots(cycle: int) -> list[str]:
    return [place(cycle + k * len(CHANNELS))[0] for k in range(2)]


def _created(cycle: int, n: int) -> Plan:  # noqa: ARG001
    of, slots = _Names(cycle), _slots(cycle)
    data = {
        "release": of.release,
        "slots": slots,
        "pack": of.pack,
        "product": of.product,
        "stages": [{"slots": slots, "milli_percent": 100_000, "soak_s": 60}],
        "plan_digest": sha(f"plan{cycle}"),
    }
    tags = (
        f"release:{of.release}",
        f"pack:{of.pack}",
        f"product:{of.product}",
        *(f"slot:{s}" for s in slots),
    )
    return "release.created/1", data, tags, False


def _promoted(cycle: int, n: int) -> Plan:
    of, slots = _Names(cycle), _slots(cycle)
    data = {
        "release": of.release,
        "slots": slots,
        "stage": 0,
        "pack": of.pack,
        "reason": f"looks well at {n}",
    }
    tags = (f"release:{of.release}", f"pack:{of.pack}", *(f"slot:{slot}" for slot in slots))
    return "release.promoted/1", data, tags, False


def _planned(cycle: int, n: int) -> Plan:  # noqa: ARG001
    of = _Names(cycle)
    data = {
        **of.at,
        "activation": of.activation,
        "pack": of.pack,
        "kind": "forward",
        "rollback": "",
        "release": of.release,
        "replaced": sha(f"pack{cycle - PLACES}") if cycle >= PLACES else "",
        "waive_rollback": cycle < PLACES,
        "reason": "",
    }
    return "activation.planned/1", data, (*of.here, f"release:{of.release}"), False


def _step(type_: str, **fixed: Any) -> Callable[[int, int], Plan]:
    def plan(cycle: int, n: int) -> Plan:  # noqa: ARG001
        of = _Names(cycle)
        data = {**of.at, "activation": of.activation, "pack": of.pack, **fixed}
        if type_ == "activation.confirmed/1":
            data["link"] = of.pack
        return type_, data, of.here, False

    return plan


def _healthy(cycle: int, n: int) -> Plan:
    of = _Names(cycle)
    data = {
        **of.at,
        "pack": of.pack,
        "status": "HEALTHY",
        "failed": False,
        "signals": [{"p99_us": n * 7919 % 100_000}],
        "reason": "",
    }
    return "slot.health_reported/1", data, of.here, False


def _hold(type_: str, **fixed: Any) -> Callable[[int, int], Plan]:
    def plan(cycle: int, n: int) -> Plan:  # noqa: ARG001
        of, slots = _Names(cycle), _slots(cycle)
        data = {"release": of.release, "slots": slots, **fixed}
        return type_, data, (f"release:{of.release}", *(f"slot:{slot}" for slot in slots)), False

    return plan


_CHECKS = [{"check": "digest", "verdict": "pass"}]
_STEPS: tuple[Callable[[int, int], Plan], ...] = (
    _taken,
    _requested,
    _frozen,
    _started,
    _finished,
    _gate,
    _compiled,
    _registered,
    _created,
    _promoted,
    _planned,
    _step("activation.fetched/1", detail={"files": 12}),
    _step("activation.verified/1", checks=_CHECKS),
    _step("activation.staged/1", detail={"slot": "a"}),
    _step("activation.switched/1", kind="forward", replaced="", epoch=1, schema_level=2),
    _step("activation.confirmed/1", kind="forward"),
    *[_healthy] * 4,
    _hold("release.paused/1", cause="operator", reason="lunch"),
    _hold("release.resumed/1", cleared=["operator"], reason=""),
    _hold("release.soaked/1", stage=0),
    _hold("release.gate_judged/1", stage=0, verdict="PASS", facts=["healthy:4"]),
    _healthy,
)
CYCLE = len(_STEPS)
