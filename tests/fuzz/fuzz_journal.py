"""A damaged journal to its readers and its next writer: `python tests/fuzz/fuzz_journal.py FOLDER [libFuzzer's options]`.

The input: a byte of flags, a record to begin behind, then damages of 8 bytes each, which are done to a journal of three lives with
torn tails.

* By accident: bytes that come from nowhere are digests of the input, since a CRC-32 keeps out chance and nobody's intent, and a
  guided mutator would learn to write one. A reader gives a prefix of what was appended, all that the mark tells of unless it says
  what is wrong, and a writer goes on behind that.
* By intent (flag SEAL): checksums are right again afterwards. Then only this is promised: an end, by our errors or with records
  that have room in the files.

Always: no byte of a segment is cut off or overwritten.
"""

from __future__ import annotations

import hashlib
import os
import shutil
import struct
import sys
import tempfile
import zlib
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["muniment.ring"]):
    from muniment.domain.errors import MunimentError, WrongError
    from muniment.ring import journal_cursor
    from muniment.ring import journal_format as form
    from muniment.ring.files import FOLDER, hold
    from muniment.ring.journal import Writer
    from muniment.ring.journal_reader import Reader, check

journal_cursor._TRIES = 2  # ten looks at a mark that is not whole take 10 ms: most of the time of a run
MEMORY = Path("/dev/shm")
SEAL, HELD = 1, 2
EXTREMES = (0, 1, 128, 1 << 24, 1 << 31, (1 << 32) - 1, 1 << 32, (1 << 63) - 1, 1 << 63, (1 << 64) - 1)
KINDS = ("folder", "pipe", "link")
OURS = [b"first", b"", bytes(range(40)), *(f"record {n}".encode() for n in range(9))]
THEIRS = [f"of another journal {n}".encode() for n in range(12)]
Files = dict[str, bytes | str]


def made(records: list[bytes]) -> list[Files]:
    """A journal before and after each of its lives, which end in a torn tail."""
    states: list[Files] = []
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        Writer(folder).close()
        for first in range(0, 12, 4):
            states.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
            with Writer(folder, segment_bytes=300) as writer:
                writer.append(records[first : first + 3])
                writer.append(records[first + 3 : first + 4])
            last = max(folder.glob("*.seg"))
            last.write_bytes(last.read_bytes() + b"torn" * 30)
        states.append({path.name: path.read_bytes() for path in sorted(folder.iterdir())})
    return states


LIVES, OTHERS = made(OURS), made(THEIRS)
NAMES = sorted(LIVES[-1])
JOURNALS = {
    form.read_mark(lives[-1][form.MARK], Path()).journal: records
    for lives, records in ((LIVES, OURS), (OTHERS, THEIRS))
}


def damage(files: Files, word: bytes) -> None:
    """One thing that happens to one of the files; with `at`, `size` and `other`, which are places in it or choices."""
    what, which, at, size, other = struct.unpack("<BBHHH", word)
    name = NAMES[which % len(NAMES)]
    data = files.get(name, b"")
    if isinstance(data, str):
        return
    at, size = at % (len(data) + 1), size % 256
    chance = hashlib.shake_128(word).digest(size)
    match what % 12:
        case 0:
            data = data[:at] + chance + data[at + size :]
        case 1:
            data = data[:at] + data[at + size :]
        case 2:
            data = data[: at + size] + data[at:]
        case 3:
            data = data[:at] + bytes(len(data[at : at + size])) + data[at + size :]
        case 4:
            part = data[other % (len(data) + 1) :][:size]
            data = data[:at] + part + data[at + len(part) :]
        case 5:
            data = data[:at] + chance
        case 6:
            wide, at = (
                4 << (other & 1),
                at % 168 & ~3,
            )  # a field of a mark, a header or the first frame's head
            value = EXTREMES[size % len(EXTREMES)] + (other >> 1 & 3) - 1
            data = data[:at] + (value % (1 << 8 * wide)).to_bytes(wide, "little") + data[at + wide :]
        case 7 | 8:
            past = (LIVES, OTHERS)[what % 12 - 7][size % len(LIVES)]
            data = past.get(NAMES[other % len(NAMES)], b"")
        case 9:
            files[NAMES[other % len(NAMES)]] = data
        case 10:
            files.pop(name, None)
            return
        case _:
            data = KINDS[size % 3]
    files[name] = data


