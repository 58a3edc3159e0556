"""`store backup` and `store restore`: a consistent folder, and nothing that looks like a store out of a bad one."""

from __future__ import annotations

import hashlib
import json
import multiprocessing
import os
import shutil
import signal
from contextlib import closing
from pathlib import Path

import copies
import pytest
from copies import KINDS, unfinished
from muniment.app import backup as backups
from muniment.app import backup_manifest, copying, home
from muniment.domain.canonical import encode
from muniment.domain.errors import ConflictError, InvalidError, NotFoundError, UsageError, WrongError
from muniment.store.copy import copy_records
from muniment.store.copy_place import begin
from muniment.store.open import open_log
from postgres_programs import wait

NOW = 1_790_000_000_000_000


@pytest.fixture
def made(source, tmp_path):
    """A backup of the source."""
    done, manifest = backups.backup(source, str(tmp_path / "made"), now=NOW)
    assert (done.exit_code, manifest is None) == (0, False)
    return str(tmp_path / "made")


def resign(folder: str, **more) -> None:
    """Change the manifest and its digest with it."""
    path = Path(folder) / "backup.json"
    said = {**json.loads(path.read_bytes()), **more}
    said["digest"] = hashlib.sha256(
        encode({key: value for key, value in said.items() if key != "digest"})
    ).hexdigest()
    path.write_text(json.dumps(said))


@KINDS
def test_what_was_backed_up_is_what_is_restored(source, place, kind, tmp_path):
    if kind == "postgres":
        copying.copy(source, place(kind, "live"))
    store = source if kind == "folder" else place(kind, "live")
    before = copies.facts(store)
    done, manifest = backups.backup(store, str(tmp_path / "made"), now=NOW)
    assert (done.exit_code, manifest.made_at[:4], manifest.as_is) == (0, "2026", 0)
    assert backups.check(str(tmp_path / "made")).wrong == []
    for target in (place("folder", "there"), place("postgres", "there") if kind == "postgres" else None):
        if target:
            done, warning = backups.restore(str(tmp_path / "made"), target)
            assert (done.exit_code, warning) == (0, "")
            assert copies.facts(target) == before
            copies.sound(target)
            copies.write_one(target)
    backups.check(str(tmp_path / "made"))


def test_a_backup_is_no_store(made, tmp_path):
    unfinished(made)
    for write in (copies.write_one, lambda url: copying.copy(url, str(tmp_path / "other"))):
        with pytest.raises(Exception, match="no store"):
            write(made)
    with pytest.raises(ConflictError):
        copying.copy(str(tmp_path / "source"), made)
    with pytest.raises(ConflictError) as caught:
        backups.backup(str(tmp_path / "source"), made, now=NOW)
    assert caught.value.code == "backup.exists"
    backups.check(made)


def test_no_private_key_is_in_a_backup(source, made):
    secret = (Path(source) / "keys" / "log.pem").read_bytes().splitlines()[1]
    assert not [path for path in Path(made).rglob("*") if path.is_file() and secret in path.read_bytes()]


def test_it_holds_its_evidence_wherever_stores_keep_theirs(source, tmp_path, monkeypatch):
    shared = tmp_path / "shared"
    shared.mkdir()
    (Path(source) / "evidence").rename(shared / "evidence")
    monkeypatch.setenv("MUNIMENT_EVIDENCE", str(shared))
    done, _ = backups.backup(source, str(tmp_path / "made"), now=NOW)
    assert (done.shared, done.files.copied) == (False, done.files.files)
    shutil.rmtree(shared / "evidence")
    (shared / "evidence").mkdir()
    done, _ = backups.restore(str(tmp_path / "made"), str(tmp_path / "there"))
    assert done.files.copied == done.files.files > 0


def test_records_left_in_the_write_ahead_log_are_in_the_file(source, tmp_path):
    pid = os.fork()
    if pid == 0:  # all records are there, and nobody closed the log
        try:
            with copying.opened(source) as one:
                copy_records(one.log, begin(str(tmp_path / "made"), "records"), one.log.head(), copying.quiet)
        finally:
            os._exit(0)
    os.waitpid(pid, 0)
    assert (tmp_path / "made" / "log.db-wal").stat().st_size
    done, _ = backups.backup(source, str(tmp_path / "made"), now=NOW)
    assert done.begun == done.head.size
    assert backups.check(str(tmp_path / "made")).manifest.size == done.head.size
    shutil.copytree(tmp_path / "made", tmp_path / "moved", ignore=shutil.ignore_patterns("log.db-*"))
    assert backups.restore(str(tmp_path / "moved"), str(tmp_path / "there"))[0].exit_code == 0


# --- writers


def size(url: str) -> int:
    with closing(open_log(url, read_only=True)) as log:
        return log.head().size


