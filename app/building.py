"""Builds: start, run a stage for real, judge a gate by its report, reproduce, finish.

A stage sees the materialised intake and nothing live: `{input}` in its arguments is that folder, `{output}` an empty one to
fill, `{out.STAGE}` the outputs of the last attempt of an earlier stage. The recorded argv keeps the placeholders, so equal
builds have equal records wherever they run.
"""

from __future__ import annotations

import re
import shutil
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, BinaryIO, NamedTuple

import msgspec
from muniment.app import gate_report, ids, intake
from muniment.app.handlers import Outcome
from muniment.app.runner import StageInterrupted, StageRun, run_stage
from muniment.app.session import Options, Session
from muniment.app.stage_facts import environment
from muniment.domain import build as builds
from muniment.domain import build_state
from muniment.domain.canonical import digest, encode
from muniment.domain.commands import FOLD
from muniment.domain.decision import Fact
from muniment.domain.errors import NotFoundError, UnavailableError, UsageError, WrongError
from muniment.domain.query import Item
from muniment.domain.reference import check_name
from muniment.domain.states import Build
from muniment.domain.world import World, fold

OUTPUTS_TYPE = "application/vnd.muniment.outputs-manifest+json"
NAMED_OUTPUTS = 50  # outputs named in the record itself; all of them stand in the outputs manifest
_placeholder = re.compile(r"\{(input|output|out\.[a-z0-9._-]+)\}")


class Stage(NamedTuple):
    """What became of `build stage`: the two outcomes, the run, and where its outputs lie (None if refused)."""

    started: Outcome
    finished: Outcome | None
    run: StageRun | None
    outputs: Path | None


def start(
    session: Session,
    options: Options,
    *,
    product: str,
    intake_id: str,
    build_id: str = "",
    config: Mapping[str, Any] | None = None,
    pins: Mapping[str, str] | None = None,
) -> tuple[Outcome, str]:
    """Request a build and freeze its inputs; return the outcome and the build id."""
    name = check_name(build_id, "a build") if build_id else ids.short_id("b-")
    command = builds.Start(
        build=name,
        product=check_name(product, "a product"),
        intake=check_name(intake_id, "an intake"),
        config_digest=digest(dict(config)) if config else "",
        pins=dict(pins or {}),
    )
    return session.run(command, options), name


def state_of(session: Session, build_id: str) -> Build:
    """The folded state of one build.

    Raises:
        NotFoundError: no such build.
    """
    facts = session.facts((build_state.item(check_name(build_id, "a build")),))
    world = fold(World(), facts, FOLD)
    if build_id not in world.builds:
        raise NotFoundError(
            f"no build {build_id} in this store", code="build.unknown", hint="muniment build list"
        )
    return world.builds[build_id]


def only_open(session: Session) -> str:
    """The one unfinished build, for commands that name none.

    Raises:
        NotFoundError: there is none. UsageError: there are several; the message lists them.
    """
    types = ("build.requested/1", "build.finished/1", "build.cancelled/1")
    unfinished: dict[str, None] = {}
    for fact in session.facts((Item(types),)):
        if fact.type == types[0]:
            unfinished[fact.data["build"]] = None
        else:
            unfinished.pop(fact.data["build"], None)
    if len(unfinished) == 1:
        return next(iter(unfinished))
    if not unfinished:
        raise NotFoundError("no unfinished build", code="build.none_open", hint="muniment build start")
    raise UsageError(
        f"several builds are unfinished: {', '.join(list(unfinished)[:10])}",
        code="build.ambiguous",
        hint="name one: --build B",
    )


def stage(
    session: Session,
    options: Options,
    *,
    build_id: str,
    name: str,
    argv: Sequence[str],
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    cwd: Path | None = None,
    tee: BinaryIO | None = None,
) -> Stage:
    """Run one attempt of a stage and record how it began and how it ended.

    A dry run decides whether it may start and runs nothing.

    Raises:
        UsageError: no command, an unknown placeholder. WrongError: the stored input is damaged.
        UnavailableError: the store cannot be written; what ran is then an unfinished attempt.
        StageInterrupted: the run was interrupted; its end is recorded as ERROR first.
    """
    if not argv:
        raise UsageError(
            "no command to run", code="build.no_command", hint="muniment build stage NAME -- COMMAND"
        )
    declared = dict(env or {})
    state = state_of(session, build_id)
    attempt = ids.short_id("at-")
    facts = environment(declared)
    begin = builds.StartStage(
        build=build_id,
        stage=check_name(name, "a stage"),
        attempt=attempt,
        argv=list(argv),
        environment={**facts._asdict(), "declared": list(facts.declared)},
    )
    expand(session, state, argv, "", "")
    started = session.run(begin, options)
    if started.refusal is not None or options.dry_run or started.repeated:
        return Stage(started, None, None, None)
    place = session.work(build_id, attempt)
    output = place / "output"
    output.mkdir()
    rest = Options(reason=options.reason, sign=options.sign)
    try:
        with materialized(session, state.intake, place) as given:
            run = run_stage(
                expand(session, state, argv, str(given), str(output)),
                cwd=cwd or Path.cwd(),
                env=declared,
                timeout_s=timeout_s,
                log_dir=place / "logs",
                outputs=None,
                tee=tee,
            )
    except StageInterrupted as interrupted:
        _finish(session, rest, begin, interrupted.run, output)
        raise
    finished = _finish(session, rest, begin, run, output)
    return Stage(started, finished, run, output)


