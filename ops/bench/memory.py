"""Peak memory of fold, rebuild and verify, each in a process of its own, over logs of growing size.

Two stories: in `fleet` builds, packs and releases grow with the log, and of each its id at least stays in memory; in `steady` the
same few are told again, so nothing may grow. The peak is VmHWM of the process (ru_maxrss would begin with the parent's).
"""

from __future__ import annotations

import contextlib
import subprocess
import sys
from pathlib import Path

from muniment.ops.bench import data, grounds
from muniment.ops.bench.harness import SIZES, Options, Table, tabulate
from muniment.store.open import open_log

STEADY_CYCLES = 200
LIMIT_MB = 300
FLAT = 1.25  # largest over smallest
WORK = ("start", "fold", "rebuild", "verify")


def run(options: Options) -> list[Table]:
    """One table; a column a size would be wide, so a row each."""
    sizes = (*SIZES, 300_000) if options.sizes == SIZES else options.sizes
    figures: dict[str, list[float]] = {}
    for story, cycles in (("fleet", 0), ("steady", STEADY_CYCLES)):
        for size in sizes:
            with grounds.ground(options) as ground:
                with contextlib.closing(ground.log("log")) as log:
                    data.fill(log, size, cycles=cycles)
                for work in WORK[0 if not figures else 1 :]:
                    name = work if work == "start" else f"{work}, {story}, {size:,}"
                    figures[name] = [
                        peak(work, ground.url("log"), ground.folder) for _ in range(min(options.runs, 2))
                    ]
    notes = [
        _verdict(
            f"flat, {work} of steady",
            figures[_name(work, sizes[-1])][0] / figures[_name(work, sizes[0])][0],
            FLAT,
        )
        for work in WORK[1:]
    ]
    notes.append(_verdict("largest peak in MB", max(max(f) for f in figures.values()), LIMIT_MB))
    return [tabulate("memory", figures, base="start", unit="MB", notes=notes)]


def _name(work: str, size: int) -> str:
    return f"{work}, steady, {size:,}"


def _verdict(what: str, value: float, most: float) -> str:
    return f"{'reached' if value <= most else 'MISSED'}: {what} = {value:.3g} (must be at most {most:g})"


def peak(work: str, url: str, folder: Path) -> float:
    """Peak resident megabytes of a process that does the work on a log."""
    done = subprocess.run(
        [sys.executable, "-m", "muniment.ops.bench.memory", work, url, str(folder)],
        capture_output=True,
        text=True,
        check=True,
    )
    return float(done.stdout)


def child(work: str, url: str, folder: Path) -> float:
    """Do the work here and return the peak."""
    from muniment.app import rebuilding
    from muniment.ops.bench import fold, verify

    with contextlib.closing(open_log(url, read_only=True)) as log:
        size = log.last_match(())
        if work == "fold":
            fold.fold_all(log, size)
        elif work == "rebuild":
            assert rebuilding.rebuild(log, folder / "rebuilt")["as_of"] == size
        elif work == "verify":
            verify.verify(log, folder / "home", size)
    for line in Path("/proc/self/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmHWM:"):
            return int(line.split()[1]) / 1024
    raise OSError("this system does not tell a peak")


if __name__ == "__main__":
    print(child(sys.argv[1], sys.argv[2], Path(sys.argv[3])))
