"""What a host says of itself, for `host_check` and `tuning`: files below one root, and the few numbers that no file holds.

Everything is looked at through `HostFacts`, so a test shows a host that does not exist: a folder as root, and a `Numbers`. What
cannot be read raises (OSError, ValueError, LookupError): a check that catches it has not seen its thing, and says so.
"""

from __future__ import annotations

import ctypes
import hashlib
import importlib
import importlib.util
import os
import platform
import re
import resource
import time
from collections.abc import Mapping
from pathlib import Path, PurePosixPath
from typing import NamedTuple

CAP_IPC_LOCK, CAP_SYS_NICE = 14, 23  # linux/capability.h
UNLIMITED = resource.RLIM_INFINITY
ALL_IDS = ["0", "0", "4294967295"]  # uid_map of the first user namespace
FIRST_PIDS = "pid:[4026531836]"  # the first namespace of processes, linux/proc_ns.h
STA_UNSYNC, TIME_ERROR = 0x40, 5  # linux/timex.h
EXTRAS = {"s3": "obstore"}  # pyproject.toml: optional dependencies that a user asks for, and what each brings
_span = re.compile(r"([0-9]{1,6})(?:-([0-9]{1,6}))?").fullmatch


class Numbers(NamedTuple):
    """What a process learns by asking, not by reading.

    Attributes:
        uid: effective user id.
        affinity: CPUs that this process may run on now.
        memlock, rtprio: soft and hard limit; `UNLIMITED` is no limit.
        clock: answer and status bits of adjtimex(2); None if it cannot be asked.
        now_us: wall clock, microseconds since 1970.
        free: bytes free where something is written, None to ask the file system.
        engine: "" if the extension of the ring is loaded, else why not.
        extras: name -> installed.
    """

    uid: int
    affinity: frozenset[int]
    memlock: tuple[int, int]
    rtprio: tuple[int, int]
    clock: tuple[int, int] | None
    now_us: int
    python: str
    libc: str
    machine: str
    engine: str
    extras: dict[str, bool]
    free: int | None = None


def numbers() -> Numbers:
    """Ask the host."""
    return Numbers(
        os.geteuid(),
        frozenset(os.sched_getaffinity(0)),
        resource.getrlimit(resource.RLIMIT_MEMLOCK),
        resource.getrlimit(resource.RLIMIT_RTPRIO),
        _clock(),
        time.time_ns() // 1000,
        platform.python_version(),
        " ".join(platform.libc_ver()).strip(),
        platform.machine(),
        _engine(),
        {name: importlib.util.find_spec(module) is not None for name, module in EXTRAS.items()},
    )


def _engine() -> str:
    try:
        importlib.import_module("muniment.ring._ring")
    except ImportError as error:
        return str(error) or type(error).__name__
    return ""


def _clock() -> tuple[int, int] | None:
    """Ask, changing nothing (`modes` 0). `status` is the fifth word: modes, offset, freq, maxerror, esterror, status."""
    buffer = (ctypes.c_long * 64)()  # struct timex has 208 bytes
    try:
        state = ctypes.CDLL(None, use_errno=True).adjtimex(buffer)
    except (OSError, AttributeError):
        return None
    return (
        None
        if state < 0
        else (state, ctypes.c_int.from_buffer(buffer, 5 * ctypes.sizeof(ctypes.c_long)).value)
    )


