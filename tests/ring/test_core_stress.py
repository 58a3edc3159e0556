"""Threads on one ring in C: order, loss and doubling proved by sequences and counts, a snapshot and a beat reader beside them
all the time.

ThreadSanitizer sees an order that is too weak also where this processor does not show it; each sanitizer is shown to catch a
planted fault.
"""

from __future__ import annotations

import pytest
from core_programs import Programs

TOPOLOGIES = ("one", "chain", "diamond", "fork", "leave", "multi", "multichain", "broadcast")
WAITS = ("paced", "backoff", "park")
CAPACITIES = (1, 2, 8, 1024)

# Messages by capacity: each hand-over of a full ring is a switch of threads where they outnumber the cores.
MESSAGES = {
    "plain": {1: 1000, 2: 2000, 8: 5000, 1024: 200_000},
    "thread": {1: 300, 2: 500, 8: 1500, 1024: 30_000},
    "memory": {1: 300, 2: 500, 8: 1500, 1024: 50_000},
}
PLACES = {
    "one": 1,
    "chain": 3,
    "diamond": 3,
    "fork": 2,
    "leave": 2,
    "multi": 1,
    "multichain": 3,
    "broadcast": 2,
}


@pytest.mark.parametrize("topology", TOPOLOGIES)
@pytest.mark.parametrize("kind", MESSAGES)
def test_nothing_is_lost_doubled_or_out_of_order(core_programs: Programs, kind: str, topology: str):
    program = core_programs.build("stress", kind)
    for number, capacity in enumerate(CAPACITIES):
        wait = WAITS[(number + TOPOLOGIES.index(topology)) % len(WAITS)]
        messages = MESSAGES[kind][capacity]
        said = core_programs.passes(program, topology, wait, str(capacity), str(messages), str(number))
        taken, lost = int(said.split()[1]), int(said.split()[3])
        if topology == "leave":
            assert messages < taken < 2 * messages
        else:
            assert taken + lost == messages * PLACES[topology]
            assert lost == 0 or topology == "broadcast"


@pytest.mark.parametrize("kind", MESSAGES)
def test_spinning(core_programs: Programs, kind: str):
    core_programs.passes(core_programs.build("stress", kind), "one", "spin", "64", "3000", "2")


@pytest.mark.parametrize("wait", [*WAITS, "spin"])
@pytest.mark.parametrize("topology", ["one", "chain", "diamond", "multi", "multichain"])
def test_a_stop_in_the_middle_reaches_everybody(core_programs: Programs, topology: str, wait: str):
    core_programs.passes(core_programs.build("stress", "thread"), topology, wait, "8", "2000", "3", "stop")


WEAK = [
    ("PUBLISH", "one", 8),
    ("PUBLISH", "diamond", 1024),
    ("AVAILABLE", "one", 8),
    ("AVAILABLE", "chain", 8),
    ("GATE", "one", 2),
    ("GATE", "multi", 2),
    ("RELEASE", "one", 2),
    ("RELEASE", "chain", 8),
    ("STAMP", "multi", 8),
    ("AVAILABLE", "multi", 8),
]


@pytest.mark.parametrize(("order", "topology", "capacity"), WEAK)
def test_thread_sanitizer_catches_a_weak_order(
    core_programs: Programs, order: str, topology: str, capacity: int
):
    """`RC_ORDER_SNAPSHOT` touches no plain memory, so that only the model can see it weakened."""
    program = core_programs.build("stress", "thread", f"-DRC_ORDER_{order}=memory_order_relaxed")
    done = core_programs.run(program, topology, "backoff", str(capacity), "3000", "2")
    assert done.returncode == 66, (done.returncode, done.stdout, done.stderr[-3000:])
    assert "data race" in done.stderr


@pytest.mark.parametrize(
    ("plant", "code", "words"),
    [("OVERREAD", 67, "heap-buffer-overflow"), ("SHIFT", 68, "shift")],
)
def test_address_and_undefined_sanitizers_catch_what_is_planted(
    core_programs: Programs, plant: str, code: int, words: str
):
    done = core_programs.run(
        core_programs.build("stress", "memory", f"-DRC_PLANT_{plant}"), "one", "backoff", "8", "200", "2"
    )
    assert done.returncode == code, (done.returncode, done.stdout, done.stderr[-3000:])
    assert words in done.stderr


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize("kind", MESSAGES)
def test_long(core_programs: Programs, kind: str, seed: int):
    program = core_programs.build("stress", kind)
    for topology in TOPOLOGIES:
        for wait in WAITS:
            for capacity in CAPACITIES:
                core_programs.passes(
                    program, topology, wait, str(capacity), str(8 * MESSAGES[kind][capacity]), str(seed)
                )
