"""What the demo needs besides commands: its content, the words of a command, and a copy of a store with one byte flipped."""

from __future__ import annotations

import shlex
import shutil
from importlib import resources
from pathlib import Path
from string import Template

from muniment.app.session import EVIDENCE
from muniment.domain.errors import ConflictError, NotFoundError

FLIPPED = b"hold for audit"  # the reason of the pin: a text that only a record's bytes hold


def content() -> Path:
    """The folder of the demo's content, as installed."""
    return Path(str(resources.files("muniment.ops").joinpath("demo")))


def places(store: Path) -> tuple[Path, Path]:
    """Beside a demo's store: its target folder, and the copy that gets damaged.

    Raises:
        ConflictError: one of the three exists; the demo overwrites nothing.
    """
    edge, copy = (store.with_name(f"{store.name}-{what}") for what in ("edge", "tampered"))
    for path in (store, edge, copy):
        if path.exists():
            raise ConflictError(
                f"{path} exists", code="demo.exists", hint="name another: muniment demo --store NAME"
            )
    return edge, copy


def words(command: str, edge: Path) -> list[str]:
    """The words of a story's command with its two places filled in."""
    return shlex.split(
        Template(command).safe_substitute(DEMO=shlex.quote(str(content())), EDGE=shlex.quote(str(edge)))
    )


def flip_one_byte(store: Path, copy: Path) -> tuple[Path, int]:
    """Copy a store and change one bit in one record of the copy; return the file and the offset.

    Raises:
        NotFoundError: no record of this store holds the story's pin.
    """
    copy.mkdir(mode=0o700)
    for item in (EVIDENCE, "keys", "exports"):
        if (store / item).is_dir():
            shutil.copytree(store / item, copy / item)
    shutil.copy2(store / "log.db", copy / "log.db")
    path = copy / "log.db"
    data = bytearray(path.read_bytes())
    at = data.find(FLIPPED)
    if at < 0:
        raise NotFoundError(
            "no record of this store holds the story's pin", code="demo.no_pin", hint="muniment demo"
        )
    data[at] ^= 0x20
    path.write_bytes(data)
    return path, at
