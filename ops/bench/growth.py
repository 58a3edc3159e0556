"""How cost grows with the log: append, fold, verify and the history of one tag at each size, in one process, in turn."""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Callable

from muniment.domain.query import Item
from muniment.ops.bench import bulk, data, grounds
from muniment.ops.bench.fold import fold_all
from muniment.ops.bench.harness import Options, Table, rate, table
from muniment.ops.bench.verify import verify
from muniment.store.api import Log

HISTORY = 50


def run(options: Options) -> list[Table]:
    """A table for each operation, a row for each size."""
    with contextlib.ExitStack() as stack:
        ground = stack.enter_context(grounds.ground(options))
        logs: dict[int, Log] = {}
        for size in options.sizes:
            log = stack.enter_context(contextlib.closing(ground.log(f"log-{size}")))
            data.fill(log, size)
            logs[size] = log
        numbers = itertools.count(max(options.sizes) + 1, 100_000)

        def single(log: Log) -> float:
            drafts = data.drafts(next(numbers), options.work(300))
            return rate(len(drafts), lambda: [log.append((one,)) for one in drafts])

        def batches(log: Log) -> float:
            records = list(data.records(next(numbers), options.work(5000)))
            return rate(len(records), lambda: bulk.append(log, records))

        def whole(log: Log, work: Callable[[Log, int], object]) -> float:
            size = log.last_match(())
            return rate(size, lambda: work(log, size))

        def history(log: Log) -> float:
            slot, _ = data.place(7)
            query = (Item((), (f"slot:{slot}",)),)
            count = options.work(100)
            assert len(list(log.read(query, limit=HISTORY))) == min(HISTORY, len(list(log.read(query))))
            return rate(count, lambda: [list(log.read(query, limit=HISTORY)) for _ in range(count)])

        operations: dict[str, Callable[[Log], float]] = {
            # the reading ones come first: the appending ones make their logs larger
            f"history of a slot, first {HISTORY}": history,
            "fold into every projection": lambda log: whole(log, fold_all),
            "verify": lambda log: whole(log, lambda log, size: verify(log, ground.folder / "home", size)),
            "append, one a commit": single,
            "append, batches of 1000": batches,
        }
        smallest = f"{min(options.sizes):,} records"
        return [
            table(
                f"growth, {ground.version}: {name}",
                {f"{size:,} records": lambda work=work, log=log: work(log) for size, log in logs.items()},  # type: ignore[misc]
                options,
                base=smallest,
            )
            for name, work in operations.items()
        ]
