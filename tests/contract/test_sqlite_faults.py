"""What only a file can suffer: other processes, full disks, changes by other clients, damage."""

from __future__ import annotations

import multiprocessing
import sqlite3
import stat
from pathlib import Path

import pytest
from muniment.domain.errors import UnavailableError, WrongError
from muniment.domain.query import Item
from muniment.store import merkle, sqlite_file, writer
from muniment.store.api import SCHEMA_VERSION, AppendConflict, Condition
from muniment.store.sqlite_log import SqliteLog

A = Item(tags=("a",))


def raw(folder: Path) -> sqlite3.Connection:
    return sqlite3.connect(folder / "log.db", isolation_level=None)


def writing(folder, make_draft, k, results):
    won = 0
    with SqliteLog.open(folder, busy_s=20) as log:
        for n in range(40):
            log.append([make_draft(f"{k}/{n}", tags=[f"k:{k}"])])
            try:
                log.append([make_draft(f"{k}/x{n}", tags=["a"])], Condition((A,), log.last_match((A,))))
                won += 1
            except AppendConflict:
                pass
    results.put(won)


def test_two_processes_write_one_log(sqlite_folder, draft):
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    children = [context.Process(target=writing, args=(sqlite_folder, draft, k, results)) for k in range(2)]
    for child in children:
        child.start()
    won = [results.get(timeout=30) for _ in children]
    for child in children:
        child.join(30)
        assert child.exitcode == 0
    with SqliteLog.open(sqlite_folder) as log:
        rows = list(log.read())
        assert list(range(1, 80 + sum(won) + 1)) == [position for position, _ in rows]
        assert merkle.root(merkle.leaf_hash(body) for _, body in rows) == log.head().root
        assert len(list(log.read((A,)))) == sum(won)


def test_what_another_process_wrote_breaks_a_condition(sqlite_folder, draft):
    with SqliteLog.open(sqlite_folder) as one, SqliteLog.open(sqlite_folder) as two:
        one.append([draft(1)])
        two.append([draft(2, tags=["a"])])
        with pytest.raises(AppendConflict):
            one.append([draft(3)], Condition((A,), 1))
        assert one.append([draft(2, tags=["a"])]).duplicate
        assert one.append([draft(3)], Condition((A,), 2)).first == 3


def test_another_writer_holding_the_lock_is_unavailable_and_bounded(sqlite_folder, draft):
    other = raw(sqlite_folder)
    with SqliteLog.open(sqlite_folder, busy_s=0.05) as log:
        other.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError) as caught:
            log.append([draft(1)])
        assert (caught.value.code, caught.value.exit_code, caught.value.retryable) == (
            "store.locked",
            8,
            True,
        )
        assert log.head().size == 0, "readers are not locked out"
        other.execute("ROLLBACK")
        assert log.append([draft(1)]).first == 1
    other.close()


@pytest.mark.parametrize("every", [1, 2, 512])
def test_a_full_disk_refuses_and_room_makes_it_work_again(sqlite_folder, draft, monkeypatch, every):
    monkeypatch.setattr(writer, "INDEX_EVERY", every)
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(0, tags=["a"])])
        db = log._writer._db
        pages = db.execute("PRAGMA page_count").fetchone()[0]
        db.execute(f"PRAGMA max_page_count = {pages + 3}")
        written = 1
        with pytest.raises(UnavailableError) as caught:  # noqa: PT012  # which append fills the disk is not known
            while written < 1000:
                log.append([draft(written, tags=[f"t:{written}"], data="x" * 3000)])
                written += 1
        assert caught.value.code == "store.full"
        head = log.head()
        assert head.size == written == len(list(log.read()))
        with pytest.raises(UnavailableError):
            log.append([draft(f"b{n}", data="x" * 3000) for n in range(9)])
        assert head == log.head()
        db.execute("PRAGMA max_page_count = 1000000")
        again = log.append([draft(written, tags=[f"t:{written}", "a"], data="x" * 3000)], Condition((A,), 1))
        assert again.first == written + 1
    with SqliteLog.open(sqlite_folder) as log:
        rows = list(log.read())
        assert len(rows) == written + 1
        assert merkle.root(merkle.leaf_hash(body) for _, body in rows) == log.head().root
        assert [1, written + 1] == [position for position, _ in log.read((A,))]
        assert [written + 1] == [position for position, _ in log.read((Item(tags=(f"t:{written}",)),))]


@pytest.mark.parametrize("table", ["records", "postings", "types"])
@pytest.mark.parametrize("verb", ["DELETE FROM {}", "UPDATE {} SET {}"])
def test_the_file_itself_refuses_changes(sqlite_folder, draft, table, verb, monkeypatch):
    monkeypatch.setattr(writer, "INDEX_EVERY", 1)
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1, tags=["a"])])
    column = {"records": "body = x''", "postings": "first = 9", "types": "name = 'z'"}
    db = raw(sqlite_folder)
    with pytest.raises(sqlite3.IntegrityError, match="append-only"):
        db.execute(verb.format(table, column[table]))
    db.close()


def test_the_file_is_as_declared(sqlite_folder, draft):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1)])
        assert log._writer._db.execute("PRAGMA synchronous").fetchone() == (2,), "FULL"
        with pytest.raises(sqlite3.OperationalError, match="readonly"):
            log._idle[0].execute("DELETE FROM records")
    db = raw(sqlite_folder)
    assert db.execute("PRAGMA journal_mode").fetchone() == ("wal",)
    assert db.execute("PRAGMA page_size").fetchone() == (sqlite_file.PAGE_SIZE,)
    assert db.execute("PRAGMA user_version").fetchone() == (SCHEMA_VERSION,)
    plan = db.execute("EXPLAIN QUERY PLAN SELECT position, body FROM records WHERE id = x'00'").fetchall()
    assert "records_by_id" in str(plan)
    db.close()
    assert not (sqlite_folder / "log.db-wal").exists(), "the last one out merges the log"
    assert stat.S_IMODE(sqlite_folder.stat().st_mode) == 0o700


def test_damage_found_while_reading_is_wrong_not_unavailable(sqlite_folder, draft):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(n, data="x" * 900) for n in range(200)])
    path = sqlite_folder / "log.db"
    data = bytearray(path.read_bytes())
    for at in range(20 * 4096, len(data), 4096):
        data[at : at + 64] = b"\xff" * 64
    path.write_bytes(data)
    with SqliteLog.open(sqlite_folder) as log, pytest.raises(WrongError) as caught:
        list(log.read())
    assert caught.value.code == "store.corrupt"


def test_rows_beyond_the_head_and_a_torn_frontier_are_wrong(sqlite_folder, draft):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1), draft(2)])
    db = raw(sqlite_folder)
    db.execute("UPDATE head SET size = 1")
    with SqliteLog.open(sqlite_folder) as log, pytest.raises(WrongError) as caught:
        log.append([draft(3)])
    assert caught.value.code == "store.head_mismatch"
    db.execute("UPDATE head SET size = 3")
    with SqliteLog.open(sqlite_folder) as log:
        for use in (log.head, log.frontier, lambda: log.append([draft(3)])):
            with pytest.raises(WrongError):
                use()
    db.close()
