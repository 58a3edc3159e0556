"""`init`: policies that are none, places that cannot hold a store, and cuts after every step."""

from __future__ import annotations

import base64
import json
import os
import resource
from pathlib import Path

import pytest
import shop
from muniment.app import creating, home, keys
from muniment.app.session import Options
from muniment.domain import admin
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    MunimentError,
    NotFoundError,
    UnfitError,
    UsageError,
    WrongError,
)
from muniment.domain.policy import parse
from muniment.store import sqlite_file
from muniment.store.open import create_log

SOLO = json.loads((Path(__file__).parents[2] / "ops" / "policies" / "solo.json").read_text())


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    return shop.Shop(tmp_path)


def test_what_it_says_is_what_stands_there(here):
    made = here.init("regulated")
    with here.open(write=False) as s:
        first, second = shop.sound(s)
        assert made["store_id"] == first["data"]["store_id"] == s.store_id
        assert ("regulated", made["policy_digest"]) == (second["data"]["policy"], second["data"]["digest"])
        assert made["root"] == s.log.head().root.hex()
        assert first["actor"]["id"]
    note = Path(made["checkpoint"]).read_bytes()
    assert made["root"] in _root(note)
    assert keys.key_id(keys.load_key("log", here.at / "keys")) == made["log_key_id"]
    assert oct(here.at.stat().st_mode & 0o777) == oct((here.at / "keys").stat().st_mode & 0o777) == "0o700"
    assert home.writer_file(made["store_id"]).is_file(), (
        "the first command is judged against the clock of init"
    )


def _root(note: bytes) -> str:
    return base64.b64decode(note.decode().splitlines()[2]).hex()


@pytest.mark.parametrize(
    "bad",
    [
        "",
        "{",
        "[]",
        "null",
        "1",
        "{}",
        json.dumps({**SOLO, "extra": 1}),
        json.dumps({k: v for k, v in SOLO.items() if k != "rollback"}),
        json.dumps({**SOLO, "version": "1"}),
        json.dumps({**SOLO, "version": 1.5}),
        json.dumps({**SOLO, "approvals": {"required": None}}),
        "[" * 100_000,
        "\ufeff\ufeff{}",
        '{"policy": NaN}',
    ],
)
def test_a_policy_document_that_is_none_makes_no_store(here, bad):
    path = here.base / "policy.json"
    path.write_text(bad)
    with pytest.raises(InvalidError) as caught:
        here.init(str(path))
    assert caught.value.exit_code == 10
    assert not here.at.exists()


@pytest.mark.parametrize("kind", ["absent", "folder", "fifo", "nul", "empty name", "device"])
def test_a_policy_that_is_no_file(here, kind):
    path = here.base / "policy.json"
    if kind == "folder":
        path.mkdir()
    elif kind == "fifo":
        os.mkfifo(path)
    name = {"nul": "a\0b", "empty name": "", "device": "/dev/zero"}.get(kind, str(path))
    with pytest.raises(NotFoundError):
        here.init(name)
    assert not here.at.exists()


def test_a_huge_policy_and_one_that_is_no_text(here):
    path = here.base / "policy.json"
    for data in (b" " * (creating.MAX_POLICY + 1), b'{"policy": "\xff"}'):
        path.write_bytes(data)
        with pytest.raises(InvalidError):
            here.init(str(path))
    assert not here.at.exists()


def test_a_policy_of_ones_own(here):
    path = here.base / "mine.json"
    path.write_text(json.dumps({**SOLO, "policy": "mine"}))
    assert ("mine", parse({**SOLO, "policy": "mine"}).digest) == (
        (made := here.init(str(path)))["policy"],
        made["policy_digest"],
    )


@pytest.mark.parametrize("url", ["", "postgresql:h/db", "mysql://x", "a\0b"])
def test_a_place_that_cannot_be_named(here, url):
    with pytest.raises(UsageError):
        creating.create_store(url)


@pytest.mark.parametrize("what", ["file", "parent is a file", "dangling"])
def test_a_place_that_is_no_folder(here, what):
    if what == "file":
        here.at.write_text("mine")
    elif what == "dangling":
        here.at.symlink_to(here.base / "nowhere" / "deep")
    else:
        (here.base / "file").write_text("mine")
        here.at = here.base / "file" / "store"
    with pytest.raises(UsageError) as caught:
        here.init()
    assert caught.value.code == "store.folder"
    assert what != "file" or here.at.read_text() == "mine"


def test_a_network_file_system(here, monkeypatch):
    kinds = {line.partition(" - ")[2].split(" ")[0] for line in sqlite_file.MOUNTS.read_text().splitlines()}
    monkeypatch.setattr(sqlite_file, "NETWORK_FILE_SYSTEMS", frozenset(kinds))
    with pytest.raises(UnfitError):
        here.init()
    assert not (here.at / "log.db").exists()


