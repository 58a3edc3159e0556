"""Click, our way: shared options before or after the verb, examples first, "did you mean", nouns imported only when used.

A verb is a function `(settings, **arguments) -> result`. It never prints and never exits: `output.emit` prints what it
returns, and the exit code comes from the result or from the error it raises.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from typing import Any

import click
from muniment.cli.options import check_filled, shared, write_options
from muniment.cli.settings import Settings

WIDTH = 100  # help has one width everywhere, so its snapshot has too
CONTEXT = {"help_option_names": ["--help", "-h"], "max_content_width": WIDTH, "terminal_width": WIDTH}
Body = Callable[..., Any]


def examples_first(examples: Sequence[str], formatter: click.HelpFormatter) -> None:
    """The section that every help begins with; an example is never wrapped, since it is to be copied."""
    formatter.write("Examples:\n")
    for line in examples:
        formatter.write(f"  $ {line}\n")
    formatter.write("\n")


def given(context: click.Context, parameter: click.Parameter) -> bool:
    """True if the command line says it, and not a default or the environment."""
    source = context.get_parameter_source(str(parameter.name))
    return source is click.core.ParameterSource.COMMANDLINE


class Verb(click.Command):
    """One command.

    Args:
        examples: what stands first in its help, at least one.
        uses: the selecting options it honours; the others are refused (see `Settings.uses`).
        write: it decides, so it takes the write options.
    """

    def __init__(
        self,
        name: str,
        body: Body,
        *,
        examples: Sequence[str],
        uses: Sequence[str],
        write: bool,
        params: list[click.Parameter],
        **attributes: Any,
    ) -> None:
        own = [*params, *(write_options() if write else [])]
        super().__init__(name, params=[*own, *shared(hidden=True)], context_settings=CONTEXT, **attributes)
        self.examples, self.uses, self.write, self._body = list(examples), tuple(uses), write, body

    def invoke(self, ctx: click.Context) -> Any:
        """Run the body and hand its result up; the root group prints it."""
        settings = ctx.ensure_object(Settings)
        settings.verb = ctx.command_path.split(" ", 1)[-1]
        settings.uses(*self.uses, write=self.write)
        for parameter in self.params:
            if given(ctx, parameter):
                check_filled(parameter, ctx.params.get(str(parameter.name)))
        with ctx:
            return self._body(settings, **ctx.params)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples, usage, text, options."""
        examples_first(self.examples, formatter)
        super().format_help(ctx, formatter)
        formatter.write_paragraph()
        also = "".join(f" --{name.replace('_', '-')}" for name in self.uses)
        formatter.write_text(f"Also: --store -o{also} -q -v --utc|--local (muniment --help)")

    def format_usage(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Usage without a leading blank line."""
        formatter.write_usage(ctx.command_path, " ".join(self.collect_usage_pieces(ctx)))


class Noun(click.Group):
    """A noun with its verbs."""

    def __init__(self, name: str, help_: str, examples: Sequence[str]) -> None:
        super().__init__(
            name,
            help=help_,
            params=[*shared(hidden=True), *write_options(hidden=True)],
            context_settings=CONTEXT,
        )
        self.examples = list(examples)

    def verb(
        self,
        name: str,
        *,
        examples: Sequence[str],
        uses: Sequence[str] = (),
        write: bool = False,
        **more: Any,
    ) -> Callable[[Body], Verb]:
        """Register a function as a verb of this noun; its docstring is the help."""

        def register(body: Body) -> Verb:
            made = verb(name, examples=examples, uses=uses, write=write, **more)(body)
            self.add_command(made)
            return made

        return register

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """In the order of the story, not of the alphabet."""
        return list(self.commands)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples first."""
        examples_first(self.examples, formatter)
        super().format_help(ctx, formatter)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say what was probably meant."""
        return resolve(super().resolve_command, self, ctx, args)


def verb(
    name: str, *, examples: Sequence[str], uses: Sequence[str] = (), write: bool = False, **more: Any
) -> Callable[[Body], Verb]:
    """Make a command of a function; `more` goes to click (context settings and the like)."""

    def register(body: Body) -> Verb:
        params = list(reversed(getattr(body, "__click_params__", [])))
        return Verb(
            name, body, examples=examples, uses=uses, write=write, params=params, help=body.__doc__, **more
        )

    return register


Resolved = tuple[str | None, click.Command | None, list[str]]


def resolve(
    parent: Callable[[click.Context, list[str]], Resolved],
    group: click.Group,
    ctx: click.Context,
    args: list[str],
) -> Resolved:
    """Resolve a command, or raise a usage error that names the nearest ones."""
    try:
        return parent(ctx, args)
    except click.UsageError:
        name = args[0]
        if name.startswith("-"):
            raise
        from difflib import get_close_matches

        near = get_close_matches(name, group.list_commands(ctx), n=3, cutoff=0.5)
        where = ctx.command_path
        meant = f" Did you mean: {', '.join(near)}?" if near else ""
        raise click.UsageError(f"{where} has no command {name[:60]!r}.{meant}", ctx=ctx) from None


class Lazy(click.Group):
    """The root: names, homes and one line of help for each; a home is imported when its name is used.

    Args:
        table: name -> (section, module, attribute, short help).
    """

    def __init__(
        self,
        name: str,
        table: dict[str, tuple[str, str, str, str]],
        examples: Sequence[str],
        **attributes: Any,
    ) -> None:
        params = [*shared(hidden=False), *write_options(hidden=True)]
        super().__init__(name, params=params, context_settings=CONTEXT, **attributes)
        self.table, self.examples = table, list(examples)

    def format_help(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        """Examples first."""
        examples_first(self.examples, formatter)
        super().format_help(ctx, formatter)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """Every name in the order of the table."""
        return list(self.table)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002
        """Import the home of a name."""
        if cmd_name not in self.table:
            return None
        _, module, attribute, _ = self.table[cmd_name]
        found = getattr(importlib.import_module(module), attribute)
        assert isinstance(found, click.Command)
        return found

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Say what was probably meant."""
        return resolve(super().resolve_command, self, ctx, args)

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002
        """By section, from the table alone: no home is imported for help."""
        sections = dict.fromkeys(section for section, *_ in self.table.values())
        for section in sections:
            rows = [(name, row[3]) for name, row in self.table.items() if row[0] == section]
            with formatter.section(section):
                formatter.write_dl(rows, col_max=20)
