"""Projections kept current: from the nearest memo to the head, never silently stale; digests, and single entities of the past.

1. `current` reads the head first and folds to it, or raises: there is no answer from a model that lags.
2. A fold that meets a record it does not understand stops there, and says so (exit 10; `status` exits 8).
3. A long fold saves a memo every so often, so one that is cut short goes on from there.
4. `selected` folds only the records that bear on what is asked, as a decision does, where that gives the same answer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

from muniment import __version__
from muniment.app import memo as memos
from muniment.app.collector import quiet_collector
from muniment.app.spill import Spill
from muniment.domain.decision import Fact
from muniment.domain.envelope import read_fact
from muniment.domain.errors import InvalidError, UnavailableError, UsageError
from muniment.domain.folding import FOLD
from muniment.domain.query import Query, union
from muniment.domain.world import World
from muniment.domain.world import fold as fold_world
from muniment.projections import digest as digests
from muniment.projections.fold import KNOWN
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, DRIVER
from muniment.store.api import Log, Page
from muniment.store.memos import MemoPlace
from muniment.store.merkle import Frontier

SAVE_AFTER = 512  # records folded since the memo; below, folding them again costs less than a write (2 ms)
SAVE_SHARE = 64  # and that share of the log: a memo of 1 M records takes as long as folding 10 k of them
STRIDE = 1 << 14  # records between two memos of a long fold, at least; a quarter of the log at most
PAGE = 512  # measured: 3 % faster than 1024 and 20 % than 2048, whose facts outgrow the cache
MAX_ROUNDS = 12  # a boundary that does not settle is our bug

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
    """A model and its cursor. Large parts of the model may be read late; `whole` decodes all of it."""

    model: ReadModel
    cursor: Cursor


def current(
    log: Log, base: Path | None = None, *, as_of: int | None = None, progress: Progress | None = None
) -> Current:
    """Fold every projection up to the head, or up to position `as_of`, beginning at the nearest memo that is of this log.

    Args:
        base: the reader's home; None is the default one.

    Raises:
        Stopped: a record that the fold does not understand (exit 10).
        UsageError: `as_of` is beyond the head.
    """
    head = Frontier(*log.frontier())
    until = _until(head, as_of)
    ladder, memo = nearest(log, base, head, until)
    model = memo.model if memo.model is not None else ReadModel()
    note = memo.note
    newest = ladder is not None and memo.position == ladder.newest.position
    if newest and until - memo.position >= due(until):
        own = memos.place_of(log.store_id, base)
        note = advance(log, own, memo._replace(model=model), until, head, progress=progress) or note
    else:
        fold(log, model, after=memo.position, until=until, progress=progress)
    root = head.root().hex() if until == head.size else ""
    return Current(model, Cursor(until, root, memo.position, note))


def _until(head: Frontier, as_of: int | None) -> int:
    until = head.size if as_of is None else as_of
    if not 0 <= until <= head.size:
        raise UsageError(
            f"position {until} is not in this log", code="reading.as_of", expected=f"0..{head.size}"
        )
    return until


def places(log: Log, base: Path | None) -> list[MemoPlace]:
    """Where memos of this log may be: the reader's home, then those its store shares, if it does."""
    if not log.store_id:
        return []
    shared = getattr(log, "memo_place", None)
    return [memos.place_of(log.store_id, base), *([shared()] if shared is not None else [])]


def nearest(
    log: Log, base: Path | None, head: Frontier, until: int
) -> tuple[memos.Ladder | None, memos.Memo]:
    """The nearest memo at or before a position and its ladder; the store's is asked only where the reader's own is far off."""
    best: tuple[memos.Ladder | None, memos.Memo] = None, memos.NONE
    for place in places(log, base):
        if best[0] is not None and until - best[1].position < due(until):
            break
        ladder = memos.Ladder(place, log, head, lambda position: from_zero(log, position))
        memo = ladder.at(until)
        if best[0] is None or memo.position > best[1].position:
            best = ladder, memo
    return best


