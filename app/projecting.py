"""Projections kept current: from the memo to the head, never silently stale; status, rebuild and digests.

1. `current` reads the head first and folds to it, or raises: there is no answer from a model that lags.
2. A fold that meets a record it does not understand stops there, and says so (exit 10; `status` exits 8).
3. A rebuild folds from zero beside what is live, compares, then swaps the memo.
"""

from __future__ import annotations

import gc
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app import memo as memos
from muniment.domain.errors import UsageError
from muniment.projections import digest as digests
from muniment.projections.fold import Stopped
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, DRIVER
from muniment.store.api import Log, Page
from muniment.store.merkle import Frontier

SAVE_AFTER = (
    512  # records folded since the memo; below, folding them again costs less than writing (about 2 ms)
)
PAGE = 1024
STALE = 8
WRONG = 7

Progress = Callable[[int, int], None]
"""(records done, records in all)."""


class Cursor(NamedTuple):
    """How far a model has read.

    Attributes:
        position: the last record applied; `root` is the log's root there (32 bytes, hex; "" in a view of the past).
        memo: the position the fold began at; `note` is "" or why a memo was not used or not written.
    """

    position: int
    root: str
    memo: int
    note: str = ""


class Current(NamedTuple):
    """A model and its cursor."""

    model: ReadModel
    cursor: Cursor


def current(
    log: Log, base: Path | None = None, *, as_of: int | None = None, progress: Progress | None = None
) -> Current:
    """Fold every projection up to the head, or up to position `as_of`, beginning at the memo if it fits.

    Args:
        base: the reader's home; None is the default one.

    Raises:
        Stopped: a record that the fold does not understand (exit 10).
        UsageError: `as_of` is beyond the head.
    """
    head = Frontier(*log.frontier())
    until = head.size if as_of is None else as_of
    if not 0 <= until <= head.size:
        raise UsageError(
            f"position {until} is not in this log", code="reading.as_of", expected=f"0..{head.size}"
        )
    memo = memos.load(log.store_id, base)
    note = memo.note
    if memo.model is not None and not memos.fits(memo, log, head):
        memo, note = memos.NONE, "memo is not of this log"
    model = memo.model
    start = memo.position
    if model is None or start > until:
        model, start = ReadModel(), 0
    fold(log, model, after=start, until=until, progress=progress)
    if as_of is None and head.size - start >= SAVE_AFTER:
        note = memos.save(log.store_id, base, model, head) or note
    return Current(model, Cursor(until, head.root().hex() if until == head.size else "", start, note))


def fold(
    log: Log,
    model: ReadModel,
    *,
    after: int = 0,
    until: int,
    size: int = PAGE,
    progress: Progress | None = None,
) -> int:
    """Fold `after < position <= until` into a model in pages of `size`; return the position reached."""
    if after >= until:
        return until
    with quiet_collector():
        return DRIVER.fold(
            model, _told(log.pages(after=after, until=until, size=size), after, until, progress), after
        )


@contextmanager
def quiet_collector() -> Iterator[None]:
    """Pause cycle collection: a fold makes many objects and no cycles (measured: a third of its time)."""
    was = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was:
            gc.enable()


def _told(pages: Iterable[Page], after: int, until: int, progress: Progress | None) -> Iterator[Page]:
    for page in pages:
        yield page
        if progress is not None:
            progress(page[-1][0] - after, until - after)


def digest(log: Log, base: Path | None = None, *, as_of: int | None = None) -> dict[str, Any]:
    """Full and core digest of every projection (`projection.digest/1`)."""
    found = current(log, base, as_of=as_of)
    rows: list[dict[str, Any]] = [
        {
            "projection": p.name,
            "version": p.version,
            "digest": digests.full(p, found.model),
            "core": digests.core(p, found.model),
        }
        for p in ALL
    ]
    return {
        "schema": "projection.digest/1",
        "as_of": found.cursor.position,
        "data": rows,
        "combined": digests.combined({row["projection"]: row["digest"] for row in rows}),
        "combined_core": digests.combined(
            {p.name: row["core"] for p, row in zip(ALL, rows, strict=True) if not p.exempt}
        ),
        "next": None,
        "omitted": 0,
    }


def status(log: Log, base: Path | None = None, *, progress: Progress | None = None) -> dict[str, Any]:
    """Position, lag and digest of every projection (`projection.status/1`); `exit_code` 8 if any is stale."""
    size = log.head().size
    stopped: dict[str, Any] | None = None
    memo = memos.load(log.store_id, base)
    try:
        model, cursor = current(log, base, progress=progress)
        position, note = cursor.position, cursor.note
        size = max(size, position)
    except Stopped as error:
        position, note, model = error.position, memo.note, ReadModel()
        fold(log, model, until=position)
        stopped = {"position": position + 1, "code": error.code, "message": error.message, "hint": error.hint}
    rows = [
        {
            "projection": p.name,
            "version": p.version,
            "question": p.question,
            "position": position,
            "lag": size - position,
            "stale": position < size,
            "digest": digests.full(p, model),
        }
        for p in ALL
    ]
    return {
        "schema": "projection.status/1",
        "as_of": size,
        "data": rows,
        "memo": {"position": memo.position, "note": note},
        "stopped": stopped,
        "exit_code": STALE if position < size else 0,
        "next": None,
        "omitted": 0,
    }


def rebuild(log: Log, base: Path | None = None, *, progress: Progress | None = None) -> dict[str, Any]:
    """Fold from zero beside the live model, compare, swap (`projection.rebuild/1`); `exit_code` 7 if they differ.

    Raises:
        Stopped: the fold does not reach the head; the memo is left as it is.
    """
    head = Frontier(*log.frontier())
    live = memos.load(log.store_id, base)
    usable = live.model is not None and memos.fits(live, log, head)
    if usable and live.model is not None:
        fold(log, live.model, after=live.position, until=head.size)
    fresh = ReadModel()
    fold(log, fresh, until=head.size, progress=progress)
    rows = []
    for p in ALL:
        rebuilt = digests.full(p, fresh)
        before = digests.full(p, live.model) if usable and live.model is not None else ""
        rows.append(
            {
                "projection": p.name,
                "version": p.version,
                "live": before,
                "rebuilt": rebuilt,
                "equal": before == rebuilt if before else None,
            }
        )
    note = memos.save(log.store_id, base, fresh, head)
    differ = [row["projection"] for row in rows if row["equal"] is False]
    return {
        "schema": "projection.rebuild/1",
        "as_of": head.size,
        "data": rows,
        "verdict": "different" if differ else "equal" if usable else "nothing to compare with",
        "note": note,
        "exit_code": WRONG if differ else 0,
        "next": None,
        "omitted": 0,
    }
