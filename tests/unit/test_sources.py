"""Sources: what may be read, under which name, and where a run goes on."""

from __future__ import annotations

import os
import pty
import socket
import subprocess
import sys
import threading
from hashlib import sha256
from pathlib import Path

import pytest
from muniment.domain.errors import ConflictError, MunimentError, NotFoundError, UnavailableError, UsageError
from muniment.ring.sources import Resumed, derived, open_source


def digest(line: bytes) -> str:
    return "sha256:" + sha256(line).hexdigest()


@pytest.fixture
def lines(tmp_path: Path) -> Path:
    path = tmp_path / "in.ndjson"
    path.write_bytes(b"one\ntwo\n\nfour\n")
    return path


def stdin(script: str, *, before: str = "", **how: object) -> str:
    """What a process says that opens its standard input."""
    code = f"""
import os
from muniment.domain.errors import MunimentError
from muniment.ring.sources import open_source
{before}
try:
    with open_source("-") as source:
        {script}
    os.fstat(0)
except MunimentError as error:
    print(error.code, error.exit_code)
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, timeout=30, **how)
    assert (0, b"") == (done.returncode, done.stderr)
    return done.stdout.decode().strip()


SAY = "print(source.kind, source.name, source.seekable, os.read(source.fd, 99), source.resume(4, '', 0))"


# --- what may be read


def test_a_file_is_read(lines):
    with open_source(str(lines)) as source:
        assert ("file", True, b"one\n") == (source.kind, source.seekable, os.read(source.fd, 4))
        fd = source.fd
    with pytest.raises(OSError, match="descriptor"):
        os.fstat(fd)


def test_a_link_to_a_file_is_that_file(lines, tmp_path):
    (tmp_path / "link").symlink_to(lines)
    with open_source(str(tmp_path / "link")) as source:
        assert b"one\n" == os.read(source.fd, 4)


def test_a_fifo_waits_for_its_writer(tmp_path):
    os.mkfifo(tmp_path / "fifo")

    def write() -> None:
        with (tmp_path / "fifo").open("wb") as out:
            out.write(b"line\n")

    thread = threading.Thread(target=write)
    thread.start()
    with open_source(str(tmp_path / "fifo")) as source:
        assert ("pipe", False) == (source.kind, source.seekable)
        assert b"line\n" == os.read(source.fd, 99), "it blocks until there is something"
        thread.join()
        resumed = source.resume(100, digest(b"line"), 4)
        assert 0 == resumed.offset
        assert "record id" in resumed.note


def test_a_terminal_is_read_by_its_path():
    ours, theirs = pty.openpty()
    with open_source(os.ttyname(theirs)) as source:
        assert ("terminal", False) == (source.kind, source.seekable)
    os.close(ours)
    os.close(theirs)


def test_standard_input_is_a_pipe_a_file_or_a_device(lines):
    note = "standard input cannot be sought"
    found = stdin(SAY, input=b"line\n")
    assert found.startswith("pipe stdin False b'line\\n' Resumed(offset=0")
    assert note in found
    with lines.open("rb") as file:
        found = stdin(SAY, stdin=file)
    assert found.startswith("file stdin False b'one\\ntwo\\n\\nfour\\n' Resumed(offset=0")
    assert note in found
    assert stdin(SAY, stdin=subprocess.DEVNULL).startswith("device stdin False b''")


def test_standard_input_that_cannot_be_read_is_exit_8(tmp_path):
    assert "source.closed 8" == stdin(SAY, preexec_fn=lambda: os.close(0))
    with (tmp_path / "out").open("wb") as out:
        assert "source.closed 8" == stdin(SAY, stdin=out)


def test_a_folder_as_standard_input_is_refused():
    """Python does not start on one, but a program may be given one later."""
    assert "source.kind 2" == stdin(SAY, before="os.dup2(os.open('/', os.O_RDONLY), 0)")


@pytest.mark.parametrize("name", ["absent", "absent/file", "in.ndjson/below", "dangling"])
def test_what_is_not_there_is_exit_3(lines, tmp_path, name):
    (tmp_path / "dangling").symlink_to(tmp_path / "nowhere")
    with pytest.raises(NotFoundError) as caught:
        open_source(str(tmp_path / name))
    assert ("source.none", 3) == (caught.value.code, caught.value.exit_code)


def test_a_folder_a_device_and_a_socket_are_no_sources(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with socket.socket(socket.AF_UNIX) as listening:
        listening.bind("socket")
        for name, kind in (
            (".", "folder"),
            ("/dev/null", "device"),
            ("/dev/zero", "device"),
            ("socket", "socket"),
        ):
            with pytest.raises(UsageError) as caught:
                open_source(name)
            assert ("source.kind", f"a {kind}") == (caught.value.code, caught.value.context["found"])


def test_a_refused_source_leaves_nothing_open():
    before = list(Path("/proc/self/fd").iterdir())
    for _ in range(3):
        with pytest.raises(UsageError):
            open_source("/dev/zero")
    assert len(before) == len(list(Path("/proc/self/fd").iterdir()))


@pytest.mark.parametrize("name", ["", "a\0b"])
def test_no_path_is_refused(name):
    with pytest.raises(UsageError):
        open_source(name)


def test_a_link_that_leads_to_itself_is_exit_8(tmp_path):
    (tmp_path / "loop").symlink_to(tmp_path / "loop")
    with pytest.raises(UnavailableError) as caught:
        open_source(str(tmp_path / "loop"))
    assert 8 == caught.value.exit_code


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_file_that_may_not_be_read_is_exit_8(lines):
    lines.chmod(0)
    with pytest.raises(UnavailableError) as caught:
        open_source(str(lines))
    assert "source.permission" == caught.value.code


# --- under which name


@pytest.mark.parametrize("name", ["A", "-x", ".x", "a b", "a/b", "x" * 65, "a\n", "ä", "a:b"])
def test_a_name_that_is_none_is_refused(lines, name):
    with pytest.raises(UsageError) as caught:
        open_source(str(lines), name)
    assert "source.name" == caught.value.code


def test_a_name_is_given_or_made_of_the_path(lines, monkeypatch):
    with open_source(str(lines), "orders.eu") as source:
        assert "orders.eu" == source.name
    with open_source(str(lines)) as source:
        assert f"in.ndjson-{sha256(os.fsencode(lines)).hexdigest()[:12]}" == source.name
    monkeypatch.chdir(lines.parent)
    assert (
        derived(lines) == derived(Path("in.ndjson")) == derived(Path("../" + lines.parent.name) / "in.ndjson")
    )


@pytest.mark.parametrize(
    ("path", "stem"),
    [
        ("/a/B C.Log", "b-c.log"),
        ("/a/--x--", "x"),
        ("/a/.hidden", "hidden"),
        ("/a/日本", "file"),
        ("/a/" + "y" * 200, "y" * 51),
        (os.fsdecode(b"/a/\xff\xfe"), "file"),
        ("/a/é" + "z" * 60, "z" * 51),
    ],
)
def test_any_file_name_gives_a_name(path, stem):
    name = derived(Path(path))
    assert stem == name[:-13]
    open_source("-", name).close()
    assert name != derived(Path("/b" + path))


# --- where it goes on

GOOD = [(4, b"one"), (8, b"two"), (9, b""), (14, b"four")]


@pytest.mark.parametrize(("offset", "last"), GOOD)
def test_a_file_goes_on_behind_the_acknowledged_line(lines, offset, last):
    with open_source(str(lines)) as source:
        assert offset == source.resume(offset, digest(last), len(last)).offset
        assert lines.read_bytes()[offset:] == os.read(source.fd, 99)


def test_nothing_acknowledged_is_the_beginning(lines):
    with open_source(str(lines)) as source:
        assert Resumed(0) == source.resume(0, "", 0)
        assert lines.read_bytes() == os.read(source.fd, 99)


def test_a_last_line_without_an_end_is_acknowledged_and_may_get_one(lines):
    lines.write_bytes(b"one\ntwo")
    with open_source(str(lines)) as source:
        assert 7 == source.resume(8, digest(b"two"), 3).offset
    lines.write_bytes(b"one\ntwo\nthree\n")
    with open_source(str(lines)) as source:
        assert 8 == source.resume(8, digest(b"two"), 3).offset
    lines.write_bytes(b"one\ntwofold\n")
    with open_source(str(lines)) as source, pytest.raises(ConflictError) as caught:
        source.resume(8, digest(b"two"), 3)
    assert ("a line end at byte 7", "b'f'") == (
        caught.value.context["expected"],
        caught.value.context["found"],
    )


def test_where_the_line_is_not_known_its_end_is_looked_at(lines):
    with open_source(str(lines)) as source:
        assert 8 == source.resume(8, "", 0).offset
        for offset in (1, 3, 7, 16, 100):
            with pytest.raises(ConflictError):
                source.resume(offset, "", 0)


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"one\n",
        b"one\ntw",
        b"One\nTwo\n\nfour\n",
        b"one\ntwx\n\nfour\n",
        b"one two\n\nfour\n",
        b"onextwo\n\nfour\n",
        b"one\n\ntwo\nfour\n",
        b"\0" * 14,
    ],
    ids=repr,
)
def test_other_content_is_a_conflict_that_says_what_to_do(lines, content):
    lines.write_bytes(content)
    with open_source(str(lines), "orders") as source:
        with pytest.raises(ConflictError) as caught:
            source.resume(8, digest(b"two"), 3)
        assert 0 == os.lseek(source.fd, 0, os.SEEK_CUR)
    error = caught.value
    assert ("source.changed", 5, "orders") == (error.code, error.exit_code, error.context["source"])
    assert {"expected", "found", "path"} <= set(error.context)
    assert "--from-start" in error.hint


@pytest.mark.parametrize(
    ("offset", "sha", "count"),
    [
        (-1, "", 0),
        (4, digest(b"one"), 4),
        (4, digest(b"one"), -1),
        (4, "", 5),
        (4, digest(b"one")[7:], 3),
        (4, "sha256:" + "X" * 64, 3),
        (0, digest(b""), 0),
        (0, "", 1),
    ],
)
def test_a_place_that_cannot_be_is_refused(lines, offset, sha, count):
    with open_source(str(lines)) as source, pytest.raises(UsageError) as caught:
        source.resume(offset, sha, count)
    assert "source.position" == caught.value.code


def test_any_changed_byte_of_the_last_line_and_its_ends_is_noticed(lines):
    raw = lines.read_bytes()
    for at in range(3, 8):
        lines.write_bytes(raw[:at] + bytes([raw[at] ^ 1]) + raw[at + 1 :])
        with open_source(str(lines)) as source, pytest.raises(MunimentError):
            source.resume(8, digest(b"two"), 3)


def test_a_long_line_is_compared_in_pieces(tmp_path):
    line = b"x" * (3 << 20)
    (tmp_path / "long").write_bytes(b"a\n" + line + b"\nrest")
    with open_source(str(tmp_path / "long")) as source:
        source.resume(3 + len(line), digest(line), len(line))
        assert b"rest" == os.read(source.fd, 9)
