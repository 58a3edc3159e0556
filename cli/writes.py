"""From the outcome of a command to what is shown: the act, its records, or the refusal."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from muniment.cli.results import Refused, Result

if TYPE_CHECKING:
    from muniment.app.request import Outcome

Answer = Result | Refused


def records(outcome: Outcome) -> str:
    """`record #12`, `records #12 to #14`, or "" if nothing was written."""
    if not outcome.positions:
        return ""
    first, last = outcome.positions[0], outcome.positions[-1]
    return f"record #{first}" if first == last else f"records #{first} to #{last}"


def outcome_data(outcome: Outcome) -> dict[str, Any]:
    """What every write says in JSON."""
    positions: list[int | None] = list(outcome.positions) or [None] * len(outcome.events)
    return {
        "dry_run": outcome.dry_run,
        "expect": outcome.expect,
        "repeated": outcome.repeated,
        "positions": list(outcome.positions),
        "recorded_at": outcome.recorded_at,
        "events": [
            {"type": event.type, "position": at, "data": event.data}
            for event, at in zip(outcome.events, positions, strict=False)
        ],
    }


def expected(outcome: Outcome) -> list[str]:
    """In a dry run, the option that ties the real run to what was seen here."""
    return [f"  expect  --expect {outcome.expect}"] if outcome.expect is not None else []


def refused(outcome: Outcome, *, lines: Sequence[str] = ()) -> Refused:
    """The refusal of an outcome; in a dry run, and where no record fits, it has no position."""
    position = outcome.positions[-1] if outcome.positions else None
    return Refused(
        outcome.refusal, position, as_of(outcome), outcome.dry_run, lines=lines, repeated=outcome.repeated
    )


def as_of(outcome: Outcome) -> int:
    """The log as this outcome left it."""
    return max([outcome.head, *outcome.positions])


def answer(
    schema: str,
    outcome: Outcome,
    act: tuple[str, str],
    what: str,
    *,
    id_: str = "",
    data: dict[str, Any] | None = None,
    lines: Sequence[str] = (),
    next_: str = "",
    exit_code: int = 0,
    notes: Sequence[str] = (),
) -> Answer:
    """The answer of a write verb.

    Args:
        act: ("pin", "pinned"): a dry run says "would pin …".
        what: the rest of the sentence.
        id_: what `-q` prints, and the member `id`.
        data: more members.
        lines: said below the first line.
    """
    if outcome.refusal is not None:
        return refused(outcome)
    if outcome.dry_run:
        said = [f"would {act[0]} {what}", *lines, *expected(outcome), "nothing was written"]
    else:
        again = "known already, " if outcome.repeated else ""
        said = [f"{act[1]} {what}  ({again}{records(outcome)})", *lines]
    return Result(
        schema,
        {"id": id_, **(data or {}), **outcome_data(outcome)},
        as_of=as_of(outcome),
        lines=said,
        next="" if outcome.dry_run else next_,
        brief=id_,
        exit_code=exit_code,
        notes=notes,
    )
