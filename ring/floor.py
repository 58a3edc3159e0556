"""The floor of an input: before it every line is done, whichever way each of them went."""

from __future__ import annotations

from typing import NamedTuple, Protocol


class Reached(NamedTuple):
    """A place in an input.

    Attributes:
        offset: every line before it is done.
        last: the line that ends there, without its line end; None: nothing was read yet.
    """

    offset: int
    last: bytes | None


class Floor(Protocol):
    """Who knows it."""

    def follow(self) -> None:
        """Keep it from now on."""
        ...

    def floor(self, shard: int, count: int) -> Reached:
        """Where it is at least once the next `count` messages of a shard are done."""
        ...

    def done(self, shard: int, count: int) -> None:
        """They are."""
        ...
