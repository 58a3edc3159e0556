"""What `snapshot` cannot show, or cannot record: the exit code, and that nothing half is left."""

from __future__ import annotations

import json
import os
import shutil
import socket
import sqlite3
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.app.session import Session
from muniment.ring import _ring


@pytest.fixture
def here(place: Callable[[str], Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A store, a runtime folder, and a ring `good` that nobody holds."""
    root = place("empty")
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "runtime"))
    with _ring.Ring.create(root / "good", capacity=8, slot_bytes=64, stages=[0]) as ring:
        ring.producer().close()
    return root


def size(root: Path) -> int:
    with Session(root / "store") as session:
        return int(session.log.head().size)


def damaged(root: Path, at: int, value: bytes) -> None:
    data = bytearray((root / "good").read_bytes())
    data[at : at + len(value)] = value
    (root / "bad").write_bytes(data)


MADE: dict[str, Callable[[Path], object]] = {
    "garbage": lambda root: (root / "bad").write_bytes(bytes(range(256)) * 99),
    "empty": lambda root: (root / "bad").write_bytes(b""),
    "another magic": lambda root: damaged(root, 0, b"MRN2"),
    "cut short": lambda root: (root / "bad").write_bytes((root / "good").read_bytes()[:-4096]),
    "header only": lambda root: (root / "bad").write_bytes((root / "good").read_bytes()[:64]),
    "a folder": lambda root: (root / "bad").mkdir(),
    "a link": lambda root: (root / "bad").symlink_to("good"),
    "a fifo": lambda root: os.mkfifo(root / "bad"),
    "a socket": lambda root: socket.socket(socket.AF_UNIX).bind("bad"),
}


@pytest.mark.parametrize("kind", MADE)
@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the socket
def test_what_is_no_ring_is_wrong(here: Path, cli: Callable[..., Any], kind: str) -> None:
    MADE[kind](here)
    before = size(here)
    said = cli("-o", "json", "snapshot", "--ring-path", "bad", "-O", "out.json")
    assert (said.code, said.json["code"]) == (7, "snapshot.not_a_ring")
    assert (size(here), (here / "out.json").exists()) == (before, False)
    # only of what began as a ring it is said that a run makes it anew: nobody is to think that of a file of somebody else
    assert ("recreated" in said.json["hint"]) == (kind in {"cut short", "header only"})


@pytest.mark.parametrize("path", ["none", "good/none", "a\nb", "x" * 300, "a\0b"])
def test_a_ring_that_is_not_there(here: Path, cli: Callable[..., Any], path: str) -> None:
    said = cli("-o", "json", "snapshot", "--ring-path", path)
    assert said.code == (8 if len(path) == 300 else 3), said
    assert "\n" not in said.json["message"]


@pytest.mark.parametrize(
    ("words", "code", "word"),
    [
        ((), 2, "snapshot.which"),
        (("--run", "demo", "--ring-path", "good"), 2, "snapshot.which"),
        (("--run", ""), 2, "cli.empty"),
        (("--ring-path", ""), 2, "cli.empty"),
        (("--ring-path", "good", "--incident", ""), 2, "cli.empty"),
        (("--ring-path", "good", "--incident", "i-1", "--no-record"), 2, "snapshot.incident"),
        (("--ring-path", "good", "--incident", "no name"), 2, "name.syntax"),
        (("--ring-path", "good", "--incident", "i-9"), 3, "snapshot.incident"),
        (("--ring-path", "good", "-O", "."), 5, "snapshot.exists"),
        (("--ring-path", "good", "-O", "good"), 5, "snapshot.exists"),
        (("--ring-path", "good", "-O", "none/out"), 8, "snapshot.unwritable"),
        (("--ring-path", "good", "-O", "a\0b"), 8, "snapshot.unwritable"),
        (("--run", "demo"), 3, "run.none"),
        (("--run", "../demo"), 3, "run.none"),
        (("--ring-path", "good", "--limit", "3"), 2, "cli.option_unused"),
        (("--ring-path", "good", "--dry-run"), 2, ""),
        (("good",), 2, ""),
    ],
)
def test_refused_and_nothing_half(
    here: Path, cli: Callable[..., Any], words: tuple[str, ...], code: int, word: str
) -> None:
    before, ring, files = size(here), (here / "good").read_bytes(), sorted(here.iterdir())
    out = () if "-O" in words else ("-O", "out.json")
    said = cli("-o", "json", "snapshot", *words, *out)
    assert (said.code, word in said.json["code"]) == (code, True), said
    assert (size(here), sorted(here.iterdir())) == (before, files), "no record, no file"
    assert (here / "good").read_bytes() == ring


def runtime(here: Path) -> Path:
    folder = Path(os.environ["MUNIMENT_RUNTIME"])
    folder.mkdir(mode=0o700)
    return folder


def test_a_runtime_folder_that_others_can_write_or_own_is_unfit(here: Path, cli: Callable[..., Any]) -> None:
    folder = runtime(here)
    folder.chmod(0o770)
    said = cli("-o", "json", "snapshot", "--run", "demo")
    assert (said.code, said.json["code"]) == (9, "runtime.mode")
    folder.chmod(0o700)
    (folder / "demo").symlink_to(here)
    said = cli("-o", "json", "snapshot", "--run", "demo")
    assert (said.code, said.json["code"]) == (9, "runtime.kind")


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_runtime_folder_of_somebody_else_is_unfit(here: Path, cli: Callable[..., Any]) -> None:
    os.chown(runtime(here), 65534, 65534)
    said = cli("-o", "json", "snapshot", "--run", "demo")
    assert (said.code, said.json["code"]) == (9, "runtime.owner")


def placed(here: Path, run: str) -> Path:
    """The folder of a run `demo` that is over, its ring still there."""
    folder = runtime(here) / "demo"
    folder.mkdir(mode=0o700)
    shutil.copy(here / "good", folder / "ring")
    (folder / "run.json").write_text(run)
    return folder


RUN = {
    "ended_unix_ns": "5",
    "pid": 1,
    "run": "run-1",
    "run_v": 1,
    "spec": "demo",
    "spec_sha256": "a" * 64,
    "started_unix_ns": "4",
}


def test_a_run_that_is_over_and_one_whose_ring_is_gone(here: Path, cli: Callable[..., Any]) -> None:
    folder = placed(here, json.dumps(RUN))
    for key in ("demo", "run-1"):
        said = cli("-o", "json", "snapshot", "--run", key).json["data"]
        assert (said["live"], said["run"], said["spec"]) == (False, "run-1", "demo")
    assert "(not running any more)" in cli("snapshot", "--run", "demo").out
    (folder / "ring").unlink()
    said = cli("-o", "json", "snapshot", "--run", "demo")
    assert (said.code, said.json["code"]) == (3, "snapshot.no_ring")


@pytest.mark.parametrize("text", ["", "{", "[]", json.dumps({**RUN, "spec": "other"}), "[" * 5000])
def test_a_run_that_does_not_say_whose_it_is(here: Path, cli: Callable[..., Any], text: str) -> None:
    placed(here, text)
    said = cli("-o", "json", "snapshot", "--run", "demo")
    assert (said.code, said.json["code"]) == (7, "run.damaged")


@pytest.mark.parametrize("lanes", [b"{", b"[]", b'{"spec_sha256": 1, "lanes": [1], "roles": []}', b"\xff"])
def test_lanes_whose_run_says_nonsense_are_shown_by_number(
    here: Path, cli: Callable[..., Any], lanes: bytes
) -> None:
    folder = placed(here, json.dumps(RUN))
    (folder / "lanes").mkdir(mode=0o700)
    (folder / "ring").rename(folder / "lanes" / "in")
    (folder / "lane_graph_state.json").write_bytes(lanes)
    said = cli("-o", "json", "snapshot", "--run", "demo").json["data"]
    assert [(ring["lane"], ring["gating"][0]["stage"]) for ring in said["rings"]] == [("in", "0")]
    assert (said["graph"]["roles"], said["positions"] != []) == ([], True)


def no_store(root: Path) -> None:
    shutil.rmtree(root / "store")


def broken_store(root: Path) -> None:
    for path in (root / "store").glob("log.db*"):
        path.write_bytes(b"nothing" * 999)


@pytest.mark.parametrize("harm", [no_store, broken_store])
def test_without_a_store_it_is_shown_and_says_that_it_is_not_recorded(
    here: Path, cli: Callable[..., Any], harm: Callable[[Path], None]
) -> None:
    harm(here)
    said = cli("snapshot", "--ring-path", "good", "-O", "out.json")
    assert said.code == 0
    assert "\n  not recorded: " in said.out
    assert "record #" not in said.out
    assert json.loads((here / "out.json").read_bytes())["snapshot_v"] == 1
    told = cli("-o", "json", "snapshot", "--ring-path", "good").json["data"]
    assert (told["positions"], told["not_recorded"] != "") == ([], True)
    asked = cli("snapshot", "--ring-path", "good", "-O", "other.json", "--incident", "i-1")
    assert asked.code in (3, 7, 8)
    assert not (here / "other.json").exists()


def test_a_store_that_somebody_holds_is_waited_for_but_not_for_long(
    here: Path, cli: Callable[..., Any]
) -> None:
    held = sqlite3.connect(here / "store" / "log.db", isolation_level=None)
    try:
        held.execute("BEGIN IMMEDIATE")
        said = cli("snapshot", "--ring-path", "good")
    finally:
        held.close()
    assert said.code == 0
    assert "\n  not recorded: " in said.out


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_store_that_may_only_be_read(here: Path, cli: Callable[..., Any]) -> None:
    for path in [*(here / "store").rglob("*"), here / "store"]:
        path.chmod(0o500 if path.is_dir() else 0o400)
    try:
        said = cli("snapshot", "--ring-path", "good")
    finally:
        for path in [here / "store", *(here / "store").rglob("*")]:
            path.chmod(0o700 if path.is_dir() else 0o600)
    assert (said.code, "\n  not recorded: " in said.out) == (0, True)


def test_no_record_needs_no_store(here: Path, cli: Callable[..., Any]) -> None:
    before = size(here)
    said = cli("snapshot", "--ring-path", "good", "--no-record")
    assert (said.code, "not recorded: --no-record" in said.out, size(here)) == (0, True, before)


def test_dash_is_no_file_to_write(here: Path, cli: Callable[..., Any]) -> None:
    said = cli("-o", "json", "snapshot", "--ring-path", "good", "-O", "-")
    assert (said.code, said.json["code"], (here / "-").exists()) == (2, "snapshot.out", False)
    assert cli("snapshot", "--ring-path", "good", "-O", "./-", "--no-record").code == 0
    assert json.loads((here / "-").read_text())["snapshot_v"] == 1


def test_quiet_says_the_record_alone(here: Path, cli: Callable[..., Any]) -> None:
    assert cli("snapshot", "--ring-path", "good", "-q").out == f"#{size(here)}\n"
    assert cli("snapshot", "--ring-path", "good", "-q", "--no-record").out == ""


def test_a_runtime_folder_that_others_use_is_not_to_be_closed_blindly(
    here: Path, cli: Callable[..., Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    """`MUNIMENT_RUNTIME=/etc` advised `chmod 700 /etc`."""
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(here))
    here.chmod(0o755)
    said = cli("-o", "json", "snapshot", "--run", "p")
    assert (said.code, said.json["code"]) == (9, "runtime.mode")
    assert said.json["hint"].startswith("set MUNIMENT_RUNTIME")
    reasons = [check["reason"] for check in cli("doctor", "-o", "json").json["data"]["checks"]]
    assert any(reason.startswith("set MUNIMENT_RUNTIME to a folder of its own") for reason in reasons)