class HostFacts:
    """A host.

    Args:
        root: where its `/proc`, `/sys`, `/run` and its folders are found.
        given: its numbers; this process is asked if they are not given.
        env: variables that name folders.
    """

    def __init__(
        self, root: Path = Path("/"), given: Numbers | None = None, env: Mapping[str, str] | None = None
    ) -> None:
        self.root = root
        self.numbers = numbers() if given is None else given
        self.env = os.environ if env is None else env

    def at(self, path: Path | str) -> Path:
        """Where an absolute path of the host is found."""
        return self.root / str(path).lstrip("/")

    def text(self, path: Path | str) -> str:
        """A small file. Raises OSError, ValueError (not UTF-8)."""
        return self.at(path).read_text(encoding="utf-8").strip()

    def number(self, path: Path | str) -> int:
        """A file with one integer. Raises OSError, ValueError."""
        return int(self.text(path))

    def cpus(self, path: Path | str) -> frozenset[int]:
        """A file with a list of CPUs. Raises OSError, ValueError."""
        return cpu_list(self.text(path))

    def status(self, name: str) -> str:
        """A member of /proc/self/status. Raises OSError, ValueError, LookupError."""
        return dict(line.split(":", 1) for line in self.text("/proc/self/status").splitlines())[name].strip()

    def capable(self, capability: int) -> bool:
        """Tell whether the process holds a capability over the host.

        One held in a user namespace (a container without root) counts for nothing: mlock and the scheduler ask the first one.
        Source: user_namespaces(7).
        """
        held = int(self.status("CapEff"), 16) >> capability & 1
        return bool(held) and self.text("/proc/self/uid_map").split() == ALL_IDS

    def free(self, path: Path) -> int:
        """Bytes that this user may still write there. Raises OSError."""
        if self.numbers.free is not None:
            return self.numbers.free
        found = os.statvfs(self.at(path))
        return found.f_bavail * found.f_frsize

    def file_system(self, path: Path) -> str:
        """Kind of the file system that holds a path, by the longest mount point above it.

        Raises:
            OSError, ValueError, LookupError: it cannot be told.
        """
        place = "/" / self.at(path).resolve().relative_to(self.root.resolve())
        kind, longest = "", -1
        for line in self.text("/proc/self/mountinfo").splitlines():
            left, _, right = line.partition(" - ")
            point = Path(left.split(" ")[4].encode("ascii", "backslashreplace").decode("unicode_escape"))
            # of two mounts on one point the later one is on top
            if place.is_relative_to(point) and len(point.parts) >= longest:
                kind, longest = right.split(" ", 1)[0], len(point.parts)
        if not kind:
            raise LookupError(f"no mount holds {place}")
        return kind

    def control(self, controller: str, *names: str) -> list[str]:
        """What files of this process's control groups say, innermost group first; one that has none of them is left out.

        Args:
            controller: as version 1 calls it (`cpu`, `cpuset`).
            names: the two versions name their files differently, so one list of names serves both.

        Raises:
            OSError, ValueError: the groups cannot be read. LookupError: they are not mounted.
        Source: cgroups(7). In version 1 a controller has a hierarchy of its own; version 2 is the line without controllers.
        """
        said: list[str] = []
        seen = False
        for line in self.text("/proc/self/cgroup").splitlines():
            _, controllers, own = line.split(":", 2)
            tops = (controllers, controller) if controllers else ("", "unified")
            mount = next(
                (top for top in tops if self.at(f"/sys/fs/cgroup/{top}/cgroup.procs").exists()), None
            )
            if mount is None or (controllers and controller not in controllers.split(",")):
                continue
            seen = True
            group = PurePosixPath(own)
            for folder in (group, *group.parents):
                paths = (self.at(f"/sys/fs/cgroup/{mount}/{folder}/{name}") for name in names)
                said += [path.read_text(encoding="utf-8").strip() for path in paths if path.is_file()]
        if not seen:
            raise LookupError("control groups are not mounted")
        return said

    @property
    def boot_id(self) -> str:
        """Of this boot. Raises OSError, ValueError."""
        return self.text("/proc/sys/kernel/random/boot_id")

    @property
    def machine(self) -> str:
        """Digest of the machine id, which is never recorded itself; "" if the host has none. Raises OSError, ValueError.

        Source: machine-id(5), which asks applications to hash it with a word of their own.
        """
        try:
            found = self.text("/etc/machine-id")
        except FileNotFoundError:
            return ""
        return "sha256:" + hashlib.sha256(f"muniment.machine {found}".encode()).hexdigest() if found else ""

    @property
    def host_id(self) -> str:
        """A name for this host: of its machine id, else of its boot; a container beside it is another host.

        Raises:
            OSError, ValueError: it cannot be told.
        """
        space = str(self.at("/proc/self/ns/pid").readlink())
        said = f"{self.machine or self.boot_id} {'' if space == FIRST_PIDS else space}"
        return f"h-{hashlib.sha256(said.encode()).hexdigest()[:16]}"

    @property
    def online(self) -> frozenset[int]:
        """CPUs that run. Raises OSError, ValueError."""
        return self.cpus("/sys/devices/system/cpu/online")

    @property
    def isolated(self) -> frozenset[int]:
        """CPUs that the scheduler leaves alone (`isolcpus=`). Raises OSError, ValueError."""
        return self.cpus("/sys/devices/system/cpu/isolated")

    def allowed(self) -> frozenset[int]:
        """CPUs that this process may move to: those of its cpuset, or else all that run.

        Isolated CPUs are in no affinity at the start, but may be in the cpuset.

        Raises:
            OSError, ValueError, LookupError: it cannot be told.
        """
        said = self.control("cpuset", "cpuset.cpus.effective", "cpuset.effective_cpus")
        return (cpu_list(said[0]) if said else self.online) & self.online

    def quota(self) -> int | None:
        """Thousandths of a CPU that the groups of this process may use, the narrowest counts; None for no limit.

        Raises:
            OSError, ValueError, LookupError: it cannot be told.
        """
        limits = []
        for text in self.control("cpu", "cpu.max"):
            most, period = text.split()
            limits += [] if most == "max" else [int(most) * 1000 // int(period)]
        periods = self.control("cpu", "cpu.cfs_period_us")
        for most, period in zip(self.control("cpu", "cpu.cfs_quota_us"), periods, strict=True):
            limits += [] if int(most) < 0 else [int(most) * 1000 // int(period)]
        return min(limits, default=None)

    def core_of(self, cpu: int) -> tuple[int, ...]:
        """The hardware threads that share a core with a CPU, itself included. Raises OSError, ValueError."""
        path = f"/sys/devices/system/cpu/cpu{cpu}/topology/thread_siblings_list"
        return tuple(sorted(self.cpus(path)))


def cpu_list(text: str) -> frozenset[int]:
    """`0-2,8` as a set. Raises ValueError: another form."""
    found: set[int] = set()
    for part in filter(None, text.strip().split(",")):
        match = _span(part)
        first, last = (int(match[1]), int(match[2] or match[1])) if match else (1, 0)
        if first > last:
            raise ValueError(f"not a list of CPUs: {text[:60]!r}")
        found.update(range(first, last + 1))
    return frozenset(found)


def cpu_text(cpus: frozenset[int]) -> str:
    """A set of CPUs as the kernel writes it; "none" for no CPU."""
    out: list[str] = []
    for cpu in sorted(cpus):
        if cpu - 1 in cpus and cpu - 1 >= 0 and out:
            out[-1] = f"{out[-1].partition('-')[0]}-{cpu}"
        else:
            out.append(str(cpu))
    return ",".join(out) or "none"
