"""The stages in C: which ops they do, what they count, why they stop a ring; outside a ring they are `NativeWork`."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from typing import Literal, cast

from muniment.domain.errors import InvalidError, MunimentError, UnavailableError
from muniment.domain.ring_stops import STOPS
from muniment.ring import _ring
from muniment.ring.spec import WAITS, Op
from muniment.ring.work import BATCH, Span

NATIVE = {"identity", "count", "digest", "filter"}


def wait_word(wait: str) -> Literal["spin", "paced", "backoff", "park"]:
    """A wait strategy of a spec, as the engine takes it."""
    assert wait in WAITS
    return cast("Literal['spin', 'paced', 'backoff', 'park']", wait)


def is_native(op: Op) -> bool:
    """Does it run in C?"""
    return op.name in NATIVE


def native_stage(op: Op) -> _ring.NativeStage:
    """The C stage of an op."""
    if op.name == "filter":
        return _ring.Filter(*op.filter)
    return {"identity": _ring.Forward, "count": _ring.Count, "digest": _ring.Digest}[op.name]()


def native_error(code: int, stage: str, sequence: int) -> MunimentError:
    """Why a ring was stopped, from the stop code that it says."""
    word, text = STOPS.get(code, ("ring.stopped", f"the ring was stopped with code {code}"))
    kind = InvalidError if code in range(1, 6) else UnavailableError
    return kind(
        text,
        code=word,
        stage=stage,
        sequence=sequence,
        hint="nothing after it was passed on; mend the message or the spec, then run again",
    )


def native_summary(op: Op, native: _ring.NativeStage) -> dict[str, object]:
    """What a C stage counted."""
    found: dict[str, object] = {"messages": native.messages}
    if op.name != "identity":
        found["bytes"] = native.bytes
    if op.name == "digest":
        found["sha256"] = native.hexdigest()
    if op.name == "filter":
        found["rejected"] = native.rejected
    return found


class NativeWork:
    """The stage, message by message in C."""

    batch = BATCH

    def __init__(self, stage: _ring.NativeStage, op: Op) -> None:
        self._stage, self._op = stage, op
        self._done: deque[bool] = deque()  # answers of a list that failed further on: its messages come again

    def take(self, messages: Sequence[bytes], span: Span) -> Sequence[bool] | None:
        """Do the op.

        Raises:
            InvalidError: a filter met a message that it cannot read.
        """
        apply, kept = self._stage.apply, []
        for at, message in enumerate(messages):
            if self._done:
                kept.append(self._done.popleft())
                continue
            answer = apply(message)
            if answer < 0:
                self._done.extend(kept)
                raise native_error(-answer, str(self._op), span.first + at)
            kept.append(answer == 1)
        return kept if self._op.name == "filter" else None

    def finish(self) -> None:
        """Nothing is kept back."""

    def abandon(self) -> None:
        """Nothing is open."""

    def summary(self) -> dict[str, object]:
        """What it counted."""
        return native_summary(self._op, self._stage)
