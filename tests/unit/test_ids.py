"""UUIDv7 and short ids."""

from __future__ import annotations

import threading
import uuid

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.app.actor import Actor
from muniment.app.ids import NAME, Uuid7, short_id, uuid7
from muniment.domain.errors import UsageError

RFC_MILLI = 0x017F22E279B0


def test_rfc_9562_example_field_by_field() -> None:
    """RFC 9562, appendix A.6: 017F22E2-79B0-7CC3-98C4-DC0C0C07398F; counter below half."""
    entropy = (0x4C3 << 69 | 0x18C4DC0C0C07398F).to_bytes(10, "big")
    assert Uuid7(lambda: RFC_MILLI * 1000, lambda _: entropy)() == "017f22e2-79b0-74c3-98c4-dc0c0c07398f"


@given(st.lists(st.integers(0, 2**41), min_size=2, max_size=50), st.randoms(use_true_random=False))
def test_ids_grow_whatever_the_clock_does(times, random) -> None:
    feed = iter([milli * 1000 for milli in times])
    source = Uuid7(lambda: next(feed), random.randbytes)
    made = [source() for _ in times]
    assert sorted(set(made)) == made
    for text in made:
        parsed = uuid.UUID(text)
        assert (parsed.version, parsed.variant, str(parsed)) == (7, uuid.RFC_4122, text)


def test_counter_rollover_stays_monotone() -> None:
    source = Uuid7(lambda: RFC_MILLI * 1000, lambda n: b"\xff" * n)
    made = [source() for _ in range(5000)]
    assert sorted(set(made)) == made
    assert made[-1][:13] > made[0][:13]


def test_threads_share_one_order() -> None:
    made: list[str] = []
    threads = [threading.Thread(target=lambda: made.extend(uuid7() for _ in range(500))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(set(made)) == 2000


def test_short_id() -> None:
    assert short_id("b-", lambda n: bytes(range(n))) == "b-aaaqeayeaudaocaj"[:10]
    assert len({short_id("r-") for _ in range(200)}) == 200
    assert NAME.fullmatch(short_id(""))


@pytest.mark.parametrize("prefix", ["B-", "-", "b/", "b ", "ä", "x" * 57, "b\n"])
def test_prefix_that_makes_no_name(prefix) -> None:
    with pytest.raises(UsageError):
        short_id(prefix)


def test_short_id_is_an_actor_name() -> None:
    assert Actor(short_id("svc-"), "service", "os").id.startswith("svc-")
