"""Release: the plan, R12, the gate of a stage (R11), pauses and the ways out."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import channel, pack, release
from muniment.domain.activation import Confirm
from muniment.domain.instant import plus
from muniment.domain.states import Stage

TWO = ["prod/canary/all", "prod/stable/all"]


def plan(*slots: str, soak_s: int = 0) -> list[Stage]:
    return [Stage([slot], 100_000, soak_s) for slot in slots]


def two_stages(case: Any, kit: Any, *, soak_s: int = 0) -> Any:
    case.declared("prod/canary").declared()
    return case.run(release.Create("r", case.packed("p"), plan(*TWO, soak_s=soak_s)), release.Start("r"))


def test_the_plan_is_frozen_at_creation(case: Any, kit: Any) -> None:
    p = case.declared().packed("p")
    case.when(release.Create("r", p, plan(kit.SLOT, kit.SLOT))).then(
        ("release.created", {"slots": [kit.SLOT], "product": "shop"})
    )
    one = case.event("release.created")["plan_digest"]
    case.when(release.Create("r", p, plan(kit.SLOT, soak_s=1)))
    assert one != case.event("release.created")["plan_digest"]


def test_a_draft_names_declared_slots_and_a_registered_pack(case: Any, kit: Any) -> None:
    p = case.declared().packed("p")
    case.when(release.Create("r", kit.pid("no"), plan(kit.SLOT))).then_refused("pack.unknown", exit_code=3)
    case.when(release.Create("r", p, plan("prod/stable/eu"))).then_refused(
        "release.slot_unknown", exit_code=3
    )
    case.when(release.Create("r", p, plan(kit.SLOT, "dev/stable/all"))).then_refused(
        "release.slot_unknown", exit_code=3
    )
    case.when(release.Create("r", p, [])).then_refused("release.no_slots")
    case.run(release.Create("r", p, plan(kit.SLOT)))
    case.when(release.Create("r", p, plan(kit.SLOT))).then_refused("release.id_used", cause="release.created")


@pytest.mark.parametrize(
    "command",
    [
        release.Start("r"),
        release.Promote("r", ""),
        release.Pause("r"),
        release.Resume("r"),
        release.Complete("r"),
        release.Abort("r"),
    ],
)
def test_nothing_happens_to_an_unknown_or_ended_release(case: Any, kit: Any, command: Any) -> None:
    case.when(command).then_refused("release.unknown", exit_code=3)
    case.declared()
    case.run(release.Create("r", case.packed("p"), plan(kit.SLOT)), release.Start("r"), release.Abort("r"))
    case.when(command).then_refused("release.ended", cause="release.rolled_back")


def test_under_solo_start_submits_and_approves_by_policy(case: Any, kit: Any) -> None:
    case.declared()
    case.run(release.Create("r", case.packed("p"), plan(kit.SLOT)))
    case.when(release.Start("r")).then(
        "release.submitted", ("release.approved", {"by": ["policy:solo"]}), "release.started"
    )
    case.run(release.Start("r")).when(release.Start("r")).then_refused("release.state")


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_starting_takes_people(under: Any, kit: Any, policy: str) -> None:
    case = under(policy, verification={"pack_signatures": 1}).declared()
    case.run(release.Create("r", case.packed("p"), plan(kit.SLOT)))
    case.when(release.Start("r")).then_refused("R10.approvals", exit_code=4)


def test_one_rollout_a_slot(case: Any, kit: Any) -> None:
    """R12; the slot is free again when the first one ends."""
    two_stages(case, kit)
    case.run(release.Create("s", case.packed("q"), plan(kit.SLOT)))
    case.when(release.Start("s")).then_refused("R12.rollout_open", cause="release.created")
    case.run(release.Abort("r")).when(release.Start("s")).then(
        "release.submitted", "release.approved", "release.started"
    )


def test_freezes_and_pins_are_checked_at_submit_and_at_each_exposure(case: Any, kit: Any) -> None:
    case.declared()
    p, q = case.packed("p"), case.packed("q")
    case.run(release.Create("r", p, plan(kit.SLOT)), channel.FreezeScope("prod", "f", "FORWARD", ""))
    case.when(release.Start("r")).then_refused("R8.frozen", cause="channel.frozen")
    case.run(channel.Unfreeze("prod", "f"), channel.SetPin("*", q, ""))
    case.when(release.Start("r")).then_refused("R9.pinned", cause="channel.pinned")
    case.run(channel.Unpin("*"), release.Start("r"), channel.SetPin("prod", q, ""))
    case.when(release.Promote("r", "")).then_refused("R9.pinned", cause="channel.pinned")
    case.run(channel.Unpin("prod"), channel.FreezeScope("prod/stable", "f", "FORWARD", ""))
    case.when(release.Promote("r", "")).then_refused("R8.frozen", cause="channel.frozen")


def test_an_expired_freeze_or_pin_stops_nothing(case: Any, kit: Any) -> None:
    case.declared()
    p, q = case.packed("p"), case.packed("q")
    end = plus(case.at, seconds=30)
    case.run(
        release.Create("r", p, plan(kit.SLOT)),
        channel.SetPin("prod", q, end),
        channel.FreezeScope("prod", "f", "ALL", end),
    )
    case.when(release.Start("r"), at=plus(end, micros=-1)).then_refused("R8.frozen")
    case.when(release.Start("r"), at=end).then("release.submitted", "release.approved", "release.started")


@pytest.mark.parametrize(
    ("make", "rule"),
    [
        (lambda case, p: case.run(pack.BlockPack(p, "prod/stable", "k", "")), "R2.blocked"),
        (lambda case, p: case.run(pack.Withdraw(p)), "R2.withdrawn"),
        (lambda case, p: case.given(floor_raised("prod", 3)), "R2.below_floor"),
    ],
)
def test_an_ineligible_pack_is_not_started(case: Any, kit: Any, make: Any, rule: str) -> None:
    p = case.declared().packed("p")
    case.run(release.Create("r", p, plan(kit.SLOT)))
    make(case, p)
    no = case.when(release.Start("r")).then_refused(rule)
    assert len(case.facts) == no.cause.position


def floor_raised(scope: str, floor: int) -> tuple[str, dict[str, Any]]:
    return "channel.floor_raised/1", {"scope": scope, "floor": floor, "pack": "", "reason": ""}


def test_promotion_goes_stage_by_stage(case: Any, kit: Any) -> None:
    two_stages(case, kit)
    case.when(release.Promote("r", "prod/stable")).then_refused("release.stage_mismatch")
    case.when(release.Promote("r", "prod/can")).then_refused("release.stage_mismatch")
    case.when(release.Promote("r", "prod/canary")).then(
        ("release.exposed", {"stage": 0}), ("release.promoted", {"slots": [TWO[0]]})
    )
    case.run(release.Promote("r", ""))
    case.when(release.Complete("r")).then_refused("release.stages_left")
    case.when(release.Promote("r", "")).then_refused("R11.inconclusive")
    case.activated(TWO[0])
    case.healthy(TWO[0])
    case.when(release.Promote("r", TWO[1])).then(
        "release.soaked",
        ("release.gate_judged", {"verdict": "PASS", "stage": 0}),
        ("release.exposed", {"stage": 1}),
        ("release.promoted", {"slots": [TWO[1]]}),
    )
    case.run(release.Promote("r", ""))
    case.activated(TWO[1])
    case.healthy(TWO[1])
    case.when(release.Promote("r", "")).then_refused("release.last_stage")
    case.run(release.Complete("r"))
    assert "COMPLETED" == case.world().releases["r"].state


def missing(case: Any) -> tuple[str, list[str]]:
    no = case.when(release.Complete("r")).answer
    return no.rule, [fact.split(":")[0] for fact in no.facts]


def test_the_gate_says_what_is_missing(case: Any, kit: Any) -> None:
    """R11: nothing known is INCONCLUSIVE, never PASS."""
    case.declared()
    p = case.good("p0")
    case.run(release.Create("r", case.packed("p"), plan(kit.SLOT, soak_s=100)), release.Start("r"))
    case.run(release.Promote("r", ""))
    assert missing(case) == ("R11.inconclusive", ["not_active"])
    case.activated(until="switch")
    assert missing(case) == ("R11.inconclusive", ["trial"])
    current = case.target().activation
    case.run(Confirm(current.activation, kit.SLOT, kit.T, current.pack))
    assert missing(case) == ("R11.inconclusive", ["not_attested"])
    case.healthy()
    assert missing(case) == ("R11.inconclusive", ["soaking"])
    case.later(100)
    case.healthy(status="UNKNOWN")
    assert missing(case) == ("R11.inconclusive", ["unknown"])
    case.healthy(status="DEGRADED")
    assert missing(case) == ("R11.fail", ["unhealthy"])
    case.healthy()
    assert missing(case) == ("R11.inconclusive", ["soaking"]), "a failing report starts the soak again"
    case.later(100).when(release.Complete("r")).then(
        "release.soaked", "release.gate_judged", "release.completed"
    )
    assert p in [item.pack for item in case.target().good()]


def test_a_slot_without_targets_has_no_data(case: Any, kit: Any) -> None:
    case.declared()
    case.run(
        release.Create("r", case.packed("p"), plan(kit.SLOT)), release.Start("r"), release.Promote("r", "")
    )
    assert missing(case) == ("R11.inconclusive", ["no_data"])


def test_every_target_of_the_stage_counts(case: Any, kit: Any) -> None:
    case.declared()
    case.run(
        release.Create("r", case.packed("p"), plan(kit.SLOT)), release.Start("r"), release.Promote("r", "")
    )
    case.activated()
    case.healthy()
    case.activated(target="t2")
    assert missing(case) == ("R11.inconclusive", ["not_attested"])
    case.healthy(target="t2", status="UNHEALTHY")
    assert missing(case) == ("R11.fail", ["unhealthy"])


def test_a_paused_release_does_nothing_and_asks_for_new_evidence(case: Any, kit: Any) -> None:
    case.declared()
    case.run(release.Create("r", case.packed("p"), plan(kit.SLOT)))
    case.when(release.Pause("r")).then_refused("release.draft")
    case.when(release.Promote("r", "")).then_refused("release.draft")
    case.run(release.Start("r"), release.Promote("r", ""))
    case.when(release.Resume("r")).then_refused("release.running")
    case.activated()
    case.healthy()
    case.run(release.Pause("r"))
    for command in (release.Promote("r", ""), release.Complete("r"), release.Pause("r")):
        case.when(command).then_refused("release.paused", cause="release.paused")
    case.run(release.Resume("r"))
    assert missing(case) == ("R11.inconclusive", ["no_report_since_exposure"])
    case.healthy().when(release.Complete("r")).then(
        "release.soaked", "release.gate_judged", "release.completed"
    )


def test_resuming_needs_every_freeze_gone(case: Any, kit: Any) -> None:
    two_stages(case, kit).run(release.Pause("r"), channel.FreezeScope("prod/stable", "f", "FORWARD", ""))
    case.when(release.Resume("r")).then_refused("R8.frozen", cause="channel.frozen")
    case.run(channel.Unfreeze("prod/stable", "f"))
    case.when(release.Resume("r")).then(("release.resumed", {"cleared": ["operator"]}))


def test_abort_ends_at_once_if_nothing_runs_the_pack(case: Any, kit: Any) -> None:
    two_stages(case, kit).when(release.Abort("r")).then(
        ("release.gate_judged", {"verdict": "FAIL", "facts": ["aborted"]}), "release.rolled_back"
    )
    case.run(release.Create("s", case.packed("q"), plan(kit.SLOT)))
    case.when(release.Abort("s")).then_refused("release.draft")


def test_abort_waits_for_every_target_to_leave_the_pack(case: Any, kit: Any) -> None:
    case.declared()
    p0 = case.good("p0")
    rollout = case.released(case.packed("p"))
    case.activated()
    case.when(release.Abort(rollout)).then("release.gate_judged")
    case.run(release.Abort(rollout))
    case.when(release.Abort(rollout)).then_refused("release.aborting")
    case.when(release.Complete(rollout)).then_refused("release.aborting")
    case.run(case.back())
    case.activated(until="switch")
    assert "ABORTING" == case.world().releases[rollout].state
    current = case.target().activation
    case.when(Confirm(current.activation, kit.SLOT, kit.T, p0)).then(
        "activation.confirmed", "rollback.completed", "release.rolled_back"
    )


def test_upstream_comes_first(case: Any, kit: Any) -> None:
    case.declared("prod/canary").declared("prod/stable", upstream=("prod/canary",))
    case.run(release.Create("r", case.packed("p"), plan(kit.SLOT)), release.Start("r"))
    case.when(release.Promote("r", "")).then_refused("R9.upstream", cause="-")
    case.run(release.Abort("r"))
    case.goes_good(kit.pid("p"), where="prod/canary/all")
    case.released(kit.pid("p"))