def test_a_user_without_a_home_makes_nothing(here, monkeypatch):
    for name in ("MUNIMENT_HOME", "XDG_STATE_HOME", "HOME"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setattr(Path, "home", lambda: (_ for _ in ()).throw(RuntimeError("no home")))
    with pytest.raises(UnfitError):
        here.init()
    assert not here.at.exists()


def test_a_store_is_made_once(here):
    made = here.init()
    with pytest.raises(ConflictError) as caught:
        here.init("team")
    assert ("store.exists", 5) == (caught.value.code, caught.value.exit_code)
    with here.open() as s:
        assert (2, made["store_id"]) == (s.log.head().size, s.store_id)
        here.taken(s)
    (here.at / "exports" / "checkpoint-2").unlink()
    with pytest.raises(ConflictError):
        here.init()  # it has grown: nothing to go on with


@pytest.mark.parametrize("cut", ["log", "key", "records"])
def test_init_goes_on_where_it_was_cut(here, cut):
    create_log(str(here.at), "records").close()
    if cut == "key":
        keys.create_key("log", here.at / "keys")
    elif cut == "records":
        here.init()
        (here.at / "exports" / "checkpoint-2").unlink()
    made = here.init("team")
    with here.open() as s:
        found = shop.sound(s)
        assert [2, made["policy"]] == [len(found), "solo" if cut == "records" else "team"]
        assert made["policy"] == found[1]["data"]["policy"], "it says what stands there"
    text = (here.at / "exports" / "checkpoint-2").read_text()
    assert f"muniment/{made['store_id']}\n2\n" in text


def test_a_key_that_is_not_the_stores_signs_no_head(here):
    here.init()
    (here.at / "exports" / "checkpoint-2").unlink()
    (here.at / "keys" / "log.pem").unlink()
    with pytest.raises(WrongError) as caught:
        here.init()
    assert caught.value.code == "store.log_key"
    assert not (here.at / "exports" / "checkpoint-2").exists()


@pytest.mark.parametrize("mode", [0o644, 0o640, 0o604])
def test_a_key_that_others_can_read_is_not_used(here, mode):
    create_log(str(here.at), "records").close()
    keys.create_key("log", here.at / "keys")
    (here.at / "keys" / "log.pem").chmod(mode)
    with pytest.raises(UnfitError) as caught:
        here.init()
    assert caught.value.exit_code == 9
    with here.open() as s:
        assert s.log.head().size == 0


def test_many_inits_at_once_make_one_store(here):
    answer, answering = os.pipe()
    pids = []
    for _ in range(6):
        if (pid := os.fork()) == 0:
            try:
                word = here.init()["store_id"]
            except MunimentError as error:
                word = error.code
            except BaseException as error:
                word = repr(error)
            os.write(answering, f"{word}\n".encode())
            os._exit(0)
        pids.append(pid)
    os.close(answering)
    with os.fdopen(answer) as pipe:
        answers = pipe.read().split()
    for pid in pids:
        os.waitpid(pid, 0)
    assert len(answers) == 6
    with here.open() as s:
        shop.sound(s)
        assert s.log.head().size == 2, "one birth"
        assert {s.store_id} == {a for a in answers if a.startswith("s-")}
    assert {a for a in answers if not a.startswith("s-")} <= {"store.exists"}


@pytest.mark.parametrize("limit", [0, 1, 100, 4096, 20_000])
def test_a_full_disk_is_eight_and_init_works_after(here, limit):
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (limit, hard))
    try:
        with pytest.raises(MunimentError) as caught:
            here.init()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 8, caught.value.code
    assert here.init()["size"] == 2
    with here.open() as s:
        shop.sound(s)


def test_a_full_disk_at_the_checkpoint(here):
    made = here.init()
    Path(made["checkpoint"]).unlink()
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    with here.open(
        write=False
    ):  # keeps the shared memory of SQLite, so that only the checkpoint meets the limit
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, hard))
        try:
            with pytest.raises(MunimentError) as caught:
                here.init()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert caught.value.exit_code == 8
    assert made["store_id"] == here.init()["store_id"]


def test_a_second_birth_is_refused_by_the_log_itself(here):
    """Two guards: the expected position 0 of init, and the decider, which knows a store by its policy."""
    here.init()
    with here.open() as s:
        made = shop.records(s)[0]["data"]
        command = admin.Init(
            "s-other",
            "records",
            {"record": "1"},
            made["log_key_id"],
            made["log_public_key"],
            "muniment/x",
            SOLO,
        )
        with pytest.raises(ConflictError):
            s.run(command, Options(expect=0))
        assert s.log.head().size == 2
