"""A refusal: the answer no, with its rule, subject, cause and the next command. It is a value and it is recorded."""

from __future__ import annotations

import msgspec

NOT_FOUND = 3
DENIED = 4
REFUSED = 6


class Mark(msgspec.Struct, gc=False):
    """Who did something, when, by which record, and the reason given: what a refusal names as its cause."""

    position: int
    at: str
    actor: str
    reason: str = ""


class Refusal(msgspec.Struct):
    """No.

    Attributes:
        rule: `R9.pinned`: id of the rule in release-rules.md, then the case.
        subject: what stands in the way (a pack, a slot, a gate …).
        message: one sentence.
        cause: the record that made it so, if one did.
        next: the next command to run.
        facts: further findings, each `code: text`.
        also: events that stand beside the refusal (`build.compile_refused`).
        exit_code: 4 for authority (R10), else 6 (settled.md, 21); 3 where what was named does not exist: the handler raises that
            and records nothing (settled.md, 8).
    """

    rule: str
    subject: str
    message: str
    cause: Mark | None = None
    next: str = ""
    facts: list[str] = []
    also: list[tuple[str, dict[str, object]]] = []
    exit_code: int = REFUSED


def some(facts: list[str], most: int = 5) -> str:
    """The first few facts in one line, and how many more there are; `facts` of the refusal holds them all."""
    more = f" and {len(facts) - most} more" if len(facts) > most else ""
    return ", ".join(facts[:most]) + more
