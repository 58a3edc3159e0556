"""I12: records of unrelated tags may stand in any order, and no core digest tells (the timeline is exempt; settled.md, 19)."""

from __future__ import annotations

import json
import re
from random import Random
from typing import Any

import pytest
import story
from hypothesis import given, settings
from hypothesis import strategies as st
from muniment.domain.canonical import encode
from muniment.projections import digest
from muniment.projections.fold import Stopped
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, BY_NAME, DRIVER
from muniment.store.memory import MemoryLog


def _told() -> list[bytes]:
    """Two stories of different names, one after the other."""
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    story.Story(log, clock).whole()
    bodies = [body for _, body in log.read()]
    return bodies + [_renamed(body) for body in bodies[3:]]


def _renamed(body: bytes) -> bytes:
    """The same record of another build, pack, release, environment …; no name is shared."""
    text = body.decode()
    teller = story.Story(MemoryLog(), story.Clock())
    for name in ("b-1", "b-2"):
        digits = teller.pack_id(name)[7:]
        text = text.replace(digits, digits[::-1])
    for old, new in (
        ("prod/", "test/"),
        ('"prod"', '"test"'),
        ('scope:prod"', 'scope:test"'),
        ('"t1"', '"t9"'),
        ("target:t1", "target:t9"),
        ('"app"', '"lib"'),
    ):
        text = text.replace(old, new)
    text = text.replace("product:app", "product:lib")
    # Whole names only: the random ids of records hold "a-1" and "b-2" too, at places that change with each run.
    return _NAMES.sub(r"\g<0>9", text).encode()


_NAMES = re.compile(r"(?<![0-9A-Za-z])(?:b-[12]|r-[12]|in-[12]|i-1|rb-1|a-[123])(?![0-9])")


BODIES = _told()
TAGS = [frozenset(json.loads(body)["tags"]) for body in BODIES]


def _core(bodies: list[bytes]) -> dict[str, str]:
    model = ReadModel()
    DRIVER.page(model, list(enumerate(bodies, 1)), 0)
    return {p.name: digest.core(p, model) for p in ALL if not p.exempt}


EXPECTED = _core(BODIES)


@settings(max_examples=60, deadline=None)
@given(st.lists(st.tuples(st.integers(0, len(BODIES) - 2), st.integers(1, 80)), min_size=1, max_size=120))
def test_permuting_unrelated_records_changes_no_core_digest(moves: list[tuple[int, int]]) -> None:
    """Move records forward past those they share no tag with."""
    order = list(range(len(BODIES)))
    for start, steps in moves:
        at = start
        for _ in range(steps):
            if at + 1 >= len(order) or TAGS[order[at]] & TAGS[order[at + 1]]:
                break
            order[at], order[at + 1] = order[at + 1], order[at]
            at += 1
    assert _core([BODIES[index] for index in order]) == EXPECTED


@settings(max_examples=60, deadline=None)
@given(st.randoms(use_true_random=False))
def test_any_order_that_keeps_related_records_in_order_is_as_good(random: Random) -> None:
    """A whole new order, where the moves above go only some way."""
    waits = [sum(1 for before in TAGS[:at] if before & TAGS[at]) for at in range(len(BODIES))]
    ready = [at for at, count in enumerate(waits) if not count]
    order = []
    while ready:
        at = ready.pop(random.randrange(len(ready)))
        order.append(at)
        for later in range(at + 1, len(BODIES)):
            if TAGS[at] & TAGS[later]:
                waits[later] -= 1
                if not waits[later]:
                    ready.append(later)
    assert sorted(order) == list(range(len(BODIES)))
    assert _core([BODIES[index] for index in order]) == EXPECTED


@settings(max_examples=40, deadline=None)
@given(st.integers(0, 10**6), st.text("abc", min_size=1, max_size=5))
def test_clocks_and_hosts_are_in_no_core_digest(shift: int, place: str) -> None:
    def moved(body: bytes) -> bytes:
        record: dict[str, Any] = json.loads(body)
        for field in ("occurred_at", "recorded_at"):
            record[field] = f"2027-01-01T00:00:00.{shift:06d}Z"
        if "location" in record["data"]:
            record["data"]["location"] = f"/{place}"
        return encode(record)

    assert _core([moved(body) for body in BODIES]) == EXPECTED


LASTING = (
    "build.compiled/1",
    "incident.declared/1",
    "intake.recorded/1",
    "pack.blocked/1",
    "release.completed/1",
    "slot.good_attested/1",
    "slot.quarantined/1",
)


@pytest.mark.parametrize("index", [i for i, body in enumerate(BODIES) if json.loads(body)["type"] in LASTING])
def test_a_lost_record_shows(index: int) -> None:
    """The core digest is no constant: leaving out a record whose effect nothing undoes shows, or stops the fold."""
    try:
        found = _core(BODIES[:index] + BODIES[index + 1 :])
    except Stopped:
        return
    assert found != EXPECTED


def test_the_timeline_is_exempt_and_nothing_else() -> None:
    assert {p.name for p in ALL if p.exempt} == {"timeline"}
    assert BY_NAME["timeline"].exempt
