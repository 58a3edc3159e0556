"""Text from records, made safe and short for a terminal.

1. What a record says may have been written by anybody. Control characters, terminal escapes, bidirectional overrides and
   invisible characters are shown as `\\x1b`, `\\u202e`, so a record can neither move the cursor nor turn a line around.
2. Digests are short (12 hex digits) on a terminal and full when piped; instants are minutes in UTC and full when piped.
"""

from __future__ import annotations

import json
import re
from typing import Any

SHORT = 12  # hex digits of a digest shown on a terminal (cli.md, section 2)

# C0 and C1 with DEL, Arabic letter mark, zero width and direction marks, line separators, embeddings and overrides,
# isolates and other format characters, byte order mark, interlinear marks, lone surrogates, tag characters
_unsafe = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_named = {"\n": "\\n", "\r": "\\r", "\t": "\\t"}
_digest = re.compile(r"(?:(sha256):)?\b([0-9a-f]{12})[0-9a-f]{52}\b")
_instant = re.compile(r"(\d{4}-\d\d-\d\d)T(\d\d:\d\d)(:\d\d(?:\.\d+)?)Z")


def _escape(match: re.Match[str]) -> str:
    char = match.group()
    code = ord(char)
    return _named.get(char) or (
        f"\\x{code:02x}" if code < 256 else f"\\u{code:04x}" if code < 65536 else f"\\U{code:08x}"
    )


def visible(text: str) -> str:
    """The text with everything a terminal would act on shown as an escape; always one line."""
    return _unsafe.sub(_escape, text)


def visible_json(text: str) -> str:
    """JSON text with the same characters in JSON's own escapes. They can only stand inside strings, so this is safe."""

    def escape(match: re.Match[str]) -> str:
        code = ord(match.group())
        if code < 65536:
            return f"\\u{code:04x}"
        code -= 0x10000
        return f"\\u{0xD800 + (code >> 10):04x}\\u{0xDC00 + (code & 0x3FF):04x}"

    return "\n".join(_unsafe.sub(escape, line) for line in text.split("\n"))


def short(text: str) -> str:
    """Digests in the text cut to 12 hex digits."""
    return _digest.sub(r"\2…", text)


def short_command(text: str) -> str:
    """The same in a command to be copied: the cut pack id becomes a reference that works."""
    return _digest.sub(lambda found: f"pack:{found[2]}" if found[1] else found[2], text)


def instant(text: str, *, local: bool = False) -> str:
    """A full instant as `2026-09-28 11:02 UTC`, or in the zone of this host; other text as it is."""
    found = _instant.fullmatch(text)
    if found is None:
        return text
    if local:
        from datetime import datetime

        return datetime.fromisoformat(text).astimezone().strftime("%Y-%m-%d %H:%M %z")
    return f"{found[1]} {found[2]} UTC"


def cell(value: Any, *, terminal: bool, local: bool = False) -> str:
    """A value as one line of text."""
    if value is None or value in ("", [], {}):
        return "-" if terminal else ""
    if value is True or value is False:
        return "yes" if value else "no"
    if isinstance(value, list | tuple) and all(isinstance(item, str | int) for item in value):
        value = (", " if terminal else ",").join(str(item) for item in value)
    elif isinstance(value, list | tuple | dict):
        value = json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=str)
    text = visible(str(value))
    return short(instant(text, local=local)) if terminal else text


def counted(number: int, noun: str) -> str:
    """`1 file`, `2 files`."""
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def width(text: str) -> int:
    """Columns that the text takes on a terminal."""
    if text.isascii():
        return len(text)
    from unicodedata import combining, east_asian_width

    return sum(0 if combining(c) else 2 if east_asian_width(c) in "WF" else 1 for c in text)


def clip(text: str, columns: int) -> str:
    """The text in at most so many columns, an ellipsis where it was cut."""
    if width(text) <= columns:
        return text
    kept = text
    while kept and width(kept) > columns - 1:
        kept = kept[:-1]
    return kept + "…"


def pad(text: str, columns: int) -> str:
    """The text filled up with blanks."""
    return text + " " * max(columns - width(text), 0)
