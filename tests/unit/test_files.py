"""A file is made whole or not at all: what a kill, a taken name, a full disk and an old file system leave (settled.md, 12)."""

from __future__ import annotations

import errno
import os
import resource
import signal
import stat

import pytest
from muniment.app import home
from muniment.store.files import write_new

DATA = b"a checkpoint\n"
TMPFILE = os.O_TMPFILE


def old_file_system(monkeypatch) -> None:
    """Files need names, as on a file system without O_TMPFILE."""
    real = os.open

    def refusing(path, flags, *args, **more):
        if flags & TMPFILE == TMPFILE:
            raise OSError(errno.EOPNOTSUPP, os.strerror(errno.EOPNOTSUPP))
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", refusing)


@pytest.fixture(params=["without a name", "with one"])
def disk(request, monkeypatch):
    if request.param == "with one":
        old_file_system(monkeypatch)
    return request.param


def in_a_child(work) -> int:
    """The status of a fork that does it."""
    if (pid := os.fork()) == 0:
        try:
            work()
        finally:
            os._exit(9)
    return os.waitpid(pid, 0)[1]


def test_a_new_file_is_whole_private_and_alone(tmp_path, disk) -> None:
    write_new(tmp_path / "checkpoint-2", DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["checkpoint-2"]
    assert (tmp_path / "checkpoint-2").read_bytes() == DATA
    assert stat.S_IMODE((tmp_path / "checkpoint-2").stat().st_mode) == 0o600


@pytest.mark.parametrize("moment", ["fsync", "link"])
@pytest.mark.parametrize("write", [write_new, home.write_atomic])
def test_a_kill_before_it_has_its_name_leaves_nothing(write, moment, tmp_path, monkeypatch) -> None:
    monkeypatch.setattr(os, moment, lambda *_, **__: os.kill(os.getpid(), signal.SIGKILL))
    status = in_a_child(lambda: write(tmp_path / "checkpoint-2", DATA))
    assert os.WIFSIGNALED(status)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("taken", ["file", "dangling link", "folder"])
def test_a_taken_name_is_left_as_it_is(taken, tmp_path, disk) -> None:
    path = tmp_path / "key.pem"
    if taken == "file":
        path.write_bytes(b"older")
    elif taken == "folder":
        path.mkdir()
    else:
        path.symlink_to(tmp_path / "elsewhere")
    with pytest.raises(FileExistsError):
        write_new(path, DATA)
    assert [path.name for path in tmp_path.iterdir()] == ["key.pem"]
    assert path.is_symlink() or path.is_dir() or path.read_bytes() == b"older"


def test_a_folder_that_is_not_there_is_told(tmp_path) -> None:
    with pytest.raises(FileNotFoundError):
        write_new(tmp_path / "none" / "x", DATA)
    assert list(tmp_path.iterdir()) == []


def test_no_room_leaves_nothing(tmp_path, disk) -> None:
    def work() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
        resource.setrlimit(resource.RLIMIT_FSIZE, (4, 4))
        try:
            write_new(tmp_path / "x", DATA)
        except OSError as error:
            os._exit(error.errno)

    assert os.WEXITSTATUS(in_a_child(work)) == errno.EFBIG
    assert list(tmp_path.iterdir()) == []


def test_no_right_to_a_nameless_file_is_no_reason_to_make_a_named_one(tmp_path, monkeypatch) -> None:
    real = os.open

    def refusing(path, flags, *args, **more):
        if flags & TMPFILE == TMPFILE:
            raise PermissionError(errno.EACCES, "no")
        return real(path, flags, *args, **more)

    monkeypatch.setattr(os, "open", refusing)
    with pytest.raises(PermissionError):
        write_new(tmp_path / "x", DATA)
    assert list(tmp_path.iterdir()) == []


def test_a_file_is_replaced_as_a_whole_and_a_cut_leaves_the_old_one(tmp_path, monkeypatch) -> None:
    path = tmp_path / "head.json"
    home.write_atomic(path, b"old")
    home.write_atomic(path, b"new")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("head.json", b"new")]
    monkeypatch.setattr(os, "fsync", lambda _: os.kill(os.getpid(), signal.SIGKILL))
    assert os.WIFSIGNALED(in_a_child(lambda: home.write_atomic(path, b"cut")))
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("head.json", b"new")]


def test_of_two_that_write_at_once_neither_fails(tmp_path, monkeypatch) -> None:
    """The name is taken between the look and the link: the later one replaces."""
    monkeypatch.setattr(os.path, "lexists", lambda _: False)
    (tmp_path / "x").write_bytes(b"first")
    home.write_atomic(tmp_path / "x", b"second")
    assert [(one.name, one.read_bytes()) for one in tmp_path.iterdir()] == [("x", b"second")]
