"""The memory machine against answers that are known: what RC11 allows and forbids, race by race."""

from __future__ import annotations

from itertools import permutations, product

import pytest
from ring_model import litmus
from ring_model.explore import Actor, Program, explore
from ring_model.steps import ACQ, REL, RLX, SC, BugError, Load, Rmw, Store, Wait, Wake

ALL = set(product((0, 1), repeat=2))


@pytest.mark.parametrize(("fence", "forbidden"), [(None, set()), (REL, set()), (ACQ, set()), (SC, {(0, 0)})])
def test_store_buffering_needs_sc_fences(fence, forbidden):
    assert ALL - forbidden == litmus.store_buffering(fence)


def test_one_sc_fence_orders_nothing():
    assert ALL == litmus.store_buffering_half()


@pytest.mark.parametrize(("store", "load"), [*product((RLX, REL), (RLX, ACQ))])
def test_message_passing_needs_both_orders(store, load):
    both = store is REL and load is ACQ
    assert ((1, 0) not in litmus.message_passing(store, load)) == both


@pytest.mark.parametrize(("release", "acquire"), [*product((False, True), repeat=2)])
def test_message_passing_needs_both_fences(release, acquire):
    assert ((1, 0) not in litmus.message_passing_fences(release, acquire)) == (release and acquire)


@pytest.mark.parametrize(("store", "load"), [*product((RLX, REL), (RLX, ACQ))])
def test_plain_data_is_read_after_an_acquired_release_or_it_is_a_race(store, load):
    if store is REL and load is ACQ:
        assert {(1, 7)} == litmus.plain_message(store, load)
    else:
        with pytest.raises(BugError, match="race on d"):
            litmus.plain_message(store, load)


def test_readers_may_disagree_on_two_writers():
    assert (1, 0, 1, 0) in litmus.independent_reads(ACQ)


def test_sc_fences_make_readers_agree():
    assert (1, 0, 1, 0) not in litmus.independent_reads(RLX, SC)


def test_a_word_never_goes_back():
    assert {(a, b) for a in range(3) for b in range(a, 3)} == litmus.coherence()


def test_no_load_reads_what_depends_on_it():
    assert ALL - {(1, 1)} == litmus.load_buffering()


def test_a_modification_carries_a_release_on():
    assert all(x == 1 for first, _, _, x in litmus.release_sequence(RLX) if first == 0)


def test_modifications_are_never_lost():
    assert set(permutations(range(3))) == litmus.increments()


def test_releases_reach_through_a_third_thread():
    assert (1, 1, 0) not in litmus.transitive()


def test_two_writers_without_order_are_reported_and_not_guessed():
    with pytest.raises(BugError, match="unordered stores to x"):
        litmus.outcomes([Store("x", 1, RLX)], [Store("x", 2, RLX)])


def test_modifying_a_word_that_is_not_declared_shared_is_an_error():
    with pytest.raises(ValueError, match="declare it shared"):
        litmus.outcomes([Rmw("x", lambda value: value, RLX)])


def sleeper(*steps):
    def body(_):
        for step in steps:
            _ = yield step

    return body


def test_a_sleeper_that_nobody_wakes_is_found():
    with pytest.raises(BugError, match="lost wake-up: one sleeps"):
        explore(Program([Actor("one", sleeper(Wait("x", 0)), 0)], {"x": 0}))


def test_a_wake_before_the_wait_leaves_the_changed_word_to_be_seen():
    """The kernel's lock: a wait after the wake sees the word as the waker had it, also without any order between the two."""
    explore(
        Program(
            [
                Actor("one", sleeper(Wait("x", 0)), 0),
                Actor("two", sleeper(Rmw("x", lambda _: 1, RLX), Wake("x")), 0),
            ],
            {"x": 0},
            shared=frozenset("x"),
        )
    )


def test_waiting_for_a_value_that_never_comes_is_found():
    with pytest.raises(BugError, match="stuck: one"):
        explore(Program([Actor("one", sleeper(Load("x", RLX, lambda value: value == 1)), 0)], {"x": 0}))


def test_a_walk_that_is_cut_short_is_no_pass():
    loads = [Actor(name, sleeper(*[Load("x", RLX)] * 3), 0) for name in "ab"]
    with pytest.raises(RuntimeError, match="more than 3 states"):
        explore(Program([*loads, Actor("w", sleeper(Store("x", 1, RLX)), 0)], {"x": 0}), limit=3)


def test_an_observer_that_writes_is_an_error():
    observer = Actor("o", sleeper(Store("x", 1, RLX)), 0)
    with pytest.raises(ValueError, match="an observer writes nothing"):
        explore(Program([Actor("a", sleeper(Load("x", RLX)), 0)], {"x": 0}, observers=[observer]))


def test_a_bug_tells_the_steps_that_led_there():
    with pytest.raises(BugError) as caught:
        litmus.plain_message(RLX, ACQ)
    assert any("Load" in step for step in caught.value.trace)
    assert any("Write" in step for step in caught.value.trace)
