"""What only a file can suffer: other processes and versions, damage, full disks, frozen copies."""

from __future__ import annotations

import multiprocessing
import os
import shutil
import sqlite3
import stat
import threading
from pathlib import Path

import pytest
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UnfitError,
    UsageError,
    WrongError,
)
from muniment.domain.query import Item
from muniment.store import merkle, sqlite_file, writer
from muniment.store.api import SCHEMA_VERSION, AppendConflict, Condition, Draft
from muniment.store.open import create_log, folder_of, open_log
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


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_another_schema_version_is_named(sqlite_folder, version):
    db = raw(sqlite_folder)
    db.execute(f"PRAGMA user_version = {version}")
    db.close()
    with pytest.raises(InvalidError) as caught:
        SqliteLog.open(sqlite_folder)
    assert (caught.value.code, caught.value.exit_code) == ("store.version", 10)
    assert caught.value.context == {"expected": SCHEMA_VERSION, "found": version}


def test_a_foreign_database_is_not_a_log(tmp_path):
    sqlite3.connect(tmp_path / "log.db").close()
    with pytest.raises(WrongError) as caught:
        SqliteLog.open(tmp_path)
    assert (caught.value.code, caught.value.exit_code) == ("store.not_a_log", 7)


def test_no_database_at_all(tmp_path):
    (tmp_path / "log.db").write_bytes(b"this is no database, but it is long enough to look like a page" * 100)
    with pytest.raises(WrongError) as caught:
        SqliteLog.open(tmp_path)
    assert caught.value.code == "store.not_a_database"


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


def test_a_missing_store_says_what_to_do(tmp_path):
    for folder in (tmp_path / "none", tmp_path):
        with pytest.raises(NotFoundError) as caught:
            SqliteLog.open(folder)
        assert "init" in caught.value.hint


def test_create_refuses_a_store_and_leaves_it(sqlite_folder, draft):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1)])
    with pytest.raises(ConflictError):
        SqliteLog.create(sqlite_folder, kind="records")
    with SqliteLog.open(sqlite_folder) as log:
        assert log.head().size == 1


def test_create_refuses_an_unknown_kind(tmp_path):
    with pytest.raises(InvalidError):
        SqliteLog.create(tmp_path / "s", kind="other")
    assert not (tmp_path / "s").exists()


def test_an_interrupted_create_leaves_no_store_and_no_hindrance(tmp_path):
    (tmp_path / f".log.db.{threading.get_native_id()}").write_bytes(b"half a database")
    with pytest.raises(NotFoundError):
        SqliteLog.open(tmp_path)
    SqliteLog.create(tmp_path, kind="opaque").close()
    assert {path.name for path in tmp_path.iterdir()} <= {"log.db", "log.db-wal", "log.db-shm"}
    with SqliteLog.open(tmp_path) as log:
        assert log.kind == "opaque"


def test_opened_read_only_it_reads_and_does_not_write(sqlite_folder, draft):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1)])
        with SqliteLog.open(sqlite_folder, read_only=True) as reader:
            assert reader.head() == log.head()
            with pytest.raises(UnavailableError) as caught:
                reader.append([draft(2)])
            assert caught.value.code == "store.read_only"
            assert reader.head().size == 1


T = Item(tags=("t",))


