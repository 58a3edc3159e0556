"""Record ids (UUIDv7) and short ids for people (settled.md, 13)."""

from __future__ import annotations

import base64
import os
import re
import threading
from collections.abc import Callable

from muniment.app import clock
from muniment.domain.errors import UsageError

NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_COUNTER_MAX = 0xFFF


class Uuid7:
    """A source of UUIDv7 that grows strictly within one process, from any thread.

    48 bits of milliseconds, a 12-bit counter in rand_a, 62 random bits. The counter starts at random below
    half its range in each new millisecond. If it runs over, or the wall clock goes back, the last millisecond
    is kept and counted up, so ids may lead the clock but never fall.

    Source: RFC 9562, sections 5.7 and 6.2 (method 1, counter rollover handling).
    """

    def __init__(
        self, now: Callable[[], int] = clock.now, random: Callable[[int], bytes] = os.urandom
    ) -> None:
        """Take the sources: `now` in microseconds since 1970, `random(n)` for n bytes."""
        self._now = now
        self._random = random
        self._lock = threading.Lock()
        self._milli = -1
        self._counter = 0

    def __call__(self) -> str:
        """Return the next id in its text form, 36 lower-case characters."""
        entropy = int.from_bytes(self._random(10), "big")
        with self._lock:
            milli = self._now() // 1000
            if milli > self._milli:
                self._milli, self._counter = milli, entropy >> 69
            elif self._counter < _COUNTER_MAX:
                self._counter += 1
            else:
                self._milli, self._counter = self._milli + 1, entropy >> 69
            milli, counter = self._milli, self._counter
        low = entropy & (2**62 - 1)
        value = (milli & (2**48 - 1)) << 80 | 0x7 << 76 | counter << 64 | 0b10 << 62 | low
        text = f"{value:032x}"
        return f"{text[:8]}-{text[8:12]}-{text[12:16]}-{text[16:20]}-{text[20:]}"


uuid7 = Uuid7()


def short_id(prefix: str, random: Callable[[int], bytes] = os.urandom) -> str:
    """Return prefix and 8 random base32 characters (40 bits), e.g. `b-4k2qzt7m`.

    Raises:
        UsageError: the result would be no name.
    """
    text = prefix + base64.b32encode(random(5)).decode().lower()
    if not NAME.fullmatch(text):
        raise UsageError("prefix makes no name", code="id.prefix", expected=NAME.pattern, found=prefix[:80])
    return text
