"""Intakes through the services: what cannot be taken records nothing, and a key takes nothing twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import shop
from muniment.app import intaking
from muniment.app.session import Options
from muniment.domain.errors import ConflictError, MunimentError, UnavailableError, UsageError


@pytest.mark.parametrize(
    "kind",
    ["absent", "empty", "symlink out", "absolute link", "fifo", "control", "newline", "bytes", "own store"],
)
def test_an_intake_that_cannot_be_taken_records_nothing(here, kind):
    folder = here.source()
    (here.base / "secret").write_text("outside")
    if kind == "absent":
        folder = here.base / "none"
    elif kind == "empty":
        folder = here.base / "void"
        folder.mkdir()
    elif kind == "symlink out":
        (folder / "link").symlink_to("../secret")
    elif kind == "absolute link":
        (folder / "sub" / "link").symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(folder / "fifo")
    elif kind == "control":
        (folder / "a\x1b[2Jb").write_text("x")
    elif kind == "newline":
        (folder / "a\nb").write_text("x")
    elif kind == "bytes":
        Path(os.fsdecode(bytes(folder) + b"/\xff")).write_text("x")
    else:
        folder = here.base
    with here.open() as s:
        before = s.log.head().size
        with pytest.raises(MunimentError) as caught:
            intaking.add(s, str(folder), Options())
        assert caught.value.exit_code == 2
        assert before == s.log.head().size


@pytest.mark.parametrize("field", ["origin", "authority", "tool"])
@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "x" * 1025, "\ud800"])
def test_what_is_said_about_an_intake_is_one_line(here, field, text):
    with here.open() as s:
        with pytest.raises(UsageError) as caught:
            intaking.add(s, str(here.source()), Options(), **{field: text})
        assert caught.value.code == "intake.text"
        assert s.log.head().size == 2
        assert not (here.at / "evidence").exists(), "found out before the files were read"


def test_a_file_that_changes_while_it_is_read_fails_the_intake(here):
    big = here.source() / "big"
    big.write_bytes(os.urandom(20_000_000))
    os.utime(big, ns=(1, 1))  # the clock of a file system may stand still for 10 ms

    def scribble(_count):
        with big.open("r+b") as file:
            file.write(os.urandom(16))

    with here.open() as s:
        s.progress = scribble
        with pytest.raises(UnavailableError, match="changed"):
            intaking.add(s, str(big.parent), Options())
        assert s.log.head().size == 2


def test_a_repeated_intake_key(here):
    with here.open() as s:
        first, _, name = intaking.add(s, str(here.source()), shop.key("in"))
        again, _, same = intaking.add(s, str(here.source()), shop.key("in"))
        assert (name, first.positions, True) == (same, again.positions, again.repeated)
        for call in (
            lambda: intaking.add(s, str(here.source("other")), shop.key("in")),
            lambda: intaking.add(s, str(here.source()), shop.key("in"), intake_id="in-other"),
            lambda: intaking.add(s, str(here.source()), shop.key("in"), origin="elsewhere"),
        ):
            with pytest.raises(ConflictError) as caught:
                call()
            assert caught.value.exit_code == 5
        assert s.log.head().size == 3
