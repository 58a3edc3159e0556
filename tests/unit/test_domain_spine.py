"""The golden path, command by command, under policy solo."""

from __future__ import annotations

from typing import Any

from muniment.domain import activation, release


def test_a_pack_goes_out_and_becomes_good(case: Any, kit: Any) -> None:
    case.declared()
    case.good("p1")
    p2 = case.packed("p2")
    rollout = case.released(p2)
    case.activated()
    case.when(release.Complete(rollout)).then_refused("R11.inconclusive")
    case.healthy()
    case.when(release.Complete(rollout)).then("release.soaked", "release.gate_judged", "release.completed")
    assert p2 == case.target().active
    assert [p2, kit.pid("p1")] == [item.pack for item in case.target().good()]


def test_a_failing_pack_goes_back_to_the_last_known_good(case: Any, kit: Any) -> None:
    case.declared()
    p1 = case.good("p1")
    rollout = case.released(case.packed("p2"))
    case.activated()
    case.healthy(status="UNHEALTHY")
    case.when(release.Complete(rollout)).then_refused("R11.fail")
    case.run(case.back())
    assert "ABORTING" == case.world().releases[rollout].state
    case.activated()
    assert "ROLLED_BACK" == case.world().releases[rollout].state
    assert (p1, "STEADY", "") == (case.target().active, case.target().mode, case.target().rollback)


def test_nothing_is_planned_before_a_promotion(case: Any, kit: Any) -> None:
    case.declared()
    case.when(activation.Plan("a-1", kit.SLOT, kit.T, "/srv", "folder", "", False)).then_refused(
        "R9.nothing_desired"
    )
