"""`schema:<name>`: lines that fit a schema go on, the first that does not stops the pipeline.

A name is `event` (what `sink:log` asks of a line) or a type of the registry, as `muniment schema list` says them; the line is
then the payload of that type. An unknown name is refused before anything runs: a missing schema is never a pass.
To `event` an empty line is what it is to `sink:log`: no event, which goes by and is counted; to a type it does not fit.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import msgspec
from muniment.domain.errors import InvalidError
from muniment.domain.records import TABLE, validate
from muniment.ring.work import BATCH, Span

EVENT = "event"


class Event(msgspec.Struct, gc=False):
    """A CloudEvent, as far as `schema:event` and `sink:log` read it; everything else is carried, not read."""

    id: str
    type: str
    source: str = ""
    time: str = ""
    subject: str = ""


class SchemaStage:
    """The stage.

    Raises:
        InvalidError: no such schema.
    """

    batch = BATCH

    def __init__(self, name: str) -> None:
        self._check = _checker(name)
        self._name, self._taken, self._empty = name, 0, 0

    def take(self, messages: Sequence[bytes], span: Span) -> None:
        """Check each message.

        Raises:
            InvalidError: one does not fit; it is named by its sequence.
        """
        check, empty = self._check, 0
        for at, message in enumerate(messages):
            if not message and self._name == EVENT:
                empty += 1
                continue
            try:
                check(message)
            except (msgspec.DecodeError, msgspec.ValidationError, UnicodeDecodeError) as error:
                raise self._unfit(span.first + at, str(error), message) from error
            except InvalidError as error:
                raise self._unfit(span.first + at, str(error), message) from error
        self._taken += len(messages) - empty
        self._empty += empty

    def _unfit(self, sequence: int, why: str, message: bytes) -> InvalidError:
        return InvalidError(
            f"message {sequence} does not fit schema {self._name}: {why}",
            code="schema.unfit",
            found=message[:120].decode(errors="replace") or "an empty line",
            hint=f"muniment schema show {self._name}"
            if self._name != EVENT
            else 'a JSON object with "id" and "type"',
        )

    def finish(self) -> None:
        """Nothing is kept back."""

    def abandon(self) -> None:
        """Nothing is open."""

    def summary(self) -> dict[str, object]:
        """Messages that fitted, and lines that held none."""
        return {"messages": self._taken, "skipped": self._empty}


def _checker(name: str) -> Callable[[bytes], Any]:
    if name == EVENT:
        return msgspec.json.Decoder(Event).decode
    if name in TABLE:
        decode = msgspec.json.Decoder(dict[str, Any]).decode
        return lambda message: validate(name, decode(message))
    raise InvalidError(
        f"there is no schema {name}",
        code="schema.unknown",
        expected=f"{EVENT}, or a type of muniment schema list",
        found=name,
        hint="muniment schema list",
    )
