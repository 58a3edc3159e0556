"""Every cell and every object of a log in PostgreSQL that an attacker may change is found and named; the untouched log passes.

The attacker is a superuser: triggers are switched off for his session, so that no case is found by them alone.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from attacks import COLUMNS
from muniment.app import verify_stretches
from muniment.app.verify import verify_store
from muniment.app.verify_report import CHECKS, Report
from muniment.domain.errors import NotFoundError
from muniment.ops.bench import data
from muniment.store import migrations, postgres_facts, writer
from muniment.store.inspect import inspector, reader
from muniment.store.postgres_log import PostgresLog
from muniment.store.postgres_pool import connect

SIZE = 400


@pytest.fixture(scope="module")
def url(postgres: Any) -> Iterator[str]:
    """A log of bench records in a database of this module."""
    with postgres.database() as name, pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "INDEX_EVERY", 16)
        place = postgres.url(name)
        with contextlib.closing(PostgresLog.create(place)) as log:
            for first in range(1, SIZE, 40):
                log.append(data.drafts(first, 40))
        yield place


@pytest.fixture
def attacker(url: str) -> Iterator[Any]:
    """A session without triggers; what it changes is undone by the restored tables."""
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET search_path TO muniment")
        for table in TABLES:
            db.execute(f"CREATE TEMP TABLE kept_{table} AS SELECT * FROM {table}")
        db.execute("SET session_replication_role = replica")
        yield db
        for table in TABLES:
            db.execute(f"DELETE FROM {table}")
            db.execute(f"INSERT INTO {table} SELECT * FROM kept_{table}")


TABLES = ("records", "types", "postings", "head")
CHANGES = {
    "bytea": "set_byte({c}, 0, get_byte({c}, 0) # 1)",
    "bigint": "{c} + 1000000",
    "integer": "{c} + 1000000",
    "text": "'x' || substr({c}, 2)",
    "uuid": "gen_random_uuid()",
}


def verify(url: str, home: Path, **options: Any) -> Report:
    return verify_store(url, base=home, **options)


def found(report: Report, *ids: str) -> None:
    assert report.exit_code == 7, [c for c in report.checks if c.verdict != "pass"]
    assert set(report.failed()) & set(ids), report.failed()
    first = next(report[id_] for id_ in report.failed() if id_ in ids).findings[0]
    assert first.expected != first.found
    assert first.field
    assert sorted(check.id for check in report.checks) == sorted(CHECKS)


def test_the_untouched_log_passes(url: str, tmp_path: Path) -> None:
    report = verify(url, tmp_path)
    assert report.failed() == []
    assert report.ok
    assert report.size == report.provable_prefix == SIZE
    assert {"store.schema", "store.postings", "column.id", "log.head", "store.integrity"} <= {
        check.id for check in report.checks if check.verdict == "pass"
    }
    with contextlib.closing(PostgresLog.open(url, read_only=True)) as log:
        assert verify_store(log, base=tmp_path).root == report.root == log.head().root.hex()


def test_workers_read_the_snapshot_of_the_inspector(
    url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(verify_stretches, "Here", None)  # no way round the workers
    assert verify(url, tmp_path, processes=2).as_json() == verify(url, tmp_path, processes=3).as_json()
    with contextlib.closing(inspector(url)) as store, contextlib.closing(reader(store.address)) as other:
        assert list(other.records()) == list(store.records())


def test_every_column_of_every_table_is_covered(attacker: Any) -> None:
    columns = attacker.execute(
        "SELECT table_name, column_name FROM information_schema.columns WHERE table_schema = 'muniment'"
        " AND table_name = ANY(%s)",
        (list(TABLES),),
    ).fetchall()
    assert set(COLUMNS) | {("head", "one")} == set(columns), "head.one is held by a CHECK constraint"


@pytest.mark.parametrize("cell", sorted(COLUMNS), ids=".".join)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_changed_cell_is_found(
    url: str, attacker: Any, tmp_path: Path, cell: tuple[str, str], where: str
) -> None:
    table, column = cell
    rows = [row[0] for row in attacker.execute(f"SELECT ctid::text FROM {table} ORDER BY {table}").fetchall()]
    row = {"first": rows[0], "middle": rows[len(rows) // 2], "last": rows[-1]}[where]
    kind = attacker.execute(
        "SELECT data_type FROM information_schema.columns WHERE (table_schema, table_name, column_name) = ('muniment', %s, %s)",
        (table, column),
    ).fetchone()[0]
    change = CHANGES[kind].format(c=column)
    changed = attacker.execute(f"UPDATE {table} SET {column} = {change} WHERE ctid = %s::tid", (row,))
    assert changed.rowcount == 1
    for processes in (1, 2):
        found(verify(url, tmp_path, processes=processes), *COLUMNS[cell])


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("where", ["first", "last", "all"])
def test_a_removed_row_is_found(url: str, attacker: Any, tmp_path: Path, table: str, where: str) -> None:
    rows = attacker.execute(f"SELECT ctid::text FROM {table} ORDER BY {table}").fetchall()
    gone = {"first": rows[:1], "last": rows[-1:], "all": rows}[where]
    attacker.execute(f"DELETE FROM {table} WHERE ctid = ANY(%s::tid[])", ([row[0] for row in gone],))
    assert verify(url, tmp_path).exit_code == 7


HOLD = "CREATE TRIGGER records_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON records EXECUTE FUNCTION refuse_change()"
ON = "ALTER TABLE types ENABLE TRIGGER types_hold"
SHIPPED = migrations.steps("postgres")[0].text
MADE = re.search(r"CREATE (FUNCTION refuse_change.*?END \$\$);", SHIPPED, re.DOTALL)
assert MADE is not None
REFUSES = f"CREATE OR REPLACE {MADE[1]}"
FUNCTION = REFUSES.partition("$$")[0]
OBJECTS = {
    "a trigger gone": ("DROP TRIGGER records_hold ON records", HOLD),
    "a trigger off": ("ALTER TABLE types DISABLE TRIGGER types_hold", ON),
    "a trigger for replicas": ("ALTER TABLE types ENABLE REPLICA TRIGGER types_hold", ON),
    "a function that lets through": (f"{FUNCTION} $$BEGIN RETURN NULL; END $$", REFUSES),
    "another trigger": (
        "CREATE TRIGGER quiet BEFORE INSERT ON records EXECUTE FUNCTION refuse_change()",
        "DROP TRIGGER quiet ON records",
    ),
    "no unique index": (
        "DROP INDEX records_by_id",
        "CREATE UNIQUE INDEX records_by_id ON records (id) WHERE id IS NOT NULL",
    ),
    "a plain index": (
        "DROP INDEX records_by_id; CREATE INDEX records_by_id ON records (id) WHERE id IS NOT NULL",
        "DROP INDEX records_by_id; CREATE UNIQUE INDEX records_by_id ON records (id) WHERE id IS NOT NULL",
    ),
    "another column": ("ALTER TABLE head ADD COLUMN note text", "ALTER TABLE head DROP COLUMN note"),
    "another table": ("CREATE TABLE notes (text text)", "DROP TABLE notes"),
    "a view": ("CREATE VIEW seen AS SELECT * FROM records", "DROP VIEW seen"),
    "a rule": ("CREATE RULE nothing AS ON INSERT TO types DO INSTEAD NOTHING", "DROP RULE nothing ON types"),
    "row security": ("ALTER TABLE records ENABLE ROW LEVEL SECURITY", "ALTER TABLE records DISABLE ROW LEVEL SECURITY"),
    "no constraint": (
        "ALTER TABLE head DROP CONSTRAINT head_one_check",
        "ALTER TABLE head ADD CHECK (one = 1)",
    ),
    "a right to change": ("GRANT UPDATE ON records TO PUBLIC", "REVOKE UPDATE ON records FROM PUBLIC"),
    "a right to change one column": ("GRANT UPDATE (body) ON records TO PUBLIC", "REVOKE UPDATE (body) ON records FROM PUBLIC"),
    "a right to begin maintenance": ("GRANT INSERT ON maintenance TO PUBLIC", "REVOKE INSERT ON maintenance FROM PUBLIC"),
    "a right to remove the head": ("GRANT DELETE ON head TO PUBLIC", "REVOKE DELETE ON head FROM PUBLIC"),
    "a right to create": ("GRANT CREATE ON SCHEMA muniment TO PUBLIC", "REVOKE CREATE ON SCHEMA muniment FROM PUBLIC"),
}  # fmt: skip


@pytest.mark.parametrize("case", OBJECTS)
def test_a_changed_object_is_found(url: str, tmp_path: Path, case: str) -> None:
    change, undo = OBJECTS[case]
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("SET search_path TO muniment")
        db.execute(change)
        try:
            report = verify(url, tmp_path)
        finally:
            db.execute(undo)
    found(report, "store.schema")
    assert report.failed() == ["store.schema"]
    assert verify(url, tmp_path).ok


@pytest.mark.parametrize(
    "comment",
    ["'muniment log: kind=opaque schema=1'", "'muniment log: kind=records schema=9'", "'x'", "NULL"],
)
def test_another_comment_is_found(url: str, tmp_path: Path, comment: str) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(f"COMMENT ON SCHEMA muniment IS {comment}")
        try:
            found(verify(url, tmp_path), "store.settings")
        finally:
            db.execute("COMMENT ON SCHEMA muniment IS 'muniment log: kind=records schema=1'")


def test_rights_that_writers_and_auditors_need_are_no_finding(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute(
            "GRANT SELECT ON ALL TABLES IN SCHEMA muniment TO PUBLIC; GRANT UPDATE (size) ON muniment.head TO PUBLIC;"
            "GRANT INSERT ON muniment.records, muniment.types, muniment.postings, muniment.evidence TO PUBLIC"
        )
        try:
            assert verify(url, tmp_path).ok
        finally:
            db.execute("REVOKE ALL ON ALL TABLES IN SCHEMA muniment FROM PUBLIC")


def test_an_id_that_stands_twice_is_found(url: str, attacker: Any, tmp_path: Path) -> None:
    attacker.execute("DROP INDEX records_by_id")
    attacker.execute("UPDATE records SET id = (SELECT id FROM records WHERE position = 7) WHERE position = 9")
    try:
        found(verify(url, tmp_path), "store.integrity")
    finally:
        attacker.execute(
            "UPDATE records SET id = k.id FROM kept_records k WHERE k.position = records.position"
        )
        attacker.execute("CREATE UNIQUE INDEX records_by_id ON records (id) WHERE id IS NOT NULL")


def test_maintenance_that_no_record_declares_is_found(url: str, attacker: Any, tmp_path: Path) -> None:
    attacker.execute("INSERT INTO maintenance VALUES (50, 'x', now(), pg_current_xact_id())")
    try:
        report = verify(url, tmp_path)
    finally:
        attacker.execute("DELETE FROM maintenance")
    found(report, "store.integrity")
    assert report.failed() == ["store.integrity"]


def test_no_log_is_not_found(url: str, tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        verify(f"{url}{'&' if '?' in url else '?'}schema=nowhere", tmp_path)


def test_a_role_without_rights_could_not_look(url: str, tmp_path: Path) -> None:
    with psycopg.connect(url, autocommit=True) as db:
        db.execute("CREATE ROLE nobody_at_all LOGIN")
    try:
        report = verify(f"{url}{'&' if '?' in url else '?'}options=-crole%3Dnobody_at_all", tmp_path)
    finally:
        with psycopg.connect(url, autocommit=True) as db:
            db.execute("DROP ROLE nobody_at_all")
    assert report.exit_code != 0
    assert not [check.id for check in report.checks if check.verdict == "pass"]


def test_the_expected_facts_are_those_of_a_new_log(url: str) -> None:
    with contextlib.closing(PostgresLog.open(url)) as log, connect(log.place) as db:
        facts = postgres_facts.found(db, "muniment")
        assert facts == postgres_facts.EXPECTED
