"""Records of another log are taken over byte for byte, all or none, and only where they are said to go."""

from __future__ import annotations

import pytest
from muniment.domain.errors import InvalidError, WrongError
from muniment.store.api import AppendConflict


@pytest.fixture
def bodies(draft):
    return [draft(n).leaf("2026-01-01T00:00:00.00000" + f"{n}Z") for n in range(1, 7)]


def test_bytes_positions_leaves_root_and_instant_are_kept(make, draft, bodies):
    one, two = make(), make()
    one.append([draft(n) for n in range(40)])
    for page in one.pages(size=7):
        two.adopt([body for _, body in page], after=page[0][0] - 1)
    assert list(one.read()) == list(two.read())
    assert list(one.leaves()) == list(two.leaves())
    assert one.head() == two.head()
    assert one.types() == two.types()


def test_only_where_they_are_said_to_go(log, bodies):
    assert log.adopt(bodies[:2], after=0) == 2
    for after in (0, 1, 3):
        with pytest.raises(AppendConflict) as caught:
            log.adopt(bodies[2:], after=after)
        assert caught.value.code == "store.size"
        assert log.head().size == 2
    assert log.adopt(bodies[2:], after=2) == 6
    assert [body for _, body in log.read()] == bodies


def test_what_no_log_holds_is_refused_and_nothing_of_its_batch_is_kept(log, bodies):
    log.adopt(bodies[:1])
    for bad, kind in ((b"{}", WrongError), (b"no json", WrongError), (b'"' + b"x" * 70_000, InvalidError)):
        with pytest.raises(kind):
            log.adopt([bodies[1], bad], after=1)
        assert log.head().size == 1
    assert log.adopt(bodies[1:], after=1) == 6


def test_an_opaque_log_is_told_the_instant_of_its_last_record(make, event):
    log = make("opaque")
    bodies = [event(n).head for n in range(4)]
    log.adopt(bodies[:2], after=0)
    assert log.head().recorded_at == ""
    log.adopt(bodies[2:], recorded_at="2026-01-01T00:00:00.000001Z", after=2)
    assert log.head()[::2] == (4, "2026-01-01T00:00:00.000001Z")
    with pytest.raises(AppendConflict):  # events have no ids that would tell
        log.adopt(bodies[2:], after=2)
