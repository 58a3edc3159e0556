"""Sessions: which stores they open, who may sign, keys of idempotency, and others that write at once."""

from __future__ import annotations

import sqlite3
import subprocess
import sys

import pytest
import shop
from muniment.app import activating, keys
from muniment.app.session import Options, Session
from muniment.domain import admin, release
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UnfitError,
    UsageError,
    WrongError,
)
from muniment.store import sqlite_file

# -- opening -------------------------------------------------------------------------------------------------------


def test_no_store_no_log_and_another_version(here, tmp_path):
    for url in (tmp_path / "none", tmp_path):
        with pytest.raises(NotFoundError):
            Session(url)
    for url in (
        "",
        "postgresql:u:secret@h/db",
        "postgresql://u:a@secret@h/db",
        "mysql://x",
        "sqlite://host/x",
    ):
        with pytest.raises(UsageError) as caught:
            Session(url)
        assert "secret" not in str(caught.value)
    db = sqlite3.connect(here.at / "log.db")
    db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(InvalidError) as caught:
        here.open()
    assert ("store.version", 10) == (caught.value.code, caught.value.exit_code)


def test_a_file_that_is_no_database_is_wrong(here):
    (here.at / "log.db").write_bytes(b"not a database at all, but long enough to be looked at" * 40)
    for name in ("log.db-wal", "log.db-shm"):
        (here.at / name).unlink(missing_ok=True)
    with pytest.raises(WrongError):
        here.open()


def test_a_network_file_system_is_unfit(here, monkeypatch):
    with here.open(write=False) as s:
        assert s.log.head().size == 2
    kinds = {line.partition(" - ")[2].split(" ")[0] for line in sqlite_file.MOUNTS.read_text().splitlines()}
    monkeypatch.setattr(sqlite_file, "NETWORK_FILE_SYSTEMS", frozenset(kinds))
    for write in (False, True):
        with pytest.raises(UnfitError) as caught:
            here.open(write=write)
        assert caught.value.code == "store.network_file_system"


def test_an_empty_store_has_no_id(tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    sqlite_file.create(tmp_path / "bare", "records")
    with Session(tmp_path / "bare", write=True) as s:
        with pytest.raises(NotFoundError) as caught:
            s.run(admin.AcceptClock(0))
        assert caught.value.code == "store.empty"
        assert s.log.head().size == 0, "no record before the store's own first one"


# -- signing -------------------------------------------------------------------------------------------------------


def test_a_key_that_others_can_read_signs_nothing(here):
    with here.open() as s:
        keys.create_key("alice", s.keys)
        (s.keys / "alice.pem").chmod(0o644)
        before = s.log.head().size
        with pytest.raises(UnfitError) as caught:
            shop.declare(s, options=Options(sign="alice"))
        assert ("key.mode", 9) == (caught.value.code, caught.value.exit_code)
        (s.keys / "alice.pem").chmod(0o600)
        with pytest.raises(NotFoundError):
            shop.declare(s, options=Options(sign="bob"))
        assert before == s.log.head().size
        refused = shop.declare(s, options=Options(sign="alice"))
        assert refused.exit_code == 4, "a key that is bound to nobody is refused by rule"


def test_the_team_policy_asks_for_people(tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    here = shop.Shop(tmp_path)
    here.init("team")
    with here.open() as s:
        pack = here.pack(s)
        here.declared(s)
        shop.must(s.run(release.Create("r-1", pack, [release.Stage([shop.EU], 100_000, 0)])))
        shop.refused(s.run(release.Start("r-1")), "R10.approvals", 4)
        assert "release.started" not in shop.types(s)
        assert shop.types(s)[-1] == "command.refused"
        assert activating.activate(s, Options(), shop.EU, str(here.target())).exit_code == 6


# -- keys of idempotency -------------------------------------------------------------------------------------------


def test_a_repeated_key_and_other_arguments(here):
    with here.open() as s:
        first = shop.declare(s, options=shop.key("k"))
        again = shop.declare(s, options=shop.key("k"))
        assert (first.positions, True) == (again.positions, again.repeated)
        with pytest.raises(ConflictError) as caught:
            shop.declare(s, "prod/canary", shop.key("k"))
        assert ("decision.key_reused", 5) == (caught.value.code, caught.value.exit_code)
        for call in (
            lambda: s.recorded(shop.key("k"), "pack.verify"),
            lambda: s.recorded(shop.key("k"), "channel.declare", channel="prod/lts"),
            lambda: s.recorded(shop.key("k"), "channel"),
        ):
            with pytest.raises(ConflictError):
                call()
        assert (
            s.recorded(shop.key("k"), "channel.declare", channel="prod/stable").positions == first.positions
        )
        assert s.recorded(shop.key("k"), "channel.").positions == first.positions
        assert None is s.recorded(shop.key("new"), "channel.declare")
        assert None is s.recorded(Options(), "channel.declare")


def test_a_stale_expectation(here):
    with here.open() as s:
        shop.declare(s)
        with pytest.raises(ConflictError) as caught:
            shop.declare(s, "prod/canary", Options(expect=1))
        assert caught.value.exit_code == 5
        shop.must(shop.declare(s, "prod/canary", Options(expect=caught.value.context["found"])))


# -- others that write at once -------------------------------------------------------------------------------------


def test_two_processes_write_at_once(here):
    script = """
import sys
from muniment.app.session import Session
from muniment.domain import channel
with Session(sys.argv[1], write=True) as s:
    for n in range(15):
        assert s.run(channel.Declare(f"e{sys.argv[2]}{n}/stable", ["eu"], [])).exit_code == 0
"""
    pids = [
        subprocess.Popen([sys.executable, "-c", script, str(here.at), str(n)], stderr=subprocess.PIPE)
        for n in range(3)
    ]
    errors = [child.communicate()[1].decode() for child in pids]
    assert ["", "", ""] == errors
    with here.open() as s:
        assert 45 == sum(r["type"] == "channel.declared/1" for r in shop.sound(s))


def test_a_locked_log_is_unavailable_and_works_again(here):
    with here.open() as s:
        s.log._busy_s = 0.2  # the wait is 20 s otherwise
        other = sqlite3.connect(here.at / "log.db", isolation_level=None)
        other.execute("BEGIN IMMEDIATE")
        try:
            with pytest.raises(UnavailableError) as caught:
                shop.declare(s)
            assert caught.value.exit_code == 8
        finally:
            other.execute("ROLLBACK")
            other.close()
        shop.must(shop.declare(s))
