"""Timing: cases taken in turn, medians, and ratios made within a run.

1. Run k takes every case once, A B C …, beginning with another one each time: a slow moment of a shared machine hits all.
2. A ratio is computed within a run and its median taken over the runs; never from two medians.
3. Garbage is collected before a timed part, and preparation (making drafts, ids) is never timed.
"""

from __future__ import annotations

import contextlib
import gc
import os
import shutil
import statistics
import tempfile
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

SIZES = (10_000, 100_000)
RUNS = 5


class Options(NamedTuple):
    """How a benchmark is run.

    Attributes:
        sizes: records in the log before the timed part.
        runs: how often each case is taken.
        scale: share of the usual work in a timed part; tests take little.
        folder: where files are made and removed again.
        store: "" for SQLite, or the URL of a PostgreSQL database.
    """

    sizes: tuple[int, ...] = SIZES
    runs: int = RUNS
    scale: float = 1.0
    folder: Path = Path(tempfile.gettempdir())
    store: str = ""

    def work(self, usual: int, least: int = 2) -> int:
        """The usual amount of work, scaled."""
        return max(least, round(usual * self.scale))


class Goal(NamedTuple):
    """`case` is to reach at least (`at_least`) or at most so many times the figure of `against`; `word`: or what it is called."""

    case: str
    against: str
    bound: float
    at_least: bool = True
    word: str = "must be"


class Row(NamedTuple):
    """One line: figures of every run, and their ratios to the base of the table; or why it was not measured."""

    name: str
    figures: list[float]
    ratios: list[float]
    missing: str = ""


class Table(NamedTuple):
    """What a benchmark found. `unit` is `/s` where more is better, else e.g. `ms`."""

    title: str
    unit: str
    base: str
    rows: list[Row]
    goals: list[Goal]
    notes: list[str]

    def row(self, name: str) -> Row:
        """The line of a case."""
        return next(row for row in self.rows if row.name == name)


def interleave(cases: Mapping[str, Callable[[], float]], runs: int) -> dict[str, list[float]]:
    """Take every case once a run, in rotated order; each returns its figure."""
    names = list(cases)
    figures: dict[str, list[float]] = {name: [] for name in names}
    for run in range(runs):
        turn = run % len(names)
        for name in names[turn:] + names[:turn]:
            gc.collect()
            figures[name].append(cases[name]())
    return figures


def table(
    title: str,
    cases: Mapping[str, Callable[[], float]],
    options: Options,
    *,
    base: str,
    unit: str = "/s",
    goals: list[Goal] | None = None,
    notes: list[str] | None = None,
) -> Table:
    """Run the cases and make the table."""
    return tabulate(title, interleave(cases, options.runs), base=base, unit=unit, goals=goals, notes=notes)


def tabulate(
    title: str,
    figures: Mapping[str, list[float]],
    *,
    base: str,
    unit: str = "/s",
    goals: list[Goal] | None = None,
    notes: list[str] | None = None,
    missing: Mapping[str, str] | None = None,
) -> Table:
    """Make the table of figures that were taken in turn; `missing` says why a case has none, which may be the base."""
    rows = [
        Row(name, found, [a / b for a, b in zip(found, figures.get(base, ()), strict=base in figures)])
        for name, found in figures.items()
    ]
    rows += [Row(name, [], [], why) for name, why in (missing or {}).items()]
    return Table(title, unit, base, rows, goals or [], notes or [])


def ratio(found: Table, case: str, against: str) -> float:
    """Median over the runs of case / against."""
    pairs = zip(found.row(case).figures, found.row(against).figures, strict=True)
    return statistics.median(a / b for a, b in pairs)


def verdicts(found: Table) -> list[str]:
    """A line a goal: reached or missed."""
    lines = []
    for goal in found.goals:
        absent = [name for name in (goal.case, goal.against) if not found.row(name).figures]
        if absent:
            lines.append(f"not judged: {goal.case} against {goal.against}: not measured: {', '.join(absent)}")
            continue
        value = ratio(found, goal.case, goal.against)
        reached = value >= goal.bound if goal.at_least else value <= goal.bound
        word = "at least" if goal.at_least else "at most"
        verdict = "reached" if reached else "MISSED"
        lines.append(
            f"{verdict}: {goal.case} = {value:.2f} x {goal.against} ({goal.word} {word} {goal.bound:g} x)"
        )
    return lines


def text(found: Table) -> list[str]:
    """The table as Markdown, which reads well on a terminal too."""
    width = max(len(row.name) for row in found.rows)
    lines = [
        f"{'case':{width}} | median {found.unit} | min | max | x {found.base}: median (min .. max)",
        f"{'-' * width} | ---: | ---: | ---: | ---:",
    ]
    for row in found.rows:
        if row.missing:
            lines.append(f"{row.name:{width}} | not measured: {row.missing} | | |")
            continue
        middle, low, high = statistics.median(row.figures), min(row.figures), max(row.figures)
        share = "-"
        if row.ratios:
            share = f"{statistics.median(row.ratios):.2f} ({min(row.ratios):.2f} .. {max(row.ratios):.2f})"
        lines.append(f"{row.name:{width}} | {figure(middle)} | {figure(low)} | {figure(high)} | {share}")
    return [f"| {line} |" for line in lines]


def figure(value: float) -> str:
    """Three significant digits or whole numbers."""
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"


def rate(count: int, work: Callable[[], object]) -> float:
    """How many a second."""
    start = time.perf_counter()
    work()
    return count / (time.perf_counter() - start)


@contextlib.contextmanager
def workspace(options: Options) -> Iterator[Path]:
    """A private folder that is removed at the end."""
    path = Path(tempfile.mkdtemp(prefix="muniment-bench-", dir=options.folder))
    try:
        yield path
    finally:
        shutil.rmtree(path, ignore_errors=True)


def fdatasync_rate(folder: Path, count: int) -> float:
    """Writes of 4 KiB into a file that has its size already, each followed by fdatasync, per second."""
    path = folder / "fdatasync"
    block = os.urandom(4096)
    descriptor = os.open(path, os.O_CREAT | os.O_RDWR, 0o600)
    try:
        for k in range(count):
            os.pwrite(descriptor, block, k * len(block))
        os.fsync(descriptor)

        def work() -> None:
            for k in range(count):
                os.pwrite(descriptor, block, k * len(block))
                os.fdatasync(descriptor)

        return rate(count, work)
    finally:
        os.close(descriptor)
        path.unlink()
