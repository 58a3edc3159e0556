"""Tuning profiles: the knobs of each, what becomes of them in this process, and whether a check of this host is fresh enough.

A profile is a request; what became of each knob is one of the four states of `host_check`: `requested` (the ring does it, not we),
`applied` (done, and read back), `degraded` (done in part), `failed` (not done). Nothing fails in silence, and nothing is undone:
a process is tuned once.
"""

from __future__ import annotations

import ctypes
import os
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Literal, NamedTuple

from muniment.app.host_check_facts import CAP_IPC_LOCK, UNLIMITED, HostFacts, cpu_text
from muniment.domain.decision import Fact
from muniment.domain.errors import UnavailableError, UnfitError
from muniment.domain.instant import to_micros
from muniment.domain.query import Item

if TYPE_CHECKING:
    from muniment.app.session import Session

State = Literal["requested", "applied", "degraded", "failed"]
MCL_CURRENT, MCL_FUTURE = 1, 2  # linux/mman.h
PRIORITY = 1  # the least real-time priority goes before every ordinary thread, and behind those of the kernel
MAX_AGE_S = 24 * 3600
AHEAD_US = 5_000_000  # clocks of two hosts may differ so much (settled.md, 1)
HOST_CHECKED = "runtime.host_checked/1"


class Knobs(NamedTuple):
    """What a profile asks for."""

    wait: Literal["spin", "backoff", "park"] = "backoff"
    pin: Literal["none", "balanced", "physical"] = "none"
    sched: Literal["other", "fifo", "rr"] = "other"
    mlock: bool = False


PROFILES: dict[str, Knobs] = {
    "default": Knobs(),
    "low-latency": Knobs("spin", "balanced", "other", True),
    "isolated-core": Knobs("spin", "physical", "fifo", True),
}


class Applied(NamedTuple):
    """What became of a knob; `reason` is "" if there is nothing to say."""

    knob: str
    requested: str
    state: State
    reason: str = ""


class Plan(NamedTuple):
    """Where threads go: one CPU for each; `alone` if none shares one and all are isolated; why it is less than was asked."""

    cpus: tuple[int, ...]
    alone: bool
    reason: str = ""


def apply(profile: str, threads: Sequence[int] = (0,), host: HostFacts | None = None) -> list[Applied]:
    """Turn the knobs of a profile for these threads, and read back what became of it.

    Args:
        threads: native ids (`threading.get_native_id`), busiest first; 0 is the caller. Locking memory is for the whole process, so
            call this when the ring is mapped.

    Raises:
        KeyError: no such profile.
    """
    knobs, host = PROFILES[profile], host or HostFacts()
    pinned, alone = _pin(knobs.pin, threads, host)
    return [
        Applied("wait", knobs.wait, "requested", "the ring waits, its stages are made so"),
        pinned,
        _schedule(knobs.sched, threads, alone=alone),
        _lock(host, wanted=knobs.mlock),
    ]


def refuse_failed(applied: Iterable[Applied], profile: str) -> None:
    """Refuse to run where a knob was not turned.

    Raises:
        UnfitError: one has failed; the message names the first.
    """
    for each in applied:
        if each.state == "failed":
            raise UnfitError(
                f"profile {profile}: {each.knob} {each.requested} could not be applied: {each.reason}",
                code="tuning.failed",
                hint=f"muniment doctor --profile {profile}",
                expected=f"{each.knob} {each.requested}",
                found=each.reason,
            )


def plan(pin: str, count: int, host: HostFacts) -> Plan:
    """Say where threads go. `balanced`: over the CPUs nobody isolated, cores first. `physical`: a core each, isolated ones.

    Raises:
        OSError, ValueError, LookupError: the host cannot be looked at, or no CPU is left.
    """
    allowed, isolated = host.allowed(), host.isolated
    reason = ""
    if pin == "balanced":
        pool = allowed - isolated or allowed
    elif not (pool := allowed & isolated):
        pool, reason = allowed, "no isolated CPU is in the cpuset: shared ones are used"
    turns: dict[int, list[int]] = {}  # 0: the first hardware thread of each core, 1: the second, …
    for cpu in sorted(pool):
        core = [each for each in host.core_of(cpu) if each in pool]
        turns.setdefault(core.index(cpu), []).append(cpu)
    order = [cpu for turn in sorted(turns) for cpu in turns[turn] if pin == "balanced" or turn == 0]
    if not order:
        raise LookupError("no CPU is left in the cpuset")
    if count > len(order):
        reason = reason or f"{count} threads share {len(order)} {'cores' if pin == 'physical' else 'CPUs'}"
    alone = count <= len(order) and set(order) <= isolated
    return Plan(tuple(order[at % len(order)] for at in range(count)), alone, reason)


