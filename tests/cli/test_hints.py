"""Every command that a refusal, an error or a help text names is one that exists, with options that exist."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import click
import pytest
from muniment.cli.main import root
from muniment.cli.options import shared, write_options

FOLDERS = ("domain", "app", "store", "projections", "cli")
CHECKOUT = Path(__file__).parents[2]
_command = re.compile(r"""(?<![\w./{-])muniment ((?:--)?[a-z][^"`\n;]*)""")


def named() -> Iterator[tuple[str, str]]:
    """(place, command) of every command in a string of the code; a placeholder becomes the word X."""
    for folder in FOLDERS:
        for path in sorted((CHECKOUT / folder).glob("*.py")):
            source = re.sub(r'"\n\s*f?"', "", path.read_text(encoding="utf-8"))
            for found in _command.finditer(source):
                words = re.sub(r"\{[^{}]*\}", "X", found[1])
                yield f"{folder}/{path.name}", words.split("   ")[0].strip(" .,)'\"")


NAMED = sorted(set(named()))


def problem(words: str) -> str:
    """What is wrong with a command line, "" if nothing is."""
    context = click.Context(root, info_name="muniment")
    command: click.Command = root
    known = {name for option in [*shared(hidden=True), *write_options()] for name in option.opts}
    options = {"--help", "-h", "--version"} | known
    for word in re.split(r"[\s=]+", re.split(r", | && ", words)[0]):
        bare = word.strip("[]().,'\"…|")
        if bare in ("-", "--", "import") or "|" in word:
            break
        if bare.startswith("-"):
            options |= {name for item in command.params for name in [*item.opts, *item.secondary_opts]}
            if bare not in options:
                return f"no option {bare} in {command.name}"
        elif isinstance(command, click.Group):
            found = command.get_command(context, bare)
            if found is None:
                return (
                    "" if not re.fullmatch(r"[a-z][a-z-]+", bare) else f"no command {bare} in {command.name}"
                )
            command = found
    return ""


@pytest.mark.parametrize(
    ("place", "words"), [pytest.param(place, words, id=f"{place}: {words[:60]}") for place, words in NAMED]
)
def test_a_named_command_exists(place: str, words: str) -> None:
    assert problem(words) == "", f"{place}: muniment {words}"


def test_the_test_sees_what_is_wrong() -> None:
    assert len(NAMED) > 100
    assert problem("channel shw")
    assert problem("channel pin prod --sope x")
    assert problem("release promote r-1 --to prod/stable") == ""
