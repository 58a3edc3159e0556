"""Sessions: who may write, the clock before every append, and a disk that is full, read-only or shared."""

from __future__ import annotations

import json
import os
import resource
import sqlite3
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

import pytest
import shop
from muniment.app import activating, building, clock, home, intaking, keys
from muniment.app.session import Options, Session
from muniment.domain import admin, channel, release
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
from muniment.store import sqlite_file

HOUR = 3_600_000_000


def declare(s, name="prod/stable", options=None):
    return s.run(channel.Declare(name, ["eu"], []), options)


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


# -- the clock -----------------------------------------------------------------------------------------------------


def last_write(s, *, wall=0, boot=0, boot_id=None):
    """Say that the last write was made when the clock read that much less."""
    now = clock.read_host()
    path = home.writer_file(s.store_id)
    reading = {
        "wall_us": now.wall_us - wall,
        "boot_us": now.boot_us - boot,
        "boot_id": now.boot_id if boot_id is None else boot_id,
    }
    path.write_text(json.dumps(reading))


def test_a_jump_within_one_boot_is_refused_until_a_person_accepts_it(here):
    with here.open() as s:
        declare(s)
        before = s.log.head().size
        last_write(s, wall=3 * HOUR)
        for _ in range(2):
            with pytest.raises(UnavailableError) as caught:
                declare(s, "prod/canary")
            assert ("clock.jump_refused", 8) == (caught.value.code, caught.value.exit_code)
        assert before == s.log.head().size
        assert declare(s, "prod/canary", Options(dry_run=True)).exit_code == 0, "a dry run appends nothing"
    with here.open() as s:
        with pytest.raises(UnavailableError):
            declare(s, "prod/canary")
        dry = s.accept_clock(Options(dry_run=True, reason="ntp"))
        assert dry.event("clock.jump_accepted/1")["seconds"] in (10799, 10800)
        with pytest.raises(UnavailableError):
            declare(s, "prod/canary")
        accepted = s.accept_clock(Options(key="yes", reason="ntp"))
        assert accepted.event("clock.jump_accepted/1")["reason"] == "ntp"
        shop.must(declare(s, "prod/canary"))
        again = s.accept_clock(Options(key="yes", reason="ntp"))
        assert (True, accepted.positions) == (again.repeated, again.positions)
        last_write(s, wall=5 * HOUR)
        s.accept_clock(Options(key="yes"))
        with pytest.raises(UnavailableError):
            declare(s, "prod/lts")  # the old key accepts no new jump


def test_a_jump_in_the_middle_of_a_session_is_seen(here):
    with here.open() as s:
        declare(s)
        last_write(s, wall=3 * HOUR)
        with pytest.raises(UnavailableError):
            declare(s, "prod/canary")


def test_an_idle_night_and_a_clock_that_went_back_are_no_jump(here):
    with here.open() as s:
        declare(s)
        now = clock.read_host()
        last_write(s, wall=min(30 * HOUR, now.boot_us), boot=min(30 * HOUR, now.boot_us))
        shop.must(declare(s, "prod/canary"))
        last_write(s, wall=-3 * HOUR)
        shop.must(declare(s, "prod/lts"))
        assert "clock.jump_observed" not in shop.types(s)
        stamps = [record["recorded_at"] for record in shop.records(s)]
        assert sorted(stamps) == stamps


def test_a_jump_across_boots_is_recorded_once_and_not_refused(here):
    with here.open() as s:
        declare(s)
        last_write(s, wall=1000 * HOUR, boot_id="another")
        with pytest.raises(ConflictError):
            declare(s, "prod/canary", Options(expect=1))
        shop.must(declare(s, "prod/canary"))
        shop.must(declare(s, "prod/lts"))
        told = shop.types(s)
        assert told.count("clock.jump_observed") == 1
        observed = next(r for r in shop.records(s) if r["type"] == "clock.jump_observed/1")
        assert observed["data"]["seconds"] > 3600
        assert "command" not in observed


@pytest.mark.parametrize("text", ["", "{", "[]", '{"wall_us": "1", "boot_us": 1, "boot_id": ""}', "\0" * 50])
def test_a_damaged_clock_cache_is_no_judgement(here, text):
    with here.open() as s:
        home.writer_file(s.store_id).write_text(text)
        shop.must(declare(s))


# -- signing -------------------------------------------------------------------------------------------------------


def test_a_key_that_others_can_read_signs_nothing(here):
    with here.open() as s:
        keys.create_key("alice", s.keys)
        (s.keys / "alice.pem").chmod(0o644)
        before = s.log.head().size
        with pytest.raises(UnfitError) as caught:
            declare(s, options=Options(sign="alice"))
        assert ("key.mode", 9) == (caught.value.code, caught.value.exit_code)
        (s.keys / "alice.pem").chmod(0o600)
        with pytest.raises(NotFoundError):
            declare(s, options=Options(sign="bob"))
        assert before == s.log.head().size
        refused = declare(s, options=Options(sign="alice"))
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
        first = declare(s, options=shop.key("k"))
        again = declare(s, options=shop.key("k"))
        assert (first.positions, True) == (again.positions, again.repeated)
        with pytest.raises(ConflictError) as caught:
            declare(s, "prod/canary", shop.key("k"))
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
        declare(s)
        with pytest.raises(ConflictError) as caught:
            declare(s, "prod/canary", Options(expect=1))
        assert caught.value.exit_code == 5
        shop.must(declare(s, "prod/canary", Options(expect=caught.value.context["found"])))