def sealed(name: str, data: bytes | str, seed: int) -> bytes | str:
    """The file with right checksums, as far as its frames can be followed."""
    if isinstance(data, str):
        return data
    if name == form.MARK:
        return data[:-4] + zlib.crc32(data[:-4]).to_bytes(4, "little")
    raw, at = bytearray(data), form.HEADER
    raw[96:128] = hashlib.sha256(raw[:96]).digest()
    while at + form.HEAD <= len(raw):
        try:
            total = form.frame_bytes(raw, at)
        except form.BadFrameError:
            break
        raw[at : at + 4] = zlib.crc32(raw[at + 4 : at + total], seed).to_bytes(4, "little")
        at += total
    return bytes(raw)


def put(folder: Path, files: Files) -> None:
    folder.mkdir()
    for name, data in files.items():
        match data:
            case "folder":
                (folder / name).mkdir()
            case "pipe":
                os.mkfifo(folder / name)
            case "link":
                (folder / name).symlink_to("/dev/zero")
            case bytes():
                (folder / name).write_bytes(data)


def outcome(folder: Path, after: int, room: int) -> tuple[list[bytes], str]:
    """What a reader was given, and the code of the error it ended with."""
    found: list[bytes] = []
    try:
        with Reader(folder, after=after) as reader:
            while taken := reader.take_many(2, 0):
                found += taken
                assert sum(map(len, found)) + 4 * len(found) <= room, (
                    "more records than the files have room for"
                )
            assert after + len(found) == reader.at
    except MunimentError as error:
        return found, error.code
    return found, ""


def one_input(data: bytes) -> None:
    if len(data) < 2:
        return
    files = dict(LIVES[-1])
    for at in range(2, min(len(data) - 7, 2 + 8 * 6), 8):
        damage(files, data[at : at + 8])
    if data[0] & SEAL:
        mark = files.get(form.MARK, b"")
        seed = zlib.crc32(mark[8:24]) if isinstance(mark, bytes) else 0
        files = {name: sealed(name, raw, seed) for name, raw in files.items()}
    folder = WORK / "j"
    put(folder, files)
    try:
        tried(folder, files, data[1] % 14, seal=bool(data[0] & SEAL), held=bool(data[0] & HELD))
    finally:
        shutil.rmtree(folder)


def tried(folder: Path, files: Files, after: int, *, seal: bool, held: bool) -> None:
    room = sum(len(raw) for raw in files.values() if isinstance(raw, bytes))
    try:
        mark = form.read_mark(files[form.MARK], Path())
        records = JOURNALS.get(mark.journal, [])
    except (KeyError, TypeError, WrongError):
        mark, records = None, []
    if held:
        lock = os.open(folder, FOLDER)
        assert hold(lock)
        part, code = outcome(folder, 0, room)
        os.close(lock)
        assert seal or part == records[: len(part)]
        assert seal or code or (mark and mark.sequence == len(part))
    found, code = outcome(folder, 0, room)
    some, fault = outcome(folder, after, room)
    whole, said = len(found), ""
    try:
        whole = check(folder)
    except MunimentError as error:
        said = error.code
    assert (len(found), code) == (whole, said), "a check says something else"
    if not seal:
        assert found == records[: len(found)], "a record that was not appended"
        assert code or (mark and mark.sequence <= len(found)), "acknowledged, gone and not said"
        assert some == records[after : after + len(some)]
        assert (
            code
            or (fault == "" and some == found[after:])
            or (fault == "journal.position" and after > len(found))
        )
    try:
        with Writer(folder) as writer:
            writer.append([b"next"])
    except MunimentError:
        gone_on = False
    else:
        gone_on = True
    if not seal:
        again = outcome(folder, 0, room + 1000)
        assert again == ([*found, b"next"] if gone_on and not code else found, code)
    kept = [path.read_bytes() for path in folder.iterdir() if path.is_file() and not path.is_symlink()]
    for name, raw in files.items():
        if name != form.MARK and isinstance(raw, bytes):
            assert any(each.startswith(raw) for each in kept), "bytes of a segment are gone"


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for what in range(12):
        for flags in range(4):
            (folder / f"{what}-{flags}").write_bytes(
                bytes([flags, 4]) + struct.pack("<BBHHH", what, 1 + flags, 130, 40, 140)
            )
    for life in range(len(LIVES)):
        # power was lost: an old mark, and the last segment torn before its first record is whole
        old = struct.pack("<BBHHH", 7, NAMES.index(form.MARK), 0, life, NAMES.index(form.MARK))
        (folder / f"power-{life}").write_bytes(
            b"\0\4" + old + struct.pack("<BBHHH", 5, len(NAMES) - 2, 136, 20, 0)
        )
    atheris.Setup([*sys.argv, "-max_len=50", "-len_control=0", "-timeout=20"], one_input)
    atheris.Fuzz()


if __name__ == "__main__":
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None) as work:
        WORK = Path(work)
        main()
