"""A command with an idempotency key, whose connection is cut between commit and answer: the record is there once."""

from __future__ import annotations

import itertools
import uuid

import pytest
from muniment.app import creating
from muniment.app.handlers import Handler
from muniment.app.request import Request
from muniment.app.session import Session
from muniment.domain import channel
from muniment.domain.decision import ActorRef
from muniment.domain.errors import ConflictError, UnavailableError
from muniment.store.postgres_log import PostgresLog
from postgres_proxy import Point
from stores import schema

APPENDS = "UPDATE .*head.* SET"
DECLARE = channel.Declare("prod/stable", ["all"], [])


@pytest.fixture
def url(pg_url, tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    found = schema(pg_url, "log")
    creating.create_store(found, policy="solo")
    return found


@pytest.fixture
def handler(url, pg_proxy):
    """One process, by the proxy; `again()` is the same command in another process."""
    numbers = itertools.count(1)
    logs = []

    def open_one():
        logs.append(PostgresLog.open(schema(pg_proxy.url, "log")))
        return Handler(
            logs[-1],
            now=logs[-1].now,
            new_id=lambda: str(uuid.UUID(int=(7 << 64) + next(numbers), version=4)),
        )

    yield open_one
    for log in logs:
        log.close()


def asked(key):
    return Request(ActorRef("alice"), reason="because", key=key)


def declared(url):
    with Session(url) as session:
        return [
            body
            for _, body in session.log.read()
            if b'"type":"channel.declared/1","v"' in body and b"prod/stable" in body
        ]


@pytest.mark.parametrize("point", list(Point))
def test_a_cut_that_the_store_can_resolve_is_not_noticed(url, handler, pg_proxy, point):
    one = handler()
    cut = pg_proxy.cut(point, APPENDS)
    outcome = one.execute(DECLARE, asked("k-1"))
    cut.wait()  # the answer may overtake the word that it was reached
    assert (outcome.exit_code, len(declared(url))) == (0, 1)
    assert outcome.positions == handler().execute(DECLARE, asked("k-1")).positions


@pytest.mark.parametrize("point", list(Point))
def test_an_answer_that_is_lost_for_good_is_found_by_its_key(url, handler, pg_proxy, point):
    """Another process, so other record ids: the key alone tells."""
    one = handler()
    one.execute(channel.Declare("other/stable", ["all"], []), asked("k-0"))  # it is connected
    pg_proxy.cut(point, APPENDS)
    pg_proxy.accepts = False
    with pytest.raises(UnavailableError) as caught:
        one.execute(DECLARE, asked("k-1"))
    assert (caught.value.code, caught.value.exit_code) == ("store.commit_unknown", 8)
    pg_proxy.accepts = True
    other = handler()
    outcome = other.execute(DECLARE, asked("k-1"))
    assert outcome.exit_code == 0
    if point in (Point.DONE, Point.TOLD):
        assert outcome.repeated, "it was committed"
    assert len(declared(url)) == 1
    assert one.execute(DECLARE, asked("k-1")).positions == outcome.positions
    with pytest.raises(ConflictError):
        other.execute(channel.Declare("prod/canary", ["all"], []), asked("k-1"))
    check_names = [body for _, body in other.log.read()]
    assert len(set(check_names)) == len(check_names)


def test_without_a_key_the_same_command_is_judged_anew(url, handler, pg_proxy):
    one = handler()
    one.execute(channel.Declare("other/stable", ["all"], []), asked("k-0"))  # it is connected
    pg_proxy.cut(Point.DONE, APPENDS)
    pg_proxy.accepts = False
    with pytest.raises(UnavailableError):
        one.execute(DECLARE, asked(""))
    pg_proxy.accepts = True
    assert handler().execute(DECLARE, asked("")).exit_code != 0, "the channel is declared already"
    assert len(declared(url)) == 1
