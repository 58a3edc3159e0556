"""Knobs that are really turned, in a process of their own, and the judge of a fresh check."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import hosts
import pytest
from muniment.app import tuning
from muniment.app.host_check_model import ALL
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.errors import UnfitError
from muniment.domain.instant import from_micros
from muniment.domain.records import validate

CPU = "sys/devices/system/cpu"
GROUP = "sys/fs/cgroup/user.slice/cpuset.cpus.effective"
NOW, HOUR = hosts.NOW_US, 3_600_000_000
HERE = "h-0123456789abcdef"

# turned in another process: what it does to itself, nobody else feels
PROGRAM = """
import json, os, resource, sys
sys.path[:0] = json.loads(sys.argv[1])
given = json.loads(sys.argv[2])
import ctypes
from muniment.app import tuning
from muniment.app.host_check_facts import HostFacts
host = HostFacts()
if given.get("lock") is not None:
    resource.setrlimit(resource.RLIMIT_MEMLOCK, (given["lock"],) * 2)
if given.get("nobody"):
    os.setgroups([]); os.setgid(65534); os.setuid(65534)
if given.get("nobody") or given.get("lock") is not None:
    host = HostFacts()
if given.get("bounded"):
    host.numbers = host.numbers._replace(memlock=(1 << 32, 1 << 32))
    type(host).capable = lambda self, capability: False
if given.get("isolated") is not None:
    type(host).isolated = property(lambda self: frozenset(given["isolated"]))
found = tuning.apply(given["profile"], [0] * given.get("threads", 1), host)
def locked():
    return int(next(line.split()[1] for line in open("/proc/self/status") if line.startswith("VmLck")))
