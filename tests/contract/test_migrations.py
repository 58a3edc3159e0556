"""Steps of a SQLite log: forward only, whole or not at all; a store of the first version opens as it is."""

from __future__ import annotations

import json
import shutil
import sqlite3
import threading
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from muniment.cli.main import run
from muniment.domain.errors import InvalidError, MunimentError, NotFoundError, UnavailableError, WrongError
from muniment.store import api, migrations
from muniment.store.migrations_open import migrate, plan
from muniment.store.sqlite_log import SqliteLog

SECOND = """-- Schema 2, made up; a semicolon in a comment; and one in a trigger
CREATE TABLE notes (position INTEGER PRIMARY KEY, note TEXT NOT NULL DEFAULT ';');
CREATE TRIGGER notes_stay BEFORE DELETE ON notes
BEGIN SELECT RAISE(ABORT, 'append-only; always'); END;
INSERT INTO notes (position, note) SELECT position, '--' FROM records;
"""


@pytest.fixture
def step(next_version: Callable[[str, str], None]) -> Callable[..., None]:
    return lambda text=SECOND: next_version("sqlite", text)


def catalog(folder: Path) -> Any:
    with closing(sqlite3.connect(folder / "log.db")) as db:
        rows = db.execute("SELECT type, name, tbl_name, sql FROM sqlite_master ORDER BY 1, 2").fetchall()
        pragmas = [
            db.execute(f"PRAGMA {name}").fetchone()
            for name in ("user_version", "application_id", "page_size")
        ]
    return rows, pragmas


def test_the_versions_of_both_stores_are_those_of_their_files() -> None:
    assert migrations.version("sqlite") == migrations.version("postgres") == api.SCHEMA_VERSION


def test_a_missing_step_is_no_version(step: Any, tmp_path: Path) -> None:
    step()
    (tmp_path / "sql" / "sqlite_0002.sql").rename(tmp_path / "sql" / "sqlite_0003.sql")
    with pytest.raises(AssertionError):
        migrations.version("sqlite")


@pytest.mark.parametrize("records", [0, 5])
def test_a_migrated_schema_is_a_fresh_schema(
    sqlite_folder: Path, tmp_path: Path, draft: Any, step: Any, records: int
) -> None:
    with closing(SqliteLog.open(sqlite_folder)) as log:
        for n in range(records):
            log.append([draft(n, tags=("a:b",))])
        head = log.head()
    step()
    done = migrate(sqlite_folder)
    assert (done.found, done.version, len(done.acts)) == (1, 2, 1)
    assert migrate(sqlite_folder).acts == []
    SqliteLog.create(tmp_path / "fresh", kind="records").close()
    assert catalog(sqlite_folder) == catalog(tmp_path / "fresh")
    with closing(SqliteLog.open(sqlite_folder)) as log:
        assert log.head() == head
        assert log.append([draft("after")]).first == records + 1


def test_a_store_of_this_version_has_nothing_to_do(sqlite_folder: Path) -> None:
    before = (sqlite_folder / "log.db").read_bytes()
    assert migrate(sqlite_folder).acts == plan(sqlite_folder).acts == []
    assert (sqlite_folder / "log.db").read_bytes() == before


def test_an_older_store_is_refused_with_the_way_forward(sqlite_folder: Path, step: Any, capsys: Any) -> None:
    step()
    with pytest.raises(InvalidError) as caught:
        SqliteLog.open(sqlite_folder)
    assert (caught.value.code, caught.value.hint) == ("store.version", "muniment store migrate")
    for words in (["history", "list"], ["channel", "show"], ["identity", "list"], ["init"], ["key", "list"]):
        capsys.readouterr()
        assert run([*words, "--store", str(sqlite_folder), "-o", "json"]) == 10, words
        assert json.loads(capsys.readouterr().err)["code"] == "store.version"
    assert run(["verify", "store", "--store", str(sqlite_folder)]) != 0


def test_a_newer_store_is_refused_and_left(sqlite_folder: Path) -> None:
    with closing(sqlite3.connect(sqlite_folder / "log.db")) as db:
        db.execute("PRAGMA user_version = 2")
    before = catalog(sqlite_folder)
    for work in (SqliteLog.open, plan, migrate):
        with pytest.raises(InvalidError, match="newer") as caught:
            work(sqlite_folder)
        assert caught.value.exit_code == 10
    assert catalog(sqlite_folder) == before


@pytest.mark.parametrize(
    "wrong", ["CREATE TABLE head (x);", "SELECT no_such();", "syntax error;", "CREATE TABLE open (x"]
)
def test_a_failed_step_leaves_the_old_version(sqlite_folder: Path, step: Any, wrong: str) -> None:
    before = catalog(sqlite_folder)
    old = migrations.FOLDER
    step(SECOND + wrong)
    with pytest.raises((MunimentError, AssertionError)):
        migrate(sqlite_folder)
    assert catalog(sqlite_folder) == before
    assert not list(sqlite_folder.glob("*-journal"))
    migrations.FOLDER = old
    SqliteLog.open(sqlite_folder).close()


def test_a_dry_run_writes_nothing_and_the_printed_sql_does_the_same(
    sqlite_folder: Path, tmp_path: Path, step: Any, capsys: Any
) -> None:
    shutil.copytree(sqlite_folder, tmp_path / "by hand")
    step()
    before = catalog(sqlite_folder)
    assert run(["store", "migrate", "--dry-run", "--store", str(sqlite_folder)]) == 0
    assert "schema 1 to 2" in capsys.readouterr().out
    assert run(["store", "migrate", "--sql", "--store", str(tmp_path / "by hand")]) == 0
    script = capsys.readouterr().out
    assert catalog(sqlite_folder) == before
    with closing(sqlite3.connect(tmp_path / "by hand" / "log.db", isolation_level=None)) as db:
        db.executescript(script)
    assert run(["store", "migrate", "--store", str(sqlite_folder), "-o", "json"]) == 0
    assert json.loads(capsys.readouterr().out)["data"]["version"] == 2
    assert catalog(sqlite_folder) == catalog(tmp_path / "by hand")


def test_concurrent_migrations_do_the_work_once(sqlite_folder: Path, step: Any) -> None:
    step()
    failed: list[BaseException] = []

    def work() -> None:
        try:
            migrate(sqlite_folder)
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=work) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert failed == []
    assert catalog(sqlite_folder)[1][0] == (2,)


def test_a_log_that_is_being_written_is_waited_for_or_left(
    sqlite_folder: Path, step: Any, monkeypatch: Any
) -> None:
    from muniment.store import migrations_sqlite

    step()
    monkeypatch.setattr(migrations_sqlite, "BUSY_S", 0.1)
    before = catalog(sqlite_folder)
    with closing(sqlite3.connect(sqlite_folder / "log.db", isolation_level=None)) as db:
        db.execute("BEGIN IMMEDIATE")
        with pytest.raises(UnavailableError) as caught:
            migrate(sqlite_folder)
        assert caught.value.code == "store.locked"
        db.execute("ROLLBACK")
    assert catalog(sqlite_folder) == before
    assert migrate(sqlite_folder).version == 2


def test_where_no_log_is_nothing_is_made(tmp_path: Path) -> None:
    with pytest.raises(NotFoundError):
        migrate(tmp_path)
    with closing(sqlite3.connect(tmp_path / "log.db")) as db:
        db.execute("CREATE TABLE x (y)")
    with pytest.raises(WrongError):
        migrate(tmp_path)
    assert run(["store", "migrate", "--store", str(tmp_path)]) == 7
    assert run(["store", "migrate", "--store", "mysql://x/y"]) == 2
