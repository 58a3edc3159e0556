"""1, 16 and 64 callers, one record each durable commit: group commit, from threads and from asyncio tasks.

Drafts are prepared before; the floor is a bare coalescing writer (drain, one transaction, answer all) with the same kind of
caller and the same bytes. The library has no asyncio face and no group commit: 16 threads call its recorder.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import threading
from collections.abc import Callable, Sequence

from eventsourcing.persistence import StoredEvent
from muniment.ops.bench import data, grounds, peers
from muniment.ops.bench.harness import Goal, Options, Table, fdatasync_rate, rate, table
from muniment.store.api import Draft, Log

CALLERS = (1, 16, 64)
EACH = {1: 500, 16: 200, 64: 80}  # records a caller in one run
ES_THREADS = 16
TIMES_LIBRARY = {1: 2.0, 16: 8.0, 64: 20.0}  # over PostgreSQL, where it takes a table lock


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


def in_threads(callers: int, work: Callable[[int], None]) -> None:
    """Run the callers to their ends."""
    threads = [threading.Thread(target=work, args=(k,)) for k in range(callers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def shares(items: Sequence[Draft], callers: int) -> list[Sequence[Draft]]:
    """The items of each caller."""
    return [items[k::callers] for k in range(callers)]


def log_threads(log: Log, drafts: Sequence[Draft], callers: int) -> float:
    """Threads appending to our log."""
    mine = shares(drafts, callers)

    def work(k: int) -> None:
        for draft in mine[k]:
            log.append((draft,))

    return rate(len(drafts), lambda: in_threads(callers, work))


def log_tasks(log: Log, drafts: Sequence[Draft], callers: int) -> float:
    """Tasks of one loop appending to our log."""
    mine = shares(drafts, callers)

    async def work(k: int) -> None:
        for draft in mine[k]:
            await log.append_async((draft,))

    async def main() -> float:
        loop = asyncio.get_running_loop()
        start = loop.time()
        await asyncio.gather(*(work(k) for k in range(callers)))
        return len(drafts) / (loop.time() - start)

    return asyncio.run(main())


def bare_threads(bare: peers.Bare, rows: Sequence[peers.Row], callers: int) -> float:
    """Threads before the bare coalescing writer."""
    writer = peers.Coalescing(bare)
    writer.start()

    def work(k: int) -> None:
        wake = threading.Lock()
        wake.acquire()
        for row in rows[k::callers]:
            writer.queue.put((row, wake.release))
            wake.acquire()

    found = rate(len(rows), lambda: in_threads(callers, work))
    writer.stop()
    return found


def bare_tasks(bare: peers.Bare, rows: Sequence[peers.Row], callers: int) -> float:
    """Tasks of one loop before the bare coalescing writer; the loop is woken once a group."""
    writer = peers.Coalescing(bare)
    writer.start()
    answered: list[asyncio.Future[None]] = []

    def deliver() -> None:
        done = answered.copy()
        del answered[: len(done)]
        for future in done:
            future.set_result(None)

    async def main() -> float:
        loop = asyncio.get_running_loop()

        def answer(future: asyncio.Future[None]) -> None:
            answered.append(future)
            if len(answered) == 1:
                loop.call_soon_threadsafe(deliver)

        async def work(k: int) -> None:
            for row in rows[k::callers]:
                future: asyncio.Future[None] = loop.create_future()
                writer.queue.put((row, lambda future=future: answer(future)))  # type: ignore[misc]
                await future

        start = loop.time()
        await asyncio.gather(*(work(k) for k in range(callers)))
        return len(rows) / (loop.time() - start)

    found = asyncio.run(main())
    writer.stop()
    return found


def es_threads(app: peers.Subjects, events: Sequence[StoredEvent], callers: int) -> float:
    """Threads before the library's recorder."""

    def work(k: int) -> None:
        for stored in events[k::callers]:
            app.recorder.insert_events([stored])

    return rate(len(events), lambda: in_threads(callers, work))


def _table(size: int, options: Options) -> Table:
    with contextlib.ExitStack() as stack:
        ground, log, app, bare = grounds.filled(stack, options, size)
        numbers = itertools.count(size + 1, 100_000)

        def work(callers: int) -> int:
            return callers * options.work(EACH[callers])

        def ours(how: Callable[[Log, Sequence[Draft], int], float], callers: int) -> float:
            return how(log, data.drafts(next(numbers), work(callers)), callers)

        def floor(how: Callable[[peers.Bare, Sequence[peers.Row], int], float], callers: int) -> float:
            return how(bare, bare.rows(peers.bodies(next(numbers), work(callers))), callers)

        def peer(callers: int) -> float:
            events = peers.stored_events(next(numbers), callers * options.work(50), 2)
            return es_threads(app, events, callers)

        cases: dict[str, Callable[[], float]] = {}
        goals = []
        for callers in CALLERS:
            library = f"eventsourcing, {min(callers, ES_THREADS)} threads"
            cases[library] = lambda callers=callers: peer(min(callers, ES_THREADS))  # type: ignore[misc]
            for kind, how, bottom in (
                ("threads", log_threads, bare_threads),
                ("tasks", log_tasks, bare_tasks),
            ):
                if (callers, kind) == (1, "tasks"):
                    continue
                mine, theirs = f"muniment, {callers} {kind}", f"bare coalescing, {callers} {kind}"
                cases[mine] = lambda how=how, callers=callers: ours(how, callers)  # type: ignore[misc]
                cases[theirs] = lambda bottom=bottom, callers=callers: floor(bottom, callers)  # type: ignore[misc]
                if ground.kind == "psycopg":
                    goals.append(Goal(mine, library, TIMES_LIBRARY[callers]))
                else:
                    goals.append(Goal(mine, theirs, 0.7))
        cases["fdatasync of 4 KiB"] = lambda: fdatasync_rate(ground.folder, options.work(500))
        return table(
            f"callers, {ground.version}, log of {size:,} records",
            cases,
            options,
            base=f"eventsourcing, {ES_THREADS} threads",
            goals=goals,
            notes=[
                "One record each call, durable when it returns; drafts prepared, three tags a record.",
                "Threads and tasks are of one process; the library has neither tasks nor group commit.",
            ],
        )
