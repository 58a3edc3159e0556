"""Start-up: whole processes, from nothing to their end, against a Python that imports click."""

from __future__ import annotations

import contextlib
import os
import subprocess
import sys
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from muniment.ops.bench import data
from muniment.ops.bench.harness import Goal, Options, Table, table, workspace
from muniment.store.open import create_log

SMALL = 500  # records
FLOOR, HELP, SHOW = "python -c 'import click'", "muniment --help", "muniment channel show"
MAIN = "import sys; from muniment.cli.main import main; main()"


def run(options: Options) -> list[Table]:
    """One table."""
    with workspace(options) as folder:
        with contextlib.closing(create_log(folder / "store")) as log:
            data.fill(log, SMALL)
        env = {
            **os.environ,
            "MUNIMENT_HOME": str(folder / "home"),
            "MUNIMENT_STORE": str(folder / "store"),
            "NO_COLOR": "1",
        }
        python = sys.executable
        times = options.work(4, 1)
        return [
            table(
                "startup",
                {
                    FLOOR: lambda: seconds([python, "-c", "import click"], env, times),
                    HELP: lambda: seconds([python, "-c", MAIN, "--help"], env, times),
                    SHOW: lambda: seconds(
                        [python, "-c", MAIN, "channel", "show", data.CHANNELS[1]], env, times
                    ),
                    "python -c pass": lambda: seconds([python, "-c", "pass"], env, times),
                },
                options,
                base=FLOOR,
                unit="ms",
                goals=[Goal(HELP, FLOOR, 2, at_least=False), Goal(SHOW, FLOOR, 5, at_least=False)],
                notes=[
                    f"A figure is the mean of {times} processes one after the other; store of {SMALL} records."
                ],
            )
        ]


def seconds(argv: Sequence[str], env: Mapping[str, str], times: int) -> float:
    """Mean milliseconds of a process that must end well."""
    start = time.perf_counter()
    for _ in range(times):
        subprocess.run(
            argv, env=env, check=True, stdout=subprocess.DEVNULL, cwd=Path(env["MUNIMENT_HOME"]).parent
        )
    return (time.perf_counter() - start) / times * 1000
