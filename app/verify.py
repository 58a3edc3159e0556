"""Verify a store: recompute everything from the stored bytes, compare every cell, name what is wrong.

1. All checks are always evaluated; one that cannot be made says so and is never a pass (exit 8, or 7 if anything is wrong).
2. Streaming: one pass over the records, one over the evidence, memory flat.
3. It writes nothing. Whether the head is remembered as seen is the caller's business (`app.home.remember_head`).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from pathlib import Path
from typing import Any

import msgspec
from muniment.app import home as homes
from muniment.app import memo as memos
from muniment.app.collector import quiet_collector
from muniment.app.session import EXPORTS, folder_for
from muniment.app.verify_evidence import EvidencePass
from muniment.app.verify_exports import Anchor, exported
from muniment.app.verify_records import RecordPass
from muniment.app.verify_report import (
    CHECKS,
    MAX_TOUCHED,
    NOT_APPLICABLE,
    SKIPPED,
    Check,
    Finding,
    Report,
)
from muniment.app.verify_stretches import surveys
from muniment.app.verify_worker import Folded, fold
from muniment.domain.errors import DeniedError, MunimentError, NotFoundError, UnavailableError
from muniment.projections import digest as digests
from muniment.projections.registry import ALL
from muniment.store.api import KIND_OPAQUE, KIND_RECORDS, Log
from muniment.store.evidence import EvidenceStore
from muniment.store.inspect import Inspector, Tables, inspector
from muniment.store.postgres_url import is_postgres

_COLUMNS = ("store.settings", "store.schema", "store.integrity", "store.types", "store.postings", "column.id")
_RECORDS_ONLY = ("record.registry", "record.tags", "record.batch", "record.signature", "record.time")


def verify_store(
    store: Log | Path | str,
    *,
    evidence: EvidenceStore | None = None,
    base: Path | None = None,
    against: Iterable[Anchor] = (),
    decisions: Callable[[], Iterable[tuple[int, str, str, str]]] | None = None,
    progress: Callable[[int], None] | None = None,
    processes: int | None = None,
    total: Callable[[int], None] = lambda _: None,
) -> Report:
    """Verify a store and return the report; damage is in it, never raised.

    Args:
        store: an open log, or folder or URL.
        evidence: where blobs lie; None leaves those checks out as not applicable.
        base: the reader's home, for the head last seen and the memo; None is the default one.
        against: further heads to compare with, e.g. of signed checkpoints.
        decisions: makes each decision again and yields (position, field, expected, found) of what differs.
        progress: told the number of records done.
        total: told once how many records the head says there are.
        processes: how many others may take part; None chooses, 1 works alone. The report is the same.

    Raises:
        NotFoundError: there is no store.
    """
    checks = {id_: Check(id_, claim) for id_, claim in CHECKS.items()}
    report = Report(list(checks.values()))
    try:
        opened = inspector(store)
    except NotFoundError:
        raise
    except MunimentError as error:
        unreadable(checks, error, 0)
        return report
    try:
        _Verification(report, checks, opened, evidence, base, tuple(against), store).run(
            decisions, progress, processes, total
        )
    finally:
        opened.close()
    return report


def unreadable(checks: dict[str, Check], error: MunimentError, position: int) -> None:
    """The store cannot be read (on): wrong or unavailable, and every other check is skipped."""
    if isinstance(error, UnavailableError | DeniedError):
        checks["store.readable"].leave(SKIPPED, error.message)
    else:
        found = str(error.context.get("found", error.message))
        checks["store.readable"].fail(
            Finding("a readable store", found, position or None, "file", error.message)
        )
    for check in checks.values():
        if check.id != "store.readable":
            check.leave(SKIPPED, "the store could not be read to its end")


def compare_settings(checks: dict[str, Check], tables: Tables) -> None:
    """Settings and objects of the database against those that were shipped."""
    for name, (expected, found) in tables.settings.items():
        if expected != found:
            checks["store.settings"].fail(Finding(str(expected), str(found), None, name))
    for name, (wanted, sql) in tables.schema.items():
        if wanted != sql:
            checks["store.schema"].fail(
                Finding(wanted or "nothing of this name", sql if sql is not None else "missing", None, name)
            )


class _Verification:
    def __init__(
        self,
        report: Report,
        checks: dict[str, Check],
        store: Inspector,
        evidence: EvidenceStore | None,
        base: Path | None,
        against: tuple[Anchor, ...],
        place: Log | Path | str,
    ) -> None:
        self.report = report
        self.checks = checks
        self.store = store
        self.base = base
        self.against = against
        self.place = place
        self.created: dict[str, Any] = {}
        self.born = 1
        self.files = EvidencePass(checks, evidence) if evidence is not None else None
        self.memo = memos.NONE
        self.folded: Folded | None = None

    def run(
        self,
        decisions: Callable[[], Iterable[tuple[int, str, str, str]]] | None,
        progress: Callable[[int], None] | None,
        processes: int | None,
        total: Callable[[int], None],
    ) -> None:
        """All checks."""
        records: RecordPass | None = None
        try:
            tables = self.store.tables()
            store_id, kind = self._created()
            if self.store.kind != kind:
                self.checks["store.settings"].fail(
                    Finding(
                        kind,
                        self.store.kind or "neither",
                        None,
                        next(iter(tables.settings), "kind") if tables is not None else "kind",
                        "the kind that #1 names",
                    )
                )
            seen = homes.last_head(store_id, self.base) if store_id else homes.LastHead(None)
            self.memo = memos.load(store_id, self.base) if store_id and kind == KIND_RECORDS else memos.NONE
            anchors = [
                *self.against,
                *exported(
                    self.checks["exports.checkpoints"], self._exports(store_id), self.created, self.born
                ),
            ]
            if seen.head is not None:
                anchors.append(Anchor(seen.head.size, seen.head.root, "last_seen"))
            if self.memo.model is not None:
                anchors.append(Anchor(self.memo.position, self.memo.frontier.root().hex(), "memo"))
            cuts = [a.size for a in anchors if a.size > 0]
            files = self.files.record if self.files is not None else None
            records = RecordPass(self.checks, tables, kind, cuts, files)
            if tables is None:
                for id_ in _COLUMNS:
                    self.checks[id_].leave(NOT_APPLICABLE, "this log has no columns beside the records")
                self.checks["log.head"].leave(NOT_APPLICABLE, "this log has no head row")
            else:
                self.checks["record.ids"].leave(
                    NOT_APPLICABLE, "see store.integrity: a unique index holds the ids"
                )
                compare_settings(self.checks, tables)
            with quiet_collector():
                self._records(records, tables, progress, processes, total)
            for text in self.store.integrity():
                self.checks["store.integrity"].fail(Finding("ok", text, None, "database"))
        except MunimentError as error:
            unreadable(self.checks, error, records.frontier.size + 1 if records is not None else 0)
            if records is not None:
                self._summarize(records, [])
            return
        self._anchors(records, anchors, seen.warning)
        self._memo()
        if kind != KIND_RECORDS:
            for id_ in _RECORDS_ONLY:
                self.checks[id_].leave(NOT_APPLICABLE, "a log of foreign events")
        if not records.frontier.size:
            self.checks["store.created"].fail(Finding("store.created/1", "an empty log", 1, "type"))
        self._evidence()
        self._decisions(decisions)
        self._summarize(records, anchors)

    def _exports(self, store_id: str) -> Path | None:
        """Where the exports lie; an open log has none, nor has a server's store without an id."""
        if not isinstance(self.place, Path | str) or (is_postgres(self.place) and not store_id):
            return None
        return folder_for(self.place, store_id, self.base) / EXPORTS

    def _created(self) -> tuple[str, str]:
        """Store id and kind as position 1 names them; an id that could name another folder is none."""
        first = next(self.store.records(), [])
        try:
            record = msgspec.json.decode(first[0][3])
            data = record["data"]
            homes.memo_dir(data["store_id"], self.base)
            self.created, self.born = data, int(record.get("batch", {}).get("size", 1))
            kind = KIND_OPAQUE if data["kind"] == KIND_OPAQUE else KIND_RECORDS
            return str(data["store_id"]), kind
        except (MunimentError, KeyError, TypeError, ValueError, IndexError):
            return "", self.store.kind or KIND_RECORDS

    def _records(
        self,
        records: RecordPass,
        tables: Tables | None,
        progress: Callable[[int], None] | None,
        processes: int | None,
        total: Callable[[int], None],
    ) -> None:
        """The pass over the records, and the fold that the memo is compared with."""
        plan = records.plan()
        head = tables.heads[0][1] if tables is not None and tables.heads else 0
        size = min(head, self.store.last()) if type(head) is int and plan is not None else 0
        total(size or self.store.last())
        if plan is None or size < 1:
            records.run(self.store, None, progress)
            self.folded = fold(self.store, self.memo.position) if self.memo.model is not None else None
            return
        made = surveys(self.store, plan, size, self.memo.position, processes)
        try:
            records.run(self.store, made, progress)
            self.folded = made.fold()
        finally:
            made.close()

    def _anchors(self, records: RecordPass, anchors: list[Anchor], warning: str) -> None:
        size = records.frontier.size
        if not any(a.name == "last_seen" for a in anchors):
            self.checks["head.last_seen"].leave(
                NOT_APPLICABLE, warning or "this reader has seen no head of this store yet"
            )
        if not self.against:
            self.checks["head.against"].leave(NOT_APPLICABLE, "no other head was given")
        for anchor in anchors:
            if anchor.name == "memo":
                continue
            of_exports = anchor.name.startswith(f"{EXPORTS}/")
            id_ = "exports.checkpoints" if of_exports else "head.against"
            check = self.checks["head.last_seen" if anchor.name == "last_seen" else id_]
            found = records.roots.get(anchor.size, b"").hex()
            if anchor.size > size:
                check.fail(
                    Finding(
                        f"at least {anchor.size} records",
                        f"{size} records",
                        size + 1,
                        "size",
                        f"seen: {anchor.name}",
                    )
                )
            elif anchor.size and found != anchor.root:
                check.fail(
                    Finding(
                        anchor.root,
                        found,
                        None,
                        "root",
                        f"root of the first {anchor.size} records ({anchor.name})",
                    )
                )

    def _memo(self) -> None:
        check = self.checks["projections.memo"]
        if self.memo.model is None:
            check.leave(NOT_APPLICABLE, self.memo.note or "no projections are saved")
            return
        made = self.folded
        if made is None or made.stopped or made.position != self.memo.position:
            found = made.stopped or f"{made.position} records" if made is not None else "none"
            check.fail(Finding(f"a fold of {self.memo.position} records", found, None, "fold"))
            return
        for projection in ALL:
            expected, found = made.digests[projection.name], digests.full(projection, self.memo.model)
            if expected != found:
                check.fail(
                    Finding(
                        expected, found, self.memo.position, projection.name, "muniment projection rebuild"
                    )
                )

    def _evidence(self) -> None:
        if self.files is None:
            for id_ in ("evidence.present", "evidence.manifests", "evidence.folder"):
                self.checks[id_].leave(NOT_APPLICABLE, "no evidence store was given")
            return
        self.report.information["evidence"] = self.files.finish()

    def _decisions(self, decisions: Callable[[], Iterable[tuple[int, str, str, str]]] | None) -> None:
        check = self.checks["decisions"]
        if decisions is None:
            check.leave(NOT_APPLICABLE, "not asked for (--decisions)")
            return
        try:
            for position, field, expected, found in decisions():
                check.fail(Finding(expected, found, position, field, "the decision comes out otherwise"))
        except MunimentError as error:
            check.leave(SKIPPED, error.message)

    def _summarize(self, records: RecordPass, anchors: list[Anchor]) -> None:
        report = self.report
        report.store_id = records.store_id
        report.size = records.frontier.size
        report.root = records.frontier.root().hex()
        report.ends = records.ends() if self.store.address else None
        report.provable_prefix = self._prefix(records, anchors)
        bad = sorted(records.bad)[:MAX_TOUCHED]
        evidence = {
            f.position
            for id_ in ("evidence.present", "evidence.manifests", "decisions")
            for f in self.checks[id_].findings
            if f.position is not None
        }
        tags = sorted({tag for at in bad for tag in records.bad[at][1]})[:MAX_TOUCHED]
        types = sorted({records.bad[at][0] for at in bad} - {""})
        if bad or evidence:
            report.touched = {
                "positions": sorted({*bad, *evidence})[:MAX_TOUCHED],
                "types": types,
                "tags": tags,
                "releases": [tag.removeprefix("release:") for tag in tags if tag.startswith("release:")],
                "projections": [
                    p.name for p in ALL if "*" in p.handles or not types or any(t in p.handles for t in types)
                ],
            }

    def _prefix(self, records: RecordPass, anchors: list[Anchor]) -> int:
        """The records before the first finding, as far as no known head speaks against them.

        Where the leaves as stored give a known head, the first record that differs from its leaf is the first that is
        wrong. Where not even they do, only what the last known head that holds covers is sure.
        """
        prefix = records.first_bad - 1 if records.first_bad else records.frontier.size
        within = [a for a in anchors if 0 < a.size <= records.frontier.size]
        if all(records.stored_roots[a.size].hex() == a.root for a in within):
            return prefix
        good = [a.size for a in within if records.roots[a.size].hex() == a.root]
        return min(prefix, max(good, default=0))


__all__ = ["Anchor", "verify_store"]
