"""Connections that are cut at every point of an append or a commit: once, or in doubt and said so."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import pytest
from muniment.domain.errors import UnavailableError
from muniment.domain.query import Item
from muniment.store.api import Condition, Draft
from postgres_programs import wait
from postgres_proxy import Point
from stores import PATIENCE_S, check_whole, draft

A = Item(tags=("a",))
APPENDS = "UPDATE .*head.* SET"  # the one statement of an append, and the first of one in several


@pytest.mark.parametrize("records", [1, 5])
@pytest.mark.parametrize("point", list(Point))
def test_a_cut_at_any_point_of_an_append_appends_once(direct, through, pg_proxy, point, records):
    cut = pg_proxy.cut(point, APPENDS)
    drafts = [draft(n) for n in range(records)]
    answer = through.append(drafts)
    cut.wait()  # the answer may overtake the word that it was reached
    assert (answer.first, answer.last) == (2, 1 + records)
    assert (*answer[:3], True) == through.append(drafts)
    assert ["first", *map(str, range(records))] == check_whole(direct)


@pytest.mark.parametrize("point", list(Point))
def test_a_cut_at_any_point_of_a_commit_appends_once(direct, through, pg_proxy, point):
    """Where somebody else wrote in between, the append takes the lock first and commits at the end."""
    direct.append([draft("theirs")])
    cut = pg_proxy.cut(point, "^COMMIT")
    assert through.append([draft(1)]).first == 3
    cut.wait()  # the answer may overtake the word that it was reached
    assert ["first", "theirs", "1"] == check_whole(direct)


@pytest.mark.parametrize("point", list(Point))
def test_a_cut_of_an_append_that_is_not_let_back_in_is_in_doubt(direct, through, pg_proxy, point):
    pg_proxy.cut(point, APPENDS)
    pg_proxy.accepts = False
    with pytest.raises(UnavailableError) as caught:
        through.append([draft(1)])
    assert (caught.value.code, caught.value.exit_code) == ("store.commit_unknown", 8)
    assert "--key" in caught.value.hint
    pg_proxy.accepts = True
    assert through.append([draft(1)]).first == 2
    assert ["first", "1"] == check_whole(direct)


def test_an_idle_connection_that_was_cut_is_replaced(direct, through, pg_proxy):
    for n in range(3):
        pg_proxy.cut_all()
        assert list(range(1, n + 2)) == [position for position, _ in through.read()]
        pg_proxy.cut_all()
        assert through.append([draft(n)]).first == n + 2
    check_whole(direct)


def test_an_event_without_an_id_is_not_tried_again(pg_url, pg_proxy, stores):
    """Nothing could tell whether it is there: the caller is told so."""
    event = Draft(None, "event", (), b'{"type":"event","tags":[]}', None)
    x, type_ = draft("x"), b"store.created/1"
    created = x._replace(type=type_.decode(), tail=x.tail.replace(b"thing.happened/1", type_))
    store = stores(pg_url)
    whole = store.create("opaque")
    whole.append([created])
    log = stores(pg_proxy.url).open()
    log.append([event])
    pg_proxy.cut(Point.DONE, APPENDS)
    with pytest.raises(UnavailableError) as caught:
        log.append([event])
    assert caught.value.code == "store.commit_unknown"
    assert whole.head().size == 3


@pytest.mark.parametrize("seed", range(10))
def test_cuts_at_random_under_threads(direct, pg_proxy, stores, seed):
    """Whoever is told that the server is gone tries again with the same id; each record is there once."""
    rng, log = random.Random(seed), stores(pg_proxy.url).open()
    for _ in range(6):
        pg_proxy.cut(rng.choice(list(Point)), "UPDATE|COMMIT|BEGIN|FOR UPDATE|NOTIFY", skip=rng.randrange(40))

    def write(k):
        for n in range(12):
            while True:
                try:
                    log.append([draft(f"{k}.{n}")])
                    break
                except UnavailableError:
                    pass

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(write, range(4)))
    assert sorted(f"{k}.{n}" for k in range(4) for n in range(12)) == sorted(check_whole(direct))


class Clock:
    now = 1_750_000_000_000_000

    def __call__(self):
        return self.now


def test_a_decision_that_got_too_old_in_doubt_stays_in_doubt(direct, pg_proxy, stores):
    """The statement is on its way when its connection is lost, and arrives after the second try was refused for its age:
    had that been told as "nothing was written", a record would come out of nowhere."""
    clock = Clock()
    log = stores(pg_proxy.url).open(clock=clock)
    log.append([draft("first")])
    held = pg_proxy.hold(Point.BEFORE, APPENDS)
    errors = []

    def append():
        try:
            log.append([draft("late")], Condition((A,), 1), decided_at=clock.now)
        except Exception as error:
            errors.append(error)

    thread = threading.Thread(target=append)
    thread.start()
    held.wait()
    clock.now += 6_000_000
    pg_proxy._links[-1].client.shutdown(2)  # the client's side alone
    thread.join(PATIENCE_S)
    assert [error.code for error in errors] == ["store.commit_unknown"]
    held.release()
    wait(lambda: direct.head().size == 2, "what was on its way", PATIENCE_S)
    assert log.append([draft("late")], Condition((A,), 1), decided_at=clock.now).duplicate
