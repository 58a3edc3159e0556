"""Instants as the record holds them: RFC 3339, UTC, six decimals, `Z`.

One fixed width means that text order is time order, so a fold compares strings and parses nothing.
"""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import lru_cache

from muniment.domain.errors import UsageError

FORMAT = "%Y-%m-%dT%H:%M:%S.%fZ"
_EPOCH = datetime(1970, 1, 1, tzinfo=UTC)


def from_micros(micros: int) -> str:
    """Microseconds since 1970 (UTC) as an instant."""
    seconds, rest = divmod(micros, 1_000_000)
    return f"{_second(seconds)}{rest:06d}Z"


@lru_cache(maxsize=16)
def _second(seconds: int) -> str:
    """All up to the decimals: what is decided, recorded and appended together shares it (0.6 us in place of 1.9)."""
    return to_text(_EPOCH + timedelta(seconds=seconds))[:-7]


def to_micros(instant: str) -> int:
    """An instant as microseconds since 1970 (UTC)."""
    return (parse(instant) - _EPOCH) // timedelta(microseconds=1)


def to_text(moment: datetime) -> str:
    """An aware datetime as an instant. `isoformat` is used since it is three times as fast as strftime."""
    return moment.astimezone(UTC).replace(tzinfo=None).isoformat(timespec="microseconds") + "Z"


def parse(text: str) -> datetime:
    """Read RFC 3339 with an offset or `Z`.

    Raises:
        UsageError: not a time, or a time without an offset (whose instant nobody could name).
    """
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise UsageError(
            f"not a time: {text[:60]!r}", code="time.syntax", expected="RFC 3339, e.g. 2026-11-20T09:00:00Z"
        ) from error
    if moment.tzinfo is None:
        raise UsageError(f"time without offset: {text!r}", code="time.offset", hint="add Z or +02:00")
    return moment.astimezone(UTC)


def plus(instant: str, *, seconds: int = 0, micros: int = 0) -> str:
    """The instant so much later."""
    return from_micros(to_micros(instant) + seconds * 1_000_000 + micros)


def between(start: str, end: str) -> int:
    """Microseconds from start to end; negative if end is earlier."""
    return to_micros(end) - to_micros(start)
