"""The demo's story on SQLite, copied to PostgreSQL and back by the installed command: one log in three places."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from contextlib import closing
from pathlib import Path

import copies
import pytest
from muniment.store import checkpoint
from muniment.store.open import open_log


@pytest.fixture(scope="module")
def told(tmp_path_factory):
    """The story, told once; the folder with `demo-store` and a home."""
    base = tmp_path_factory.mktemp("told")
    run(base, "demo", "--store", "demo-store")
    return base


def environment(base: Path) -> dict[str, str]:
    """With the installed command first, and a home of its own."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith("MUNIMENT_")}
    binaries = Path(sys.executable).parent
    return {**kept, "PATH": f"{binaries}:{kept['PATH']}", "MUNIMENT_HOME": str(base / "home")}


def run(base: Path, *words: str, code: int = 0) -> str:
    done = subprocess.run(
        ["muniment", *words],
        cwd=base,
        env=environment(base),
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == code, (words, done.stdout, done.stderr)
    return done.stdout


def said(base: Path, *words: str, code: int = 0) -> dict:
    return json.loads(run(base, *words, "-o", "json", code=code))


def test_the_story_is_the_same_in_three_places(told, pg_url, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(told / "home"))
    there = copies.url_in("postgres", told, pg_url, "story")
    stores = ("demo-store", there, "back")
    moved = said(told, "store", "copy", "demo-store", there)["data"]
    assert said(told, "store", "copy", there, "back")["data"]["root"] == moved["root"]
    digests, roots, facts = [], [], []
    for store in stores:
        report = said(told, "verify", "store", "--store", store)
        assert all(check["verdict"] in {"pass", "not_applicable"} for check in report["data"]["checks"])
        roots.append(report["data"]["head"])
        digests.append(said(told, "projection", "digest", "--store", store)["data"])
        facts.append(copies.facts(store if "://" in store else str(told / store)))
        said(told, "verify", "store", "--store", store, "--against", f"{moved['size']}:{moved['root']}")
    for values in (roots, digests, facts):
        assert values[0] == values[1] == values[2]
    assert moved["root"] == roots[0]["root"]
    for name, note in facts[0]["exports"].items():  # a proof from before holds against each of them
        stated = checkpoint.parse(note).checkpoint
        head = f"{stated.size}:{stated.root.hex()}"
        for store in stores:
            said(told, "verify", "store", "--store", store, "--against", head)
        assert name == f"checkpoint-{stated.size}"
    run(told, "channel", "freeze", "prod", "--id", "fz-9", "--reason", "copied", "--store", there)
    run(told, "channel", "freeze", "prod", "--id", "fz-9", "--reason", "copied", "--store", "back")
    for store, size in (
        ("demo-store", moved["size"]),
        (there, moved["size"] + 1),
        ("back", moved["size"] + 1),
    ):
        with closing(open_log(store if "://" in store else told / store)) as log:
            assert log.head().size == size
    # the reader's own memory of the head finds the fork: two stores of one name went on apart
    wrong = said(told, "verify", "store", "--store", there)
    assert wrong["data"]["ok"]
    fork = said(told, "verify", "store", "--store", "back", code=7)
    assert [c["id"] for c in fork["data"]["checks"] if c["verdict"] == "fail"] == ["head.last_seen"]


def test_a_backup_is_made_checked_and_restored(told, pg_url):
    made = said(told, "store", "backup", "made", "--store", "demo-store")["data"]
    assert made["finished"]
    assert said(told, "store", "restore", "made", "--check")["data"]["root"] == made["root"]
    there = copies.url_in("postgres", told, pg_url, "restored")
    assert said(told, "store", "restore", "made", there)["data"]["root"] == made["root"]
    run(told, "store", "restore", "made", there, code=5)
    run(told, "store", "restore", "made", code=2)
    run(told, "store", "restore", "made", "x", "--check", code=2)
    for words in (("history", "list"), ("verify", "store"), ("init",)):
        run(told, *words, "--store", "made", code=8)
    (told / "made" / "log.db").write_bytes(b"")
    run(told, "store", "restore", "made", "nothing", code=7)
    assert not (told / "nothing").exists()
    run(told, "store", "restore", "none", "nothing", code=3)


def test_a_gap_is_exit_7_with_or_without_as_is(told):
    copies.clone(told / "demo-store", told / "holey")
    gone = copies.blob_path(told / "holey")
    gone.unlink()
    text = run(told, "store", "copy", "holey", "target", code=7)
    assert "NOT copied, unfinished" in text
    assert "wrong    evidence." in text
    run(told, "verify", "store", "--store", "target", code=8)
    assert "copied  store" in run(told, "store", "copy", "holey", "target", "--as-is", code=7)
    run(told, "verify", "store", "--store", "target", code=7)


def test_no_password_is_shown(told):
    url = "postgresql://me:hunter2@127.0.0.1:1/none"
    for words in (("copy", "demo-store", url), ("copy", url, "to"), ("restore", "made2", url)):
        done = subprocess.run(
            ["muniment", "store", *words, "-v"],
            cwd=told,
            env=environment(told),
            capture_output=True,
            text=True,
            timeout=60,
        )
        assert done.returncode in (3, 8), done.stderr
        assert "hunter2" not in done.stdout + done.stderr