def _write(url: str) -> None:
    n = 0
    while True:
        copies.write_one(url, f"{os.getpid()}-{n}")
        n += 1


@KINDS
def test_writers_go_on_and_the_backup_is_a_prefix_with_all_its_evidence(source, place, kind, tmp_path):
    if kind == "postgres":
        copying.copy(source, place(kind, "live"))
        source = place(kind, "live")
    writers = [multiprocessing.get_context("fork").Process(target=_write, args=(source,)) for _ in range(2)]
    for writer in writers:
        writer.start()
    try:
        sizes = [size(source)]
        for n in range(4):
            wait(lambda: size(source) > sizes[-1], "a writer that writes")
            done, manifest = backups.backup(source, str(tmp_path / f"made{n}"), now=NOW)
            assert manifest is not None
            sizes.append(done.head.size)
    finally:
        for writer in writers:
            os.kill(writer.pid, signal.SIGKILL)
            writer.join()
    assert sizes == sorted(set(sizes)), "the store grew"
    with closing(open_log(source)) as log:
        whole = list(log.read())
    for n, reached in enumerate(sizes[1:]):
        backups.restore(str(tmp_path / f"made{n}"), str(tmp_path / f"there{n}"))
        copies.sound(str(tmp_path / f"there{n}"))
        with closing(open_log(tmp_path / f"there{n}")) as log:
            assert list(log.read()) == whole[:reached]


# --- bad backups


def flip(path: Path, at: int) -> None:
    data = bytearray(path.read_bytes())
    data[at] ^= 1
    path.chmod(0o600)
    path.write_bytes(data)


