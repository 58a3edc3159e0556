"""Printing. The only place that writes to standard output or standard error (progress apart).

Standard output holds the answer, a refusal included; standard error holds notes, progress, and errors.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from typing import IO, Any

from muniment.cli import select, table
from muniment.cli.results import Refused, Result, Rows, Text
from muniment.cli.settings import Settings
from muniment.cli.text import cell, short, short_command, visible, visible_json


class UnprintedError(Exception):
    """Standard output did not take the answer; raised from what the system said."""


AnyResult = Result | Rows | Refused | Text


def emit(settings: Settings, result: AnyResult) -> int:
    """Print a result in the wanted format and return its exit code."""
    if isinstance(result, Text):
        write(result.text)
    elif isinstance(result, Refused):
        _refused(settings, result)
    elif isinstance(result, Rows):
        _rows(settings, result)
    else:
        _result(settings, result)
    flush()  # who reads no answer reads no note
    if not settings.quiet and not settings.json:
        for line in getattr(result, "notes", ()):
            note(line)
    return result.exit_code


@contextmanager
def printing() -> Iterator[None]:
    """Tell a standard output that is full from anything else that fails.

    Raises:
        UnprintedError: it took not everything. BrokenPipeError: the reader went away, which is no error.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        raise UnprintedError(error.strerror or str(error)) from error


def write(line: str) -> None:
    """One line (or several of our own) to standard output."""
    with printing():
        print(line)  # noqa: T201 - the one place


def flush() -> None:
    """Have standard output take what it was given."""
    with printing():
        sys.stdout.flush()


def note(line: str) -> None:
    """One line to standard error, safe for a terminal; if it takes none, the answer and its exit code stand all the same."""
    try:
        print(visible(line), file=sys.stderr)  # noqa: T201
    except OSError:
        _drop_errors()


def _drop_errors() -> None:
    """What standard error did not take is still in its buffer: the interpreter must not try again at its end, and exit with 120."""
    with suppress(OSError, ValueError):
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stderr.fileno())
        os.close(nowhere)


def envelope(
    schema: str, data: Any, as_of: int | None, next_: str | None = None, omitted: int = 0
) -> dict[str, Any]:
    """The one shape of JSON (cli.md, section 1)."""
    return {"schema": schema, "as_of": as_of, "data": data, "next": next_, "omitted": omitted}


def dump(value: Any, *, indent: bool = False) -> str:
    """JSON text that a terminal may show."""
    separators = None if indent else (",", ":")
    text = json.dumps(value, ensure_ascii=False, indent=2 if indent else None, separators=separators)
    return visible_json(text)


# -- one object ----------------------------------------------------------------------------------------------------


def _result(settings: Settings, result: Result) -> None:
    data = select.project(result.data, settings.fields) if settings.fields else result.data
    if settings.output == "json":
        write(dump(envelope(result.schema, data, result.as_of), indent=sys.stdout.isatty()))
    elif settings.output == "jsonl":
        write(dump(data))
    elif settings.output == "csv":
        _csv(list(data), [data])
    elif settings.quiet:
        if result.brief:
            write(visible(result.brief))
    elif result.lines and not settings.fields:
        for line in result.lines:
            write(person(settings, line))
        if result.next:
            write(f"  next   {command(settings, result.next)}")
    else:
        members = [(name, _cell(settings, value)) for name, value in data.items()]
        for line in table.pairs(members, terminal=settings.terminal):
            write(line)


def person(settings: Settings, line: str) -> str:
    """A line for people: safe, and with short digests on a terminal."""
    text = visible(line)
    return short(text) if settings.terminal else text


def command(settings: Settings, line: str) -> str:
    """A command to be copied."""
    text = visible(line)
    return short_command(text) if settings.terminal else text


def _cell(settings: Settings, value: Any) -> str:
    return cell(value, terminal=settings.terminal, local=settings.local)


# -- lists ---------------------------------------------------------------------------------------------------------


def _rows(settings: Settings, result: Rows) -> None:
    rows: Iterable[dict[str, Any]] = result.rows
    if settings.where:
        rows = select.matching(rows, settings.where)
    if result.streamed:
        for row in rows:
            _streamed(settings, result, row)
        return
    listed, next_, omitted = list(rows), result.next, result.omitted
    if not result.paged:
        listed, next_, omitted = select.page(listed, result.key, settings.limit, settings.cursor)
    columns = settings.fields or list(result.columns)
    chosen = [select.project(row, settings.fields) for row in listed] if settings.fields else listed
    if settings.output == "json":
        write(dump(envelope(result.schema, chosen, result.as_of, next_, omitted), indent=sys.stdout.isatty()))
    elif settings.output == "jsonl":
        for row in chosen:
            write(dump(row))
    elif settings.output == "csv":
        _csv(settings.fields or _all_members(chosen, columns), chosen)
    elif settings.quiet:
        for row in listed:
            write(visible(select.as_word(row[result.key])))
    else:
        _table(settings, columns, chosen, result.empty)
    if omitted and not settings.json and not settings.quiet:
        note(f"{omitted} more: --cursor {next_ or ''}")


def _table(settings: Settings, columns: list[str], rows: list[dict[str, Any]], empty: str) -> None:
    cells = [[_cell(settings, row.get(name)) for name in columns] for row in rows]
    if not settings.terminal:
        for line in table.tabbed(cells):
            write(line)
    elif not rows:
        write(empty)
    else:
        header = [name.replace("_", " ").upper() for name in columns]
        for line in table.aligned(header, cells, shutil.get_terminal_size().columns):
            write(line)
    if not rows and not settings.terminal and not settings.quiet:
        note(empty)


def _streamed(settings: Settings, result: Rows, row: dict[str, Any]) -> None:
    columns = settings.fields or list(result.columns)
    chosen = select.project(row, settings.fields) if settings.fields else row
    if settings.json:
        write(dump(chosen))
    elif settings.output == "csv":
        _csv(columns, [chosen], header=False)
    else:
        write("\t".join(_cell(settings, chosen.get(name)) for name in columns))
    flush()


def _all_members(rows: list[dict[str, Any]], columns: list[str]) -> list[str]:
    return list(dict.fromkeys([*columns, *(name for row in rows for name in row)]))


def _csv(columns: list[str], rows: list[dict[str, Any]], *, header: bool = True) -> None:
    import csv

    writer = csv.writer(sys.stdout, lineterminator="\n")
    with printing():
        if header:
            writer.writerow([visible(name) for name in columns])
        for row in rows:
            writer.writerow([cell(row.get(name), terminal=False) for name in columns])


# -- refusals and errors -------------------------------------------------------------------------------------------


def _refused(settings: Settings, result: Refused) -> None:
    from muniment.cli.refusals import lines, members

    if settings.output != "table":
        data = members(result)
        if settings.json:
            write(dump(data, indent=settings.output == "json" and sys.stdout.isatty()))
        else:
            _csv(list(data), [data])
        return
    for line in lines(settings, result):
        write(line)


def error(settings: Settings | None, members: dict[str, Any], lines: Callable[[], Iterable[str]]) -> None:
    """An error, on standard error: JSON if that was asked for."""
    stream: IO[str] = sys.stderr
    try:
        if settings is not None and settings.json:
            stream.write(dump({"schema": "error/1", **members}) + "\n")
            return
        for line in lines():
            stream.write(visible(line) + "\n")
    except OSError:  # nowhere left to say it; the exit code still does
        _drop_errors()
