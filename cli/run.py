"""`run`: a pipeline over lines of input, watched and recorded."""

from __future__ import annotations

import math
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from muniment.cli.doctor import MEANS
from muniment.cli.framework import verb
from muniment.cli.progress import duration, size
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.spec import load, spec_option
from muniment.cli.text import counted, visible

if TYPE_CHECKING:
    from muniment.app.run_report import Report
    from muniment.app.session import Session
    from muniment.ring.spec import Spec

INTERRUPTED, UNAVAILABLE = 130, 8


class Seconds(click.FloatRange):
    """A time span: of the numbers, `nan` passes every comparison and `inf` never comes."""

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        """The seconds."""
        found = super().convert(value, param, ctx)
        if not math.isfinite(found):
            self.fail(f"{value} is no number of seconds.", param, ctx)
        return found


@verb(
    "run",
    uses=("fields",),
    examples=[
        "muniment run --spec pipeline.kv --input events.ndjson",
        "zcat events.gz | muniment run --spec pipeline.kv --source events",
        "muniment run --spec pipeline.kv --input events.ndjson --no-record -o json",
    ],
)
@spec_option
@click.option(
    "--input", "input_", metavar="F|-", default="-", help="A file of lines, - for stdin (the default)."
)
@click.option(
    "--source", metavar="NAME", help="The input's name in the log; made of the file's path if absent."
)
@click.option(
    "--from-start", is_flag=True, help="Read from the beginning; what the log has is recognised by id."
)
@click.option(
    "--profile",
    type=click.Choice(list(MEANS)),
    default="default",
    show_default=True,
    help="Tuning of the host; all but the default need a fresh passing doctor.",
)
@click.option(
    "--heartbeat",
    metavar="SECONDS",
    type=Seconds(0.25),
    default=30.0,
    show_default=True,
    help="Between two heartbeats.",
)
@click.option(
    "--snapshots",
    metavar="SECONDS",
    type=Seconds(0.25),
    help="Record a snapshot this often; else at transitions.",
)
@click.option("--no-record", is_flag=True, help="Do not record the run, its heartbeats and snapshots.")
def run(
    settings: Settings,
    path: str | None,
    input_: str,
    source: str | None,
    from_start: bool,
    profile: str,
    heartbeat: float,
    snapshots: float | None,
    no_record: bool,
) -> Result:
    """Run a pipeline spec over lines of input.

    The spec is validated first. A sink:log commits in batches and acknowledges after the commit: a run that was killed goes on
    where it was acknowledged, nothing is lost and nothing doubled. Ctrl-C works off what is in the ring; twice stops at once.

    Trouble is said on standard error when it happens; with -o json as progress is, on a terminal or with -v; -q says nothing.

    Look at it from another terminal with: muniment snapshot --run NAME.
    """
    from muniment.app import running
    from muniment.domain.errors import UsageError

    if path == "-" and input_ == "-":
        raise UsageError(
            "standard input is the spec, and cannot be the input too",
            code="run.stdin_twice",
            hint="name one of them: --spec F, or --input F",
        )
    spec = load(path)
    running.check_runnable(spec)
    asked = running.Asked(
        input=input_,
        source=source or "",
        profile=profile,
        record=not no_record,
        from_start=from_start,
        every=heartbeat,
        snapshots=snapshots or 0.0,
    )
    bar = settings.progress("read")
    # an error in JSON stands on standard error too: beside it only where people look on
    said = bar.shown or not (settings.quiet or settings.json)

    def told(word: str, text: str) -> None:
        if said:
            bar.note(visible(f"{word}  {text}"))

    try:
        with _store(
            settings, spec, needed=not no_record or running.needs_store(spec) or profile != "default"
        ) as session:
            report = running.run(spec, session, asked, told=told, progress=bar)
    finally:
        bar.close()
    return _result(report, recorded=not no_record)


@contextmanager
def _store(settings: Settings, spec: Spec, *, needed: bool) -> Iterator[Session | None]:
    from muniment.domain.errors import NotFoundError

    if not needed:
        yield None
        return
    try:
        opened = settings.open(write=True)
        session = opened.__enter__()
    except NotFoundError as error:
        raise NotFoundError(
            error.message,
            code=error.code,
            hint=f"muniment init; or run {spec.name} with --no-record if no op needs a store",
            **error.context,
        ) from error
    try:
        yield session
    finally:
        opened.__exit__(None, None, None)


def _result(report: Report, *, recorded: bool) -> Result:
    failure = report.failure
    code = _exit(report)
    done = {"completed": "done", "interrupted": "interrupted", "failed": "FAILED"}[report.outcome]
    rate = f", {report.lines / report.seconds:,.0f} a second" if report.seconds > 0.5 and report.lines else ""
    lines = [
        f"{done}  run {report.run} of spec {report.spec.name}: {counted(report.lines, 'line')} in {duration(report.seconds)}{rate}"
    ]
    if report.resume_from is not None:
        lines.append(f"  went on at {size(report.resume_from)} of {report.source}")
    if report.left_over:
        lines.append(f"  left over  {report.left_over}")
    wide = max(len(str(stage["id"])) for stage in report.stages)
    for stage in report.stages:
        told = ", ".join(f"{key} {value}" for key, value in stage.items() if key not in ("id", "op"))
        lines.append(f"  {stage['id']!s:<{wide}}  {stage['op']}  {told}")
    if report.dropped:
        lines.append(f"  dropped    {counted(report.dropped, 'line')}: the ring was full (on_full=drop)")
    if report.unrecorded:
        lines.append(f"  not recorded: {report.unrecorded} of its heartbeats and snapshots")
    if report.end_unrecorded:
        lines.append(f"  not recorded: its end: {report.end_unrecorded}")
    error: dict[str, Any] | None = None
    next_ = ""
    if failure is not None:
        word = getattr(failure.error, "code", type(failure.error).__name__)
        error = {
            "stage": failure.stage,
            "sequence": str(failure.sequence),
            "code": word,
            "message": str(failure.error),
        }
        where = f"stage {failure.stage} at message {failure.sequence}" if failure.stage else "input"
        lines.append(f"  {where}: {failure.error}")
        context = getattr(failure.error, "context", {})
        lines += [f"  {key}  {context[key]}" for key in ("expected", "found") if context.get(key)]
        lines.append(f"  code  {word}")
        next_ = str(getattr(failure.error, "hint", ""))
    return Result(
        "run/1",
        {
            "run": report.run,
            "spec": report.spec.name,
            "outcome": report.outcome,
            "source": report.source,
            "ring_path": report.ring_path,
            "resume_from": None if report.resume_from is None else str(report.resume_from),
            "lines": report.lines,
            "offset": str(report.offset),
            "dropped": report.dropped,
            "seconds": f"{report.seconds:.3f}",
            "stages": [
                {key: value if isinstance(value, str | int) else str(value) for key, value in s.items()}
                for s in report.stages
            ],
            "tuning": [knob._asdict() for knob in report.tuning],
            "left_over": report.left_over,
            "recorded": recorded,
            "end_recorded": recorded and not report.end_unrecorded,
            "unrecorded": report.unrecorded,
            "error": error,
        },
        None,
        lines,
        next_ or (f"muniment history list --where run={report.run}" if recorded and code == 0 else ""),
        brief=report.run,
        exit_code=code,
    )


def _exit(report: Report) -> int:
    if report.failure is not None:
        return int(getattr(report.failure.error, "exit_code", UNAVAILABLE))
    return INTERRUPTED if report.outcome == "interrupted" else 0
