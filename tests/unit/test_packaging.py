"""The build of the extension: what a stranger reads where it cannot be built, and that every C file takes part."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
NO_HEADERS = """
import distutils.sysconfig, sys
distutils.sysconfig.get_python_inc = lambda plat_specific=False, prefix=None: "/nonexistent/include"
"""
ELSEWHERE = """
import setuptools.command.build_ext, sys
sys.platform = "darwin"
"""


def build(folder: Path, before: str = "", **environment: str) -> subprocess.CompletedProcess[str]:
    """Build the extension in `folder`, after the Python lines `before`."""
    program = f"""
import setuptools
{before}
import runpy, sys
sys.argv = ["setup.py", "-q", "build_ext", "--build-lib", {str(folder / "lib")!r}, "--build-temp", {str(folder / "temp")!r}]
runpy.run_path("setup.py", run_name="__main__")
"""
    return subprocess.run(
        [sys.executable, "-W", "ignore", "-c", program],
        cwd=folder / "source",
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
        timeout=300,
        stdin=subprocess.DEVNULL,
    )


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    source = tmp_path / "source"
    source.mkdir()
    for name in ("setup.py", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, source)
    for name in ("_package", "ring"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
    text = (source / "pyproject.toml").read_text()
    others = (
        r'^(    "muniment\.(?!ring).*",|"muniment\.(?!ring).*" = .*)\n'  # packages whose folders are not here
    )
    (source / "pyproject.toml").write_text(re.sub(others, "", text, flags=re.MULTILINE))
    return tmp_path


def refused(done: subprocess.CompletedProcess[str], *words: str) -> None:
    assert done.returncode == 1
    assert "Traceback" not in done.stderr
    assert "muniment cannot be built here" in done.stderr
    for word in words:
        assert word in done.stderr


def test_it_builds_one_file_for_the_stable_abi(folder: Path) -> None:
    done = build(folder)
    assert done.returncode == 0, done.stderr
    assert "warning:" not in done.stderr, "the engine compiles without a warning"
    assert [file.name for file in (folder / "lib").rglob("*.so")] == ["_ring.abi3.so"]


def test_no_compiler_is_said(folder: Path) -> None:
    done = build(folder, CC="/nonexistent/cc")
    refused(done, "the C compiler is missing", "/nonexistent/cc", "apt install gcc", "dnf install gcc")


def test_a_compiler_that_does_not_work_is_said(folder: Path) -> None:
    broken = folder / "broken-cc"
    broken.write_text("#!/bin/sh\necho stdatomic.h: no such file >&2\nexit 1\n")
    broken.chmod(0o755)
    refused(build(folder, CC=str(broken)), "does not work", "stdatomic.h: no such file", "libc6-dev")


def test_missing_headers_of_python_are_said(folder: Path) -> None:
    refused(build(folder, NO_HEADERS), "(Python.h) are missing", "python3-dev", "python3-devel")


def test_another_system_is_refused_before_anything_is_compiled(folder: Path) -> None:
    done = build(folder, ELSEWHERE, CC="/nonexistent/cc")
    refused(done, "it runs on Linux only", "Linux machine or container")
    assert "apt install" not in done.stderr


def test_c_that_does_not_compile_is_said(folder: Path) -> None:
    with (folder / "source" / "ring" / "module.c").open("a") as file:
        file.write("this is no C\n")
    refused(build(folder), "the compiler refused our C code")


def test_every_c_file_is_part_of_the_one_unit() -> None:
    """module.c includes all of them: a file left out would be code that nobody runs, or a header missing from the sdist."""
    seen: set[str] = set()
    waiting = ["module.c"]
    while waiting:
        name = waiting.pop()
        if name not in seen:
            seen.add(name)
            text = (ROOT / "ring" / name).read_text(encoding="utf-8")
            waiting += re.findall(r'^#include "([\w.]+)"', text, re.MULTILINE)
    assert seen == {file.name for file in (ROOT / "ring").glob("*.[ch]")}
