"""Build: from passed gates to a pack, its second compile, and the end with the list of failed conditions."""

from __future__ import annotations

from muniment.domain.build_commands import STAGES, Compile, Reproduce
from muniment.domain.build_state import failed_conditions, gate_problems
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.refusal import Mark, Refusal, some
from muniment.domain.states import Build


def refuse_compile(build: Build, problems: list[str]) -> Refusal:
    """No compile on fail (I13): the refusal names the gates, the try itself is an event."""
    first = build.gates.get(problems[0].split(":", 1)[1])
    return Refusal(
        "I13.no_compile",
        build.build,
        f"build {build.build} may not compile: {some(problems)}",
        cause=first.mark if first else None,
        next=f"muniment build show {build.build}",
        facts=problems,
        also=[("build.compile_refused/1", {"build": build.build, "failed": problems})],
    )


def compile_pack(build: Build, command: Compile, context: Context) -> Decision:
    """Name the pack, if every required gate holds, every stage has passed and there is none yet."""
    if problems := gate_problems(build, context.at):
        return refuse_compile(build, problems)
    unfinished = [name for name, tries in build.stages.items() if tries[-1].status not in ("PASS", "SKIP")]
    if unfinished:
        return Refusal(
            "build.stage_open",
            unfinished[0],
            f"stage {unfinished[0]} of build {build.build} has not passed",
            cause=Mark(build.stages[unfinished[0]][-1].position, "", "", ""),
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


def reproduce(build: Build, command: Reproduce) -> Decision:
    """Compare a second compile; a drift that was found once is not undone by a later match."""
    if not build.pack:
        return Refusal(
            "build.not_compiled",
            build.build,
            f"build {build.build} has no pack to compare with",
            next=f"muniment pack create DIR --build {build.build}",
        )
    if build.reproduced is False:
        return Refusal(
            "build.determinism_drift",
            build.build,
            f"a second compile of build {build.build} gave another pack already",
            cause=build.compiled,
            next=f"muniment build finish {build.build}",
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


def finish(build: Build, context: Context) -> Decision:
    """End the build; stages that were not run are recorded as SKIP."""
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