def as_nobody(folder: Path, *drafts: Draft, query: bool = False) -> str:
    """Read, and append if there is something, as a user without the right to write, which only root can become."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become a user without rights")
    answer, answering = os.pipe()
    child = os.fork()
    if child == 0:
        found = "no answer"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with SqliteLog.open(folder) as log:
                found = f"{log.head().size} {len(list(log.read((T,) if query else ())))}"
                if drafts:
                    log.append(drafts)
        except MunimentError as error:
            found = f"{found} {error.code}"
        finally:
            os.write(answering, found.encode())
            os._exit(0)
    os.close(answering)
    os.waitpid(child, 0)
    with os.fdopen(answer) as pipe:
        return pipe.read()


@pytest.fixture
def frozen(sqlite_folder, draft):
    """A store whose folder others may read only, somewhere others can get to."""
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1), draft(2)])
    place = Path("/tmp") / f"muniment-test-{os.getpid()}"  # tmp_path is closed to other users
    shutil.copytree(sqlite_folder, place)
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_a_frozen_copy_is_read_and_not_written(frozen, draft):
    before = sorted(frozen.iterdir())
    assert as_nobody(frozen) == "2 2"
    assert as_nobody(frozen, draft(3)) == "2 2 store.read_only"
    assert before == sorted(frozen.iterdir())


@pytest.mark.parametrize("every", [1, 2, 512])
def test_a_frozen_copy_is_searched_in_rows_and_tail(sqlite_folder, draft, monkeypatch, every):
    monkeypatch.setattr(writer, "INDEX_EVERY", every)
    with SqliteLog.open(sqlite_folder) as log:
        for n in range(5):
            log.append([draft(n, tags=["t"] if n % 2 else [])])
    place = Path("/tmp") / f"muniment-test-{os.getpid()}"
    shutil.copytree(sqlite_folder, place)
    place.chmod(0o755)
    try:
        assert as_nobody(place, query=True) == "5 2"
    finally:
        shutil.rmtree(place)


def test_a_frozen_copy_with_a_wal_beside_it_is_not_read(frozen):
    (frozen / "log.db-wal").touch()
    assert as_nobody(frozen) == "2 2", "an empty one holds nothing"
    (frozen / "log.db-wal").write_bytes(b"x")
    assert as_nobody(frozen) == "no answer store.unmerged_wal"


def test_a_frozen_copy_that_changes_is_not_believed(frozen):
    with SqliteLog.open(frozen) as log:
        log._frozen, log._frozen_as = True, log._stat()
        assert log.head().size == 2
        os.utime(frozen / "log.db", ns=(1, 1))
        with pytest.raises(UnavailableError) as caught:
            log.head()
    assert caught.value.code == "store.changed"


MOUNTS = """\
1 0 8:1 / / rw - ext4 /dev/sda1 rw
2 1 0:44 / /net rw - nfs4 host:/x rw
3 1 0:45 / /net/local rw - xfs /dev/sdb rw
4 1 0:46 / /a\\040b rw shared:1 - fuse.sshfs u@h rw
5 1 0:47 / /twice rw - cifs //h/s rw
6 1 0:48 / /twice rw - ext4 /dev/sdc rw
torn line
"""


@pytest.mark.parametrize(
    ("place", "refused"),
    [
        ("/net", True),
        ("/net/x/store", True),
        ("/a b/store", True),
        ("/network", False),
        ("/net/local/store", False),
        ("/twice/store", False),
        ("/srv", False),
    ],
)
def test_a_network_file_system_is_refused(tmp_path, place, refused):
    mounts = tmp_path / "mountinfo"
    mounts.write_text(MOUNTS)
    if refused:
        with pytest.raises(UnfitError) as caught:
            sqlite_file.refuse_network_file_system(Path(place), mounts)
        assert (caught.value.code, caught.value.exit_code) == ("store.network_file_system", 9)
        assert "PostgreSQL" in caught.value.hint
    else:
        sqlite_file.refuse_network_file_system(Path(place), mounts)


def test_create_and_open_ask_where_the_folder_is(tmp_path, sqlite_folder):
    mounts = tmp_path / "mountinfo"
    mounts.write_text("1 0 0:44 / / rw - 9p host rw\n")
    with pytest.raises(UnfitError):
        SqliteLog.create(tmp_path / "new", kind="records", mounts=mounts)
    assert not (tmp_path / "new").exists()
    with pytest.raises(UnfitError):
        SqliteLog.open(sqlite_folder, mounts=mounts)


@pytest.mark.parametrize("form", ["{}", "sqlite://{}"])
def test_urls_of_a_folder(tmp_path, form):
    url = form.format(tmp_path / "s")
    create_log(url).close()
    log = open_log(url, read_only=True)
    assert log.kind == "records"
    log.close()
    assert tmp_path / "s t" == folder_of(f"sqlite://{tmp_path}/s%20t")


@pytest.mark.parametrize(
    "url",
    [
        "",
        "sqlite://",
        "sqlite:///",
        "sqlite://host/path",
        "sqlite:///p?mode=memory",
        "postgresql://user:secret@host/db?secret=1",
        "postgres://user:secret@host/db?schema=Bad-Name",
        "postgres://user:secret@host/db?pool=0",
        "postgres://user:secret@host/db#secret",
        "mysql://user:secret@host/db",
        "postgresql:user:secret@host",
        "user:secret@x://y",
        "http://secret/",
        "a\0b",
    ],
)
def test_other_urls_are_a_usage_error_without_their_secrets(url):
    with pytest.raises(UsageError) as caught:
        open_log(url)
    assert "secret" not in f"{caught.value} {caught.value.hint} {caught.value.context}"
