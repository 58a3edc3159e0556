"""Activation and rollback on what is damaged, and after a run that was cut at any state."""

from __future__ import annotations

import shutil
import threading

import pytest
import shop
from muniment.app import activating
from muniment.app.pack_manifest import MANIFEST
from muniment.app.session import Options
from muniment.domain import channel, release
from muniment.domain.errors import MunimentError

# -- damage --------------------------------------------------------------------------------------------------------


def test_a_damaged_blob_fails_the_fetch_and_leaves_the_link(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        kept = shop.damage(blob := shop.blob_of(s, two))
        result = here.activate(s)
        assert ("FETCH_FAILED", 7) == (result.state, result.exit_code)
        assert one == activating.active(str(here.target()))["pack"] == shop.state(s).active
        assert [] == list((here.target() / "staging").iterdir())
        blob.write_bytes(kept)
        assert here.activate(s).state == "CONFIRMED"


@pytest.mark.parametrize("how", ["missing", "damaged", "manifest"])
def test_a_rollback_goes_on_to_the_next_candidate_in_the_same_decision(here, how):
    with here.open() as s:
        one, two, three = here.three(s)
        shutil.rmtree(here.target() / "packs" / two[7:])
        blob = shop.blob_of(s, two)
        if how == "manifest":
            fact = next(
                r for r in shop.records(s) if r["type"] == "build.compiled/1" and r["data"]["pack"] == two
            )
            shop.damage(s.evidence.path(fact["evidence"][0]["blake3"]))
        elif how == "damaged":
            shop.damage(blob)
        else:
            blob.unlink()
        before = s.log.head().size
        ((outcome, done),) = activating.rollback(s, Options(), shop.EU)
        assert two == outcome.event("rollback.pack_selected/1")["pack"]
        assert (one, "CONFIRMED", 0) == (done.pack, done.state, done.exit_code)
        told = shop.records(s)[before:]
        failed = next(i for i, r in enumerate(told) if r["type"] == "activation.fetch_failed/1")
        assert ["activation.fetch_failed/1", "rollback.step_failed/1", "rollback.pack_selected/1"] == [
            r["type"] for r in told[failed : failed + 3]
        ]
        assert 3 == told[failed]["batch"]["size"], "one decision"
        assert one == activating.active(str(here.target()))["pack"]
        assert three not in (shop.state(s).active, shop.state(s).rollback_pack)


def test_every_candidate_damaged_is_stuck_and_seven(here):
    with here.open() as s:
        one, two = here.two(s)
        shutil.rmtree(here.target() / "packs" / one[7:])
        shop.damage(shop.blob_of(s, one))
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert ("FETCH_FAILED", 7) == (done.state, done.exit_code)
        assert ("STUCK", two) == (shop.state(s).mode, shop.state(s).active)
        assert two == activating.active(str(here.target()))["pack"], "I9"
        assert "incident.declared" in shop.types(s)


def test_a_damaged_installed_pack_is_never_switched_to(here):
    with here.open() as s:
        one, _ = here.two(s)
        shop.damage(here.target() / "packs" / one[7:] / "a.csv")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert ("STAGE_FAILED", 7) == (done.state, done.exit_code), "a failed stage is no success"
        assert one != shop.state(s).active


def test_the_active_pack_damaged_is_seen_and_a_rollback_leaves_it(here):
    with here.open() as s:
        one, two = here.two(s)
        (here.target() / "packs" / two[7:] / MANIFEST).unlink()
        with pytest.raises(MunimentError):
            activating.active(str(here.target()))
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert (one, 0) == (done.pack, done.exit_code)


# -- recovery ------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("upto", shop.STATES)
@pytest.mark.parametrize("lost", ["nothing", "staging", "packs", "folder"])
def test_the_next_run_goes_on_whatever_the_target_lost(ready, upto, lost):
    here, s, pack = ready
    begun = here.left(s, upto)
    if lost == "folder":
        shutil.rmtree(here.target())
    elif lost != "nothing":
        for each in (here.target() / lost).iterdir():
            shutil.rmtree(each)
    result = here.activate(s)
    assert ("CONFIRMED", 0, upto, begun.activation) == (
        result.state,
        result.exit_code,
        result.resumed,
        result.activation,
    )
    assert pack == activating.active(str(here.target()))["pack"] == shop.state(s).active


def test_half_a_copy_left_by_a_kill_is_fetched_again(ready):
    here, s, _pack = ready
    begun = here.left(s, "VERIFIED")
    next((here.target() / "staging" / begun.activation).rglob("a.csv")).unlink()
    assert here.activate(s).state == "CONFIRMED"


def test_a_switch_that_cannot_be_carried_out_is_reverted(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        here.left(s, "SWITCHED")
        shutil.rmtree(here.target() / "packs" / two[7:])
        shop.damage(shop.blob_of(s, two))
        result = here.activate(s)
        assert ("REVERTED", 7) == (result.state, result.exit_code)
        assert one == shop.state(s).active == activating.active(str(here.target()))["pack"]


def test_an_activation_nobody_wants_any_more_is_abandoned_and_the_new_one_done(here):
    with here.open() as s:
        one, two, three = here.good(s, 1), here.pack(s, "b-2", "2"), here.pack(s, "b-3", "3")
        shop.must(s.run(release.Create("r-2", two, [release.Stage([shop.EU], 100_000, 0)])))
        here.promoted(s, "r-3", three)
        here.left(s, "STAGED")
        here.healthy(s, status="DEGRADED")
        shop.must(s.run(channel.SetPin(shop.EU, one, "")))
        refused = here.activate(s)
        assert refused.exit_code == 6, "pinned meanwhile: refused at the switch"
        assert one == activating.active(str(here.target()))["pack"]


def test_a_rollback_over_an_unconfirmed_switch_ends_with_record_and_link_equal(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        here.left(s, "SWITCHED")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert (one, "CONFIRMED", 0) == (done.pack, done.state, done.exit_code)
        assert one == shop.state(s).active == activating.active(str(here.target()))["pack"]
        assert "" == shop.state(s).rollback


def test_two_activations_at_once_end_with_one(ready):
    here, s, pack = ready
    answers = []

    def other():
        with here.open() as mine:
            try:
                answers.append(here.activate(mine).exit_code)
            except MunimentError as error:
                answers.append(error.exit_code)

    threads = [threading.Thread(target=other) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {0, 5, 6, 8}
    result = here.activate(s)
    assert result.exit_code in (0, 6)
    assert pack == shop.state(s).active == activating.active(str(here.target()))["pack"]
    shop.sound(s)
