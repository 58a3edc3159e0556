"""Record a program below the shim, then lose power at many points of its trace and look."""

from __future__ import annotations

import os
import random
import shutil
import subprocess
import sys
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from power_check import breaches, promised
from power_disk import Disk, Entry, read_trace

HERE = Path(__file__).parent
# Programs run and states are looked at in memory: each syncs, which costs 100 ms a state on a disk, 10 ms here.
MEMORY = Path("/dev/shm")


def memory(otherwise: Path) -> Path:
    """A folder in memory if the host has one."""
    return MEMORY if os.access(MEMORY, os.W_OK) else otherwise


Record = Callable[..., "Recorded"]
"""The fixture that records: scenario, seed, mutant, pages."""


class Recorded(NamedTuple):
    """A traced run: its entries, and the folder with `disk/` as the run left it and what lies beside it."""

    scenario: str
    entries: list[Entry]
    base: Path
    trace: Path


class Lost(NamedTuple):
    """One state that broke a promise: enough to make it again."""

    point: int
    seed: str
    how: str
    breaches: list[str]


class Campaign(NamedTuple):
    """How many states were looked at, how many had something to lose, and those that broke a promise."""

    states: int
    open_writes: int
    open_names: int
    lost: list[Lost]


def build_shim(folder: Path) -> Path:
    """Compile the shim. Raises AssertionError, with what the compiler said, if there is none or it fails."""
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler is not None, (
        "no C compiler (gcc or cc) on PATH: power loss cannot be simulated without one; install gcc"
    )
    made = folder / "power_shim.so"
    words = [compiler, "-O2", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", str(made)]
    done = subprocess.run(
        [*words, str(HERE / "power_shim.c"), "-ldl", "-lpthread"], capture_output=True, text=True
    )
    assert done.returncode == 0, f"the shim does not compile:\n{done.stderr}"
    return made


def record(
    shim: Path, base: Path, scenario: str, trace: Path, *, seed: int = 1, mutant: str = "", pages: int = 60
) -> Recorded:
    """Run a workload to its end and return what it did. `base` is made."""
    base = base.resolve()
    disk = base / "disk"
    disk.mkdir(parents=True)
    env = {**os.environ, "LD_PRELOAD": str(shim), "POWER_ROOT": str(disk), "POWER_TRACE": str(trace)}
    env["MUNIMENT_HOME"] = str(base / "home")
    words = [str(HERE / "power_workload.py"), scenario, str(disk), str(seed), mutant, str(pages)]
    done = subprocess.run([sys.executable, *words], env=env, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, ""), f"{scenario}: {done.returncode}\n{done.stderr}"
    return Recorded(scenario, read_trace(trace), base, trace)


def points(entries: list[Entry], count: int, chance: random.Random) -> list[int]:
    """Where to lose power: half anywhere, a quarter right after a promise, a quarter right before a sync.

    Nothing happens before the first entry after the root, so none is lost there.
    """
    kinds = {
        "any": list(range(1, len(entries) + 1)),
        "promise": [at + 1 for at, entry in enumerate(entries) if entry.op == "m"],
        "sync": [at for at, entry in enumerate(entries) if entry.op == "s"],
    }
    chosen = [chance.choice(kinds[("any", "any", "promise", "sync")[turn % 4]]) for turn in range(count)]
    return sorted(chosen)


def campaign(run: Recorded, states: int, seed: str, *, until: str = "") -> Campaign:
    """Lose power `states` times and look each time.

    Args:
        until: end after the first breach that has this text ("": never).
    """
    chosen = Counter(points(run.entries, states, random.Random(f"{run.scenario} {seed}")))
    disk, marks, lost = Disk(), [], []
    looked = open_writes = open_names = 0
    scratch = tempfile.TemporaryDirectory(dir=memory(run.base))
    with scratch as folder:
        where = Path(folder) / "disk"
        for at, entry in enumerate(run.entries, 1):
            disk.play(entry)
            if entry.op == "m":
                marks.append(entry.one)
            for turn in range(chosen[at]):
                name = f"{seed}/{at}/{turn}"
                how = disk.crash(name, where)
                found = breaches(run.scenario, where, promised(marks), run.base)
                shutil.rmtree(where)
                looked += 1
                open_writes += disk.open_writes() > 0
                open_names += disk.open_names() > 0
                if found:
                    lost.append(Lost(at, name, how, found))
                if until and any(until in text for text in found):
                    return Campaign(looked, open_writes, open_names, lost)
    return Campaign(looked, open_writes, open_names, lost)
