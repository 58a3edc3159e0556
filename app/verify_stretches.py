"""The leading records of a log in stretches, surveyed here or by worker processes: the same surveys, in the same order.

1. A worker opens the log by itself, read-only. It sees at least what the inspector sees, and records are only ever added, so the
   records up to the inspector's head are the same to both; whoever changes them meanwhile is found out by one or the other.
2. Workers are taken for long logs only: to start one costs what 30 000 records cost. Where they cannot be started the
   records are surveyed here. One that ends later is an error, never a pass and never silently replaced.
3. A worker ends when its pipe does: it outlives neither the verification nor this process.
"""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Protocol

import msgspec
from muniment.app import verify_worker
from muniment.app.verify_sum import SPAN
from muniment.app.verify_survey import Plan, Survey, Surveyor
from muniment.app.verify_worker import Fold, Folded, Hello, Look, Nothing, Seen
from muniment.domain.errors import UnavailableError
from muniment.store.inspect import Inspector

LEAST = 131_072  # records, from which on workers are taken
MOST = 8  # workers
AHEAD = 3  # stretches asked for, for each worker: what is kept of them is a few megabytes

Stretch = tuple[int, int, Survey | None]
"""(first position, last position, what was seen)."""


class Surveys(Protocol):
    """Stretches that follow one another from position 1 on."""

    plan: Plan

    def __iter__(self) -> Iterator[Stretch]: ...

    def fold(self) -> Folded | None:
        """Digests of every projection over the leading records, if they were asked for."""
        ...

    def close(self) -> None:
        """Release everything; nothing is left running."""
        ...


def processors() -> int:
    """How many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


def surveys(store: Inspector, plan: Plan, size: int, fold: int, processes: int | None) -> Surveys:
    """Make the surveys of the first `size` records.

    Args:
        fold: fold so many leading records as well, 0 for none.
        processes: how many workers at most; None chooses, 1 or less takes none.
    """
    count = min(processors(), MOST) if processes is None else processes
    if count > 1 and store.address and (size >= LEAST or processes is not None):
        try:
            return Workers(store, plan, size, fold, count)
        except (OSError, ValueError, EOFError, msgspec.MsgspecError):
            pass  # rule 2
    return Here(store, plan, size, fold)


class Here:
    """Surveyed in this process."""

    def __init__(self, store: Inspector, plan: Plan, size: int, fold: int) -> None:
        self.plan = plan
        self._store, self._size, self._until = store, size, fold

    def __iter__(self) -> Iterator[Stretch]:
        surveyor = Surveyor(self.plan)
        for first, last in _stretches(self._size):
            yield first, last, verify_worker.look(self._store, surveyor, first, last)

    def fold(self) -> Folded | None:
        return verify_worker.fold(self._store, self._until) if self._until else None

    def close(self) -> None:
        """Nothing to release."""


class Workers:
    """Surveyed by other processes."""

    def __init__(self, store: Inspector, plan: Plan, size: int, fold: int, count: int) -> None:
        self.plan = plan
        self._size = size
        self._count = count
        self._workers: list[Worker] = []
        self._threads = ThreadPoolExecutor(count, thread_name_prefix="muniment-verify")
        self._folded: Future[Folded] | None = None
        self._idle: deque[Worker] = deque()
        try:
            hello = Hello(verify_worker.FORMAT, store.address, plan)
            for _ in range(count):
                self._workers.append(Worker())
            for worker in self._workers:
                worker.tell(hello)
            for worker in self._workers:
                worker.hear(Nothing)
            self._idle.extend(self._workers)
            self._folded = self._threads.submit(self._ask, Fold(fold), Folded) if fold else None
        except BaseException:
            self.close()
            raise

    def __iter__(self) -> Iterator[Stretch]:
        asked: deque[tuple[int, int, Future[Seen]]] = deque()
        for first, last in _stretches(self._size):
            asked.append((first, last, self._threads.submit(self._ask, Look(first, last), Seen)))
            if len(asked) > AHEAD * self._count:
                yield _answered(*asked.popleft())
        while asked:
            yield _answered(*asked.popleft())

    def fold(self) -> Folded | None:
        return self._folded.result() if self._folded is not None else None

    def _ask(self, question: Look | Fold, kind: Any) -> Any:
        worker = self._idle.popleft()  # there are as many threads as workers
        try:
            worker.tell(question)
            return worker.hear(kind)
        except (OSError, ValueError, EOFError, msgspec.MsgspecError) as error:
            raise UnavailableError(
                "a process that verified a part of the records ended before it was done",
                code="verify.worker",
                hint="muniment verify store --processes 1",
                found=worker.end(),
            ) from error
        finally:
            self._idle.append(worker)

    def close(self) -> None:
        """End the workers; what they were doing is lost."""
        for worker in self._workers:
            worker.close()
        self._threads.shutdown(wait=True, cancel_futures=True)


def _answered(first: int, last: int, future: Future[Seen]) -> Stretch:
    return first, last, future.result().survey


def _stretches(size: int) -> Iterator[tuple[int, int]]:
    return ((first, min(first + SPAN - 1, size)) for first in range(1, size + 1, SPAN))


class Worker:
    """A process of `verify_worker`, and its pipe. It imports what this process has imported, from where that did."""

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "muniment.app.verify_worker"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
            start_new_session=True,  # Ctrl-C is ours to handle: `close` ends the workers
        )
        self._closing = threading.Lock()

    def tell(self, message: Any) -> None:
        """Send a message."""
        assert self._process.stdin is not None
        verify_worker.send(self._process.stdin, message)

    def hear(self, kind: Any) -> Any:
        """Receive the answer, which must be of this kind.

        Raises:
            EOFError: the worker has ended. ValueError, msgspec.MsgspecError: another answer.
        """
        assert self._process.stdout is not None
        return verify_worker.receive(self._process.stdout, kind)

    def end(self) -> str:
        """How it ended."""
        with suppress(subprocess.TimeoutExpired):
            code = self._process.wait(5)
            return f"signal {-code}" if code < 0 else f"exit {code}"
        return "no answer that is one"

    def close(self) -> None:
        """End it, and wait for that."""
        with self._closing:
            self._process.kill()
            self._process.wait()
            for stream in (self._process.stdin, self._process.stdout):
                if stream is not None:
                    with suppress(OSError):
                        stream.close()
