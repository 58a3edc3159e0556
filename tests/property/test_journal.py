"""Every byte of a small journal changed and every cut of it: named with its place, or in the tail that nobody was promised."""

from __future__ import annotations

import random
import shutil
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from muniment.domain.errors import MunimentError, UsageError, WrongError
from muniment.ring import journal_format as form
from muniment.ring.journal import Writer
from muniment.ring.journal_cursor import load_mark
from muniment.ring.journal_reader import Reader, check

RECORDS = [b"first", b"", bytes(range(40)), *(f"record {n}".encode() for n in range(9))]
TAIL = b"torn" * 30


@pytest.fixture
def made(tmp_path) -> Path:
    """Two segments with a torn tail behind each; 12 acknowledged records."""
    folder = tmp_path / "j"
    for first in (0, 4, 8):
        with Writer(folder) as writer:
            writer.append(RECORDS[first : first + 4])
        if first:
            path = max(folder.glob("*.seg"))
            path.write_bytes(path.read_bytes() + TAIL)
    assert 2 == len(list(folder.glob("*.seg")))
    return folder


def outcome(folder: Path) -> tuple[list[bytes], str]:
    """What a reader was given before the end or the error, and the error's code; whatever it is, it ends."""
    found: list[bytes] = []
    try:
        with Reader(folder) as reader:
            while taken := reader.take_many(2, 0):
                found += taken
    except MunimentError as error:
        return found, error.code if "expected" in error.context else "nothing was expected"
    return found, ""


def reopened(folder: Path) -> str:
    """What a writer says that goes on there."""
    try:
        Writer(folder).close()
    except MunimentError as error:
        return error.code
    return ""


def test_every_single_byte_that_is_changed_is_named(made):
    changed = 0
    for path in sorted(made.iterdir()):
        raw = path.read_bytes()
        counted = len(raw) - (len(TAIL) if path.suffix == ".seg" else 0)
        for at in range(len(raw)):
            for flip in (0x01, 0x80, 0xFF):
                path.write_bytes(raw[:at] + bytes([raw[at] ^ flip]) + raw[at + 1 :])
                found, code = outcome(made)
                assert found == RECORDS[: len(found)], (path.name, at)
                if at < counted:
                    assert code.startswith("journal."), (path.name, at, flip)
                    assert code not in {"journal.none", "journal.io"}
                else:
                    assert (RECORDS, "") == (found, code), (path.name, at, flip)
                changed += 1
        path.write_bytes(raw)
    assert changed > 2400
    assert (RECORDS, "") == outcome(made)


def test_every_cut_gives_a_prefix_and_says_if_something_acknowledged_is_gone(made):
    for path in sorted(made.glob("*.seg")):
        raw = path.read_bytes()
        last = path == max(made.glob("*.seg"))
        for size in range(len(raw)):
            path.write_bytes(raw[:size])
            found, code = outcome(made)
            assert found == RECORDS[: len(found)]
            lost = size < len(raw) - len(TAIL)
            assert lost == (code != ""), (path.name, size, code)
            if last and lost:
                assert reopened(made).startswith("journal."), "a writer does not go on behind a loss"
        path.write_bytes(raw)


def test_every_cut_of_what_no_mark_covers_gives_a_prefix_and_goes_on(tmp_path):
    """Power was lost: the mark on the disk is an old one."""
    folder = tmp_path / "j"
    Writer(folder).close()
    old = (folder / form.MARK).read_bytes()
    with Writer(folder) as writer:
        for record in RECORDS:
            writer.append([record])
    (path,) = folder.glob("*.seg")
    raw = path.read_bytes()
    seen = set()
    for size in range(form.HEADER, len(raw) + 1):
        copy = tmp_path / "copy"
        shutil.copytree(folder, copy)
        (copy / form.MARK).write_bytes(old)
        (copy / path.name).write_bytes(raw[:size])
        found, code = outcome(copy)
        assert (RECORDS[: len(found)], "") == (found, code)
        with Writer(copy) as writer:
            assert len(found) == writer.sequence
            writer.append([b"next"])
        assert ([*found, b"next"], "") == outcome(copy)
        seen.add(len(found))
        shutil.rmtree(copy)
    assert set(range(len(RECORDS) + 1)) == seen


