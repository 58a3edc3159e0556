"""Cells of a database, for comparing and for a report."""

from __future__ import annotations

from typing import Any


def hexed(value: Any) -> str:
    """A cell for a report."""
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 64 else f"{value[:32].hex()}… ({len(value)} bytes)"
    return repr(value)[:200]


def uuid_bytes(text: Any) -> bytes | None:
    """The sixteen bytes of a record id as the id column holds them; None if it is none."""
    try:
        return bytes.fromhex(text.replace("-", "")) if len(text) == 36 else None
    except (AttributeError, TypeError, ValueError):
        return None


def hexed_or_text(value: Any) -> str:
    """A value for a report; text stays as it is."""
    return value if isinstance(value, str) else hexed(value)
