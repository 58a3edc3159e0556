"""`verify store --new` on PostgreSQL: what is new is read in a few questions, and damage to it is found."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

import psycopg
import pytest
from muniment.app import verify_new
from muniment.app.verify import verify_store
from muniment.app.verify_report import Report
from muniment.ops.bench import data
from muniment.store.inspect_postgres import PostgresInspector
from muniment.store.open import create_log, open_log

OLD, NEW = 1100, 1100  # rows of the index begin in both


@pytest.fixture
def grown(pg_url: str, tmp_path: Path) -> tuple[str, Path]:
    """A store that was verified at `OLD` records and has grown since, and the home that remembers it."""
    with contextlib.closing(create_log(pg_url)) as log:
        data.fill(log, OLD)
    assert verify_new.remember(verify_store(pg_url, base=tmp_path), tmp_path) == ""
    with contextlib.closing(open_log(pg_url)) as log:
        data.fill(log, OLD + NEW, first=OLD + 1)
    return pg_url, tmp_path


def again(grown: tuple[str, Path]) -> Report:
    return verify_new.verify_new(grown[0], base=grown[1])


def test_what_is_new_is_read_in_a_few_questions(
    grown: tuple[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[str] = []
    rows = PostgresInspector._rows

    def counted(self: PostgresInspector, text: str, given: tuple[Any, ...] = ()) -> Any:
        asked.append(text)
        return rows(self, text, given)

    monkeypatch.setattr(PostgresInspector, "_rows", counted)
    report = again(grown)
    assert report.failed() == []
    assert report.information["looked_at"] == {"first": OLD + 1, "last": OLD + NEW}
    assert len(asked) == 5, (
        "first record, records before the first, new ones, those indexed since, and their terms at once"
    )


@pytest.mark.parametrize(
    ("text", "check"),
    [
        ("UPDATE postings SET entries = entries || entries WHERE first = (SELECT max(first) FROM postings)", "store.postings"),
        ("DELETE FROM postings WHERE first = (SELECT max(first) FROM postings)", "store.postings"),
        ("UPDATE postings SET first = first + 1 WHERE first = (SELECT max(first) FROM postings)", "store.postings"),
        ("UPDATE postings SET term = term || 'x' WHERE first = (SELECT max(first) FROM postings)", "store.postings"),
        ("UPDATE records SET leaf = sha256('x') WHERE position = 1500", "log.leaves"),
        ("DELETE FROM records WHERE position = 1500", "log.positions"),
        ("UPDATE head SET indexed = indexed - 1", "store.postings"),
        ("UPDATE types SET name = name || 'x' WHERE id = 4", "store.types"),
    ],
)  # fmt: skip
def test_damage_to_what_is_new_is_found(grown: tuple[str, Path], text: str, check: str) -> None:
    with psycopg.connect(grown[0], autocommit=True) as db:
        db.execute("SET search_path TO muniment")
        db.execute("SET session_replication_role = replica")
        assert db.execute(text.encode()).rowcount > 0
    assert check in again(grown).failed()
