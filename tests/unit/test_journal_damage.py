"""Journals after a crash and after damage: what is a torn tail, what is named, what a writer does behind it."""

from __future__ import annotations

import os
import struct
import zlib
from pathlib import Path

import pytest
from journals import everything, filled, names, numbered
from muniment.domain.errors import MunimentError, WrongError
from muniment.ring import journal_format as form
from muniment.ring.journal import Writer
from muniment.ring.journal_cursor import load_mark
from muniment.ring.journal_reader import Reader, check

# --- torn tails


def torn(folder: Path, extra: bytes) -> Path:
    """What a crash leaves behind the last acknowledged record."""
    last = max(folder.glob("*.seg"))
    last.write_bytes(last.read_bytes() + extra)
    return last


def frame(folder: Path, records: list[bytes], synced: int) -> bytes:
    mark = load_mark(folder)
    return b"".join(form.pack_frame(records, mark.sequence + 1, synced, zlib.crc32(mark.journal)))


@pytest.mark.parametrize("extra", [b"\0", b"\0" * 4096, b"\xff" * 100, b"half", os.urandom(777)], ids=len)
def test_a_torn_tail_is_no_record_and_keeps_its_bytes(tmp_path, extra):
    folder = filled(tmp_path / "j", 1)
    last = torn(folder, extra)
    before = last.read_bytes()
    assert numbered(1, 4) == everything(folder)
    with Writer(folder) as writer:
        assert len(extra) == writer.torn_bytes
        writer.append(numbered(5, 6))
    assert before == last.read_bytes()
    assert numbered(1, 6) == everything(folder)
    assert [form.segment_name(n) for n in (1, 5)] == names(folder)


def test_whole_records_behind_the_mark_count(tmp_path):
    """Power was lost after the sync, before the mark was on disk."""
    folder = filled(tmp_path / "j", 1)
    torn(folder, frame(folder, numbered(5, 7), 4) + b"half")
    with Reader(folder) as reader:
        assert 7 == reader.last
        assert numbered(1, 7) == reader.take_many(99, 0)
        with Writer(folder) as writer:
            assert (7, 7, 4) == (writer.sequence, writer.acknowledged, writer.torn_bytes)
            writer.append(numbered(8, 8))
        assert numbered(8, 8) == reader.take_many(99, 0)


def test_a_torn_tail_in_a_segment_without_records_is_set_aside(tmp_path):
    folder = filled(tmp_path / "j", 1)
    with Writer(folder, spec_sha256=b"s" * 32) as writer:
        writer._begin()
        begun = writer._path
    Writer(folder, spec_sha256=b"s" * 32).close()
    assert 5 == load_mark(folder).segment
    begun.write_bytes(begun.read_bytes() + b"torn")
    before = begun.read_bytes()
    reader = Reader(folder, after=4)
    with Writer(folder, spec_sha256=b"s" * 32) as writer:
        assert 5 == writer.append(numbered(5, 5))
    assert numbered(5, 5) == reader.take_many(9, 0), "a reader that stood there goes on"
    reader.close()
    assert numbered(1, 5) == everything(folder)
    assert [before] == [path.read_bytes() for path in folder.glob("*.unused-*")]


def test_a_bad_frame_that_a_later_one_calls_synced_is_damage(tmp_path):
    """The mark is old, the frame behind it was acknowledged and is not whole."""
    folder = filled(tmp_path / "j", 1)
    old = (folder / form.MARK).read_bytes()
    with Writer(folder) as writer:
        writer.append(numbered(5, 6))
        writer.append(numbered(7, 8))
    (folder / form.MARK).write_bytes(old)
    path = folder / names(folder)[0]
    raw = path.read_bytes()
    path.write_bytes(raw.replace(b"record 6", b"record x"))
    for way in (Writer, everything):
        with pytest.raises(WrongError) as caught:
            way(folder)
        assert ("journal.frame", "5") == (caught.value.code, caught.value.context["sequence"])


def test_a_hole_that_nobody_synced_is_a_torn_tail(tmp_path):
    """Of two writes without a sync between them, the later one is on the disk and the earlier one is not."""
    folder = filled(tmp_path / "j", 1)
    lost = frame(folder, numbered(5, 6), 4)
    mark = load_mark(folder)
    kept = b"".join(form.pack_frame(numbered(7, 8), 7, 4, zlib.crc32(mark.journal)))
    torn(folder, bytes(len(lost)) + kept)
    assert numbered(1, 4) == everything(folder)
    with Writer(folder) as writer:
        assert 5 == writer.append([b"next"])


def test_a_frame_of_another_journal_is_no_record(tmp_path):
    folder, other = filled(tmp_path / "j", 1), filled(tmp_path / "other", 1)
    torn(folder, frame(other, numbered(5, 6), 4))
    assert numbered(1, 4) == everything(folder)


# --- damage


def swap(folder: Path) -> None:
    first, second = sorted(folder.glob("*.seg"))[:2]
    first.rename(folder / "aside")
    second.rename(first)
    (folder / "aside").rename(second)