before = locked()
later = bytearray(8 << 20)
print(json.dumps({
    "found": {each.knob: each._asdict() for each in found},
    "cpus": sorted(os.sched_getaffinity(0)), "policy": os.sched_getscheduler(0), "locked": before, "later": locked() - before,
}))
"""


def turned(profile: str, **given: Any) -> dict[str, Any]:
    command = [sys.executable, "-c", PROGRAM, json.dumps(sys.path), json.dumps({"profile": profile, **given})]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    said: dict[str, Any] = json.loads(done.stdout)
    return said


needs_root = pytest.mark.skipif(
    os.geteuid() != 0, reason="only root may give its rights away and take real time"
)


def test_every_profile_has_its_knobs() -> None:
    assert tuple(tuning.PROFILES) == ALL
    assert tuning.PROFILES["default"] == ("backoff", "none", "other", False)
    with pytest.raises(KeyError):
        tuning.apply("fastest")


def test_the_default_profile_changes_nothing() -> None:
    said = turned("default")
    assert {knob: each["state"] for knob, each in said["found"].items()} == {
        "wait": "requested",
        "pin": "applied",
        "sched": "applied",
        "mlock": "applied",
    }
    assert said["cpus"] == sorted(os.sched_getaffinity(0))
    assert (said["policy"], said["locked"]) == (os.SCHED_OTHER, 0)


@needs_root
def test_low_latency_pins_and_locks() -> None:
    said = turned("low-latency")
    assert {each["state"] for each in said["found"].values()} == {"requested", "applied"}
    assert len(said["cpus"]) == 1
    assert said["locked"] > 1024
    assert said["later"] >= 8192, "what is mapped later is locked too"
    assert said["policy"] == os.SCHED_OTHER


@needs_root
def test_a_process_without_rights_says_what_it_did_not_get() -> None:
    said = turned("low-latency", nobody=True, lock=65536)
    assert said["found"]["mlock"]["state"] == "failed"
    assert "memory" in said["found"]["mlock"]["reason"]
    assert said["locked"] == 0
    assert said["found"]["pin"]["state"] == "applied", said


@needs_root
def test_memory_below_a_limit_is_locked_in_part() -> None:
    said = turned("low-latency", bounded=True)
    assert said["found"]["mlock"]["state"] == "degraded"
    assert said["locked"] > 1024
    assert said["later"] == 0


def test_more_threads_than_processors_share_them_and_that_is_said() -> None:
    found = turned("low-latency", threads=len(os.sched_getaffinity(0)) + 1)["found"]["pin"]
    assert found["state"] == "degraded"
    assert "share" in found["reason"]


def test_nothing_spins_in_real_time_on_a_shared_processor() -> None:
    said = turned("isolated-core", isolated=[])
    assert said["found"]["sched"]["state"] == "failed"
    assert said["policy"] == os.SCHED_OTHER
    assert said["found"]["pin"]["state"] == "degraded"


@needs_root
def test_real_time_on_an_isolated_processor() -> None:
    said = turned("isolated-core", isolated=sorted(os.sched_getaffinity(0))[-1:])
    assert said["found"]["sched"]["state"] == "applied"
    assert said["policy"] == os.SCHED_FIFO | os.SCHED_RESET_ON_FORK
    shared = turned("isolated-core", isolated=sorted(os.sched_getaffinity(0))[-1:], threads=2)
    assert shared["found"]["sched"]["state"] == "failed"


@needs_root
def test_no_right_to_real_time() -> None:
    said = turned("isolated-core", isolated=sorted(os.sched_getaffinity(0)), nobody=True)
    assert said["found"]["sched"]["state"] == "failed"
    assert said["policy"] == os.SCHED_OTHER


# -- where threads go -----------------------------------------------------------------------------------------------


@pytest.fixture
def host(tmp_path: Path) -> hosts.Host:
    made = hosts.Host(tmp_path)
    for cpu in range(4):  # two cores of two hardware threads
        made.put(f"{CPU}/cpu{cpu}/topology/thread_siblings_list", f"{cpu % 2},{cpu % 2 + 2}")
    return made.put(f"{CPU}/isolated", "")


@pytest.mark.parametrize(
    ("pin", "isolated", "count", "cpus", "alone", "reason"),
    [
        ("balanced", "", 3, (0, 1, 2), False, ""),
        ("balanced", "", 5, (0, 1, 2, 3, 0), False, "5 threads share 4 CPUs"),
        ("balanced", "0-1", 2, (2, 3), False, ""),
        ("balanced", "0-3", 1, (0,), True, ""),
        ("physical", "0-3", 2, (0, 1), True, ""),
        ("physical", "1-3", 2, (1, 2), True, ""),
        ("physical", "0-3", 3, (0, 1, 0), False, "3 threads share 2 cores"),
        ("physical", "", 2, (0, 1), False, "no isolated CPU"),
        ("physical", "1", 2, (1, 1), False, "2 threads share 1 cores"),
    ],
)
def test_where_threads_go(
    host: hosts.Host, pin: str, isolated: str, count: int, cpus: tuple[int, ...], alone: bool, reason: str
) -> None:
    found = tuning.plan(pin, count, host.put(f"{CPU}/isolated", isolated).facts)
    assert (found.cpus, found.alone) == (cpus, alone)
    assert found.reason.startswith(reason)
    assert bool(found.reason) == bool(reason)


@pytest.mark.parametrize(
    ("name", "text"),
    [
        (f"{CPU}/isolated", None),
        (f"{CPU}/cpu1/topology/thread_siblings_list", None),
        (f"{CPU}/cpu1/topology/thread_siblings_list", "3"),
        (GROUP, "9"),
        ("proc/self/cgroup", None),
    ],
)
def test_a_host_that_cannot_be_looked_at_is_not_pinned(host: hosts.Host, name: str, text: str | None) -> None:
    before = os.sched_getaffinity(0)
    found = {each.knob: each for each in tuning.apply("isolated-core", [0], host.put(name, text).facts)[:3]}
    assert found["pin"].state == "failed"
    assert found["sched"].state == "failed"
    assert os.sched_getaffinity(0) == before


def test_a_knob_that_failed_is_refused_with_the_next_command() -> None:
    fine = tuning.Applied("pin", "balanced", "degraded", "on 0")
    tuning.refuse_failed([fine], "low-latency")
    with pytest.raises(UnfitError) as caught:
        tuning.refuse_failed([fine, tuning.Applied("mlock", "yes", "failed", "no")], "low-latency")
    assert caught.value.hint == "muniment doctor --profile low-latency"
    assert "mlock" in caught.value.message


# -- a fresh check --------------------------------------------------------------------------------------------------


def checked(position: int = 7, *, at: int = NOW - HOUR, boot: str = hosts.BOOT, **changed: Any) -> Fact:
    data = {
        "profile": "low-latency",
        "ok": True,
        "host": {"kernel": "6", "cpus": 4, "boot_id": boot, "machine": ""},
        "host_id": HERE,
        "checks": [{"id": "memory.lock", "state": "applied", "required": True, "reason": ""}],
        **changed,
    }
    validate("runtime.host_checked/1", data)
    instant = from_micros(at)
    return Fact("runtime.host_checked/1", instant, instant, ActorRef("me"), data, position=position)


FAILED = [{"id": "memory.lock", "state": "failed", "required": True, "reason": "low"}]


def judged(*records: Fact, boot: str = hosts.BOOT, profile: str = "low-latency") -> str:
    return tuning.fresh_check(records, HERE, boot, profile, NOW)


@pytest.mark.parametrize(
    ("records", "reason"),
    [
        ([], "never checked"),
        ([checked(host_id="h-another")], "never checked"),
        ([checked(profile="default")], "never checked"),
        ([checked(profile="isolated-core")], "never checked"),
        ([checked(boot="another")], "before this boot"),
        ([checked(ok=False, checks=FAILED)], "failed: memory.lock"),
        ([checked(at=NOW - 25 * HOUR)], "25 h old"),
        ([checked(at=NOW - 24 * HOUR - 1)], "24 h old"),
        ([checked(at=NOW + HOUR)], "of the future"),
        ([checked(7), checked(9, ok=False, checks=FAILED)], "record 9 failed"),
        ([checked(9, ok=False, checks=FAILED), checked(7)], "record 9 failed"),
        ([checked(9, at=NOW - 30 * HOUR), checked(7)], "record 9"),
    ],
)
def test_no_fresh_check(records: list[Fact], reason: str) -> None:
    assert reason in judged(*records)


def test_a_boot_nobody_knows_is_no_boot() -> None:
    assert "before this boot" in judged(checked(boot=""), boot="")


@pytest.mark.parametrize(
    "records",
    [
        [checked()],
        [checked(at=NOW - 24 * HOUR)],
        [checked(at=NOW + 4_000_000)],
        [checked(7, ok=False, checks=FAILED), checked(8)],
        [checked(7), checked(8, profile="default", ok=False, checks=FAILED)],
        [checked(7), checked(8, host_id="h-another", ok=False, checks=FAILED)],
    ],
)
def test_a_fresh_check(records: list[Fact]) -> None:
    assert judged(*records) == ""


def test_the_judge_leaves_other_records_alone() -> None:
    other = checked(9)
    other.type = "runtime.host_checked/2"
    assert "never checked" in judged(other)
