"""The record of a stage attempt: its end with logs and outputs as evidence, and what a repeated key stands for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app import intake
from muniment.app.request import Outcome
from muniment.app.runner import LogFile, StageRun
from muniment.app.session import WORK, Options, Session
from muniment.app.stage_facts import Tool, environment
from muniment.domain import build as builds
from muniment.domain.canonical import encode
from muniment.domain.decision import Event
from muniment.domain.errors import MunimentError, UnavailableError, UsageError
from muniment.domain.query import Item

OUTPUTS_TYPE = "application/vnd.muniment.outputs-manifest+json"
NAMED_OUTPUTS = 50  # outputs named in the record itself; all of them stand in the outputs manifest
NAMED_BYTES = 16_000  # canonical bytes those may take: a record holds 65 535, and a path up to 4 096


class Stage(NamedTuple):
    """What became of `build stage`: the two outcomes, the run, and where its outputs lie (None if refused).

    Under a repeated idempotency key all four speak of the recorded attempt; nothing was run again.
    """

    started: Outcome
    finished: Outcome | None
    run: StageRun | None
    outputs: Path | None


def check_command(argv: Sequence[str], env: Mapping[str, str], timeout_s: float | None) -> None:
    """Refuse what could not be run or recorded, before anything is recorded.

    Raises:
        UsageError: no command, a word or variable that cannot be passed on, a limit that is not positive.
    """
    hint = "muniment build stage NAME -- COMMAND"
    if not argv or not argv[0]:
        raise UsageError("no command to run", code="build.no_command", hint=hint)
    for word in (*argv, *env, *env.values()):
        if "\0" in word or (not word.isascii() and _undecodable(word)):
            raise UsageError(
                "a word of the command is no text", code="build.command", hint=hint, found=repr(word)[:80]
            )
    if bad := [name for name in env if not name or "=" in name]:
        raise UsageError("a variable cannot be passed on", code="build.env", found=repr(bad[0])[:80])
    if timeout_s is not None and not timeout_s > 0:
        raise UsageError("a time limit is positive", code="build.timeout", found=str(timeout_s))


def _undecodable(word: str) -> bool:
    try:
        word.encode()
    except UnicodeEncodeError:
        return True
    return False


def finish(
    session: Session, options: Options, begin: builds.StartStage, run: StageRun, output: Path
) -> Outcome:
    """Store logs and outputs as evidence, then record the end that names them.

    Outputs that cannot be kept (a link, a device, a folder that was replaced) make the attempt ERROR: what it left is not
    known, so it did not pass.

    Raises:
        UnavailableError: the store cannot be written; the attempt stays unfinished.
    """
    evidence: list[dict[str, Any]] = []
    for role, log in (("stage-stdout", run.stdout), ("stage-stderr", run.stderr)):
        if log.path.exists():
            evidence.append(session.evidence.put(log.path).as_evidence(role, "text/plain"))
    problem, files = "", []
    try:
        files = _outputs(session, output)
    except UsageError as error:
        problem = f"outputs cannot be kept: {error.message}"
    if files:
        manifest = session.evidence.put(encode({"files": files, "excluded": []}))
        evidence.append(manifest.as_evidence("outputs-manifest", OUTPUTS_TYPE))
    status = "ERROR" if problem else run.status
    return session.run(ended(begin, status, run, run.reason or problem, _named(files), evidence), options)


def _outputs(session: Session, output: Path) -> list[dict[str, Any]]:
    if output.is_symlink() or not output.is_dir():
        raise UsageError("the folder for outputs is gone or was replaced", code="stage.outputs")
    try:
        files: list[dict[str, Any]] = intake.collect(output, session.evidence).manifest["files"]
    except UsageError as error:
        if error.code == "intake.empty":
            return []
        raise
    return files


def _named(files: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    named: list[dict[str, Any]] = []
    room = NAMED_BYTES
    for file in files[:NAMED_OUTPUTS]:
        row = {key: file[key] for key in ("path", "sha256", "bytes")}
        room -= len(encode(row))
        if room < 0:
            break
        named.append(row)
    return named


def ended(
    begin: builds.StartStage,
    status: Any,
    run: StageRun | None,
    reason: str,
    outputs: Sequence[dict[str, Any]] = (),
    evidence: Sequence[dict[str, Any]] = (),
) -> builds.FinishStage:
    """The command that records the end of an attempt; without a run nothing was started."""
    return builds.FinishStage(
        build=begin.build,
        stage=begin.stage,
        attempt=begin.attempt,
        status=status,
        exit_code=run.exit_code if run is not None else None,
        reason=reason.encode(errors="replace").decode()[:2000],
        wall_us=run.wall_us if run is not None else 0,
        user_us=run.user_us if run is not None else 0,
        system_us=run.sys_us if run is not None else 0,
        max_rss_kib=run.max_rss_kib if run is not None else 0,
        tool=run.tool._asdict() if run is not None and run.tool is not None else {},
        outputs=list(outputs),
        evidence=list(evidence),
    )


def could_not_run(session: Session, options: Options, begin: builds.StartStage, error: MunimentError) -> None:
    """Record ERROR for an attempt whose command never ran; if even that cannot be recorded, it stays unfinished."""
    command = ended(begin, "ERROR", None, error.message)
    with suppress(MunimentError):
        session.run(command, options)


def earlier(session: Session, known: Outcome, env: Mapping[str, str]) -> Stage:
    """What an idempotency key stands for: the recorded attempt and its recorded end, nothing run again."""
    begun = known.event("build.stage_started/1")
    if begun is None:
        return Stage(known, None, None, None)
    query = (Item(("build.stage_finished/1",), (f"build:{begun['build']}",)),)
    found = [fact for fact in session.facts(query) if fact.data["attempt"] == begun["attempt"]]
    if not found:
        raise UnavailableError(
            f"attempt {begun['attempt']} of stage {begun['stage']} began under this key and has no recorded end",
            code="build.attempt_unfinished",
            hint="it runs still, or was cut short: wait, or run the stage again under a new key",
        )
    fact, data, place = found[0], found[0].data, session.folder / WORK / begun["build"] / begun["attempt"]
    finished = Outcome(
        events=[Event(fact.type, data, tuple(fact.evidence))],
        positions=[fact.position],
        recorded_at=fact.recorded_at,
        head=known.head,
        repeated=True,
    )
    sizes = {item["role"]: item["bytes"] for item in fact.evidence}
    run = StageRun(
        status=data["status"],
        exit_code=data["exit_code"],
        reason=data["reason"],
        argv=tuple(begun["argv"]),
        stdout=LogFile(place / "logs" / "stdout", sizes.get("stage-stdout", 0)),
        stderr=LogFile(place / "logs" / "stderr", sizes.get("stage-stderr", 0)),
        outputs=(),
        wall_us=data["wall_us"],
        user_us=data["user_us"],
        sys_us=data["system_us"],
        max_rss_kib=data["max_rss_kib"],
        rss_floor_kib=0,
        tool=Tool(**data["tool"]) if data["tool"] else None,
        environment=environment(env),
        started_at="",
        ended_at=fact.occurred_at,
    )
    return Stage(known, finished, run, place / "output")
