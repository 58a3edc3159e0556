"""Verify what was appended since this reader's last verification, at a cost that does not grow with the log.

It rests on the file that `remember` wrote after a verification that passed: the tree of those records, the keys in force, the types
and how far the index went. It claims less than `verify_store`, and its report says so:

1. Looked at: settings and schema, every record after those, their files, their entries in the index, and that
   the stored head is that of the remembered tree grown by them.
2. Not looked at again: the records before, their leaves, entries and files, the saved projections, exports, the database's check.
   Each check that is about those says `not_applicable`, and why.
3. Damage to what was verified before is found by `verify_store` only, which stays what "verified" means without a further word.
"""

from __future__ import annotations

import hashlib
import time
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from muniment.app import home as homes
from muniment.app.verify import compare_settings, unreadable
from muniment.app.verify_evidence import EvidencePass
from muniment.app.verify_records import RecordPass
from muniment.app.verify_report import CHECKS, NOT_APPLICABLE, Check, Ends, Finding, Report
from muniment.app.verify_tables import TablePass, types_differing
from muniment.domain import instant
from muniment.domain.errors import MunimentError, NotFoundError
from muniment.store.api import KIND_RECORDS, Log
from muniment.store.evidence import EvidenceStore
from muniment.store.index_tail import TYPE_BITS, pack
from muniment.store.inspect import Inspector, Tables, inspector
from muniment.store.merkle import Frontier

FORMAT = b"muniment-verified/1 "
_MADE = frozenset(
    (
        *("store.readable", "store.settings", "store.schema", "store.types", "store.postings", "column.id"),
        *(
            "log.positions",
            "log.leaves",
            "log.head",
            "head.last_seen",
            "evidence.present",
            "evidence.manifests",
        ),
        *(
            "record.canonical",
            "record.registry",
            "record.tags",
            "record.time",
            "record.batch",
            "record.signature",
        ),
        "store.created",
    )
)
_encode, _decode = msgspec.json.encode, msgspec.json.Decoder(Ends).decode
_names = msgspec.json.Decoder().decode


def path_of(store_id: str, base: Path | None) -> Path:
    """Where it is remembered."""
    return homes.head_file(store_id, base).with_name(f"{store_id}.verified")


