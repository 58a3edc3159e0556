"""Group commit: many callers, one transaction, every caller answered only when its records are durable.

1. A caller that meets no other commits on its own thread: no queue, no thread, no wake-up.
2. A caller that meets one queues; a background thread, started at the first such meeting, takes all that
   wait into the next transaction. Tasks of an asyncio loop always queue, since a loop must not wait for a
   disk; their loop is woken once a transaction.
3. A conflict is found before anything of its append is written, and is reported to its caller alone.
4. If the transaction itself fails, each append of the group is tried again in one of its own, so that an
   error caused by one never fails its neighbours. A database that does not answer (a lock held elsewhere, no
   connection) is the exception: it would be waited for anew each time, so all get the same answer.
5. At most `max_waiting` appends wait; threads and tasks beyond wait for room.
6. `close` refuses new appends, commits what was accepted, then returns. An append whose task is cancelled
   while it waits may still be committed; its id tells (settled.md, 9).
"""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Awaitable, Callable, Sequence
from queue import Empty, SimpleQueue
from typing import TYPE_CHECKING, TypeVar

from muniment.domain.errors import MunimentError, UnavailableError
from muniment.store.api import Appended, Condition, Draft

if TYPE_CHECKING:
    from asyncio import AbstractEventLoop, Future

Result = TypeVar("Result")

MAX_WAITING = 8192
MAX_GROUP_RECORDS = 4096
_NOT_OF_ONE = frozenset(
    f"store.{what}"
    for what in (
        "commit_unknown", "connections", "locked", "login", "not_durable", "not_found", "not_primary", "read_only", "rights",
        "tls", "unreachable",
    )
)  # fmt: skip


class Work:
    """One append on its way; the committer sets `answer` or `error`."""

    __slots__ = ("answer", "condition", "decided_at", "drafts", "error", "future", "loop", "wake")

    def __init__(
        self, drafts: Sequence[Draft], condition: Condition | None = None, decided_at: int | None = None
    ) -> None:
        self.drafts = drafts
        self.condition = condition
        self.decided_at = decided_at
        self.answer: Appended | None = None
        self.error: BaseException | None = None
        self.wake: threading.Lock | None = None
        self.loop: AbstractEventLoop | None = None
        self.future: Future[Appended] | None = None

    def result(self) -> Appended:
        """The answer; raises the error if there is one."""
        if self.error is not None:
            raise self.error
        assert self.answer is not None
        return self.answer


Commit = Callable[[Sequence[Work]], None]
"""Commits a group in one transaction and sets each answer or error; raises if the transaction failed."""


