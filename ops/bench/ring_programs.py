"""The programs of the ring's benchmarks, compiled where they run: ours of C, the peers' of C++ and Java.

Their sources lie in `ring/`. The core is compiled from the checkout, since wheels hold no C. Whatever is not here (compiler, JDK,
a peer's package, the core's sources) is `Missing` with its reason, and a row says so; a program of ours that fails is an error.
"""

from __future__ import annotations

import contextlib
import importlib.util
import os
import re
import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import IO

from muniment.ops.bench import harness
from muniment.ops.bench.harness import Goal, Options, Table, interleave, tabulate

SOURCES = Path(__file__).with_name("ring")
JARS = Path("/usr/share/java")
DISRUPTOR = JARS / "disruptor.jar"
NATIVE = ("-march=native",)
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow")
PATIENCE = 600  # seconds a program may take

Reading = dict[str, float]
Program = Callable[..., Reading]


class Missing(Exception):  # noqa: N818 - a state, not a mistake
    """A case cannot be measured here; the text says why."""


class Cases:
    """Cases of a table: those that can be taken, and why the others cannot."""

    def __init__(self) -> None:
        self.found: dict[str, Callable[[], float]] = {}
        self.missing: dict[str, str] = {}

    def add(self, name: str, make: Callable[[], Callable[[], float]]) -> None:
        """A case, unless making it says that something is missing."""
        try:
            self.found[name] = make()
        except Missing as why:
            self.missing[name] = str(why)

    def table(
        self, title: str, options: Options, *, base: str, unit: str, goals: list[Goal], notes: list[str]
    ) -> Table:
        """Take them in turn."""
        figures = interleave(self.found, options.runs) if self.found else {}
        return tabulate(title, figures, base=base, unit=unit, goals=goals, notes=notes, missing=self.missing)


