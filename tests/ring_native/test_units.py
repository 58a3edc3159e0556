"""Cases of stages and feeder in C, without threads: batches, refusals, errors, deadlines."""

from __future__ import annotations

import re
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

NAMES = re.findall(
    r"^static void (\w+)\(void\) \{", (Path(__file__).parent / "units.c").read_text(), re.MULTILINE
)


@pytest.mark.parametrize("name", NAMES)
def test_it_holds(name: str, build: Callable[[str, str], Path]) -> None:
    done = subprocess.run(
        [build("units", "address,undefined"), name], capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_every_case_is_listed(build: Callable[[str, str], Path]) -> None:
    done = subprocess.run([build("units", "address,undefined")], capture_output=True, text=True)
    assert sorted(done.stdout.split()) == sorted(NAMES)


@pytest.mark.parametrize("seed", range(4))
def test_the_scanner_survives_mutated_texts(seed: int, build: Callable[[str, str], Path]) -> None:
    """The fuzz target with its own driver; with clang it is a libFuzzer target as it stands."""
    done = subprocess.run(
        [build("fuzz_json", "address,undefined"), str(seed), "100000"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert (done.returncode, done.stderr) == (0, "")
