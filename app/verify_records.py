"""The one pass over all records: bytes against leaf, columns, tags, registry, times, batches and signatures.

1. A page at a time, memory flat but for the names of tags and the ids of blobs.
2. The bytes are the truth; every other cell is compared with them.
3. A finding never stops the pass: what follows is looked at too.
4. A stretch is surveyed as a whole first (`verify_survey`), which can only say that nothing is wrong. If it does not, each record
   of it is looked at by itself, and only that makes findings.
"""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any

import msgspec
from muniment.app.verify_cells import hexed_or_text, uuid_bytes
from muniment.app.verify_report import Check, Ends, Finding
from muniment.app.verify_sequel import CREATED, Sequel
from muniment.app.verify_stretches import Surveys
from muniment.app.verify_sum import PRIME, Sum
from muniment.app.verify_survey import Plan, Survey, Surveyor
from muniment.app.verify_tables import TablePass
from muniment.app.verify_tags import MAX_POSITION as MAX_ENTRY
from muniment.app.verify_tags import Derived, Index
from muniment.domain import canonical
from muniment.domain.errors import InvalidError
from muniment.domain.records import TABLE
from muniment.store.api import KIND_RECORDS
from muniment.store.inspect import Cells, Inspector, Tables
from muniment.store.merkle import Frontier

PIECE = 1024  # records: of a stretch in which something is wrong, the rest is not looked at one by one

_sha256 = hashlib.sha256
_REQUIRED = frozenset(
    ("v", "id", "type", "tags", "occurred_at", "recorded_at", "actor", "correlation", "data")
)
_FIELDS = _REQUIRED | {"causation", "command", "basis", "batch", "evidence", "signature"}


def _no_float(text: str) -> float:
    raise msgspec.ValidationError(f"a number that is no integer: {text[:40]}")


_decode = msgspec.json.Decoder(float_hook=_no_float).decode


