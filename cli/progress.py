"""Progress on standard error, for what takes over a second: done, rate, time left.

On a terminal one line is drawn again and again; a dumb terminal, a pipe with -v, get a plain line every few seconds;
a pipe without -v gets nothing. What happens meanwhile is said at once, on a line that stays.
"""

from __future__ import annotations

import os
import sys
import threading
import time

FIRST_S = 1.0  # cli.md, section 2: anything over one second
DRAW_S, PLAIN_S = 0.2, 5.0
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB")


def size(count: float) -> str:
    """Bytes for people."""
    for unit in _UNITS:
        if count < 1024 or unit == _UNITS[-1]:
            return f"{count:.0f} {unit}" if unit == "B" else f"{count:.1f} {unit}"
        count /= 1024
    return ""


def duration(seconds: float) -> str:
    """Seconds for people."""
    whole = int(seconds)
    if whole < 60:
        return f"{whole} s"
    return (
        f"{whole // 60} min {whole % 60} s" if whole < 3600 else f"{whole // 3600} h {whole % 3600 // 60} min"
    )


class Progress:
    """Called with the amount done so far; never raises for a lost terminal.

    Attributes:
        shown: progress is shown at all.

    Args:
        what: a past participle: "read", "verified".
        total: the whole amount if it is known; then time left is shown too.
        unit: "" for bytes, else the plural of what is counted.
    """

    def __init__(
        self,
        what: str,
        total: int | None = None,
        *,
        unit: str = "",
        quiet: bool = False,
        verbose: bool = False,
    ) -> None:
        self.what, self.total, self.unit = what, total, unit
        drawn = sys.stderr.isatty() and os.environ.get("TERM") != "dumb"
        self._drawn = drawn
        self._on = self.shown = not quiet and (verbose or sys.stderr.isatty())
        self._lock = threading.RLock()  # a note may come from any thread
        self._start = time.monotonic()
        self._next = self._start + FIRST_S
        self._width = 0

    def __call__(self, done: int) -> None:
        """Take the amount done."""
        if not self._on:
            return
        now = time.monotonic()
        if now < self._next:
            return
        self._next = now + (DRAW_S if self._drawn else PLAIN_S)
        with self._lock:
            self._write(self.line(done, now - self._start))

    def note(self, line: str) -> None:
        """Say something that stays, above the line that is drawn again."""
        with self._lock:
            self.close()
            self._put(line + "\n")

    def line(self, done: int, elapsed: float) -> str:
        """`12.0 MiB of 40.0 MiB read, 6.0 MiB/s, 4 s left`."""
        rate = done / elapsed if elapsed > 0 else 0.0
        amount, speed = (
            (f"{done} {self.unit}", f"{rate:.0f}/s") if self.unit else (size(done), f"{size(rate)}/s")
        )
        parts = [f"{amount} {self.what}", speed]
        if self.total:
            whole = f"{self.total} {self.unit}" if self.unit else size(self.total)
            parts[0] = f"{amount} of {whole} {self.what}"
            if rate > 0:
                parts.append(f"{duration(max(self.total - done, 0) / rate)} left")
        return ", ".join(parts)

    def close(self) -> None:
        """Clear the drawn line."""
        with self._lock:
            if self._width:
                self._put("\r" + " " * self._width + "\r")
                self._width = 0

    def _write(self, line: str) -> None:
        if self._drawn:
            self._put("\r" + line.ljust(self._width))
            self._width = len(line)
        else:
            self._put(line + "\n")

    def _put(self, text: str) -> None:
        try:
            sys.stderr.write(text)
            sys.stderr.flush()
        except OSError:
            self._on = False
