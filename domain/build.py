"""Build: one gated run, from a frozen input to an eligible pack.

1. `build_id` is constant over retries; every stage attempt has its own id; the last attempt is the authoritative one.
2. Stages come in the order `ingest extract resolve validate compile`; a sub-stage is `STAGE.name`.
3. No compile unless every required gate is PASS or WAIVED and unexpired (I13); a try is recorded as
   `build.compile_refused` and refused.
4. One verdict a gate an attempt: after FAIL there is none, after ERROR a new attempt may be judged.
5. `finish` evaluates eligibility as the list of failed conditions; stages not run are recorded as SKIP.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
from muniment.domain import intake as intakes
from muniment.domain.build_state import failed_conditions, gate_problems, item
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.refusal import Refusal
from muniment.domain.states import Build
from muniment.domain.world import World

STAGES = ("ingest", "extract", "resolve", "validate", "compile")
ENDED = ("ELIGIBLE", "REJECTED", "ERRORED", "CANCELLED")


class Start(msgspec.Struct, frozen=True, tag="build.start"):
    """Request a build of a product from an intake and freeze its inputs."""

    build: str
    product: str
    intake: str
    config_digest: str
    pins: dict[str, str]


class StartStage(msgspec.Struct, frozen=True, tag="build.stage.start"):
    """Begin an attempt of a stage; argv and environment are recorded before it runs."""

    build: str
    stage: str
    attempt: str
    argv: list[str]
    environment: dict[str, Any]


class FinishStage(msgspec.Struct, frozen=True, tag="build.stage.finish"):
    """Record how an attempt ended."""

    build: str
    stage: str
    attempt: str
    status: str
    exit_code: int | None
    reason: str
    wall_us: int
    user_us: int
    system_us: int
    max_rss_kib: int
    tool: dict[str, Any]
    outputs: list[dict[str, Any]]
    evidence: list[dict[str, Any]]


class DecideGate(msgspec.Struct, frozen=True, tag="build.gate"):
    """Record the verdict of a gate; `report` says what it rests on."""

    build: str
    gate: str
    verdict: str
    report: dict[str, Any]
    evidence: list[dict[str, Any]]


class WaiveGate(msgspec.Struct, frozen=True, tag="build.waive"):
    """Let a gate count as passed until an instant (R10; never for an unwaivable gate)."""

    build: str
    gate: str
    expires_at: str


class Compile(msgspec.Struct, frozen=True, tag="pack.create"):
    """Name the pack that the build's compile gave."""

    build: str
    pack: str
    files: int
    bytes: int
    compiler: dict[str, str]
    evidence: list[dict[str, Any]]


class Reproduce(msgspec.Struct, frozen=True, tag="build.reproduce"):
    """Compare the pack of a second compile."""

    build: str
    pack: str


class Finish(msgspec.Struct, frozen=True, tag="build.finish"):
    """End the build with the list of failed conditions."""

    build: str


class Cancel(msgspec.Struct, frozen=True, tag="build.cancel"):
    """End the build without a result."""

    build: str


Command = Start | StartStage | FinishStage | DecideGate | WaiveGate | Compile | Reproduce | Finish | Cancel


