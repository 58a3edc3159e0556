"""`python -m muniment.ops.bench NAME [--records N]… [--runs K] [--write]`: run a benchmark and print its tables."""

from __future__ import annotations

import argparse
import importlib
import sys
import tempfile
from pathlib import Path

from muniment.ops.bench.harness import RUNS, SIZES, Options, Table

NAMES = (
    "bulk",
    "callers",
    "decision",
    "disk",
    "fold",
    "growth",
    "load",
    "memory",
    "reading",
    "ring_log",
    "ring_native",
    "ring_python",
    "ring_snapshot",
    "ring_waits",
    "startup",
    "verify",
)


def run(name: str, options: Options) -> list[Table]:
    """Run one benchmark."""
    found: list[Table] = importlib.import_module(f"muniment.ops.bench.{name}").run(options)
    return found


def main(argv: list[str] | None = None) -> int:
    """The command."""
    parser = argparse.ArgumentParser(prog="python -m muniment.ops.bench", description=__doc__)
    parser.add_argument("name", choices=(*NAMES, "all"))
    parser.add_argument("--records", type=int, action="append", help="records in the log; may be repeated")
    parser.add_argument("--runs", type=int, default=RUNS, help="how often each case is taken")
    parser.add_argument("--scale", type=float, default=1.0, help="share of the usual work in a timed part")
    parser.add_argument(
        "--folder", type=Path, default=Path(tempfile.gettempdir()), help="where files are made"
    )
    parser.add_argument(
        "--store", default="", help="postgresql://… of a database to make schemas in; SQLite if not given"
    )
    parser.add_argument("--write", action="store_true", help="put the tables into RESULTS.md")
    asked = parser.parse_args(argv)
    options = Options(tuple(asked.records or SIZES), asked.runs, asked.scale, asked.folder, asked.store)
    from muniment.ops.bench import report

    for name in NAMES if asked.name == "all" else (asked.name,):
        label = f"{name}-postgresql" if options.store else name
        made = report.section(label, run(name, options), options)
        print(made, flush=True)
        if asked.write:
            report.write(label, made)
    return 0


if __name__ == "__main__":
    sys.exit(main())
