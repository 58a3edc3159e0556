"""Channel and scope: declarations, pins, freezes and baselines."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import channel, pack
from muniment.domain.channel import Declare, FreezeScope, SetBaseline, SetPin, Unfreeze, Unpin
from muniment.domain.errors import InvalidError
from muniment.domain.instant import plus


def test_declaring_again_adds_cohorts(case: Any) -> None:
    case.declared("prod/stable", "eu", "us")
    case.when(Declare("prod/stable", ["us", "asia"], [])).then(("channel.declared", {"cohorts": ["asia"]}))
    case.when(Declare("prod/stable", ["eu"], [])).then_refused("channel.declared", cause="channel.declared")


def test_a_channel_has_a_known_risk_and_known_upstreams(case: Any) -> None:
    case.when(Declare("prod/nightly", ["all"], [])).then_refused("channel.risk_unknown", cause="-")
    case.when(Declare("prod/stable", ["all"], ["prod/canary"])).then_refused(
        "channel.upstream_unknown", exit_code=3
    )
    case.declared("prod/canary").when(Declare("prod/stable", ["all"], ["prod/canary"])).then(
        "channel.declared"
    )


@pytest.mark.parametrize("scope", ["stage", "prod/canary", "prod/stable/eu", "stage/stable/all"])
def test_a_scope_names_something_declared(case: Any, kit: Any, scope: str) -> None:
    p = case.declared().packed("p")
    case.when(SetPin(scope, p, "")).then_refused("channel.undeclared", cause="-", exit_code=3)
    case.when(FreezeScope(scope, "f1", "FORWARD", "")).then_refused("channel.undeclared", exit_code=3)


@pytest.mark.parametrize("scope", ["*", "prod", "prod/stable", "prod/stable/all"])
def test_pins_and_freezes_at_every_level(case: Any, kit: Any, scope: str) -> None:
    p = case.declared().packed("p")
    case.when(SetPin(scope, p, "")).then(("channel.pinned", {"scope": scope, "owner": "alice"}))
    case.when(FreezeScope(scope, "f1", "FORWARD", "")).then(
        ("channel.frozen", {"scope": scope, "incident": ""})
    )


def test_a_pin_needs_a_registered_pack_and_a_future(case: Any, kit: Any) -> None:
    p = case.declared().packed("p")
    case.when(SetPin("prod", kit.pid("none"), "")).then_refused("pack.unknown", exit_code=3)
    case.when(SetPin("prod", p, case.at)).then_refused("R8.expired")
    case.when(SetPin("prod", p, plus(case.at, micros=1))).then("channel.pinned")


def test_an_unpin_needs_a_pin(case: Any, kit: Any) -> None:
    p = case.declared().packed("p")
    case.when(Unpin("prod")).then_refused("channel.not_pinned")
    case.run(SetPin("prod", p, ""))
    case.when(Unpin("prod/stable")).then_refused("channel.not_pinned")
    case.when(Unpin("prod")).then(("channel.unpinned", {"pack": p}))


def test_freezes_have_ids(case: Any) -> None:
    case.declared().run(FreezeScope("prod", "f1", "FORWARD", ""))
    case.when(FreezeScope("prod", "f1", "FORWARD", "")).then_refused(
        "channel.freeze_used", cause="channel.frozen"
    )
    case.when(Unfreeze("prod", "f2")).then_refused("channel.freeze_unknown", exit_code=3)
    case.when(Unfreeze("prod/stable", "f1")).then_refused("channel.freeze_unknown", exit_code=3)
    case.when(Unfreeze("prod", "f1")).then("channel.unfrozen")
    case.when(FreezeScope("prod", "f2", "FORWARD", case.at)).then_refused("R8.expired")


def test_a_freeze_of_all_ends_within_the_limit(case: Any) -> None:
    case.declared()
    limit = case.policy.freeze.all_max_s
    case.when(FreezeScope("prod", "f1", "ALL", "")).then_refused("R8.all_expiry")
    case.when(FreezeScope("prod", "f1", "ALL", plus(case.at, seconds=limit, micros=1))).then_refused(
        "R8.all_expiry"
    )
    case.when(FreezeScope("prod", "f1", "ALL", plus(case.at, seconds=limit))).then("channel.frozen")


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_freezing_all_and_lifting_it_take_people(under: Any, policy: str) -> None:
    case = under(policy).declared()
    end = plus(case.at, seconds=60)
    case.when(FreezeScope("prod", "f1", "ALL", end)).then_refused("R10.approvals", exit_code=4)
    case.when(FreezeScope("prod", "f1", "FORWARD", "")).then("channel.frozen")
    frozen = {"scope": "prod", "freeze": "f1", "kind": "ALL", "owner": "o", "expires_at": end}
    case.given(("channel.frozen/1", {**frozen, "incident": "", "reason": ""}))
    case.when(Unfreeze("prod", "f1")).then_refused("R10.approvals", exit_code=4, cause="channel.frozen")


def test_a_kind_of_freeze_that_is_none_does_not_become_a_record(case: Any) -> None:
    with pytest.raises(InvalidError):
        case.declared().when(FreezeScope("prod", "f1", "SOFT", ""))


def test_the_baseline_is_an_eligible_pack(case: Any, kit: Any) -> None:
    p = case.declared().packed("p")
    case.when(SetBaseline("stage", p)).then_refused("channel.undeclared", exit_code=3)
    case.when(SetBaseline("prod", kit.pid("none"))).then_refused("pack.unknown", exit_code=3)
    case.when(SetBaseline("prod", p)).then(("channel.baselined", {"scope": "prod"}))
    case.run(pack.Withdraw(p)).when(SetBaseline("prod", p)).then_refused(
        "R2.withdrawn", cause="pack.withdrawn"
    )


def test_floors_only_rise(case: Any) -> None:
    """I3, whatever a record says."""
    raised = {"scope": "prod", "pack": "", "reason": ""}
    for floor in (3, 2, 4, 0):
        case.given(("channel.floor_raised/1", {**raised, "floor": floor}))
    assert 4 == case.world().scopes["prod"].floor
    assert 3 == channel.floor(case._world(case.facts[:-2]), "prod/stable/all")
