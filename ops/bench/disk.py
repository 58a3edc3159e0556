"""Bytes on disk a record, after the write-ahead log is merged, against the canonical bytes and the library."""

from __future__ import annotations

import contextlib

from muniment.ops.bench import bulk, data, grounds, peers
from muniment.ops.bench.harness import Goal, Options, Table, tabulate

OURS, CANONICAL = "muniment", "canonical bytes"


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


def _table(size: int, options: Options) -> Table:
    with grounds.ground(options) as ground:
        with contextlib.closing(ground.log("log")) as log:
            data.fill(log, size)
        app = ground.application("es")
        peers.fill_application(app, size)
        app.close()
        with contextlib.closing(ground.bare("bare")) as bare:
            bare.fill(size)
        figures = {
            OURS: [ground.bytes_of("log") / size],
            CANONICAL: [bulk.mean_bytes(0, size)],
            "eventsourcing": [ground.bytes_of("es") / size],
            bulk.BARE: [ground.bytes_of("bare") / size],
        }
        return tabulate(
            f"disk, {ground.version}, log of {size:,} records",
            figures,
            base=CANONICAL,
            unit="bytes a record",
            goals=[Goal(OURS, CANONICAL, 1.6, at_least=False)],
            notes=[
                "Filled in batches of 1000. The index of ids, that of tags and the leaf hash are in ours."
            ],
        )
