"""Sleeping until a sequence moves, and being woken: `take_bell`, `sleep_on`, `ring_bell`, in full, without a time limit.

Wakers move one sequence whose bell several sleepers may sleep on; with gating the (single) waker sleeps on the sleeper's bell
too. Several wakers of one bell are several producers, or a producer and who stops the ring.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from ring_model.explore import Actor, Count, Program, Turn, explore
from ring_model.steps import ACQ, REL, RLX, SC, Fence, Load, Order, Rmw, Store, Wait, Wake, cas


@dataclass(frozen=True)
class Park:
    """The protocol; a mutant is another value."""

    wakers: tuple[int, ...] = (2,)  # messages of each
    sleepers: int = 1
    capacity: int = 0  # > 0: the (single) waker waits for the (single) sleeper too
    passers: int = 0  # sleepers whose time ran out: they set the bit, and leave
    rung: int = 0  # the bell at the start
    late: int = 0  # wakers that read the bell before everybody else, and go on from there
    stop: bool = False  # one more thread stops everybody, and nothing is published
    sleeper_fence: bool = True
    waker_fence: bool = True
    fence: Order = SC
    looks_again: bool = True
    says_so: bool = True  # sets the bit
    wakes: bool = True
    change: str = (
        "swap"  # swap: compare-and-swap; exchange: whatever is there now; keep: the bit goes, the count stays
    )
    checks_stop: bool = True

    @property
    def messages(self) -> int:
        """Of all wakers."""
        return sum(self.wakers)


def ring_bell(park: Park, bell: str) -> Turn:
    """After a store that moved what the bell stands for."""
    if park.waker_fence:
        yield Fence(park.fence)
    value = yield Load(bell, RLX)
    if value & 1:
        yield from strike(park, bell, value)
    return None


def strike(park: Park, bell: str, value: int) -> Turn:
    """Clear the bit that was seen in `value`, and wake."""
    after = value & ~1 if park.change == "keep" else (value + 2) & ~1
    yield Rmw(bell, lambda _: after, RLX) if park.change == "exchange" else cas(bell, value, after, RLX)
    if park.wakes:
        yield Wake(bell)
    return None


def sleep(park: Park, bell: str, short: Callable[[], Turn]) -> Turn:
    """Set the bit, look again, sleep; any return is looked at again by the caller."""
    value = (yield Rmw(bell, lambda found: found | 1, RLX)) | 1 if park.says_so else (yield Load(bell, RLX))
    if park.sleeper_fence:
        yield Fence(park.fence)
    if not park.looks_again or (yield from short()):
        yield Wait(bell, value)
    return None


def short_of(name: str, least: int, park: Park) -> Callable[[], Turn]:
    """Is this still below `least`? Stopped is not short."""

    def look() -> Turn:
        if park.stop and park.checks_stop and (yield Load("stop", RLX)):
            return False
        return (yield Load(name, ACQ)) < least

    return look


def waker(park: Park, k: int) -> Callable[[int], Turn]:
    """Local state: published so far."""

    def body(at: int) -> Turn:
        if at == park.wakers[k] or park.stop:
            return None
        if park.capacity:
            short = short_of("taken", at + 1 - park.capacity, park)
            if (yield from short()):
                yield from sleep(park, "bell1", short)
                return at
        if len(park.wakers) == 1:
            yield Store("seq", at + 1, REL)
        else:
            yield Rmw("seq", lambda found: found + 1, REL)
        yield from ring_bell(park, "bell0")
        return at + 1

    return body


def sleeper(park: Park) -> Callable[[int], Turn]:
    """Local state: taken so far. It sleeps until there is one more, and takes what is there."""

    def body(at: int) -> Turn:
        if at == park.messages:
            return None
        short = short_of("seq", at + 1, park)
        if (yield from short()):
            yield from sleep(park, "bell0", short)
            return at
        if park.stop:
            return None
        if park.capacity:
            yield Store("taken", at + 1, REL)
            yield from ring_bell(park, "bell1")
            return at + 1
        return (yield Load("seq", ACQ))

    return body


def late(park: Park) -> Callable[[int], Turn]:
    """What it published was there at the start."""

    def body(_: int) -> Turn:
        yield from strike(park, "bell0", park.rung)
        return None

    return body


def passer(_: int) -> Turn:
    """Sets the bit and gives up."""
    yield Rmw("bell0", lambda found: found | 1, RLX)
    return None


def stopper(park: Park) -> Callable[[int], Turn]:
    """`rc_stop`: the word, then every bell."""

    def body(_: int) -> Turn:
        yield Store("stop", 2, REL)
        yield from ring_bell(park, "bell0")
        return None

    return body


def check(park: Park, limit: int = 400_000) -> Count:
    """Walk every behaviour; a sleeper that is never woken is the bug."""
    actors = [Actor(f"waker {k}", waker(park, k), 0) for k in range(len(park.wakers))]
    actors += [Actor(f"sleeper {k}", sleeper(park), 0) for k in range(park.sleepers)]
    actors += [Actor(f"passer {k}", passer, 0) for k in range(park.passers)]
    actors += [Actor(f"late waker {k}", late(park), 0) for k in range(park.late)]
    if park.stop:
        actors.append(Actor("stopper", stopper(park), 0))
    shared = {"bell0", "bell1"} if len(park.wakers) == 1 else {"bell0", "bell1", "seq"}
    atomics = {"bell0": park.rung, "bell1": 0, "stop": 0, "seq": 0, "taken": 0}
    return explore(Program(actors, atomics, shared=frozenset(shared)), limit)
