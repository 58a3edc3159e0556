"""Intake and build: what may follow what, and the list of conditions that failed."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import build, intake
from muniment.domain.decision import Event
from muniment.domain.errors import UsageError
from muniment.domain.instant import plus

B = "b-x"


def started(case: Any, kit: Any, *, gates: bool = False) -> Any:
    case.run(
        intake.Add("in-x", kit.pid("in"), 1, 1, 0, "here", "me", kit.START, [], []),
        build.Start(B, "shop", "in-x", "", {}),
    )
    return case.run(build.DecideGate(B, "validate", "PASS", {}, [])) if gates else case


def stage(case: Any, kit: Any, name: str, attempt: str, status: str = "") -> Any:
    case.run(build.StartStage(B, name, attempt, ["true"], {}))
    return case.run(kit.finish_stage(B, name, attempt, status)) if status else case


def test_an_intake_id_is_used_once(case: Any, kit: Any) -> None:
    started(case, kit)
    again = intake.Add("in-x", kit.pid("other"), 1, 1, 0, "here", "me", kit.START, [], [])
    case.when(again).then_refused("intake.id_used", cause="intake.recorded")


def test_a_build_freezes_its_inputs_and_the_policys_gates(case: Any, kit: Any) -> None:
    case.run(intake.Add("in-x", kit.pid("in"), 3, 1, 0, "here", "me", kit.START, [], []))
    case.when(build.Start(B, "shop", "in-x", "", {})).then(
        ("build.requested", {"required_gates": ["validate"], "reproduce": "required"}),
        ("build.inputs_frozen", {"intake_digest": kit.pid("in"), "files": 3}),
    )


def test_a_build_needs_an_intake_and_a_new_id(case: Any, kit: Any) -> None:
    case.when(build.Start(B, "shop", "in-no", "", {})).then_refused("intake.unknown", cause="-", exit_code=3)
    started(case, kit)
    case.when(build.Start(B, "shop", "in-x", "", {})).then_refused("build.id_used", cause="build.requested")


@pytest.mark.parametrize(
    "command",
    [
        build.StartStage("b-no", "ingest", "a", [], {}),
        build.DecideGate("b-no", "validate", "PASS", {}, []),
        build.WaiveGate("b-no", "validate", "2027-01-01T00:00:00.000000Z"),
        build.Compile("b-no", "sha256:" + "0" * 64, 1, 1, {}, []),
        build.Reproduce("b-no", "sha256:" + "0" * 64),
        build.Finish("b-no"),
        build.Cancel("b-no"),
    ],
)
def test_nothing_happens_to_an_unknown_build(case: Any, command: Any) -> None:
    case.when(command).then_refused("build.unknown", cause="-", exit_code=3)


@pytest.mark.parametrize("end", [build.Finish(B), build.Cancel(B)])
def test_an_ended_build_is_immutable(case: Any, kit: Any, end: Any) -> None:
    started(case, kit).run(end)
    ended = "build.finished" if isinstance(end, build.Finish) else "build.cancelled"
    for command in (
        build.StartStage(B, "ingest", "a", [], {}),
        kit.finish_stage(B, "ingest", "a"),
        build.DecideGate(B, "validate", "PASS", {}, []),
        build.WaiveGate(B, "validate", "2027-01-01T00:00:00.000000Z"),
        build.Compile(B, kit.pid("p"), 1, 1, {}, []),
        build.Reproduce(B, kit.pid("p")),
        build.Finish(B),
        build.Cancel(B),
    ):
        case.when(command).then_refused("build.ended", cause=ended)


def test_stages_come_in_order(case: Any, kit: Any) -> None:
    started(case, kit)
    case.when(build.StartStage(B, "deploy", "a", [], {})).then_refused("build.stage_unknown", cause="-")
    stage(case, kit, "extract", "a1", "PASS")
    case.when(build.StartStage(B, "ingest", "a2", [], {})).then_refused(
        "build.stage_order", cause="build.stage_started"
    )
    case.when(build.StartStage(B, "extract.second", "a3", [], {})).then("build.stage_started")


@pytest.mark.parametrize("status", ["", "FAIL", "ERROR"])
def test_a_stage_that_did_not_pass_holds_back_later_ones(case: Any, kit: Any, status: str) -> None:
    stage(started(case, kit), kit, "ingest", "a1", status)
    case.when(build.StartStage(B, "extract", "a2", [], {})).then_refused("build.stage_blocked")


def test_an_attempt_is_decided_once(case: Any, kit: Any) -> None:
    stage(started(case, kit), kit, "ingest", "a1", "PASS")
    case.when(build.StartStage(B, "ingest", "a2", [], {})).then_refused("build.stage_decided")
    case.when(kit.finish_stage(B, "ingest", "a1", "FAIL")).then_refused("build.attempt_ended")
    case.when(kit.finish_stage(B, "ingest", "a9")).then_refused("build.attempt_unknown", exit_code=3)
    case.when(build.StartStage(B, "extract", "a1", [], {})).then_refused("build.attempt_used")


def test_an_error_is_tried_again_and_the_last_attempt_counts(case: Any, kit: Any) -> None:
    stage(started(case, kit), kit, "ingest", "a1", "ERROR")
    stage(case, kit, "ingest", "a2")
    case.when(kit.finish_stage(B, "ingest", "a1")).then_refused("build.attempt_ended")
    case.run(kit.finish_stage(B, "ingest", "a2"))
    case.when(build.StartStage(B, "extract", "a3", [], {})).then("build.stage_started")


def test_a_gate_has_one_verdict_but_an_error_may_be_judged_again(case: Any, kit: Any) -> None:
    started(case, kit).run(build.DecideGate(B, "validate", "ERROR", {}, []))
    case.run(build.DecideGate(B, "validate", "FAIL", {}, []))
    case.when(build.DecideGate(B, "validate", "PASS", {}, [])).then_refused(
        "build.gate_decided", cause="build.gate_decided"
    )


@pytest.mark.parametrize(
    ("verdict", "problem"), [("", "gate_missing"), ("FAIL", "gate_fail"), ("ERROR", "gate_error")]
)
def test_no_compile_without_the_gates(case: Any, kit: Any, verdict: str, problem: str) -> None:
    """I13: the stage may not start and the pack may not be named, and each try is on record."""
    started(case, kit)
    if verdict:
        case.run(build.DecideGate(B, "validate", verdict, {}, []))
    for command in (
        build.StartStage(B, "compile", "a", [], {}),
        build.StartStage(B, "compile.link", "a", [], {}),
        build.Compile(B, kit.pid("p"), 1, 1, {}, []),
    ):
        no = case.when(command).then_refused("I13.no_compile", cause="build.gate_decided" if verdict else "-")
        failed = [f"{problem}:validate"]
        assert [("build.compile_refused/1", {"build": B, "failed": failed})] == no.also
        assert failed == no.facts


def test_tries_to_compile_are_counted(case: Any, kit: Any) -> None:
    refused = Event("build.compile_refused/1", {"build": B, "failed": ["gate_missing:validate"]})
    started(case, kit).given(refused, refused)
    assert 2 == case.world().builds[B].refused_compiles


def test_a_waiver_counts_until_it_expires(case: Any, kit: Any) -> None:
    started(case, kit).run(build.DecideGate(B, "validate", "FAIL", {}, []))
    end = plus(case.at, seconds=60)
    case.run(build.WaiveGate(B, "validate", end))
    compile_ = build.Compile(B, kit.pid("p"), 1, 1, {}, [])
    case.when(compile_, at=plus(end, micros=-1)).then("build.compiled")
    case.when(compile_, at=end).then_refused("I13.no_compile", cause="build.gate_waived")


def test_what_may_not_be_waived(case: Any, kit: Any, under: Any) -> None:
    started(case, kit, gates=True)
    case.when(build.WaiveGate(B, "validate", "2027-01-01T00:00:00.000000Z")).then_refused(
        "build.gate_decided", cause="build.gate_decided"
    )
    case.when(build.WaiveGate(B, "lint", kit.START)).then_refused("R10.expired")
    hard = started(under(build={"unwaivable_gates": ["validate"]}), kit)
    hard.when(build.WaiveGate(B, "validate", "2027-01-01T00:00:00.000000Z")).then_refused("R10.unwaivable")


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_waiving_takes_people(under: Any, kit: Any, policy: str) -> None:
    case = started(under(policy, build={"unwaivable_gates": []}), kit)
    case.run(build.DecideGate(B, "validate", "FAIL", {}, []))
    case.when(build.WaiveGate(B, "validate", "2027-01-01T00:00:00.000000Z")).then_refused(
        "R10.approvals", exit_code=4, cause="build.gate_decided"
    )


def test_a_build_compiles_one_pack_and_only_when_its_stages_passed(case: Any, kit: Any) -> None:
    stage(started(case, kit, gates=True), kit, "validate", "a1")
    compile_ = build.Compile(B, kit.pid("p"), 1, 1, {}, [])
    case.when(compile_).then_refused("build.stage_open", cause="build.stage_started")
    case.run(kit.finish_stage(B, "validate", "a1")).run(compile_)
    case.when(compile_).then_refused("build.compiled", cause="build.compiled")


def test_a_drift_is_not_undone_by_a_later_match(case: Any, kit: Any) -> None:
    started(case, kit, gates=True)
    case.when(build.Reproduce(B, kit.pid("p"))).then_refused("build.not_compiled", cause="-")
    case.run(build.Compile(B, kit.pid("p"), 1, 1, {}, []))
    case.when(build.Reproduce(B, kit.pid("p"))).then(("build.reproduced", {"equal": True}))
    case.run(build.Reproduce(B, kit.pid("q")))
    case.when(build.Reproduce(B, kit.pid("p"))).then_refused(
        "build.determinism_drift", cause="build.compiled"
    )
    case.given(
        ("build.reproduced/1", {"build": B, "pack": kit.pid("p"), "second": kit.pid("p"), "equal": True})
    )
    case.when(build.Finish(B)).then(
        *["build.stage_finished"] * 5,
        ("build.finished", {"outcome": "REJECTED", "failed": ["determinism_drift"]}),
    )


def finished(case: Any) -> tuple[str, list[str]]:
    case.when(build.Finish(B))
    data = case.event("build.finished")
    return data["outcome"], data["failed"]


def test_finish_lists_every_failed_condition(case: Any, kit: Any) -> None:
    started(case, kit)
    assert finished(case) == ("REJECTED", ["gate_missing:validate", "not_compiled"])
    stage(case, kit, "ingest", "a1", "ERROR")
    assert finished(case) == ("ERRORED", ["stage_error:ingest", "gate_missing:validate", "not_compiled"])
    case.run(build.DecideGate(B, "validate", "ERROR", {}, []))
    assert finished(case)[0] == "ERRORED"
    stage(case, kit, "ingest", "a2", "FAIL")
    assert finished(case) == ("REJECTED", ["stage_fail:ingest", "gate_error:validate", "not_compiled"])


def test_a_running_stage_and_an_expired_waiver_fail_the_build(case: Any, kit: Any) -> None:
    started(case, kit)
    stage(case, kit, "validate", "a1")
    case.run(build.WaiveGate(B, "validate", plus(case.at, seconds=2)))
    case.later(5)
    assert finished(case) == (
        "REJECTED",
        ["stage_unfinished:validate", "gate_waiver_expired:validate", "not_compiled"],
    )


def test_reproduction_is_asked_for_by_policy(under: Any, kit: Any) -> None:
    for rule, expected in (("required", ("REJECTED", ["not_reproduced"])), ("waived", ("ELIGIBLE", []))):
        case = started(under(build={"reproduce": rule}), kit, gates=True)
        case.run(build.Compile(B, kit.pid("p"), 1, 1, {}, []))
        assert expected == finished(case)


def test_stages_not_run_are_skipped_on_record(case: Any, kit: Any) -> None:
    stage(started(case, kit, gates=True), kit, "validate.fast", "a1", "PASS")
    case.when(build.Finish(B))
    skipped = [e.data["stage"] for e in case.answer if e.type == "build.stage_finished/1"]
    assert ["ingest", "extract", "resolve", "compile"] == skipped


def test_a_name_that_is_none_is_refused_before_anything_is_read(case: Any) -> None:
    with pytest.raises(UsageError):
        case.when(build.Finish("../b"))
