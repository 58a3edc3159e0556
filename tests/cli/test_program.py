"""The program as a process: start-up, help, version, pipes, completion; and that no command is without help and examples."""

from __future__ import annotations

import os
import pty
import re
import shlex
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from muniment.cli import exits
from muniment.cli.framework import CONTEXT, Noun, Verb
from muniment.cli.main import root
from muniment.cli.verbs import TABLE
from pipelines import single

HEAVY = (
    "pydantic",
    "eventsourcing",
    "cryptography",
    "msgspec",
    "blake3",
    "muniment.app",
    "muniment.store",
    "muniment.projections",
)

LOOK = """
import sys
from muniment.cli.main import run
def look(names):
    print(sorted(m for m in sys.modules if m.startswith(names)), file=sys.stderr)
"""


def python(code: str, **more: Any) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=60, **more)


def muniment(*words: str) -> list[str]:
    return [sys.executable, "-c", "from muniment.cli.main import main; main()", *words]


def commands() -> Iterator[tuple[str, click.Command]]:
    context = click.Context(root, info_name="muniment", **CONTEXT)
    for name in root.list_commands(context):
        found = root.get_command(context, name)
        assert found is not None
        yield name, found
        if isinstance(found, click.Group):
            for child in found.list_commands(context):
                inner = found.get_command(context, child)
                assert inner is not None
                yield f"{name} {child}", inner


ALL = list(commands())


@pytest.mark.parametrize(
    "words",
    [[], ["--help"], ["--version"], ["help", "exit-codes"], ["build", "stage", "--help"]],
    ids=" ".join,
)
def test_help_imports_nothing_heavy(words: list[str]) -> None:
    code = f"{LOOK}code = run({words!r}); look({HEAVY!r}); sys.exit(code)"
    done = python(code)
    assert done.returncode == 0, done.stderr
    assert done.stderr.strip() == "[]"


@pytest.mark.parametrize("line", ["channel show", "history list", "evidence-summary", "projection status"])
def test_reading_imports_no_models_and_no_driver(told: Path, line: str) -> None:
    """pydantic is for whoever appends, a driver for who names a server; a board must feel instant (cli.md, section 2)."""
    code = (
        f"{LOOK}run({line.split()!r}); look(('pydantic', 'eventsourcing', 'psycopg', 'obstore', 'asyncio'))"
    )
    assert python(code).stderr.strip().splitlines()[-1] == "[]"


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_command_has_help_that_begins_with_examples(name: str, command: click.Command) -> None:
    assert isinstance(command, Verb | Noun)
    assert command.examples
    assert all("muniment" in example for example in command.examples)
    assert command.help
    context = click.Context(
        command,
        info_name=name,
        parent=click.Context(root, info_name="muniment", **CONTEXT),
        terminal_width=100,
    )
    said = command.get_help(context)
    assert said.startswith("Examples:\n  $ ")
    assert "Usage: muniment" in said


@pytest.mark.parametrize(("name", "command"), ALL, ids=[name for name, _ in ALL])
def test_every_example_parses(name: str, command: click.Command) -> None:
    """The words of an example after `muniment` and its own name are accepted by the parser."""
    import shlex

    assert isinstance(command, Verb | Noun)
    for example in command.examples:
        lone = re.sub(
            r"^.*?(?:\$\(|\")?muniment ", "", example.split(" | ")[-1] if "| muniment" in example else example
        )
        lone = re.split(r" && | > |\)\"?$| \| ", lone)[0].rstrip(')"')
        words = shlex.split(lone)
        depth = len(name.split())
        if isinstance(command, Noun) or words[:depth] != name.split():
            continue
        command.make_context(name, words[depth:], parent=click.Context(root, info_name="muniment", **CONTEXT))


def test_the_line_in_the_root_help_is_the_line_of_the_command() -> None:
    for name, (_, _, _, line) in TABLE.items():
        command = dict(ALL)[name]
        assert (command.help or "").split("\n")[0] == line, name


def test_help_topics_and_suggestions(cli: Callable[..., Any]) -> None:
    assert cli("help", "exit-codes").out.rstrip("\n") == exits.text()
    for topic in ("environment", "references", "time", "all"):
        assert cli("help", topic).code == 0
    assert "muniment channel pin" in cli("help", "channel", "pin").out
    assert "Did you mean: channel" in cli("chanel").err
    assert "Did you mean: promote" in cli("release", "promte", "r-1").err
    assert "--reason" in cli("channel", "unpin", "prod", "--reson", "x").err
    assert "Did you mean: exit-codes" in cli("help", "exit-code").err


