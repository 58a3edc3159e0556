"""Journals: what is acknowledged, who may write, where a reader stands, how a writer goes on after a crash."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from journals import everything, filled, names, numbered
from muniment.domain.errors import (
    ConflictError,
    NotFoundError,
    UnavailableError,
    UsageError,
)
from muniment.ring import journal_format as form
from muniment.ring.journal import Writer
from muniment.ring.journal_reader import Reader, check


def test_what_was_appended_is_read_in_order_over_segments(tmp_path):
    folder = filled(tmp_path / "j")
    assert numbered(1, 24) == everything(folder)
    assert [form.segment_name(n) for n in (1, 13, 21)] == names(folder)
    assert 24 == check(folder)


def test_a_journal_goes_on_where_it_ended(tmp_path):
    filled(tmp_path / "j", 1)
    with Writer(tmp_path / "j") as writer:
        assert (4, 4) == (writer.sequence, writer.acknowledged)
        assert 6 == writer.append([b"", b"\0" * 9])
    assert [*numbered(1, 4), b"", b"\0" * 9] == everything(tmp_path / "j")
    assert 1 == len(names(tmp_path / "j"))


def test_another_spec_begins_another_segment(tmp_path):
    filled(tmp_path / "j", 1)
    for turn in range(2):
        with Writer(tmp_path / "j", spec_sha256=b"s" * 32) as writer:
            writer.append(numbered(5 + turn, 5 + turn))
    assert [form.segment_name(n) for n in (1, 5)] == names(tmp_path / "j")
    assert numbered(1, 6) == everything(tmp_path / "j")


def test_long_batches_take_several_frames(tmp_path):
    records = [bytes([n]) * 700_000 for n in range(20)]
    with Writer(tmp_path / "j") as writer:
        assert 20 == writer.append(records)
    with Reader(tmp_path / "j", after=7) as reader:
        assert records[7:] == reader.take_many(100, 0)


def test_an_empty_batch_is_nothing(tmp_path):
    with Writer(tmp_path / "j") as writer:
        assert 0 == writer.append([])
    assert [] == names(tmp_path / "j")
    assert [] == everything(tmp_path / "j")


@pytest.mark.parametrize("after", [0, 1, 3, 4, 11, 12, 13, 23, 24])
def test_a_reader_begins_behind_any_record(tmp_path, after):
    with Reader(filled(tmp_path / "j"), after=after) as reader:
        found = []
        while taken := reader.take_many(5, 0):
            assert len(taken) <= 5
            found += taken
            assert after + len(found) == reader.at
        assert numbered(after + 1, 24) == found
        assert reader.ended
        reader.seek_last(2)
        assert numbered(23, 24) == reader.take_many(9, 0)
        reader.seek_last(100)
        assert numbered(1, 1) == reader.take_many(1, 0)


@pytest.mark.parametrize("after", [-1, 25, 1 << 64])
def test_a_place_that_is_not_there_is_refused(tmp_path, after):
    with pytest.raises(UsageError) as caught:
        Reader(filled(tmp_path / "j"), after=after)
    assert ("journal.position", "0 to 24") == (caught.value.code, caught.value.context["expected"])


def test_no_journal_is_not_an_empty_one(tmp_path):
    (tmp_path / "empty").mkdir()
    (tmp_path / "file").touch()
    for name in ("absent", "empty", "file"):
        with pytest.raises(NotFoundError):
            Reader(tmp_path / name)


@pytest.mark.parametrize(
    "settings", [{"spec_sha256": b"short"}, {"sync_ms": -1}, {"segment_bytes": 10}], ids=str
)
def test_settings_out_of_bounds_are_refused(tmp_path, settings):
    with pytest.raises(UsageError):
        Writer(tmp_path / "j", **settings)
    assert not (tmp_path / "j").exists()


def test_a_record_too_long_or_no_bytes_is_refused_before_anything_is_written(tmp_path):
    with Writer(tmp_path / "j") as writer:
        with pytest.raises(UsageError) as caught:
            writer.append([b"fine", bytes(form.MAX_RECORD + 1)])
        assert "journal.record_bytes" == caught.value.code
        with pytest.raises(TypeError):
            writer.append([memoryview(b"12345678").cast("I")])
        with pytest.raises(TypeError):
            writer.append(["text"])
        assert 1 == writer.append([bytes(form.MAX_RECORD)])
    assert [bytes(form.MAX_RECORD)] == everything(tmp_path / "j")


# --- acknowledged


def test_readers_see_what_is_acknowledged_and_no_more(tmp_path):
    with Writer(tmp_path / "j", sync_ms=3_600_000) as writer, Reader(tmp_path / "j") as reader:
        assert 4 == writer.append(numbered(1, 4))
        assert 0 == writer.acknowledged
        assert [] == reader.take_many(9, 0)
        assert not reader.ended
        assert 4 == writer.sync()
        assert 4 == writer.acknowledged
        writer.append(numbered(5, 8))
        assert numbered(1, 4) == reader.take_many(9, 0)
        assert [] == reader.take_many(9, 0.01)
    assert numbered(1, 8) == everything(tmp_path / "j")


def test_an_append_syncs_when_the_last_sync_is_long_ago(tmp_path):
    with Writer(tmp_path / "j", sync_ms=20) as writer:
        writer.append([b"a"])
        threading.Event().wait(0.03)
        writer.append([b"b"])
        assert 2 == writer.acknowledged


def test_readers_follow_a_writer_over_segments(tmp_path):
    writer = Writer(tmp_path / "j", segment_bytes=300)
    found: list[list[bytes]] = [[], []]

    def follow(into: list[bytes]) -> None:
        with Reader(tmp_path / "j") as reader:
            while taken := reader.take_many(7):
                into += taken

    threads = [threading.Thread(target=follow, args=(into,)) for into in found]
    for thread in threads:
        thread.start()
    for n in range(1, 301):
        writer.append(numbered(n, n))
    writer.close()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert [numbered(1, 300)] * 2 == found
    assert len(names(tmp_path / "j")) > 20


def test_a_reader_of_nothing_waits_no_longer_than_asked(tmp_path):
    with Writer(tmp_path / "j"), Reader(tmp_path / "j") as reader:
        assert [] == reader.take_many(1, 0.02)
        with pytest.raises(UsageError):
            reader.take_many(0)


# --- one writer


def test_a_second_writer_is_refused_by_the_pid_of_the_first(tmp_path):
    with Writer(tmp_path / "j"):
        with pytest.raises(ConflictError) as caught:
            Writer(tmp_path / "j")
        assert ("journal.busy", f"pid {os.getpid()}") == (caught.value.code, caught.value.context["found"])
    Writer(tmp_path / "j").close()


def test_a_reader_behind_the_mark_does_not_keep_a_writer_out(tmp_path):
    filled(tmp_path / "j", 1)
    with Reader(tmp_path / "j") as reader:
        reader.take_many(9, 0)
        with Writer(tmp_path / "j") as writer:
            writer.append(numbered(5, 5))
        assert numbered(5, 5) == reader.take_many(9, 0)


def test_a_fork_of_the_writer_does_not_write(tmp_path):
    with Writer(tmp_path / "j") as writer:
        writer.append([b"a"])
        pid = os.fork()
        if pid == 0:
            try:
                writer.append([b"b"])
            except ConflictError:
                writer.close()
                os._exit(5)
            os._exit(0)
        assert 5 == os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        writer.append([b"c"])
    assert [b"a", b"c"] == everything(tmp_path / "j")


def test_a_closed_writer_writes_no_more(tmp_path):
    writer = Writer(tmp_path / "j")
    writer.close()
    writer.close()
    for call in (writer.sync, lambda: writer.append([b"a"])):
        with pytest.raises(UsageError):
            call()


# --- writes that fail


def failing(call: str, folder: Path) -> str:
    """A process whose files may have 2000 bytes, or whose syncs fail; what it said."""
    code = f"""
