"""When to kill and to interrupt, and what has to be over before one looks: nothing here counts on the speed of a machine."""

from __future__ import annotations

import io
import math
import os
import random
import signal
import threading
from typing import Any

import psycopg
from postgres_programs import wait

OTHERS = (
    "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    " AND backend_type = 'client backend'"
)


class Moments:
    """Random delays within the time that the work takes here and now.

    A time measured once may be that of a first run or of a machine that stood still, and then every kill comes too late.

    Args:
        longest: seconds, the first guess.
        share: how many of the kills shall come late.
    """

    def __init__(self, seed: object, longest: float, share: float = 0.3) -> None:
        self._chance, self._longest, self._share = random.Random(str(seed)), longest, share

    def next(self) -> float:
        """Seconds to wait before a kill."""
        return self._chance.uniform(0, self._longest)

    def was(self, *, late: bool) -> None:
        """Say whether the work was done before the kill came. Where the share is right the two factors even out."""
        self._longest *= math.exp((self._share - late) / 2)


class Interrupts(io.BytesIO):
    """Takes the output of a stage: SIGINT to this process a little after the first of it.

    Then the stage is followed. Before that nobody expects a SIGINT, and it would end the tests.
    """

    def write(self, data: Any) -> int:
        if not self.tell():
            threading.Timer(0.05, os.kill, (os.getpid(), signal.SIGINT)).start()
        return super().write(data)


def until_alone(url: str) -> None:
    """Until the server has done what clients that were killed had sent, and has ended their connections.

    Args:
        url: a database that nobody of this test is connected to.
    """
    with psycopg.connect(url, autocommit=True) as db:
        wait(lambda: db.execute(OTHERS).fetchone() == (0,), "the end of killed clients")
