"""`doctor` on the command line: the answer, the exit code, the record, and what a run that needs the record is told."""

from __future__ import annotations

import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import hosts
import msgspec
import pytest
from muniment.app import host_check_facts, tuning
from muniment.app.session import Session
from muniment.domain.errors import UnfitError
from muniment.domain.query import Item

ITEM = Item(("runtime.host_checked/1",))
RUNNING = {"engine": ""}


@pytest.fixture
def host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> hosts.Host:
    """The good host is the one that `doctor` looks at."""
    made = hosts.Host(tmp_path / "host")
    monkeypatch.setattr(host_check_facts, "HostFacts", lambda: made.facts)
    return made


@pytest.fixture
def bare(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user who has nothing yet."""
    for name in ("MUNIMENT_STORE", "MUNIMENT_SIGN", "XDG_STATE_HOME", "MUNIMENT_RUNTIME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return tmp_path / "work"


def records(store: Path) -> list[dict[str, Any]]:
    with Session(store) as session:
        return [msgspec.json.decode(body) for _, body in session.log.read((ITEM,))]


@pytest.mark.parametrize("profile", list(tuning.PROFILES))
def test_a_good_host_is_fit_and_recorded(
    built: Path, host: hosts.Host, cli: Callable[..., Any], profile: str
) -> None:
    said = cli("-o", "json", "doctor", "--profile", profile).json
    assert said["data"]["ok"] is True
    assert {check["state"] for check in said["data"]["checks"]} == {"applied"}
    [record] = records(built / "store")
    assert record["data"]["profile"] == profile
    assert record["data"]["ok"] is True
    assert record["data"]["host_id"] == host.facts.host_id
    with Session(built / "store") as session:
        report = json.loads(session.evidence.read(record["evidence"][0]["blake3"], limit=1 << 20))
        assert said["data"]["position"] == session.log.head().size
    kept = {key: value for key, value in said["data"].items() if key not in ("position", "not_recorded")}
    assert report == kept


def test_a_bad_host_is_unfit_and_recorded_all_the_same(
    built: Path, host: hosts.Host, cli: Callable[..., Any]
) -> None:
    host.given["memlock"] = (8192, 8192)
    ran = cli("doctor", "--profile", "low-latency")
    assert ran.code == 9
    first, second, *_ = ran.out.splitlines()
    assert first.startswith("UNFIT  this host for profile low-latency")
    assert second.startswith("  failed     memory.lock")
    assert ran.out.splitlines()[-1] == "  next   muniment doctor --profile low-latency"
    [record] = records(built / "store")
    assert record["data"]["ok"] is False
    assert cli("doctor").code == 0, "the default profile does without"


@pytest.mark.parametrize("words", [("--profile", "fastest"), ("--profile", ""), ("--limit", "3"), ("x",)])
def test_a_malformed_request_says_nothing_about_the_host(
    built: Path, host: hosts.Host, cli: Callable[..., Any], words: tuple[str, ...]
) -> None:
    assert cli("doctor", *words).code == 2
    assert records(built / "store") == []


def test_no_record(built: Path, host: hosts.Host, cli: Callable[..., Any]) -> None:
    ran = cli("doctor", "--no-record")
    assert ran.code == 0
    assert "  not recorded: --no-record" in ran.out.splitlines()
    assert records(built / "store") == []


def test_a_laptop_without_a_store_is_fit(bare: Path, host: hosts.Host, cli: Callable[..., Any]) -> None:
    ran = cli("doctor")
    assert ran.code == 0
    assert ran.out.splitlines()[-1] == "  next   muniment init"
    assert "  not recorded: no store at" in ran.out
    assert "there is no store yet" in ran.out
    assert list(bare.iterdir()) == [], "nothing was made"
    host.given["engine"] = "not built"
    assert cli("doctor").code == 9


def test_this_host_is_fit_for_the_default_profile(
    bare: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(bare.parent / "run"))  # others may fill what memory there is
    said = cli("-o", "json", "doctor").json
    failed = [check["id"] for check in said["data"]["checks"] if check["state"] == "failed"]
    if failed == ["ring.engine"]:
        pytest.skip("the extension is not built here")
    assert failed == []


def test_a_store_that_is_not_one_is_a_failure(bare: Path, host: hosts.Host, cli: Callable[..., Any]) -> None:
    (bare / ".muniment").mkdir()
    (bare / ".muniment" / "log.db").write_bytes(b"no database" * 100)
    said = cli("-o", "json", "doctor")
    assert said.code == 9
    state = {check["id"]: check["state"] for check in said.json["data"]["checks"]}
    assert {state[id_] for id_ in ("store.reachable", "store.durable", "store.head", "clock.forward")} == {
        "failed"
    }
    assert said.json["data"]["position"] is None
    assert said.json["data"]["not_recorded"]


def test_a_store_cut_back_and_keys_that_others_can_read(
    built: Path, host: hosts.Host, cli: Callable[..., Any]
) -> None:
    with Session(built / "store") as session:
        store_id, size = session.store_id, session.log.head().size
    home = host.root / hosts.HOME.lstrip("/")
    key = home / "keys" / store_id / "a.pem"
    key.parent.mkdir(parents=True, mode=0o700)
    key.touch(mode=0o644)
    assert cli("doctor").code == 9
    key.chmod(0o600)
    assert cli("doctor").code == 0
    heads = Path(hosts.HOME) / "heads"
    assert not heads.exists(), "the home of the test is not that of a user"
    (built / "home" / "heads").mkdir(exist_ok=True)
    seen = {"size": size + 9, "root": "0" * 64, "seen_at": "2026-01-01T00:00:00.000000Z"}
    host.env = {"MUNIMENT_HOME": str(built / "home")}
    (built / "home" / "heads" / f"{store_id}.json").write_text(json.dumps(seen))
    ran = cli("doctor")
    assert ran.code == 9
    assert "store.head" in ran.out.splitlines()[1]


def test_a_clock_that_jumped_and_nobody_accepted(
    built: Path, host: hosts.Host, cli: Callable[..., Any]
) -> None:
    host.env = {"MUNIMENT_HOME": str(built / "home"), "MUNIMENT_RUNTIME": hosts.RUNTIME}
    assert cli("doctor").code == 0
    [cache] = (built / "home" / "writer").glob("*.json")
    last = json.loads(cache.read_bytes())
    cache.write_text(json.dumps(last | {"wall_us": last["wall_us"] - 7_500_000_000}))
    ran = cli("doctor")
    assert ran.code == 9
    assert "muniment clock accept" in ran.out.splitlines()[1]
    assert "  not recorded: the clock of this host jumped forward" in ran.out
    assert len(records(built / "store")) == 1


def test_a_store_on_a_server(bare: Path, host: hosts.Host, cli: Callable[..., Any], pg_url: str) -> None:
    assert cli("init", "--store", pg_url).code == 0
    checks = {
        check["id"]: check for check in cli("-o", "json", "doctor", "--store", pg_url).json["data"]["checks"]
    }
    assert checks["store.reachable"]["state"] == "applied"
    durable = checks["store.durable"]
    assert durable["observed"].startswith("fsync on, full_page_writes ")
    assert durable["state"] == ("applied" if "full_page_writes on" in durable["observed"] else "failed")
    with Session(pg_url) as session:
        assert len(session.facts((ITEM,))) == 1


def test_a_journal_mode_that_is_not_durable(built: Path, host: hosts.Host, cli: Callable[..., Any]) -> None:
    import sqlite3

    with sqlite3.connect(built / "store" / "log.db") as db:
        db.execute("PRAGMA journal_mode = DELETE")
    db.close()
    ran = cli("doctor", "--no-record")
    assert ran.code == 9
    assert "journal_mode must be wal" in ran.out


def test_a_host_nobody_can_name_is_not_recorded(
    built: Path, host: hosts.Host, cli: Callable[..., Any]
) -> None:
    host.put("proc/sys/kernel/random/boot_id", None)
    ran = cli("doctor")
    assert ran.code == 0
    assert "not recorded: this host cannot be told from others" in ran.out
    assert records(built / "store") == []


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_cannot_be_written(built: Path, host: hosts.Host, cli: Callable[..., Any]) -> None:
    places = (built / "store", *(built / "store").glob("log.db*"))
    for path in places:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        ran = cli("doctor")
    finally:
        for path in places:
            path.chmod(0o700 if path.is_dir() else 0o600)
    assert ran.code == 0, ran.out
    assert "not recorded: " in ran.out


def test_a_run_beyond_the_default_needs_the_record(
    built: Path, host: hosts.Host, cli: Callable[..., Any]
) -> None:
    def demand(profile: str) -> None:
        with Session(built / "store") as session:
            tuning.demand_fresh_check(session, profile, host.facts)

    demand("default")
    with pytest.raises(UnfitError) as caught:
        demand("low-latency")
    assert caught.value.hint == "muniment doctor --profile low-latency"
    assert cli("doctor", "--profile", "isolated-core").code == 0
    with pytest.raises(UnfitError, match="never checked for low-latency"):
        demand("low-latency")
    assert cli("doctor", "--profile", "low-latency").code == 0
    demand("low-latency")
    host.given["memlock"] = (8192, 8192)
    assert cli("doctor", "--profile", "low-latency").code == 9
    with pytest.raises(UnfitError, match=r"failed: memory\.lock"):
        demand("low-latency")
    host.given.clear()
    assert cli("doctor", "--profile", "low-latency").code == 0
    demand("low-latency")
    host.put("proc/sys/kernel/random/boot_id", "11111111-0000-0000-0000-000000000000")
    with pytest.raises(UnfitError, match="before this boot"):
        demand("low-latency")
