"""Hosts that do not exist: a root with the files a check reads, and the numbers a process would be told.

`good` is a host that keeps the contract of every profile: four CPUs, two of them isolated, version 2 of the control groups.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import Any

from muniment.app.host_check_facts import ALL_IDS, FIRST_PIDS, UNLIMITED, HostFacts, Numbers
from muniment.app.host_check_model import Look, StoreSeen

BOOT = "5f1c0a52-0d1c-4b5e-9a57-1d1f0c6a0b11"
RUNTIME, STORE, HOME = "/run/user/7/muniment", "/srv/store", "/home/me/state"
NOW_US = 1_795_000_000_000_000  # 2026-11-18
FREE = 8 << 30
CPU = "sys/devices/system/cpu"
FILES = {
    "proc/sys/kernel/osrelease": "6.12.0-test",
    "proc/sys/kernel/random/boot_id": BOOT,
    "proc/sys/kernel/sched_rt_runtime_us": "-1",
    "proc/loadavg": "0.42 0.30 0.20 1/99 4242",
    "proc/self/status": "Name:\tpython\nUid:\t7\t7\t7\t7\nCapEff:\t0000000000000000",
    "proc/self/uid_map": "         " + " ".join(ALL_IDS),
    "proc/self/cgroup": "0::/user.slice/me.scope",
    "proc/self/mountinfo": (
        "21 1 8:1 / / rw - ext4 /dev/vda rw\n22 21 0:5 / /run rw - tmpfs tmpfs rw\n"
        "23 22 0:6 / /run/user/7 rw - tmpfs tmpfs rw"
    ),
    "etc/machine-id": "0123456789abcdef0123456789abcdef",
    f"{CPU}/online": "0-3",
    f"{CPU}/isolated": "2-3",
    **{f"{CPU}/cpu{n}/topology/thread_siblings_list": str(n) for n in range(4)},
    "sys/fs/cgroup/cgroup.procs": "",
    "sys/fs/cgroup/user.slice/cpu.max": "max 100000",
    "sys/fs/cgroup/user.slice/cpuset.cpus.effective": "0-3",
    "sys/fs/cgroup/user.slice/me.scope/cpu.max": "max 100000",
}


def numbers(**changed: Any) -> Numbers:
    """What a process of the good host is told."""
    good = Numbers(
        uid=os.geteuid(),
        affinity=frozenset({0, 1}),
        memlock=(UNLIMITED, UNLIMITED),
        rtprio=(99, 99),
        clock=(0, 0x2001),
        now_us=NOW_US,
        python="3.11.2",
        libc="glibc 2.36",
        machine="x86_64",
        engine="",
        extras={"s3": True},
        free=FREE,
    )
    return good._replace(**changed)


def write(root: Path) -> None:
    """The files of the good host."""
    for name, text in FILES.items():
        put(root, name, text)
    place = root / "proc/self/ns"
    place.mkdir(parents=True, exist_ok=True)
    (place / "pid").symlink_to(FIRST_PIDS)
    (root / RUNTIME.lstrip("/")).mkdir(parents=True, mode=0o700)
    for folder in (STORE, HOME):
        (root / folder.lstrip("/")).mkdir(parents=True)


def put(root: Path, name: str, text: str | None) -> None:
    """Change one file of a host; None takes it away."""
    path = root / name
    if text is None:
        shutil.rmtree(path) if path.is_dir() and not path.is_symlink() else path.unlink()
        return
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text + "\n")


def seen(**changed: Any) -> StoreSeen:
    """A store that keeps the contract."""
    good = StoreSeen(
        name=STORE,
        place=STORE,
        settings=(("journal_mode", "wal", "wal"), ("synchronous", "FULL|EXTRA", "FULL")),
        size=12,
        recorded_at="2026-11-10T00:00:00.000000Z",
        now_us=NOW_US,
        seen_size=12,
        seen_at="2026-11-11T00:00:00.000000Z",
    )
    return good._replace(**changed)


class Host:
    """One such host, to be changed before it is looked at."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.given: dict[str, Any] = {}
        self.stored: dict[str, Any] = {}
        self.named: dict[str, Any] = {}
        self.env = {"MUNIMENT_RUNTIME": RUNTIME, "MUNIMENT_HOME": HOME}
        write(root)

    def put(self, name: str, text: str | None) -> Host:
        """Change a file."""
        put(self.root, name, text)
        return self

    @property
    def facts(self) -> HostFacts:
        """The host."""
        return HostFacts(self.root, numbers(**self.given), self.env)

    @property
    def look(self) -> Look:
        """What the rules look at."""
        places: dict[str, Any] = {"runtime": RUNTIME, "home": HOME}
        return Look(self.facts, seen(**self.stored), **(places | self.named))
