"""Bytes to numbered `key=value` lines. Nothing is guessed: what is not such a line is a `kv.syntax` with its number.

1. Lines end with LF; a last line without one is read. There are no blank lines, comments, quotes or escapes.
2. A key is `a-z 0-9 _` in parts joined by dots. A value is any UTF-8 text, also empty, without blanks at its ends and without
   characters that are not seen: what somebody approves on a screen is what runs.
3. A bad line still counts as a place where its key was given, so that it is not reported again as missing.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import NamedTuple

from muniment.ring.spec import MAX_BYTES, MAX_LINES

SHOWN = 80
# The characters that `cli.text` shows as escapes (a test compares), so a printed canonical form is the canonical bytes.
UNSEEN = re.compile(
    "[\x00-\x1f\x7f-\x9f\u00ad\u061c\u115f\u1160\u180e\u200b-\u200f\u2028-\u202e\u2060-\u206f\ufeff\ufff9-\ufffb"
    "\ud800-\udfff\U000e0000-\U000e007f]"
)
_head = re.compile(rb"[ \t]*([a-z0-9_]+(?:\.[a-z0-9_]+)*)[ \t]*(?:[=:]|$|[ \t])")
_key = re.compile(r"[^\s=]+")
_BOM = b"\xef\xbb\xbf"


class Problem(NamedTuple):
    """One thing that is wrong, once. `line` counts from 1."""

    code: str
    line: int
    message: str
    expected: str = ""
    found: str = ""

    def __str__(self) -> str:
        return f"{self.code}  line {self.line}: {self.told}"

    @property
    def told(self) -> str:
        """Message, expected and found in one line."""
        text = self.message + (f", expected {self.expected}" if self.expected else "")
        return text + (f", found {self.found}" if self.found else "")


class Entry(NamedTuple):
    """Where a key stands and its value; None: the line is bad, which has been said."""

    line: int
    value: str | None


@dataclass(slots=True)
class Lines:
    """What was read: the first line of every key, the problems so far, the number of lines (at least 1).

    `readable` False: it is too large to be looked at, which is the only problem.
    """

    entries: dict[str, Entry] = field(default_factory=dict)
    problems: list[Problem] = field(default_factory=list)
    last: int = 1
    readable: bool = True


def shown(text: str) -> str:
    """Text quoted for a message: short, and in ASCII escapes where it is not seen."""
    cut = text if len(text) <= SHOWN else text[:SHOWN] + "…"
    return "'" + UNSEEN.sub(lambda found: f"\\u{{{ord(found[0]):x}}}", cut) + "'"


def read(data: bytes) -> Lines:
    """Take the lines apart; every problem is in the answer, none is raised."""
    lines = Lines()
    if len(data) > MAX_BYTES:
        return _refused(1, "too large", f"at most {MAX_BYTES} bytes", f"{len(data)}")
    if data.startswith(_BOM):
        lines.problems.append(
            Problem("kv.syntax", 1, "the file begins with a byte order mark", "plain UTF-8", "EF BB BF")
        )
        data = data[len(_BOM) :]
    raw = data.split(b"\n")
    if not raw[-1]:
        raw.pop()
    lines.last = max(len(raw), 1)
    if len(raw) > MAX_LINES:
        return _refused(MAX_LINES + 1, "too long", f"at most {MAX_LINES} lines", f"{len(raw)}")
    returns = [number for number, line in enumerate(raw, 1) if line.endswith(b"\r")]
    if returns:
        found = f"CR LF in {len(returns)} of them"
        lines.problems.append(
            Problem("kv.syntax", returns[0], "lines end with LF alone", "no carriage return", found)
        )
    for number, line in enumerate(raw, 1):
        _line(lines, number, line.removesuffix(b"\r"))
    return lines


def _refused(line: int, message: str, expected: str, found: str) -> Lines:
    return Lines(problems=[Problem("kv.syntax", line, message, expected, found)], readable=False)


def _line(lines: Lines, number: int, raw: bytes) -> None:
    problem = None
    try:
        text = raw.decode()
    except UnicodeDecodeError as error:
        problem = ("not UTF-8", "", f"byte {raw[error.start]:02X} at byte {error.start + 1} of the line")
        text = ""
    key, equals, value = text.partition("=")
    if problem is None:
        problem = _syntax(text, key, equals, value)
    if problem is None:
        _keep(lines, key, Entry(number, value))
        return
    lines.problems.append(Problem("kv.syntax", number, *problem))
    head = _head.match(raw)
    if head is not None:
        lines.entries.setdefault(head[1].decode(), Entry(number, None))


def _syntax(text: str, key: str, equals: str, value: str) -> tuple[str, str, str] | None:
    unseen = UNSEEN.search(text)
    if unseen is not None:
        what = f"character U+{ord(unseen[0]):04X} in column {unseen.start() + 1}"
        return "a character that is not seen", "text and plain blanks", what
    if not text.strip():
        return "a blank line", "key=value", "nothing"
    if not equals:
        return "no key=value line (comments are none either)", "key=value", shown(text)
    if not _key.fullmatch(key):
        return "not a key", "a-z 0-9 _ in parts joined by dots, then = without blanks", shown(key)
    if value != value.strip():
        return (
            f"the value of {key[:SHOWN]} begins or ends with a blank",
            "no blanks at its ends",
            shown(value),
        )
    return None


def _keep(lines: Lines, key: str, entry: Entry) -> None:
    first = lines.entries.get(key)
    if first is None:
        lines.entries[key] = entry
        return
    message = f"{shown(key)} is given again; it stands in line {first.line}"
    lines.problems.append(Problem("kv.duplicate_key", entry.line, message, "one line a key"))
