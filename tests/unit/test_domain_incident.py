"""Incident: one decision acts, CONTAINED is a predicate (I22), closing wants a complete record."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import channel, release
from muniment.domain.admin import PublishPolicy
from muniment.domain.decision import ActorRef
from muniment.domain.errors import InvalidError
from muniment.domain.incident import Close, Contain, Declare, Note, Resolve
from muniment.domain.states import Stage

I = "i-1"  # noqa: E741
ACTION = {"what": "fix", "owner": "bob", "due": "2026-02-01", "check": "c-1"}


def declare(scope: str = "prod", severity: str = "SEV2") -> Declare:
    return Declare(severity, scope, "it leaks", "")


def resolved(case: Any) -> Any:
    return case.declared().run(declare(), Resolve(I, "done"))


def test_declaring_freezes_and_pauses_in_one_decision(case: Any, kit: Any) -> None:
    case.declared("prod/stable", "all", "eu").declared("stage/stable")
    rollout = case.released(case.packed("p"))
    other = case.released(case.packed("q"), "stage/stable/all")
    case.when(declare()).then(
        (
            "incident.declared",
            {
                "incident": I,
                "slots": ["prod/stable/all", "prod/stable/eu"],
                "releases": [rollout],
                "commander": "alice",
            },
        ),
        ("channel.frozen", {"scope": "prod", "kind": "FORWARD", "incident": I, "expires_at": ""}),
        ("release.paused", {"release": rollout, "cause": f"incident:{I}"}),
    )
    case.run(declare())
    assert ("PAUSED", "RUNNING") == tuple(case.world().releases[r].state for r in (rollout, other))
    case.when(release.Resume(rollout)).then_refused("R8.frozen", cause="channel.frozen")
    case.when(declare("*")).then(
        ("incident.declared", {"incident": "i-2"}), "channel.frozen", "release.paused", "release.paused"
    )


def test_a_scope_must_hold_something(case: Any) -> None:
    case.when(declare("*")).then_refused("incident.scope_empty")
    case.declared().when(declare("stage")).then_refused("incident.scope_empty")
    with pytest.raises(InvalidError):
        case.when(declare(severity="HIGH"))


@pytest.mark.parametrize("command", [Note(I, "x", ""), Contain(I), Resolve(I, "x"), Close(I, ["c"], [])])
def test_nothing_happens_to_an_unknown_or_closed_incident(case: Any, command: Any) -> None:
    case.when(command).then_refused("incident.unknown", exit_code=3)
    resolved(case).run(Close(I, ["c"], []))
    case.when(command).then_refused("incident.ended", cause="incident.closed")


def test_notes_are_counted_and_the_last_class_counts(case: Any) -> None:
    case.declared().run(declare(), Note(I, "a", "workflow"), Note(I, "b", ""))
    found = case.world().incidents[I]
    assert (2, "workflow") == (found.notes, found.class_)


def test_contained_is_a_predicate(case: Any, kit: Any) -> None:
    """I22."""
    case.declared("prod/stable", "all", "eu").run(declare())
    case.when(Contain(I)).then("incident.contained")
    case.run(channel.Unfreeze("prod", f"fz-{I}"))
    no = case.when(Contain(I)).then_refused("I22.not_contained", cause="incident.declared")
    assert ["slot_open:prod/stable/all", "slot_open:prod/stable/eu"] == no.facts
    p = case.packed("p")
    case.run(channel.SetPin(kit.SLOT, p, ""))
    assert ["slot_open:prod/stable/eu"] == case.when(Contain(I)).then_refused("I22.not_contained").facts
    case.run(channel.FreezeScope("prod/stable/eu", "f", "FORWARD", ""))
    case.run(Contain(I)).when(Contain(I)).then_refused("incident.contained")


def test_a_running_or_aborting_rollout_is_not_contained(case: Any, kit: Any) -> None:
    case.declared()
    rollout = case.released(case.packed("p"))
    case.activated()
    case.given(("release.resumed/1", {"release": rollout, "slots": [kit.SLOT], "cleared": [], "reason": ""}))
    case.run(declare(), channel.Unfreeze("prod", f"fz-{I}"), release.Resume(rollout))
    case.run(channel.FreezeScope("prod", "f", "FORWARD", ""))
    assert [f"rollout_running:{rollout}"] == case.when(Contain(I)).then_refused("I22.not_contained").facts
    case.run(release.Abort(rollout))
    assert [f"rollout_aborting:{rollout}"] == case.when(Contain(I)).then_refused("I22.not_contained").facts


def test_one_stuck_target_does_not_close_a_slot(case: Any, kit: Any) -> None:
    case.declared()
    case.released(case.packed("p"))
    case.activated()
    case.activated(target="t2")
    case.run(case.back())
    no = case.when(Contain(I)).then_refused("I22.not_contained")
    assert ["rollout_aborting:r-1", "slot_open:prod/stable/all"] == no.facts
    case.run(case.back(target="t2")).when(Contain(I)).then("incident.contained")


def test_resolving_wants_containment_and_fresh_health(case: Any, kit: Any) -> None:
    case.declared()
    case.good("p")
    case.run(declare(), channel.Unfreeze("prod", f"fz-{I}"))
    case.when(Resolve(I, "x")).then_refused("I22.not_contained")
    case.run(channel.FreezeScope("prod", "f", "FORWARD", ""))
    case.when(Resolve(I, "x")).then_refused("incident.not_healthy")
    case.healthy(status="UNKNOWN").when(Resolve(I, "x")).then_refused("incident.not_healthy")
    case.healthy().when(Resolve(I, "x")).then(
        "incident.contained", "incident.mitigated", ("incident.resolved", {"resolution": "x"})
    )
    case.run(Contain(I)).when(Resolve(I, "x")).then("incident.mitigated", "incident.resolved")
    case.run(Resolve(I, "x")).when(Resolve(I, "y")).then_refused("incident.resolved")


@pytest.mark.parametrize(
    ("causes", "actions", "missing"),
    [
        ([], [ACTION], ["cause"]),
        (["c"], [ACTION, {**ACTION, "owner": ""}], ["action_owner"]),
        ([], [{}], ["cause", "action_what", "action_owner", "action_due", "action_check"]),
    ],
)
def test_closing_wants_a_complete_record(case: Any, causes: Any, actions: Any, missing: list[str]) -> None:
    resolved(case)
    assert missing == case.when(Close(I, causes, actions)).then_refused("incident.record_incomplete").facts


def test_closing_lifts_its_own_freeze_only(case: Any) -> None:
    case.declared().run(declare()).when(Close(I, ["c"], [])).then_refused("incident.not_resolved")
    case.run(channel.FreezeScope("prod", "mine", "FORWARD", ""), Resolve(I, "done"))
    case.when(Close(I, ["c"], [ACTION])).then(
        "incident.review_opened", "incident.closed", ("channel.unfrozen", {"freeze": f"fz-{I}"})
    )
    case.run(channel.Unfreeze("prod", f"fz-{I}"))
    case.when(Close(I, ["c"], [])).then("incident.review_opened", "incident.closed")


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_someone_else_closes_where_policy_asks_for_people(case: Any, kit: Any, policy: str) -> None:
    resolved(case).run(PublishPolicy(kit.shipped(policy).document))
    case.when(Close(I, ["c"], [])).then_refused("R10.commander", exit_code=4, cause="incident.declared")
    case.when(Close(I, ["c"], []), actor=ActorRef("bob")).then(
        "incident.review_opened", "incident.closed", "channel.unfrozen"
    )


def test_declaring_overlapping_drafts_pauses_nothing(case: Any, kit: Any) -> None:
    case.declared().run(release.Create("r", case.packed("p"), [Stage([kit.SLOT], 1, 0)]))
    case.when(declare()).then(("incident.declared", {"releases": []}), "channel.frozen")