def foreign(folder: Path) -> None:
    other = filled(folder.with_name("other"))
    (folder / names(folder)[1]).write_bytes((other / names(folder)[1]).read_bytes())


def shorter(path: Path, count: int) -> None:
    path.write_bytes(path.read_bytes()[:-count])


DAMAGE = {
    "first segment gone": ("journal.segment_missing", lambda f: (f / names(f)[0]).unlink()),
    "middle segment gone": ("journal.segment_missing", lambda f: (f / names(f)[1]).unlink()),
    "only segment gone": ("journal.segment_missing", lambda f: [(f / n).unlink() for n in names(f)]),
    "last segment gone": ("journal.segment_missing", lambda f: (f / names(f)[-1]).unlink()),
    "segments swapped": ("journal.swapped_segment", swap),
    "segment of another journal": ("journal.foreign_segment", foreign),
    "mark gone": ("journal.mark_missing", lambda f: (f / form.MARK).unlink()),
    "mark cut": ("journal.mark", lambda f: shorter(f / form.MARK, 1)),
    "mark longer": (
        "journal.mark",
        lambda f: (f / form.MARK).write_bytes((f / form.MARK).read_bytes() + b"x"),
    ),
    "mark of another journal": (
        "journal.foreign_segment",
        lambda f: (f / form.MARK).write_bytes((filled(f.with_name("o")) / form.MARK).read_bytes()),
    ),
    "sealed segment cut": ("journal.frame", lambda f: shorter(f / names(f)[0], 8)),
    "last segment cut": ("journal.", lambda f: shorter(f / names(f)[-1], 8)),
    "strange name": ("journal.segment_name", lambda f: (f / "12.seg").touch()),
    "a segment too many": (
        "journal.",
        lambda f: (f / form.segment_name(20)).write_bytes((f / names(f)[1]).read_bytes()),
    ),
}


@pytest.mark.parametrize("kind", DAMAGE)
def test_damage_is_named_and_never_skipped(tmp_path, kind):
    folder = filled(tmp_path / "j", 8)
    assert 4 == len(names(folder))
    code, hurt = DAMAGE[kind]
    hurt(folder)
    with pytest.raises(WrongError) as caught:
        check(folder)
    assert caught.value.code.startswith(code)
    if "last" in kind or "mark" in kind or "strange" in kind:
        with pytest.raises(WrongError):
            Writer(folder)
    assert 7 == caught.value.exit_code
    assert {"path", "expected", "found"} <= set(caught.value.context)


def test_what_stands_before_the_damage_is_read_first(tmp_path):
    folder = filled(tmp_path / "j")
    path = folder / names(folder)[1]
    path.write_bytes(path.read_bytes().replace(b"record 17", b"record 71"))
    with Reader(folder) as reader:
        assert numbered(1, 16) == reader.take_many(99, 0)
        for _ in range(2):
            with pytest.raises(WrongError) as caught:
                reader.take_many(99, 0)
        assert ("journal.frame", "17") == (caught.value.code, caught.value.context["sequence"])


def test_a_writer_names_the_acknowledged_frame_that_is_not_whole(tmp_path):
    folder = filled(tmp_path / "j")
    path = max(folder.glob("*.seg"))
    path.write_bytes(path.read_bytes().replace(b"record 22", b"record 99"))
    with pytest.raises(WrongError) as caught:
        Writer(folder)
    assert ("journal.frame", "21", form.HEADER) == (
        caught.value.code,
        caught.value.context["sequence"],
        caught.value.context["byte"],
    )


def test_a_mark_of_another_journal_is_refused_while_the_writer_lives(tmp_path):
    with Writer(tmp_path / "j") as writer, Reader(tmp_path / "j") as reader:
        writer.append([b"a"])
        (tmp_path / "j" / form.MARK).write_bytes((filled(tmp_path / "other") / form.MARK).read_bytes())
        with pytest.raises(WrongError) as caught:
            reader.take_many(1, 0)
        assert "journal.foreign_mark" == caught.value.code


@pytest.mark.parametrize("size", [0, 3, form.MAX_BODY + 1, 0xFFFFFFFF])
def test_a_frame_that_lies_about_its_length_is_bounded(size):
    head = bytearray(b"".join(form.pack_frame([b"a"], 1, 0, 0)))
    head[4:8] = struct.pack("<I", size)
    with pytest.raises(form.BadFrameError):
        form.read_frame(bytes(head), 0, 1, 0)


def test_links_in_the_place_of_files_are_not_followed(tmp_path):
    folder = filled(tmp_path / "j")
    for name in (*names(folder), form.MARK):
        path = folder / name
        path.rename(tmp_path / "elsewhere")
        path.symlink_to(tmp_path / "elsewhere")
        with pytest.raises(MunimentError):
            check(folder)
        path.unlink()
        (tmp_path / "elsewhere").rename(path)
    assert 24 == check(folder)
