"""From an exception to an exit code and a message: what, where, expected, found, next (style.md)."""

from __future__ import annotations

import sys
import traceback
from typing import Any

import click
from muniment.cli import exits, output
from muniment.cli.results import Refused
from muniment.cli.settings import Settings
from muniment.domain.errors import MunimentError

LOOKED = ("doctor/1", "snapshot/1", "validate/1")  # verbs that look, and record what they saw


def report(error: BaseException, settings: Settings | None, result: Any = None) -> int:
    """Say an error and return its exit code; `result` is what could not be printed, if it came that far."""
    if isinstance(error, output.UnprintedError) or _of_click(error):
        return _unprinted(error, settings, result)
    if isinstance(error, MunimentError):
        return _domain(error, settings)
    if isinstance(error, click.ClickException):
        return _usage(error, settings)
    if isinstance(error, KeyboardInterrupt | click.Abort):
        _say(
            settings,
            exits.INTERRUPTED,
            "interrupted",
            "interrupted; what was not recorded did not happen",
            "",
            {},
        )
        return exits.INTERRUPTED
    return _fault(error, settings)


def _say(
    settings: Settings | None, code: int, name: str, message: str, hint: str, context: dict[str, Any]
) -> None:
    def lines() -> list[str]:
        size = max((len(key) for key in [*context, "code", "next"]), default=0) + 2
        found = [f"{exits.word(code)}  {message}"]
        for key, value in context.items():
            if value not in ("", [], None):
                found += [f"  {key:<{size}}{line}" for line in _plain(value)]
        found.append(f"  {'code':<{size}}{name}")
        if hint:
            found.append(f"  {'next':<{size}}{hint}")
        return found

    members = {
        "code": name,
        "message": message,
        "hint": hint,
        "context": {key: _json(value) for key, value in context.items()},
        "exit": code,
    }
    output.error(settings, members, lines)


def _plain(value: Any) -> list[str]:
    """A value in one line; a list of whole sentences in one line each."""
    if not isinstance(value, list | tuple):
        return [str(value)]
    items = [str(item) for item in value]
    return items if any(", " in item or ": " in item for item in items) else [", ".join(items)]


def _json(value: Any) -> Any:
    if isinstance(value, list | tuple):
        return [str(item) for item in value]
    return value if isinstance(value, str | int | bool) or value is None else str(value)


def _domain(error: MunimentError, settings: Settings | None) -> int:
    _say(settings, error.exit_code, error.code, error.message, error.hint, error.context)
    _trace(error, settings)
    return error.exit_code


def _usage(error: click.ClickException, settings: Settings | None) -> int:
    context = getattr(error, "ctx", None)
    hint = f"{context.command_path} --help" if context is not None else "muniment --help"
    _say(settings, exits.USAGE, "usage", error.format_message(), hint, {})
    return exits.USAGE


def _fault(error: BaseException, settings: Settings | None) -> int:
    from hashlib import sha256

    frames = traceback.extract_tb(error.__traceback__)
    place = "|".join(f"{frame.filename.rsplit('/', 1)[-1]}:{frame.name}" for frame in frames)
    # the same fault has the same id everywhere: paths, line numbers and data are left out of it
    fault = "f-" + sha256(f"{type(error).__name__}|{place}".encode()).hexdigest()[:12]
    where = f"{frames[-1].filename.rsplit('/', 1)[-1]}:{frames[-1].lineno}" if frames else "?"
    message = f"{type(error).__name__}: {error}" if str(error) else type(error).__name__
    _say(
        settings,
        exits.FAULT,
        "fault",
        f"this is a bug of muniment: {message}",
        "run it again with -v and report the trace with the fault id",
        {"fault": fault, "at": where},
    )
    _trace(error, settings)
    return exits.FAULT


def _trace(error: BaseException, settings: Settings | None) -> None:
    if settings is not None and settings.verbose and not settings.json:
        for line in "".join(traceback.format_exception(error)).splitlines():
            output.note(line)


def _of_click(error: BaseException) -> bool:
    """Help and version are printed by click; its files are the last that such an error passed."""
    frames = traceback.extract_tb(error.__traceback__) if isinstance(error, OSError) else []
    return bool(frames) and (
        "/click/" in frames[-1].filename or frames[-1].name in ("_version", "_start", "run")
    )


def _unprinted(error: BaseException, settings: Settings | None, result: Any) -> int:
    """What was decided stands, though nobody could be told: say what was recorded, so that it is not done twice."""
    recorded = [f"#{at}" for at in recorded_by(result)]
    schema = getattr(result, "schema", "")
    why = getattr(error, "strerror", None) or str(error)
    hint = "make room where standard output goes, then ask again"
    if recorded:
        hint = f"it is recorded, do not repeat it: muniment history show '{recorded[-1]}'"
    elif schema == "run/1":
        hint = "the run is over, do not repeat it"
        hint += f": muniment history list --where run={result.data['run']}" if result.data["recorded"] else ""
    elif schema in ("init/1", "key.create/1"):
        hint = "it is done, do not repeat it: muniment history list, muniment key list"
    context = {"recorded": recorded} if recorded else {}
    message = f"the answer could not be printed: {why}"
    _say(settings, exits.UNAVAILABLE, "cli.output", message, hint, context)
    _trace(error, settings)
    _drop_output()
    return exits.UNAVAILABLE


def recorded_by(result: Any) -> list[int]:
    """Positions of the records that a command wrote, from its answer."""
    if isinstance(result, Refused):
        return [result.position] if result.position is not None and not result.dry_run else []
    data: Any = getattr(result, "data", None)
    if getattr(result, "schema", "") in LOOKED:
        return [at for at in [*data.get("positions", ()), data.get("position")] if at is not None]
    found: list[int] = []
    waiting = [data]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            written = value.get("positions") if "dry_run" in value else None
            found += written or []
            waiting += [item for item in value.values() if isinstance(item, dict | list)]
        elif isinstance(value, list):
            waiting += [item for item in value if isinstance(item, dict | list)]
    return sorted(set(found))


def _drop_output() -> None:
    """Let standard output lead nowhere, so that the interpreter's own flush at its end says nothing more."""
    import os

    null = os.open(os.devnull, os.O_WRONLY)
    os.dup2(null, sys.stdout.fileno())
    os.close(null)


def broken_pipe() -> int:
    """The reader went away: no message, and no second error when the interpreter flushes at its end."""
    _drop_output()
    return 141  # 128 + SIGPIPE, what a shell reports for a program that the pipe ended
