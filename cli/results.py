"""What a verb gives back: data with its schema, and how people read it. A verb never prints."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any


@dataclass(slots=True)
class Result:
    """One object.

    Attributes:
        schema: `history.show/1`.
        data: JSON values.
        as_of: size of the log that the answer speaks of, None if it speaks of no log.
        lines: the answer for people, result first; without them the members of `data` are listed.
        next: the next command, "" if none is plain.
        brief: what `-q` prints (an id), "" for nothing.
        notes: said on standard error.
        exit_code: 0 only for an explicit pass.
    """

    schema: str
    data: Any
    as_of: int | None = None
    lines: Sequence[str] = ()
    next: str = ""
    brief: str = ""
    notes: Sequence[str] = ()
    exit_code: int = 0


@dataclass(slots=True)
class Rows:
    """A list of objects.

    Attributes:
        columns: members shown in a table, in order; `-o json` gives every member.
        key: the member that a cursor names; unique.
        next: cursor of the next page if the source pages itself.
        omitted: rows that the source itself left out.
        empty: what is said when there is nothing.
    """

    schema: str
    rows: Iterable[dict[str, Any]]
    columns: Sequence[str]
    key: str
    as_of: int | None = None
    next: str | None = None
    omitted: int = 0
    empty: str = "nothing"
    notes: Sequence[str] = ()
    exit_code: int = 0
    paged: bool = False  # the source has applied --limit and --cursor already
    streamed: bool = False  # rows come one by one and are printed as they come (follow)


@dataclass(slots=True)
class Refused:
    """A rule said no (`schema` refused/1): an answer, so it stands on standard output."""

    refusal: Any
    position: int | None
    as_of: int
    dry_run: bool = False
    lines: Sequence[str] = ()
    repeated: bool = False

    @property
    def exit_code(self) -> int:
        """4 or 6."""
        return int(self.refusal.exit_code)


@dataclass(slots=True)
class Text:
    """Plain text of our own (help topics, completion scripts); it has no JSON form."""

    text: str
    exit_code: int = 0
    notes: Sequence[str] = field(default=())