def _finish(
    session: Session, options: Options, begin: builds.StartStage, run: StageRun, output: Path
) -> Outcome:
    """Store logs and outputs as evidence, then record the end that names them."""
    evidence = []
    for role, log in (("stage-stdout", run.stdout), ("stage-stderr", run.stderr)):
        if log.path.exists():
            evidence.append(session.evidence.put(log.path).as_evidence(role, "text/plain"))
    outputs: list[dict[str, Any]] = []
    if any(output.iterdir()):
        kept = intake.collect(output, session.evidence)
        files = kept.manifest["files"]
        manifest = session.evidence.put(encode({"files": files, "excluded": []}))
        evidence.append(manifest.as_evidence("outputs-manifest", OUTPUTS_TYPE))
        outputs = [
            {"path": f["path"][:500], "sha256": f["sha256"], "bytes": f["bytes"]}
            for f in files[:NAMED_OUTPUTS]
        ]
    command = builds.FinishStage(
        build=begin.build,
        stage=begin.stage,
        attempt=begin.attempt,
        status=run.status,
        exit_code=run.exit_code,
        reason=run.reason[:2000],
        wall_us=run.wall_us,
        user_us=run.user_us,
        system_us=run.sys_us,
        max_rss_kib=run.max_rss_kib,
        tool=run.tool._asdict() if run.tool is not None else {},
        outputs=outputs,
        evidence=evidence,
    )
    return session.run(command, options)


@contextmanager
def materialized(session: Session, intake_id: str, place: Path) -> Iterator[Path]:
    """The files of an intake, re-created from evidence with every byte checked; gone afterwards."""
    target = place / "input"
    intake.materialize(intake_manifest(session, intake_id), session.evidence, target)
    try:
        yield target
    finally:
        shutil.rmtree(target, ignore_errors=True)


def intake_manifest(session: Session, intake_id: str) -> dict[str, Any]:
    """The manifest that a recorded intake names."""
    fact = session.last(Item(("intake.recorded/1",), (f"intake:{intake_id}",)))
    if fact is None:
        raise NotFoundError(f"no intake {intake_id}", code="intake.unknown", hint="muniment intake list")
    return named_manifest(session, fact, "intake-manifest")


def named_manifest(session: Session, fact: Fact, role: str) -> dict[str, Any]:
    """A manifest blob that a record names as evidence.

    Raises:
        WrongError: the record names none, or the blob is not what it says.
    """
    found = next((item for item in fact.evidence if item["role"] == role), None)
    if found is None:
        raise WrongError(
            f"record {fact.position} names no {role}", code="evidence.unnamed", position=fact.position
        )
    if problem := session.evidence.check(found["blake3"], found["sha256"], found["bytes"]):
        kind = UnavailableError if problem.exit_code == UnavailableError.exit_code else WrongError
        raise kind(
            f"evidence {role} of record {fact.position} is {problem.code}",
            code=f"evidence.{problem.code}",
            hint="muniment verify store",
            expected=problem.expected,
            found=problem.found,
        )
    manifest: dict[str, Any] = msgspec.json.decode(session.evidence.read(found["blake3"], limit=1 << 28))
    return manifest


def expand(session: Session, state: Build, argv: Sequence[str], given: str, output: str) -> list[str]:
    """Words with their placeholders replaced.

    Raises:
        UsageError: a stage without outputs on this host.
    """

    def place(match: re.Match[str]) -> str:
        name = match.group(1)
        if name == "input":
            return given
        if name == "output":
            return output
        return str(outputs_of(session, state, name.removeprefix("out.")))

    return [_placeholder.sub(place, word) for word in argv]


def outputs_of(session: Session, state: Build, stage_name: str) -> Path:
    """Where the outputs of the last attempt of a stage lie on this host.

    Raises:
        UsageError: the stage has not ended, or ran elsewhere.
    """
    attempts = state.stages.get(stage_name, [])
    place = session.folder / "work" / state.build / attempts[-1].attempt / "output" if attempts else None
    if place is None or not place.is_dir():
        raise UsageError(
            f"stage {stage_name} of build {state.build} has no outputs on this host",
            code="build.no_outputs",
            hint=f"muniment build stage {stage_name} --build {state.build} -- COMMAND",
        )
    return place


def expand_path(session: Session, state: Build, text: str) -> Path:
    """A path argument in which `{out.STAGE}` may stand."""
    if "{out." not in text:
        return Path(text)
    return Path(expand(session, state, [text], "{input}", "{output}")[0])


def gate(
    session: Session,
    options: Options,
    *,
    build_id: str,
    name: str,
    report: str = "",
    verdict: str = "",
) -> tuple[Outcome, dict[str, Any]]:
    """Judge a gate by a report (JUnit XML or JSON), or by a stated verdict with a reason; return outcome and facts.

    Raises:
        UsageError: neither or both, or a stated verdict without a reason.
    """
    if bool(report) == bool(verdict):
        raise UsageError(
            "give either a report or a verdict",
            code="gate.source",
            hint="--from REPORT, or --verdict V --reason …",
        )
    if verdict and not options.reason:
        raise UsageError("a stated verdict needs a reason", code="gate.reason", hint="--reason TEXT")
    evidence: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"format": "stated", "verdict": verdict, "reason": options.reason}
    if report:
        path = expand_path(session, state_of(session, build_id), report)
        found = gate_report.read_report(path)
        facts = {**found._asdict(), "cases_failed": list(found.cases_failed), "source": path.name}
        verdict = found.verdict
        if path.is_file():
            blob = session.evidence.put(path)
            media = "application/xml" if found.format == "junit" else "application/octet-stream"
            evidence.append(blob.as_evidence("gate-report", media))
    command = builds.DecideGate(
        build=check_name(build_id, "a build"),
        gate=check_name(name, "a gate"),
        verdict=verdict,
        report=facts,
        evidence=evidence,
    )
    return session.run(command, options), facts
