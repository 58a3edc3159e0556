"""Make a recorded decision again: the same handler, over the log as it was, at the instant it was decided.

The handler runs dry on a view of the log that ends at `basis.after`; its clock says `occurred_at`. What it answers is compared
with what was recorded: equal, or the divergences by name (architecture.md, idea 3).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import msgspec
from muniment.app.handlers import Handler, as_recorded
from muniment.app.request import Request
from muniment.domain import slot_state
from muniment.domain.admin import UNPROVEN, claimed
from muniment.domain.canonical import encode
from muniment.domain.commands import from_record
from muniment.domain.decision import ActorRef
from muniment.domain.envelope import Envelope, read
from muniment.domain.errors import MunimentError
from muniment.domain.instant import to_micros
from muniment.domain.query import Item, Query, union
from muniment.projections.fold import RUNTIME
from muniment.store.api import Head, Log

# Facts that were observed, not decided: no command stands behind them.
UNRULED = ("clock.jump_observed/1", "fact.imported/1", *sorted(RUNTIME))
SHOWN = 300


class Divergence(msgspec.Struct, frozen=True):
    """One difference between the record and the decision made again."""

    field: str
    expected: str
    found: str


class Redecided(msgspec.Struct):
    """The answer: `verdict` is equal, different, or unruled (no command to make again)."""

    verdict: str
    divergences: list[Divergence] = []


class Past:
    """A log that ends at a position: what a decision made there could see. Only what a handler reads is offered."""

    def __init__(self, log: Log, size: int) -> None:
        self._log = log
        self._size = size

    def head(self) -> Head:
        """The head then; its root is not known here and not asked for by a handler."""
        return Head(self._size, b"", "")

    def frontier(self) -> tuple[int, list[bytes]]:
        """The size; the roots are not known here, and one size is one log."""
        return self._size, []

    def read(
        self,
        query: Query = (),
        *,
        after: int = 0,
        until: int | None = None,
        limit: int | None = None,
        reverse: bool = False,
    ) -> Iterator[tuple[int, bytes]]:
        """Records up to the end of this view."""
        end = self._size if until is None else min(until, self._size)
        return self._log.read(query, after=after, until=end, limit=limit, reverse=reverse)

    def last_match(self, query: Query, *, until: int | None = None) -> int:
        """Position of the last matching record of this view."""
        return self._log.last_match(query, until=self._size if until is None else min(until, self._size))


class _Signer(msgspec.Struct):
    """Stands for the key that signed; a dry run signs nothing."""

    key_id: str

    def __call__(self, record: dict[str, Any]) -> dict[str, str]:  # noqa: ARG002
        return {}

    sign: Callable[[Any], Any] | None = None


def batch_of(log: Log, position: int) -> list[Envelope]:
    """The records of the decision that made a record, in order; command and basis stand on the first."""
    body = next(log.read(after=position - 1, until=position))[1]
    found = read(body, position)
    if found.batch is None:
        return [found]
    first = position - int(found.batch["index"])
    last = first + int(found.batch["size"]) - 1
    return [read(body, at) for at, body in log.read(after=first - 1, until=last)]


def handler_at(log: Log, first: Envelope) -> tuple[Handler, Request]:
    """A handler over the log as of a decision's basis, and the request as it was made."""
    assert first.basis is not None
    assert first.command is not None
    at = to_micros(first.occurred_at)
    past: Any = Past(log, int(first.basis["after"]))
    actor = msgspec.convert(first.actor, ActorRef)
    if first.type == "command.refused/1" and first.data["rule"] in UNPROVEN:
        actor = claimed(first.data["subject"], first.data["facts"])
    signer: Any = _Signer(actor.auth.removeprefix("ed25519:")) if actor.auth.startswith("ed25519:") else None
    request = Request(
        actor,
        reason=str(first.command.get("reason", "")),
        dry_run=True,
        correlation=first.correlation,
        signer=signer,
    )
    return Handler(past, now=lambda: at, new_id=lambda: first.id), request


def with_reports(query: Query) -> Query:
    """A boundary as it was in 0.1: with a slot went every report of health, now only those that a rule looks at (decision 0015)."""
    slots = {
        slot_state.item(tag.removeprefix("slot:"))
        for item in query
        for tag in item.tags
        if tag.startswith("slot:")
    }
    wide = {item: Item(tuple(sorted((*item.types, slot_state.HEALTH))), item.tags) for item in slots}
    return union(wide.get(item, item) for item in query if item.types != (slot_state.HEALTH,))


def redecide(log: Log, position: int) -> Redecided:
    """Make the decision behind a record again and compare; a fault while doing so is a divergence, never a pass."""
    batch = batch_of(log, position)
    first = batch[0]
    if first.command is None or first.basis is None:
        if first.type in UNRULED:
            return Redecided("unruled")
        return Redecided("different", [Divergence("command", "command and basis", "none")])
    found: list[Divergence] = []

    def compare(field: str, recorded: Any, again: Any) -> None:
        one, other = encode(recorded).decode(), encode(again).decode()
        if one != other:
            found.append(Divergence(field, _around(one, other), _around(other, one)))

    try:
        command = from_record(first.command["name"], first.command["args"])
        handler, request = handler_at(log, first)
        world, query, _ = handler.select(command, request)
        if first.basis["query"] != as_recorded(with_reports(query)):
            compare("basis.query", first.basis["query"], as_recorded(query))
        compare(
            "basis.policy", first.basis["policy"], world.policy.digest if world.policy is not None else ""
        )
        handler, request = handler_at(log, first)
        outcome = handler.execute(command, request)
        again = [(event.type, event.data, list(event.evidence)) for event in outcome.events]
        if outcome.refusal is not None:
            fields: dict[str, Any] = msgspec.to_builtins(outcome.refusal)
            del fields["also"]
            again.append(("command.refused/1", fields, []))
        compare("types", [record.type for record in batch], [type_ for type_, _, _ in again])
        for record, (type_, data, evidence) in zip(batch, again, strict=False):
            if record.type == type_:
                compare(f"#{record.position} data", record.data, msgspec.to_builtins(data))
                compare(f"#{record.position} evidence", record.evidence, msgspec.to_builtins(evidence))
    except MunimentError as error:
        found.append(Divergence("decision", "a decision", f"{error.code}: {error.message}"[:SHOWN]))
    except (KeyError, AttributeError, TypeError, ValueError) as error:
        found.append(Divergence("decision", "a decision", repr(error)[:SHOWN]))
    return Redecided("different" if found else "equal", found)


def every(log: Log, *, until: int | None = None) -> Iterator[tuple[int, str, str, str]]:
    """Make every decision again (`verify --decisions`) and yield (position, field, expected, found) of what differs."""
    done = 0
    for position, body in log.read(until=until):
        if position <= done:
            continue
        record = read(body, position)
        done = position + (int(record.batch["size"]) - 1 if record.batch is not None else 0)
        for one in redecide(log, position).divergences:
            yield position, one.field, one.expected, one.found


def _around(text: str, other: str) -> str:
    """The part of a text around the first difference to another."""
    at = next(
        (i for i, (a, b) in enumerate(zip(text, other, strict=False)) if a != b), min(len(text), len(other))
    )
    start = max(at - 60, 0)
    return ("…" if start else "") + text[start : at + SHOWN - 60]
