"""The one pass over all records: bytes against leaf, columns, tags, registry, times, batches and signatures.

1. One record at a time, memory flat but for the names of tags and the ids of blobs.
2. The bytes are the truth; every other cell is compared with them.
3. A finding never stops the pass: what follows is looked at too.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from contextlib import suppress
from typing import Any

import msgspec
from muniment.app.verify_report import Check, Finding
from muniment.app.verify_tags import Derived, Index
from muniment.domain import canonical
from muniment.domain.errors import InvalidError, WrongError
from muniment.domain.records import TABLE
from muniment.store.api import KIND_RECORDS
from muniment.store.inspect import Cells, Inspector, Tables
from muniment.store.merkle import Frontier
from muniment.store.sqlite_tail import MAX_TAIL, TYPE_BITS, TYPE_MASK, unpack

CREATED = "store.created/1"

_sha256 = hashlib.sha256
_encode = msgspec.json.Encoder(order="deterministic").encode
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


Visit = Callable[[int, bytes, dict[str, Any]], None]
"""Told (position, bytes, record) of each record that can be read."""


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
        self.store_id = ""
        self._recorded_at = ""
        self._keys: dict[str, list[Any]] = {}
        indexed = tables.heads[0][4] if tables is not None and tables.heads else 0
        self.index = Index(indexed if type(indexed) is int else 0)
        self._shapes: set[tuple[str, ...]] = set()
        self._derived = {type_: Derived(type_) for type_ in TABLE}
        self._batch: tuple[str, int, int] = ("", 0, 0)
        self._recent: dict[str, int] = {}

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

    # -- the pass ------------------------------------------------------------------------------------------------------

    def run(self, store: Inspector, visit: Visit, progress: Callable[[int], None] | None = None) -> None:
        """Walk. Raises what the inspector raises when the store cannot be read on."""
        expected = 0
        for page in store.records():
            hashes: list[bytes] = []
            stored: list[bytes] = []
            for cells in page:
                expected += 1
                position = cells[0]
                if position != expected:
                    if type(position) is int and position > expected:
                        self.found(
                            "log.positions",
                            expected,
                            "position",
                            expected,
                            position,
                            f"{position - expected} missing",
                        )
                        expected = position
                    else:
                        self.found("log.positions", expected, "position", expected, position)
                hashes.append(self._leaf(expected, cells))
                stored.append(cells[2] if type(cells[2]) is bytes else b"")
                record = self._record(expected, cells)
                if record is not None:
                    visit(expected, cells[3], record)
            self._extend(hashes, stored)
            if progress is not None:
                progress(expected)
        if self._tables is not None:
            self._finish_tables(store, expected)

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

    def _record(self, position: int, cells: Cells) -> dict[str, Any] | None:
        body = cells[3]
        try:
            record = _decode(body)
            if type(record) is not dict or type(record.get("type")) is not str:
                raise msgspec.ValidationError("not an object with a type")
            if _encode(record) != body and canonical.encode_trusted(record) != body:
                at = _difference(canonical.encode_trusted(record), body)
                self.found(
                    "record.canonical", position, "body", "canonical bytes", f"other bytes from byte {at} on"
                )
        except (msgspec.MsgspecError, InvalidError, UnicodeDecodeError, TypeError) as error:
            self.found("record.canonical", position, "body", "canonical JSON", str(error)[:200])
            return None
        own = record.get("tags")
        try:
            held = set(own)  # type: ignore[arg-type]
        except TypeError:
            held = set()
        if self._tables is not None:
            self.index.add(position, record["type"], held)
            own_id = uuid_bytes(record.get("id")) if self._records or record["type"] == CREATED else None
            if cells[1] != own_id:
                self.found("column.id", position, "id", own_id, cells[1])
        if self._records or record["type"] == CREATED:
            try:
                self._content(position, record, own, held)
            except (KeyError, TypeError, AttributeError, ValueError) as error:
                self.found("record.registry", position, "body", "a record", repr(error)[:200])
        if position in self.bad:
            self.bad[position] = (record["type"], sorted(held))
        return record

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
        if (type_ == CREATED) != (position == 1):
            self.found("store.created", position, "type", CREATED if position == 1 else "another type", type_)
        elif position == 1:
            self.store_id = str(record["data"].get("store_id", ""))
        if self._tables is None:
            self._id_once(position, record["id"])
        batch = record.get("batch")
        if batch is not None or self._batch[1] < self._batch[2]:
            self._in_batch(position, record["id"], batch)
        if "signature" in record or record["actor"]["auth"] != "os":
            self._signature(position, record)
        if type_ in ("identity.added/1", "key.revoked/1"):
            self._keys_change(type_, record["data"], position)

    def _known_shape(self, record: dict[str, Any]) -> bool:
        shape = tuple(record)
        if shape in self._shapes:
            return True
        good = record.keys() >= _REQUIRED and record.keys() <= _FIELDS
        if good and len(self._shapes) < 1000:
            self._shapes.add(shape)
        return good

    def _id_once(self, position: int, id_: str) -> None:
        # A database holds ids by a unique index (`store.integrity`); ids come in order of time, so a window is enough here.
        if id_ in self._recent:
            self.found("record.ids", position, "id", "an unused id", id_, f"used at {self._recent[id_]}")
        self._recent[id_] = position
        if len(self._recent) > 100_000:
            self._recent.pop(next(iter(self._recent)))

    def _in_batch(self, position: int, id_: str, batch: dict[str, Any] | None) -> None:
        first, done, size = self._batch
        if done < size:
            wanted = {"first": first, "index": done, "size": size}
            if batch != wanted:
                self.found("record.batch", position, "batch", wanted, batch)
                self._batch = ("", 0, 0)
                if batch is None or batch.get("index") != 0:
                    return
            else:
                self._batch = (first, done + 1, size)
                return
        if batch is None:
            return
        if batch.get("first") != id_ or batch.get("index") != 0 or type(batch.get("size")) is not int:
            self.found("record.batch", position, "batch", {"first": id_, "index": 0}, batch)
            return
        self._batch = (id_, 1, batch["size"])

    def _keys_change(self, type_: str, data: dict[str, Any], position: int) -> None:
        if type_ == "identity.added/1":
            self._keys[data["key_id"]] = [data["public_key"], data["identity"], data["kind"], 0]
        elif data["key_id"] in self._keys:
            self._keys[data["key_id"]][3] = position

    def _signature(self, position: int, record: dict[str, Any]) -> None:
        from muniment.app.keys import verify_record

        auth = record["actor"]["auth"]
        signature = record.get("signature")
        if not isinstance(signature, dict):
            self.found("record.signature", position, "signature", f"a signature by {auth}", "none")
            return
        key_id = signature.get("key_id")
        if auth != f"ed25519:{key_id}":
            self.found("record.signature", position, "actor.auth", f"ed25519:{key_id}", auth)
        key = self._keys.get(str(key_id))
        if key is None:
            self.found("record.signature", position, "signature", "a key bound before", key_id)
            return
        public, identity, kind, revoked = key
        if revoked:
            self.found(
                "record.signature", position, "signature", "a key in force", f"{key_id}, revoked at {revoked}"
            )
        if (record["actor"]["id"], record["actor"]["kind"]) != (identity, kind):
            self.found("record.signature", position, "actor.id", identity, record["actor"]["id"])
        if not verify_record(record, public):
            self.found(
                "record.signature", position, "signature", f"a good signature by {key_id}", "a bad one"
            )

    def _finish_tables(self, store: Inspector, last: int) -> None:
        tables = self._tables
        assert tables is not None
        if self._batch[1] < self._batch[2]:
            self.found(
                "record.batch", last, "batch", f"{self._batch[2]} records", f"{self._batch[1]}, then the end"
            )
        made = {number: name for name, number in self.index.types.items()}
        for number in made.keys() | tables.types.keys():
            if made.get(number) != tables.types.get(number):
                self.found(
                    "store.types",
                    None,
                    f"types.{number}",
                    made.get(number, "no such type"),
                    tables.types.get(number, "missing"),
                    "types are numbered in the order of their first records",
                )
        terms, odd = self.index.differing(store.postings())
        for term, first, why in odd:
            self.found(
                "store.postings", None, f"postings of {term}", "a row of entries", f"first {first}", why
            )
        for term in terms:
            self._term(store, term)
        self._head(tables.heads)

    def _term(self, store: Inspector, term: Any) -> None:
        """Name the first entry of a term in which the index as stored differs from the bodies."""
        stored: list[int] = []
        for page in store.postings():
            for found, _, data in page:
                if found == term and type(found) is type(term):
                    with suppress(WrongError, TypeError):
                        stored += unpack(data)
        made = [
            entry
            for rows in store.records()
            for position, _, _, body in rows
            if (entry := self._entry(term, position, body))
        ]
        at = next((i for i, (a, b) in enumerate(zip(made, stored, strict=False)) if a != b), None)
        if at is None:
            at = min(len(made), len(stored))
        named = {number: name for name, number in self.index.types.items()}
        expected, there = (
            f"#{row[at] >> TYPE_BITS} {named.get(row[at] & TYPE_MASK, 'unknown type')}"
            if at < len(row)
            else "no more entries"
            for row in (made, stored)
        )
        field = f"postings of {named.get(term, term) if type(term) is int else term}"
        self.found("store.postings", None, field, expected, there, f"entry {at + 1} of its history")

    def _entry(self, term: Any, position: Any, body: Any) -> int:
        """The entry of a record in the history of a term, 0 if it is not in it."""
        try:
            if not 0 < position <= self.index.indexed:
                return 0
            record = _decode(body)
            number = self.index.types[record["type"]]
            if number != term and term not in record["tags"]:
                return 0
        except (msgspec.MsgspecError, UnicodeDecodeError, KeyError, TypeError):
            return 0
        return int(position) << TYPE_BITS | number

    def _head(self, heads: list[tuple[Any, ...]]) -> None:
        if len(heads) != 1:
            self.found("log.head", None, "head", "one row", len(heads))
            return
        size = self.frontier.size
        indexed = heads[0][4]
        wanted = (1, size, self.frontier.to_bytes(), self._recorded_at)
        for field, expected, cell in zip(
            ("one", "size", "frontier", "recorded_at"), wanted, heads[0], strict=False
        ):
            if expected != cell or type(expected) is not type(cell):
                self.found(
                    "log.head", None, field, expected, cell, "the head row does not say what the records give"
                )
        if type(indexed) is not int or not 0 <= size - indexed < MAX_TAIL or indexed < 0:
            self.found("log.head", None, "indexed", f"{max(size - MAX_TAIL + 1, 0)}..{size}", indexed)


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
