"""The ring's core without Python: formats, openings, refusals, plain and under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import re
import shutil
import subprocess

import pytest
from core_programs import CORE, SOURCES, Programs

SEEDS = (1, 2)


@pytest.mark.parametrize("kind", ["memory", "plain"])
def test_unit(core_programs: Programs, kind: str):
    core_programs.passes(core_programs.build("unit", kind))


def test_every_unit_test_is_in_the_list(core_programs: Programs):
    listed = core_programs.passes(core_programs.build("unit", "plain"), "--list").split()
    assert re.findall(r"^static void (\w+)\(void\) \{", (CORE / "unit.c").read_text(), re.MULTILINE) == listed


def test_a_test_that_is_not_there_is_a_failure(core_programs: Programs):
    assert core_programs.run(core_programs.build("unit", "plain"), "no_such_test").returncode == 1


@pytest.mark.parametrize("seed", SEEDS)
def test_changed_images_are_refused_or_survived(core_programs: Programs, seed: int):
    """Deterministic mutations of valid images; libFuzzer takes the same target further (below)."""
    said = core_programs.passes(
        core_programs.build("fuzz_open", "memory", "-DRC_OWN_DRIVER"), "4000", str(seed)
    )
    assert "4000 runs" in said


@pytest.mark.soak
def test_libfuzzer(core_programs: Programs, tmp_path):
    clang = shutil.which("clang")
    if clang is None:
        pytest.skip("libFuzzer comes with clang, which is not installed (apt install clang)")
    program = tmp_path / "fuzz"
    options = [
        "-std=c11",
        "-g",
        "-O1",
        "-fsanitize=fuzzer,address,undefined",
        "-fno-sanitize-recover=undefined",
        f"-I{SOURCES[0].parent}",
    ]
    subprocess.run(
        [clang, *options, str(CORE / "fuzz_open.c"), *map(str, SOURCES), "-o", str(program)], check=True
    )
    (corpus := tmp_path / "corpus").mkdir()
    for k in range(8):
        (corpus / str(k)).write_bytes(bytes([k, 1, 0, 0, 0]))
    done = subprocess.run(
        [str(program), "-max_total_time=30", "-max_len=9000", "-print_final_stats=1", str(corpus)],
        capture_output=True,
        text=True,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stderr[-4000:]
    assert int(re.search(r"number_of_executed_units: (\d+)", done.stderr)[1]) > 10_000
