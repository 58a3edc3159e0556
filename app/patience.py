"""How long a run waits for its store, once for all who write: who waited in vain spares the others the wait.

1. A sink tries again for ten seconds, and twice at least: a store may wait by itself, SQLite 5 s for a lock and PostgreSQL 10, so
   tries are not counted alone.
2. Who gives up gives up for every sink of the run. The pipeline stops, and nothing is lost: what is not acknowledged is read again.
3. While a sink waits, no heartbeat asks the same store: each would hold the only writer for as long again.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

from muniment.domain.errors import UnavailableError

WAITS = (0.1, 0.3, 1.0, 3.0, 6.0)  # seconds between tries
LIMIT_S = 10.0

T = TypeVar("T")


class Patience:
    """What a run knows of its store.

    Args:
        told: is told (word, text) when a wait begins and when it ends well.
    """

    def __init__(self, told: Callable[[str, str], None]) -> None:
        self._told = told
        self._fault: UnavailableError | None = None
        self._over = False

    def check(self) -> None:
        """Raises UnavailableError: the store could not be written the last time a sink tried."""
        if self._fault is not None:
            raise self._fault

    def until_done(self, act: Callable[[], T]) -> T:
        """What `act` returns, once the store can be written.

        Raises:
            UnavailableError: it could not be (rule 1), here or for another sink; or its clock is for a person to settle.
        """
        began = time.monotonic()
        for tried, wait in enumerate((*WAITS, None)):
            if self._over:
                self.check()
            try:
                done = act()
            except UnavailableError as error:
                if error.code.startswith("clock."):
                    raise
                if self._fault is None:
                    self._told("waits", f"for the store: {error}")
                self._fault = error
                seconds = time.monotonic() - began
                if wait is None or (tried and seconds >= LIMIT_S):
                    self._over, self._fault = True, _gave_up(error, seconds)
                    raise self._fault from error
                time.sleep(wait)
            else:
                if self._fault is not None and not self._over:
                    self._told("goes on", "the store can be written again")
                    self._fault = None
                return done
        raise AssertionError  # the last wait is None


def _gave_up(error: UnavailableError, seconds: float) -> UnavailableError:
    return UnavailableError(
        f"{error}, for {seconds:.0f} s",
        code=error.code,
        hint=f"{error.hint}; then run it again on the same input: all that is acknowledged is kept, the rest is read again",
        **error.context,
    )