def _pin(pin: str, threads: Sequence[int], host: HostFacts) -> tuple[Applied, bool]:
    if pin == "none":
        return Applied("pin", pin, "applied"), False
    try:
        where = plan(pin, len(threads), host)
        for thread, cpu in zip(threads, where.cpus, strict=True):
            os.sched_setaffinity(thread, {cpu})
            if os.sched_getaffinity(thread) != {cpu}:
                return Applied("pin", pin, "failed", f"thread {thread} is not on CPU {cpu}"), False
    except (OSError, ValueError, LookupError) as error:
        return Applied("pin", pin, "failed", f"{type(error).__name__}: {error}"), False
    on = f"on {cpu_text(frozenset(where.cpus))}"
    if where.reason:
        return Applied("pin", pin, "degraded", f"{on}: {where.reason}"), where.alone
    return Applied("pin", pin, "applied", on), where.alone


def _schedule(sched: str, threads: Sequence[int], *, alone: bool) -> Applied:
    policy = {"other": os.SCHED_OTHER, "fifo": os.SCHED_FIFO, "rr": os.SCHED_RR}[sched]
    if sched != "other" and not alone:
        # a real-time thread that spins gives its CPU to nobody, the shell that would end it included
        return Applied("sched", sched, "failed", "only threads alone on isolated CPUs may spin in real time")
    try:
        for thread in threads:
            if sched != "other":
                os.sched_setscheduler(thread, policy | os.SCHED_RESET_ON_FORK, os.sched_param(PRIORITY))
            elif os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK != policy:
                os.sched_setscheduler(thread, policy, os.sched_param(0))
            if os.sched_getscheduler(thread) & ~os.SCHED_RESET_ON_FORK != policy:
                return Applied("sched", sched, "failed", f"thread {thread} has another policy")
    except OSError as error:
        return Applied("sched", sched, "failed", error.strerror or str(error))
    return Applied("sched", sched, "applied", f"priority {PRIORITY}" if sched != "other" else "")


def _lock(host: HostFacts, *, wanted: bool) -> Applied:
    """Lock what is mapped. What comes later only where no limit can refuse it: else an allocation would fail much later."""
    if not wanted:
        return Applied("mlock", "no", "applied")
    try:
        whole = host.numbers.memlock[0] == UNLIMITED or host.capable(CAP_IPC_LOCK)
    except (OSError, ValueError, LookupError):
        whole = False
    libc = ctypes.CDLL(None, use_errno=True)
    if libc.mlockall(MCL_CURRENT | (MCL_FUTURE if whole else 0)):
        return Applied("mlock", "yes", "failed", os.strerror(ctypes.get_errno()))
    if not whole:
        return Applied(
            "mlock", "yes", "degraded", "what is mapped from now on is not locked: the limit is finite"
        )
    return Applied("mlock", "yes", "applied")


# -- a fresh check of this host -------------------------------------------------------------------------------------


def fresh_check(
    records: Iterable[Fact],
    host_id: str,
    boot_id: str,
    profile: str,
    now_us: int,
    max_age_s: int = MAX_AGE_S,
) -> str:
    """Say why no fresh check of this host for this profile has passed; "" if one has. Pure.

    The newest check of the host for the profile decides, so one that failed since is not passed over. It must be of this boot,
    passed, at most `max_age_s` old and not of the future.

    Args:
        records: facts of `runtime.host_checked/1` in any order; others are left out.
    """
    mine = [
        fact
        for fact in records
        if fact.type == HOST_CHECKED and fact.data["host_id"] == host_id and fact.data["profile"] == profile
    ]
    if not mine:
        return f"this host was never checked for {profile}"
    newest = max(mine, key=lambda fact: fact.position)
    data = newest.data
    age_us = now_us - to_micros(newest.recorded_at)
    if not boot_id or data["host"]["boot_id"] != boot_id:
        return f"the check of record {newest.position} was before this boot"
    if data["ok"] is not True:
        failed = ", ".join(check["id"] for check in data["checks"] if check["state"] == "failed")
        return f"the check of record {newest.position} failed: {failed}"
    if age_us > max_age_s * 1_000_000:
        return f"the check of record {newest.position} is {age_us // 3_600_000_000} h old"
    if age_us < -AHEAD_US:
        return f"the check of record {newest.position} is of the future: the clock went back"
    return ""


def demand_fresh_check(session: Session, profile: str, host: HostFacts | None = None) -> None:
    """Refuse a profile beyond `default` without a fresh check of this host in the store.

    Raises:
        UnfitError: there is none, or it did not pass; the hint is the command that makes one.
        UnavailableError: this host cannot be told from others.
    """
    if profile == "default":
        return
    host = host or HostFacts()
    try:
        host_id, boot_id = host.host_id, host.boot_id
    except (OSError, ValueError) as error:
        raise UnavailableError(
            f"this host cannot be told from others: {error}", code="doctor.host", hint="is /proc mounted?"
        ) from error
    item = Item((HOST_CHECKED,), (f"host:{host_id}",))
    reason = fresh_check(session.facts((item,)), host_id, boot_id, profile, session.log.now())
    if reason:
        raise UnfitError(
            f"profile {profile} needs a fresh check of this host: {reason}",
            code="doctor.not_fresh",
            hint=f"muniment doctor --profile {profile}",
            expected=f"a passing check of this boot, at most {MAX_AGE_S // 3600} h old",
            found=reason,
        )
