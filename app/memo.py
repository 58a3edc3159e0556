"""Memos: saved read models, so that a reader starts where somebody stopped. A memo is an optimisation and is never trusted.

A *ladder* of them is kept (`store.memos`): dense at the newest end and ever sparser behind, so that a view of the past starts near
its position too. Where a ladder is kept is a `MemoPlace`: the reader's home, and beside a PostgreSQL log a shared one.

1. The newest memo is used only if the frontier it was saved at, extended by the leaves that follow, gives the head of the log
   as it is: then the records it was made from are the first ones of this log (RFC 6962, 2.1.2), for two logs with one root have
   the same leaves. That is a hash for each record since, a sixty-fourth of the log at most where every reader may write.
2. An older memo is used only if the newest one names its position and root. Whoever wrote the newest had folded on from the
   older one, or had checked it by rule 1, over the very records that rule 1 now finds at the front of this log; a prefix of a
   prefix is one. So the newest memo vouches for the ladder, and nothing is hashed a second time.
3. Anything else discards a memo. A damaged or foreign one counts as none, and reading it never fails a command: where damage is
   met late, the entities are folded again.
4. It is replaced as a whole, and only after a catch-up long enough to be worth a write.
5. A memo says what an honest writer of it folded. Nothing recorded, signed or verified rests on one: `verify` and
   `projection rebuild` fold from the first record and compare.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
from muniment.app import memo_parts
from muniment.app.home import memo_dir
from muniment.app.late_part import Damaged, Span
from muniment.domain.errors import UnavailableError
from muniment.projections.model import ReadModel
from muniment.projections.registry import VERSIONS
from muniment.store.api import Log
from muniment.store.memos import FolderMemos, MemoPlace, Step, prune
from muniment.store.merkle import Frontier

FORMAT = "muniment-memo/2"
_TAIL = 1 << 14  # the line of JSON: at most 53 roots and 12 older memos

Refold = Callable[[int], ReadModel]
"""The model at a position, folded from the first record."""


class Memo(NamedTuple):
    """A model and where it stands; `note` says why there is none, "" if nothing is kept.

    Attributes:
        below: position and root (hex) of older memos of its ladder that it vouches for (rule 2).
        program: the version that folded it.
    """

    model: ReadModel | None
    frontier: Frontier
    note: str = ""
    below: tuple[tuple[int, str], ...] = ()
    program: str = ""

    @property
    def position(self) -> int:
        """The last record it has applied."""
        return self.frontier.size

    @property
    def vouched(self) -> tuple[tuple[int, str], ...]:
        """What the next memo of this ladder may name as older ones."""
        return (*self.below, (self.position, self.frontier.root().hex())) if self.model is not None else ()


NONE = Memo(None, Frontier())


def none(note: str) -> Memo:
    """No memo, and why."""
    return Memo(None, Frontier(), note)


def place_of(store_id: str, base: Path | None) -> FolderMemos:
    """The reader's own ladder of a store."""
    return FolderMemos(memo_dir(store_id, base))


def load(store_id: str, base: Path | None) -> Memo:
    """The newest memo of the reader's home, every entity read once; shape only, `fits` says whether it is of this log."""
    if not store_id:
        return NONE
    place = place_of(store_id, base)

    def refuse(_: int) -> ReadModel:
        raise Damaged

    try:
        steps = place.steps()
        found = opened(place, steps[-1], store_id, refuse) if steps else NONE
        if found.model is not None:
            memo_parts.read_through(found.model)
        return found
    except UnavailableError as error:
        return none(f"memo not read: {error.context.get('found', error.message)}")
    except Damaged:
        return none("memo is damaged")


