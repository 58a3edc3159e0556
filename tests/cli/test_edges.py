"""Where an answer could say more than is true: a record that says otherwise, a full disk, an empty name, a terminal."""

from __future__ import annotations

import io
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.cli.tee import Escaped

SLOT = "prod/stable/all"
Cli = Callable[..., Any]
LINK = ["sh", "-c", 'ln -s /etc/hostname "$0"/link', "{output}"]
FIFO = ["sh", "-c", 'mkfifo "$0"/pipe; exit 3', "{output}"]


@pytest.fixture
def working(built: Path, cli: Cli) -> Path:
    """An unfinished build b-7."""
    assert cli("build", "start", "--product", "atlas", "--intake", "in-1", "--id", "b-7").code == 0
    return built


# -- the record has the last word -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("words", "exit_code"), [(LINK, 0), (FIFO, 3)], ids=["link", "fifo"])
def test_a_stage_says_what_its_record_says(working: Path, cli: Cli, words: list[str], exit_code: int) -> None:
    ran = cli("build", "stage", "validate", "--", *words)
    assert ran.code == 8
    assert ran.out.startswith(f"ERROR  stage validate of build b-7, exit {exit_code}, ")
    assert "outputs cannot be kept" in ran.out
    last = cli("history", "list", "--where", "build=b-7", "--limit", "1", "-o", "json").json["data"][0]
    assert last["type"] == "build.stage_finished/1"
    assert "ERROR" in last["summary"]
    again = cli("build", "stage", "validate", "-o", "json", "--", *words)
    assert (again.code, again.json["data"]["status"]) == (8, "ERROR")


def test_a_command_that_cannot_start_has_no_exit_code(working: Path, cli: Cli) -> None:
    ran = cli("build", "stage", "validate", "--", "no-such-program-here")
    assert ran.code == 8
    assert "None" not in ran.out
    assert "not run to an end" in ran.out


def test_a_stage_with_one_output_has_one_file(working: Path, cli: Cli) -> None:
    ran = cli("build", "stage", "validate", "--", "sh", "-c", 'echo x > "$0"/x', "{output}")
    assert (ran.code, "outputs 1 file in " in ran.out) == (0, True)


# -- what a stage prints --------------------------------------------------------------------------------------------

ESCAPES = b"\x1b]0;owned\x07 red \x1b[31m\r\nnext\ttab \xe2\x80\xae\n"


def test_a_terminal_is_not_driven_by_a_stage(working: Path, cli: Cli) -> None:
    words = ["sh", "-c", "printf '\\033[31m\\007 a\\tb\\n' >&2"]
    shown = cli("build", "stage", "validate", "--", *words, tty=True)
    assert shown.err == "\\x1b[31m\\x07 a\tb\n"
    raw = cli("build", "stage", "extract", "--", *words)
    assert raw.err == "\x1b[31m\x07 a\tb\n"
    page = cli("history", "list", "--where", "build=b-7", "--limit", "1", "-o", "json").json["data"][0]
    record = cli("history", "show", f"#{page['position']}", "-o", "json").json["data"]["record"]
    kept = next(item for item in record["evidence"] if item["role"] == "stage-stderr")
    assert kept["bytes"] == len(b"\x1b[31m\x07 a\tb\n")


@pytest.mark.parametrize("step", [1, 2, 3, 1000])
def test_characters_cut_by_a_chunk_are_whole_again(step: int) -> None:
    stream = io.BytesIO()
    shown = Escaped(stream)
    for at in range(0, len(ESCAPES), step):
        shown.write(ESCAPES[at : at + step])
    text = stream.getvalue().decode()
    assert text == "\\x1b]0;owned\\x07 red \\x1b[31m\\r\nnext\ttab \\u202e\n"
