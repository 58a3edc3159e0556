"""Every behaviour of the ring's protocols in small rings, under the C11 memory model; and what each order and step is for.

A mutant weakens one order or leaves out one step, as `ring/core.c` could; each must be caught, for the reason that stands
beside it.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest
from ring_model import broadcast, control, park, several
from ring_model.broadcast import Broadcast
from ring_model.control import End, Owner, Stop
from ring_model.park import Park
from ring_model.ring import CHAIN, DIAMOND, FORK, ONE, Ring
from ring_model.ring import check as check_ring
from ring_model.several import Several
from ring_model.steps import ACQ_REL, RLX, BugError

TWICE = ((), (0,), (0, 1))  # a stage that depends on a chain's both ends

CHECKS: dict[type, Callable[..., object]] = {
    Ring: check_ring,
    Several: several.check,
    Broadcast: broadcast.check,
    Park: park.check,
    Stop: control.check_stop,
    End: control.check_end,
    Owner: control.check_owner,
}


def check(program: object, **options: int) -> object:
    """Walk the program by its own module."""
    return CHECKS[type(program)](program, **options)


def name(program: object) -> str:
    """What differs from the protocol as it is."""
    fields = {key: value for key, value in vars(program).items() if value != getattr(type(program)(), key)}
    return f"{type(program).__name__}({', '.join(f'{key}={value}' for key, value in fields.items())})"


HOLDS = [
    *[Ring(deps, capacity, messages=5) for deps in (ONE, CHAIN) for capacity in (1, 2)],
    *[Ring(deps, capacity, messages=4) for deps in (DIAMOND, FORK, TWICE) for capacity in (1, 2)],
    *[Ring(deps, capacity, snapshot=True) for deps in (ONE, CHAIN, FORK, DIAMOND) for capacity in (1, 2)],
    *[Ring(deps, capacity, marks=True) for deps in (CHAIN, DIAMOND, TWICE) for capacity in (1, 2)],
    *[Ring(FORK, capacity, messages=4, leaver=leaver) for capacity in (1, 2) for leaver in (1, 2)],
    *[Ring(deps, messages=4, uneven=True) for deps in (ONE, CHAIN)],
    Ring(messages=4, beats=4),
    *[Several(capacity=capacity, snapshot=True) for capacity in (1, 2, 4)],
    Several(producers=3, each=1, snapshot=True),
    *[Broadcast(capacity, messages=5) for capacity in (1, 2, 4)],
    Park(),
    Park((1,), sleepers=2),
    Park((1, 1)),
    Park(capacity=1),
    Park((3,), capacity=2),
    Park((2,), passers=1, rung=1),
    Park(stop=True),
    Park(stop=True, sleepers=2),
    Stop(2),
    Stop(3),
    End(),
    End(before=True),  # stages compare the end with where they are
    End(messages=3, stages=3),
    Owner(),
    Owner(3),
    Owner(dies=True),
]


@pytest.mark.parametrize("program", HOLDS, ids=name)
def test_the_protocol_holds_in_every_behaviour(program):
    check(program)


UNREAD = "writes and does not know of every read"
UNWRITTEN = "does not know the last write"

MUTANTS = [
    # publish, consume, gate
    (Ring(publish=RLX), f"race on s1: thread 1 {UNWRITTEN}"),
    (Ring(available=RLX), f"race on s1: thread 1 {UNWRITTEN}"),
    (Ring(gate=RLX), f"race on s1: thread 0 {UNREAD}"),
    (Ring(release=RLX), f"race on s1: thread 0 {UNREAD}"),
    (Ring(CHAIN, release=RLX), f"race on s1: thread 2 {UNWRITTEN}"),
    (Ring(DIAMOND, release=RLX), f"race on s1: thread 3 {UNWRITTEN}"),
    (Ring(CHAIN, marks=True, available=RLX), "race on"),
    (Ring(checks_gate=False), "read message 3 at 1"),
    (Ring(FORK, checks_all=False), f"race on s1: thread 0 {UNREAD}"),
    (Ring(DIAMOND, messages=4, checks_all=False), "race on s"),
    (Ring(publishes_after=False), "race on s"),
    (Ring(releases_after=False), "race on s"),
    (Ring(FORK, messages=4, leaver=1, leave=RLX), f"race on s1: thread 0 {UNREAD}"),
    (Ring(FORK, messages=4, leaver=1, left=RLX), f"race on s1: thread 0 {UNREAD}"),
    # snapshot
    (Ring(CHAIN, snapshot=True, snapshot_order=RLX), "snapshot: stage 0 at 3, beyond the cursor"),
    (Ring(CHAIN, snapshot=True, downstream_first=False), "snapshot: stage 1 at 3, beyond its upstream 0"),
    (Several(snapshot=True, snapshot_order=RLX), "beyond the claim"),
    (Several(snapshot=True, claim=RLX), "further than the ring is long"),
    # latch
    (Ring(beats=3, field_store=RLX), "a tuple of"),
    (Ring(beats=3, field_load=RLX), "a tuple of"),
    (Ring(beats=3, version_store=RLX), "a tuple of"),
    (Ring(beats=3, version_load=RLX), "a tuple of"),
    (Ring(beats=3, reads_again=False), "a tuple of"),
    (Ring(beats=3, copies=1), "a tuple of"),
    # several producers
    (Several(guess=RLX), "takes claim 3 at stage 0 for corrupt"),
    (Several(gate=RLX), f"race on s1: thread 0 {UNREAD}"),
    (Several(release=RLX), f"race on s1: thread 0 {UNREAD}"),
    (Several(stamp=RLX), f"race on s1: thread 2 {UNWRITTEN}"),
    (Several(available=RLX), f"race on s1: thread 2 {UNWRITTEN}"),
    (Several(swaps=False), "unordered stores to claim"),
    (Several(checks_gate=False), "race on s1"),
    (Several(stamps=False), f"race on s1: thread 2 {UNWRITTEN}"),
    # broadcast
    (Broadcast(publish=RLX), "is published and its stamp is"),
    (Broadcast(available=RLX), "is published and its stamp is"),
    (Broadcast(says_so=False), "was read as"),
    (Broadcast(fence=False), "was read as"),
    (Broadcast(reader_fence=False), "was read as"),
    (Broadcast(reads_again=False), "was read as"),
    # parking
    (Park(sleeper_fence=False), "lost wake-up: sleeper 0"),
    (Park(waker_fence=False), "lost wake-up: sleeper 0"),
    (Park(fence=ACQ_REL), "lost wake-up: sleeper 0"),
    (Park(looks_again=False), "lost wake-up: sleeper 0"),
    (Park(says_so=False), "lost wake-up: sleeper 0"),
    (Park(wakes=False), "lost wake-up: sleeper 0"),
    (Park(sleepers=2, change="keep"), "lost wake-up: sleeper"),
    # found in core.c: an exchange with an old value lets the bell go back to what a sleeper expects
    (Park((2,), late=1, passers=1, rung=1, change="exchange"), "lost wake-up: sleeper 0"),
    (Park(capacity=1, looks_again=False), "lost wake-up"),
    (Park(stop=True, checks_stop=False), "lost wake-up: sleeper 0"),
    # stop, end, owners
    (Stop(swaps=False), f"race on code: thread 0 {UNWRITTEN}"),
    (Stop(store=RLX), f"race on code: thread 2 {UNWRITTEN}"),
    (Stop(load=RLX), f"race on code: thread 2 {UNWRITTEN}"),
    (Stop(waits_for_two=False), f"race on code: thread 2 {UNWRITTEN}"),
    (End(compares=False), "stage 1 ended at 0 of 2"),
    (End(before=True, compares=False), "ended at"),
    (Owner(swaps=False), "race on private"),
    (Owner(take=RLX), "race on private"),
    (Owner(give=RLX), "race on private"),
    (Owner(looks=False), "unordered stores to owner"),
]


@pytest.mark.parametrize(("mutant", "reason"), MUTANTS, ids=[name(mutant) for mutant, _ in MUTANTS])
def test_every_weaker_protocol_is_caught(mutant, reason):
    with pytest.raises(BugError) as caught:
        check(mutant)
    assert reason in caught.value.reason
    assert caught.value.trace


STRONGER = [
    Broadcast(messages=5, stamp=RLX),  # the cursor's release carries the words of all that is read
    Broadcast(messages=5, stamp_load=RLX),
    End(store=RLX),  # the end is compared with one's own position, which needs nothing else of the producer
    End(load=RLX),
    Owner(cursor=RLX),  # taking the place acquires what the last owner did
]


@pytest.mark.parametrize("program", STRONGER, ids=name)
def test_orders_that_another_one_covers(program):
    """They may stay as they are; who argues with them in `core.c` should know that they carry nothing alone."""
    check(program)


SOAK = [
    Ring(DIAMOND, capacity=2, messages=4, snapshot=True),
    Ring(DIAMOND, capacity=2, messages=8),
    Ring(DIAMOND, capacity=4, messages=5),
    Ring(((), (0,), (0,), (1, 2)), capacity=2, messages=5),
    Ring(CHAIN, capacity=2, messages=6, uneven=True, snapshot=True),
    Ring(CHAIN, messages=5, beats=4, snapshot=True, marks=True),
    Several(producers=3, each=1, capacity=1, snapshot=True),
    Several(producers=2, each=3, capacity=2, snapshot=True),
    Broadcast(capacity=4, messages=12, words=3),
    Park(sleepers=2),
    Park((1, 1), passers=1, rung=1),
    Park((2,), late=1, passers=1, rung=1),
    Park((4,), capacity=2),
]


@pytest.mark.soak
@pytest.mark.parametrize("program", SOAK, ids=name)
def test_larger_rings(program):
    check(program, limit=5_000_000)