# -- a store that cannot be written --------------------------------------------------------------------------------


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
                declare(s)
            assert caught.value.exit_code == 8
        finally:
            other.execute("ROLLBACK")
            other.close()
        shop.must(declare(s))


@contextmanager
def full(limit: int):
    """No file of this process may grow past `limit` bytes: EFBIG, which we answer as a full disk."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


def unavailable(call):
    with pytest.raises(MunimentError) as caught:
        call()
    assert caught.value.exit_code == 8, (caught.value.code, caught.value.message)


def test_a_full_disk_accepts_nothing_by_half_and_everything_works_after(here):
    big = here.base / "big"
    big.mkdir()
    (big / "data").write_bytes(os.urandom(300_000))
    with here.open() as s:
        pack = here.pack(s)
        here.declared(s)
        here.promoted(s, "r-1", pack)
        here.started(s, "b-9", "9")
    with here.open() as s:
        before = s.log.head().size
        with full(100_000):
            unavailable(lambda: intaking.add(s, str(big), Options()))
        assert before == s.log.head().size
        shop.must(intaking.add(s, str(big), Options())[0])
    source = str(here.source("new"))
    with here.open() as s:
        before = s.log.head().size
        with full(1):
            unavailable(lambda: declare(s, "prod/canary"))
            unavailable(lambda: intaking.add(s, source, Options()))
            unavailable(
                lambda: building.stage(s, Options(), build_id="b-9", name="ingest", argv=["echo", "x"])
            )
            unavailable(lambda: activating.activate(s, Options(), shop.EU, str(here.target())))
        assert before == s.log.head().size
    with here.open() as s:
        shop.sound(s)
        shop.must(declare(s, "prod/canary"))
        assert (
            building.stage(s, Options(), build_id="b-9", name="ingest", argv=["echo", "x"]).run.status
            == "PASS"
        )
        assert activating.activate(s, Options(), shop.EU, str(here.target())).exit_code == 0


def test_a_disk_that_fills_up_while_a_stage_runs(here):
    argv = ["sh", "-c", "head -c 300000 /dev/zero > $0/big", "{output}"]
    with here.open() as s:
        here.started(s)
        with full(200_000):
            staged = building.stage(s, Options(), build_id="b-1", name="ingest", argv=argv)
        assert staged.finished is not None
        assert staged.run.status != "PASS", "the stage itself ran into the limit"
        shop.sound(s)


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
@pytest.mark.parametrize("room", [40, 72, 96, 128, 192, 256])
def test_a_tiny_disk_at_every_step(tmp_path, room):
    """A tmpfs of that many KiB: the golden path runs until it is full; what was recorded is whole."""
    script = f"""
import importlib.util, os, sys
from pathlib import Path
spec = importlib.util.spec_from_file_location("shop", {str(Path(__file__).parents[1] / "shop.py")!r})
shop = importlib.util.module_from_spec(spec); spec.loader.exec_module(shop)
from muniment.domain.errors import MunimentError
base = Path(sys.argv[1])
here = shop.Shop(base / "disk")
(base / "disk" / "in").symlink_to(base / "in"); (base / "in").mkdir()
try:
    here.init()
    with here.open() as s:
        here.two(s)
    print("fitted")
except MunimentError as error:
    print(error.exit_code, error.code, error.message)
(base / "disk" / "room").unlink(missing_ok=True)
os.system(f"mount -o remount,size=16m {{base / 'disk'}}")
try:
    here.init()
except MunimentError as error:
    assert error.code == "store.exists", error
with here.open() as s:
    shop.sound(s)
    here.pack(s, "after", "after")
    shop.sound(s)
"""
    (tmp_path / "disk").mkdir()
    (tmp_path / "home").mkdir()
    run = tmp_path / "run.py"
    run.write_text(script)
    command = f"mount -t tmpfs -o size={room}k tmpfs {tmp_path}/disk && {sys.executable} {run} {tmp_path}"
    env = {**os.environ, "MUNIMENT_HOME": str(tmp_path / "home")}
    done = subprocess.run(
        ["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, env=env, timeout=60
    )
    if "mount: " in done.stderr or "unshare: " in done.stderr:
        pytest.skip(f"no mount here: {done.stderr[:100]}")
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.split()[0] in ("8", "fitted"), done.stdout


@pytest.mark.skipif(os.geteuid() != 0, reason="mounting needs root")
def test_a_read_only_store_answers_and_refuses_to_write(here, tmp_path):
    with here.open() as s:
        here.good(s)
    script = """
import sys
from muniment.app.session import Session
from muniment.domain import channel
from muniment.domain.errors import MunimentError
from muniment.app import building
with Session(sys.argv[1]) as s:
    assert building.state_of(s, "b-1").outcome == "ELIGIBLE"
    size = s.log.head().size
try:
    with Session(sys.argv[1], write=True) as s:
        s.run(channel.Declare("a/b", ["c"], []))
except MunimentError as error:
    print(error.exit_code, error.code)
"""
    mount = f"mount --bind {here.at} {here.at} && mount -o remount,ro,bind {here.at}"
    command = f"{mount} && {sys.executable} -c '{script}' {here.at}"
    done = subprocess.run(["unshare", "-m", "sh", "-c", command], capture_output=True, text=True, timeout=60)
    if "mount: " in done.stderr:
        pytest.skip(f"no mount here: {done.stderr[:100]}")
    assert (0, "") == (done.returncode, done.stderr)
    assert done.stdout.startswith("8 "), done.stdout
