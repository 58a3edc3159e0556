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
from typing import Any, BinaryIO

import msgspec
from muniment.app import gate_report, ids, intake
from muniment.app.request import Outcome
from muniment.app.runner import StageInterrupted, run_stage
from muniment.app.session import WORK, Options, Session
from muniment.app.stage_facts import environment
from muniment.app.stage_record import Stage, check_command, could_not_run, earlier, finish
from muniment.app.tree import Tree
from muniment.domain import build as builds
from muniment.domain import build_state
from muniment.domain.canonical import digest
from muniment.domain.decision import Fact
from muniment.domain.errors import MunimentError, NotFoundError, UnavailableError, UsageError, WrongError
from muniment.domain.folding import FOLD
from muniment.domain.os_faults import shown
from muniment.domain.query import Item
from muniment.domain.reference import check_name
from muniment.domain.states import Attempt, Build
from muniment.domain.world import World, fold
from muniment.store.files import faults, hash_copy

__all__ = [
    "Stage", "expand", "expand_path", "gate", "intake_manifest", "materialized", "named_manifest", "only_open", "outputs_of",
    "stage", "start", "state_of",
]  # fmt: skip

VERDICTS = ("PASS", "FAIL", "ERROR")
_placeholder = re.compile(r"\{(input|output|out\.[a-z0-9._-]+)\}")


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
    given: dict[str, Any] = {"product": product, "intake": intake_id} | (
        {"build": build_id} if build_id else {}
    )
    if (known := session.recorded(options, "build.start", **given)) is not None:
        return known, str((known.event("build.requested/1") or given).get("build", ""))
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

    A dry run decides whether it may start and runs nothing; so does a repeated idempotency key, which gives what was recorded.

    Raises:
        UsageError: no command, an unknown placeholder, a limit that is not positive. WrongError: the stored input is
            damaged; the attempt is recorded as ERROR first.
        UnavailableError: the store cannot be written; what ran is then an unfinished attempt. Also for a repeated key whose
            attempt has no recorded end.
        StageInterrupted: the run was interrupted; its end is recorded as ERROR first.
    """
    check_command(argv, env or {}, timeout_s)
    words, declared = list(argv), dict(env or {})
    known = session.recorded(
        options, "build.stage.start", build=build_id, stage=check_name(name, "a stage"), argv=words
    )
    if known is not None:
        return earlier(session, known, declared)
    state = state_of(session, build_id)
    facts = environment(declared)
    begin = builds.StartStage(
        build=build_id,
        stage=name,
        attempt=ids.short_id("at-"),
        argv=words,
        environment={**facts._asdict(), "declared": list(facts.declared)},
    )
    expand(session, state, words, "", "")
    with faults("look at", "the current folder", "stage"):
        here = cwd or Path.cwd()
    started = session.run(begin, options)
    if started.refusal is not None or options.dry_run:
        return Stage(started, None, None, None)
    if started.repeated:  # another process used the key first, a moment ago
        return earlier(session, started, declared)
    rest = Options(reason=options.reason, sign=options.sign)
    try:
        place = session.work(build_id, begin.attempt)
        output = session.work(build_id, begin.attempt, "output")
        with materialized(session, state.intake, place) as given:
            run = run_stage(
                expand(session, state, words, str(given), str(output)),
                cwd=here,
                env=declared,
                timeout_s=timeout_s,
                log_dir=place / "logs",
                outputs=None,
                tee=tee,
            )
    except StageInterrupted as interrupted:
        finish(session, rest, begin, interrupted.run, output)
        raise
    except MunimentError as error:
        could_not_run(session, rest, begin, error)
        raise
    finished = finish(session, rest, begin, run, output)
    return Stage(started, finished, run, output)


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
    """Where the outputs of the last attempt of a stage lie on this host, as they were recorded.

    Raises:
        UsageError: the stage has not ended, could not decide, or ran elsewhere. WrongError: they were changed since.
    """
    attempts = state.stages.get(stage_name, [])
    last = attempts[-1] if attempts else None
    place = session.folder / WORK / state.build / last.attempt / "output" if last is not None else None
    # a file's presence proves nothing: only the end of its attempt does (proof-and-policy.md, 2)
    if last is None or place is None or last.status not in ("PASS", "FAIL") or not place.is_dir():
        raise UsageError(
            f"stage {stage_name} of build {state.build} has no outputs on this host",
            code="build.no_outputs",
            hint=f"muniment build stage {stage_name} --build {state.build} -- COMMAND",
            found=f"attempt {last.attempt}: {last.status or 'running'}" if last is not None else "never run",
        )
    _check_outputs(session, state, last, place)
    return place


def _check_outputs(session: Session, state: Build, last: Attempt, place: Path) -> None:
    """What lies there is what the attempt left: what was changed since was made by no stage."""
    query = (Item(("build.stage_finished/1",), (f"build:{state.build}",)),)
    fact = next(fact for fact in session.facts(query, reverse=True) if fact.data["attempt"] == last.attempt)
    named = any(item["role"] == "outputs-manifest" for item in fact.evidence)
    listed = named_manifest(session, fact, "outputs-manifest")["files"] if named else []
    wanted = {item["path"]: (item["sha256"], item["bytes"]) for item in listed}
    with Tree(place, area="stage") as tree:
        found = {}
        for node in tree.files():
            with tree.open(node) as stream:
                blob = hash_copy(stream, None, "", node.size, None, None, place / node.path)
            found[node.path] = (blob.sha256, blob.bytes)
    if found != wanted:
        differs = sorted(path for path in {*found, *wanted} if found.get(path) != wanted.get(path))
        raise WrongError(
            f"outputs of attempt {last.attempt} were changed after it ended: {shown(differs[0])}",
            code="build.outputs_changed",
            hint="run the stage in a new build, or restore the file from evidence",
            expected=str(wanted.get(differs[0], "absent")),
            found=str(found.get(differs[0], "absent")),
        )


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
    if verdict and (verdict not in VERDICTS or not options.reason.strip()):
        raise UsageError(
            "a stated verdict is one of three, with a reason",
            code="gate.verdict" if verdict not in VERDICTS else "gate.reason",
            expected=" ".join(VERDICTS),
            found=verdict[:80],
            hint="--reason TEXT",
        )
    state = state_of(session, build_id)
    evidence: list[dict[str, Any]] = []
    facts: dict[str, Any] = {"format": "stated", "verdict": verdict, "reason": options.reason}
    if report:
        path = expand_path(session, state, report)
        found, evidence = _judged(session, path)
        facts = {**found._asdict(), "cases_failed": list(found.cases_failed), "source": shown(path.name)}
        verdict = found.verdict
    command = builds.DecideGate(
        build=build_id,
        gate=check_name(name, "a gate"),
        verdict=verdict,
        report=facts,
        evidence=evidence,
    )
    return session.run(command, options), facts


def _judged(session: Session, path: Path) -> tuple[gate_report.GateReport, list[dict[str, Any]]]:
    """Keep the report, then judge the bytes that were kept: what was judged and what is shown later are one.

    A report that cannot be kept because it cannot be read is an ERROR verdict; a store that cannot keep it is a fault.
    """
    found = gate_report.read_report(path)
    if found.format == "unknown" and found.verdict == "ERROR" and not path.is_file():
        return found, []
    try:
        blob = session.evidence.put(path, limit=gate_report.MAX_REPORT)
    except UsageError as error:  # too long, a symlink, no regular file
        return _unread(error), []
    except UnavailableError as error:
        if error.code not in ("evidence.permission", "evidence.vanished", "evidence.changed"):
            raise
        return _unread(error), []
    found = gate_report.judge(session.evidence.read(blob.blake3, limit=gate_report.MAX_REPORT))
    media = {"junit": "application/xml", "json": "application/json"}.get(
        found.format, "application/octet-stream"
    )
    return found, [blob.as_evidence("gate-report", media)]


def _unread(error: MunimentError) -> gate_report.GateReport:
    return gate_report.GateReport("unknown", "ERROR", 0, 0, 0, 0, (), error.message[:500])
