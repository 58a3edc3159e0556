"""What a thread of the model can do: one step of it each, and the memory orders."""

from __future__ import annotations

from collections.abc import Callable
from enum import StrEnum
from typing import NamedTuple


class Order(StrEnum):
    """A memory order; `sc` for fences only."""

    RLX = "relaxed"
    ACQ = "acquire"
    REL = "release"
    ACQ_REL = "acq_rel"
    SC = "seq_cst"


RLX, ACQ, REL, ACQ_REL, SC = Order
ACQUIRES = frozenset({ACQ, ACQ_REL, SC})
RELEASES = frozenset({REL, ACQ_REL, SC})


class BugError(Exception):
    """A behaviour that the protocol must not have; `trace` are the steps that led there."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason
        self.trace: list[str] = []


class Load(NamedTuple):
    """Read an atomic; with `until`, wait for a message that satisfies it (a spin loop without its turns)."""

    at: str
    order: Order
    until: Callable[[int], bool] | None = None


class Store(NamedTuple):
    """Write an atomic."""

    at: str
    value: int
    order: Order


class Rmw(NamedTuple):
    """Exchange, fetch-and-op or compare-and-swap, answering the old value.

    `change` gives the new value, or None where a comparison fails.
    """

    at: str
    change: Callable[[int], int | None]
    order: Order
    failed: Order = RLX


class Fence(NamedTuple):
    """A thread fence."""

    order: Order


class Read(NamedTuple):
    """Read plain memory."""

    at: str


class Write(NamedTuple):
    """Write plain memory."""

    at: str
    value: int


class Wait(NamedTuple):
    """futex wait: sleep if the word still has this value."""

    at: str
    value: int


class Wake(NamedTuple):
    """futex wake, all sleepers."""

    at: str


class Choose(NamedTuple):
    """Any number below `below`: what the protocol leaves open (batch sizes, scheduling)."""

    below: int


Op = Load | Store | Rmw | Fence | Read | Write | Wait | Wake | Choose


def cas(at: str, expected: int, value: int, order: Order, failed: Order = RLX) -> Rmw:
    """Compare and swap, strong; answers the value found."""
    return Rmw(at, lambda found: value if found == expected else None, order, failed)
