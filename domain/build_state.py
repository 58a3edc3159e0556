"""Build: the fold of its records and what is derived from it. Commands and decisions stand in `domain.build`."""

from __future__ import annotations

from muniment.domain.decision import Fact
from muniment.domain.query import Item
from muniment.domain.states import Attempt, Build, Gate
from muniment.domain.world import Handles, World


def on_requested(world: World, fact: Fact) -> None:
    """A new build."""
    data = fact.data
    world.builds[data["build"]] = Build(
        build=data["build"],
        product=data["product"],
        intake=data["intake"],
        intake_digest="",
        requested=fact.mark(),
        required=data["required_gates"],
        reproduce=data["reproduce"],
        config_digest=data["config_digest"],
        pins=data["pins"],
    )


def on_inputs_frozen(world: World, fact: Fact) -> None:
    """The inputs can no longer change."""
    world.builds[fact.data["build"]].intake_digest = fact.data["intake_digest"]


def on_stage_started(world: World, fact: Fact) -> None:
    """A new attempt."""
    data = fact.data
    attempts = world.builds[data["build"]].stages.setdefault(data["stage"], [])
    attempts.append(Attempt(data["attempt"], position=fact.position))


def on_stage_finished(world: World, fact: Fact) -> None:
    """The attempt has a status; a SKIP comes without a start."""
    data = fact.data
    attempts = world.builds[data["build"]].stages.setdefault(data["stage"], [])
    if not attempts or attempts[-1].attempt != data["attempt"]:
        attempts.append(Attempt(data["attempt"], position=fact.position))
    attempts[-1].status = data["status"]
    attempts[-1].exit_code = data["exit_code"]


def on_gate_decided(world: World, fact: Fact) -> None:
    """The last verdict of the gate."""
    gates = world.builds[fact.data["build"]].gates
    before = gates.get(fact.data["gate"])
    gates[fact.data["gate"]] = Gate(
        fact.data["verdict"], fact.mark(), tries=before.tries + 1 if before else 1
    )


def on_gate_waived(world: World, fact: Fact) -> None:
    """Passed for a while, by decision."""
    gates = world.builds[fact.data["build"]].gates
    before = gates.get(fact.data["gate"])
    gates[fact.data["gate"]] = Gate(
        "WAIVED", fact.mark(), tries=before.tries if before else 0, expires_at=fact.data["expires_at"]
    )


def on_compile_refused(world: World, fact: Fact) -> None:
    """Count the tries to compile without the gates."""
    world.builds[fact.data["build"]].refused_compiles += 1


def on_compiled(world: World, fact: Fact) -> None:
    """The build names its pack; the pack exists from here on, unregistered."""
    data = fact.data
    build = world.builds.get(data["build"])
    if build is not None:
        build.pack, build.compiled = data["pack"], fact.mark()


def on_reproduced(world: World, fact: Fact) -> None:
    """Equal or drifted; once drifted, always drifted."""
    build = world.builds[fact.data["build"]]
    build.reproduced = fact.data["equal"] and build.reproduced is not False


def on_finished(world: World, fact: Fact) -> None:
    """Ended, with the failed conditions."""
    build = world.builds[fact.data["build"]]
    build.outcome, build.failed, build.finished = fact.data["outcome"], fact.data["failed"], fact.mark()


def on_cancelled(world: World, fact: Fact) -> None:
    """Ended without a result."""
    build = world.builds[fact.data["build"]]
    build.outcome, build.finished = "CANCELLED", fact.mark()


HANDLES: Handles = {
    "build.requested/1": on_requested,
    "build.inputs_frozen/1": on_inputs_frozen,
    "build.stage_started/1": on_stage_started,
    "build.stage_finished/1": on_stage_finished,
    "build.gate_decided/1": on_gate_decided,
    "build.gate_waived/1": on_gate_waived,
    "build.compile_refused/1": on_compile_refused,
    "build.compiled/1": on_compiled,
    "build.reproduced/1": on_reproduced,
    "build.finished/1": on_finished,
    "build.cancelled/1": on_cancelled,
}
TYPES = tuple(sorted(HANDLES))


def item(build: str) -> Item:
    """The records of one build."""
    return Item(TYPES, (f"build:{build}",))


def gate_problems(build: Build, at: str) -> list[str]:
    """Required gates that are not PASS and not WAIVED at this instant, as condition codes."""
    problems = []
    for name in build.required:
        gate = build.gates.get(name)
        if gate is None:
            problems.append(f"gate_missing:{name}")
        elif gate.verdict == "WAIVED":
            if gate.expires_at <= at:
                problems.append(f"gate_waiver_expired:{name}")
        elif gate.verdict != "PASS":
            problems.append(f"gate_{gate.verdict.lower()}:{name}")
    return problems


def state(build: Build, at: str) -> str:
    """The state of release-rules.md section 4, derived from the facts."""
    if build.outcome:
        return build.outcome
    if build.reproduced is False:
        return "REJECTED"
    problems = gate_problems(build, at)
    if any(problem.startswith("gate_fail:") for problem in problems):
        return "REJECTED"
    if any(problem.startswith("gate_error:") for problem in problems):
        return "ERRORED"
    if problems:
        return "GATING"
    if not build.pack:
        return "GATED"
    return "COMPILED"


def failed_conditions(build: Build, at: str) -> list[str]:
    """Eligibility as a pure function: what is missing for ELIGIBLE, in the order of the spine. Empty means eligible."""
    failed = [] if build.intake_digest else ["inputs_not_frozen"]
    for stage, attempts in build.stages.items():
        status = attempts[-1].status
        if status in ("FAIL", "ERROR"):
            failed.append(f"stage_{status.lower()}:{stage}")
        elif status == "":
            failed.append(f"stage_unfinished:{stage}")
    failed += gate_problems(build, at)
    if not build.pack:
        failed.append("not_compiled")
    elif build.reproduced is False:
        failed.append("determinism_drift")
    elif build.reproduced is None and build.reproduce == "required":
        failed.append("not_reproduced")
    return failed
