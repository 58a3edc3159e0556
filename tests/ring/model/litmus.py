"""Small programs whose outcomes the C11 memory model (RC11) fixes: they judge the machine, not the ring.

Each returns the set of all outcomes; tests compare it with the literature's (Lahav et al., PLDI 2017; Batty et al., POPL
2011).
"""

from __future__ import annotations

from collections.abc import Callable

from ring_model.explore import Actor, Program, Turn, explore
from ring_model.steps import ACQ, REL, RLX, SC, Fence, Load, Op, Order, Read, Rmw, Store, Write

Outcome = tuple[int, ...]


def outcomes(*scripts: list[Op], plain: tuple[str, ...] = (), shared: str = "") -> set[Outcome]:
    """Run straight-line scripts together; an outcome is what all their loads and modifications answered, in order of the scripts.

    Every thread stores its answers under a location of its own, so that the final values are the outcome.
    """
    found: set[Outcome] = set()
    names = {op.at for script in scripts for op in script if isinstance(op, Load | Store | Rmw)}
    places = {
        f"r{k}{n}": 0
        for k, script in enumerate(scripts)
        for n, op in enumerate(script)
        if isinstance(op, Load | Rmw | Read)
    }

    def body(k: int) -> Callable[[object], Turn]:
        def run(_: object) -> Turn:
            for n, op in enumerate(scripts[k]):
                answer = yield op
                if f"r{k}{n}" in places:
                    yield Store(f"r{k}{n}", answer, RLX)
            return None

        return run

    actors = [Actor(f"t{k}", body(k), 0) for k in range(len(scripts))]
    explore(
        Program(
            actors,
            dict.fromkeys(sorted(names), 0) | places,
            dict.fromkeys(plain, 0),
            frozenset(shared),
            end=lambda final: found.add(tuple(final[place] for place in places)),
        )
    )
    return found


def store_buffering(fence: Order | None) -> set[Outcome]:
    """SB: each thread stores its own word and loads the other's."""
    between: list[Op] = [Fence(fence)] if fence else []
    return outcomes(
        [Store("x", 1, REL), *between, Load("y", ACQ)],
        [Store("y", 1, REL), *between, Load("x", ACQ)],
    )


def message_passing(store: Order, load: Order) -> set[Outcome]:
    """MP: data, then a flag; the reader takes the flag, then the data."""
    return outcomes([Store("x", 1, RLX), Store("f", 1, store)], [Load("f", load), Load("x", RLX)])


def message_passing_fences(release: bool, acquire: bool) -> set[Outcome]:
    """MP with relaxed accesses and fences."""
    return outcomes(
        [Store("x", 1, RLX), *([Fence(REL)] if release else []), Store("f", 1, RLX)],
        [Load("f", RLX), *([Fence(ACQ)] if acquire else []), Load("x", RLX)],
    )


def plain_message(store: Order, load: Order) -> set[Outcome]:
    """MP with plain data, read only after the flag; racy if an order is too weak."""
    return outcomes(
        [Write("d", 7), Store("f", 1, store)],
        [Load("f", load, lambda value: value == 1), Read("d")],
        plain=("d",),
    )


def independent_reads(order: Order, fence: Order | None = None) -> set[Outcome]:
    """IRIW: two writers, two readers that look in opposite orders."""
    between: list[Op] = [Fence(fence)] if fence else []
    return outcomes(
        [Store("x", 1, REL)],
        [Store("y", 1, REL)],
        [Load("x", order), *between, Load("y", order)],
        [Load("y", order), *between, Load("x", order)],
    )


def coherence() -> set[Outcome]:
    """CoRR: two loads of one word never go back."""
    return outcomes([Store("x", 1, RLX), Store("x", 2, RLX)], [Load("x", RLX), Load("x", RLX)])


def load_buffering() -> set[Outcome]:
    """LB: each thread loads, then stores the other's word; RC11 forbids 1, 1."""
    return outcomes([Load("x", RLX), Store("y", 1, RLX)], [Load("y", RLX), Store("x", 1, RLX)])


def release_sequence(order: Order) -> set[Outcome]:
    """A relaxed increment between a release and an acquire carries the release on; a plain relaxed store would not."""
    return outcomes(
        [Store("x", 1, RLX), Rmw("f", lambda value: value + 1, REL)],
        [Rmw("f", lambda value: value + 1, order)],
        [Load("f", ACQ, lambda value: value == 2), Load("x", RLX)],
        shared="f",
    )


def increments() -> set[Outcome]:
    """Three increments: none is lost, each answer is given once."""
    add: list[Op] = [Rmw("n", lambda value: value + 1, RLX)]
    return outcomes(add, add, add, shared="n")


def transitive() -> set[Outcome]:
    """ISA2: a release that is acquired and released on by a second thread reaches a third."""
    return outcomes(
        [Store("x", 1, RLX), Store("f", 1, REL)],
        [Load("f", ACQ), Store("g", 1, REL)],
        [Load("g", ACQ), Load("x", RLX)],
    )


def store_buffering_half() -> set[Outcome]:
    """SB with a sc fence on one side only."""
    return outcomes([Store("x", 1, RLX), Fence(SC), Load("y", RLX)], [Store("y", 1, RLX), Load("x", RLX)])
