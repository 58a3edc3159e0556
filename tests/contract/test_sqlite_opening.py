"""Making and opening a log in a file: other versions, foreign files, cuts, places that cannot hold one."""

from __future__ import annotations

import sqlite3
import threading
from pathlib import Path

import pytest
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnfitError,
    UsageError,
    WrongError,
)
from muniment.store import sqlite_file
from muniment.store.api import SCHEMA_VERSION
from muniment.store.open import create_log, folder_of, open_log
from muniment.store.sqlite_log import SqliteLog


@pytest.mark.parametrize("version", [0, SCHEMA_VERSION + 1])
def test_another_schema_version_is_named(sqlite_folder, version):
    db = sqlite3.connect(sqlite_folder / "log.db", isolation_level=None)
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
