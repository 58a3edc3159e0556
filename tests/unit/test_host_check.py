"""Every check red and green on hosts that do not exist; what was not seen is never applied."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hosts
import pytest
from muniment.app.host_check import RULES, Report, check_host, state_of
from muniment.app.host_check_facts import ALL_IDS, HostFacts, cpu_list, cpu_text
from muniment.app.host_check_model import ALL, Verdict
from muniment.domain.canonical import encode
from muniment.domain.errors import UnavailableError, UsageError

CPU = "sys/devices/system/cpu"
GROUP = "sys/fs/cgroup/user.slice"
MIB = 1 << 20
LIMITED = {"memlock": (8 * MIB, 8 * MIB)}
LOW = {"rtprio": (0, 0)}
CAPABLE = ("proc/self/status", "CapEff:\t000001ffffffffff")
IN_SPACE = ("proc/self/uid_map", "0 1000 65536")
MOUNTS = hosts.FILES["proc/self/mountinfo"]
TMPFS = "22 1 0:5 / /my\\040ring rw - tmpfs tmpfs rw"

Change = Callable[[hosts.Host], Any]


@pytest.fixture
def host(tmp_path: Path) -> hosts.Host:
    """The good host."""
    return hosts.Host(tmp_path)


def states(report: Report) -> dict[str, str]:
    return {check.id: check.state for check in report.checks}


def put(name: str, text: str | None) -> Change:
    return lambda host: host.put(name, text)


def told(**given: Any) -> Change:
    return lambda host: host.given.update(given)


def stored(**given: Any) -> Change:
    return lambda host: host.stored.update(given)


def named(**given: Any) -> Change:
    return lambda host: host.named.update(given)


def both(*changes: Change) -> Change:
    return lambda host: [change(host) for change in changes]


def ring(act: Callable[[Path], Any]) -> Change:
    return lambda host: act(host.root / hosts.RUNTIME.lstrip("/"))


def link(path: Path) -> None:
    path.rmdir()
    path.symlink_to("/tmp")


def file(path: Path) -> None:
    path.rmdir()
    path.touch()


def key(mode: int, *, folder: int = 0o700, where: str = f"{hosts.HOME}/keys/s-1") -> Change:
    def made(host: hosts.Host) -> None:
        path = host.root / where.lstrip("/") / "alice.pem"
        path.parent.mkdir(parents=True)
        path.touch()
        path.chmod(mode)
        path.parent.chmod(folder)

    return made


def linked_key(host: hosts.Host) -> None:
    key(0o600)(host)
    path = host.root / hosts.HOME.lstrip("/") / "keys/s-1/bob.pem"
    path.symlink_to("alice.pem")


def folder_as_key(host: hosts.Host) -> None:
    key(0o600)(host)
    (host.root / hosts.HOME.lstrip("/") / "keys/s-1/carol.pem").mkdir(mode=0o700)


DOWN = UnavailableError("no server", code="store.connections")

# check, what is wrong, the change: failed where the profile requires it, degraded elsewhere, applied nowhere
BAD: list[tuple[str, str, Change]] = [
    ("memory.lock", "below what an interpreter maps", told(**LIMITED)),
    ("memory.lock", "below what an interpreter maps", both(told(**LIMITED), put(*IN_SPACE), put(*CAPABLE))),
    ("memory.lock", "uid_map: No such file", both(told(**LIMITED), put("proc/self/uid_map", None), put(*CAPABLE))),
    ("memory.lock", "could not be looked at", both(told(**LIMITED), put("proc/self/status", None))),
    ("memory.lock", "could not be looked at", both(told(**LIMITED), put("proc/self/status", "CapEff:\tmany"))),
    ("memory.lock", "KeyError", both(told(**LIMITED), put("proc/self/status", "Name:\tx"))),
    ("cpu.affinity", "a CPU of its own", both(put(f"{GROUP}/cpuset.cpus.effective", "1"), told(affinity=frozenset({1})))),
    ("cpu.affinity", "no CPU of the cpuset", put(f"{GROUP}/cpuset.cpus.effective", "8-9")),
    ("cpu.affinity", "could not be looked at", put("proc/self/cgroup", None)),
    ("cpu.affinity", "not a list of CPUs", put(f"{CPU}/online", "all")),
    ("cpu.affinity", "not mounted", put("sys/fs/cgroup", None)),
    ("cpu.quota", "uses the quota up", put(f"{GROUP}/me.scope/cpu.max", "150000 100000")),
    ("cpu.quota", "uses the quota up", put(f"{GROUP}/cpu.max", "50000 100000")),
    ("cpu.quota", "uses the quota up", both(put(f"{GROUP}/me.scope/cpu.max", "400 100"), put(f"{GROUP}/cpu.max", "150 100"))),
    ("cpu.quota", "could not be looked at", put(f"{GROUP}/cpu.max", "some 100000")),
    ("cpu.quota", "could not be looked at", put("proc/self/cgroup", "nonsense")),
    ("cpu.headroom", "other work", put("proc/loadavg", "1.01 0 0")),
    ("cpu.headroom", "other work", told(affinity=frozenset({0}))),
    ("cpu.headroom", "could not be looked at", put("proc/loadavg", None)),
    ("cpu.headroom", "could not be looked at", put("proc/loadavg", "")),
    ("cpu.headroom", "could not be looked at", put(f"{CPU}/online", None)),
    ("cpu.isolation", "isolcpus", put(f"{CPU}/isolated", "")),
    ("cpu.isolation", "too few", put(f"{CPU}/isolated", "3")),
    ("cpu.isolation", "too few", put(f"{GROUP}/cpuset.cpus.effective", "0-2")),
    ("cpu.isolation", "could not be looked at", put(f"{CPU}/isolated", None)),
    ("rt.permission", "no right", told(**LOW)),
    ("rt.permission", "no right", both(told(**LOW), put(*IN_SPACE), put(*CAPABLE))),
    ("rt.permission", "get no time", put("proc/sys/kernel/sched_rt_runtime_us", "0")),
    ("rt.permission", "could not be looked at", put("proc/sys/kernel/sched_rt_runtime_us", None)),
    ("rt.permission", "could not be looked at", put("proc/self/status", None)),
    ("ring.engine", "a C compiler", told(engine="No module named 'muniment.ring._ring'")),
    ("ring.folder", "chmod 0700", ring(lambda path: path.chmod(0o750))),
    ("ring.folder", "chmod 0700", ring(lambda path: path.chmod(0o500))),
    ("ring.folder", "somebody else", told(uid=os.geteuid() + 1)),
    ("ring.folder", "not followed", ring(link)),
    ("ring.folder", "not followed", ring(file)),
    ("ring.folder", "MUNIMENT_RUNTIME", named(runtime="/etc/machine-id/ring")),
    ("ring.memory", "on a disk", named(runtime="/srv/rings")),
    ("ring.memory", "could not be looked at", put("proc/self/mountinfo", None)),
    ("ring.memory", "could not be looked at", put("proc/self/mountinfo", "nonsense")),
    ("ring.memory", "no mount holds", put("proc/self/mountinfo", "22 21 0:5 / /other rw - tmpfs tmpfs rw")),
    ("ring.memory", "on a disk", put("proc/self/mountinfo", f"{MOUNTS}\n24 23 8:2 / /run/user/7 rw - ext4 x rw")),
    ("ring.space", "make room", told(free=32 * MIB - 1)),
    ("store.reachable", "store.connections", stored(error=DOWN)),
    ("store.durable", "journal_mode must be wal", stored(settings=(("journal_mode", "wal", "delete"),))),
    ("store.durable", "fsync must be on", stored(settings=(("synchronous_commit", "on", "on"), ("fsync", "on", "off")))),
    ("store.durable", "store.rights", stored(settings=(), settings_error="denied (store.rights)")),
    ("store.durable", "says nothing", stored(settings=())),
    ("store.durable", "cannot be opened", stored(error=DOWN)),
    ("store.head", "are gone", stored(size=11)),
    ("store.head", "damaged", stored(seen_warning="last seen head is damaged")),
    ("store.head", "cannot be opened", stored(error=DOWN)),
    ("clock.forward", "went back", stored(recorded_at="2026-11-19T00:00:00.000000Z")),
    ("clock.forward", "went back", stored(seen_at="2030-01-01T00:00:00.000000Z")),
    ("clock.forward", "clock accept", stored(jump=7200)),
    ("clock.forward", "cannot be opened", stored(error=DOWN)),
    ("clock.synchronised", "no service of time", told(clock=(5, 0x40))),
    ("clock.synchronised", "no service of time", told(clock=(5, 0))),
    ("clock.synchronised", "no service of time", told(clock=(0, 0x40))),
    ("clock.synchronised", "no service of time", told(clock=None)),
    ("disk.space", "make room", told(free=256 * MIB - 1)),
    ("disk.space", "no home", both(named(home="", home_error="no home folder"), stored(place=None))),
    ("keys.private", "mode 0640", key(0o640)),
    ("keys.private", "mode 0604", key(0o604)),
    ("keys.private", "mode 0750", key(0o600, folder=0o750)),
    ("keys.private", "bob.pem", linked_key),
    ("keys.private", "carol.pem", folder_as_key),
    ("keys.private", "mode 0644", key(0o644, where=f"{hosts.HOME}/stores/s-1/keys")),
    ("keys.private", "mode 0644", key(0o644, where=f"{hosts.STORE}/keys")),
    ("keys.private", "no home", named(home="", home_error="no home folder")),
    ("extras", "muniment[s3]", told(extras={"s3": False})),
]  # fmt: skip

# less than all, and no failure under any profile
PART: list[tuple[str, str, Change]] = [
    ("memory.lock", "may not fit", told(memlock=(256 * MIB, 256 * MIB))),
    ("cpu.affinity", "was started on one CPU", told(affinity=frozenset({0}))),
    ("rt.permission", "stopped for the rest", put("proc/sys/kernel/sched_rt_runtime_us", "950000")),
    ("store.reachable", "muniment init", stored(missing=True, error=DOWN)),
    ("store.durable", "muniment init", stored(missing=True, error=DOWN)),
    ("store.head", "muniment init", stored(missing=True, error=DOWN)),
    ("clock.forward", "muniment init", stored(missing=True, error=DOWN)),
    ("clock.synchronised", "rtcsync", both(told(clock=(5, 0x40)), put("run/chrony/chronyd.pid", "1"))),
]

V1 = "3:cpuset:/jail\n2:cpu,cpuacct:/jail"
V1_FILES = {
    "proc/self/cgroup": V1,
    "sys/fs/cgroup/cpu,cpuacct/cgroup.procs": "",
    "sys/fs/cgroup/cpuset/cgroup.procs": "",
    "sys/fs/cgroup/cpuset/jail/cpuset.effective_cpus": "0-3",
    "sys/fs/cgroup/cpu,cpuacct/jail/cpu.cfs_period_us": "100000",
    "sys/fs/cgroup/cpu,cpuacct/jail/cpu.cfs_quota_us": "-1",
}
GOOD: list[tuple[str, Change]] = [
    ("memory.lock", both(told(**LIMITED), put(*CAPABLE))),
    ("cpu.affinity", put(f"{GROUP}/cpuset.cpus.effective", None)),
    ("cpu.quota", put(f"{GROUP}/cpu.max", "200000 100000")),
    ("cpu.quota", both(*(put(*item) for item in V1_FILES.items()))),
    ("cpu.headroom", put("proc/loadavg", "1.00 9 9")),
    ("rt.permission", both(told(**LOW), put(*CAPABLE))),
    ("ring.memory", both(put("proc/self/mountinfo", TMPFS), named(runtime="/my ring"), put("my ring/x", ""))),
    ("clock.forward", stored(recorded_at="", seen_at="")),
    ("clock.forward", stored(recorded_at="2026-11-18T11:06:44.000000Z")),
    ("clock.synchronised", both(told(clock=(5, 0x40)), put("run/systemd/timesync/synchronized", ""))),
    ("keys.private", key(0o600)),
    ("keys.private", key(0o400, where=f"{hosts.STORE}/keys")),
]  # fmt: skip


def ids(cases: list[Any]) -> list[str]:
    return [f"{at}-{case[0]}" for at, case in enumerate(cases)]


@pytest.mark.parametrize("profile", ALL)
def test_a_good_host_keeps_every_clause(host: hosts.Host, profile: str) -> None:
    report = check_host(host.look, profile)
    assert set(states(report).values()) == {"applied"}
    assert report.ok
    assert report.as_json()["host"] == {
        "id": "h-" + report.host["id"][2:],
        "kernel": "6.12.0-test",
        "cpus": 4,
        "cpus_usable": 2,
        "boot_id": hosts.BOOT,
        "python": "3.11.2",
        "libc": "glibc 2.36",
        "machine": "x86_64",
    }
    encode(report.as_json())  # canonical: it is evidence


@pytest.mark.parametrize("profile", ALL)
@pytest.mark.parametrize(("id_", "reason", "change"), BAD, ids=ids(BAD))
def test_a_clause_that_is_not_kept(
    host: hosts.Host, id_: str, reason: str, change: Change, profile: str
) -> None:
    change(host)
    report = check_host(host.look, profile)
    check = next(check for check in report.checks if check.id == id_)
    required = profile in check.required_by
    assert check.state == ("failed" if required else "degraded")
    assert reason in check.reason
    if required:
        assert not report.ok
        assert check in report.failed


@pytest.mark.parametrize("profile", ALL)
@pytest.mark.parametrize(("id_", "reason", "change"), PART, ids=ids(PART))
def test_a_clause_that_is_kept_in_part(
    host: hosts.Host, id_: str, reason: str, change: Change, profile: str
) -> None:
    change(host)
    report = check_host(host.look, profile)
    check = next(check for check in report.checks if check.id == id_)
    assert check.state == "degraded"
    assert reason in check.reason


@pytest.mark.parametrize(("id_", "change"), GOOD, ids=ids(GOOD))
def test_a_clause_that_is_kept_in_another_way(host: hosts.Host, id_: str, change: Change) -> None:
    change(host)
    assert states(check_host(host.look, "isolated-core"))[id_] == "applied"


@pytest.mark.parametrize("profile", ALL)
def test_what_a_run_will_make_is_requested(host: hosts.Host, profile: str) -> None:
    (host.root / hosts.RUNTIME.lstrip("/")).rmdir()
    report = check_host(host.look, profile)
    assert states(report)["ring.folder"] == "requested"
    assert report.ok


def test_quota_and_budget_of_version_one_of_the_control_groups(host: hosts.Host) -> None:
    for name, text in V1_FILES.items():
        host.put(name, text)
    host.put("sys/fs/cgroup/cpu,cpuacct/jail/cpu.cfs_quota_us", "150000")
    host.put("sys/fs/cgroup/cpu,cpuacct/jail/cpu.rt_runtime_us", "0")
    found = states(check_host(host.look, "isolated-core"))
    assert (found["cpu.quota"], found["rt.permission"]) == ("failed", "failed")
    host.put("sys/fs/cgroup/cpu,cpuacct/jail/cpu.cfs_period_us", None)
    assert states(check_host(host.look, "low-latency"))["cpu.quota"] == "failed"


def test_every_check_has_a_bad_host() -> None:
    assert {rule.id for rule in RULES} == {id_ for id_, *_ in BAD}
    assert len({rule.id for rule in RULES}) == len(RULES)


@pytest.mark.parametrize("verdict", Verdict)
@pytest.mark.parametrize("required", [True, False])
def test_the_states(verdict: Verdict, required: bool) -> None:
    state = state_of(verdict, required=required)
    assert (state == "applied") == (verdict is Verdict.HOLDS)
    assert (state == "failed") == (required and verdict in (Verdict.LACKS, Verdict.UNKNOWN))
    assert (state == "requested") == (verdict is Verdict.PENDING)


def test_a_host_of_which_nothing_can_be_seen_is_fit_for_nothing(host: hosts.Host) -> None:
    for name in ("proc", "sys"):
        host.put(name, None)
    host.given.update(LIMITED | LOW)
    for profile in ("low-latency", "isolated-core"):
        found = states(check_host(host.look, profile))
        assert {
            found[id_] for id_ in ("memory.lock", "cpu.affinity", "cpu.quota", "cpu.headroom", "ring.memory")
        } == {"failed"}
    assert check_host(host.look, "default").host["cpus"] is None


def test_an_unknown_profile_is_no_statement_about_the_host(host: hosts.Host) -> None:
    with pytest.raises(UsageError) as caught:
        check_host(host.look, "fastest")
    assert caught.value.exit_code == 2


# -- facts ----------------------------------------------------------------------------------------------------------


def test_a_host_is_told_from_another(host: hosts.Host) -> None:
    first = host.facts.host_id
    assert host.put("proc/sys/kernel/random/boot_id", "another").facts.host_id == first, (
        "a reboot keeps the host"
    )
    space = host.root / "proc/self/ns/pid"
    space.unlink()
    space.symlink_to("pid:[4026532999]")
    assert (inside := host.facts.host_id) != first, "a container is another host"
    host.put("etc/machine-id", None)
    assert host.facts.machine == ""
    assert (bare := host.facts.host_id) not in (first, inside)
    assert host.put("proc/sys/kernel/random/boot_id", "third").facts.host_id != bare, (
        "without a machine id the boot is the host"
    )
    space.unlink()
    with pytest.raises(OSError, match="pid"):
        _ = host.facts.host_id


def test_the_machine_id_itself_is_never_said(host: hosts.Host) -> None:
    said = str(check_host(host.look, "default").as_json()) + host.facts.machine
    assert hosts.FILES["etc/machine-id"] not in said


@pytest.mark.parametrize(
    ("text", "cpus"), [("", set()), ("0", {0}), ("0-2,8", {0, 1, 2, 8}), ("4,6-7", {4, 6, 7})]
)
def test_lists_of_cpus(text: str, cpus: set[int]) -> None:
    assert cpu_list(text) == cpus
    assert cpu_list(cpu_text(cpu_list(text)).replace("none", "")) == cpus


@pytest.mark.parametrize("text", ["a", "1-b", "-1", "1;2", "0x3", "1-", "3-2", "²", "9999999"])
def test_other_text_is_no_list_of_cpus(text: str) -> None:
    with pytest.raises(ValueError, match="not a list of CPUs"):
        cpu_list(text)


def test_a_capability_counts_only_in_the_first_user_namespace(host: hosts.Host) -> None:
    assert not host.facts.capable(14)
    assert host.put(*CAPABLE).facts.capable(14)
    assert not host.put("proc/self/uid_map", "0 1000 1").facts.capable(14)
    assert host.put("proc/self/uid_map", " ".join(ALL_IDS)).facts.capable(23)


def test_this_host_can_be_looked_at() -> None:
    facts = HostFacts()
    assert facts.numbers.affinity <= facts.online
    assert facts.allowed()
    assert facts.file_system(Path("/proc/self")) == "proc"
    assert facts.free(Path("/")) > 0