DAMAGE = {
    "a byte of the log": lambda f: flip(f / "log.db", (f / "log.db").stat().st_size * 3 // 4),
    "the header of the log": lambda f: flip(f / "log.db", 70),
    "a log cut short": lambda f: os.truncate(f / "log.db", (f / "log.db").stat().st_size // 2),
    "an empty log": lambda f: os.truncate(f / "log.db", 0),
    "no log": lambda f: (f / "log.db").unlink(),
    "a write-ahead log": lambda f: (f / "log.db-wal").write_bytes(b"x" * 100),
    "a byte of evidence": lambda f: flip(copies.blob_path(f, 2), 0),
    "evidence cut short": lambda f: (copies.blob_path(f, 1).chmod(0o600), copies.blob_path(f, 1).write_bytes(b"")),
    "no blob": lambda f: copies.blob_path(f, 1).unlink(),
    "another blob": lambda f: copies.blob_path(f, 1).rename(copies.blob_path(f, 1).with_name("0" * 62)),
    "no evidence": lambda f: shutil.rmtree(f / "evidence"),
    "a checkpoint": lambda f: flip(f / "exports" / "checkpoint-2", 5),
    "no checkpoint": lambda f: (f / "exports" / "checkpoint-2").unlink(),
    "no exports": lambda f: shutil.rmtree(f / "exports"),
    "no manifest": lambda f: (f / "backup.json").unlink(),
    "an empty manifest": lambda f: (f / "backup.json").write_bytes(b""),
    "a manifest cut short": lambda f: os.truncate(f / "backup.json", 300),
    "a byte of the manifest": lambda f: flip(f / "backup.json", 40),
    "a manifest of something": lambda f: (f / "backup.json").write_text("[1]"),
    "another size": lambda f: resign(str(f), size=69),
    "another root": lambda f: resign(str(f), root="ab" * 32),
    "no root": lambda f: resign(str(f), root="x"),
    "another time": lambda f: resign(str(f), recorded_at="2026-01-01T00:00:00.000000Z"),
    "a member more": lambda f: resign(str(f), more=1),
    "an older version": lambda f: resign(str(f), v=0),
    "an export outside": lambda f: resign(str(f), exports={"../../source/exports/checkpoint-2": {"sha256": "0" * 64, "bytes": 1}}),
}  # fmt: skip


@pytest.mark.parametrize("what", DAMAGE)
def test_of_a_damaged_backup_nothing_is_made(made, tmp_path, what):
    DAMAGE[what](Path(made))
    there = tmp_path / "there"
    for attempt in (lambda: backups.check(made), lambda: backups.restore(made, str(there))):
        with pytest.raises(WrongError) as caught:
            attempt()
        assert caught.value.exit_code == 7
        assert not there.exists()


def test_a_backup_of_a_newer_version_is_refused(made, tmp_path):
    resign(made, v=backup_manifest.VERSION + 1)
    with pytest.raises(InvalidError) as caught:
        backups.restore(made, str(tmp_path / "there"))
    assert (caught.value.exit_code, caught.value.code) == (10, "backup.version")
    assert not (tmp_path / "there").exists()


def test_a_backup_with_a_log_of_a_newer_schema_is_refused(made, tmp_path):
    with copies.spoiling(made) as run:
        run("PRAGMA user_version = 99")
    log = Path(made) / "log.db"
    resign(made, log={"sha256": hashlib.sha256(log.read_bytes()).hexdigest(), "bytes": log.stat().st_size})
    with pytest.raises(InvalidError) as caught:
        backups.restore(made, str(tmp_path / "there"))
    assert caught.value.code == "store.version"
    assert not (tmp_path / "there").exists()


def test_a_record_changed_with_every_digest_is_still_found(made, tmp_path):
    """Only the root knows: the manifest and the file agree."""
    with copies.spoiling(made) as run:
        (body,) = run("SELECT body FROM records WHERE position = 40").fetchone()
        body = bytes(body[:-9]) + bytes([body[-9] ^ 1]) + bytes(body[-8:])
        run(
            "UPDATE records SET body = ?, leaf = ? WHERE position = 40",
            body,
            hashlib.sha256(b"\0" + body).digest(),
        )
        guard = "BEFORE UPDATE ON records\nBEGIN SELECT RAISE(ABORT, 'append-only: records are never changed'); END"
        run(f"CREATE TRIGGER records_hold {guard}")
    log = Path(made) / "log.db"
    resign(made, log={"sha256": hashlib.sha256(log.read_bytes()).hexdigest(), "bytes": log.stat().st_size})
    with pytest.raises(WrongError):
        backups.restore(made, str(tmp_path / "there"))
    assert not (tmp_path / "there").exists()


def test_no_backup_and_no_folder(source, tmp_path):
    with pytest.raises(NotFoundError):
        backups.restore(str(tmp_path / "none"), str(tmp_path / "there"))
    with pytest.raises(WrongError) as caught:  # a live store is no backup
        backups.restore(source, str(tmp_path / "there"))
    assert caught.value.code == "backup.unfinished"
    for given in ("postgresql://h/db", "postgresql://h:1/db"):
        with pytest.raises(UsageError):
            backups.backup(source, given, now=NOW)
        with pytest.raises(UsageError):
            backups.restore(given, str(tmp_path / "there"))
    (tmp_path / "link").symlink_to(tmp_path)
    with pytest.raises(UsageError):
        backups.backup(source, str(tmp_path / "link"), now=NOW)


@KINDS
def test_never_over_a_store(source, made, place, kind):
    copying.copy(source, place(kind))
    before = copies.facts(place(kind))
    with pytest.raises(ConflictError) as caught:
        backups.restore(made, place(kind))
    assert caught.value.code == "store.exists"
    assert copies.facts(place(kind)) == before


def test_a_folder_that_is_read_only_is_restored(made, tmp_path):
    log = Path(made) / "log.db"
    for name in ("log.db-shm", "log.db-wal"):
        log.with_name(name).unlink(missing_ok=True)
    before = sorted(path.name for path in Path(made).iterdir())
    Path(made).chmod(0o500)
    try:
        assert backups.restore(made, str(tmp_path / "there"))[0].exit_code == 0
        if os.geteuid():
            assert before == sorted(path.name for path in Path(made).iterdir())
    finally:
        Path(made).chmod(0o700)


def test_a_reader_who_saw_more_is_told(source, made, tmp_path):
    with closing(open_log(source)) as log:
        name = log.store_id
    home.remember_head(name, 90, "ab" * 32)
    done, warning = backups.restore(made, str(tmp_path / "there"))
    assert done.exit_code == 0
    assert warning.startswith("records #71 to #90 were seen here")


# --- what is wrong at the source


def test_with_a_gap_it_is_closed_only_as_it_is(source, tmp_path):
    copies.blob_path(source).unlink()
    made = tmp_path / "made"
    done, manifest = backups.backup(source, str(made), now=NOW)
    assert (done.exit_code, manifest) == (7, None)
    assert not (made / "backup.json").exists()
    done, manifest = backups.backup(source, str(made), as_is=True, now=NOW)
    assert done.exit_code == 7
    assert manifest.as_is == len(done.wrong) > 0
    with pytest.raises(WrongError) as caught:
        backups.restore(str(made), str(tmp_path / "there"))
    assert caught.value.code == "backup.wrong"
    assert not (tmp_path / "there").exists()
    done, _ = backups.restore(str(made), str(tmp_path / "there"), as_is=True)
    assert (done.exit_code, done.finished) == (7, True)


def test_as_it_is_opens_no_door_to_damage(made, tmp_path):
    copies.blob_path(made, 1).unlink()
    with pytest.raises(WrongError):
        backups.restore(made, str(tmp_path / "there"), as_is=True)
    assert not (tmp_path / "there").exists()
