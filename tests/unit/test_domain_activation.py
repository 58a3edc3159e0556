"""Activation: each step, each way out, and every clause of R9."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest
from muniment.domain import channel, pack, release, slot
from muniment.domain.activation import Confirm, Fail, Plan, Revert, Step, Switch, Verified

OK = [{"name": "files", "verdict": "pass"}, {"name": "smoke", "verdict": "not_applicable"}]
BAD = {"name": "files", "verdict": "fail", "attack": "truncated"}


def plan(kit: Any, *, found: str = "", waive: bool = False, target: str = "t1", at: str = "/srv/t1") -> Plan:
    return Plan("a", kit.SLOT, target, at, "folder", found, waive)


def wanted(case: Any, name: str = "p", **of: Any) -> Any:
    """A pack is desired in an empty slot."""
    case.declared()
    case.released(case.packed(name, **of))
    return case


def test_a_new_target_is_adopted_with_what_it_ran(case: Any, kit: Any) -> None:
    wanted(case).when(plan(kit)).then(
        "target.adopted", ("activation.planned", {"kind": "forward", "replaced": ""})
    )
    old = kit.pid("brownfield")
    case.when(plan(kit, found=old, waive=True)).then(
        ("target.adopted", {"active": old}), ("activation.planned", {"replaced": old})
    )
    case.run(plan(kit, found=old, waive=True))
    assert (old, []) == (case.target().active, case.target().good()), "a fact, never good"


def test_a_plan_needs_a_declared_slot_and_a_desired_pack(case: Any, kit: Any) -> None:
    case.when(plan(kit)).then_refused("R2.no_slot", exit_code=3)
    case.declared().when(plan(kit)).then_refused("R9.nothing_desired")


def test_a_target_stays_where_it_was_adopted(case: Any, kit: Any) -> None:
    wanted(case).run(plan(kit))
    case.when(plan(kit, at="/elsewhere")).then_refused("activation.target_moved")


@pytest.mark.parametrize("until", ["plan", "fetched", "verified", "staged", "switch"])
def test_one_open_activation_a_target(case: Any, kit: Any, until: str) -> None:
    """R12; another target of the slot is free."""
    wanted(case).activated(until=until)
    case.when(plan(kit)).then_refused("R12.activation_open", cause="activation.planned")
    case.when(plan(kit, target="t2", at="/srv/t2")).then("target.adopted", "activation.planned")


def test_what_is_active_is_not_planned_again(case: Any, kit: Any) -> None:
    wanted(case).activated()
    case.when(plan(kit)).then_refused("activation.active", cause="activation.switched")


STEPS: list[tuple[str, Any]] = [
    ("plan", Step("a", "prod/stable/all", "t1", "fetched", {})),
    ("fetched", Verified("a", "prod/stable/all", "t1", OK)),
    ("verified", Step("a", "prod/stable/all", "t1", "staged", {})),
    ("staged", Switch("a", "prod/stable/all", "t1", False)),
    ("switch", Confirm("a", "prod/stable/all", "t1", "")),
]


@pytest.mark.parametrize("until", [name for name, _ in STEPS] + ["confirm"])
def test_steps_come_in_order_and_once(case: Any, kit: Any, until: str) -> None:
    name = wanted(case).activated(until=until)
    for before, command in STEPS:
        if before != until:
            case.when(msgspec.structs.replace(command, activation=name)).then_refused(
                "activation.step", cause="activation.planned"
            )


def test_only_the_activation_that_runs_has_steps(case: Any, kit: Any) -> None:
    wanted(case).activated(until="plan")
    for command in (
        Step("other", kit.SLOT, kit.T, "fetched", {}),
        Switch("other", kit.SLOT, kit.T, True),
        Fail("other", kit.SLOT, kit.T, "abandoned", ""),
        Step("other", kit.SLOT, "t9", "fetched", {}),
    ):
        case.when(command).then_refused("activation.unknown", exit_code=3)


def test_passed_checks_are_a_verification_of_the_pack(case: Any, kit: Any) -> None:
    """R2: an activation makes the verification it needs."""
    name = wanted(case).activated(until="fetched")
    case.when(Verified(name, kit.SLOT, kit.T, OK)).then(
        "activation.verified", ("pack.reverified", {"verdict": "PASS", "site": f"{kit.SLOT}/{kit.T}"})
    )


@pytest.mark.parametrize(
    ("checks", "attacks"),
    [
        ([], ["partial_set"]),
        ([*OK, BAD], ["truncated"]),
        ([BAD, {"name": "x", "verdict": "fail"}], ["arbitrary_software", "truncated"]),
        ([{"name": "x", "verdict": "unknown", "attack": "below_floor"}], ["below_floor"]),
        ([{"name": "x"}], ["arbitrary_software"]),
        ([{"name": "x", "verdict": "fail", "attack": "made up"}], ["arbitrary_software"]),
    ],
)
def test_uncertainty_is_failure(case: Any, kit: Any, checks: Any, attacks: list[str]) -> None:
    name = wanted(case).activated(until="fetched")
    case.when(Verified(name, kit.SLOT, kit.T, checks)).then(
        ("activation.verification_failed", {"attacks": attacks})
    )
    case.run(Verified(name, kit.SLOT, kit.T, checks))
    assert ("VERIFY_FAILED", "") == (case.target().activation.state, case.target().active)
    case.when(plan(kit)).then("activation.planned")


@pytest.mark.parametrize("step", ["fetch_failed", "stage_failed", "abandoned"])
def test_a_failure_before_the_switch_leaves_active_alone(case: Any, kit: Any, step: str) -> None:
    name = wanted(case).activated(until="plan")
    case.run(Fail(name, kit.SLOT, kit.T, step, "disk full"))
    assert (step.upper(), "EMPTY") == (case.target().activation.state, case.target().mode)
    case.when(plan(kit)).then("activation.planned")
    done = case.activated(until="switch")
    case.when(Fail(done, kit.SLOT, kit.T, step, "")).then_refused("activation.step")


def test_the_switch_counts_epochs_and_goes_on_trial(case: Any, kit: Any) -> None:
    name = wanted(case, writes=3).activated(until="staged")
    case.when(Switch(name, kit.SLOT, kit.T, False)).then(
        ("activation.switched", {"epoch": 1, "replaced": "", "schema_level": 3})
    )
    case.run(Switch(name, kit.SLOT, kit.T, False))
    assert ("TRIAL", 3) == (case.target().mode, case.target().schema_level)


def test_a_confirmation_carries_the_link(case: Any, kit: Any) -> None:
    name = wanted(case).activated(until="switch")
    for link in ("", kit.pid("other")):
        case.when(Confirm(name, kit.SLOT, kit.T, link)).then_refused(
            "activation.link", cause="activation.planned"
        )
    case.when(Confirm(name, kit.SLOT, kit.T, kit.pid("p"))).then("activation.confirmed")


def test_a_switch_that_cannot_be_carried_out_is_reverted(case: Any, kit: Any) -> None:
    case.declared()
    p0 = case.good("p0")
    case.released(case.packed("p"))
    name = case.activated(until="switch")
    case.when(Revert(name, kit.SLOT, kit.T, kit.pid("p"))).then_refused("activation.link")
    case.run(Revert(name, kit.SLOT, kit.T, p0))
    target = case.target()
    assert (p0, "STEADY", 3, "REVERTED") == (
        target.active,
        target.mode,
        target.epoch,
        target.activation.state,
    )
    case.when(Revert(name, kit.SLOT, kit.T, p0)).then_refused("activation.step")
    case.when(plan(kit)).then("activation.planned")


# -- R9, each clause, at the plan and again at the switch ---------------------------------------------------------------


def frozen(case: Any, kit: Any) -> None:
    case.run(channel.FreezeScope("prod", "f", "FORWARD", ""))


def pinned(case: Any, kit: Any) -> None:
    case.run(channel.SetPin("prod/stable", kit.pid("p0"), ""))


def blocked(case: Any, kit: Any) -> None:
    case.run(pack.BlockPack(kit.pid("p"), kit.SLOT, "k", ""))


def withdrawn(case: Any, kit: Any) -> None:
    case.run(pack.Withdraw(kit.pid("p")))


def floor(case: Any, kit: Any) -> None:
    case.given(("channel.floor_raised/1", {"scope": "*", "floor": 9, "pack": "", "reason": ""}))


def revoked(case: Any, kit: Any) -> None:
    fields = {"slot": kit.SLOT, "target": kit.T, "pack": kit.pid("p"), "cause": "x"}
    case.given(("slot.good_revoked/1", fields))


def stuck(case: Any, kit: Any) -> None:
    fields = {"slot": kit.SLOT, "target": kit.T, "pack": kit.pid("p0"), "reason": "x", "rollback": "rb"}
    case.given(("slot.stuck/1", fields))


def paused(case: Any, kit: Any) -> None:
    case.run(release.Pause(case.world().slots[kit.SLOT].rollout))


def aborted(case: Any, kit: Any) -> None:
    case.run(release.Abort(case.world().slots[kit.SLOT].rollout))


def upstream(case: Any, kit: Any) -> None:
    case.declared("prod/canary").run(channel.Declare("prod/stable", [], ["prod/canary"]))


CLAUSES = [
    (frozen, "R8.frozen", "channel.frozen"),
    (pinned, "R9.pinned", "channel.pinned"),
    (blocked, "R2.blocked", "pack.blocked"),
    (withdrawn, "R2.withdrawn", "pack.withdrawn"),
    (floor, "R2.below_floor", "channel.floor_raised"),
    (revoked, "R9.revoked", "slot.good_revoked"),
    (stuck, "R9.stuck", "slot.stuck"),
    (paused, "R9.release_paused", "release.paused"),
    (aborted, "R9.release_rolled_back", "release.rolled_back"),
    (upstream, "R9.upstream", "-"),
]


@pytest.mark.parametrize(("make", "rule", "cause"), CLAUSES)
@pytest.mark.parametrize("where", ["plan", "switch"])
def test_r9(case: Any, kit: Any, make: Any, rule: str, cause: str, where: str) -> None:
    case.declared()
    case.good("p0")
    case.released(case.packed("p"))
    if where == "plan":
        case.when(plan(kit)).then("activation.planned")
        make(case, kit)
        case.when(plan(kit)).then_refused(rule, cause=cause)
    else:
        name = case.activated(until="staged")
        case.when(Switch(name, kit.SLOT, kit.T, False)).then("activation.switched")
        make(case, kit)
        case.when(Switch(name, kit.SLOT, kit.T, False)).then_refused(rule, cause=cause)


def test_r9_schema(case: Any, kit: Any) -> None:
    case.declared()
    case.good("p0", writes=5)
    case.released(case.packed("p", reads=(6, 9)))
    case.when(plan(kit)).then_refused("R2.schema")


def test_r9_verification_counts_under_the_current_policy_only(case: Any, kit: Any) -> None:
    from muniment.domain.admin import PublishPolicy

    name = wanted(case).activated(until="staged")
    stricter = kit.with_rules(case.policy, verification={"pack_signatures": 1}).document
    case.run(PublishPolicy(stricter))
    case.when(Switch(name, kit.SLOT, kit.T, False)).then_refused("R2.unverified", cause="pack.reverified")
    case.run(pack.RecordVerification(kit.pid("p"), "FAIL", "store", []))
    case.when(Switch(name, kit.SLOT, kit.T, False)).then_refused("R2.unverified", cause="pack.reverified")
    case.run(pack.RecordVerification(kit.pid("p"), "PASS", "store", []))
    case.when(Switch(name, kit.SLOT, kit.T, False)).then("activation.switched")


def test_r9_quarantine_binds_automation_only(case: Any, kit: Any) -> None:
    name = wanted(case).activated(until="staged")
    case.given(("slot.quarantined/1", {"channel": "prod/stable", "pack": kit.pid("p"), "cause": "x"}))
    switch = Switch(name, kit.SLOT, kit.T, False)
    case.when(switch, actor=kit.AGENT).then_refused("R2.quarantined", cause="slot.quarantined")
    case.when(switch).then("activation.switched")
    case.run(slot.LiftQuarantine("prod/stable", kit.pid("p")))
    case.when(switch, actor=kit.AGENT).then("activation.switched")


def test_r9_needs_a_way_back_or_a_waiver(case: Any, kit: Any) -> None:
    """The dry run is vacuous on an empty slot only (settled.md, 14)."""
    wanted(case, "p0").activated()  # never attested, so nothing to go back to
    case.healthy(status="UNKNOWN")
    held = case.world().slots[kit.SLOT].rollout
    ended = {"release": held, "slots": [kit.SLOT], "pack": kit.pid("p0")}
    case.given(("release.completed/1", ended))
    case.released(case.packed("p"))
    case.when(plan(kit)).then_refused("R9.no_rollback_target", cause="-")
    case.when(plan(kit, waive=True)).then("activation.planned")
    case.run(channel.SetBaseline("prod", kit.pid("p0")))
    case.when(plan(kit)).then("activation.planned")


def test_waiving_the_way_back_takes_people(under: Any, kit: Any) -> None:
    case = under("team", verification={"pack_signatures": 0}).declared()
    p, old = case.packed("p"), kit.pid("old")
    base = {"release": "r", "slots": [kit.SLOT], "pack": p}
    case.given(
        (
            "target.adopted/1",
            {"slot": kit.SLOT, "target": kit.T, "driver": "folder", "location": "/srv/t1", "active": old},
        ),
        ("release.promoted/1", {**base, "stage": 0, "reason": ""}),
    )
    case.when(plan(kit)).then_refused("R9.no_rollback_target")
    case.when(plan(kit, waive=True)).then_refused("R10.approvals", exit_code=4)
