"""The schema of a store, step by step: `sql/<store>_<number>.sql`, 1, 2, 3 …, forward only.

1. A step and the version it reaches (PostgreSQL: comment of the schema; SQLite: `PRAGMA user_version`) are one transaction: what
   fails leaves the version before it, and a fresh store is a store that took every step.
2. A step that was released is never edited. One that changes what a writer writes also makes the writers of the version before
   fail (a column of `head` renamed is enough), for they may have the log open.
3. Who migrates holds a lock and looks again behind it, so two at once do the work once.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from functools import cache
from pathlib import Path
from typing import NamedTuple

from muniment.domain.errors import InvalidError

FOLDER = Path(__file__).parent / "sql"
_number = re.compile(r"[a-z]+_([0-9]{4})\.sql").fullmatch


class Step(NamedTuple):
    """The way from version `number - 1` to `number`."""

    number: int
    path: Path

    @property
    def text(self) -> str:
        """Its statements."""
        return self.path.read_text(encoding="utf-8")


class Act(NamedTuple):
    """Something that is done, for people, and its statements, each ending in a semicolon."""

    what: str
    statements: tuple[str, ...]


class Plan(NamedTuple):
    """What brings a store to a version.

    Attributes:
        name: of the store, without a secret.
        found: version of the schema as it is, 0 if there is none.
        version: the one that is reached.
        acts: in order; [] if nothing is left to do.
        wanting: statements for somebody with more rights, before the acts can be done.
    """

    name: str
    found: int
    version: int
    acts: list[Act]
    wanting: tuple[str, ...] = ()


def steps(store: str, *, after: int = 0) -> list[Step]:
    """The steps of a kind of store (`sqlite`, `postgres`) beyond a version."""
    return list(_steps_in(FOLDER, store)[after:])


@cache  # every opening of a store asks
def _steps_in(folder: Path, store: str) -> tuple[Step, ...]:
    found = sorted(
        Step(int(match[1]), path) for path in folder.glob(f"{store}_*.sql") if (match := _number(path.name))
    )
    assert [step.number for step in found] == list(range(1, len(found) + 1)), "a step is missing"
    return tuple(found)


def version(store: str) -> int:
    """The version this program reads and writes."""
    return steps(store)[-1].number


def check_version(name: str, found: int, store: str) -> None:
    """Refuse a schema that this program does not know.

    Raises:
        InvalidError: `store.version`.
    """
    wanted = version(store)
    if found != wanted:
        newer = found > wanted
        raise InvalidError(
            f"{name} has {'a newer' if newer else 'an older'} schema than this program",
            code="store.version",
            hint="use a newer Muniment" if newer else "muniment store migrate",
            expected=wanted,
            found=found,
        )


def script(acts: Iterable[Act]) -> str:
    """The acts as SQL, one comment each."""
    return "\n".join(f"-- {act.what}\n" + "\n".join(act.statements) + "\n" for act in acts)
