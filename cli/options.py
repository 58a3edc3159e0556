"""Every shared option once. They may stand before or after the verb; the innermost one counts, lists add up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeVar

import click
from muniment.cli.settings import Settings
from muniment.domain.errors import UsageError

F = TypeVar("F", bound=Callable[..., Any])
OUTPUTS = ("table", "json", "jsonl", "csv")


def _keep(context: click.Context, parameter: click.Parameter, value: Any) -> Any:
    name = str(parameter.name)
    if context.get_parameter_source(name) is click.core.ParameterSource.COMMANDLINE:
        check_filled(parameter, value)
        settings = context.ensure_object(Settings)
        settings.give(name, list(value) if isinstance(value, tuple) else value)
    return value


def check_filled(parameter: click.Parameter, value: Any) -> None:
    """Refuse a value that is given and blank: a variable that is not set in a script is no way to say "as if absent".

    Words of a command to be run may be blank, for they are not ours to judge.

    Raises:
        UsageError: it is.
    """
    if isinstance(parameter.type, click.types.UnprocessedParamType):
        return
    given = value if isinstance(value, list | tuple) else (value,)
    if any(isinstance(item, str) and not item.strip() for item in given):
        name = parameter.opts[-1] if isinstance(parameter, click.Option) else parameter.human_readable_name
        raise UsageError(f"{name} is given and empty", code="cli.empty", hint="leave it out, or say it")


def _split(context: click.Context, parameter: click.Parameter, value: str | None) -> str | None:
    if value is not None:
        names = [item.strip() for item in value.split(",")]
        if not all(names):
            raise click.BadParameter("names are separated by one comma each", ctx=context, param=parameter)
        context.ensure_object(Settings).give("fields", names)
    return value


def _option(*names: str, **attributes: Any) -> click.Option:
    attributes.setdefault("callback", _keep)
    return click.Option(names, expose_value=False, **attributes)


def shared(*, hidden: bool) -> list[click.Parameter]:
    """The global options; a verb's own help only points to them, so there they are hidden."""
    options = [
        _option(
            "--store",
            metavar="URL",
            help="The store: a folder or postgresql://…?schema=NAME (MUNIMENT_STORE; default ./.muniment).",
        ),
        _option("-o", "--output", type=click.Choice(OUTPUTS), help="table, json, jsonl or csv."),
        _option("--fields", metavar="A,B", callback=_split, help="Only these members."),
        _option("--where", metavar="K=V", multiple=True, help="Only rows with this value; again for more."),
        _option("--as-of", metavar="REF|TIME|POSITION", help="What was known then."),
        _option("--since", metavar="TIME|AGE", help="From then on: RFC 3339, or 2h, 3d."),
        _option("--until", metavar="TIME|AGE", help="Up to then."),
        _option("--limit", metavar="N", type=click.IntRange(min=1), help="At most so many rows."),
        _option("--cursor", metavar="KEY", help="Go on after this row (`next` of the last page)."),
        _option("-q", "--quiet", is_flag=True, help="Only ids; no notes and no progress."),
        _option(
            "-v", "--verbose", is_flag=True, help="More context, plain progress lines, traces of faults."
        ),
        _option("--no-color", is_flag=True, callback=lambda *_: None, help="Nothing is coloured; accepted."),
        _option(
            "--no-input", is_flag=True, callback=lambda *_: None, help="Nothing is ever asked; accepted."
        ),
        _option("--local/--utc", "local", default=False, help="Times of this host's zone, or UTC (default)."),
    ]
    for option in options:
        option.hidden = hidden
    return list(options)


def write_options(*, hidden: bool = False) -> list[click.Parameter]:
    """What every verb that decides takes; before the verb they are accepted and not listed."""
    options = [
        _option("--dry-run", is_flag=True, help="Decide, write nothing; exits as the real run would."),
        _option("--reason", metavar="TEXT", help="Why; stands in the record."),
        _option(
            "--idempotency-key", metavar="KEY", help="Asked again under this key, the first answer is given."
        ),
        _option(
            "--expect",
            metavar="POSITION",
            type=click.IntRange(min=0),
            help="Only if nothing moved since; --dry-run prints it.",
        ),
        _option("--sign", metavar="KEY", help="Sign as the identity of this key (MUNIMENT_SIGN)."),
    ]
    for option in options:
        option.hidden = hidden
    return list(options)
