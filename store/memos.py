"""Where memos are kept: a ladder of saved read models, each a few megabytes of opaque bytes named by its position.

What the bytes are, and whether they may be used, is `app.memo`'s business. A place promises four things:

1. A step appears whole or not at all, and is never changed: a new one under its position replaces it as a whole.
2. Parts of a step are read without the rest of it; one that was opened stays readable, or the read raises.
3. Losing steps costs time and nothing else, so nothing here is synced.
4. Only positions and bytes are known here: no place tells a reader that a step is true.

`FolderMemos` is the reader's home. PostgreSQL keeps shared ones in tables of their own (`store.memos_postgres`).
"""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from collections.abc import Callable, Iterable
from pathlib import Path
from typing import NamedTuple, Protocol

from muniment.store.files import READ, faults, write_all

MOST = 12  # steps of a ladder
BUDGET = 1 << 30  # bytes of a ladder; the newest step stays whatever it takes

Read = Callable[[int, int], bytes]
"""(start, size) -> those bytes of a step, fewer at its end. Raises UnavailableError."""

_NAME = re.compile(r"[0-9]{1,16}").fullmatch


class Step(NamedTuple):
    """One rung: the position it was saved at, and its size."""

    position: int
    bytes: int


class MemoPlace(Protocol):
    """A ladder. Every method raises UnavailableError if the place cannot be reached, read or written."""

    def steps(self) -> list[Step]:
        """All steps by position; [] if there is no ladder yet."""
        ...

    def open(self, position: int) -> Read:
        """Open a step."""
        ...

    def write(self, position: int, data: Iterable[bytes]) -> None:
        """Save a step."""
        ...

    def drop(self, position: int) -> None:
        """Forget a step; one that is not there is forgotten already."""
        ...

    def beside(self) -> MemoPlace:
        """The place of a rebuild under way, which is no part of this ladder."""
        ...

    def swap(self) -> None:
        """Put the ladder beside in the place of this one. Cut short, it leaves fewer steps and never a mixture."""
        ...


class FolderMemos:
    """A file a step, in a private folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder

    def steps(self) -> list[Step]:
        found = []
        with faults("list", self.folder, "memo"):
            try:
                entries = list(os.scandir(self.folder))
            except FileNotFoundError:
                return []
            for entry in entries:
                name, _, kind = entry.name.partition(".")
                if kind == "memo" and _NAME(name):
                    found.append(Step(int(name), entry.stat(follow_symlinks=False).st_size))
        return sorted(found)

    def open(self, position: int) -> Read:
        return _File(self._path(position)).read

    def write(self, position: int, data: Iterable[bytes]) -> None:
        with faults("write", self.folder, "memo"):
            for folder in (self.folder, *self.folder.parents)[::-1]:
                folder.mkdir(mode=0o700, exist_ok=True)
            descriptor, temporary = tempfile.mkstemp(prefix=".new.", dir=self.folder)
            try:
                for part in data:
                    write_all(descriptor, part)
                Path(temporary).replace(self._path(position))
            except BaseException:
                Path(temporary).unlink(missing_ok=True)
                raise
            finally:
                os.close(descriptor)

    def drop(self, position: int) -> None:
        with faults("remove", self._path(position), "memo"):
            self._path(position).unlink(missing_ok=True)

    def beside(self) -> FolderMemos:
        return FolderMemos(self.folder / "rebuild")

    def swap(self) -> None:
        beside = self.beside()
        for step in self.steps():
            self.drop(step.position)
        with faults("swap", self.folder, "memo"):
            for step in beside.steps():
                beside._path(step.position).replace(self._path(step.position))
            shutil.rmtree(beside.folder, ignore_errors=True)

    def _path(self, position: int) -> Path:
        return self.folder / f"{position}.memo"


class _File:
    """A file that stays open as long as somebody reads from it, so that pruning disturbs nobody."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with faults("open", path, "memo"):
            self._descriptor = os.open(path, READ)

    def read(self, start: int, size: int) -> bytes:
        with faults("read", self._path, "memo"):
            return os.pread(self._descriptor, size, start)

    def __del__(self) -> None:
        if (descriptor := getattr(self, "_descriptor", None)) is not None:
            os.close(descriptor)


def prune(place: MemoPlace) -> None:
    """Thin a ladder to `MOST` steps and `BUDGET` bytes.

    The step goes whose loss leaves the smallest gap for its age (an eighth of the log counts as no age), so that the steps
    stand densest at the newest end and the way to any position of the past is at most about a quarter of the log. The
    newest stays.
    """
    steps = place.steps()
    while len(steps) > 1 and (len(steps) > MOST or sum(step.bytes for step in steps) > BUDGET):
        newest = steps[-1].position
        gaps = [
            (steps[at + 1].position - (steps[at - 1].position if at else 0))
            / (newest - step.position + newest // 8)
            for at, step in enumerate(steps[:-1])
        ]
        place.drop(steps.pop(gaps.index(min(gaps))).position)


__all__ = ["BUDGET", "MOST", "FolderMemos", "MemoPlace", "Read", "Step", "prune"]
