"""`validate`, `describe`, `dot`: what a pipeline spec says, before anything runs."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, TypeVar

import click
from muniment.cli.framework import verb
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.text import counted

if TYPE_CHECKING:
    from muniment.ring.spec import Spec
    from muniment.ring.spec_lines import Problem

INVALID = 10
F = TypeVar("F", bound=Callable[..., Any])


def spec_option(body: F) -> F:
    """`--spec F`, or MUNIMENT_SPEC."""
    option = click.option(
        "--spec", "path", metavar="F|-", envvar="MUNIMENT_SPEC", help="The spec, - for stdin (MUNIMENT_SPEC)."
    )
    return option(body)


def spec_bytes(path: str | None) -> bytes:
    """The bytes of a spec; of one that is too large only so many that this is seen.

    Raises:
        UsageError: no spec is named. NotFoundError: there is none. UnavailableError: it cannot be read.
    """
    import sys
    from pathlib import Path

    from muniment.domain.errors import NotFoundError, UnavailableError, UsageError
    from muniment.ring.spec import MAX_BYTES

    if path is None:
        raise UsageError("no spec is named", code="spec.none", hint="--spec F, or set MUNIMENT_SPEC")
    try:
        if path == "-":
            return sys.stdin.buffer.read(MAX_BYTES + 1)
        with Path(path).open("rb") as file:
            return file.read(MAX_BYTES + 1)
    except (FileNotFoundError, NotADirectoryError) as error:
        raise NotFoundError(f"there is no spec {path}: {error.strerror}", code="spec.file") from error
    except (OSError, ValueError) as error:  # ValueError: a NUL in the path
        why = getattr(error, "strerror", None) or str(error)
        raise UnavailableError(f"spec {path} cannot be read: {why}", code="spec.unreadable") from error


def load(path: str | None) -> Spec:
    """The spec at a path.

    Raises:
        InvalidError: it breaks rules. Others: see `spec_bytes`.
    """
    from muniment.ring.spec_rules import parse

    return parse(spec_bytes(path), "stdin" if path == "-" else str(path))


def _members(spec: Spec) -> dict[str, Any]:
    from muniment.ring.spec_text import spec_sha256

    return {"spec": spec.name, "model": spec.model, "spec_sha256": spec_sha256(spec)}


@verb(
    "validate",
    uses=("fields",),
    examples=[
        "muniment validate --spec pipeline.kv",
        "cat pipeline.kv | muniment validate --spec - --canonical",
        "muniment validate --spec pipeline.kv --record -o json",
    ],
)
@spec_option
@click.option("--canonical", is_flag=True, help="Refuse a spec that is not written in its canonical form.")
@click.option("--record", is_flag=True, help="Record the result; the text is kept as evidence.")
def validate(settings: Settings, path: str | None, canonical: bool, record: bool) -> Result:
    """Check the shape of a spec and print its canonical form.

    Every problem is listed with its line, the code first; then the exit code is 10. The canonical form has every key, defaults
    too, in one order, so its digest is the name of what runs.
    """
    from muniment.ring import spec_text
    from muniment.ring.spec_rules import check, name_of

    given = spec_bytes(path)
    spec, problems = check(given, canonical=canonical)
    if spec is None:
        position, why = _record_rejected(settings, given, problems) if record else (None, "")
        data: dict[str, Any] = {"spec": name_of(given), "model": None, "spec_sha256": None, "canonical": ""}
    else:
        position, why = _record_valid(settings, spec) if record else None, ""
        data = {**_members(spec), "canonical": spec_text.canonical(spec).decode()}
    notes = [f"not recorded: {why}"] if why else [f"record #{position}"] if position is not None else []
    if spec is not None:
        notes.insert(0, f"ok  {spec.name} is a valid {spec.model}, {data['spec_sha256']}")
    else:
        where = "stdin" if path == "-" else path
        notes.insert(0, f"INVALID  {where}: {counted(len(problems), 'problem')}")
    return Result(
        "validate/1",
        {
            "ok": spec is not None,
            **data,
            "problems": [problem._asdict() for problem in problems],
            "position": position,
            "not_recorded": why,
        },
        lines=[str(problem) for problem in problems] or data["canonical"].rstrip("\n").split("\n"),
        brief=data["spec_sha256"] or "",
        notes=notes,
        exit_code=INVALID if spec is None else 0,
    )


def _record_valid(settings: Settings, spec: Spec) -> int:
    from muniment.app.runtime_records import record_spec
    from muniment.ring import spec_text
    from muniment.ring.spec import LaneGraph

    lanes = len(spec.pipeline.lanes) if isinstance(spec.pipeline, LaneGraph) else 0
    with settings.open(write=True) as session:
        return record_spec(
            session,
            spec=spec.name,
            model=spec.model,
            canonical=spec_text.canonical(spec),
            stages=len(spec.ops),
            lanes=lanes,
        )


def _record_rejected(settings: Settings, given: bytes, problems: list[Problem]) -> tuple[int | None, str]:
    """The position, or why there is none: what is wrong with the spec is said all the same."""
    from muniment.app.runtime_records import record_rejected_spec
    from muniment.domain.errors import MunimentError
    from muniment.ring.spec import MAX_BYTES
    from muniment.ring.spec_rules import name_of

    if len(given) > MAX_BYTES:
        return None, "it is too large, and was not read to its end"
    named = [{"code": each.code, "line": each.line, "message": each.told} for each in problems]
    try:
        with settings.open(write=True) as session:
            return record_rejected_spec(session, given=given, problems=named, spec=name_of(given)), ""
    except MunimentError as error:
        return None, error.message


@verb(
    "describe",
    uses=("fields",),
    examples=["muniment describe --spec pipeline.kv", "cat pipeline.kv | muniment describe --spec - -o json"],
)
@spec_option
def describe(settings: Settings, path: str | None) -> Result:  # noqa: ARG001
    """Say what a spec does, in stable words."""
    from muniment.ring.spec_text import describe as told

    spec = load(path)
    data = {**_members(spec), "text": told(spec)}
    return Result("describe/1", data, lines=data["text"].split("\n"), brief=data["spec_sha256"])


@verb(
    "dot",
    uses=("fields",),
    examples=[
        "muniment dot --spec pipeline.kv | dot -Tsvg > pipeline.svg",
        "muniment dot --spec pipeline.kv --format mermaid",
    ],
)
@spec_option
@click.option(
    "--format",
    "format_",
    type=click.Choice(("dot", "mermaid")),
    default="dot",
    show_default=True,
    help="Graphviz or Mermaid.",
)
def dot(settings: Settings, path: str | None, format_: str) -> Result:  # noqa: ARG001
    """Draw a spec: stages or roles, and what flows between them."""
    from muniment.ring import spec_draw

    spec = load(path)
    text = spec_draw.dot(spec) if format_ == "dot" else spec_draw.mermaid(spec)
    data = {**_members(spec), "format": format_, "text": text}
    return Result("dot/1", data, lines=text.rstrip("\n").split("\n"), brief=data["spec_sha256"])
