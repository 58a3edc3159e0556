"""Read the whole log, decode it, fold it into every projection, against the library's way and a bare cursor.

The library reads notifications in pages of 500, decodes each event and folds it into one dictionary of counters, which is less
than what every projection does. The bare cursor reads and does nothing.
"""

from __future__ import annotations

import contextlib

from muniment.app import projecting
from muniment.ops.bench import grounds, peers
from muniment.ops.bench.harness import Goal, Options, Table, rate, table
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL
from muniment.store.api import Log

OURS, PAGES = "muniment, every projection", "muniment, pages only"
PEER, BARE = "eventsourcing, decode and fold", "bare cursor"


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


def fold_all(log: Log, size: int) -> ReadModel:
    """The application's own fold, from nothing."""
    model = ReadModel()
    reached = projecting.fold(log, model, until=size)
    assert reached == size == model.timeline.records
    return model


def fold_peer(app: peers.Subjects, size: int) -> None:
    """The library's reading, decoding and a small fold."""
    counts: dict[object, list[object]] = {}
    start, seen = 0, 0
    decode = app.mapper.to_domain_event
    while page := app.recorder.select_notifications(start, peers.PAGE, inclusive_of_start=False):
        for notification in page:
            event = decode(notification)
            state = counts.setdefault(event.originator_id, [0, ""])
            state[0] += 1  # type: ignore[operator]
            state[1] = event.kind  # type: ignore[attr-defined]
        seen += len(page)
        start = page[-1].id
    assert seen == size, (seen, size)


def read_pages(log: Log) -> None:
    """Read and do nothing."""
    for _ in log.pages():
        pass


def read_bare(bare: peers.Bare) -> None:
    """Read and do nothing."""
    for _ in bare.scan():
        pass


def _table(size: int, options: Options) -> Table:
    with contextlib.ExitStack() as stack:
        ground, log, app, bare = grounds.filled(stack, options, size)
        return table(
            f"fold, {ground.version}, log of {size:,} records",
            {
                OURS: lambda: rate(size, lambda: fold_all(log, size)),
                PEER: lambda: rate(size, lambda: fold_peer(app, size)),
                PAGES: lambda: rate(size, lambda: read_pages(log)),
                BARE: lambda: rate(size, lambda: read_bare(bare)),
            },
            options,
            base=PEER,
            goals=[Goal(OURS, PEER, 2.5)],
            notes=[f"{len(ALL)} projections: {', '.join(p.name for p in ALL)}."],
        )
