"""Keep what is generated equal to the code: `python -m muniment.ops.generate --check | --write [--root DIR]`.

    schemas/records/TYPE.VERSION.json   every record type (domain.records)
    schemas/exit-codes.json             the one table of exit codes (cli.exits)
    schemas/help.txt                    the help of every command (cli.main)
    schemas/outputs/NAME.VERSION.json   every `-o json` output (cli.outputs.SCHEMAS)
    schemas/released.txt                shapes that a release has published: written by --freeze, never edited

`--check` compares byte for byte and exits 7 on drift. What stands in `released.txt` may never change its shape: a
change needs a new version. Every type must be named in CHANGELOG.md. As long as `muniment.cli.main` does not exist,
what is made from it is reported as not there; when it does, a missing part is an error.
"""

from __future__ import annotations

import argparse
import importlib
import json
import sys
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app import schemas
from muniment.domain.errors import InvalidError, MunimentError, NotFoundError, UsageError, WrongError

WIDTH = 100
ADVICE = (
    "a change needs a new version and a CHANGELOG line; then run: python -m muniment.ops.generate --write"
)


class Generated(NamedTuple):
    """What must stand below `schemas/`: path and bytes. `absent` is not there yet; `faults` should be there and is not."""

    files: dict[str, bytes]
    absent: list[str]
    faults: list[str]


def generated() -> Generated:
    """Make everything that can be made; a fault of one part does not hide the others."""
    files = {f"records/{name}": data for name, data in schemas.files().items()}
    absent, faults = [], []
    for name, module, make, promised in (
        ("exit-codes.json", "muniment.cli.exits", _exit_codes, True),
        ("help.txt", "muniment.cli.main", _help, True),
        ("outputs/", "muniment.cli.outputs", _outputs, False),
    ):
        try:
            files |= make(importlib.import_module(module))
        except (ImportError, AttributeError) as error:
            missing = find_spec(module) is None
            if missing and (not promised or find_spec("muniment.cli.main") is None):
                absent.append(f"schemas/{name}: there is no {module} yet")
            else:
                faults.append(f"schemas/{name}: cannot be made from {module}: {error}")
    return Generated(files, absent, faults)


def _exit_codes(module: Any) -> dict[str, bytes]:
    table = [item._asdict() for item in module.TABLE]
    return {"exit-codes.json": (json.dumps(table, indent=2, ensure_ascii=False) + "\n").encode()}


def _outputs(module: Any) -> dict[str, bytes]:
    return {
        f"outputs/{name.replace('/', '.')}.json": schemas.render(schema)
        for name, schema in module.SCHEMAS.items()
    }


def _help(module: Any) -> dict[str, bytes]:
    return {"help.txt": "\n".join(_pages(module.root, None, "muniment")).encode()}


def _pages(command: Any, parent: Any, name: str) -> Iterator[str]:
    settings = {"terminal_width": WIDTH, "max_content_width": WIDTH, **command.context_settings}
    context = command.context_class(command, info_name=name, parent=parent, color=False, **settings)
    yield f"==== {context.command_path}\n{command.get_help(context)}\n"
    if hasattr(command, "list_commands"):
        for child in sorted(command.list_commands(context)):
            inner = command.get_command(context, child)
            if inner is not None and not inner.hidden:
                yield from _pages(inner, context, child)


def check(root: Path) -> list[str]:
    """Everything that differs, one line each; [] if nothing does."""
    expected, _, faults = generated()
    folder = root / "schemas"
    found = _present(folder)
    problems = [*faults]
    problems += [f"schemas/{path}: missing" for path in sorted(expected.keys() - found)]
    problems += [f"schemas/{path}: nothing makes it any more" for path in sorted(found - expected.keys())]
    problems += [
        f"schemas/{path}: differs from the code, first in line {_first_difference(data, (folder / path).read_bytes())}"
        for path, data in sorted(expected.items())
        if path in found and (folder / path).read_bytes() != data
    ]
    return problems + _released_problems(folder) + _changelog_problems(root)


def _present(folder: Path) -> set[str]:
    made = [
        *folder.glob("records/*"),
        *folder.glob("outputs/*"),
        folder / "help.txt",
        folder / "exit-codes.json",
    ]
    return {str(path.relative_to(folder)) for path in made if path.is_file() and path.name != ".gitkeep"}


