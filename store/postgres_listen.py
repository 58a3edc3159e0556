"""LISTEN for the commits of other processes; a subscription also polls, so what gets lost here costs one poll.

NOTIFY is neither durable nor complete: a connection that is cut hears nothing, so nothing may depend on it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

import psycopg
from muniment.domain.errors import MunimentError
from muniment.store.postgres_pool import connect
from muniment.store.postgres_url import Place
from psycopg import sql

_LOOK_S = 0.2  # how often a listener looks whether it is to end
_AGAIN_S = 1.0  # after a connection was lost


class Listener:
    """A thread that calls `heard` after each notification; a daemon, on a connection of its own."""

    def __init__(self, place: Place, channel: str, heard: Callable[[], None]) -> None:
        self._place = place
        self._channel = channel
        self._heard = heard
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="muniment-listen", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """End it; returns when its connection is closed."""
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.is_set():
            try:
                with connect(self._place, read_only=True) as db:
                    db.execute(sql.SQL("LISTEN {}").format(sql.Identifier(self._channel)))
                    self._heard()  # of what came before
                    while not self._over.is_set():
                        for _ in db.notifies(timeout=_LOOK_S, stop_after=1):
                            self._heard()
            except (psycopg.Error, MunimentError):
                self._over.wait(_AGAIN_S)