def remember(report: Report, base: Path | None = None, *, now: int | None = None) -> str:
    """Remember where a verification that passed has ended; return "" or why it was not remembered.

    Args:
        now: microseconds since 1970; the host's clock if absent.
    """
    ends = report.ends
    if not report.ok or ends is None or not ends.size:
        return "not remembered: the verification did not pass, or the log has no database"
    if not ends.full:
        ends.full = ends.size
        ends.at = instant.from_micros(time.time_ns() // 1000 if now is None else now)
    data = _encode(ends)
    try:
        homes.write_atomic(
            path_of(ends.store_id, base), FORMAT + hashlib.sha256(data).hexdigest().encode() + b"\n" + data
        )
    except (OSError, MunimentError) as error:
        return f"not remembered: {error}"
    return ""


def remembered(store_id: str, base: Path | None = None) -> Ends:
    """What was remembered of a store.

    Raises:
        NotFoundError: nothing, or nothing that is whole.
    """
    why = "no verification of this store is remembered"
    try:
        line, _, data = path_of(store_id, base).read_bytes().partition(b"\n")
        if line == FORMAT + hashlib.sha256(data).hexdigest().encode():
            ends = _decode(data)
            Frontier(ends.size, [bytes.fromhex(root) for root in ends.frontier])
            if ends.store_id == store_id:
                return ends
        why = "what is remembered of the last verification is damaged"
    except FileNotFoundError:
        pass
    except (OSError, ValueError, MunimentError, msgspec.MsgspecError) as error:
        why = f"what is remembered of the last verification cannot be read: {error}"
    raise NotFoundError(why, code="verify.none", hint="muniment verify store")


def verify_new(
    store: Log | Path | str,
    *,
    evidence: EvidenceStore | None = None,
    base: Path | None = None,
    progress: Callable[[int], None] | None = None,
) -> Report:
    """Verify the records after those verified last (rule 1) and return the report; damage is in it, never raised.

    Raises:
        NotFoundError: there is no store, or no verification to go on from.
    """
    checks = {id_: Check(id_, claim) for id_, claim in CHECKS.items()}
    report = Report(list(checks.values()))
    try:
        opened = inspector(store, check=False)
    except NotFoundError:
        raise
    except MunimentError as error:
        unreadable(checks, error, 0)
        return report
    try:
        ends = remembered(_store_id(opened), base)
        for check in checks.values():
            if check.id not in _MADE:
                check.leave(NOT_APPLICABLE, f"not looked at again since {ends.at}: run muniment verify store")
        try:
            _verify(report, checks, opened, ends, evidence, base, progress)
        except MunimentError as error:
            unreadable(checks, error, ends.size + 1)
    finally:
        opened.close()
    return report


def _store_id(store: Inspector) -> str:
    try:
        return str(_names(next(store.records(after=0, until=1))[0][3])["data"]["store_id"])
    except (
        StopIteration,
        KeyError,
        TypeError,
        IndexError,
        msgspec.MsgspecError,
        UnicodeDecodeError,
    ) as error:
        raise NotFoundError(
            "the first record names no store", code="verify.none", hint="muniment verify store"
        ) from error


def _verify(
    report: Report,
    checks: dict[str, Check],
    store: Inspector,
    ends: Ends,
    evidence: EvidenceStore | None,
    base: Path | None,
    progress: Callable[[int], None] | None,
) -> None:
    tables = store.tables()
    assert tables is not None  # `remember` took none of a log without
    compare_settings(checks, tables)
    if store.kind != KIND_RECORDS:
        checks["store.settings"].fail(Finding(KIND_RECORDS, store.kind or "neither", None, "kind"))
    files = EvidencePass(checks, evidence) if evidence is not None else None
    seen = homes.last_head(ends.store_id, base).head
    records = RecordPass(
        checks,
        tables,
        KIND_RECORDS,
        [seen.size] if seen is not None else [],
        files.record if files is not None else None,
    )
    records.resume(ends)
    records.run(store, None, progress)
    TablePass(records.found, None, records.frontier, records.recorded_at, exact=True).run(store, tables)
    _index(records, store, tables, ends)
    size = records.frontier.size
    if store.last() < ends.size:
        checks["log.head"].fail(Finding(f"at least {ends.size} records", f"{store.last()}", None, "size"))
    if seen is None or seen.size < ends.size:
        checks["head.last_seen"].leave(NOT_APPLICABLE, "the head seen last lies before what is looked at")
    elif records.roots.get(seen.size, ends_root(ends, seen.size)).hex() != seen.root:
        checks["head.last_seen"].fail(
            Finding(seen.root, f"another root, or {size} records only", None, "root")
        )
    if files is None:
        for id_ in ("evidence.present", "evidence.manifests"):
            checks[id_].leave(NOT_APPLICABLE, "no evidence store was given")
    report.store_id, report.size, report.root = ends.store_id, size, records.frontier.root().hex()
    report.provable_prefix = records.first_bad - 1 if records.first_bad else size
    report.information = {
        "looked_at": {"first": ends.size + 1, "last": size},
        "not_looked_at_again": {"first": 1, "last": ends.size, "full": ends.full, "at": ends.at},
    }
    report.ends = records.ends()
    report.ends.full, report.ends.at = ends.full, ends.at


def ends_root(ends: Ends, size: int) -> bytes:
    """The root at the size that was remembered; nothing at any other."""
    return (
        Frontier(size, [bytes.fromhex(root) for root in ends.frontier]).root() if size == ends.size else b""
    )


def _index(records: RecordPass, store: Inspector, tables: Tables, ends: Ends) -> None:
    """The entries of what was indexed since, and the types; rows of terms that no new record carries are not looked at."""
    indexed = tables.heads[0][4] if len(tables.heads) == 1 else None
    if type(indexed) is not int or indexed < ends.indexed:
        return records.found("log.head", None, "indexed", f"at least {ends.indexed}", indexed)
    numbers = {name: number for number, name in enumerate(ends.types, 1)}
    made: defaultdict[str | int, list[int]] = defaultdict(list)
    for page in store.records(after=ends.indexed, until=indexed):
        for position, _, _, body in page:
            try:
                record = _names(body)
                name, tags = str(record["type"]), {str(tag) for tag in record["tags"]}
            except (KeyError, TypeError, msgspec.MsgspecError, UnicodeDecodeError):
                continue  # found as a record
            entry = position << TYPE_BITS | numbers.setdefault(name, len(numbers) + 1)
            made[numbers[name]].append(entry)
            for tag in tags:
                made[tag].append(entry)
    named = {number: name for name, number in numbers.items()}
    for where, expected, found in types_differing(named, tables):
        records.found("store.types", None, where, expected, found)
    stored = store.histories(made, ends.indexed)
    for term, entries in made.items():
        rows = stored[term]
        wanted = pack(entries)
        if b"".join(data for _, data in rows if type(data) is bytes) != wanted or not _ordered(rows):
            records.found(
                "store.postings", None, f"postings of {term}", _shown(wanted), _shown(rows), "entries since"
            )
    return None


def _ordered(rows: list[tuple[Any, Any]]) -> bool:
    return all(int.from_bytes(data[:8], "little") >> TYPE_BITS == first for first, data in rows)


def _shown(value: Any) -> str:
    return (
        f"{len(value) // 8} entries" if isinstance(value, bytes) else f"{len(value)} rows that say otherwise"
    )
