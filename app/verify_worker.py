"""A process that surveys stretches of a log for another one (`verify_stretches`): questions on stdin, answers on stdout.

It opens the log read-only, writes nothing, and ends when its input does, between two pages of work at the latest.
"""

from __future__ import annotations

import gc
import select
import sys
from collections.abc import Callable, Iterator
from typing import IO, Any, Protocol

import msgspec
from muniment.app.spill import Spill
from muniment.app.verify_survey import Plan, Survey, Surveyor
from muniment.domain.errors import MunimentError
from muniment.projections import digest as digests
from muniment.projections.fold import Stopped
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, DRIVER
from muniment.store.inspect import Cells, reader

FORMAT = f"muniment-verify/1 {Plan.__struct_fields__} {Survey.__struct_fields__}"


class Hello(msgspec.Struct, tag=True):
    """The first question: the log's address (`store.inspect.Inspector.address`) and what is to be done with it."""

    format: str
    address: str
    plan: Plan


class Look(msgspec.Struct, tag=True):
    """Survey the records `first..last`."""

    first: int
    last: int


class Fold(msgspec.Struct, tag=True):
    """Fold the records up to `until` into every projection."""

    until: int


class Nothing(msgspec.Struct, tag=True):
    """The answer to Hello."""


class Seen(msgspec.Struct, tag=True):
    """The answer to Look; None where something may be wrong, or the records cannot be read."""

    survey: Survey | None


class Folded(msgspec.Struct, tag=True):
    """The answer to Fold: the position reached, why it stopped there ("" if it did not), digests by projection."""

    position: int
    stopped: str
    digests: dict[str, str]


_encode = msgspec.msgpack.Encoder().encode


class Records(Protocol):
    """What records are read from."""

    def records(self, after: int | None = None, until: int | None = None) -> Iterator[list[Cells]]:
        """`store.inspect.Inspector.records`."""
        ...


def look(store: Records, surveyor: Surveyor, first: int, last: int) -> Survey | None:
    """Survey one stretch."""
    return surveyor.look(
        first, [cells for page in store.records(after=first - 1, until=last) for cells in page]
    )


def fold(store: Records, until: int, going: Callable[[], None] = lambda: None) -> Folded:
    """Fold the leading records; `going` is called after each page."""
    model, done, spill = ReadModel(), 0, Spill()
    try:
        for page in store.records(after=0, until=until):
            bodies = [(at, body if type(body) is bytes else b"") for at, _, _, body in page]
            done = DRIVER.page(model, bodies, done)
            spill.relieve(model)
            going()
    except Stopped as error:
        return Folded(error.position, error.message, {})
    return Folded(done, "", {projection.name: digests.full(projection, model) for projection in ALL})


def send(stream: IO[bytes], message: Any) -> None:
    """Write a message: its length, its bytes."""
    data = _encode(message)
    stream.write(len(data).to_bytes(8, "little") + data)
    stream.flush()


def receive(stream: IO[bytes], type_: Any) -> Any:
    """Read a message.

    Raises:
        EOFError: there is no whole one. ValueError, msgspec.MsgspecError: it is none of that type.
    """
    head = stream.read(8)
    if len(head) < 8:
        raise EOFError
    size = int.from_bytes(head, "little")
    data = stream.read(size)
    if len(data) < size:
        raise EOFError
    return msgspec.msgpack.decode(data, type=type_)


def main() -> None:
    """Answer until the questions end."""
    questions, answers = sys.stdin.buffer, sys.stdout.buffer

    def going() -> None:
        if select.select([questions], [], [], 0)[0]:  # no question is due: the pipe has ended
            raise SystemExit(1)

    hello = receive(questions, Hello)
    if hello.format != FORMAT:
        raise SystemExit(1)
    store = reader(hello.address)
    surveyor = Surveyor(hello.plan)
    send(answers, Nothing())
    gc.disable()  # what is read holds no cycles; `app.projecting` pauses it for the same reason
    while True:
        try:
            question = receive(questions, Look | Fold)
        except EOFError:
            return
        if isinstance(question, Fold):
            send(answers, fold(store, question.until, going))
            continue
        try:
            survey = look(store, surveyor, question.first, question.last)
        except MunimentError:
            survey = None  # the asker reads it again, and says what is wrong
        send(answers, Seen(survey))


if __name__ == "__main__":
    main()
