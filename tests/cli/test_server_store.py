"""A store that is no folder: whose clock decides, where work and evidence lie, what another user finds (decision 0009)."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Any

import pytest
from muniment.store.open import open_log
from muniment.store.postgres_log import PostgresLog

DAY_NS = 86_400 * 10**9


@pytest.fixture
def url(cli: Callable[..., Any], pg_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """A store on a server, named by MUNIMENT_STORE."""
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.setenv("MUNIMENT_STORE", pg_url)
    monkeypatch.delenv("MUNIMENT_EVIDENCE", raising=False)
    monkeypatch.chdir(tmp_path)
    assert cli("init").code == 0
    return pg_url


def do(cli: Callable[..., Any], *words: str, code: int = 0) -> dict[str, Any]:
    ran = cli(
        *words[: (cut := words.index("--") if "--" in words else len(words))], "-o", "json", *words[cut:]
    )
    assert ran.code == code, ran.out + ran.err
    said: dict[str, Any] = json.loads((ran.out or ran.err).splitlines()[-1])
    return said


def records(url: str) -> list[dict[str, Any]]:
    with closing(open_log(url, read_only=True)) as log:
        return [json.loads(body) for _, body in log.read()]


def test_the_server_clock_decides_whatever_the_host_says(
    cli: Callable[..., Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    born = records(url)[0]["recorded_at"][:10]
    host = time.time_ns
    monkeypatch.setattr(time, "time_ns", lambda: host() + 400 * DAY_NS)
    do(cli, "channel", "declare", "prod/stable", "--cohort", "all")
    do(cli, "channel", "freeze", "prod/stable", "--expires", "1s", "--reason", "x")
    frozen = records(url)[-1]
    assert frozen["type"] == "channel.frozen/1"
    assert {frozen[name][:4] for name in ("occurred_at", "recorded_at")} == {born[:4]}
    assert frozen["data"]["expires_at"][:4] == born[:4]
    assert "clock.jump_observed/1" not in {record["type"] for record in records(url)}
    monkeypatch.setenv("MUNIMENT_STORE", "folder")
    monkeypatch.setattr(time, "time_ns", host)
    do(cli, "init")
    monkeypatch.setattr(time, "time_ns", lambda: host() + 400 * DAY_NS)
    assert do(cli, "channel", "declare", "prod/x", "--cohort", "a", code=8)["code"] == "clock.jump_refused"


def test_a_jump_of_the_server_clock_is_refused_until_a_person_accepts_it(
    cli: Callable[..., Any], url: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = PostgresLog.now
    monkeypatch.setattr(PostgresLog, "now", lambda log: now(log) + DAY_NS // 1000)
    said = do(cli, "channel", "declare", "prod/stable", "--cohort", "all", code=8)
    assert said["code"] == "clock.jump_refused"
    assert "the clock of the server of postgresql://" in said["message"]
    assert len(records(url)) == 2
    monkeypatch.setattr(PostgresLog, "now", lambda log: now(log) - DAY_NS // 1000)
    do(cli, "channel", "declare", "prod/stable", "--cohort", "all", code=0)


def test_work_lies_in_the_home_and_a_build_goes_on_where_it_began(
    cli: Callable[..., Any], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("x")
    before = set(tmp_path.iterdir())
    do(cli, "intake", "add", "in", "--id", "in-1")
    do(cli, "build", "start", "--product", "p", "--intake", "in-1", "--id", "b-1")
    do(cli, "build", "stage", "compile", "--build", "b-1", "--", "true", code=6)
    report = '{"verdict":"PASS","checks":[{"id":"c","verdict":"PASS","expected":"0","observed":"0"}]}'
    do(
        cli,
        "build",
        "stage",
        "validate",
        "--build",
        "b-1",
        "--",
        "sh",
        "-c",
        f"echo '{report}' >$0/r.json",
        "{output}",
    )
    gate = ("build", "gate", "validate", "--build", "b-1", "--from", "{out.validate}/r.json")
    (store,) = (tmp_path / "home" / "stores").iterdir()
    assert {path.name for path in store.iterdir()} == {"keys", "exports", "work"}
    assert set(tmp_path.iterdir()) == before, "nothing is made where the command is run"
    assert all(path.stat().st_mode & 0o077 == 0 for path in (store, *store.iterdir()))
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "elsewhere"))
    assert do(cli, *gate, code=2)["code"] == "build.no_outputs"
    assert do(cli, "verify", "store")["data"]["ok"] is True
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    do(cli, *gate)
    (checkpoint,) = store.glob("exports/checkpoint-2")
    checkpoint.write_bytes(checkpoint.read_bytes().replace(b"\n2\n", b"\n3\n"))
    assert do(cli, "verify", "store", code=7)["data"]["ok"] is False, "the exports in the home are verified"


@pytest.mark.parametrize("how", ["variable", "url"])
def test_evidence_in_a_shared_folder(
    cli: Callable[..., Any], url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, how: str
) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("x")
    shared = tmp_path / "shared"
    if how == "variable":
        monkeypatch.setenv("MUNIMENT_EVIDENCE", str(shared))
    else:
        monkeypatch.setenv("MUNIMENT_STORE", f"{url}{'&' if '?' in url else '?'}evidence={shared}")
    failed = cli("intake", "add", "in", "--id", "in-1")
    assert failed.code == 8, "a folder that is not mounted has no evidence to lose"
    assert not shared.exists()
    (shared / "evidence").mkdir(parents=True)
    do(cli, "intake", "add", "in", "--id", "in-1")
    assert len([path for path in (shared / "evidence").rglob("*") if path.is_file()]) == 2
    assert do(cli, "verify", "store")["data"]["ok"] is True
    assert do(cli, "evidence-summary", "in-1", "--check")["data"]["verdict"] == "checked"
    (shared / "evidence").rename(shared / "gone")
    assert do(cli, "verify", "store", "--no-remember", code=8)["data"]["ok"] is False


def test_who_follows_is_told_from_where_to_go_on(
    cli: Callable[..., Any], postgres_place: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    with postgres_place.server() as server:
        monkeypatch.setenv("MUNIMENT_STORE", server.url())
        assert cli("init").code == 0
        program = [sys.executable, "-c", "from muniment.cli.main import main; main()"]
        following = subprocess.Popen(
            [*program, "history", "follow", "--after", "1", "-o", "jsonl"],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert following.stdout is not None
        assert json.loads(following.stdout.readline())["position"] == 2
        server.stop("immediate")
        _, said = following.communicate(timeout=60)
    assert following.returncode == 8
    assert "--after 2 " in json.loads(said)["hint"]
