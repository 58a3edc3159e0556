"""Which decisions read reports of health (decision 0015); that they need no others is I11 and I30 of `test_rules`."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import incident, release, rollback, slot
from muniment.domain.slot_state import HEALTH
from muniment.domain.states import Stage


def read(lab: Any, command: Any) -> tuple[Any, list[list[str]]]:
    """What a command comes to, and the tags of the items of its recorded query that select reports."""
    outcome = lab.ask(command)
    query = lab.records()[outcome.positions[0] - 1]["basis"]["query"]
    return outcome, [item["tags"] for item in query if HEALTH in item["types"]]


@pytest.fixture
def shop(make_lab: Any, kit: Any) -> Any:
    """A pack on two targets of a slot, switched and confirmed, not yet good; its release waits for the gate."""
    lab = make_lab().set_up()
    lab.where, lab.pack = kit.SLOTS[1], kit.PACKS[0]
    for command in (
        release.Create("r-0", lab.pack, [Stage([lab.where], 100_000, 0)]),
        release.Start("r-0"),
        release.Promote("r-0", ""),
    ):
        outcome, reports = read(lab, command)
        assert outcome.refusal is None
        assert reports == [], "what was not exposed is not judged"
    for target in ("t1", "t2"):
        for _ in range(6):
            outcome, reports = read(lab, lab.step(lab.where, target))
            assert outcome.refusal is None
            assert reports == []
    return lab


def of(lab: Any, target: str) -> list[str]:
    return [f"pack:{lab.pack}", f"slot:{lab.where}", f"target:{target}"]


def healthy(lab: Any, target: str) -> tuple[Any, list[list[str]]]:
    return read(lab, slot.Report(lab.where, target, "HEALTHY", []))


def test_a_report_counts_those_of_its_target_until_the_pack_is_good(shop: Any) -> None:
    outcome, reports = healthy(shop, "t1")
    assert outcome.event("slot.good_attested/1")
    assert reports == [of(shop, "t1")]
    outcome, reports = healthy(shop, "t1")
    assert [event.type for event in outcome.events] == [HEALTH]
    assert reports == [], "it is good already"
    outcome, reports = healthy(shop, "t2")
    assert outcome.event("slot.good_attested/1")
    assert reports == [of(shop, "t2")]


def test_a_report_that_is_not_healthy_counts_nothing_and_revokes(shop: Any) -> None:
    healthy(shop, "t1")
    outcome, reports = read(shop, slot.Report(shop.where, "t1", "UNHEALTHY", []))
    assert outcome.event("slot.good_revoked/1")
    assert reports == []
    _, reports = healthy(shop, "t1")
    assert reports == [of(shop, "t1")], "it may become good again"


def test_an_attestation_that_is_asked_for_says_what_is_missing_from_the_reports(shop: Any) -> None:
    _, reports = read(shop, slot.Report(shop.where, "t1", "UNHEALTHY", []))
    assert reports == [], "it makes nothing good"
    outcome, reports = read(shop, slot.Attest(shop.where, "t1"))
    assert "last_report_failed" in outcome.refusal.facts
    assert outcome.refusal.cause.position == len(shop.facts()) - 1
    assert reports == [of(shop, "t1")]


def test_the_gate_reads_the_targets_of_its_stage(shop: Any) -> None:
    outcome, reports = read(shop, release.Complete("r-0"))
    assert outcome.refusal.rule == "R11.inconclusive"
    assert reports == [of(shop, "t1"), of(shop, "t2")]
    healthy(shop, "t1")
    healthy(shop, "t2")
    read(shop, slot.Report(shop.where, "t2", "UNHEALTHY", []))
    shop.now += 60_000_000
    outcome, _ = read(shop, release.Complete("r-0"))
    assert outcome.refusal.rule == "R11.fail"
    for command in (release.Pause("r-0"), release.Resume("r-0"), release.Abort("r-0")):
        outcome, reports = read(shop, command)
        assert outcome.refusal is None
        assert reports == []


def test_a_release_of_what_runs_already_is_not_judged_before_it_is_exposed(shop: Any) -> None:
    for target in ("t1", "t2"):
        healthy(shop, target)
    shop.now += 60_000_000
    stages = [Stage([shop.where], 100_000, 0)]
    for command in (release.Complete("r-0"), release.Create("r-1", shop.pack, stages), release.Start("r-1")):
        assert read(shop, command)[0].refusal is None
    outcome, reports = read(shop, release.Promote("r-1", ""))
    assert outcome.event("release.exposed/1")
    assert reports == []


def test_an_incident_is_resolved_by_reports_only(shop: Any) -> None:
    for command in (
        incident.Declare("SEV2", shop.where, "x", ""),
        incident.Contain("i-1"),
    ):
        outcome, reports = read(shop, command)
        assert outcome.refusal is None
        assert reports == []
    outcome, reports = read(shop, incident.Resolve("i-1", "done"))
    assert len([fact for fact in outcome.refusal.facts if fact.startswith("no_healthy_report")]) == 2
    assert reports == [of(shop, "t1"), of(shop, "t2")]
    healthy(shop, "t1")
    healthy(shop, "t2")
    outcome, _ = read(shop, incident.Resolve("i-1", "done"))
    assert outcome.refusal is None


def test_a_rollback_reads_none_and_is_not_decided_anew_for_one(shop: Any) -> None:
    append, asked = shop.log.append, []

    def meanwhile(*args: Any, **how: Any) -> Any:
        asked.append(1)
        if len(asked) == 1:
            healthy(shop, "t2")  # t2 is good from here on: a slot's attestation makes it decide anew
        if len(asked) == 3:
            healthy(shop, "t2")
        return append(*args, **how)

    shop.log.append = meanwhile
    outcome, reports = read(shop, rollback.Request("rb-1", shop.where, "t1", "", "operator"))
    assert outcome.events
    assert reports == []
    assert len(asked) == 4, "rollback, report, rollback again, report; then the condition holds"
