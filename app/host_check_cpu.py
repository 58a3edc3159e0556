"""What a profile asks of memory, processors and the scheduler (`host_check`).

The numbers of the contract:
1. A pipeline that spins has at least two threads at work, a producer and a stage: two CPUs are the least.
2. Locked memory: an interpreter with its libraries maps about 150 MiB, so a limit below 256 MiB is none at all; a limit above it
   locks what is there, but what is mapped later may be refused, so it is a part only. No limit, or CAP_IPC_LOCK, is all.
3. Headroom: the load of the last minute is at most half of the usable CPUs. The load counts the whole host, the usable CPUs are
   this process's: on a shared host that is stricter than need be, never laxer.
"""

from __future__ import annotations

from muniment.app.host_check_facts import CAP_IPC_LOCK, CAP_SYS_NICE, UNLIMITED, cpu_text
from muniment.app.host_check_model import ALL, TUNED, Look, Rule, Seen, Verdict

ISOLATED = ("isolated-core",)
LEAST_CPUS = 2
LOCK_BYTES = 256 << 20
MIB = 1 << 20
HOLDS, PARTIAL, LACKS = Verdict.HOLDS, Verdict.PARTIAL, Verdict.LACKS


def _memory_lock(look: Look) -> Seen:
    soft, hard = look.host.numbers.memlock
    words = "no limit" if soft == UNLIMITED else f"{soft // 1024} KiB"
    if soft == UNLIMITED or look.host.capable(CAP_IPC_LOCK):
        return Seen(HOLDS, f"{words}, CAP_IPC_LOCK" if soft != UNLIMITED else words)
    if hard == UNLIMITED or hard > soft:
        words += f" (could be raised to {'no limit' if hard == UNLIMITED else f'{hard // 1024} KiB'})"
    raise_it = "raise it: ulimit -l unlimited, LimitMEMLOCK=infinity, or memlock in limits.conf"
    if soft >= LOCK_BYTES:
        return Seen(PARTIAL, words, f"what is mapped later may not fit below the limit; {raise_it}")
    return Seen(LACKS, words, f"the limit is below what an interpreter maps; {raise_it}")


def _isolation(look: Look) -> Seen:
    host = look.host
    isolated = host.isolated
    if not isolated:
        return Seen(
            LACKS,
            "none isolated",
            "boot with isolcpus= (and nohz_full=, rcu_nocbs=) for the CPUs of the pipeline",
        )
    usable = isolated & host.allowed()
    observed = f"isolated {cpu_text(isolated)}, in this cpuset {cpu_text(usable)}"
    if len(usable) < LEAST_CPUS:
        return Seen(
            LACKS,
            observed,
            "too few of the isolated CPUs are in the cpuset of this process: widen it, or isolate more",
        )
    return Seen(HOLDS, observed)


def _affinity(look: Look) -> Seen:
    host = look.host
    online, allowed = host.online, host.allowed()
    mine = host.numbers.affinity & online
    observed = f"{cpu_text(mine)} of {cpu_text(online)}, cpuset {cpu_text(allowed)}"
    if len(mine | allowed) < LEAST_CPUS:
        return Seen(LACKS, observed, "a thread that spins needs a CPU of its own: give the process more CPUs")
    if not allowed:
        return Seen(LACKS, observed, "no CPU of the cpuset runs")
    if len(mine) < LEAST_CPUS:
        return Seen(
            PARTIAL,
            observed,
            "this process was started on one CPU; a run moves its threads (taskset, CPUAffinity=)",
        )
    return Seen(HOLDS, observed)


def _quota(look: Look) -> Seen:
    limit = look.host.quota()
    usable = len(look.host.numbers.affinity & look.host.online)
    if limit is None:
        return Seen(HOLDS, "no limit")
    observed = f"{limit // 1000}.{limit % 1000:03d} CPUs"
    if limit < usable * 1000:
        return Seen(
            LACKS,
            observed,
            "a thread that spins uses the quota up and is then stopped for milliseconds: lift it (cpu.max, CPUQuota=)",
        )
    return Seen(HOLDS, observed)


def _headroom(look: Look) -> Seen:
    whole, _, part = look.host.text("/proc/loadavg").split()[0].partition(".")
    load = int(whole) * 100 + int(part.ljust(2, "0")[:2])
    usable = len(look.host.numbers.affinity & look.host.online)
    observed = f"load {load // 100}.{load % 100:02d} on {usable} CPUs"
    if usable < LEAST_CPUS or load * 2 > usable * 100:
        return Seen(
            LACKS, observed, "other work would take the CPUs of the pipeline: move it away, or give more CPUs"
        )
    return Seen(HOLDS, observed)


def _real_time(look: Look) -> Seen:
    host = look.host
    limit = host.numbers.rtprio[0]
    nice = host.capable(CAP_SYS_NICE)
    budget = host.number("/proc/sys/kernel/sched_rt_runtime_us")
    # groups of version 1 may have a budget of their own; version 2 has none
    groups = [int(text) for text in host.control("cpu", "cpu.rt_runtime_us")]
    words = "no limit" if limit == UNLIMITED else f"priority limit {limit}"
    observed = f"{words}{', CAP_SYS_NICE' if nice else ''}, sched_rt_runtime_us {budget}"
    if limit == 0 and not nice:
        return Seen(
            LACKS, observed, "no right to real-time scheduling: ulimit -r, LimitRTPRIO=, or CAP_SYS_NICE"
        )
    if budget == 0 or groups[:1] == [0]:
        return Seen(
            LACKS,
            observed,
            "real-time threads get no time: raise sched_rt_runtime_us, or cpu.rt_runtime_us of the group",
        )
    if budget > 0:
        return Seen(
            PARTIAL,
            observed,
            "a thread that spins is stopped for the rest of each period: sched_rt_runtime_us = -1",
        )
    return Seen(HOLDS, observed)


def _engine(look: Look) -> Seen:
    reason = look.host.numbers.engine
    if reason:
        return Seen(
            LACKS, "not loaded", f"{reason}; install again where there is a C compiler: pip install ."
        )
    return Seen(HOLDS, "loaded")


RULES = (
    Rule(
        "memory.lock", f"no limit or CAP_IPC_LOCK; in part from {LOCK_BYTES // MIB} MiB", TUNED, _memory_lock
    ),
    Rule("cpu.affinity", f"at least {LEAST_CPUS} CPUs", TUNED, _affinity),
    Rule("cpu.quota", "no limit below the usable CPUs", TUNED, _quota),
    Rule(
        "cpu.headroom",
        f"load at most half of the usable CPUs, which are at least {LEAST_CPUS}",
        TUNED,
        _headroom,
    ),
    Rule("cpu.isolation", f"at least {LEAST_CPUS} isolated CPUs in the cpuset", ISOLATED, _isolation),
    Rule("rt.permission", "RLIMIT_RTPRIO or CAP_SYS_NICE, no budget (-1)", ISOLATED, _real_time),
    Rule("ring.engine", "the extension muniment.ring._ring", ALL, _engine),
)
