"""Rollback through the services: which targets it is about, and what it refuses."""

from __future__ import annotations

import pytest
import shop
from muniment.app import activating
from muniment.app.session import Options
from muniment.domain.errors import ConflictError, NotFoundError, UsageError


@pytest.fixture
def half(here):
    """Three targets good on v2; a and c run the failing v3, b was not reached."""
    with here.open() as s:
        names = ("a", "b", "c")
        one, two = here.good(s, 1, *names), here.good(s, 2, *names)
        three = here.pack(s, "b-3", "3")
        here.promoted(s, "r-3", three)
        for name in ("a", "c"):
            here.activated(s, name)
        here.healthy(s, "a", "DEGRADED")
        yield here, s, (one, two, three)


def runs(s):
    return {name: target.active for name, target in activating.slot_of(s, shop.EU)[1].targets.items()}


def test_a_target_on_a_good_pack_is_not_rolled_back(half):
    _here, s, (_, two, three) = half
    before = s.log.head().size
    answers = activating.rollback(s, shop.key("back"), shop.EU)
    assert [("a", two), ("c", two)] == [(done.target, done.pack) for _, done in answers]
    assert {"a": two, "b": two, "c": two} == runs(s)
    told = shop.records(s)[before:]
    assert all("b" != record["data"].get("target") for record in told)
    left = {r["data"]["pack"] for r in told if r["type"] in ("slot.good_revoked/1", "slot.quarantined/1")}
    assert {three} == left
    before = s.log.head().size
    again = activating.rollback(s, shop.key("back"), shop.EU)
    assert [("a", two), ("c", two)] == [(done.target, done.pack) for _, done in again]
    assert before == s.log.head().size, "told again, and nothing good touched"


@pytest.mark.parametrize("upto", ["selected", "confirmed"])
def test_a_rollback_that_was_cut_goes_on_with_what_still_fails(half, upto):
    here, s, (_, two, _) = half
    command = activating.rollbacks.Request("rb-1", shop.EU, "a", "", "operator")
    shop.must(s.run(command, shop.key("back")))
    if upto == "confirmed":
        here.activated(s, "a")
    answers = activating.rollback(s, shop.key("back"), shop.EU)
    assert ["a", "c"] == [done.target for _, done in answers]
    assert {"a": two, "b": two, "c": two} == runs(s)


def test_nothing_failing_is_refused_and_says_what_runs_where(here):
    with here.open() as s:
        one, two = here.good(s, 1, "a", "b"), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        for _ in range(2):
            ((outcome, done),) = activating.rollback(s, shop.key("k"), shop.EU)
            refusal = shop.refused(outcome, "R5.nothing_failing").refusal
            assert done is None
            assert "--target" in refusal.next
            assert f"a runs {one}, b runs {one}" in refusal.message
        here.healthy(s, "b", "UNHEALTHY")
        names = [
            outcome.event("rollback.no_candidate/1")["target"]
            for outcome, _ in activating.rollback(s, Options(), shop.EU)
        ]
        assert ["a", "b"] == names, "the pack fails on b, so it fails"


def test_a_target_is_as_healthy_as_its_last_report_since_the_switch(here):
    with here.open() as s:
        one = here.good(s, 1)
        here.healthy(s, status="UNHEALTHY")
        here.healthy(s)
        assert ("HEALTHY", one) == (shop.state(s).health.status, shop.state(s).health.pack)
        here.healthy(s, status="DEGRADED")
        assert shop.state(s).health.failed
        here.healthy(s)
        two = here.good(s, 2)
        assert two == shop.state(s).health.pack
        here.healthy(s, status="UNHEALTHY")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert one == done.pack == shop.state(s).active
        assert shop.state(s).health is None, "what was told of it before it came back is no report of now"


def test_a_named_target_is_meant_whatever_it_runs(half):
    _here, s, (one, _two, three) = half
    ((_, done),) = activating.rollback(s, Options(), shop.EU, target="b")
    assert ("b", one) == (done.target, done.pack)
    assert {"a": three, "b": one, "c": three} == runs(s)


def test_a_rollback_of_no_slot_is_not_found(here):
    with here.open() as s:
        before = s.log.head().size
        for options in (Options(), Options(dry_run=True)):
            with pytest.raises(NotFoundError) as caught:
                activating.rollback(s, options, "prod/stable/none")
            assert "R2.no_slot" == caught.value.code
        assert before == s.log.head().size


def test_a_repeated_rollback_key_is_finished_and_then_only_told(here):
    with here.open() as s:
        one, _ = here.two(s)
        options = shop.key("back")
        command = activating.rollbacks.Request("rb-1", shop.EU, "edge-1", "", "operator")
        shop.must(s.run(command, options))  # and the process died here
        ((outcome, done),) = activating.rollback(s, options, shop.EU)
        assert (True, one, 0) == (outcome.repeated, done.pack, done.exit_code)
        before = s.log.head().size
        ((_, again),) = activating.rollback(s, options, shop.EU)
        assert ("CONFIRMED", one, 0, before) == (again.state, again.pack, again.exit_code, s.log.head().size)
        with pytest.raises(ConflictError):
            activating.rollback(s, options, shop.EU, trigger="emergency")


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"trigger": "because"}, UsageError),
        ({"to": "p1"}, UsageError),
        ({"target": "edge-9"}, NotFoundError),
        ({"target": "/nowhere"}, NotFoundError),
    ],
)
def test_a_rollback_that_makes_no_sense(here, call, error):
    with here.open() as s:
        here.two(s)
        before = s.log.head().size
        with pytest.raises(error):
            activating.rollback(s, Options(), shop.EU, **call)
        assert before == s.log.head().size


def test_an_explicit_target_is_never_substituted(here):
    with here.open() as s:
        _, two = here.two(s)
        for bad in (two, "sha256:" + "0" * 64):
            ((outcome, done),) = activating.rollback(s, Options(), shop.EU, to=bad)
            assert (6, None) == (outcome.exit_code, done)
        assert two == activating.active(str(here.target()))["pack"]