def test_mutated_segments_never_give_other_records(made):
    """A deterministic mutator: bytes changed, removed, doubled, moved, zeroed, several at once."""
    chance = random.Random("journal")
    files = {path: path.read_bytes() for path in made.iterdir()}
    named = 0
    for _ in range(1000):
        path = chance.choice(sorted(files))
        data = bytearray(files[path])
        for _ in range(chance.choice([1, 1, 2, 5])):
            at, size = chance.randrange(len(data) + 1), chance.choice([1, 4, 8, 32, 80])
            match chance.randrange(5):
                case 0:
                    data[at : at + size] = chance.randbytes(size)
                case 1:
                    del data[at : at + size]
                case 2:
                    data[at:at] = data[at : at + size]
                case 3:
                    data[at : at + size] = bytes(len(data[at : at + size]))
                case _:
                    where = chance.randrange(len(data) + 1)
                    part = data[where : where + size]
                    data[at : at + len(part)] = part
        path.write_bytes(data)
        found, code = outcome(made)
        assert found == RECORDS[: len(found)]
        assert code or found == RECORDS
        named += code != ""
        path.write_bytes(files[path])
    assert named > 400


@given(raw=st.binary(max_size=400), at=st.integers(0, 64))
def test_bytes_of_anybody_are_no_frame(raw, at):
    with pytest.raises(form.BadFrameError):
        form.read_frame(raw, at, 1, 0)
    assert 0 == form.synced_later(raw, 1, 0)


@given(raw=st.binary(max_size=200))
def test_bytes_of_anybody_are_no_mark_and_no_header(raw):
    with pytest.raises(WrongError):
        form.read_mark(raw, Path("mark"))
    with pytest.raises(WrongError):
        form.read_header(raw, Path("segment"), 1, bytes(16))


def test_a_mark_or_header_of_another_version_is_refused_though_its_digest_is_right():
    import hashlib
    import zlib

    mark = bytearray(form.pack_mark(form.Mark(b"j" * 16, 0, 0, 0, 0)))
    header = bytearray(form.pack_header(form.Header(b"j" * 16, 1, 0, 0, 0, bytes(32))))
    mark[6:7], header[8:9] = b"9", b"\2"
    mark[-4:] = zlib.crc32(mark[:-4]).to_bytes(4, "little")
    header[-32:] = hashlib.sha256(header[:-32]).digest()
    with pytest.raises(WrongError, match="mark"):
        form.read_mark(bytes(mark), Path("mark"))
    with pytest.raises(WrongError, match="header"):
        form.read_header(bytes(header), Path("s"), 1, b"j" * 16)


@pytest.mark.parametrize(
    ("sequence", "segment", "end"),
    [(0, 1, 0), (1, 0, 128), (0, 0, 128), (3, 9, 128), (1, 1, 127), (1, 1, 1 << 62), (1, 1, (1 << 64) - 1)],
)
def test_a_mark_that_contradicts_itself_is_refused(sequence, segment, end):
    with pytest.raises(WrongError):
        form.read_mark(form.pack_mark(form.Mark(b"j" * 16, sequence, segment, end, 0)), Path("mark"))


batches = st.lists(st.lists(st.binary(max_size=60), max_size=5), max_size=12)


@settings(deadline=None, max_examples=60)
@given(
    steps=batches,
    segment_bytes=st.integers(form.HEADER, 900),
    reopen=st.integers(1, 4),
    start=st.floats(0, 1),
    count=st.integers(1, 7),
)
def test_a_journal_is_the_list_that_was_appended(
    tmp_path_factory, steps, segment_bytes, reopen, start, count
):
    folder, kept = tmp_path_factory.mktemp("j") / "j", []
    writer = Writer(folder, segment_bytes=segment_bytes)
    for turn, batch in enumerate(steps):
        kept += batch
        assert len(kept) == writer.append(batch) == writer.acknowledged
        if turn % reopen == 0:
            writer.close()
            writer = Writer(folder, segment_bytes=segment_bytes)
    after, found = int(start * len(kept)), []
    with Reader(folder, after=after) as reader:
        while taken := reader.take_many(count, 0):
            found += taken
        with pytest.raises(UsageError):
            reader.seek(len(kept) + 1)
    writer.close()
    assert kept[after:] == found
    assert len(kept) == check(folder) == load_mark(folder).sequence
