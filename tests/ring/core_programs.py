"""The pure-C programs of `tests/ring/core`, built once a session for each way to build them.

A missing compiler or sanitizer is an error.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from dataclasses import dataclass, field
from pathlib import Path

HERE = Path(__file__).parent
CORE = HERE / "core"
RING = HERE.parent.parent / "ring"
SOURCES = tuple(RING / f"{name}.c" for name in ("core", "consume", "snapshot", "layout", "map"))
WARNINGS = ("-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror")

SANITIZERS = {
    "plain": ("-O3",),
    # gcc says that it does not model fences; no data of ours depends on one alone (words of a broadcast are atomic)
    "thread": ("-O1", "-g", "-fsanitize=thread", "-Wno-tsan"),
    "memory": (
        "-O1",
        "-g",
        "-fno-omit-frame-pointer",
        "-fsanitize=address,undefined",
        "-fno-sanitize-recover=undefined",
    ),
}


@dataclass
class Programs:
    """Builds into `folder` and runs; `flags` of a build are a part of its name."""

    folder: Path
    built: dict[tuple[str, ...], Path] = field(default_factory=dict)

    def build(self, name: str, kind: str, *flags: str) -> Path:
        """The program; the compiler's words if it cannot be made."""
        key = (name, kind, *flags)
        if key not in self.built:
            compiler = os.environ.get("CC", "cc")
            if not shutil.which(compiler):
                raise RuntimeError(
                    f"no C compiler {compiler!r}: the ring's core cannot be tested (apt install gcc)"
                )
            place = self.folder / f"{name}-{len(self.built)}"
            options = [
                "-std=c11",
                *WARNINGS,
                *(o for o in SANITIZERS[kind] if compiler != "clang" or "tsan" not in o),
            ]
            argv = [
                compiler,
                *options,
                "-pthread",
                f"-I{RING}",
                *flags,
                str(CORE / f"{name}.c"),
                *map(str, SOURCES),
                "-o",
                str(place),
            ]
            done = subprocess.run(argv, capture_output=True, text=True, check=False, timeout=300)
            if done.returncode:
                raise RuntimeError(f"{' '.join(argv)}\n{done.stderr[-4000:]}")
            self.built[key] = place
        return self.built[key]

    def run(self, program: Path, *words: str, timeout: float = 300) -> subprocess.CompletedProcess[str]:
        """Run it; with addresses as the sanitizers want them where the kernel spreads them too far for them."""
        environment = os.environ | {
            "TSAN_OPTIONS": "halt_on_error=1 exitcode=66",
            "ASAN_OPTIONS": "exitcode=67 detect_leaks=1",
            "UBSAN_OPTIONS": "print_stacktrace=1 exitcode=68",
        }

        def once(*prefix: str) -> subprocess.CompletedProcess[str]:
            argv = [*prefix, str(program), *words]
            return subprocess.run(
                argv, capture_output=True, text=True, check=False, timeout=timeout, env=environment
            )

        done = once()
        if "unexpected memory mapping" in done.stderr:
            done = once("setarch", "-R")
        return done

    def passes(self, program: Path, *words: str, timeout: float = 300) -> str:
        """Its output; an assertion with everything it said where it failed."""
        done = self.run(program, *words, timeout=timeout)
        assert done.returncode == 0, (
            f"{program.name} {' '.join(words)}: exit {done.returncode}\n{done.stdout}\n{done.stderr[-6000:]}"
        )
        assert not done.stderr, done.stderr[-6000:]
        return done.stdout
