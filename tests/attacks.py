"""Changes that an attacker makes to a store, and what verification says of them; `import attacks` finds it.

The attacker has the rights on the folder: the guard triggers are dropped first and put back, so that no case
is found by them alone.
"""

from __future__ import annotations

import sqlite3
from pathlib import Path

from muniment.app.verify import verify_store
from muniment.app.verify_report import CHECKS, Report
from muniment.store.evidence_folder import EvidenceFolder

# each column of each table of a log, and which checks find its change
COLUMNS: dict[tuple[str, str], tuple[str, ...]] = {
    ("records", "position"): ("log.positions",),
    ("records", "id"): ("column.id",),
    ("records", "leaf"): ("log.leaves",),
    ("records", "body"): ("log.leaves",),
    ("postings", "term"): ("store.postings",),
    ("postings", "first"): ("store.postings",),
    ("postings", "entries"): ("store.postings",),
    ("types", "id"): ("store.types",),
    ("types", "name"): ("store.types",),
    ("head", "size"): ("log.head",),
    ("head", "frontier"): ("log.head",),
    ("head", "recorded_at"): ("log.head",),
    ("head", "indexed"): ("log.head", "store.postings"),
}


def verify(root: Path, **options: object) -> Report:
    folder = root / "store"
    evidence = EvidenceFolder(folder / "evidence", folder / "staging", read_only=True)
    return verify_store(folder, evidence=evidence, base=root / "home", **options)  # type: ignore[arg-type]


def attack(root: Path, *statements: str | tuple[str, tuple[object, ...]]) -> None:
    """Run statements without the guard triggers, then put the triggers back."""
    db = sqlite3.connect(root / "store" / "log.db", isolation_level=None)
    try:
        guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            db.execute(f"DROP TRIGGER {name}")
        db.execute("BEGIN")
        for statement in statements:
            sql, values = (statement, ()) if isinstance(statement, str) else statement
            db.execute(sql, values)
        db.execute("COMMIT")
        for _, sql in guards:
            db.execute(sql)
    finally:
        db.close()


def query(root: Path, sql: str) -> list[tuple[object, ...]]:
    db = sqlite3.connect(root / "store" / "log.db")
    try:
        return db.execute(sql).fetchall()
    finally:
        db.close()


def found(report: Report, *ids: str) -> None:
    """The report is no pass, names one of the checks, and says what was expected and found."""
    assert report.exit_code == 7, report.failed()
    assert not report.ok
    assert set(report.failed()) & set(ids), report.failed()
    first = next(report[id_] for id_ in report.failed() if id_ in ids).findings[0]
    assert first.expected != first.found
    assert first.field
    assert sorted(c.id for c in report.checks) == sorted(CHECKS), "all checks are evaluated"
