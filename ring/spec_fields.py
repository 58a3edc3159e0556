"""Values of keys, checked one by one. A method that answers None has said why, or somebody has: rules on that value are skipped."""

from __future__ import annotations

import re
from collections.abc import Sequence
from difflib import get_close_matches

from muniment.domain.reference import NAME
from muniment.ring.spec import Op
from muniment.ring.spec_lines import Entry, Lines, Problem, shown
from muniment.ring.spec_ops import read_op

NAME_RULE = "1 to 64 of a-z 0-9 . _ - beginning with a letter or digit"
INTEGER = r"0|[1-9][0-9]*"
_COMMON = ("spec.version", "spec.name", "spec.model")
_RING = (
    "shards",
    "ordering",
    "shard_key",
    "producer",
    "scheduling",
    "capacity",
    "slot_bytes",
    "on_full",
    "wait",
)
_KEYS = {
    "single_ring": (
        *(f"single_ring.{name}" for name in _RING),
        *(f"single_ring.stages.N.{name}" for name in ("id", "op", "depends_on")),
    ),
    "lane_graph": (
        "lane_graph.wait",
        *(f"lane_graph.lanes.N.{name}" for name in ("name", "kind", "capacity", "slot_bytes", "on_full")),
        *(f"lane_graph.roles.N.{name}" for name in ("id", "kind", "op", "inputs", "outputs")),
    ),
}
_SUGGESTED = 20  # unknown keys that are compared with the known ones: a file of nothing else stays fast
_name = re.compile(NAME).fullmatch
_integer = re.compile(INTEGER, re.ASCII).fullmatch
_index = re.compile(rf"\.(?:{INTEGER})(?=\.)", re.ASCII)


class Fields:
    """The keys of one file and the problems found in it."""

    def __init__(self, lines: Lines) -> None:
        self._entries = lines.entries
        self.last = lines.last
        self.problems = lines.problems
        self.readable = lines.readable

    def say(self, code: str, line: int, message: str, expected: str = "", found: str = "") -> None:
        """Report a problem."""
        self.problems.append(Problem(code, line, message, expected, found))

    def any(self, prefix: str) -> bool:
        """Does any key begin so?"""
        return any(key.startswith(prefix + ".") for key in self._entries)

    def line(self, key: str) -> int:
        """Where the key stands, or the last line if it does not."""
        entry = self._entries.get(key)
        return entry.line if entry else self.last

    def given(self, key: str) -> bool:
        """Does the file have this key?"""
        return key in self._entries

    def text(self, key: str, *, at: int | None = None) -> str | None:
        """The value of a key that must be there; `at` is the line to name if it is not."""
        entry = self._entries.get(key)
        if entry is None:
            where = "the file ends without it" if at is None else "it is missing"
            self.say("kv.missing_key", at or self.last, f"{key} must be given: {where}", f"{key}=…")
            return None
        return entry.value

    def name(self, key: str, *, at: int | None = None) -> str | None:
        """A name as everywhere in a store."""
        value = self.text(key, at=at)
        if value is None or _name(value):
            return value
        self.say("kv.bad_value", self.line(key), f"{key} is no name", NAME_RULE, shown(value))
        return None

    def choice(
        self,
        key: str,
        words: Sequence[str],
        *,
        code: str = "kv.bad_value",
        at: int | None = None,
        default: str = "",
    ) -> str | None:
        """One of these words; without a default it must be given."""
        if default and not self.given(key):
            return default
        value = self.text(key, at=at)
        if value is None or value in words:
            return value
        self.say(code, self.line(key), f"{key} is unknown", " or ".join(words), shown(value))
        return None

    def number(self, key: str, default: int, low: int, high: int) -> int | None:
        """A decimal integer within bounds."""
        if not self.given(key):
            return default
        value = self.text(key)
        if value is None:
            return None
        expected = f"{low} to {high}"
        if not _integer(value):
            self.say("kv.bad_value", self.line(key), f"{key} is no decimal integer", expected, shown(value))
            return None
        if len(value) > 19 or not low <= int(value) <= high:
            self.say("kv.out_of_range", self.line(key), f"{key} is out of its range", expected, shown(value))
            return None
        return int(value)

    def capacity(self, key: str, default: int, high: int) -> int | None:
        """A power of two up to `high`."""
        value = self.number(key, default, 0, high)
        if value is None or (value > 0 and value & (value - 1) == 0):
            return value
        message, expected = f"{key} is no power of two", f"a power of two from 1 to {high}"
        self.say("ring.capacity_not_power_of_two", self.line(key), message, expected, str(value))
        return None

    def listed(self, key: str) -> list[str] | None:
        """A comma-separated list that may be absent; a given one has no empty member."""
        entry = self._entries.get(key)
        if entry is None:
            return []
        if entry.value is None:
            return None
        members = entry.value.split(",")
        if all(members):
            return members
        self.say(
            "kv.bad_value",
            entry.line,
            f"{key} has an empty member",
            "a,b without blanks; leave the key out for none",
            shown(entry.value),
        )
        return None

    def indices(self, key: str) -> list[int]:
        """A comma-separated list of indices; a bad one is as none."""
        members = self.listed(key) or []
        if all(len(member) <= 6 and _integer(member) for member in members):
            return [int(member) for member in members]
        found = shown(",".join(members))
        self.say("kv.bad_value", self.line(key), f"{key} is no list of indices", "0,1 without blanks", found)
        return []

    def op(self, key: str, *, at: int | None = None) -> Op | None:
        """What a stage or role does."""
        value = self.text(key, at=at)
        if value is None:
            return None
        op = read_op(value)
        if isinstance(op, Op):
            return op
        code, message, expected, found = op
        self.say(code, self.line(key), message, expected, found)
        return None

    def steps(self, prefix: str, limit: int, code: str) -> dict[int, int]:
        """Indices of `prefix.N.…` in order with the first line of each; gaps and what is beyond the limit are reported once."""
        first: dict[int, int] = {}
        beyond: list[Entry] = []
        for key, entry in self._entries.items():
            digits, dot, _ = key.removeprefix(prefix + ".").partition(".")
            if not key.startswith(prefix + ".") or not dot or not _integer(digits):
                continue
            if len(digits) > 6 or int(digits) >= limit:
                beyond.append(entry)
            else:
                first[int(digits)] = min(entry.line, first.get(int(digits), entry.line))
        if beyond:
            line = min(entry.line for entry in beyond)
            self.say(code, line, f"too many {prefix}", f"at most {limit}, indices 0 to {limit - 1}")
        before = -1
        for index in sorted(first):
            if index != before + 1:
                missing = f"{prefix}.{before + 1}"
                self.say(
                    "kv.missing_key",
                    first[index],
                    f"{missing} is missing before {prefix}.{index}",
                    f"{missing}.…",
                )
            before = index
        return dict(sorted(first.items()))

    def unknown(self, model: str | None) -> None:
        """Report keys that mean nothing in this model (None: in no model)."""
        known = [*_COMMON, *(key for name, keys in _KEYS.items() if model in (None, name) for key in keys)]
        names, tried = frozenset(known), 0
        for key, entry in self._entries.items():
            general = _index.sub(".N", key)
            if general in names or entry.value is None:
                continue
            near: list[str] = []
            if tried < _SUGGESTED and len(key) < 100:
                near, tried = get_close_matches(general, known, n=1, cutoff=0.7), tried + 1
            where = f"{shown(key)} is no key" + (f" of {model}" if model else "")
            self.say("kv.unknown_key", entry.line, where, near[0] if near else "")