class Workshop:
    """Where programs are compiled, once each, and run."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._made: dict[str, Path] = {}
        self._stack = contextlib.ExitStack()

    def close(self) -> None:
        """End what still runs."""
        self._stack.close()

    def ours(self, name: str, *, separate: bool = False, native: bool = False) -> Program:
        """A program of ours, built as the extension is: for any machine of its kind.

        Args:
            separate: the core is linked instead of included, so that only what stands in its header inlines.
            native: for this machine. Not for the ring: gcc then gathers what a loop reads of 8 slots at once, half as fast.
        """
        label = f"{name}-separate" if separate else name
        if label not in self._made:
            core = core_sources()
            units = [core / f"{unit}.c" for unit in ("core", "consume", "layout", "map")] if separate else []
            flags = [
                "-std=c11",
                *WARNINGS,
                "-Wconversion",
                f"-I{core}",
                *(["-DSEPARATE"] if separate else []),
                *(NATIVE if native else ()),
            ]
            self._compile("CC", "gcc", label, [*flags, str(SOURCES / f"{name}.c"), *map(str, units)])
        return self._runner(label)

    def peer(self, queue: str) -> Program:
        """A queue of others in C++, tried once; built for any machine and for this one, and the faster of the two counts.

        With AVX-512 a queue is up to 1.5 x as fast with wide messages and up to 1.2 x slower with narrow ones.
        """
        for label, flags in (("peers", ()), ("peers-native", NATIVE)):
            if label not in self._made:
                argv = ["-std=c++17", *flags, *WARNINGS, str(SOURCES / "peers.cpp")]
                try:
                    self._compile("CXX", "g++", label, argv)
                except subprocess.CalledProcessError as error:
                    raise Missing(f"the peers do not compile: {first_line(error.stderr)}") from error
        builds = [self._runner(label) for label in ("peers", "peers-native")]
        for run in builds:
            run(queue=queue, count=1)
        return lambda **given: max(
            (run(queue=queue, **given) for run in builds), key=lambda seen: seen["rate"]
        )

    def lmax(self, count: int, *, pinned: bool, **given: object) -> Callable[[], float]:
        """The Disruptor, warm: a process that stays, asleep between its readings."""
        java, javac = shutil.which("java"), shutil.which("javac")
        if not java or not javac:
            raise Missing("no java or javac (a JDK)")
        if not DISRUPTOR.exists():
            raise Missing(f"{DISRUPTOR} is missing (libdisruptor-java)")
        if "Lmax" not in self._made:
            made = self._folder / "java"
            argv = [javac, "-nowarn", "-cp", str(DISRUPTOR), "-d", str(made), str(SOURCES / "Lmax.java")]
            done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=PATIENCE)
            if done.returncode:
                raise Missing(f"javac refuses: {first_line(done.stderr)}")
            self._made["Lmax"] = made
        argv = [java, "-cp", f"{self._made['Lmax']}:{DISRUPTOR}", "Lmax", *words(given)]
        process = self._stack.enter_context(
            subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        )
        self._stack.callback(process.kill)
        assert process.stdin
        assert process.stdout
        asked, told = process.stdin, process.stdout

        def take() -> float:
            return _ask(asked, told, count)

        take()
        if pinned:
            _pin(process.pid)
        for _ in range(2):
            take()  # its own tests call the first runs warm-up
        return take

    def _compile(self, variable: str, usual: str, label: str, argv: list[str]) -> None:
        """Compile a program."""
        compiler = shutil.which(os.environ.get(variable) or usual)
        if not compiler:
            raise Missing(f"no compiler {os.environ.get(variable) or usual}")
        made = self._folder / label
        subprocess.run(
            [compiler, "-O3", "-pthread", f"-I{SOURCES}", *argv, "-o", str(made)],
            check=True,
            capture_output=True,
            text=True,
            timeout=PATIENCE,
        )
        self._made[label] = made

    def _runner(self, label: str) -> Program:
        program = str(self._made[label])

        def run(**given: object) -> Reading:
            done = subprocess.run(
                [program, *words(given)], check=False, capture_output=True, text=True, timeout=PATIENCE
            )
            if done.returncode == 3:  # peers.cpp says so
                raise Missing(done.stderr.strip())
            if done.returncode:
                raise RuntimeError(
                    f"{label} {' '.join(words(given))}: {done.returncode}: {done.stderr.strip()}"
                )
            pairs = (
                line.split(" ", 1) for line in done.stdout.splitlines() if not line.startswith("version")
            )
            return {name: float(value) for name, value in pairs}

        return run


@contextlib.contextmanager
def workshop(options: Options) -> Iterator[Workshop]:
    """A workshop in a private folder, gone at the end with everything that ran in it."""
    with harness.workspace(options) as folder, contextlib.closing(Workshop(folder)) as made:
        yield made


def core_sources() -> Path:
    """The folder of core.c: of the package, or of the checkout in which this is run."""
    found = importlib.util.find_spec("muniment.ring")
    for place in [*((found.submodule_search_locations or []) if found else []), "ring"]:
        if (Path(place) / "core.c").is_file():
            return Path(place).absolute()
    raise Missing("the ring's C sources are not in wheels; run it from a checkout")


def two_cores() -> str:
    """Two processors of two cores, for a pair of threads; "-1,-1" where there is but one."""
    allowed = sorted(os.sched_getaffinity(0))
    siblings = Path(f"/sys/devices/system/cpu/cpu{allowed[0]}/topology/thread_siblings_list")
    try:
        same = {int(number) for number in re.findall(r"\d+", siblings.read_text(encoding="ascii"))}
    except OSError:
        same = {allowed[0]}
    others = [cpu for cpu in allowed[1:] if cpu not in same] or allowed[1:]
    return f"{allowed[0]},{others[0]}" if others else "-1,-1"


def words(given: dict[str, object]) -> list[str]:
    """Arguments `name=value`."""
    return [f"{name}={value}" for name, value in given.items()]


def first_line(said: str) -> str:
    """The first line that names an error."""
    lines = said.strip().splitlines() or ["no words"]
    return next((line for line in lines if "error" in line), lines[0])[:200]


def versions() -> str:
    """What the programs were made with."""
    tools = [("gcc", "-dumpfullversion"), ("java", "-version")]
    found = []
    for tool, option in tools:
        if shutil.which(tool):
            done = subprocess.run([tool, option], check=False, capture_output=True, text=True, timeout=60)
            found.append(f"{tool} {first_line(done.stdout or done.stderr)}")
    for package in ("libdisruptor-java", "libboost-dev", "libreaderwriterqueue-dev", "libatomic-queue-dev"):
        if shutil.which("dpkg-query"):
            argv = ["dpkg-query", "-W", "-f=${Version}", package]
            done = subprocess.run(argv, check=False, capture_output=True, text=True, timeout=60)
            found.append(f"{package} {done.stdout.strip() or 'absent'}")
    return ", ".join(found)


def _ask(asked: IO[str], told: IO[str], count: int) -> float:
    asked.write(f"{count}\n")
    asked.flush()
    name, _, value = told.readline().partition(" ")
    if name != "rate":
        raise RuntimeError(f"the Disruptor's process answered {name!r}; its words stand above")
    return float(value)


def _pin(process: int) -> None:
    """Its producer and consumer to the processors that ours use."""
    first, second = map(int, two_cores().split(","))
    if first < 0:
        return
    for task in Path(f"/proc/{process}/task").iterdir():
        name = (task / "comm").read_text(encoding="utf-8").strip()
        if name in {"producer0", "consumer0"}:
            os.sched_setaffinity(int(task.name), {first if name == "producer0" else second})
