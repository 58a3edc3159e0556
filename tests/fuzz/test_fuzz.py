"""Fuzzers that are guided by coverage: `MUNIMENT_FUZZ_S=600 pytest -s -m soak tests/fuzz`, each for so many seconds (60).

They need `pip install '.[fuzz]'` and clang; what is missing is a failure, since who runs them asked for them. The last test leaves
a check out of a copy of the sources: a fuzzer that does not find that is no evidence.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import NamedTuple

import pytest

pytestmark = pytest.mark.soak
HERE = Path(__file__).parent
ROOT = HERE.parents[1]
SECONDS = int(os.environ.get("MUNIMENT_FUZZ_S", "60"))
FLAGS = [
    "-std=c11",
    "-g",
    "-O1",
    "-pthread",
    "-fsanitize=fuzzer,address,undefined",
    "-fno-sanitize-recover=undefined",
]


class InC(NamedTuple):
    """A libFuzzer target: the file, the sources of `ring/` it is built with, its longest input and its first ones."""

    source: Path
    parts: tuple[str, ...]
    longest: int
    seeds: tuple[bytes, ...]


TARGETS = {
    "open": InC(
        ROOT / "tests" / "ring" / "core" / "fuzz_open.c",
        ("core", "consume", "snapshot", "layout", "map"),
        9000,
        tuple(bytes([k, 1, 0, 0, 0]) for k in range(8)),
    ),
    "json": InC(
        ROOT / "tests" / "ring_native" / "fuzz_json.c",
        ("json_scan",),
        512,
        (b'{"a":{"b":1.5},"zz":["\\u00e9\xc3\xa9",true,null]}',),
    ),
}
NAMES = ["spec", "journal", *TARGETS]
Fuzz = Callable[..., subprocess.CompletedProcess[str]]


def program(name: str, folder: Path, sources: Path) -> list[str]:
    """What to call, built from these sources; it takes libFuzzer's words."""
    if name not in TARGETS:
        assert find_spec("atheris"), "atheris is missing: pip install '.[fuzz]'"
        return [sys.executable, str(HERE / f"fuzz_{name}.py")]
    clang = shutil.which("clang")
    assert clang, "libFuzzer comes with clang, which is missing: apt install clang libclang-rt-dev"
    target, made = TARGETS[name], folder / "program"
    parts = [sources / "ring" / f"{part}.c" for part in target.parts]
    argv = [
        clang,
        *FLAGS,
        "-DLIBFUZZER",
        f"-I{sources / 'ring'}",
        str(target.source),
        *map(str, parts),
        "-o",
        str(made),
    ]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr[-4000:]
    return [str(made)]


@pytest.fixture
def fuzz(tmp_path: Path) -> Fuzz:
    def run(name: str, seconds: int, sources: Path = ROOT) -> subprocess.CompletedProcess[str]:
        corpus = tmp_path / "corpus"
        corpus.mkdir()
        given = TARGETS.get(name)
        for at, seed in enumerate(given.seeds if given else ()):
            (corpus / f"seed-{at}").write_bytes(seed)
        words = [
            f"-max_total_time={seconds}",
            "-print_final_stats=1",
            f"-artifact_prefix={tmp_path}/",
            "-seed=1",
        ]
        if given:
            words += [f"-max_len={given.longest}", "-timeout=20"]
        environment = dict(os.environ)
        if sources != ROOT:
            environment["PYTHONPATH"] = str(sources / "python")
        return subprocess.run(
            ["nice", "-n", "10", *program(name, tmp_path, sources), str(corpus), *words],
            capture_output=True,
            text=True,
            errors="replace",
            cwd=tmp_path,
            timeout=seconds + 120,
            env=environment,
        )

    return run


@pytest.mark.parametrize("name", NAMES)
def test_nothing_is_found(name: str, fuzz: Fuzz) -> None:
    done = fuzz(name, SECONDS)
    assert done.returncode == 0, done.stderr[-6000:]
    ran = re.search(r"number_of_executed_units: (\d+)", done.stderr)
    covered = [int(edges) for edges in re.findall(r" cov: (\d+)", done.stderr)]
    print(f"{name}: {ran and ran[1]} inputs in {SECONDS} s, coverage {covered[0]} to {covered[-1]}")  # noqa: T201  # the answer of a long run
    assert ran
    assert int(ran[1]) > 40 * SECONDS
    assert covered[-1] > covered[0] > 0, "it did not see where it was going"


LEFT_OUT = {
    "a key given twice": (
        "spec",
        "spec_lines.py",
        "    if first is None:\n",
        "    if first is None or key:\n",
    ),
    "a stage that waits for a later one": (
        "spec",
        "spec_rules.py",
        "    if later:\n",
        "    if later and index > 99:\n",
    ),
    "the CRC of a frame": (
        "journal",
        "journal_format.py",
        "    if crc != found:\n",
        "    if crc != found and at < 0:\n",
    ),
    "a segment without a record keeps its bytes": (
        "journal",
        "journal.py",
        '                os.link(path, self.folder / f"{name}.unused-{now}")\n',
        "",
    ),
    "a ring shorter than it says": ("open", "layout.c", "    if (bytes < p.bytes) return RC_SIZE_BAD;\n", ""),
    "a character cut at the end of a text": ("json", "json_scan.c", " || room < length", ""),
}


@pytest.mark.parametrize("what", LEFT_OUT)
def test_a_check_left_out_is_found(what: str, fuzz: Fuzz, tmp_path: Path) -> None:
    name, path, ours, broken = LEFT_OUT[what]
    sources = tmp_path / "sources"
    shutil.copytree(ROOT / "ring", sources / "ring")
    (package := sources / "python" / "muniment").mkdir(parents=True)
    (package / "__init__.py").write_bytes((ROOT / "_package" / "__init__.py").read_bytes())
    (package / "domain").symlink_to(ROOT / "domain")
    (package / "ring").symlink_to(sources / "ring")
    text = (sources / "ring" / path).read_text()
    assert text.count(ours) == 1, "it reads differently now"
    (sources / "ring" / path).write_text(text.replace(ours, broken))
    done = fuzz(name, max(SECONDS, 60), sources)
    assert done.returncode != 0, "it was not found"
    assert "Test unit written to" in done.stderr, done.stderr[-4000:]
    inputs = re.findall(r"^#(\d+)", done.stderr, re.MULTILINE)
    print(f"{what}: found behind {inputs[-1] if inputs else 0} inputs")  # noqa: T201  # the answer of a long run
