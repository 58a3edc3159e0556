"""Every atomic operation that the C of the ring does: where, on which word, in which order. A reader for tests, no compiler.

The C keeps to one way of writing them: `atomic_*_explicit` with the orders as plain names, functions that begin in the first
column. What is written otherwise is an error here, so nothing is passed over.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.DOTALL)
_DEFINED = re.compile(r"#define (RC_ORDER_\w+) memory_order_(\w+)")
_FUNCTION = re.compile(r"^(?!typedef|#|struct|_Static)[A-Za-z_][\w \t*]*?(\w+)\([^;{}]*\)\s*\{", re.MULTILINE)
_ATOMIC = re.compile(
    r"\batomic_(load|store|exchange|fetch_\w+?|compare_exchange_\w+?|thread_fence|init)(_explicit)?\("
)
_KINDS = {"thread_fence": "fence", "compare_exchange_strong": "swap", "compare_exchange_weak": "swap"}
_ORDERED = {"load": 1, "store": 1, "fence": 1, "swap": 2}


class Atomic(NamedTuple):
    """One operation; `word` is the field (or the pointer) it works on, `orders` has a second one for a swap that fails."""

    function: str
    kind: str
    word: str
    orders: str


def _arguments(text: str, start: int) -> list[str]:
    """Of a call whose bracket opened just before `start`."""
    depth, begun, found = 0, start, []
    for at in range(start, len(text)):
        char = text[at]
        if char in ")]}" and not depth:
            return [*found, text[begun:at].strip()]
        if char == "," and not depth:
            found.append(text[begun:at].strip())
            begun = at + 1
        depth += (char in "([{") - (char in ")]}")
    raise ValueError(f"a call without end: {text[start : start + 60]}")


def _word(argument: str) -> str:
    """`&ring->at->cells[0].seq` -> `seq`; of `multi ? &a.claim : &b.seq` both."""
    plain = re.sub(r"\[[^\[\]]*\]", "", re.sub(r"\[[^\[\]]*\]", "", argument))
    ways = plain.split("?", 1)[-1].split(":") if "?" in plain else [plain]
    return "|".join(re.findall(r"\w+", way)[-1] for way in ways)


def _of_file(text: str, orders: dict[str, str]) -> Iterator[Atomic]:
    code = _COMMENT.sub(" ", text)
    functions = [(m.start(), m[1]) for m in _FUNCTION.finditer(code)]
    for match in _ATOMIC.finditer(code):
        kind = _KINDS.get(match[1], match[1])
        arguments = _arguments(code, match.end())
        if match[2] is None and kind != "fence":
            raise ValueError(f"an atomic without its order: {match[0]}{', '.join(arguments)})")
        inside = [name for start, name in functions if start < match.start()]
        if not inside:
            raise ValueError(f"an atomic outside of every function: {match[0]}")
        said = arguments[-_ORDERED.get(kind, 1) :]
        named = [orders.get(order, order.removeprefix("memory_order_")) for order in said]
        if not set(named) <= {"relaxed", "acquire", "release", "acq_rel", "seq_cst"}:
            raise ValueError(f"an order that is no order: {said}")
        yield Atomic(inside[-1], kind, "-" if kind == "fence" else _word(arguments[0]), "/".join(named))


def read(folder: Path) -> list[Atomic]:
    """All of the `.c` and `.h` files of a folder, by file name and place.

    Raises:
        ValueError: one is written in a way that this does not understand.
    """
    files = sorted([*folder.glob("*.h"), *folder.glob("*.c")])
    texts = [path.read_text(encoding="utf-8") for path in files]
    orders = {name: order for text in texts for name, order in _DEFINED.findall(text)}
    return [found for text in texts for found in _of_file(text, orders)]
