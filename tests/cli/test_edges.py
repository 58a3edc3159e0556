"""Where an answer could say more than is true: a record that says otherwise, a full disk, an empty name, a terminal."""

from __future__ import annotations

import io
import json
import subprocess
import sys
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
    shown = cli("build", "stage", "ingest", "--", *words, tty=True)
    assert shown.err == "\\x1b[31m\\x07 a\tb\n"
    raw = cli("build", "stage", "extract", "--", *words)
    assert raw.code == 0, raw
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


# -- an answer that cannot be printed -------------------------------------------------------------------------------


def full(*words: str, errors: bool = False) -> subprocess.CompletedProcess[str]:
    """Run a command line as a process whose standard output (or error) is a full disk."""
    if not Path("/dev/full").exists():
        pytest.skip("this host has no /dev/full")
    program = [sys.executable, "-c", "from muniment.cli.main import main; main()", *words]
    with Path("/dev/full").open("w") as disk:
        out, err = (subprocess.PIPE, disk) if errors else (disk, subprocess.PIPE)
        return subprocess.run(program, stdout=out, stderr=err, text=True, timeout=60)


@pytest.mark.parametrize(
    "words",
    [
        ["history", "list"],
        ["history", "list", "-o", "csv"],
        ["history", "list", "-o", "json"],
        ["history", "follow", "--after", "1", "--limit", "2"],
        ["build", "stage", "--help"],
        ["--version"],
        ["help", "exit-codes"],
    ],
    ids=" ".join,
)
def test_an_answer_for_a_full_disk_is_unavailable(told: Path, words: list[str]) -> None:
    done = full(*words)
    assert done.returncode == 8, done.stderr
    assert "the answer could not be printed: No space left on device" in done.stderr
    assert "bug" not in done.stderr
    assert "Exception ignored" not in done.stderr
    assert "recorded" not in done.stderr


def test_a_write_whose_answer_is_lost_says_what_it_recorded(built: Path, cli: Cli) -> None:
    size = cli("history", "list", "-o", "json").json["as_of"]
    done = full("channel", "freeze", "prod", "--id", "fz-1", "--expires", "2h")
    assert done.returncode == 8
    assert f"  recorded  #{size + 1}\n" in done.stderr
    assert "do not repeat" in done.stderr
    error = json.loads(full("channel", "unfreeze", "prod", "--id", "fz-1", "-o", "json").stderr)
    assert (error["code"], error["context"]["recorded"]) == ("cli.output", [f"#{size + 2}"])
    refused = full("channel", "unpin", "prod")
    assert (refused.returncode, f"  recorded  #{size + 3}\n" in refused.stderr) == (8, True)
    dry = full("channel", "freeze", "prod", "--dry-run")
    assert (dry.returncode, "recorded" in dry.stderr) == (8, False)
    assert cli("history", "list", "-o", "json").json["as_of"] == size + 3


def test_notes_and_errors_for_a_full_disk_do_not_change_the_exit_code(told: Path) -> None:
    assert full("build", "show", "b-9", errors=True).returncode == 3
    done = full("history", "list", "--limit", "1", errors=True)
    assert (done.returncode, done.stdout.count("\n")) == (0, 1)