def opened(place: MemoPlace, step: Step, store_id: str, refold: Refold) -> Memo:
    """Open one memo, its large parts read late; `note` says why it is none."""
    try:
        read = place.open(step.position)
        start = max(step.bytes - _TAIL, 0)
        header = json.loads(read(start, step.bytes - start).rpartition(b"\n")[2])
        if header["format"] != FORMAT or header["store_id"] != store_id:
            return none("memo of another store or format")
        if header["versions"] != VERSIONS:
            return none("memo of other projection versions")
        frontier = Frontier(header["position"], [bytes.fromhex(root) for root in header["frontier"]])
        below = tuple((int(position), str(root)) for position, root in header["below"])
        if frontier.root().hex() != header["root"] or frontier.size != step.position:
            return none("memo is damaged")
        start, size, digest = header["index"]
        span = Span(start, size, bytes.fromhex(digest))
        again: list[ReadModel] = []

        def recover() -> ReadModel:
            if not again:
                again.append(refold(frontier.size))
            return again[0]

        return Memo(memo_parts.decoded(read, span, recover), frontier, "", below, header["program"])
    except UnavailableError as error:
        return none(f"memo not read: {error.context.get('found', error.message)}")
    except (ValueError, KeyError, TypeError, RecursionError, Damaged):
        return none("memo is damaged")


def fits(memo: Memo, log: Log, head: Frontier) -> bool:
    """Tell whether the memo's prefix is a prefix of the log; costs one hash for each record since (rule 1)."""
    if memo.model is None or memo.position > head.size:
        return False
    frontier = memo.frontier.copy()
    frontier.extend(log.leaves(after=memo.position, until=head.size))
    return frontier.size == head.size and frontier.roots == head.roots


class Ladder:
    """The memos of one place, as far as they are of this log.

    Attributes:
        newest: the newest memo that is of this log; `note` says why there is none.
    """

    def __init__(
        self, place: MemoPlace, log: Log, head: Frontier, refold: Refold, *, program: str = ""
    ) -> None:
        self.place = place
        self._store_id = log.store_id
        self._refold = refold
        self._given = False
        try:
            self._steps = {step.position: step for step in place.steps()} if self._store_id else {}
        except UnavailableError as error:
            self._steps, self.newest = {}, none(f"memo not read: {error.context.get('found', error.message)}")
            return
        found = NONE
        for step in sorted(self._steps.values(), reverse=True):
            found = opened(place, step, self._store_id, refold)
            if found.model is not None and program and found.program != program:
                found = none("memo of another version of the program")
            if found.model is not None and step.position <= head.size:
                break
            if found.model is not None:
                found = none("memo is not of this log")
        self.newest = found
        if found.model is not None and not fits(found, log, head):
            self.newest = none("memo is not of this log")

    def at(self, until: int) -> Memo:
        """The nearest memo at or before a position; no two calls give the same model, so it is the caller's own."""
        if self.newest.model is None:
            return self.newest
        if self.newest.position <= until and not self._given:
            self._given = True
            return self.newest
        for position, root in reversed(self.newest.vouched):
            if position > until or position not in self._steps:
                continue
            found = opened(self.place, self._steps[position], self._store_id, self._refold)
            if found.model is not None and found.frontier.root().hex() == root:
                return found
        return NONE


def save(
    place: MemoPlace,
    store_id: str,
    model: ReadModel,
    frontier: Frontier,
    below: Iterable[tuple[int, str]] = (),
    *,
    program: str = "",
) -> str:
    """Write a memo and thin its ladder; return "" or why it was not written (a reader may have no right to write).

    Args:
        below: the memos it vouches for (rule 2).
    """
    if not store_id:
        return ""
    try:
        kept = {step.position for step in place.steps()}
        header: dict[str, Any] = {
            "format": FORMAT,
            "store_id": store_id,
            "versions": VERSIONS,
            "program": program,
            "position": frontier.size,
            "frontier": [root.hex() for root in frontier.roots],
            "root": frontier.root().hex(),
            "below": [[at, root] for at, root in below if at in kept and at < frontier.size],
        }
        place.write(frontier.size, _file(model, header))
        prune(place)
    except UnavailableError as error:
        return f"memo not written: {error.message}"
    except Damaged:
        return "memo not written: the one it goes on from is damaged"
    return ""


def _file(model: ReadModel, header: dict[str, Any]) -> Iterator[bytes]:
    last = b""
    for data in memo_parts.encoded(model):
        yield last
        last = data
    start, size, digest = msgspec.msgpack.decode(last)
    yield b"\n" + json.dumps({**header, "index": [start, size, digest.hex()]}, sort_keys=True).encode()
