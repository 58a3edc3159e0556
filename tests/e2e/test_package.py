"""What a stranger gets: the wheel, the two commands of the README, the links between the documents.

CI hands over the wheel it built (MUNIMENT_WHEEL); otherwise one is built here, which needs setuptools from the index.
"""

import importlib.util
import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from importlib import metadata, resources
from pathlib import Path
from types import ModuleType

import pytest

ROOT = Path(__file__).parents[2]
SOURCES = (
    "_package",
    "app",
    "cli",
    "domain",
    "ops",
    "projections",
    "ring",
    "store",
    "pyproject.toml",
    "setup.py",
    "MANIFEST.in",
    "README.md",
    "LICENSE",
)

DOCUMENTS = sorted(
    [file.name for file in ROOT.glob("*.md")]
    + [str(file.relative_to(ROOT)) for top in ("ops", "schemas") for file in (ROOT / top).rglob("*.md")]
)


def tool(name: str) -> ModuleType:
    spec = importlib.util.spec_from_file_location(f"ci_{name}", ROOT / ".ci" / f"{name}.py")
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


check_wheel, readme_block = tool("check_wheel"), tool("readme_block")


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if given := os.environ.get("MUNIMENT_WHEEL"):
        return Path(given)
    folder = tmp_path_factory.mktemp("wheel")
    source = folder / "source"  # a build leaves files in the folder it builds
    source.mkdir()
    for name in SOURCES:
        origin = ROOT / name
        if origin.is_dir():
            shutil.copytree(origin, source / name, ignore=shutil.ignore_patterns("__pycache__", "*.so"))
        else:
            shutil.copy(origin, source / name)
    argv = [sys.executable, "-m", "pip", "wheel", "-q", "--no-deps", "-w", str(folder), str(source)]
    done = subprocess.run(argv, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    if (
        done.returncode
        and "No matching distribution found for setuptools" in done.stderr
        and not os.environ.get("CI")
    ):
        pytest.skip("building a wheel needs setuptools >= 77 from the package index, which cannot be reached")
    assert done.returncode == 0, done.stderr
    (built,) = folder.glob("muniment-*.whl")
    return built


@pytest.fixture
def entries(wheel: Path) -> dict[str, bytes]:
    with zipfile.ZipFile(wheel) as archive:
        return {name: archive.read(name) for name in archive.namelist()}


def packed(folder: Path, entries: dict[str, bytes]) -> Path:
    path = folder / "muniment-0.1.0-py3-none-any.whl"
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in entries.items():
            archive.writestr(name, data)
    return path


def test_the_wheel_holds_what_it_should_and_nothing_else(wheel: Path) -> None:
    assert check_wheel.problems(wheel, ROOT) == []


def test_the_demo_is_whole_in_the_wheel(entries: dict[str, bytes]) -> None:
    demo = ROOT / "ops" / "demo"
    files = [file for file in demo.rglob("*") if file.is_file() and "__pycache__" not in file.parts]
    assert len(files) > 10
    for file in files:
        assert entries[f"muniment/ops/demo/{file.relative_to(demo).as_posix()}"] == file.read_bytes()


@pytest.mark.parametrize(
    ("name", "said"),
    [
        ("domain/__init__.py", "stray entry domain/__init__.py"),
        ("tests/test_x.py", "stray entry tests/test_x.py"),
        ("muniment-0.1.0.data/scripts/x", "stray entry muniment-0.1.0.data/scripts/x"),
        (
            "muniment/ops/demo/tools/__pycache__/probe.cpython-311.pyc",
            "unexpected muniment/ops/demo/tools/__pycache__",
        ),
        ("muniment/store/left_over.py", "unexpected muniment/store/left_over.py"),
        ("muniment/ring/core.c", "unexpected muniment/ring/core.c"),
        ("muniment/ring/core.h", "unexpected muniment/ring/core.h"),
        ("muniment/ring/_ring.cpython-311-x86_64-linux-gnu.so", "unexpected muniment/ring/_ring.cpython-311"),
        ("muniment_other/__init__.py", "stray entry muniment_other/__init__.py"),
    ],
)
def test_a_stray_entry_is_found(tmp_path: Path, entries: dict[str, bytes], name: str, said: str) -> None:
    found = check_wheel.problems(packed(tmp_path, entries | {name: b""}), ROOT)
    assert len(found) == 1
    assert found[0].startswith(said)


@pytest.mark.parametrize(
    "name",
    [
        "muniment/__init__.py",
        "muniment/py.typed",
        "muniment/ring/_ring.abi3.so",
        "muniment/ring/_ring.pyi",
        "muniment/domain/records.py",
        "muniment/ops/policies/solo.json",
        "muniment/ops/demo/input-v2-bad/countries.csv",
        "muniment/ops/demo/tools/probe.py",
    ],
)
def test_a_missing_entry_is_found(tmp_path: Path, entries: dict[str, bytes], name: str) -> None:
    del entries[name]
    assert f"missing {name}" in check_wheel.problems(packed(tmp_path, entries), ROOT)


def test_missing_licence_and_console_script_are_found(tmp_path: Path, entries: dict[str, bytes]) -> None:
    kept = {n: d for n, d in entries.items() if not n.endswith(("licenses/LICENSE", "entry_points.txt"))}
    found = " | ".join(check_wheel.problems(packed(tmp_path, kept), ROOT))
    assert "licence text" in found
    assert "console script" in found


@pytest.mark.parametrize(
    ("old", "new"),
    [
        (b"cp311-abi3-", b"py3-none-"),
        (b"cp311-abi3-", b"cp312-abi3-"),
        (b"-linux", b"-any-linux"),
        (b"Purelib: false", b"Purelib: true"),
        (b"Tag: ", b"Gat: "),
    ],
)
def test_a_wheel_for_another_interpreter_is_found(
    tmp_path: Path, entries: dict[str, bytes], old: bytes, new: bytes
) -> None:
    (name,) = (name for name in entries if name.endswith(".dist-info/WHEEL"))
    assert old in entries[name]
    changed = entries | {name: entries[name].replace(old, new)}
    assert any(
        "the wheel is tagged" in line for line in check_wheel.problems(packed(tmp_path, changed), ROOT)
    )


def test_a_compiled_file_that_is_none_is_found(tmp_path: Path, entries: dict[str, bytes]) -> None:
    path = packed(tmp_path, entries | {"muniment/ring/_ring.abi3.so": b"#!/bin/sh"})
    assert check_wheel.problems(path, ROOT) == ["muniment/ring/_ring.abi3.so is no ELF file"]


def test_a_folder_that_is_no_listed_package_is_found(tmp_path: Path) -> None:
    for name in SOURCES[:8]:
        shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", tmp_path)
    assert check_wheel.unlisted(tmp_path) == []
    (tmp_path / "store" / "postgres").mkdir()
    (tmp_path / "store" / "postgres" / "__init__.py").touch()
    assert check_wheel.unlisted(tmp_path) == ["store/postgres"]


def test_the_installed_package_has_its_data() -> None:
    for name in ("policies/solo.json", "demo/input-v1/countries.csv", "demo/tools/compile.py"):
        assert resources.files("muniment.ops").joinpath(*name.split("/")).is_file(), name


def test_one_version_everywhere() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    from muniment import __version__

    assert __version__ == project["version"]
    assert f"## [{__version__}]" in (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")


def test_what_is_imported_is_declared() -> None:
    """Each dependency of pyproject has its line in decision 0004, and the other way round."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    declared = {re.split(r"[\[<>=]", line)[0] for line in project["dependencies"]}
    (decision,) = (ROOT / "ops" / "decisions").glob("0004-*.md")
    assert declared == set(
        re.findall(r"^\* `([a-z0-9-]+)`", decision.read_text(encoding="utf-8"), re.MULTILINE)
    )
    for name in declared:
        assert metadata.version(name)


def test_the_readme_has_its_two_commands() -> None:
    text = (ROOT / "README.md").read_text(encoding="utf-8")
    install, test = readme_block.block(text, "install"), readme_block.block(text, "test")
    assert "pip install ." in install
    assert "muniment demo" in install
    assert "pip install '.[test]'" in test
    assert test.strip().endswith(".venv/bin/pytest")
    for commands in (install, test):
        assert commands.startswith("python3 -m venv .venv"), "it sets itself up"
        assert subprocess.run(["bash", "-n", "-c", commands], timeout=10).returncode == 0


@pytest.mark.parametrize(
    "text",
    [
        "",
        "<!-- ci:x -->",
        "<!-- ci:x -->\n```sh\n```\n",
        "<!-- ci:x -->\n```sh\n\n```\n",
        "<!-- ci:x -->\n```sh\necho\n",
        "<!-- ci:x -->\nwords\n```sh\necho\n```\n",
        "<!-- ci:x -->\n```text\necho\n```\n",
        "<!-- ci:x -->\n```sh\necho\n```\n<!-- ci:x -->\n```sh\necho\n```\n",
    ],
)
def test_a_block_that_is_not_plain_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match=r"ci:x|block"):
        readme_block.block(text, "x")


def test_a_block_is_taken_as_it_stands() -> None:
    text = "a\n```sh\nno\n```\n<!-- ci:x -->\n\n```sh\none && \\\n  two\n```\nb\n```sh\nno\n```\n"
    assert readme_block.block(text, "x") == "one && \\\n  two\n"


@pytest.mark.parametrize("document", DOCUMENTS)
def test_links_and_names_of_files_lead_somewhere(document: str) -> None:
    path = ROOT / document
    text = path.read_text(encoding="utf-8")
    targets = re.findall(r"\]\((?!https?:)([^)#]+)\)", text)
    targets += re.findall(r"`((?:ops|schemas|tests|domain|store|app|cli)/[\w./-]+)`", text)
    for target in targets:
        places = [path.parent / target, ROOT / target]
        assert any(place.exists() or list(place.parent.glob(place.name + "-*")) for place in places), target