def boundary(command: Command, world: World) -> Query:  # noqa: ARG001
    """The build; at its start the intake too; at compile the records that name the pack."""
    match command:
        case Start():
            return (item(command.build), intakes.item(command.intake))
        case _:
            return (item(command.build),)


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch; every command but `start` needs an unfinished build."""
    build = world.builds.get(command.build)
    if isinstance(command, Start):
        return _start(world, command, build, context)
    if build is None:
        return Refusal(
            "build.unknown",
            command.build,
            f"no build {command.build} in this store",
            next="muniment build list",
        )
    if build.outcome:
        return Refusal(
            "build.ended",
            command.build,
            f"build {command.build} has ended as {build.outcome}",
            cause=build.finished,
            next=f"muniment build show {command.build}",
        )
    match command:
        case StartStage():
            return _start_stage(build, command, context)
        case FinishStage():
            return _finish_stage(build, command)
        case DecideGate():
            return _gate(build, command)
        case WaiveGate():
            return _waive(command, context)
        case Compile():
            return _compile(build, command, context)
        case Reproduce():
            return _reproduce(build, command)
        case Finish():
            return _finish(build, context)
        case Cancel():
            return [Event("build.cancelled/1", {"build": command.build, "reason": context.reason})]
    assert_never(command)


def _start(world: World, command: Start, known: Build | None, context: Context) -> Decision:
    if known is not None:
        return Refusal(
            "build.id_used",
            command.build,
            f"build {command.build} was requested before",
            cause=known.requested,
            next=f"muniment build show {command.build}",
        )
    intake = world.intakes.get(command.intake)
    if intake is None:
        return Refusal(
            "intake.unknown",
            command.intake,
            f"no intake {command.intake} in this store",
            next="muniment intake list",
        )
    rules = context.policy.build
    return [
        Event(
            "build.requested/1",
            {
                "build": command.build,
                "product": command.product,
                "intake": command.intake,
                "required_gates": list(rules.required_gates),
                "reproduce": rules.reproduce,
                "config_digest": command.config_digest,
                "pins": command.pins,
                "reason": context.reason,
            },
        ),
        Event(
            "build.inputs_frozen/1",
            {
                "build": command.build,
                "intake": command.intake,
                "intake_digest": intake.digest,
                "files": intake.files,
            },
        ),
    ]


def _rank(stage: str) -> int:
    head = stage.split(".", 1)[0]
    return STAGES.index(head) if head in STAGES else -1


def _start_stage(build: Build, command: StartStage, context: Context) -> Decision:
    rank = _rank(command.stage)
    if rank < 0:
        return Refusal(
            "build.stage_unknown",
            command.stage,
            f"stage {command.stage} is none of {' '.join(STAGES)}",
            next=f"muniment build stage validate {build.build} -- COMMAND",
        )
    if attempts := build.stages.get(command.stage):
        last = attempts[-1]
        if last.status in ("PASS", "FAIL"):
            return Refusal(
                "build.stage_decided",
                command.stage,
                f"stage {command.stage} ended as {last.status}; changed inputs mean a new build",
                next="muniment build start",
            )
    later = [name for name in build.stages if _rank(name) > rank]
    if later:
        return Refusal(
            "build.stage_order",
            command.stage,
            f"stage {command.stage} comes before {later[0]}, which has been started",
            next=f"muniment build show {build.build}",
        )
    if command.stage.split(".", 1)[0] == "compile" and (problems := gate_problems(build, context.at)):
        return refuse_compile(build, problems)
    return [
        Event(
            "build.stage_started/1",
            {
                "build": build.build,
                "stage": command.stage,
                "attempt": command.attempt,
                "argv": command.argv,
                "environment": command.environment,
            },
        )
    ]


def refuse_compile(build: Build, problems: list[str]) -> Refusal:
    """No compile on fail (I13): the refusal names the gates, the try itself is an event."""
    first = build.gates.get(problems[0].split(":", 1)[1])
    return Refusal(
        "I13.no_compile",
        build.build,
        f"build {build.build} may not compile: {', '.join(problems)}",
        cause=first.mark if first else None,
        next=f"muniment build show {build.build}",
        facts=problems,
        also=[("build.compile_refused/1", {"build": build.build, "failed": problems})],
    )


def _finish_stage(build: Build, command: FinishStage) -> Decision:
    attempts = build.stages.get(command.stage)
    if not attempts or attempts[-1].attempt != command.attempt or attempts[-1].status:
        return Refusal(
            "build.attempt_unknown",
            command.attempt,
            f"attempt {command.attempt} of stage {command.stage} is not the one that runs",
            next=f"muniment build show {build.build}",
        )
    fields = msgspec.to_builtins(command)
    return [
        Event(
            "build.stage_finished/1",
            {key: value for key, value in fields.items() if key not in ("type", "evidence")},
            tuple(command.evidence),
        )
    ]


def _gate(build: Build, command: DecideGate) -> Decision:
    known = build.gates.get(command.gate)
    if known is not None and known.verdict != "ERROR":
        return Refusal(
            "build.gate_decided",
            command.gate,
            f"gate {command.gate} of build {build.build} is decided: {known.verdict}",
            cause=known.mark,
            next="muniment build start",
        )
    return [
        Event(
            "build.gate_decided/1",
            {
                "build": build.build,
                "gate": command.gate,
                "verdict": command.verdict,
                "required": command.gate in build.required,
                "report": command.report,
            },
            tuple(command.evidence),
        )
    ]


def _waive(command: WaiveGate, context: Context) -> Decision:
    if command.gate in context.policy.build.unwaivable_gates:
        return Refusal(
            "R10.unwaivable",
            command.gate,
            f"gate {command.gate} cannot be waived under policy {context.policy.policy}",
            next=f"muniment build show {command.build}",
        )
    if command.expires_at <= context.at:
        return Refusal(
            "R10.expired", command.gate, "the waiver would be expired already", next="give a later --expires"
        )
    if refusal := needs_people(context.policy, f"waiving gate {command.gate}", 0, "muniment build show"):
        return refusal
    return [
        Event(
            "build.gate_waived/1",
            {
                "build": command.build,
                "gate": command.gate,
                "expires_at": command.expires_at,
                "owner": context.actor.id,
                "reason": context.reason,
            },
        )
    ]


def _compile(build: Build, command: Compile, context: Context) -> Decision:
    if problems := gate_problems(build, context.at):
        return refuse_compile(build, problems)
    unfinished = [name for name, tries in build.stages.items() if tries[-1].status not in ("PASS", "SKIP")]
    if unfinished:
        return Refusal(
            "build.stage_open",
            unfinished[0],
            f"stage {unfinished[0]} of build {build.build} has not passed",
            next=f"muniment build show {build.build}",
        )
    if build.pack:
        return Refusal(
            "build.compiled",
            build.pack,
            f"build {build.build} has compiled a pack",
            cause=build.compiled,
            next=f"muniment build reproduce {build.build} --from DIR",
        )
    return [
        Event(
            "build.compiled/1",
            {
                "build": build.build,
                "pack": command.pack,
                "files": command.files,
                "bytes": command.bytes,
                "compiler": command.compiler,
            },
            tuple(command.evidence),
        )
    ]


def _reproduce(build: Build, command: Reproduce) -> Decision:
    if not build.pack:
        return Refusal(
            "build.not_compiled",
            build.build,
            f"build {build.build} has no pack to compare with",
            next=f"muniment pack create DIR --build {build.build}",
        )
    return [
        Event(
            "build.reproduced/1",
            {
                "build": build.build,
                "pack": build.pack,
                "second": command.pack,
                "equal": build.pack == command.pack,
            },
        )
    ]


def _finish(build: Build, context: Context) -> Decision:
    failed = failed_conditions(build, context.at)
    kinds = {code.split(":", 1)[0] for code in failed}
    # ERROR means that it could not be decided; a FAIL beside it decides (release-rules.md, Build).
    errored = kinds & {"gate_error", "stage_error"} and not kinds & {
        "gate_fail",
        "stage_fail",
        "determinism_drift",
    }
    outcome = "ELIGIBLE" if not failed else "ERRORED" if errored else "REJECTED"
    skipped = [
        Event(
            "build.stage_finished/1",
            {
                "build": build.build,
                "stage": stage,
                "attempt": f"{stage}-skip",
                "status": "SKIP",
                "exit_code": None,
                "reason": "not run",
                "wall_us": 0,
                "user_us": 0,
                "system_us": 0,
                "max_rss_kib": 0,
                "tool": {},
                "outputs": [],
            },
        )
        for stage in STAGES
        if not any(name.split(".", 1)[0] == stage for name in build.stages)
    ]
    return [
        *skipped,
        Event(
            "build.finished/1",
            {
                "build": build.build,
                "outcome": outcome,
                "failed": failed,
                "pack": build.pack,
                "reason": context.reason,
            },
        ),
    ]