def due(size: int) -> int:
    """Records after which a memo is worth its write."""
    return max(SAVE_AFTER, size // SAVE_SHARE)


def from_zero(log: Log, until: int) -> ReadModel:
    """The model at a position, from the first record."""
    model = ReadModel()
    fold(log, model, until=until)
    return model


def advance(
    log: Log,
    place: MemoPlace,
    memo: memos.Memo,
    until: int,
    head: Frontier,
    *,
    program: str = __version__,
    progress: Progress | None = None,
) -> str:
    """Fold a memo's model on to a position and save it there and on the way; return "" or why that failed.

    Raises:
        Stopped: what was saved until then stays.
    """
    assert memo.model is not None
    start, frontier, below, note = memo.position, memo.frontier.copy(), list(memo.below), ""
    if start:
        below.append((start, frontier.root().hex()))
    stride = max(STRIDE, 1 << max(until.bit_length() - 3, 0))

    def told(done: int, _: int) -> None:
        if progress is not None:
            progress(done + at - start, until - start)

    at = start
    while at < until:
        end = min(until, (at // stride + 1) * stride)
        fold(log, memo.model, after=at, until=end, progress=told)
        frontier.extend(log.leaves(after=at, until=end))
        at = end
        if not note:  # where one could not be written the next will not be either
            note = memos.save(place, log.store_id, memo.model, frontier, below, program=program)
            below.append((at, frontier.root().hex()))
    if until == head.size and frontier.roots != head.roots:
        return "memo is not of this log"
    return note


def selected(
    log: Log, boundary: Callable[[World], Query], *, until: int, base: Path | None = None
) -> ReadModel | None:
    """What a boundary reaches, as of a position: the nearest memo, and of the records after it only those it selects.

    The entities that the boundary names have the state a fold of every record gives them (I11: a decision sees the same
    world); of others nothing can be said. None if that cannot be promised, because the log holds types that this
    version does not know: then fold every record, which says where.

    Raises:
        InvalidError: a record does not fit those before it, or the boundary does not settle.
    """
    if not set(log.types()) <= KNOWN:
        return None
    head = Frontier(*log.frontier())
    ladder, memo = nearest(log, base, head, _until(head, until))
    query: Query = ()
    facts: dict[int, Fact] = {}  # no fold changes a fact, so one read serves every round
    model = memo.model if memo.model is not None else ReadModel()
    with quiet_collector():
        for _ in range(MAX_ROUNDS):
            wanted = union(query, boundary(model))
            if wanted == query:
                return model
            known = len(facts)
            more = tuple(set(wanted).difference(query))
            query = wanted
            for position, body in log.read(more, after=memo.position, until=until) if until else ():
                if position not in facts:
                    facts[position] = read_fact(body, position)
            if len(facts) > known:
                model = _again(ladder, memo, until)
                fold_world(model, (facts[at] for at in sorted(facts)), FOLD)
    raise InvalidError("the boundary of a view does not settle", code="decision.boundary")


def _again(ladder: memos.Ladder | None, memo: memos.Memo, until: int) -> ReadModel:
    """The model of a memo anew, since a fold has changed the one it had."""
    if ladder is None or memo.model is None:
        return ReadModel()
    again = ladder.at(until)
    if again.model is None or again.position != memo.position:
        raise UnavailableError(
            "a memo vanished while it was used",
            code="memo.vanished",
            hint="run it again; nothing was written",
        )
    return again.model


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
        pages = log.pages(after=after, until=until, size=size)
        return DRIVER.fold(model, _told(pages, model, after, until, progress), after)


def _told(
    pages: Iterable[Page], model: ReadModel, after: int, until: int, progress: Progress | None
) -> Iterator[Page]:
    """Pages for the fold; between two of them entities that were not asked for are put aside."""
    spill = Spill()
    for page in pages:
        yield page
        spill.relieve(model)
        if progress is not None:
            progress(page[-1][0] - after, until - after)


def digest(log: Log, base: Path | None = None, *, as_of: int | None = None) -> dict[str, Any]:
    """Full and core digest of every projection (`projection.digest/1`)."""
    found = current(log, base, as_of=as_of)
    with quiet_collector():
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
