"""The ring's core without Python: formats, openings, refusals, plain and under AddressSanitizer and UndefinedBehaviorSanitizer."""

from __future__ import annotations

import re

import pytest
from core_programs import CORE, Programs

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
    """Deterministic mutations of valid images; libFuzzer takes the same target further (`tests/fuzz`)."""
    said = core_programs.passes(
        core_programs.build("fuzz_open", "memory", "-DRC_OWN_DRIVER"), "4000", str(seed)
    )
    assert "4000 runs" in said