def _first_difference(expected: bytes, found: bytes) -> int:
    lines = zip(expected.split(b"\n"), found.split(b"\n"), strict=False)
    return next(
        (n for n, (a, b) in enumerate(lines, 1) if a != b), min(expected.count(b"\n"), found.count(b"\n")) + 1
    )


def _released(folder: Path) -> dict[str, str]:
    path = folder / "released.txt"
    if not path.is_file():
        raise NotFoundError(
            f"{path} is missing", code="generate.released", hint="git restore schemas/released.txt"
        )
    rows = [line.split() for line in path.read_text(encoding="utf-8").splitlines() if line and line[0] != "#"]
    if any(len(row) != 2 for row in rows) or len({row[0] for row in rows}) != len(rows):
        raise InvalidError(
            f"{path}: expected lines TYPE/VERSION SHAPE, each type once", code="generate.released"
        )
    return {row[0]: row[1] for row in rows}


def _released_problems(folder: Path) -> list[str]:
    now = {entry.type: schemas.shape_digest(schemas.show(entry.type)) for entry in schemas.entries()}
    return [
        f"{type_}: was released with shape {shape}, now {now.get(type_, 'gone')}"
        for type_, shape in _released(folder).items()
        if now.get(type_) != shape
    ]


def _changelog_problems(root: Path) -> list[str]:
    text = (root / "CHANGELOG.md").read_text(encoding="utf-8")
    return [
        f"CHANGELOG.md does not name `{entry.type}`"
        for entry in schemas.entries()
        if f"`{entry.type}`" not in text
    ]


def write(root: Path) -> int:
    """Write what differs, remove what nothing makes any more; the number of changes."""
    expected, _, faults = generated()
    folder = root / "schemas"
    changed = 0
    for path, data in expected.items():
        target = folder / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if not target.is_file() or target.read_bytes() != data:
            target.write_bytes(data)
            changed += 1
    for path in _present(folder) - expected.keys():
        if faults and not path.startswith("records/"):
            continue
        (folder / path).unlink()
        changed += 1
    return changed


def freeze(root: Path) -> int:
    """Append the shapes that are not in `released.txt` yet; done once, when a release is cut."""
    folder = root / "schemas"
    known = _released(folder)
    new = [entry.type for entry in schemas.entries() if entry.type not in known]
    with (folder / "released.txt").open("a", encoding="utf-8") as file:
        file.writelines(f"{type_} {schemas.shape_digest(schemas.show(type_))}\n" for type_ in new)
    return len(new)


def run(arguments: list[str]) -> int:
    """Parse, act, print."""
    parser = argparse.ArgumentParser(
        prog="python -m muniment.ops.generate", description=(__doc__ or "").split("\n")[0]
    )
    verb = parser.add_mutually_exclusive_group(required=True)
    verb.add_argument("--check", action="store_true", help="compare, exit 7 on drift")
    verb.add_argument("--write", action="store_true", help="write what differs")
    verb.add_argument("--freeze", action="store_true", help="publish the shapes of a release, after --check")
    parser.add_argument("--root", type=Path, default=Path.cwd(), help="the checkout (default: here)")
    options = parser.parse_args(arguments)
    root: Path = options.root
    if not (root / "pyproject.toml").is_file() or not (root / "schemas").is_dir():
        raise UsageError(f"{root} is no checkout of Muniment", code="generate.root", hint="--root DIR")
    if options.write:
        print(f"wrote or removed {write(root)} files")
    for line in generated().absent:
        print(f"not there  {line}")
    if problems := check(root):
        raise WrongError(
            f"{len(problems)} differences", code="generate.drift", hint=ADVICE, problems=problems
        )
    if options.freeze:
        print(f"froze {freeze(root)} shapes")
    print(
        f"no drift: {len(_present(root / 'schemas'))} files, {len(_released(root / 'schemas'))} released shapes"
    )
    return 0


def main() -> int:
    """Run, and say what is wrong and what to do."""
    try:
        return run(sys.argv[1:])
    except MunimentError as error:
        problems = error.context.get("problems")
        for line in problems if isinstance(problems, list) else []:
            print(f"  {line}", file=sys.stderr)
        print(f"{error.message} ({error.code})\nnext: {error.hint}", file=sys.stderr)
        return error.exit_code


if __name__ == "__main__":
    raise SystemExit(main())
