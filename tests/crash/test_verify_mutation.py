"""Every cell and row that an attacker may change is found and named; the untouched store passes."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from pathlib import Path

import pytest
from attacks import COLUMNS, attack, found, query, verify


def test_untouched_store_passes(master: Path) -> None:
    report = verify(master)
    assert report.failed() == []
    assert report.ok
    assert report.size == report.provable_prefix > 100
    assert {c.id for c in report.checks if c.verdict == "pass"} >= {
        "log.leaves",
        "store.postings",
        "record.signature",
        "head.last_seen",
        "evidence.manifests",
        "projections.memo",
    }


def test_putting_the_guards_back_alone_is_no_damage(store: Path) -> None:
    attack(store)
    assert verify(store).ok


CELLS = COLUMNS | {
    ("head", "size"): ("log.head", "store.readable"),
    ("head", "frontier"): ("log.head", "store.readable"),
}


def _tables(root: Path) -> Iterator[tuple[str, str]]:
    names = query(root, "SELECT name FROM sqlite_master WHERE type = 'table'")
    for (table,) in names:
        for column in query(root, f"SELECT name FROM pragma_table_info('{table}')"):
            yield str(table), str(column[0])


def test_every_column_of_every_table_is_covered(master: Path) -> None:
    assert set(CELLS) | {("head", "one")} == set(_tables(master)), "head.one is held by a CHECK constraint"


def _key(table: str) -> str:
    return {"records": "position", "postings": "hex(term) || first", "head": "one"}.get(table, "id")


@pytest.mark.parametrize("cell", sorted(CELLS), ids=".".join)
@pytest.mark.parametrize("where", ["first", "middle", "last"])
def test_a_changed_cell_is_found(store: Path, cell: tuple[str, str], where: str) -> None:
    table, column = cell
    rows = [row[0] for row in query(store, f"SELECT {_key(table)} FROM {table} ORDER BY 1")]
    row = {"first": rows[0], "middle": rows[len(rows) // 2], "last": rows[-1]}[where]
    old = query(store, f"SELECT {column} FROM {table} WHERE {_key(table)} = '{row}'")[0][0]
    if isinstance(old, bytes):
        new: object = bytes([old[0] ^ 1]) + old[1:]
    elif isinstance(old, int):
        new = old + 1_000_000
    else:
        new = "x" + str(old)[1:]
    attack(store, (f"UPDATE {table} SET {column} = ? WHERE {_key(table)} = ?", (new, row)))
    found(verify(store), *CELLS[cell])


def test_each_byte_of_a_record_is_covered(store: Path) -> None:
    body = bytes(query(store, "SELECT body FROM records WHERE position = 40")[0][0])  # type: ignore[arg-type]
    for at in range(0, len(body), 97):
        changed = body[:at] + bytes([body[at] ^ 2]) + body[at + 1 :]
        attack(store, ("UPDATE records SET body = ? WHERE position = 40", (changed,)))
        report = verify(store)
        found(report, "log.leaves")
        assert report["log.leaves"].findings[0].position == 40
        assert report.provable_prefix == 39


def test_the_first_subtree_root_that_differs_is_named(store: Path) -> None:
    blob = bytes(query(store, "SELECT frontier FROM head")[0][0])  # type: ignore[arg-type]
    for root in range(len(blob) // 32):
        changed = bytearray(blob)
        changed[root * 32] ^= 1
        attack(store, ("UPDATE head SET frontier = ?", (bytes(changed),)))
        finding = verify(store)["log.head"].findings[0]
        assert finding.expected == blob[root * 32 :][:32].hex()
        assert finding.found == changed[root * 32 :][:32].hex()
        size = int(str(query(store, "SELECT size FROM head")[0][0]))
        widths = [1 << bit for bit in range(size.bit_length() - 1, -1, -1) if size >> bit & 1]
        first = sum(widths[:root]) + 1
        assert finding.detail == f"root of records {first} to {first + widths[root] - 1}"


def test_same_number_another_type_is_found(store: Path) -> None:
    attack(store, "UPDATE records SET leaf = hex(leaf) WHERE position = 7")
    found(verify(store), "log.leaves")


@pytest.mark.parametrize(
    ("sql", "check"),
    [
        ("DELETE FROM records WHERE position = 1", "log.positions"),
        ("DELETE FROM records WHERE position = 50", "log.positions"),
        ("DELETE FROM records WHERE position = (SELECT max(position) FROM records)", "log.head"),
        ("DELETE FROM postings WHERE term = 'build:b-1'", "store.postings"),
        ("DELETE FROM postings WHERE term = 3", "store.postings"),
        ("DELETE FROM types WHERE id = 3", "store.types"),
        ("DELETE FROM head", "log.head"),
        ("INSERT INTO types (name) VALUES ('thing.happened/1')", "store.types"),
        ("INSERT INTO postings VALUES ('build:none', 1, x'0100000100000000')", "store.postings"),
        ("INSERT INTO postings VALUES ('build:b-1', 100000, x'010000a086010000')", "store.postings"),
        ("INSERT INTO postings VALUES ('build:b-1', 1, x'')", "store.postings"),
        ("INSERT INTO postings VALUES ('build:b-1', 1, x'010203')", "store.postings"),
        (
            "INSERT INTO records SELECT max(position) + 1, randomblob(16), leaf, body FROM records",
            "column.id",
        ),
        (
            "INSERT INTO records SELECT 0, randomblob(16), leaf, body FROM records WHERE position = 1",
            "log.positions",
        ),
    ],
)
def test_a_removed_or_inserted_row_is_found(store: Path, sql: str, check: str) -> None:
    attack(store, sql)
    found(verify(store), check)


@pytest.mark.parametrize(
    ("column", "check"),
    [("body", "log.leaves"), ("body, leaf", "column.id"), ("id", "column.id")],
)
def test_two_swapped_rows_are_found(store: Path, column: str, check: str) -> None:
    columns = column.split(", ")
    one, two = (query(store, f"SELECT {column} FROM records WHERE position = {at}")[0] for at in (12, 40))
    sets = ", ".join(f"{name} = ?" for name in columns)
    attack(
        store,
        "UPDATE records SET id = randomblob(16) WHERE position IN (12, 40)" if column == "id" else "SELECT 1",
        (f"UPDATE records SET {sets} WHERE position = 12", two),
        (f"UPDATE records SET {sets} WHERE position = 40", one),
    )
    found(verify(store), check)


def test_two_swapped_types_are_found(store: Path) -> None:
    one, two = (query(store, f"SELECT name FROM types WHERE id = {at}")[0][0] for at in (2, 3))
    attack(
        store,
        "UPDATE types SET name = '-' WHERE id = 2",
        ("UPDATE types SET name = ? WHERE id = 3", (one,)),
        ("UPDATE types SET name = ? WHERE id = 2", (two,)),
    )
    found(verify(store), "store.types")


def test_two_swapped_rows_of_the_index_are_found(store: Path) -> None:
    one, two = (
        query(
            store, f"SELECT first, entries FROM postings WHERE term = 'build:{name}' ORDER BY first LIMIT 1"
        )[0]
        for name in ("b-1", "b-2")
    )
    attack(
        store,
        ("UPDATE postings SET entries = ? WHERE term = 'build:b-1' AND first = ?", (two[1], one[0])),
        ("UPDATE postings SET entries = ? WHERE term = 'build:b-2' AND first = ?", (one[1], two[0])),
    )
    report = verify(store)
    found(report, "store.postings")
    named = [
        f
        for f in report["store.postings"].findings
        if f.field == "postings of build:b-1" and "#" in f.expected
    ]
    assert named, "the term and the position are named"


@pytest.mark.parametrize(
    ("sql", "field"),
    [
        ("PRAGMA user_version = 2", "PRAGMA user_version"),
        ("PRAGMA application_id = 1297436239", "PRAGMA application_id"),
        ("PRAGMA application_id = 7", "PRAGMA application_id"),
        ("DROP TRIGGER records_hold", "trigger records_hold"),
        ("DROP INDEX records_by_id", "index records_by_id"),
        ("CREATE TABLE extra (x)", "table extra"),
        ("CREATE TRIGGER late AFTER INSERT ON records BEGIN SELECT 1; END", "trigger late"),
        ("ALTER TABLE records ADD COLUMN note", "table records"),
    ],
)
def test_changed_settings_and_schema_are_found(store: Path, sql: str, field: str) -> None:
    db = sqlite3.connect(store / "store" / "log.db", isolation_level=None)
    db.execute(sql)
    db.close()
    report = verify(store)
    found(report, "store.settings", "store.schema", "store.created")
    every = [f.field for c in report.checks for f in c.findings]
    assert field in every, every