class GroupCommit:
    """The rules above, over any store's `commit`."""

    def __init__(
        self,
        commit: Commit,
        *,
        max_waiting: int = MAX_WAITING,
        max_group_records: int = MAX_GROUP_RECORDS,
    ) -> None:
        self._commit = commit
        self._max_waiting = max_waiting
        self._max_group_records = max_group_records
        self._turn = threading.Lock()  # held by whoever is in a transaction
        self._gate = threading.Lock()  # guards the four below
        self._room = threading.Condition(self._gate)
        self._waiting = 0
        self._closed = False
        self._thread: threading.Thread | None = None
        self._tasks_for_room: list[tuple[AbstractEventLoop, Future[None]]] = []
        self._queue: SimpleQueue[Work | None] = SimpleQueue()

    def append(self, work: Work) -> Appended:
        """Commit from a thread; return once durable.

        Raises:
            UnavailableError: closed (`store.closed`), or what the store raised.
            AppendConflict: from the store.
        """
        if not self._waiting and self._turn.acquire(blocking=False):
            try:
                if self._closed:
                    raise _closed_error()
                self._settle((work,))
            finally:
                self._turn.release()
            return work.result()
        work.wake = threading.Lock()
        work.wake.acquire()
        with self._gate:
            while self._waiting >= self._max_waiting and not self._closed:
                self._room.wait()
            self._enqueue(work)
        work.wake.acquire()
        return work.result()

    def append_async(self, work: Work) -> Awaitable[Appended]:
        """Commit from a task of the running loop; raises as `append` does."""
        import asyncio

        loop = work.loop = asyncio.get_running_loop()
        with self._gate:
            if self._waiting < self._max_waiting:
                future = work.future = loop.create_future()
                self._enqueue(work)
                return future
        return self._append_when_room(work, loop)

    def alone(self, act: Callable[[], Result]) -> Result:
        """Do something that writes beside no commit; raises `UnavailableError` if closed, else what it raises."""
        with self._turn:
            if self._closed:
                raise _closed_error()
            return act()

    def close(self) -> None:
        """Commit what was accepted and end; later appends raise `UnavailableError`. Idempotent."""
        with self._gate:
            if not self._closed:
                self._closed = True
                self._queue.put(None)
            self._room.notify_all()
            thread = self._thread
        if thread is not None and thread is not threading.current_thread():
            thread.join()
        with self._turn:
            pass  # an append on its caller's own thread ends first
        self._wake_tasks_for_room()

    def _enqueue(self, work: Work) -> None:
        if self._closed:
            raise _closed_error()
        if self._thread is None:
            # A daemon: a program that forgets to close must still end, and owes nobody an answer by then.
            self._thread = threading.Thread(target=self._run, name="muniment-commit", daemon=True)
            self._thread.start()
        self._waiting += 1
        self._queue.put(work)

    async def _append_when_room(self, work: Work, loop: AbstractEventLoop) -> Appended:
        while True:
            with self._gate:
                if self._waiting < self._max_waiting or self._closed:
                    future = work.future = loop.create_future()
                    self._enqueue(work)
                    break
                room: Future[None] = loop.create_future()
                self._tasks_for_room.append((loop, room))
            await room
        await future
        return work.result()

    def _run(self) -> None:
        stop = False
        while not stop:
            first = self._queue.get()
            if first is None:
                return
            group = [first]
            with self._turn:  # more arrive while a caller's own transaction ends, so collect after it
                stop = self._collect(group)
                self._settle(group)
            with self._gate:
                self._waiting -= len(group)
                self._room.notify(len(group))
            self._answer(group)
            if self._tasks_for_room:
                self._wake_tasks_for_room()

    def _collect(self, group: list[Work]) -> bool:
        """Add what waits, within bounds; tell whether the end was reached."""
        records = len(group[0].drafts)
        while records < self._max_group_records:
            try:
                work = self._queue.get_nowait()
            except Empty:
                return False
            if work is None:
                return True
            group.append(work)
            records += len(work.drafts)
        return False

    def _settle(self, group: Sequence[Work]) -> None:
        """Leave each work of the group with its answer or its error (rules 3 and 4)."""
        for work in group:
            work.answer = work.error = None
        try:
            self._commit(group)
        except BaseException as error:
            if len(group) == 1 or (isinstance(error, MunimentError) and error.code in _NOT_OF_ONE):
                for work in group:
                    work.answer, work.error = None, error
            else:
                for work in group:
                    self._settle((work,))

    def _answer(self, group: Sequence[Work]) -> None:
        tasks: dict[AbstractEventLoop, list[Work]] = {}
        for work in group:
            if work.wake is not None:
                work.wake.release()
            elif work.loop is not None:
                tasks.setdefault(work.loop, []).append(work)
        for loop, works in tasks.items():
            with contextlib.suppress(RuntimeError):  # the loop is closed: nobody is left to be told
                loop.call_soon_threadsafe(_deliver, works)

    def _wake_tasks_for_room(self) -> None:
        with self._gate:
            waiters, self._tasks_for_room = self._tasks_for_room, []
        for loop, room in waiters:
            with contextlib.suppress(RuntimeError):
                loop.call_soon_threadsafe(_set, room)


def _deliver(works: Sequence[Work]) -> None:
    for work in works:
        future = work.future
        if future is None or future.done():
            continue
        if work.error is not None:
            future.set_exception(work.error)
        elif work.answer is not None:
            future.set_result(work.answer)


def _set(room: Future[None]) -> None:
    if not room.done():
        room.set_result(None)


def _closed_error() -> UnavailableError:
    return UnavailableError("the log is closed", code="store.closed", hint="open it again")
