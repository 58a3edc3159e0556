"""The C test programs, built once a session under the address and undefined behaviour sanitizers; the pipeline also for threads."""

from __future__ import annotations

import fcntl
import shutil
import struct
import subprocess
import termios
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import pytest

HERE = Path(__file__).parent
RING = HERE.parents[1] / "ring"
WARNINGS = ["-Wall", "-Wextra", "-Wpedantic", "-Wshadow", "-Wconversion", "-Werror"]
MEMORY = "address,undefined"


def parts() -> list[Path]:
    """The engine without Python."""
    return sorted(path for path in RING.glob("*.c") if not path.name.startswith("module"))


@pytest.fixture(scope="session")
def build(tmp_path_factory: pytest.TempPathFactory) -> Callable[[str, str], Path]:
    """`build("units", "address,undefined")`: the program, compiled once."""
    folder = tmp_path_factory.mktemp("ring-native")
    compiler = shutil.which("gcc") or shutil.which("cc")
    assert compiler, (
        "no C compiler (gcc or cc) on PATH: the ring's C code cannot be tried without one; install gcc"
    )

    def built(name: str, sanitizer: str) -> Path:
        program = folder / f"{name}-{sanitizer.replace(',', '-')}"
        if not program.exists():
            flags = [
                "-std=c11",
                "-O1",
                "-g",
                "-pthread",
                f"-fsanitize={sanitizer}",
                "-fno-sanitize-recover=all",
                *WARNINGS,
            ]
            if sanitizer == "thread":
                flags.append(
                    "-Wno-tsan"
                )  # it does not see fences; those are for parking and broadcast, which no thread run here uses
            argv = [compiler, *flags, "-I", RING, HERE / f"{name}.c", *parts(), "-o", program]
            done = subprocess.run(argv, capture_output=True, text=True)
            assert (done.returncode, done.stderr) == (0, "")
        return program

    return built


@pytest.fixture(scope="session")
def scan(build: Callable[[str, str], Path]) -> Callable[..., list[str]]:
    """`scan("match", path, value, texts=…)`: what the program prints, one line a text."""

    def run(*argv: str, texts: Iterable[bytes]) -> list[str]:
        framed = b"".join(struct.pack("<I", len(text)) + text for text in texts)
        done = subprocess.run([build("scan", MEMORY), *argv], input=framed, capture_output=True)
        assert (done.returncode, done.stderr) == (0, b"")
        return done.stdout.decode().splitlines()

    return run


@dataclass(frozen=True)
class Ran:
    """What a pipeline said: `feed`, `stage0`… and `stop`, each name=value; and the messages that reached its `collect`."""

    said: dict[str, dict[str, str]]
    collected: list[bytes]

    def of(self, who: str, *names: str) -> tuple[int, ...]:
        return tuple(int(self.said[who][name]) for name in names)


@pytest.fixture(scope="session")
def pipeline(
    build: Callable[[str, str], Path], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., Ran]:
    """`pipeline(data, *stages, …)`: the bytes, a path, or pieces of a pipe with the seconds to wait before each."""
    folder = tmp_path_factory.mktemp("pipeline")

    def run(
        data: bytes | Path | list[tuple[float, bytes]],
        *stages: str,
        capacity: int = 64,
        slot: int = 64,
        flags: str = "-",
        wait: int = 2,
        slice_us: int = 20_000,
        buffer: int = 0,
        sanitizer: str = MEMORY,
    ) -> Ran:
        collected = folder / "collected"
        given = "-" if isinstance(data, list) else data if isinstance(data, Path) else folder / "input"
        if isinstance(data, bytes):
            (folder / "input").write_bytes(data)
        program = build("pipeline", sanitizer)
        argv = [
            program,
            *map(str, (capacity, slot, flags, wait, slice_us, buffer, given, collected)),
            *stages,
        ]
        with subprocess.Popen(
            argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        ) as process:
            assert process.stdin is not None
            for pause, piece in data if isinstance(data, list) else ():
                while pause and unread(process.stdin) and process.poll() is None:
                    time.sleep(0.001)  # a pause begins when the program has read what was before it
                time.sleep(pause)
                process.stdin.write(piece)
                process.stdin.flush()
            out, err = process.communicate(timeout=120)
        assert (process.returncode, err) == (0, b"")
        rows = [line.split() for line in out.decode().splitlines()]
        return Ran(
            {who: dict(pair.split("=") for pair in pairs) for who, *pairs in rows},
            unframed(collected.read_bytes()),
        )

    return run


def unread(pipe: IO[bytes]) -> int:
    """Bytes in a pipe that its reader has not taken."""
    return int(struct.unpack("i", fcntl.ioctl(pipe, termios.FIONREAD, bytes(4)))[0])


def unframed(data: bytes) -> list[bytes]:
    found, at = [], 0
    while at < len(data):
        (length,) = struct.unpack_from("<I", data, at)
        found.append(data[at + 4 : at + 4 + length])
        at += 4 + length
    return found
