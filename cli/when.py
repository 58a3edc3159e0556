"""Times on the command line: RFC 3339 with an offset, or an age (`2h`, `3d`) from now."""

from __future__ import annotations

import re
from collections.abc import Callable

from muniment.domain.errors import UsageError

_age = re.compile(r"(\d{1,9})(s|m|h|d|w)")
_SECONDS = {"s": 1, "m": 60, "h": 3600, "d": 86400, "w": 604800}
_DAY = re.compile(r"\d{4}-\d\d-\d\d")
Now = Callable[[], int]
"""The clock of decisions, microseconds since 1970: `Log.now`."""


def seconds(text: str) -> int | None:
    """`2h` as seconds, None if the text is no age."""
    found = _age.fullmatch(text)
    return int(found[1]) * _SECONDS[found[2]] if found else None


def duration(text: str, what: str) -> int:
    """A duration that must be one.

    Raises:
        UsageError: it is not.
    """
    found = seconds(text)
    if found is None:
        raise UsageError(f"--{what} takes 30s, 10m, 2h, 3d or 1w, got {text[:60]!r}", code="cli.duration")
    return found


def later(text: str, now: Now) -> str:
    """An expiry: an age from now, or a time; "" stays "".

    Raises:
        UsageError: neither.
    """
    return _read(text, 1, now)


def earlier(text: str, now: Now) -> str:
    """The start or end of a period: an age before now, a day (UTC), or a time; "" stays ""."""
    return _read(f"{text}T00:00:00Z" if _DAY.fullmatch(text) else text, -1, now)


def _read(text: str, sign: int, now: Now) -> str:
    if not text:
        return ""
    from muniment.domain import instant

    if (age := seconds(text)) is not None:
        moved = now() + sign * age * 1_000_000
        if not 0 <= moved < 250_000_000_000_000_000:
            raise UsageError(f"too long: {text!r}", code="cli.duration")
        return instant.from_micros(moved)
    try:
        return instant.to_text(instant.parse(text))
    except (UsageError, OverflowError) as error:
        raise UsageError(
            f"not a time: {text[:60]!r}",
            code="time.syntax",
            expected="RFC 3339 with Z or an offset, or an age such as 2h, 3d",
            hint="muniment help time",
        ) from error