class RecordPass:
    """Walks the records once. `checks` are filled; `frontier` is the tree as recomputed from the bytes.

    Args:
        evidence: told of the files that a record names: (position, entries).
    """

    def __init__(
        self,
        checks: dict[str, Check],
        tables: Tables | None,
        kind: str,
        anchors: Iterable[int],
        evidence: Callable[[int, Any], None] | None = None,
    ) -> None:
        self._checks = checks
        self._tables = tables
        self._records = kind == KIND_RECORDS
        self._evidence = evidence
        self._anchors = sorted(set(anchors), reverse=True)
        self.frontier = Frontier()
        self.roots: dict[int, bytes] = {}
        self.stored_roots: dict[int, bytes] = {}
        self._stored: Frontier | None = None
        self.first_bad = 0
        self.bad: dict[int, tuple[str, list[str]]] = {}
        self.recorded_at = ""
        self._last = 0
        self._resumed = False
        indexed = tables.heads[0][4] if tables is not None and tables.heads else 0
        self._indexed = indexed if type(indexed) is int else 0
        self._types: dict[str, None] = {}
        self._sum: int | None = 0  # None: the sums cannot tell, so every entry is looked at
        self._shapes: set[tuple[str, ...]] = set()
        self._derived = {type_: Derived(type_) for type_ in TABLE}
        self._sequel = Sequel(self.found, ids=tables is None)

    # -- findings ------------------------------------------------------------------------------------------------------

    def found(
        self, check: str, position: int | None, field: str, expected: Any, found: Any, detail: str = ""
    ) -> None:
        """Note one finding at a record."""
        self._checks[check].fail(
            Finding(hexed_or_text(expected), hexed_or_text(found), position, field, detail)
        )
        if position is not None:
            if not self.first_bad or position < self.first_bad:
                self.first_bad = position
            if len(self.bad) < 1000:
                self.bad.setdefault(position, ("", []))

    @property
    def store_id(self) -> str:
        """As position 1 names it."""
        return self._sequel.store_id

    # -- the pass ------------------------------------------------------------------------------------------------------

    def plan(self) -> Plan | None:
        """What a survey of the records needs; None if they can only be looked at one by one."""
        types = self._tables.types if self._tables is not None else {}
        numbers = {name: number for number, name in types.items()}
        if (
            self._tables is None
            or not self._records
            or list(numbers.values()) != list(range(1, len(types) + 1))
        ):
            return None
        indexed = min(max(self._indexed, 0), MAX_ENTRY)
        return Plan(
            secrets.token_bytes(32), numbers, indexed, self._anchors[::-1], self._evidence is not None
        )

    def run(self, store: Inspector, surveys: Surveys | None, progress: Callable[[int], None] | None) -> None:
        """Walk. Raises what the inspector raises when the store cannot be read on.

        Args:
            surveys: of the leading records, in order; what they leave out is looked at record by record.
        """
        plan = surveys.plan if surveys is not None else None
        stored = iter(())  # type: Iterator[int | None]
        own = None
        if surveys is not None and plan is not None:
            own = Surveyor(plan)
            stored = Sum(plan.key, plan.indexed, plan.types.values()).stored(store.postings())
        else:
            self._sum = None
        self._walk(store.records(until=0))
        done = self._last
        for first, last, survey in surveys or ():
            if survey is None or not self._absorb(first, survey):
                self._narrow(store, own, first, last)
            done = last
            self._less(stored, 2)
            if progress is not None:
                progress(last)
        for page in store.records(after=done):
            self._walk((page,))
            if progress is not None:
                progress(self._last)
        while self._sum is not None and self._less(stored, 1):
            pass
        if self._tables is not None:
            self._sequel.finish(self._last)
            if not self._resumed:
                self._finish_tables(store)

    def resume(self, ends: Ends) -> None:
        """Begin behind the records that were verified before; what only all records can tell is left to the caller."""
        self._resumed = True
        self.frontier = Frontier(ends.size, [bytes.fromhex(root) for root in ends.frontier])
        self._last, self.recorded_at = ends.size, ends.recorded_at
        self._sequel.resume(ends.store_id, ends.keys)

    def ends(self) -> Ends:
        """Where the pass has ended, to resume there."""
        types = self._tables.types if self._tables is not None else {}
        return Ends(
            self.store_id,
            self.frontier.size,
            [root.hex() for root in self.frontier.roots],
            self.recorded_at,
            self._indexed,
            [types[number] for number in sorted(types)],
            self._sequel.keys,
        )

    def _less(self, stored: Iterator[int | None], pages: int) -> bool:
        """Take pages of the index as stored off the sum; False where they end, or where the sums cannot tell."""
        parts = list(islice(stored, pages))
        if self._sum is None or None in parts:
            self._sum = None
            return False
        self._sum = (self._sum - sum(filter(None, parts))) % PRIME
        return len(parts) == pages

    def _absorb(self, first: int, survey: Survey) -> bool:
        """Add a stretch in which nothing is wrong by itself; False, and nothing noted, if it does not follow what was seen."""
        last = first + survey.size - 1
        if self._last != first - 1 or self.frontier.size != first - 1 or survey.first_at < self.recorded_at:
            return False
        noted = [(position, _decode(body)) for position, body in survey.noted]
        if not self._sequel.stands_together(first, last, noted):
            return False
        for at, roots in survey.cuts.items():
            size = first - 1 + at
            while self._anchors and self._anchors[-1] <= size:
                self._anchors.pop()
            for known, tree in (
                (self.roots, self.frontier),
                (self.stored_roots, self._stored or self.frontier),
            ):
                grown = tree.copy()
                grown.join(Frontier(at, roots))
                known[size] = grown.root()
        for tree in filter(None, (self.frontier, self._stored)):
            tree.join(survey.tree())
        self._types.update(dict.fromkeys(survey.types))
        if self._sum is not None:
            self._sum = (self._sum + survey.sum) % PRIME
        for position, record in noted:
            self._sequel.record(position, record)
        if self._evidence is not None:
            for position, entries in survey.evidence:
                self._evidence(position, entries)
        self.recorded_at = survey.last_at
        self._last = last
        return True

    def _narrow(self, store: Inspector, own: Surveyor | None, first: int, last: int) -> None:
        """Look at a stretch in which something may be wrong: piece by piece, then record by record."""
        for start in range(first, last + 1, PIECE):
            rows = [
                cells
                for page in store.records(after=start - 1, until=min(start + PIECE - 1, last))
                for cells in page
            ]
            survey = own.look(start, rows) if own is not None else None
            if survey is None or not self._absorb(start, survey):
                self._walk((rows,))

    def _walk(self, pages: Iterable[list[Cells]]) -> None:
        for page in pages:
            if not page:
                continue
            self._sum = None
            positions = self._positions(page, self._last)
            hashes, stored = self._leaves(positions, page)
            for position, cells in zip(positions, page, strict=True):
                evidence = self._record(position, cells)
                if evidence is not None and self._evidence is not None:
                    self._evidence(position, evidence)
            self._extend(hashes, stored)
            self._last = positions[-1]

    def _positions(self, page: list[Cells], last: int) -> Sequence[int]:
        """The position each row of a page should have, after a gap counted from what is there."""
        expected = range(last + 1, last + 1 + len(page))
        if [cells[0] for cells in page] == list(expected) and {type(cells[0]) for cells in page} == {int}:
            return expected
        positions = []
        for cells in page:
            last += 1
            position = cells[0]
            if position != last or type(position) is not int:
                if type(position) is int and position > last:
                    missing = f"{position - last} missing"
                    self.found("log.positions", last, "position", last, position, missing)
                    last = position
                else:
                    self.found("log.positions", last, "position", last, position)
            positions.append(last)
        return positions

    def _leaves(self, positions: Sequence[int], page: list[Cells]) -> tuple[list[bytes], list[bytes]]:
        """The leaves of a page as made from the bytes, and as stored."""
        stored = [cells[2] for cells in page]
        try:
            made = [_sha256(b"\x00" + cells[3]).digest() for cells in page]
            if made == stored:
                return made, stored
        except TypeError:
            pass  # a body that is not bytes: each by itself
        made = [self._leaf(position, cells) for position, cells in zip(positions, page, strict=True)]
        return made, [leaf if type(leaf) is bytes else b"" for leaf in stored]

    def _extend(self, hashes: list[bytes], stored: list[bytes]) -> None:
        """Grow the tree over the bytes and, from the first difference on, the tree over the leaves as stored."""
        if self._stored is None and hashes != stored:
            self._stored = self.frontier.copy()
        while self._anchors and self._anchors[-1] <= self.frontier.size + len(hashes):
            cut = self._anchors.pop() - self.frontier.size
            self._grow(hashes[:cut], stored[:cut])
            size = self.frontier.size
            self.roots[size] = self.frontier.root()
            self.stored_roots[size] = self._stored.root() if self._stored is not None else self.roots[size]
            hashes, stored = hashes[cut:], stored[cut:]
        self._grow(hashes, stored)

    def _grow(self, hashes: list[bytes], stored: list[bytes]) -> None:
        self.frontier.extend(hashes)
        if self._stored is not None:
            self._stored.extend(stored)

    def _leaf(self, position: int, cells: Cells) -> bytes:
        body, leaf = cells[3], cells[2]
        if type(body) is not bytes:
            self.found("log.leaves", position, "body", "bytes", type(body).__name__)
            body = str(body).encode()
        made = _sha256(b"\x00" + body).digest()
        if made != leaf:
            self.found(
                "log.leaves", position, "leaf", leaf, made, "the stored leaf is not the hash of the bytes"
            )
        return made

    def _record(self, position: int, cells: Cells) -> Any:
        """Check one record by itself; return the evidence it names, None if it names none or cannot be read."""
        body = cells[3]
        try:
            record = _decode(body)
            if type(record) is not dict or type(record.get("type")) is not str:
                raise msgspec.ValidationError("not an object with a type")
            canonical.check_profile(record)
            made = canonical.encode_trusted(record)
            if made != body:
                self.found(
                    "record.canonical",
                    position,
                    "body",
                    "canonical bytes",
                    f"other bytes from byte {_difference(made, body)} on",
                )
        except (msgspec.MsgspecError, InvalidError, UnicodeDecodeError, TypeError, RecursionError) as error:
            self.found("record.canonical", position, "body", "canonical JSON", str(error)[:200])
            if not isinstance(error, InvalidError):
                return None
        own = record.get("tags")
        try:
            held = set(own)
        except TypeError:
            held = set()
        if self._tables is not None:
            own_id = uuid_bytes(record.get("id")) if self._records or record["type"] == CREATED else None
            if cells[1] != own_id:
                self.found("column.id", position, "id", own_id, cells[1])
        if self._records or record["type"] == CREATED:
            try:
                if self._records:
                    self._content(position, record, own, held)
                else:  # the one record of ours in a log of foreign events; store.dcb makes it, not the registry
                    self.recorded_at = max(self.recorded_at, record["recorded_at"])
                    self._sequel.record(position, record)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                self.found("record.registry", position, "body", "a record", repr(error)[:200])
        if position in self.bad:
            self.bad[position] = (record["type"], sorted(map(str, held)))
        return record.get("evidence")

    def _content(self, position: int, record: dict[str, Any], own: Any, held: set[str]) -> None:
        type_ = record["type"]
        derived = self._derived.get(type_)
        if derived is None:
            self.found("record.registry", position, "type", "a type of the registry", type_)
        elif record["v"] != 1 or not self._known_shape(record):
            wrong = sorted((_REQUIRED - record.keys()) | (record.keys() - _FIELDS)) or ["v"]
            self.found(
                "record.registry", position, wrong[0], "the fields of record version 1", ", ".join(wrong)
            )
        elif missing := derived.missing(record["data"], held):
            self.found(
                "record.tags", position, "tags", missing, "not there", "a tag of the payload is missing"
            )
        if sorted(held) != own:
            self.found("record.tags", position, "tags", "sorted and distinct", own)
        recorded_at = record["recorded_at"]
        if recorded_at < self.recorded_at:
            self.found("record.time", position, "recorded_at", f"not before {self.recorded_at}", recorded_at)
        else:
            self.recorded_at = recorded_at
        self._sequel.record(position, record)

    def _known_shape(self, record: dict[str, Any]) -> bool:
        shape = tuple(record)
        if shape in self._shapes:
            return True
        good = record.keys() >= _REQUIRED and record.keys() <= _FIELDS
        if good and len(self._shapes) < 1000:
            self._shapes.add(shape)
        return good

    def _finish_tables(self, store: Inspector) -> None:
        assert self._tables is not None
        same = self._sum == 0 and dict(enumerate(self._types, 1)) == self._tables.types
        index = None if same else Index.of(store.records(), self._indexed, store.term)
        TablePass(self.found, index, self.frontier, self.recorded_at, exact=self._records).run(
            store, self._tables
        )


def _difference(one: bytes, other: bytes) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )
