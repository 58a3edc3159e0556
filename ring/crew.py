"""The threads of a pipeline: made at once, let go together, so that they can be pinned and scheduled before they do anything."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Crew:
    """Threads that wait until `start`."""

    def __init__(self) -> None:
        self._go = threading.Event()
        self._threads: list[threading.Thread] = []

    def add(self, name: str, act: Callable[[], None]) -> None:
        """One more; `act` handles its own errors."""

        def run() -> None:
            self._go.wait()
            act()

        self._threads.append(threading.Thread(target=run, name=name, daemon=True))

    def prepare(self) -> list[int]:
        """Make them, waiting; their native ids, in the order they were added."""
        for thread in self._threads:
            if thread.ident is None:
                thread.start()
        return [thread.native_id or 0 for thread in self._threads]

    def start(self) -> None:
        """Let them go."""
        self.prepare()
        self.release()

    def release(self) -> None:
        """Let go those that were made: before a stop, or they would wait for ever."""
        self._go.set()

    def alive(self) -> bool:
        """True while one works."""
        return any(thread.is_alive() for thread in self._threads)

    def wait(self, seconds: float) -> None:
        """Until the last one has ended, at most this long."""
        until = time.monotonic() + seconds
        for thread in self._threads:
            thread.join(max(until - time.monotonic(), 0))

    def join(self) -> None:
        """Wait for all that were made."""
        for thread in self._threads:
            if thread.ident is not None:
                thread.join()