def test_the_first_screen_fits_a_terminal(cli: Callable[..., Any]) -> None:
    lines = cli().out.splitlines()
    assert len(lines) < 24
    assert max(map(len, lines)) <= 110
    pipelines = {"validate", "describe", "dot", "run", "snapshot", "doctor"}
    assert pipelines <= {word for line in lines for word in line.split()}


def test_version(cli: Callable[..., Any]) -> None:
    assert re.fullmatch(r"muniment \d+\.\d+\.\d+\S*\n", cli("--version").out)


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_completion_prints_a_script(cli: Callable[..., Any], shell: str) -> None:
    assert "_MUNIMENT_COMPLETE" in cli("completion", shell).out


def test_a_reader_that_goes_away_is_no_error(told: Path) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        muniment("history", "list"), stdout=writing, stderr=subprocess.PIPE, text=True, timeout=60
    )
    os.close(writing)
    assert done.stderr == ""
    assert done.returncode == 141


def test_a_full_disk_on_standard_output_is_an_error(told: Path) -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this host has no /dev/full")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run(
            muniment("history", "list"), stdout=full, stderr=subprocess.PIPE, text=True, timeout=60
        )
    assert done.returncode not in (0, 141)


@pytest.mark.parametrize(("closed", "code"), [(">&-", 8), ("2>&-", 0), (">&- 2>&-", 8), ("<&- >&- 2>&-", 8)])
def test_a_closed_stream_is_no_fault_and_no_file_gets_its_number(told: Path, closed: str, code: int) -> None:
    words = shlex.join(muniment("history", "list"))
    assert (
        subprocess.run(["sh", "-c", f"{words} {closed}"], capture_output=True, timeout=60).returncode == code
    )


@pytest.mark.parametrize(
    "words",
    [
        ("validate", "--spec", "-"),
        ("run", "--spec", "p.kv"),
        ("run", "--spec", "p.kv", "--no-record"),
        ("intake", "add", "-"),
        ("schema", "check", "-"),
    ],
)
def test_a_closed_standard_input_is_no_empty_one(told: Path, words: tuple[str, ...]) -> None:
    (told / "p.kv").write_text(single("count"))
    line = shlex.join(muniment(*words))
    done = subprocess.run(["sh", "-c", f"{line} <&-"], capture_output=True, timeout=60)
    assert (done.returncode, done.stdout) == (8, b"")
    assert b"clos" in done.stderr or b"read" in done.stderr


def test_a_real_terminal_gets_the_aligned_table(told: Path) -> None:
    parent, child = pty.openpty()
    done = subprocess.run(
        muniment("build", "list"), stdout=child, stderr=subprocess.PIPE, stdin=child, timeout=60
    )
    os.close(child)
    said = os.read(parent, 65536).decode()
    os.close(parent)
    assert done.returncode == 0
    assert said.startswith("BUILD  STATE")
    assert "\x1b" not in said


def test_no_prompt_waits_for_input(told: Path) -> None:
    """Standard input is never read unless `-` names it."""
    for words in (["policy", "publish", "team"], ["key", "create", "bob"], ["rollback", "prod/stable/all"]):
        subprocess.run(muniment(*words), stdin=subprocess.PIPE, capture_output=True, timeout=60)


def test_interrupted_by_a_signal(told: Path) -> None:
    import signal
    import time

    child = subprocess.Popen(
        muniment("history", "follow", "--after", "1"), stdout=subprocess.PIPE, stderr=subprocess.PIPE
    )
    assert child.stdout is not None
    assert child.stdout.readline()
    time.sleep(0.2)
    child.send_signal(signal.SIGINT)
    _, err = child.communicate(timeout=30)
    assert child.returncode == 130
    assert b"Traceback" not in err


def test_print_and_exit_stand_in_one_place_each() -> None:
    folder = Path((root.__module__ and sys.modules["muniment.cli.main"].__file__) or "").resolve().parent
    for path in folder.glob("*.py"):
        source = path.read_text(encoding="utf-8")
        if path.name != "output.py":
            assert not re.search(r"^\s*print\(", source, re.MULTILINE), path.name
        if path.name != "main.py":
            assert "sys.exit" not in source, path.name
