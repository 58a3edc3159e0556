"""What the global options say, and the doors to the store that verbs use. Nothing heavy is imported until a door opens."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

from muniment.domain.errors import UsageError

if TYPE_CHECKING:
    from muniment.app.session import Options, Session
    from muniment.cli.progress import Progress

DEFAULT_STORE = ".muniment"
# Options that change an answer: a verb that does not use one refuses it, since an ignored --as-of would be a lie.
SELECTING = ("as_of", "since", "until", "where", "fields", "limit", "cursor")
WRITING = ("dry_run", "reason", "idempotency_key", "expect", "sign")


class Settings:
    """One run of the program. Members are named as their options."""

    def __init__(self) -> None:
        self.store = ""
        self.output = "table"
        self.fields: list[str] = []
        self.where: list[str] = []
        self.as_of = ""
        self.since = ""
        self.until = ""
        self.limit: int | None = None
        self.cursor = ""
        self.quiet = False
        self.verbose = False
        self.local = False
        self.dry_run = False
        self.reason = ""
        self.idempotency_key = ""
        self.expect: int | None = None
        self.sign = ""
        self.verb = ""
        self.given: set[str] = set()

    def give(self, name: str, value: Any) -> None:
        """Take an option from the command line; lists add up over the places where it may stand."""
        self.given.add(name)
        if isinstance(value, list | tuple):
            getattr(self, name).extend(value)
        else:
            setattr(self, name, value)

    @property
    def url(self) -> str:
        """The store: `--store`, else MUNIMENT_STORE, else ./.muniment."""
        return self.store or os.environ.get("MUNIMENT_STORE", "") or DEFAULT_STORE

    @property
    def terminal(self) -> bool:
        """People read the output: standard output is a terminal and the format is a table."""
        return self.output == "table" and sys.stdout.isatty()

    @property
    def json(self) -> bool:
        """The answer, errors included, is JSON."""
        return self.output in ("json", "jsonl")

    def uses(self, *names: str, write: bool) -> None:
        """Refuse a selecting option that this verb does not use, and a write option where nothing is decided.

        Raises:
            UsageError: one was given.
        """
        refused = [name for name in SELECTING if name not in names] + ([] if write else list(WRITING))
        for name in refused:
            if name in self.given:
                raise UsageError(
                    f"--{name.replace('_', '-')} says nothing to this command",
                    code="cli.option_unused",
                    hint=f"muniment {self.verb} --help",
                )

    @contextmanager
    def open(self, *, write: bool = False, progress: str = "") -> Iterator[Session]:
        """The store of this run.

        Args:
            progress: what is counted while bytes stream ("read", "verified"), "" for nothing.

        Raises:
            NotFoundError: there is no store; exit 3, whatever else was asked.
        """
        from muniment.app.session import Session

        bar = self.progress(progress) if progress else None
        try:
            with Session(self.url, write=write, progress=bar) as session:
                yield session
        finally:
            if bar is not None:
                bar.close()

    def progress(self, what: str, total: int | None = None) -> Progress:
        """Progress on standard error."""
        from muniment.cli.progress import Progress

        return Progress(what, total, quiet=self.quiet, verbose=self.verbose)

    def options(self) -> Options:
        """What the write options say."""
        from muniment.app.session import Options

        return Options(
            reason=self.reason,
            key=self.idempotency_key,
            expect=self.expect,
            dry_run=self.dry_run,
            sign=self.sign or os.environ.get("MUNIMENT_SIGN", ""),
        )
