"""The program: parse, run one verb, print its result, exit with its code."""

from __future__ import annotations

import os
import sys
from typing import Any

import click
from muniment import __version__
from muniment.cli import exits
from muniment.cli.framework import Lazy
from muniment.cli.settings import Settings
from muniment.cli.verbs import TABLE


def _version(context: click.Context, parameter: click.Parameter, value: bool) -> None:  # noqa: ARG001
    if value and not context.resilient_parsing:
        click.echo(f"muniment {__version__}")
        context.exit()


def _start(context: click.Context) -> None:
    from muniment.cli.topics import FIRST_SCREEN

    if context.invoked_subcommand is None:
        click.echo(FIRST_SCREEN)
        context.exit()


root = Lazy(
    "muniment",
    TABLE,
    ["muniment init", "muniment demo --store demo", "muniment channel show", "muniment help exit-codes"],
    callback=click.pass_context(_start),
    invoke_without_command=True,
    help="Releases with evidence: every decision, refusal and switch is a record in one verifiable log.",
)
root.params.append(
    click.Option(
        ["--version"],
        is_flag=True,
        is_eager=True,
        expose_value=False,
        callback=_version,
        help="Say the version and exit.",
    )
)


def run(args: list[str] | None = None) -> int:
    """Run one command line and return its exit code; nothing but an exit of the interpreter itself escapes."""
    settings = Settings()
    words = list(sys.argv[1:] if args is None else args)
    found: Any = None
    try:
        try:
            found = root.main(words, prog_name="muniment", standalone_mode=False, obj=settings)
            code = found if isinstance(found, int) else _emit(settings, found)
            if sys.stdout is not None:
                sys.stdout.flush()
        except BrokenPipeError:
            raise
        except click.exceptions.Exit as leave:
            code = leave.exit_code
        except (Exception, KeyboardInterrupt) as error:
            from muniment.cli import faults

            _early_output(settings, words)
            code = faults.report(error, settings, found)
    except BrokenPipeError:
        from muniment.cli import faults

        code = faults.broken_pipe()
    return code


def _emit(settings: Settings, result: Any) -> int:
    if result is None:
        return exits.OK
    from muniment.cli.output import emit, flush

    code = emit(settings, result)
    flush()
    return code


def _early_output(settings: Settings, words: list[str]) -> None:
    """A command line that does not parse has said `-o json` all the same."""
    if "output" in settings.given:
        return
    for at, item in enumerate(words):
        value = words[at + 1] if item in ("-o", "--output") and at + 1 < len(words) else ""
        value = item[2:] if item.startswith("-o") and not value else value
        value = item.removeprefix("--output=") if item.startswith("--output=") else value
        if value in ("json", "jsonl"):
            settings.output = value


def main() -> None:
    """Entry of the console script."""
    _fill_closed_streams()
    sys.exit(run())


def _fill_closed_streams() -> None:
    """Occupy standard streams that were given closed (`>&-`), or a file of the store would get their number.

    Standard input is then one that gives nothing, an error and not an empty input; standard output one that takes nothing, so
    that an answer nobody can get is not exit 0.
    """
    for name, mode in (("stdin", "w"), ("stdout", "r"), ("stderr", "w")):
        if getattr(sys, name) is None:
            setattr(sys, name, open(os.devnull, mode))  # noqa: SIM115, PTH123 - it stays until the end
