"""Status of the projections, and their rebuild from the first record (`projection status`, `projection rebuild`).

A rebuild never begins at a memo of a reader. It folds from zero beside what is live and saves on the way there; one that was cut
short is gone on with by the same version of the program, unless it is asked to begin anew. At the end it compares, then swaps.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from muniment import __version__
from muniment.app import memo as memos
from muniment.app.collector import quiet_collector
from muniment.app.projecting import Progress, advance, current, fold, from_zero, places
from muniment.domain.errors import UnavailableError, UnfitError
from muniment.projections import digest as digests
from muniment.projections.fold import Stopped
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL
from muniment.store.api import Log
from muniment.store.memos import MemoPlace
from muniment.store.merkle import Frontier

STALE = UNSAVED = 8
WRONG = 7


def status(log: Log, base: Path | None = None, *, progress: Progress | None = None) -> dict[str, Any]:
    """Position, lag and digest of every projection (`projection.status/1`); `exit_code` 8 if any is stale."""
    size = log.head().size
    stopped: dict[str, Any] | None = None
    try:
        model, cursor = current(log, base, progress=progress)
        position, note, began = cursor.position, cursor.note, cursor.memo
        size = max(size, position)
    except Stopped as error:
        position, note, began, model = error.position, "", 0, from_zero(log, error.position)
        stopped = {"position": position + 1, "code": error.code, "message": error.message, "hint": error.hint}
    found = _digests(model)
    rows = [
        {
            "projection": p.name,
            "version": p.version,
            "question": p.question,
            "position": position,
            "lag": size - position,
            "stale": position < size,
            "digest": found[p.name],
        }
        for p in ALL
    ]
    return {
        "schema": "projection.status/1",
        "as_of": size,
        "data": rows,
        "memo": {"position": began, "note": note},
        "memos": _kept(log, base),
        "stopped": stopped,
        "exit_code": STALE if position < size else 0,
        "next": None,
        "omitted": 0,
    }


def _kept(log: Log, base: Path | None) -> list[dict[str, Any]]:
    """Every place of memos with the positions it holds; `note` says why one could not be read."""
    found: list[dict[str, Any]] = []
    for name, place in zip(("home", "store"), places(log, base), strict=False):
        try:
            steps, begun, note = place.steps(), place.beside().steps(), ""
        except UnavailableError as error:
            steps, begun, note = [], [], error.message
        found.append(
            {
                "place": name,
                "positions": [step.position for step in steps],
                "bytes": sum(step.bytes for step in steps),
                "rebuild": begun[-1].position if begun else 0,
                "note": note,
            }
        )
    return found


def rebuild(
    log: Log,
    base: Path | None = None,
    *,
    shared: bool = False,
    restart: bool = False,
    progress: Progress | None = None,
) -> dict[str, Any]:
    """Fold from zero beside the live memos, compare, swap (`projection.rebuild/1`); `exit_code` 7 if they differ, 8 if
    memos that were asked for as `shared` could not be saved (in a home it costs time only).

    Args:
        shared: the memos that the store shares, instead of those in the reader's home.
        restart: do not go on with a rebuild that was cut short.

    Raises:
        Stopped: the fold does not reach the head; the live memos are left as they are.
        UnfitError: this kind of store shares no memos.
    """
    head = Frontier(*log.frontier())
    place = _place(log, base, shared=shared)
    before, after, note, start = {}, _digests(ReadModel()), "", 0
    if place is not None:
        before = _live(log, place, head)
        start, after, note = _anew(log, place, head, restart=restart, progress=progress)
    rows = [
        {
            "projection": p.name,
            "version": p.version,
            "live": before.get(p.name, ""),
            "rebuilt": after[p.name],
            "equal": before[p.name] == after[p.name] if before else None,
        }
        for p in ALL
    ]
    differ = [row["projection"] for row in rows if row["equal"] is False]
    return {
        "schema": "projection.rebuild/1",
        "as_of": head.size,
        "data": rows,
        "verdict": "different" if differ else "equal" if before else "nothing to compare with",
        "began": start,
        "note": note,
        "exit_code": WRONG if differ else UNSAVED if shared and note else 0,
        "next": None,
        "omitted": 0,
    }


def _place(log: Log, base: Path | None, *, shared: bool) -> MemoPlace | None:
    found = places(log, base)
    if shared and len(found) < 2:
        raise UnfitError(
            "this store shares no memos",
            code="memo.not_shared",
            hint="leave --shared out: they are kept in your own home",
            expected="a PostgreSQL store",
        )
    return found[1 if shared else 0] if found else None


def _digests(model: ReadModel) -> dict[str, str]:
    with quiet_collector():
        return {p.name: digests.full(p, model) for p in ALL}


def _live(log: Log, place: MemoPlace, head: Frontier) -> dict[str, str]:
    """Digests of what readers are shown now; {} if there is no memo of this log. Its model is gone when this returns."""
    memo = memos.Ladder(place, log, head, lambda position: from_zero(log, position)).newest
    if memo.model is None:
        return {}
    fold(log, memo.model, after=memo.position, until=head.size)
    return _digests(memo.model)


def _anew(
    log: Log, place: MemoPlace, head: Frontier, *, restart: bool, progress: Progress | None
) -> tuple[int, dict[str, str], str]:
    """Where the fold began, its digests, and why it was not saved, if so."""
    beside, note = place.beside(), ""
    try:
        if restart:
            for step in beside.steps():
                beside.drop(step.position)
    except UnavailableError as error:
        note = f"memo not written: {error.message}"
    memo = memos.NONE
    if not restart:
        ladder = memos.Ladder(
            beside, log, head, lambda position: from_zero(log, position), program=__version__
        )
        memo = ladder.newest
    memo = memo._replace(model=memo.model if memo.model is not None else ReadModel())
    assert memo.model is not None
    note = advance(log, beside, memo, head.size, head, progress=progress) or note
    after = _digests(memo.model)
    if not note:
        try:
            place.swap()
        except UnavailableError as error:
            note = f"memo not written: {error.message}"
    return memo.position, after, note
