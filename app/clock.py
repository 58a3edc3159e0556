"""The clock of decisions in microseconds, and the judge of forward jumps (settled.md, 1).

Rules:
1. Within one boot the wall clock may run ahead of CLOCK_BOOTTIME (which counts suspend) by one hour since the
   last write. More is refused until a person accepts it: one clock in 2099 must not expire every freeze.
2. Across boots nothing on the host says how long it was off, so time nobody accounts for is observed, never
   refused.
3. An idle night is no jump: boot time went on as well. A wall clock that went back is information only, since
   `recorded_at` never does.
4. No last reading (first use, damaged cache) means no judgement.

The clock that is judged is the log's: a server's, or the host's. What is accounted for is this host's boot time either way.

Two readings are of one boot if the boot id is known and equal and boot time did not go back. A time namespace
or a restored container shares the boot id with another boot time; going back is its only trace, and rule 2
then applies.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from pathlib import Path
from typing import Literal, NamedTuple

from muniment.app.home import write_atomic

LIMIT_US = 3_600_000_000
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Reading(NamedTuple):
    """Three sources at one moment: wall clock and boot time in microseconds, boot id ("" if unknown)."""

    wall_us: int
    boot_us: int
    boot_id: str


class Verdict(NamedTuple):
    """What the judge says.

    Attributes:
        kind: `ok`, `jump_refused` (until accepted) or `jump_observed` (to be recorded).
        by_s: whole seconds that the wall clock is ahead of what is accounted for; negative if it went back.
    """

    kind: Literal["ok", "jump_refused", "jump_observed"]
    by_s: int = 0


def now() -> int:
    """Microseconds since 1970 by the host's wall clock."""
    return time.time_ns() // 1000


def read_host(wall: Callable[[], int] = now) -> Reading:
    """Read the three sources; `wall` is the clock that is judged."""
    try:
        boot_id = BOOT_ID.read_text(encoding="ascii").strip()
    except (OSError, ValueError):
        boot_id = ""
    return Reading(wall(), time.clock_gettime_ns(time.CLOCK_BOOTTIME) // 1000, boot_id)


def judge(current: Reading, last: Reading | None) -> Verdict:
    """Compare a reading with the one at the last write (rules 1 to 4)."""
    if last is None:
        return Verdict("ok")
    same_boot = bool(current.boot_id) and current.boot_id == last.boot_id and current.boot_us >= last.boot_us
    accounted = current.boot_us - last.boot_us if same_boot else max(current.boot_us, 0)
    ahead = current.wall_us - last.wall_us - accounted
    if current.wall_us < last.wall_us:
        return Verdict("ok", _seconds(current.wall_us - last.wall_us))
    if ahead <= LIMIT_US:
        return Verdict("ok", max(_seconds(ahead), 0))
    return Verdict("jump_refused" if same_boot else "jump_observed", _seconds(ahead))


class ClockCache:
    """The reading at the last write, kept per store (`app.home.writer_file`).

    Use: `check()` before an append; on `ok` and `jump_observed` append and `mark()`; on `jump_refused` append
    nothing until a person records `clock.jump_accepted`, then `accept()`.
    """

    def __init__(self, path: Path, read: Callable[[], Reading] = read_host) -> None:
        self._path = path
        self._read = read

    def check(self) -> Verdict:
        """Judge this moment against the last write; nothing is written."""
        return judge(self._read(), self.last())

    def last(self) -> Reading | None:
        """The reading at the last write; None on first use and if the file is damaged (rule 4)."""
        try:
            found = json.loads(self._path.read_bytes())
            last = Reading(found["wall_us"], found["boot_us"], found["boot_id"])
        except (OSError, ValueError, TypeError, KeyError, RecursionError):
            return None
        sound = type(last.wall_us) is int and type(last.boot_us) is int and type(last.boot_id) is str
        return last if sound else None

    def mark(self) -> str:
        """Keep this moment as the last write; return "" or why it could not be kept."""
        return self._keep(self._read())

    def accept(self) -> Verdict:
        """Take this moment as good, and return the verdict that was overruled (for the record of it).

        Raises:
            OSError: the cache cannot be written, so the jump would be refused again.
        """
        current = self._read()
        verdict = judge(current, self.last())
        if warning := self._keep(current):
            raise OSError(warning)
        return verdict

    def _keep(self, reading: Reading) -> str:
        try:
            # not fsynced: a file damaged by a power cut counts as absent, and a cut means another boot anyway
            write_atomic(
                self._path, json.dumps(reading._asdict(), sort_keys=True).encode() + b"\n", durable=False
            )
        except OSError as error:
            return f"clock cache not written: {self._path}: {error.strerror}"
        return ""


def _seconds(micros: int) -> int:
    """Whole seconds, rounded towards zero."""
    return micros // 1_000_000 if micros >= 0 else -(-micros // 1_000_000)
