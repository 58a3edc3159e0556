"""Build: one gated run, from a frozen input to an eligible pack.

1. `build_id` is constant over retries; every stage attempt has its own id; the last attempt is the authoritative one.
2. Stages come in the order `ingest extract resolve validate compile`; a sub-stage is `STAGE.name`.
3. No compile unless every required gate is PASS or WAIVED and unexpired (I13); a try is recorded as
   `build.compile_refused` and refused.
4. One verdict a gate an attempt: after FAIL there is none, after ERROR a new attempt may be judged.
   A stage that failed, erred or still runs holds back every later one.
5. `finish` evaluates eligibility as the list of failed conditions; stages not run are recorded as SKIP.
"""

from __future__ import annotations

from typing import assert_never

import msgspec
from muniment.domain import intake_state as intakes
from muniment.domain.build_commands import (
    ENDED,
    STAGES,
    Cancel,
    Command,
    Compile,
    DecideGate,
    Finish,
    FinishStage,
    Reproduce,
    Start,
    StartStage,
    WaiveGate,
)
from muniment.domain.build_compile import compile_pack, finish, refuse_compile, reproduce
from muniment.domain.build_state import gate_problems, item
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.refusal import NOT_FOUND, REFUSED, Mark, Refusal
from muniment.domain.states import Build
from muniment.domain.world import World


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
            exit_code=NOT_FOUND,
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
            return _waive(build, command, context)
        case Compile():
            return compile_pack(build, command, context)
        case Reproduce():
            return reproduce(build, command)
        case Finish():
            return finish(build, context)
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
            exit_code=NOT_FOUND,
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
                cause=Mark(last.position, "", "", ""),
                next="muniment build start",
            )
    later = [name for name in build.stages if _rank(name) > rank]
    if later:
        return Refusal(
            "build.stage_order",
            command.stage,
            f"stage {command.stage} comes before {later[0]}, which has been started",
            cause=Mark(build.stages[later[0]][0].position, "", "", ""),
            next=f"muniment build show {build.build}",
        )
    if command.stage.split(".", 1)[0] == "compile" and (problems := gate_problems(build, context.at)):
        return refuse_compile(build, problems)
    if held := [
        name
        for name, tries in build.stages.items()
        if _rank(name) < rank and tries[-1].status not in ("PASS", "SKIP")
    ]:
        last = build.stages[held[0]][-1]
        return Refusal(
            "build.stage_blocked",
            command.stage,
            f"stage {command.stage} waits for {held[0]}, which is {last.status or 'running'}",
            cause=Mark(last.position, "", "", ""),
            next=f"muniment build show {build.build}",
        )
    if any(one.attempt == command.attempt for tries in build.stages.values() for one in tries):
        return Refusal(
            "build.attempt_used",
            command.attempt,
            f"attempt {command.attempt} of build {build.build} exists",
            next=f"muniment build show {build.build}",
        )
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


def _finish_stage(build: Build, command: FinishStage) -> Decision:
    attempts = build.stages.get(command.stage)
    if not attempts or attempts[-1].attempt != command.attempt or attempts[-1].status:
        known = any(attempt.attempt == command.attempt for attempt in attempts or ())
        return Refusal(
            "build.attempt_ended" if known else "build.attempt_unknown",
            command.attempt,
            f"attempt {command.attempt} of stage {command.stage} is not the one that runs",
            next=f"muniment build show {build.build}",
            exit_code=REFUSED if known else NOT_FOUND,
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


def _waive(build: Build, command: WaiveGate, context: Context) -> Decision:
    known = build.gates.get(command.gate)
    if known is not None and known.verdict == "PASS":
        return Refusal(
            "build.gate_decided",
            command.gate,
            f"gate {command.gate} of build {build.build} has passed; there is nothing to waive",
            cause=known.mark,
            next=f"muniment build show {build.build}",
        )
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
    if refusal := needs_people(
        context.policy, f"waiving gate {command.gate}", 0, f"muniment build show {command.build}"
    ):
        refusal.cause = known.mark if known else None
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


__all__ = [
    "ENDED",
    "STAGES",
    "Cancel",
    "Command",
    "Compile",
    "DecideGate",
    "Finish",
    "FinishStage",
    "Reproduce",
    "Start",
    "StartStage",
    "WaiveGate",
    "boundary",
    "decide",
    "refuse_compile",
]
