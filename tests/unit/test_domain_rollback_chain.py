"""Rollback among freezes, rollouts and targets: R6, R7, failed steps, and the ways out of a rollback."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import channel, pack, release
from muniment.domain.activation import Confirm, Fail, Plan, Revert, Switch, Verified
from muniment.domain.errors import InvalidError
from muniment.domain.instant import plus
from muniment.domain.states import Stage

BAD = [{"name": "files", "verdict": "fail", "attack": "truncated"}]


# -- freezes, rollouts, targets -----------------------------------------------------------------------------------------


def test_a_forward_freeze_never_stops_a_rollback_a_full_one_does(case: Any, kit: Any) -> None:
    """R8, at the request, the plan and the switch."""
    p1, _ = case.shelf("p1", "p2")
    case.run(channel.FreezeScope("prod", "f", "FORWARD", ""), case.back())
    name = case.activated(until="staged")
    end = plus(case.at, seconds=60)
    case.run(channel.FreezeScope("*", "g", "ALL", end))
    case.when(Switch(name, kit.SLOT, kit.T, False)).then_refused("R8.frozen", cause="channel.frozen")
    case.when(Switch(name, kit.SLOT, kit.T, False), at=end).then(
        ("activation.switched", {"pack": p1}), "slot.good_revoked", "slot.quarantined"
    )


def test_a_full_freeze_stops_the_request(case: Any, kit: Any) -> None:
    case.shelf("p1", "p2")
    case.run(channel.FreezeScope(kit.SLOT, "g", "ALL", plus(case.at, seconds=60)))
    case.when(case.back()).then_refused("R8.frozen", cause="channel.frozen")


def test_a_rollback_ends_what_is_half_done_and_fails_its_rollout(case: Any, kit: Any) -> None:
    p1, p2 = case.shelf("p1", "p2")
    rollout = case.released(case.packed("p3"))
    case.activated(until="fetched")
    case.when(case.back()).then(
        "rollback.requested", ("activation.abandoned", {"pack": kit.pid("p3")}), "rollback.pack_selected"
    )
    case.run(case.back())
    assert "RUNNING" == case.world().releases[rollout].state, "its pack was not the failing one"
    assert (p1, p2) == (case.target().rollback_pack, case.target().active)


def test_one_rollback_at_a_time(case: Any, kit: Any) -> None:
    case.shelf("p1", "p2")
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
    p1, p2 = case.shelf("p1", "p2")
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
    p1, _, p3 = case.shelf("p1", "p2", "p3")
    case.run(case.back())
    failed_step(case, kit).then(
        "activation.verification_failed",
        ("rollback.step_failed", {"pack": kit.pid("p2"), "reason": "verification failed"}),
        ("rollback.pack_selected", {"pack": p1}),
    )
    assert [("lkg", "excluded"), ("lkg", "excluded"), ("lkg", "chosen")] == case.trace()
    assert p3 == case.target().active


def test_a_failed_fetch_or_stage_is_a_failed_step(case: Any, kit: Any) -> None:
    case.shelf("p1", "p2", "p3")
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
    case.shelf("p0", "p1", "p2", "p3")
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
    p0, p1, p2, p3 = case.shelf("p0", "p1", "p2", "p3")
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
    case.shelf("p0", "p1", "p2", "p3")
    for _ in range(3):
        case.run(case.back(), actor=kit.AGENT)
        case.activated(actor=kit.AGENT)
        assert [] == case.target().chain
    assert kit.pid("p0") == case.target().active


def test_a_forward_switch_on_trial_can_be_rolled_back(case: Any, kit: Any) -> None:
    p1, _ = case.shelf("p1", "p2")
    case.released(case.packed("p3"))
    forward = case.activated(until="switch")
    case.run(case.back())
    case.run(Confirm(forward, kit.SLOT, kit.T, kit.pid("p3")))
    assert ("ROLLING_BACK", [kit.pid("p3")]) == (case.target().mode, case.target().chain)
    case.activated()
    assert (kit.pid("p2"), "STEADY") == (case.target().active, case.target().mode)
    assert p1 != case.target().active


def test_a_rollback_may_be_planned_over_an_unconfirmed_forward_switch(case: Any, kit: Any) -> None:
    case.shelf("p1")
    case.released(case.packed("p2"))
    case.activated(until="switch")
    case.run(case.back())
    case.activated(until="switch")
    case.when(Plan("x", kit.SLOT, kit.T, "/srv/t1", "folder", "", False)).then_refused("R12.activation_open")


def test_a_reverted_rollback_stays_open(case: Any, kit: Any) -> None:
    p1, p2 = case.shelf("p1", "p2")
    case.run(case.back())
    name = case.activated(until="switch")
    case.run(Revert(name, kit.SLOT, kit.T, p2))
    assert ("ROLLING_BACK", p2) == (case.target().mode, case.target().active)
    case.activated()
    assert p1 == case.target().active


def test_a_selected_pack_that_may_no_longer_run_is_selected_again(case: Any, kit: Any) -> None:
    """Without this a block between selection and plan would leave no command that goes on."""
    p0, p1, _ = case.shelf("p0", "p1", "p2")
    case.run(case.back(), pack.BlockPack(p1, "*", "k", ""))
    case.when(Plan("x", kit.SLOT, kit.T, "/srv/t1", "folder", "", False)).then_refused(
        "R2.blocked", cause="pack.blocked"
    )
    case.when(case.back()).then(
        ("rollback.step_failed", {"pack": p1}), ("rollback.pack_selected", {"pack": p0})
    )


def test_a_trigger_is_one_of_the_list(case: Any, kit: Any) -> None:
    case.shelf("p1", "p2")
    with pytest.raises(InvalidError):
        case.when(case.back(trigger="mood"))
