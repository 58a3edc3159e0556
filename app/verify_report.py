"""The report of a verification: every check with its verdict, and what a damage touches."""

from __future__ import annotations

from typing import Any

import msgspec

MAX_FINDINGS = 10  # kept for each check; the rest is counted
MAX_TOUCHED = 50

PASS, FAIL, SKIPPED, NOT_APPLICABLE = "pass", "fail", "skipped", "not_applicable"

# Every check by id and what it claims, in the order of the report. All are always evaluated (proof-and-policy.md, 1).
CHECKS: dict[str, str] = {
    "store.readable": "the store can be read from beginning to end",
    "store.settings": "kind and schema version of the database",
    "store.schema": "tables, indexes and guard triggers are those that were shipped",
    "store.integrity": "the database finds itself sound",
    "store.types": "the numbers of types are those the records give",
    "store.postings": "the index says what the records say",
    "store.created": "position 1 is the record of the store's creation, and no other is",
    "log.positions": "positions are 1, 2, 3 … without a gap",
    "log.leaves": "each stored leaf is the hash of its bytes",
    "log.head": "the stored head covers all records: size, frontier, time",
    "column.id": "the id column says what the record says",
    "record.canonical": "each record is canonical JSON",
    "record.registry": "each record is of a type of the registry and has its fields",
    "record.tags": "each record carries the tags of its payload, sorted",
    "record.ids": "no record id is used twice",
    "record.time": "recorded_at never goes backwards",
    "record.batch": "the records of a decision stand together",
    "record.signature": "each signature is good, by a key bound and not revoked at that position",
    "head.last_seen": "the log contains the head that this reader saw last",
    "head.against": "the log contains the heads it was compared with",
    "exports.checkpoints": "each exported checkpoint is signed by the log's key and is a head of this log",
    "evidence.present": "each file that a record names is there, with its digests and size",
    "evidence.manifests": "each file that a manifest lists is there, with its digests and size",
    "evidence.folder": "nothing else lies in the evidence folder, but files under their own digest",
    "projections.memo": "the saved projections are those of the records",
    "decisions": "each decision, made again from its facts, comes out as recorded",
}


class Finding(msgspec.Struct, frozen=True):
    """One thing that is wrong: where, what was expected, what was found."""

    expected: str
    found: str
    position: int | None = None
    field: str = ""
    detail: str = ""


class Check(msgspec.Struct):
    """One check. `findings` holds the first ones of `count`; `detail` says why it was not made, or information."""

    id: str
    claim: str
    verdict: str = PASS
    findings: list[Finding] = []
    count: int = 0
    detail: str = ""

    def fail(self, finding: Finding) -> None:
        """Add a finding."""
        self.verdict = FAIL
        self.count += 1
        if len(self.findings) < MAX_FINDINGS:
            self.findings.append(finding)

    def leave(self, verdict: str, detail: str) -> None:
        """Say that the check was not made, unless it has failed."""
        if self.verdict != FAIL:
            self.verdict, self.detail = verdict, detail


class Ends(msgspec.Struct):
    """Where a verification ended: what the records after it are verified by.

    Attributes:
        frontier: roots (hex) of the tree of the `size` records. keys: see `verify_sequel.Sequel.resume`.
        indexed: the index covered positions up to it; types: names by number, from 1 on.
        full: records of the last full verification, at its instant `at`; set when it is remembered.
    """

    store_id: str
    size: int
    frontier: list[str]
    recorded_at: str
    indexed: int
    types: list[str]
    keys: dict[str, list[Any]]
    full: int = 0
    at: str = ""


class Report(msgspec.Struct):
    """What was found.

    Attributes:
        checks: all of them, in the order of `CHECKS`.
        size, root: the head as recomputed from the bytes (hex).
        provable_prefix: the largest number of leading records against which nothing speaks.
        ends: where it ended, of a log in a database; not a part of what is printed.
        touched: positions, types, tags, projections and releases that a damage touches.
    """

    checks: list[Check]
    store_id: str = ""
    size: int = 0
    root: str = ""
    provable_prefix: int = 0
    touched: dict[str, list[Any]] = {}
    information: dict[str, Any] = {}
    ends: Ends | None = None

    def __getitem__(self, id_: str) -> Check:
        """The check of that id."""
        return next(check for check in self.checks if check.id == id_)

    @property
    def ok(self) -> bool:
        """True only if nothing failed and nothing was skipped."""
        return self.exit_code == 0

    @property
    def exit_code(self) -> int:
        """7 if anything is wrong, else 8 if anything could not be looked at, else 0."""
        verdicts = {check.verdict for check in self.checks}
        return 7 if FAIL in verdicts else 8 if SKIPPED in verdicts else 0

    def failed(self) -> list[str]:
        """Ids of the failed checks."""
        return [check.id for check in self.checks if check.verdict == FAIL]

    def as_json(self) -> dict[str, Any]:
        """The report as JSON values (`verify.store/1`)."""
        rows = []
        for check in self.checks:
            first = check.findings[0] if check.findings else None
            rows.append(
                {
                    "id": check.id,
                    "verdict": check.verdict,
                    "claim": check.claim,
                    "expected": first.expected if first else "",
                    "observed": first.found if first else "",
                    "position": first.position if first else None,
                    "field": first.field if first else "",
                    "detail": check.detail or (first.detail if first else ""),
                    "count": check.count,
                    "findings": msgspec.to_builtins(check.findings),
                }
            )
        return {
            "schema": "verify.store/1",
            "as_of": self.size,
            "data": rows,
            "ok": self.ok,
            "exit_code": self.exit_code,
            "head": {"store_id": self.store_id, "size": self.size, "root": self.root},
            "provable_prefix": self.provable_prefix,
            "touched": self.touched,
            "information": self.information,
            "next": None,
            "omitted": 0,
        }
