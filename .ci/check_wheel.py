"""Check what a wheel would put on a stranger's machine: `check_wheel.py WHEEL CHECKOUT`.

1. Every entry stands below `muniment/` or the wheel's own `.dist-info/`; nothing generic lands in site-packages.
2. The packages of pyproject are the folders with Python files, and every Python file of the checkout is in the wheel.
3. Data is there: py.typed, policies, pipelines, the whole demo, SQL. No cache, no test, no C source but the bench programs.
4. One compiled file, the ring engine, for the stable ABI of 3.11 on Linux; its typed stub stands beside it.
5. The metadata names the licence and carries its text; the console script is there.
"""

import re
import sys
import tomllib
import zipfile
from email.parser import Parser
from pathlib import Path, PurePosixPath

DATA = ("py.typed", "policies", "pipelines", "demo", "sql")
SKIP = {"__pycache__"}
COMPILED = "muniment/ring/_ring.abi3.so"
STUB = "muniment/ring/_ring.pyi"
TAG = re.compile(r"cp311-abi3-(many)?linux\w+")


def expected(checkout: Path) -> set[str]:
    """Names that must be in the wheel, from the folders of the checkout."""
    setup = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    names: set[str] = {COMPILED, STUB}
    for package in setup["packages"]:
        folder = folder_of(package, setup["package-dir"], checkout)
        inside = PurePosixPath(package.replace(".", "/"))
        names |= {str(inside / file.name) for file in folder.glob("*.py")}
        for pattern in setup["package-data"].get(package, []):
            files = [file for file in folder.glob(pattern) if file.is_file() and not SKIP & set(file.parts)]
            names |= {str(inside / file.relative_to(folder).as_posix()) for file in files}
    return names


def folder_of(package: str, mapping: dict[str, str], checkout: Path) -> Path:
    """The folder of a package: its own mapping, or its parent's and its name."""
    if package in mapping:
        return checkout / mapping[package]
    parent, _, name = package.rpartition(".")
    return folder_of(parent, mapping, checkout) / name


def unlisted(checkout: Path) -> list[str]:
    """Folders with Python files that belong to a package and are not listed as one."""
    setup = tomllib.loads((checkout / "pyproject.toml").read_text(encoding="utf-8"))["tool"]["setuptools"]
    listed = {folder_of(package, setup["package-dir"], checkout) for package in setup["packages"]}
    demo = checkout / setup["package-dir"]["muniment.ops"] / "demo"
    found = {file.parent for top in listed for file in top.rglob("*.py")}
    return sorted(
        folder.relative_to(checkout).as_posix()
        for folder in found - listed
        if demo not in folder.parents and folder != demo and not SKIP & set(folder.parts)
    )


def problems(wheel: Path, checkout: Path) -> list[str]:
    """Everything that is wrong with the wheel; [] if nothing is."""
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        info = {name.split("/")[0] for name in names if name.split("/")[0].endswith(".dist-info")}
        if len(info) != 1:
            return [f"expected one dist-info, found {sorted(info)}"]
        meta = info.pop()
        texts = {
            part: archive.read(f"{meta}/{part}").decode()
            for part in ("METADATA", "WHEEL", "entry_points.txt", "licenses/LICENSE")
            if f"{meta}/{part}" in names
        }
        if COMPILED in names and not archive.read(COMPILED).startswith(b"\x7fELF"):
            return [f"{COMPILED} is no ELF file"]
    found = [f"stray entry {name}" for name in sorted(names) if name.split("/")[0] not in ("muniment", meta)]
    inside = {name for name in names if name.startswith("muniment/")}
    wanted = expected(checkout)
    found += [f"missing {name}" for name in sorted(wanted - inside)]
    found += [f"unexpected {name}" for name in sorted(inside - wanted)]
    found += [f"folder {name} has Python files and is no listed package" for name in unlisted(checkout)]
    found += [
        f"no data of {part} in the wheel"
        for part in (DATA if (checkout / "store" / "sql").is_dir() else DATA[:-1])
        if not any(part in name.split("/") for name in inside)
    ]
    return found + metadata_problems(texts)


def metadata_problems(texts: dict[str, str]) -> list[str]:
    """Tag, licence and console script."""
    found = [
        f"no {part} in the dist-info"
        for part in ("METADATA", "entry_points.txt", "licenses/LICENSE")
        if part not in texts
    ]
    wheel = Parser().parsestr(texts.get("WHEEL", ""))
    tags = wheel.get_all("Tag") or []
    if wheel["Root-Is-Purelib"] != "false" or not tags or not all(TAG.fullmatch(tag) for tag in tags):
        found.append(f"the wheel is tagged {tags}, expected cp311-abi3-linux_*")
    licence = Parser().parsestr(texts.get("METADATA", ""))["License-Expression"]
    if licence != "Apache-2.0":
        found.append(f"License-Expression is {licence}, expected Apache-2.0")
    if "Version 2.0, January 2004" not in texts.get("licenses/LICENSE", ""):
        found.append("the licence text is not in the wheel")
    if "muniment = muniment.cli.main:main" not in texts.get("entry_points.txt", ""):
        found.append("the console script muniment is not in the wheel")
    return found


if __name__ == "__main__":
    wrong = problems(Path(sys.argv[1]), Path(sys.argv[2]))
    sys.stderr.writelines(f"{Path(sys.argv[1]).name}: {line}\n" for line in wrong)
    with zipfile.ZipFile(sys.argv[1]) as opened:
        sys.stdout.write(f"{len(opened.namelist())} entries, {len(wrong)} problems\n")
    sys.exit(1 if wrong else 0)
