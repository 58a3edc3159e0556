"""RESULTS.md: one section a benchmark, replaced as a whole, with the machine, versions and commit it was made on."""

from __future__ import annotations

import os
import platform
import sqlite3
import subprocess
from importlib import metadata
from pathlib import Path

from muniment.ops.bench.harness import Options, Table, text, verdicts

RESULTS = Path(__file__).with_name("RESULTS.md")
HEADER = """# Benchmark results

Made by `python -m muniment.ops.bench NAME --write`; a section is replaced as a whole. Read the ratios: cases were taken in
turn within one process, on a shared machine, and absolute figures hold for that machine and hour only. Rates are
per second, medians of the runs; a ratio is the median of the ratios within each run.
"""


def section(name: str, tables: list[Table], options: Options) -> str:
    """The section of a benchmark, between its two marks."""
    lines = [_begin(name), f"## {name}", "", conditions(options), ""]
    for found in tables:
        lines += [f"### {found.title}", "", *text(found), ""]
        lines += [f"- {line}" for line in (*verdicts(found), *found.notes)]
        if lines[-1]:
            lines.append("")
    return "\n".join([*lines, _end(name), ""])


def write(name: str, made: str, path: Path = RESULTS) -> None:
    """Put a section in its place in the file; sections are in alphabetical order."""
    old = path.read_text(encoding="utf-8") if path.exists() else ""
    sections = _sections(old)
    sections[name] = made
    body = "\n".join(sections[key] for key in sorted(sections))
    path.write_text(f"{HEADER}\n{body}", encoding="utf-8")


def _sections(old: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for part in old.split("<!-- begin ")[1:]:
        name = part.split(" -->", 1)[0]
        found[name] = "<!-- begin " + part.split(_end(name), 1)[0] + _end(name) + "\n"
    return found


def _begin(name: str) -> str:
    return f"<!-- begin {name} -->"


def _end(name: str) -> str:
    return f"<!-- end {name} -->"


def conditions(options: Options) -> str:
    """Machine, versions, commit, and how the figures were taken."""
    load = os.getloadavg()[0]
    return (
        f"Machine: {os.cpu_count()} shared cores, {_cpu()}, {platform.system()} {platform.release()},"
        f" file system {_file_system(options.folder)}; load {load:.1f} at the end. "
        f"Versions: Python {platform.python_version()}, SQLite {sqlite3.sqlite_version}, "
        + ", ".join(f"{name} {metadata.version(name)}" for name in ("eventsourcing", "msgspec", "pydantic"))
        + f". Commit: {_commit()}. Runs: {options.runs}, interleaved, {options.scale:g} of the usual work each; page cache hot."
    )


def _cpu() -> str:
    try:
        for line in Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    except OSError:
        pass
    return platform.machine()


def _file_system(folder: Path) -> str:
    best, kind = "", "unknown"
    try:
        mounts = Path("/proc/self/mounts").read_text(encoding="utf-8").splitlines()
    except OSError:
        return kind
    for line in mounts:
        place, type_ = line.split()[1:3]
        if folder.absolute().is_relative_to(place) and len(place) >= len(best):
            best, kind = place, type_
    return kind


def _commit() -> str:
    root = Path(__file__).resolve().parents[2]
    try:
        head = subprocess.run(
            ["git", "rev-parse", "--short", "HEAD"], cwd=root, capture_output=True, text=True, check=True
        ).stdout.strip()
        dirty = subprocess.run(
            ["git", "status", "--porcelain", "--untracked-files=no"],
            cwd=root,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return head + (" with uncommitted changes" if dirty else "")