import os, resource, signal, sys
from pathlib import Path
from muniment.domain.errors import MunimentError
from muniment.ring.journal import Writer
writer = Writer(Path({str(folder)!r}))
writer.append([b"kept"])
{call}
for _ in range(2):
    try:
        writer.append([bytes(3000)])
    except MunimentError as error:
        print(error.code, error.exit_code, writer.acknowledged)
writer.close()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60)
    assert (0, "") == (done.returncode, done.stderr)
    return done.stdout


def test_a_full_disk_ends_the_writer_and_the_next_one_goes_on(tmp_path):
    folder = tmp_path / "j"
    limit = "signal.signal(signal.SIGXFSZ, signal.SIG_IGN)\nresource.setrlimit(resource.RLIMIT_FSIZE, (2000, 2000))"
    assert "journal.disk_full 8 1\njournal.broken 8 1\n" == failing(limit, folder)
    with Writer(folder) as writer:
        assert 1800 < writer.torn_bytes < 2000
        assert 2 == writer.append([b"next"])
    assert [b"kept", b"next"] == everything(folder)
    assert 2 == len(names(folder))


def test_a_failed_sync_acknowledges_nothing(tmp_path):
    folder = tmp_path / "j"
    broken = "def fail(fd): raise OSError(5, 'Input/output error')\nos.fdatasync = fail"
    assert "journal.io 8 1\njournal.broken 8 1\n" == failing(broken, folder)
    with Writer(folder) as writer:
        assert 3 == writer.append([b"next"]), "what was whole on the disk is a record"
    assert [b"kept", bytes(3000), b"next"] == everything(folder)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_that_cannot_be_written_is_exit_8(tmp_path):
    (tmp_path / "closed").mkdir(mode=0o500)
    with pytest.raises(UnavailableError):
        Writer(tmp_path / "closed" / "j")
