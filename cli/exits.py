"""The one table of exit codes (architecture.md, section 7); help, documentation and tests are made from it."""

from __future__ import annotations

from typing import NamedTuple


class Exit(NamedTuple):
    """One exit code: number, the word that leads its message, what it means."""

    code: int
    word: str
    meaning: str


TABLE = (
    Exit(0, "done", "done; only an explicit pass exits 0"),
    Exit(1, "fault", "our bug: a fault id is printed, -v prints the trace"),
    Exit(2, "usage", "the command line makes no sense as given"),
    Exit(3, "not found", "no such store, record, build, pack, slot, incident, key"),
    Exit(4, "denied", "authority or approval lacking; recorded"),
    Exit(
        5, "conflict", "the state moved, the plan is stale, an idempotency key was reused with other content"
    ),
    Exit(6, "refused", "refused by a rule; recorded"),
    Exit(7, "wrong", "looked and it is wrong: chain, digest, signature, verification, a gate that fails"),
    Exit(8, "unavailable", "could not look or could not decide; a retry may succeed"),
    Exit(9, "unfit", "the host does not fit: open key file, no home folder"),
    Exit(10, "invalid", "a spec, a policy or a record does not fit its schema"),
    Exit(11, "different", "differences found, only with --exit-code"),
    Exit(130, "interrupted", "interrupted from the keyboard; what was not recorded did not happen"),
)

OK, FAULT, USAGE, WRONG, UNAVAILABLE, INTERRUPTED = 0, 1, 2, 7, 8, 130
_words = {item.code: item.word for item in TABLE}


def word(code: int) -> str:
    """The word that leads a message of this exit code."""
    return _words.get(code, "fault")


def worst(codes: list[int]) -> int:
    """One code for several findings: 7 wins over 8, 8 over everything else, 0 only if all are 0."""
    return next((code for code in (WRONG, UNAVAILABLE) if code in codes), max(codes, default=OK))


def text() -> str:
    """The table for people."""
    return "\n".join(f"{item.code:>4}  {item.word:<12}  {item.meaning}" for item in TABLE)
