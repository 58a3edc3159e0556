"""Verifying only what is new: what it finds, what it says it left out, and that it never passes for a full verification."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from muniment.app import home, verify_new
from muniment.app.verify import verify_store
from muniment.app.verify_report import NOT_APPLICABLE, Report
from muniment.domain.errors import NotFoundError
from muniment.ops.bench import data
from muniment.store.index_tail import MAX_TAIL
from muniment.store.inspect import SqliteInspector
from muniment.store.memory import MemoryLog
from muniment.store.open import create_log, open_log

OLD, NEW = 1500, 1200  # rows of the index begin in both


@pytest.fixture
def root(tmp_path: Path) -> Path:
    """A store that was verified at `OLD` records and has grown since."""
    with contextlib.closing(create_log(tmp_path / "store")) as log:
        data.fill(log, OLD)
    report = verify_store(tmp_path / "store", base=tmp_path / "home")
    assert verify_new.remember(report, tmp_path / "home", now=data.START_US) == ""
    assert home.remember_head(report.store_id, report.size, report.root, base=tmp_path / "home") == ""
    with contextlib.closing(open_log(tmp_path / "store")) as log:
        data.fill(log, OLD + NEW, first=OLD + 1)
    return tmp_path


def again(root: Path) -> Report:
    return verify_new.verify_new(root / "store", base=root / "home")


def attack(root: Path, sql: str, *values: Any) -> None:
    with contextlib.closing(sqlite3.connect(root / "store" / "log.db", isolation_level=None)) as db:
        guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            db.execute(f"DROP TRIGGER {name}")
        assert db.execute(sql, values).rowcount > 0
        for _, text in guards:
            db.execute(text)


def test_new_records_pass_and_what_was_left_out_is_said(root: Path) -> None:
    report = again(root)
    assert report.failed() == []
    assert report.ok
    assert report.information["looked_at"] == {"first": OLD + 1, "last": OLD + NEW}
    left = report.information["not_looked_at_again"]
    assert (left["first"], left["last"], left["full"]) == (1, OLD, OLD)
    assert left["at"].startswith("2026-")
    out = {check.id for check in report.checks if check.verdict == NOT_APPLICABLE}
    assert {
        "projections.memo",
        "store.integrity",
        "exports.checkpoints",
        "evidence.folder",
        "decisions",
    } <= out
    assert all("not looked at again" in report[id_].detail for id_ in ("store.integrity", "projections.memo"))
    full = verify_store(root / "store", base=root / "home")
    assert (report.size, report.root, report.store_id) == (full.size, full.root, full.store_id)
    assert report.ends == full.ends or full.ends is not None
    assert json.loads(json.dumps(report.as_json()))["information"]["looked_at"]["first"] == OLD + 1


def test_it_goes_on_from_itself_and_keeps_the_last_full_one(root: Path) -> None:
    assert verify_new.remember(again(root), root / "home") == ""
    report = again(root)
    assert report.ok
    assert report.information["looked_at"] == {"first": OLD + NEW + 1, "last": OLD + NEW}
    assert report.information["not_looked_at_again"]["full"] == OLD
    attack(root, "UPDATE head SET indexed = indexed - 1")
    assert again(root).failed() == ["log.head"]


@pytest.mark.parametrize(
    ("sql", "check"),
    [
        ("UPDATE records SET body = CAST(replace(body, 'service', 'servant') AS blob) WHERE position = 1600", "log.leaves"),
        ("UPDATE records SET leaf = zeroblob(32) WHERE position = 2000", "log.leaves"),
        ("UPDATE records SET id = randomblob(16) WHERE position = 2000", "column.id"),
        ("DELETE FROM records WHERE position = 2000", "log.positions"),
        ("DELETE FROM records WHERE position > 1400", "log.head"),
        ("UPDATE records SET position = position + 100 WHERE position = 2700", "log.positions"),
        ("UPDATE records SET position = -4 WHERE position = 1600", "log.positions"),
        ("UPDATE head SET frontier = zeroblob(length(frontier))", "log.head"),
        ("UPDATE head SET size = size - 1", "log.head"),
        ("UPDATE head SET recorded_at = '2027-01-01T00:00:00.000000Z'", "log.head"),
        ("UPDATE head SET indexed = 3", "log.head"),
        ("UPDATE postings SET entries = entries || entries WHERE first = (SELECT max(first) FROM postings)", "store.postings"),
        ("DELETE FROM postings WHERE first = (SELECT max(first) FROM postings)", "store.postings"),
        ("UPDATE postings SET first = first + 1 WHERE first = (SELECT max(first) FROM postings)", "store.postings"),
        ("UPDATE types SET name = name || 'x' WHERE id = 4", "store.types"),
        ("DROP INDEX records_by_id", "store.schema"),
    ],
)  # fmt: skip
def test_damage_to_what_is_new_is_found(root: Path, sql: str, check: str) -> None:
    if sql.startswith("DROP"):
        with contextlib.closing(sqlite3.connect(root / "store" / "log.db")) as db:
            db.execute(sql)
    else:
        attack(root, sql)
    report = again(root)
    assert check in report.failed()
    assert report.exit_code == 7
    assert verify_new.remember(report, root / "home").startswith("not remembered")


def test_what_was_verified_is_not_read_again(root: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    read: list[tuple[int | None, int | None]] = []
    records = SqliteInspector.records

    def spied(self: SqliteInspector, after: int | None = None, until: int | None = None) -> Iterator[Any]:
        read.append((after, until))
        return records(self, after, until)

    def whole(_: SqliteInspector) -> list[str]:
        read.append((None, None))  # the check of the whole database costs what the log costs
        return []

    monkeypatch.setattr(SqliteInspector, "records", spied)
    monkeypatch.setattr(SqliteInspector, "_check", whole)
    indexed = verify_new.remembered("s-bench", root / "home").indexed
    report = again(root)
    assert report.ok
    assert report.ends is not None
    assert set(read) == {(0, 1), (None, 0), (OLD, None), (indexed, report.ends.indexed)}
    assert OLD - MAX_TAIL < indexed <= OLD


def test_another_log_of_the_same_name_is_found(root: Path) -> None:
    for path in (root / "store").iterdir():
        path.unlink()
    (root / "store").rmdir()
    with contextlib.closing(create_log(root / "store")) as log:
        data.fill(log, OLD + NEW, cycles=1)
    assert "log.head" in again(root).failed()


def test_a_head_seen_since_is_compared(root: Path) -> None:
    size = OLD + 700
    assert home.remember_head("s-bench", size, "0" * 64, base=root / "home") == ""
    assert again(root).failed() == ["head.last_seen"]


def test_damage_to_what_is_old_is_left_to_the_full_verification(root: Path) -> None:
    attack(root, "UPDATE records SET id = randomblob(16) WHERE position = 700")
    report = again(root)
    assert report.ok
    assert report.information["not_looked_at_again"]["last"] == OLD
    assert verify_store(root / "store", base=root / "home").failed() == ["column.id"]


def test_nothing_remembered_is_no_pass(root: Path) -> None:
    path = verify_new.path_of("s-bench", root / "home")
    data_ = path.read_bytes()
    for damaged in (b"", data_[:-1], data_.replace(b'"size":1500', b'"size":1501'), b"x" + data_):
        path.write_bytes(damaged)
        with pytest.raises(NotFoundError, match="damaged"):
            again(root)
    path.unlink()
    with pytest.raises(NotFoundError, match="no verification"):
        again(root)


def test_a_log_without_a_database_is_not_remembered(tmp_path: Path) -> None:
    log = MemoryLog()
    data.fill(log, 50)
    report = verify_store(log, base=tmp_path)
    assert report.ok
    assert verify_new.remember(report, tmp_path).startswith("not remembered")
    with pytest.raises(NotFoundError):
        verify_new.verify_new(log, base=tmp_path)
