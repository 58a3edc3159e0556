"""Rollback: R5 step by step with every trace code, and a target that is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import channel, incident, pack, slot
from muniment.domain.admin import PublishPolicy
from muniment.domain.instant import plus


def chosen(case: Any, expected: str, *lines: tuple[str, str], **asked: Any) -> None:
    case.when(case.back(**asked))
    assert expected == case.event("rollback.pack_selected")["pack"]
    assert [*lines] == case.trace()


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
    assert [*lines] == case.trace()
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
    p1, _, p3 = case.shelf("p1", "p2", "p3")
    chosen(case, kit.pid("p2"), FAILING, ("lkg", "chosen"))
    requested = case.event("rollback.requested")
    assert (p3, "operator") == (requested["failing"], requested["trigger"])
    assert p1 not in str(case.answer)


def test_a_failing_pack_that_was_never_good(case: Any, kit: Any) -> None:
    case.shelf("p1")
    case.released(case.packed("p2"))
    case.activated(until="switch")
    chosen(case, kit.pid("p1"), ("lkg", "chosen"))


def test_step_1_the_narrowest_live_pin(case: Any, kit: Any) -> None:
    p1, p2, p3 = case.shelf("p1", "p2", "p3")
    case.run(channel.SetPin("prod", p2, ""), channel.SetPin("prod/stable", p1, plus(case.at, seconds=60)))
    chosen(case, p1, ("pin", "chosen"))
    case.later(120)
    chosen(case, p2, ("pin", "chosen"))
    case.run(channel.SetPin(kit.SLOT, p3, ""))
    chosen(case, p2, ("pin", "pin_target_is_current"), FAILING, ("lkg", "chosen"))


def test_step_1_an_ineligible_pin_stops(case: Any, kit: Any) -> None:
    p1, _ = case.shelf("p1", "p2")
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
    p1, _ = case.shelf("p1", "p2")
    expected = ["unverified", "schema", "below_floor", "blocked", "withdrawn", "revoked"]
    case.run(pack.RecordVerification(p1, "FAIL", "store", []))
    seen = []
    for make in (None, schema, raise_floor, block, withdraw, revoke):
        if make is not None:
            make(case, p1, kit)
        case.when(case.back())
        seen.append(case.trace()[-1][1])
    assert expected == seen


def schema(case: Any, p: str, kit: Any) -> None:
    """The data of the target goes where the pack cannot read it (one-way migration)."""
    name = case.target().activation.activation
    fields = {"activation": name, "slot": kit.SLOT, "target": kit.T, "pack": kit.pid("p2"), "kind": "forward"}
    case.given(("activation.switched/1", {**fields, "replaced": p, "epoch": 9, "schema_level": 99}))


def test_quarantine_binds_automation(case: Any, kit: Any) -> None:
    p0, p1, _ = case.shelf("p0", "p1", "p2")
    case.given(("slot.quarantined/1", {"channel": "prod/stable", "pack": p1, "cause": "x"}))
    case.when(case.back(), actor=kit.AGENT)
    assert [FAILING, ("lkg", "quarantined"), ("older", "chosen")] == case.trace()
    assert p0 == case.event("rollback.pack_selected")["pack"]
    chosen(case, p1, FAILING, ("lkg", "chosen"))


def test_the_depth_counts_good_packs_only(under: Any, kit: Any) -> None:
    case = under(rollback={"depth": 1})
    p0, p1, p2, p3, p4 = case.shelf("p0", "p1", "p2", "p3", "p4")
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
    assert [("safer", "blocked")] == case.trace(), "only from the next safer one"
    case.run(pack.BlockPack(kit.pid("s"), "prod/stable", "k2", ""))
    case.when(case.back("prod/canary/all"))
    assert [] == case.trace(), "then it is not the LKG there either"


def test_step_4_lkg_means_every_target_there(case: Any, kit: Any) -> None:
    case.declared("prod/stable").declared("prod/canary")
    s = case.good("s", where="prod/stable/all")
    case.activated("prod/stable/all", "t2")
    case.released(case.packed("c"), "prod/canary/all")
    case.activated("prod/canary/all")
    case.when(case.back("prod/canary/all"))
    assert [] == case.trace()
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
    p1, _, _ = case.shelf("p1", "p2", "p3")
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
    p1, _, p3 = case.shelf("p1", "p2", "p3")
    make(case, p1, kit)
    no = case.when(case.back(to=p1)).then_refused(f"R5.explicit_{code}", cause=cause)
    assert [f"explicit {p1}: {code}"] == no.facts
    case.when(case.back(to=p3)).then_refused("R5.explicit_excluded", cause="-")
    case.when(case.back(to=kit.pid("none"))).then_refused("R5.explicit_not_admitted", cause="-")


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_the_target_r5_chooses_needs_one_person_an_explicit_one_more(
    case: Any, under: Any, kit: Any, policy: str
) -> None:
    p1, p2 = case.shelf("p1", "p2")
    strict = kit.shipped(policy)
    case.run(PublishPolicy(kit.with_rules(strict, verification={"pack_signatures": 0}).document))
    case.when(case.back(to=p1)).then_refused("R10.approvals", exit_code=4)
    chosen(case, p1, FAILING, ("lkg", "chosen"))
    assert p2 != p1


def test_an_incident_that_names_the_pack_revokes_it(case: Any, kit: Any) -> None:
    """R4; and R5 passes over it."""
    p0, p1, _ = case.shelf("p0", "p1", "p2")
    case.when(incident.Declare("SEV2", "prod", "leak", p1)).then(
        "incident.declared", "channel.frozen", ("slot.good_revoked", {"pack": p1, "target": kit.T})
    )
    case.run(incident.Declare("SEV2", "prod", "leak", p1))
    chosen(case, p0, FAILING, ("lkg", "revoked"), ("lkg", "chosen"))
