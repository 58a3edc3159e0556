"""The one pass over all records: bytes against leaf, columns, tags, registry, times, batches and signatures.

1. A page at a time, memory flat but for the names of tags and the ids of blobs.
2. The bytes are the truth; every other cell is compared with them.
3. A finding never stops the pass: what follows is looked at too.
4. A page is looked at as a whole first (`_quick`), which can only say that nothing is wrong. If it does not, each record of it
   is looked at by itself, and only that makes findings.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Callable, Sequence
from typing import Any, Protocol

import msgspec
from muniment.app.verify_report import Check, Finding
from muniment.app.verify_sequel import CREATED, KEY_TYPES, Sequel
from muniment.app.verify_tables import TablePass
from muniment.app.verify_tags import Derived, Index
from muniment.app.verify_typed import reader
from muniment.domain import canonical
from muniment.domain.errors import InvalidError
from muniment.domain.records import TABLE
from muniment.store.api import KIND_RECORDS
from muniment.store.inspect import Cells, Inspector, Tables
from muniment.store.merkle import Frontier

_NOTED = frozenset((CREATED, *KEY_TYPES))
_TYPE, _TYPE_END = b'"type":"', -len(b'","v":1}')
_UNSET = msgspec.UNSET

_sha256 = hashlib.sha256
_REQUIRED = frozenset(
    ("v", "id", "type", "tags", "occurred_at", "recorded_at", "actor", "correlation", "data")
)
_FIELDS = _REQUIRED | {"causation", "command", "basis", "batch", "evidence", "signature"}


def _no_float(text: str) -> float:
    raise msgspec.ValidationError(f"a number that is no integer: {text[:40]}")


_decode = msgspec.json.Decoder(float_hook=_no_float).decode


def hexed(value: Any) -> str:
    """A cell for a report."""
    if isinstance(value, bytes):
        return value.hex() if len(value) <= 64 else f"{value[:32].hex()}… ({len(value)} bytes)"
    return repr(value)[:200]


class Visit(Protocol):
    """Who else looks at the records as they pass."""

    def evidence(self, position: int, entries: Any) -> None:
        """A record names files."""

    def page(self, positions: Sequence[int], page: list[Cells]) -> None:
        """A page is done."""


class RecordPass:
    """Walks the records once. `checks` are filled; `frontier` is the tree as recomputed from the bytes."""

    def __init__(self, checks: dict[str, Check], tables: Tables | None, kind: str, anchors: set[int]) -> None:
        self._checks = checks
        self._tables = tables
        self._records = kind == KIND_RECORDS
        self._anchors = sorted(anchors, reverse=True)
        self.frontier = Frontier()
        self.roots: dict[int, bytes] = {}
        self.stored_roots: dict[int, bytes] = {}
        self._stored: Frontier | None = None
        self.first_bad = 0
        self.bad: dict[int, tuple[str, list[str]]] = {}
        self._recorded_at = ""
        indexed = tables.heads[0][4] if tables is not None and tables.heads else 0
        self.index = Index(indexed if type(indexed) is int else 0)
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

    def run(self, store: Inspector, visit: Visit, progress: Callable[[int], None] | None = None) -> None:
        """Walk. Raises what the inspector raises when the store cannot be read on."""
        last = 0
        for page in store.records():
            positions = self._positions(page, last)
            hashes, stored = self._leaves(positions, page)
            if not self._quick(positions, page, visit):
                for position, cells in zip(positions, page, strict=True):
                    evidence = self._record(position, cells)
                    if evidence is not None:
                        visit.evidence(position, evidence)
            visit.page(positions, page)
            self._extend(hashes, stored)
            last = positions[-1]
            if progress is not None:
                progress(last)
        if self._tables is not None:
            self._finish_tables(store, last)

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

    def _quick(self, positions: Sequence[int], page: list[Cells], visit: Visit) -> bool:
        """Check a page as a whole; False, and nothing noted, unless it is certain that each record passes by itself."""
        if not self._records or type(positions) is not range:
            return False
        rows = self._rows(page)
        if rows is None:
            return False
        if self._tables is not None and not _ids_agree(rows, page):
            return False
        times = [self._recorded_at, *(row.recorded_at for row in rows)]
        if times != sorted(times):
            return False
        self._recorded_at = times[-1]
        if self._tables is not None:
            self.index.add(positions[0], [(row.type, row.tags) for row in rows])
        for position, row in zip(positions, rows, strict=True):
            if row.evidence is not _UNSET:
                visit.evidence(position, row.evidence)
        if self._plain(positions, rows):
            return True
        for position, row in zip(positions, rows, strict=True):
            if (
                row.batch is not _UNSET
                or self._sequel.in_batch
                or row.signature is not _UNSET
                or row.actor.auth != "os"
                or row.type in _NOTED
                or position == 1
                or self._tables is None
            ):
                self._sequel.record(position, _decode(page[position - positions[0]][3]))
        return True

    def _plain(self, positions: Sequence[int], rows: list[Any]) -> bool:
        """Tell whether no record of a page is one that the loop after this looks at."""
        count = len(rows)
        return (
            self._tables is not None
            and positions[0] > 1
            and not self._sequel.in_batch
            and [row.batch for row in rows].count(_UNSET) == count
            and [row.signature for row in rows].count(_UNSET) == count
            and [row.actor.auth for row in rows].count("os") == count
            and _NOTED.isdisjoint([row.type for row in rows])
        )

    def _rows(self, page: list[Cells]) -> list[Any] | None:
        """The records of a page in closed structs, types apart (`verify_typed`); None if one is not certainly right."""
        bodies = [cells[3] for cells in page]
        if set(map(type, bodies)) != {bytes}:
            return None
        skip = len(_TYPE)
        groups: defaultdict[bytes, list[int]] = defaultdict(list)
        for at, name in enumerate([body[body.rfind(_TYPE) + skip : _TYPE_END] for body in bodies]):
            groups[name].append(at)
        rows: list[Any] = [None] * len(page)
        for name, places in groups.items():
            typed = reader(name.decode("utf-8", "replace"))
            if typed is None:
                return None
            found = typed.read([bodies[at] for at in places])
            if found is None or not typed.tagged(found):
                return None
            for at, row in zip(places, found, strict=True):
                rows[at] = row
        return rows

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
            self.index.add(position, [(record["type"], held)])
            own_id = uuid_bytes(record.get("id")) if self._records or record["type"] == CREATED else None
            if cells[1] != own_id:
                self.found("column.id", position, "id", own_id, cells[1])
        if self._records or record["type"] == CREATED:
            try:
                if self._records:
                    self._content(position, record, own, held)
                else:  # the one record of ours in a log of foreign events; store.dcb makes it, not the registry
                    self._recorded_at = max(self._recorded_at, record["recorded_at"])
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
        if recorded_at < self._recorded_at:
            self.found("record.time", position, "recorded_at", f"not before {self._recorded_at}", recorded_at)
        else:
            self._recorded_at = recorded_at
        self._sequel.record(position, record)

    def _known_shape(self, record: dict[str, Any]) -> bool:
        shape = tuple(record)
        if shape in self._shapes:
            return True
        good = record.keys() >= _REQUIRED and record.keys() <= _FIELDS
        if good and len(self._shapes) < 1000:
            self._shapes.add(shape)
        return good

    def _finish_tables(self, store: Inspector, last: int) -> None:
        assert self._tables is not None
        self._sequel.finish(last)
        TablePass(self.found, self.index, self.frontier, self._recorded_at, exact=self._records).run(
            store, self._tables
        )


def uuid_bytes(text: Any) -> bytes | None:
    """The sixteen bytes of a record id as the id column holds them; None if it is none."""
    try:
        return bytes.fromhex(text.replace("-", "")) if len(text) == 36 else None
    except (AttributeError, TypeError, ValueError):
        return None


def hexed_or_text(value: Any) -> str:
    """A value for a report; text stays as it is."""
    return value if isinstance(value, str) else hexed(value)


def _difference(one: bytes, other: bytes) -> int:
    return next(
        (i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b), min(len(one), len(other))
    )


def _ids_agree(rows: list[Any], page: list[Cells]) -> bool:
    """Tell whether each id column holds the sixteen bytes of its record's id."""
    try:
        cells = [row[1] for row in page]
        texts = [row.id for row in rows]
        if set(map(len, cells)) != {16} or set(map(len, texts)) != {36}:
            return False
        # No id holds a line break if the lines are equal, so they are equal one by one.
        return "\n".join(texts).replace("-", "") == b"".join(cells).hex("\n", 16)
    except TypeError:
        return False
