"""Slot: health, attestation (R4), floors (R3), and the ways out of STUCK and quarantine."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import admin, pack
from muniment.domain.activation import Confirm, Fail, Revert
from muniment.domain.decision import Context
from muniment.domain.errors import InvalidError
from muniment.domain.rollback_select import lkg
from muniment.domain.slot import Attest, LiftQuarantine, Report, Unstick


def out(case: Any, name: str = "p", **of: Any) -> str:
    """A pack is confirmed on the target, not attested."""
    if "prod/stable" not in case.world().channels:
        case.declared()
    held = case.world().slots["prod/stable/all"].rollout
    p = case.packed(name, **of)
    if held:
        case.given(("release.completed/1", {"release": held, "slots": ["prod/stable/all"], "pack": p}))
    case.released(p)
    case.activated()
    return p


def report(kit: Any, status: str = "HEALTHY") -> Report:
    return Report(kit.SLOT, kit.T, status, [{"name": "p99_us", "value": 12}])


def test_health_is_reported_of_what_is_active(case: Any, kit: Any) -> None:
    case.when(report(kit)).then_refused("slot.target_unknown", exit_code=3)
    case.declared()
    case.released(case.packed("p"))
    case.activated(until="plan")
    case.when(report(kit)).then_refused("slot.nothing_active")
    name = case.target().activation.activation
    case.run(Fail(name, kit.SLOT, kit.T, "abandoned", ""))
    case.activated()
    with pytest.raises(InvalidError):
        case.when(report(kit, "FINE"))


@pytest.mark.parametrize(
    ("status", "failed"), [("DEGRADED", True), ("UNHEALTHY", True), ("UNKNOWN", False), ("HEALTHY", False)]
)
def test_which_statuses_fail_is_policy_and_the_record_says_so(
    case: Any, kit: Any, status: str, failed: bool
) -> None:
    out(case)
    case.when(report(kit, status))
    assert failed == case.event("slot.health_reported")["failed"]


def rules(under: Any, **of: int) -> Any:
    return under(attestation={"soak_s": 100, "healthy_reports": 2, **of})


def test_r4_wants_reports_and_soak(under: Any, kit: Any) -> None:
    case = rules(under)
    out(case)
    case.when(Attest(kit.SLOT, kit.T))
    no = case.then_refused("R4.not_good")
    assert ["healthy_reports:0/2", "soak_s:0/100"] == no.facts
    case.run(report(kit), report(kit))
    assert ["soak_s:2/100"] == case.when(Attest(kit.SLOT, kit.T)).then_refused("R4.not_good").facts
    case.later(98)
    case.when(Attest(kit.SLOT, kit.T)).then(("slot.good_attested", {"healthy": 2, "epoch": 1}))
    case.when(report(kit)).then("slot.health_reported", ("slot.good_attested", {"healthy": 3}))


def test_r4_reports_of_the_trial_do_not_count(under: Any, kit: Any) -> None:
    case = rules(under, soak_s=0)
    case.declared()
    case.released(case.packed("p"))
    name = case.activated(until="switch")
    case.run(report(kit), report(kit))
    assert "not_confirmed" in case.when(Attest(kit.SLOT, kit.T)).then_refused("R4.not_good").facts
    case.run(Confirm(name, kit.SLOT, kit.T, kit.pid("p")))
    case.when(report(kit)).then("slot.health_reported")
    case.run(report(kit)).when(report(kit)).then("slot.health_reported", "slot.good_attested")


@pytest.mark.parametrize("status", ["DEGRADED", "UNHEALTHY"])
def test_r4_a_failing_report_interrupts_the_soak(under: Any, kit: Any, status: str) -> None:
    case = rules(under)
    out(case)
    case.run(report(kit)).later(100).run(report(kit, status), report(kit), report(kit))
    no = case.when(Attest(kit.SLOT, kit.T)).then_refused("R4.not_good")
    assert ["soak_s:2/100"] == no.facts
    case.run(report(kit, status))
    case.when(Attest(kit.SLOT, kit.T)).then_refused("R4.not_good", cause="slot.health_reported")


def test_r4_another_switch_between_starts_again(under: Any, kit: Any) -> None:
    case = rules(under, soak_s=0)
    p = out(case)
    case.run(report(kit))
    held = case.world().slots[kit.SLOT].rollout
    case.given(("release.completed/1", {"release": held, "slots": [kit.SLOT], "pack": p}))
    case.released(case.packed("q"))
    name = case.activated(until="switch")
    case.run(Revert(name, kit.SLOT, kit.T, p))
    case.when(report(kit)).then("slot.health_reported")
    assert 0 == case.target().healthy


def test_r4_unknown_counts_for_nothing(under: Any, kit: Any) -> None:
    case = rules(under, soak_s=0)
    out(case)
    case.run(report(kit)).when(report(kit, "UNKNOWN")).then("slot.health_reported")
    case.run(report(kit, "UNKNOWN"))
    assert ["healthy_reports:1/2"] == case.when(Attest(kit.SLOT, kit.T)).then_refused("R4.not_good").facts


def test_good_is_attested_once_revoked_by_failure_and_earned_again(case: Any, kit: Any) -> None:
    p = out(case)
    case.when(report(kit)).then("slot.health_reported", "slot.good_attested")
    case.run(report(kit)).when(report(kit)).then("slot.health_reported")
    case.when(Attest(kit.SLOT, kit.T)).then_refused("R4.not_good")
    case.when(report(kit, "DEGRADED")).then("slot.health_reported", ("slot.good_revoked", {"pack": p}))
    case.run(report(kit, "DEGRADED")).when(report(kit, "DEGRADED")).then("slot.health_reported")
    assert [] == case.target().good()
    case.when(report(kit)).then("slot.health_reported", "slot.good_attested")


def test_what_was_adopted_is_never_attested(case: Any, kit: Any) -> None:
    old = {"slot": kit.SLOT, "target": kit.T, "driver": "folder", "location": "/", "active": kit.pid("old")}
    case.declared().given(("target.adopted/1", old))
    case.run(report(kit)).when(Attest(kit.SLOT, kit.T)).then_refused("R4.not_good")


def test_i10_lkg_is_attested_unrevoked_and_eligible(case: Any, kit: Any) -> None:
    case.declared()
    for name in ("p1", "p2", "p3"):
        case.good(name)
    case.run(pack.BlockPack(kit.pid("p3"), "*", "k", ""), report(kit, "UNHEALTHY"))
    case.given(
        ("slot.good_revoked/1", {"slot": kit.SLOT, "target": kit.T, "pack": kit.pid("p2"), "cause": "x"})
    )
    found = lkg(case.world(), kit.SLOT, case.target(), Context(case.at, kit.PERSON, "", case.policy))
    assert kit.pid("p1") == found.pack


# -- R3 -----------------------------------------------------------------------------------------------------------------


def test_r3_an_attestation_raises_the_floor_of_its_slot(case: Any, kit: Any) -> None:
    out(case, epoch=3)
    case.when(report(kit)).then(
        "slot.health_reported",
        "slot.good_attested",
        ("channel.floor_raised", {"scope": kit.SLOT, "floor": 3}),
    )
    case.run(report(kit))
    out(case, "q", epoch=3)
    case.when(report(kit)).then("slot.health_reported", "slot.good_attested")


def test_r3_a_raise_that_would_strand_the_slot_is_left_out(case: Any, kit: Any) -> None:
    case.declared()
    case.good("p0")
    out(case, "p1", epoch=2)
    case.when(report(kit)).then("slot.health_reported", "slot.good_attested")
    case.given(
        ("slot.good_revoked/1", {"slot": kit.SLOT, "target": kit.T, "pack": kit.pid("p0"), "cause": "x"})
    )
    case.when(report(kit)).then("slot.health_reported", "slot.good_attested", "channel.floor_raised")


def test_r3_another_target_is_not_stranded_either(case: Any, kit: Any) -> None:
    case.declared()
    case.good("p0")
    case.activated(target="t2")
    case.healthy(target="t2")
    case.given(
        ("slot.good_revoked/1", {"slot": kit.SLOT, "target": kit.T, "pack": kit.pid("p0"), "cause": "x"})
    )
    out(case, "p1", epoch=2)
    case.activated(target="t2")
    case.when(report(kit)).then("slot.health_reported", "slot.good_attested")


# -- STUCK and quarantine -----------------------------------------------------------------------------------------------


def stranded(case: Any, kit: Any) -> Any:
    out(case)
    return case.run(case.back())


def test_stuck_ends_with_a_named_eligible_pack(case: Any, kit: Any) -> None:
    case.declared()
    case.when(Unstick(kit.SLOT, kit.T, kit.pid("p"))).then_refused("slot.target_unknown", exit_code=3)
    out(case)
    case.when(Unstick(kit.SLOT, kit.T, kit.pid("p"))).then_refused("slot.not_stuck")
    case.run(case.back())
    case.when(Unstick(kit.SLOT, kit.T, kit.pid("none"))).then_refused("R2.not_admitted")
    q = case.packed("q")
    case.run(pack.BlockPack(q, "*", "k", ""))
    case.when(Unstick(kit.SLOT, kit.T, q)).then_refused("R2.blocked", cause="pack.blocked")
    case.run(pack.UnblockPack(q, "k"), Unstick(kit.SLOT, kit.T, q))
    assert ("STEADY", q, []) == (
        case.target().mode,
        case.world().slots[kit.SLOT].desired,
        case.target().chain,
    )
    case.activated()
    assert q == case.target().active


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_leaving_stuck_and_lifting_a_quarantine_take_people(case: Any, kit: Any, policy: str) -> None:
    stranded(case, kit)
    q = case.packed("q")
    case.given(("slot.quarantined/1", {"channel": "prod/stable", "pack": q, "cause": "x"}))
    strict = kit.with_rules(kit.shipped(policy), verification={"pack_signatures": 0})
    case.run(admin.PublishPolicy(strict.document))
    case.when(Unstick(kit.SLOT, kit.T, q)).then_refused("R10.approvals", exit_code=4, cause="slot.stuck")
    case.when(LiftQuarantine("prod/stable", q)).then_refused(
        "R10.approvals", exit_code=4, cause="slot.quarantined"
    )


def test_a_quarantine_is_of_one_channel(case: Any, kit: Any) -> None:
    q = case.packed("q")
    case.given(("slot.quarantined/1", {"channel": "prod/canary", "pack": q, "cause": "x"}))
    case.when(LiftQuarantine("prod/stable", q)).then_refused("slot.not_quarantined")
    case.when(LiftQuarantine("prod/canary", q)).then("slot.quarantine_lifted")
    case.run(LiftQuarantine("prod/canary", q))
    case.when(LiftQuarantine("prod/canary", q)).then_refused("slot.not_quarantined")
