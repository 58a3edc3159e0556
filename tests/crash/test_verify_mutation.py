"""Every cell, row and file that an attacker may change is found and named; the untouched store passes.

The attacker has the rights on the folder: the guard triggers are dropped first and put back, so that no case
is found by them alone.
"""

from __future__ import annotations

import json
import shutil
import sqlite3
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
import story
from muniment.app import home, memo, rebuilding
from muniment.app.verify import Anchor, verify_store
from muniment.app.verify_report import CHECKS, Report
from muniment.domain import canonical
from muniment.projections.model import ReadModel
from muniment.store import writer
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.merkle import Frontier
from muniment.store.sqlite_log import SqliteLog


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A store with every kind of entity, evidence, a signed record, a saved memo and a head seen."""
    root = tmp_path_factory.mktemp("master")
    clock = story.Clock()
    log = SqliteLog.create(root / "store", kind="records", clock=clock)
    evidence = EvidenceFolder(root / "store" / "evidence", root / "store" / "staging")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(writer, "INDEX_EVERY", 16)  # a story is shorter than the tail that has no rows yet
        story.Story(log, clock, evidence).whole()
    rebuilding.rebuild(log, root / "home")
    head = log.head()
    assert home.remember_head(log.store_id, head.size, head.root, base=root / "home") == ""
    log.close()
    return root


@pytest.fixture
def store(master: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(master, tmp_path / "copy")
    return tmp_path / "copy"


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


CELLS: dict[tuple[str, str], tuple[str, ...]] = {
    ("records", "position"): ("log.positions",),
    ("records", "id"): ("column.id",),
    ("records", "leaf"): ("log.leaves",),
    ("records", "body"): ("log.leaves",),
    ("postings", "term"): ("store.postings",),
    ("postings", "first"): ("store.postings",),
    ("postings", "entries"): ("store.postings",),
    ("types", "id"): ("store.types",),
    ("types", "name"): ("store.types",),
    ("head", "size"): ("log.head", "store.readable"),
    ("head", "frontier"): ("log.head", "store.readable"),
    ("head", "recorded_at"): ("log.head",),
    ("head", "indexed"): ("log.head", "store.postings"),
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


def _rewritten(root: Path, change: Callable[[int, dict[str, object]], None], last: int = 10**9) -> None:
    """Rewrite bodies, leaves, head and index as somebody would who has the code: the index is emptied, all is tail."""
    frontier = Frontier()
    statements: list[str | tuple[str, tuple[object, ...]]] = ["DELETE FROM postings", "DELETE FROM types"]
    stamp: object = ""
    for position, body in query(root, "SELECT position, body FROM records ORDER BY position"):
        if int(str(position)) > last:
            statements.append(("DELETE FROM records WHERE position = ?", (position,)))
            continue
        record = json.loads(bytes(body))  # type: ignore[arg-type]
        change(int(str(position)), record)
        data = canonical.encode(record)
        leaf = frontier.append(data)
        statements.append(
            ("UPDATE records SET body = ?, leaf = ? WHERE position = ?", (data, leaf, position))
        )
        stamp = record["recorded_at"]
    head = (frontier.size, frontier.to_bytes(), stamp)
    statements.append(("UPDATE head SET size = ?, frontier = ?, recorded_at = ?, indexed = 0", head))
    attack(root, *statements)


def _nothing(position: int, record: dict[str, object]) -> None:
    """Change nothing."""


def test_a_rewrite_that_changes_nothing_is_no_damage(store: Path) -> None:
    _rewritten(store, _nothing)
    assert verify(store).ok


def test_a_cut_tail_is_found_by_the_head_seen_last(store: Path) -> None:
    _rewritten(store, _nothing, last=96)
    report = verify(store)
    found(report, "head.last_seen")
    assert report.failed() == ["head.last_seen", "projections.memo"], "nothing inside the store can tell"
    assert report.provable_prefix == 96


def test_a_rewritten_suffix_is_found_by_the_head_seen_last(store: Path) -> None:
    def change(position: int, record: dict[str, object]) -> None:
        if position == 97:
            record["data"]["summary"] = "nothing happened"  # type: ignore[index]

    projecting_memo = next((store / "home" / "memos").rglob("*.memo"))
    projecting_memo.unlink()
    _rewritten(store, change)
    report = verify(store)
    found(report, "head.last_seen")
    assert report.failed() == ["head.last_seen"]
    assert report.provable_prefix == 0, "no earlier head is known that would hold"
    shutil.rmtree(store / "home" / "heads")
    assert verify(store).ok, "without a head from elsewhere nobody can tell"
    good = Anchor(103, "0" * 64, "checkpoint")
    found(verify(store, against=[good]), "head.against")


def test_a_rewritten_signed_record_is_found_without_any_head(store: Path) -> None:
    def change(position: int, record: dict[str, object]) -> None:
        if "signature" in record:
            record["data"]["reason"] = "another reason"  # type: ignore[index]

    shutil.rmtree(store / "home")
    _rewritten(store, change)
    report = verify(store)
    found(report, "record.signature")
    assert report["record.signature"].findings[0].position == 65


@pytest.mark.parametrize(
    ("field", "value", "check"),
    [
        ("type", "build.invented/1", "record.registry"),
        ("recorded_at", "2001-01-01T00:00:00.000000Z", "record.time"),
        ("batch", None, "record.batch"),
        ("extra", 1, "record.registry"),
        ("tags", ["scope:*"], "record.tags"),
    ],
)
def test_a_rewritten_field_is_found_without_any_head(
    store: Path, field: str, value: object, check: str
) -> None:
    def change(position: int, record: dict[str, object]) -> None:
        if position == 29:
            record[field] = value
            if value is None:
                del record[field]

    shutil.rmtree(store / "home")
    _rewritten(store, change)
    found(verify(store), check)


def test_bytes_that_are_not_canonical_are_found(store: Path) -> None:
    shutil.rmtree(store / "home")
    frontier, statements = Frontier(), []
    for position, body in query(store, "SELECT position, body FROM records ORDER BY position"):
        data = bytes(body)  # type: ignore[arg-type]
        data = data.replace(b'":', b'": ', 1) if position == 20 else data
        statements.append(
            (
                "UPDATE records SET body = ?, leaf = ? WHERE position = ?",
                (data, frontier.append(data), position),
            )
        )
    attack(store, *statements, ("UPDATE head SET frontier = ?", (frontier.to_bytes(),)))
    report = verify(store)
    found(report, "record.canonical")
    assert report.failed() == ["record.canonical"]


def _blobs(root: Path) -> list[Path]:
    return sorted(path for path in (root / "store" / "evidence").rglob("*") if path.is_file())


def test_every_evidence_file_is_covered(store: Path) -> None:
    blobs = _blobs(store)
    assert len(blobs) > 8
    for path in blobs:
        data = path.read_bytes()
        path.chmod(0o600)
        for damage in (bytes([data[0] ^ 1]) + data[1:], data[:-1], data + b"x", b""):
            path.write_bytes(damage)
            found(verify(store), "evidence.present", "evidence.manifests")
        path.unlink()
        found(verify(store), "evidence.present", "evidence.manifests")
        path.write_bytes(data)
    assert verify(store).ok


def test_orphans_are_information_and_junk_is_a_finding(store: Path) -> None:
    evidence = EvidenceFolder(store / "store" / "evidence", store / "store" / "staging")
    blob = evidence.put(b"nobody names me")
    report = verify(store)
    assert report.ok
    assert report.information["evidence"]["orphans"] == 1
    path = evidence.path(blob.blake3)
    path.chmod(0o600)
    path.write_bytes(b"nobody names ME")
    found(verify(store), "evidence.folder")
    path.unlink()
    for junk in ("junk", "ab/junk", f"ab/{'0' * 62}"):
        place = store / "store" / "evidence" / junk
        place.parent.mkdir(exist_ok=True)
        place.write_bytes(b"junk")
        found(verify(store), "evidence.folder")
        place.unlink()
    assert verify(store).ok


def test_a_forged_memo_is_found(store: Path) -> None:
    place = memo.place_of("s-story", store / "home")
    step = place.steps()[-1]
    live = memo.opened(place, step, "s-story", lambda _: ReadModel())
    assert live.model is not None
    assert live.model.packs
    for pack in live.model.packs.values():
        pack.state = "WITHDRAWN"
    assert memo.save(place, "s-story", live.model, live.frontier) == ""
    found(verify(store), "projections.memo")


@pytest.mark.parametrize("size", [0, 100, 5000])
def test_a_file_that_is_no_database_is_wrong_and_nothing_passes(store: Path, size: int) -> None:
    path = store / "store" / "log.db"
    path.write_bytes(b"x" * size)
    report = verify(store)
    assert report.exit_code == 7
    assert {c.verdict for c in report.checks} <= {"fail", "skipped"}


def test_a_truncated_database_is_wrong(store: Path) -> None:
    path = store / "store" / "log.db"
    data = path.read_bytes()
    path.write_bytes(data[: len(data) // 2 // 4096 * 4096])
    assert verify(store).exit_code == 7
