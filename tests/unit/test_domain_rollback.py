"""Rollback: R5 step by step with every trace code, R6, R7, and the ways out of a rollback that goes wrong."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import channel, incident, pack, release, slot
from muniment.domain.activation import Confirm, Fail, Plan, Revert, Switch, Verified
from muniment.domain.admin import PublishPolicy
from muniment.domain.errors import InvalidError
from muniment.domain.instant import plus
from muniment.domain.states import Stage

BAD = [{"name": "files", "verdict": "fail", "attack": "truncated"}]


def shelf(case: Any, *names: str, **of: Any) -> list[str]:
    """Packs attested good one after the other; the last one is active."""
    case.declared()
    return [case.good(name, **of) for name in names]


def trace(case: Any) -> list[tuple[str, str]]:
    """(source, code) of every candidate of the last decision."""
    for event in case.answer:
        if event.type in ("rollback.pack_selected/1", "rollback.no_candidate/1"):
            return [(line["source"], line["code"]) for line in event.data["trace"]]
    raise AssertionError(case.answer)


def chosen(case: Any, expected: str, *lines: tuple[str, str], **asked: Any) -> None:
    case.when(case.back(**asked))
    assert expected == case.event("rollback.pack_selected")["pack"]
    assert [*lines] == trace(case)


def stuck(case: Any, reason: str, *lines: tuple[str, str]) -> None:
    """No candidate: STUCK and an incident, `active` untouched (I9)."""
    before = case.target().active
    case.when(case.back())
    assert [
        "rollback.requested/1",
        "rollback.no_candidate/1",
        "slot.stuck/1",
        "incident.declared/1",
    ] == [event.type for event in case.answer if not event.type.startswith("release.")]
    assert reason == case.event("rollback.no_candidate")["reason"]
    assert [*lines] == trace(case)
    case.run(case.back())
    assert (before, "STUCK", "") == (case.target().active, case.target().mode, case.target().rollback)


FAILING = ("lkg", "excluded")


def test_nothing_to_roll_back(case: Any, kit: Any) -> None:
    case.when(case.back()).then_refused("R2.no_slot", exit_code=3)
    case.declared().when(case.back()).then_refused("R5.nothing_active")
    case.released(case.packed("p"))
    case.activated(until="staged")
    case.when(case.back()).then_refused("R5.nothing_active")


def test_step_2_the_last_known_good(case: Any, kit: Any) -> None:
    p1, _, p3 = shelf(case, "p1", "p2", "p3")
    chosen(case, kit.pid("p2"), FAILING, ("lkg", "chosen"))
    requested = case.event("rollback.requested")
    assert (p3, "operator") == (requested["failing"], requested["trigger"])
    assert p1 not in str(case.answer)


def test_a_failing_pack_that_was_never_good(case: Any, kit: Any) -> None:
    shelf(case, "p1")
    case.released(case.packed("p2"))
    case.activated(until="switch")
    chosen(case, kit.pid("p1"), ("lkg", "chosen"))


def test_step_1_the_narrowest_live_pin(case: Any, kit: Any) -> None:
    p1, p2, p3 = shelf(case, "p1", "p2", "p3")
    case.run(channel.SetPin("prod", p2, ""), channel.SetPin("prod/stable", p1, plus(case.at, seconds=60)))
    chosen(case, p1, ("pin", "chosen"))
    case.later(120)
    chosen(case, p2, ("pin", "chosen"))
    case.run(channel.SetPin(kit.SLOT, p3, ""))
    chosen(case, p2, ("pin", "pin_target_is_current"), FAILING, ("lkg", "chosen"))


def test_step_1_an_ineligible_pin_stops(case: Any, kit: Any) -> None:
    p1, _ = shelf(case, "p1", "p2")
    case.run(channel.SetPin("prod", p1, ""), pack.BlockPack(p1, "prod", "k", ""))
    stuck(case, "pin_ineligible", ("pin", "blocked"))


def withdraw(case: Any, p: str, kit: Any) -> None:
    case.run(pack.Withdraw(p))


def block(case: Any, p: str, kit: Any) -> None:
    case.run(pack.BlockPack(p, kit.SLOT, "k", ""))


def raise_floor(case: Any, p: str, kit: Any) -> None:
    case.given(("channel.floor_raised/1", {"scope": "prod", "floor": 1, "pack": "", "reason": ""}))


def fail_verification(case: Any, p: str, kit: Any) -> None:
    case.run(pack.RecordVerification(p, "FAIL", "store", []))


def revoke(case: Any, p: str, kit: Any) -> None:
    case.given(("slot.good_revoked/1", {"slot": kit.SLOT, "target": kit.T, "pack": p, "cause": "x"}))


def without_floors(case: Any) -> None:
    """As if no attestation had raised one, so that an older pack may have the higher epoch."""
    case.facts = [fact for fact in case.facts if fact.type != "channel.floor_raised/1"]
    for position, fact in enumerate(case.facts, 1):
        fact.position = position


@pytest.mark.parametrize(
    ("make", "code"),
    [
        (withdraw, "withdrawn"),
        (block, "blocked"),
        (raise_floor, "below_floor"),
        (fail_verification, "unverified"),
        (revoke, "revoked"),
    ],
)
def test_step_3_an_older_good_pack(case: Any, kit: Any, make: Any, code: str) -> None:
    case.declared()
    for name, epoch in (("p0", 1), ("p1", 0), ("p2", 1)):
        case.good(name, epoch=epoch)
        without_floors(case)
    p0 = kit.pid("p0")
    make(case, kit.pid("p1"), kit)
    second = "lkg" if code == "revoked" else "older"
    chosen(case, p0, FAILING, ("lkg", code), (second, "chosen"))


def test_the_first_code_that_applies(case: Any, kit: Any) -> None:
    """settled.md, 17: excluded, revoked, then not_admitted … in this order."""
    p1, _ = shelf(case, "p1", "p2")
    expected = ["unverified", "schema", "below_floor", "blocked", "withdrawn", "revoked"]
    case.run(pack.RecordVerification(p1, "FAIL", "store", []))
    seen = []
    for make in (None, schema, raise_floor, block, withdraw, revoke):
        if make is not None:
            make(case, p1, kit)
        case.when(case.back())
        seen.append(trace(case)[-1][1])
    assert expected == seen


def schema(case: Any, p: str, kit: Any) -> None:
    """The data of the target goes where the pack cannot read it (one-way migration)."""
    name = case.target().activation.activation
    fields = {"activation": name, "slot": kit.SLOT, "target": kit.T, "pack": kit.pid("p2"), "kind": "forward"}
    case.given(("activation.switched/1", {**fields, "replaced": p, "epoch": 9, "schema_level": 99}))


def test_quarantine_binds_automation(case: Any, kit: Any) -> None:
    p0, p1, _ = shelf(case, "p0", "p1", "p2")
    case.given(("slot.quarantined/1", {"channel": "prod/stable", "pack": p1, "cause": "x"}))
    case.when(case.back(), actor=kit.AGENT)
    assert [FAILING, ("lkg", "quarantined"), ("older", "chosen")] == trace(case)
    assert p0 == case.event("rollback.pack_selected")["pack"]
    chosen(case, p1, FAILING, ("lkg", "chosen"))


def test_the_depth_counts_good_packs_only(under: Any, kit: Any) -> None:
    case = under(rollback={"depth": 1})
    p0, p1, p2, p3, p4 = shelf(case, "p0", "p1", "p2", "p3", "p4")
    revoke(case, p3, kit)
    case.run(pack.BlockPack(p2, "*", "k", ""))
    chosen(case, p1, FAILING, ("lkg", "revoked"), ("lkg", "blocked"), ("older", "chosen"))
    case.run(pack.BlockPack(p1, "*", "k", ""))
    stuck(case, "no_candidate", FAILING, ("lkg", "revoked"), ("lkg", "blocked"), ("older", "blocked"))
    assert p0 != p4


def test_step_4_the_next_safer_channel(case: Any, kit: Any) -> None:
    case.declared("prod/lts").declared("prod/stable").declared("prod/canary")
    case.good("l", where="prod/lts/all")
    case.good("s", where="prod/stable/all")
    case.released(case.packed("c"), "prod/canary/all")
    case.activated("prod/canary/all")
    chosen(case, kit.pid("s"), ("safer", "chosen"), where="prod/canary/all")
    case.run(pack.BlockPack(kit.pid("s"), "prod/canary", "k", ""))
    case.when(case.back("prod/canary/all"))
    assert [("safer", "blocked")] == trace(case), "only from the next safer one"
    case.run(pack.BlockPack(kit.pid("s"), "prod/stable", "k2", ""))
    case.when(case.back("prod/canary/all"))
    assert [] == trace(case), "then it is not the LKG there either"


def test_step_4_lkg_means_every_target_there(case: Any, kit: Any) -> None:
    case.declared("prod/stable").declared("prod/canary")
    s = case.good("s", where="prod/stable/all")
    case.activated("prod/stable/all", "t2")
    case.released(case.packed("c"), "prod/canary/all")
    case.activated("prod/canary/all")
    case.when(case.back("prod/canary/all"))
    assert [] == trace(case)
    case.healthy("prod/stable/all", "t2")
    chosen(case, s, ("safer", "chosen"), where="prod/canary/all")


def test_step_5_the_baseline_of_the_environment(case: Any, kit: Any) -> None:
    base = case.declared().packed("base")
    case.run(channel.SetBaseline("prod", base))
    case.released(case.packed("p"))
    case.activated()
    chosen(case, base, ("baseline", "chosen"))
    case.run(pack.BlockPack(base, "*", "k", ""))
    stuck(case, "no_candidate", ("baseline", "blocked"))


def test_step_6_stuck_and_an_incident_and_the_rollout_ends(case: Any, kit: Any) -> None:
    case.declared()
    rollout = case.released(case.packed("p"))
    case.activated()
    case.when(case.back()).then(
        "rollback.requested",
        ("rollback.no_candidate", {"reason": "no_candidate", "trace": []}),
        "slot.stuck",
        "release.gate_judged",
        "release.aborted",
        ("incident.declared", {"incident": "i-1", "scope": kit.SLOT, "cause_pack": kit.pid("p")}),
    )
    case.run(case.back())
    assert "ABORTED_STUCK" == case.world().releases[rollout].state
    assert "" == case.world().slots[kit.SLOT].rollout
    case.when(case.back()).then_refused("R5.stuck", cause="slot.stuck")
    case.run(slot.Unstick(kit.SLOT, kit.T, kit.pid("p")))
    case.when(case.back()).then(
        "rollback.requested",
        "rollback.no_candidate",
        "slot.stuck",
        ("incident.declared", {"incident": "i-2"}),
    )


# -- step 0 -------------------------------------------------------------------------------------------------------------


def test_step_0_an_explicit_target_is_taken(case: Any, kit: Any) -> None:
    p1, _, _ = shelf(case, "p1", "p2", "p3")
    case.run(channel.SetPin("prod", kit.pid("p2"), ""))
    chosen(case, p1, ("explicit", "chosen"), to=p1)


@pytest.mark.parametrize(
    ("make", "code", "cause"),
    [
        (block, "blocked", "pack.blocked"),
        (withdraw, "withdrawn", "pack.withdrawn"),
        (fail_verification, "unverified", "pack.reverified"),
        (raise_floor, "below_floor", "channel.floor_raised"),
    ],
)
def test_step_0_is_never_substituted(case: Any, kit: Any, make: Any, code: str, cause: str) -> None:
    p1, _, p3 = shelf(case, "p1", "p2", "p3")
    make(case, p1, kit)
    no = case.when(case.back(to=p1)).then_refused(f"R5.explicit_{code}", cause=cause)
    assert [f"explicit {p1}: {code}"] == no.facts
    case.when(case.back(to=p3)).then_refused("R5.explicit_excluded", cause="-")
    case.when(case.back(to=kit.pid("none"))).then_refused("R5.explicit_not_admitted", cause="-")


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_the_target_r5_chooses_needs_one_person_an_explicit_one_more(
    case: Any, under: Any, kit: Any, policy: str
) -> None:
    p1, p2 = shelf(case, "p1", "p2")
    strict = kit.shipped(policy)
    case.run(PublishPolicy(kit.with_rules(strict, verification={"pack_signatures": 0}).document))
    case.when(case.back(to=p1)).then_refused("R10.approvals", exit_code=4)
    chosen(case, p1, FAILING, ("lkg", "chosen"))
    assert p2 != p1


# -- freezes, rollouts, targets -----------------------------------------------------------------------------------------


def test_a_forward_freeze_never_stops_a_rollback_a_full_one_does(case: Any, kit: Any) -> None:
    """R8, at the request, the plan and the switch."""
    p1, _ = shelf(case, "p1", "p2")
    case.run(channel.FreezeScope("prod", "f", "FORWARD", ""), case.back())
    name = case.activated(until="staged")
    end = plus(case.at, seconds=60)
    case.run(channel.FreezeScope("*", "g", "ALL", end))
    case.when(Switch(name, kit.SLOT, kit.T, False)).then_refused("R8.frozen", cause="channel.frozen")
    case.when(Switch(name, kit.SLOT, kit.T, False), at=end).then(
        ("activation.switched", {"pack": p1}), "slot.good_revoked", "slot.quarantined"
    )


def test_a_full_freeze_stops_the_request(case: Any, kit: Any) -> None:
    shelf(case, "p1", "p2")
    case.run(channel.FreezeScope(kit.SLOT, "g", "ALL", plus(case.at, seconds=60)))
    case.when(case.back()).then_refused("R8.frozen", cause="channel.frozen")


def test_a_rollback_ends_what_is_half_done_and_fails_its_rollout(case: Any, kit: Any) -> None:
    p1, p2 = shelf(case, "p1", "p2")
    rollout = case.released(case.packed("p3"))
    case.activated(until="fetched")
    case.when(case.back()).then(
        "rollback.requested", ("activation.abandoned", {"pack": kit.pid("p3")}), "rollback.pack_selected"
    )
    case.run(case.back())
    assert "RUNNING" == case.world().releases[rollout].state, "its pack was not the failing one"
    assert (p1, p2) == (case.target().rollback_pack, case.target().active)


def test_one_rollback_at_a_time(case: Any, kit: Any) -> None:
    shelf(case, "p1", "p2")
    case.run(case.back())
    case.when(case.back()).then_refused("R12.rollback_open", cause="rollback.requested")
    case.when(case.back(to=kit.pid("p1"))).then_refused("R12.rollback_open")
    case.activated(until="fetched")
    case.when(case.back()).then_refused("R12.rollback_open")


def test_targets_of_a_slot_are_rolled_back_each(case: Any, kit: Any) -> None:
    case.declared()
    p1 = case.good("p1")
    case.activated(target="t2")
    case.healthy(target="t2")
    rollout = case.released(case.packed("p2"))
    for target in (kit.T, "t2"):
        case.activated(target=target)
    case.run(case.back())
    case.activated()
    assert "ABORTING" == case.world().releases[rollout].state
    case.run(case.back(target="t2"))
    case.activated(target="t2")
    assert "ROLLED_BACK" == case.world().releases[rollout].state
    assert [p1, p1] == [one.active for one in case.world().slots[kit.SLOT].targets.values()]


# -- R6 -----------------------------------------------------------------------------------------------------------------


def test_r6_what_was_left_is_revoked_and_quarantined(case: Any, kit: Any) -> None:
    p1, p2 = shelf(case, "p1", "p2")
    case.run(case.back())
    name = case.activated(until="staged")
    case.when(Switch(name, kit.SLOT, kit.T, False)).then(
        ("activation.switched", {"pack": p1, "kind": "rollback", "replaced": p2}),
        ("slot.good_revoked", {"pack": p2}),
        ("slot.quarantined", {"pack": p2, "channel": "prod/stable"}),
    )
    case.run(Switch(name, kit.SLOT, kit.T, False), Confirm(name, kit.SLOT, kit.T, p1))
    assert p2 not in [item.pack for item in case.target().good()]
    case.run(release.Create("again", p2, [Stage([kit.SLOT], 100_000, 0)]))
    case.when(release.Start("again"), actor=kit.AGENT).then_refused(
        "R2.quarantined", cause="slot.quarantined"
    )
    case.when(release.Start("again")).then_refused("R9.revoked", cause="slot.good_revoked")


# -- chains, R7 ---------------------------------------------------------------------------------------------------------


def failed_step(case: Any, kit: Any, *, actor: Any = None) -> Any:
    """The pack that was selected fails its verification on the target."""
    name = case.activated(until="fetched", actor=actor)
    return case.when(Verified(name, kit.SLOT, kit.T, BAD), actor=actor)


def test_a_failed_step_selects_again_without_that_pack(case: Any, kit: Any) -> None:
    """I7: never the failing pack, never one of the chain."""
    p1, _, p3 = shelf(case, "p1", "p2", "p3")
    case.run(case.back())
    failed_step(case, kit).then(
        "activation.verification_failed",
        ("rollback.step_failed", {"pack": kit.pid("p2"), "reason": "verification failed"}),
        ("rollback.pack_selected", {"pack": p1}),
    )
    assert [FAILING, ("lkg", "excluded"), ("lkg", "chosen")] == trace(case)
    assert p3 == case.target().active


def test_a_failed_fetch_or_stage_is_a_failed_step(case: Any, kit: Any) -> None:
    shelf(case, "p1", "p2", "p3")
    case.run(case.back())
    name = case.activated(until="plan")
    for step in ("fetch_failed", "stage_failed"):
        case.when(Fail(name, kit.SLOT, kit.T, step, "gone")).then(
            f"activation.{step}",
            ("rollback.step_failed", {"reason": "fetch failed"}),
            "rollback.pack_selected",
        )


def test_without_candidate_after_a_failed_step_it_is_stuck_with_an_incident(case: Any, kit: Any) -> None:
    case.declared()
    case.good("p1")
    rollout = case.released(case.packed("p2"))
    case.activated()
    case.run(case.back())
    failed_step(case, kit).then(
        "activation.verification_failed",
        "rollback.step_failed",
        ("rollback.no_candidate", {"reason": "no_candidate", "failing": kit.pid("p2")}),
        "slot.stuck",
        "release.aborted",
        "incident.declared",
    )
    name = case.target().activation.activation
    case.run(Verified(name, kit.SLOT, kit.T, BAD))
    assert ("STUCK", kit.pid("p2")) == (case.target().mode, case.target().active)
    assert "ABORTED_STUCK" == case.world().releases[rollout].state


def test_r7_limits_a_chain_of_automation(case: Any, kit: Any) -> None:
    """Two consecutive rollbacks, the third gives up though there is a candidate; a person may go on."""
    shelf(case, "p0", "p1", "p2", "p3")
    case.run(case.back(), actor=kit.AGENT)
    name = case.activated(until="fetched", actor=kit.AGENT)
    case.run(Verified(name, kit.SLOT, kit.T, BAD), actor=kit.AGENT)
    failed_step(case, kit, actor=kit.AGENT)
    assert ("chain_limit", []) == (
        case.event("rollback.no_candidate")["reason"],
        case.event("rollback.no_candidate")["trace"],
    )
    assert case.event("incident.declared")
    name = case.target().activation.activation
    case.when(Verified(name, kit.SLOT, kit.T, BAD))
    assert kit.pid("p0") == case.event("rollback.pack_selected")["pack"]


def test_from_trial_of_a_rollback_the_next_one_goes_on_with_the_chain(case: Any, kit: Any) -> None:
    p0, p1, p2, p3 = shelf(case, "p0", "p1", "p2", "p3")
    case.run(case.back(), actor=kit.AGENT)
    case.activated(until="switch", actor=kit.AGENT)
    case.when(case.back(), actor=kit.AGENT).then(
        ("rollback.step_failed", {"pack": p2}),
        ("rollback.requested", {"failing": p2}),
        ("rollback.pack_selected", {"pack": p1}),
    )
    case.run(case.back(), actor=kit.AGENT)
    assert [p3, p2] == case.target().chain
    case.activated(until="switch", actor=kit.AGENT)
    case.when(case.back(), actor=kit.AGENT)
    assert "chain_limit" == case.event("rollback.no_candidate")["reason"]
    case.when(case.back())
    assert p0 == case.event("rollback.pack_selected")["pack"]


def test_a_confirmation_ends_the_chain(case: Any, kit: Any) -> None:
    shelf(case, "p0", "p1", "p2", "p3")
    for _ in range(3):
        case.run(case.back(), actor=kit.AGENT)
        case.activated(actor=kit.AGENT)
        assert [] == case.target().chain
    assert kit.pid("p0") == case.target().active


def test_a_forward_switch_on_trial_can_be_rolled_back(case: Any, kit: Any) -> None:
    p1, _ = shelf(case, "p1", "p2")
    case.released(case.packed("p3"))
    forward = case.activated(until="switch")
    case.run(case.back())
    case.run(Confirm(forward, kit.SLOT, kit.T, kit.pid("p3")))
    assert ("ROLLING_BACK", [kit.pid("p3")]) == (case.target().mode, case.target().chain)
    case.activated()
    assert (kit.pid("p2"), "STEADY") == (case.target().active, case.target().mode)
    assert p1 != case.target().active


def test_a_rollback_may_be_planned_over_an_unconfirmed_forward_switch(case: Any, kit: Any) -> None:
    shelf(case, "p1")
    case.released(case.packed("p2"))
    case.activated(until="switch")
    case.run(case.back())
    case.activated(until="switch")
    case.when(Plan("x", kit.SLOT, kit.T, "/srv/t1", "folder", "", False)).then_refused("R12.activation_open")


def test_a_reverted_rollback_stays_open(case: Any, kit: Any) -> None:
    p1, p2 = shelf(case, "p1", "p2")
    case.run(case.back())
    name = case.activated(until="switch")
    case.run(Revert(name, kit.SLOT, kit.T, p2))
    assert ("ROLLING_BACK", p2) == (case.target().mode, case.target().active)
    case.activated()
    assert p1 == case.target().active


def test_a_selected_pack_that_may_no_longer_run_is_selected_again(case: Any, kit: Any) -> None:
    """Without this a block between selection and plan would leave no command that goes on."""
    p0, p1, _ = shelf(case, "p0", "p1", "p2")
    case.run(case.back(), pack.BlockPack(p1, "*", "k", ""))
    case.when(Plan("x", kit.SLOT, kit.T, "/srv/t1", "folder", "", False)).then_refused(
        "R2.blocked", cause="pack.blocked"
    )
    case.when(case.back()).then(
        ("rollback.step_failed", {"pack": p1}), ("rollback.pack_selected", {"pack": p0})
    )


def test_a_trigger_is_one_of_the_list(case: Any, kit: Any) -> None:
    shelf(case, "p1", "p2")
    with pytest.raises(InvalidError):
        case.when(case.back(trigger="mood"))


def test_an_incident_that_names_the_pack_revokes_it(case: Any, kit: Any) -> None:
    """R4; and R5 passes over it."""
    p0, p1, _ = shelf(case, "p0", "p1", "p2")
    case.when(incident.Declare("SEV2", "prod", "leak", p1)).then(
        "incident.declared", "channel.frozen", ("slot.good_revoked", {"pack": p1, "target": kit.T})
    )
    case.run(incident.Declare("SEV2", "prod", "leak", p1))
    chosen(case, p0, FAILING, ("lkg", "revoked"), ("lkg", "chosen"))
