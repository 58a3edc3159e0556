"""Logs that may only be read: opened so, or in folders and copies that cannot be written."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest
from muniment.domain.errors import MunimentError, UnavailableError
from muniment.domain.query import Item
from muniment.store import writer
from muniment.store.api import Draft
from muniment.store.sqlite_log import SqliteLog

T = Item(tags=("t",))


def test_opened_read_only_it_reads_and_does_not_write(sqlite_folder, draft):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1)])
        with SqliteLog.open(sqlite_folder, read_only=True) as reader:
            assert reader.head() == log.head()
            with pytest.raises(UnavailableError) as caught:
                reader.append([draft(2)])
            assert caught.value.code == "store.read_only"
            assert reader.head().size == 1


def as_nobody(folder: Path, *drafts: Draft, query: bool = False) -> str:
    """Read, and append if there is something, as a user without the right to write, which only root can become."""
    if os.getuid() != 0:
        pytest.skip("needs root, to become a user without rights")
    answer, answering = os.pipe()
    child = os.fork()
    if child == 0:
        found = "no answer"
        try:
            os.setgroups([])
            os.setgid(65534)
            os.setuid(65534)
            with SqliteLog.open(folder) as log:
                found = f"{log.head().size} {len(list(log.read((T,) if query else ())))}"
                if drafts:
                    log.append(drafts)
        except MunimentError as error:
            found = f"{found} {error.code}"
        finally:
            os.write(answering, found.encode())
            os._exit(0)
    os.close(answering)
    os.waitpid(child, 0)
    with os.fdopen(answer) as pipe:
        return pipe.read()


@pytest.fixture
def frozen(sqlite_folder, draft):
    """A store whose folder others may read only, somewhere others can get to."""
    with SqliteLog.open(sqlite_folder) as log:
        log.append([draft(1), draft(2)])
    place = Path("/tmp") / f"muniment-test-{os.getpid()}"  # tmp_path is closed to other users
    shutil.copytree(sqlite_folder, place)
    place.chmod(0o755)
    yield place
    shutil.rmtree(place)


def test_a_frozen_copy_is_read_and_not_written(frozen, draft):
    before = sorted(frozen.iterdir())
    assert as_nobody(frozen) == "2 2"
    assert as_nobody(frozen, draft(3)) == "2 2 store.read_only"
    assert before == sorted(frozen.iterdir())


@pytest.mark.parametrize("every", [1, 2, 512])
def test_a_frozen_copy_is_searched_in_rows_and_tail(sqlite_folder, draft, monkeypatch, every):
    monkeypatch.setattr(writer, "INDEX_EVERY", every)
    with SqliteLog.open(sqlite_folder) as log:
        for n in range(5):
            log.append([draft(n, tags=["t"] if n % 2 else [])])
    place = Path("/tmp") / f"muniment-test-{os.getpid()}"
    shutil.copytree(sqlite_folder, place)
    place.chmod(0o755)
    try:
        assert as_nobody(place, query=True) == "5 2"
    finally:
        shutil.rmtree(place)


def test_a_frozen_copy_with_a_wal_beside_it_is_not_read(frozen):
    (frozen / "log.db-wal").touch()
    assert as_nobody(frozen) == "2 2", "an empty one holds nothing"
    (frozen / "log.db-wal").write_bytes(b"x")
    assert as_nobody(frozen) == "no answer store.unmerged_wal"


def test_a_frozen_copy_that_changes_is_not_believed(frozen):
    with SqliteLog.open(frozen) as log:
        log._frozen, log._frozen_as = True, log._stat()
        assert log.head().size == 2
        os.utime(frozen / "log.db", ns=(1, 1))
        with pytest.raises(UnavailableError) as caught:
            log.head()
    assert caught.value.code == "store.changed"
