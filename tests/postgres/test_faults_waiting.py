"""A server that stalls, locks that others hold, sessions and statements that are ended: bounded, nothing lost."""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from muniment.domain.errors import UnavailableError
from muniment.domain.query import Item
from muniment.store import postgres_write
from muniment.store.postgres_pool import Connection, connect
from muniment.store.postgres_url import parse
from postgres_programs import wait
from postgres_proxy import Point
from stores import PATIENCE_S, bounded, check_whole, draft

WRITER = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^(WITH h|NOTIFY|COMMIT)'"
    " AND pid <> pg_backend_pid()"
)


# -- stalls and locks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BEFORE, Point.DONE])
def test_a_server_that_stalls_in_an_append_is_not_waited_for_without_an_end(
    direct, through, pg_proxy, point, monkeypatch
):
    monkeypatch.setattr(Connection, "answer_s", 1.0)
    held = pg_proxy.hold(point, "UPDATE|FOR UPDATE", times=2)
    with pytest.raises(UnavailableError) as caught:
        bounded(lambda: through.append([draft(1)]))
    assert caught.value.code == "store.commit_unknown"
    held.release(cut=True)
    monkeypatch.setattr(Connection, "answer_s", 30.0)
    assert through.append([draft(1)]).first == 2
    check_whole(direct)


def test_a_server_that_stalls_in_a_read_is_not_waited_for_without_an_end(
    direct, through, pg_proxy, monkeypatch
):
    monkeypatch.setattr(Connection, "answer_s", 0.3)
    held = pg_proxy.hold(Point.DONE, "SELECT .* FROM .*(head|records)", times=math.inf)
    for read in (through.head, lambda: list(through.read()), lambda: through.positions_of([draft(1).id])):
        with pytest.raises(UnavailableError) as caught:
            bounded(read)
        assert caught.value.exit_code == 8
    held.release(cut=True)


def test_a_slow_answer_that_comes_is_waited_for(direct, through, pg_proxy, monkeypatch):
    """Bytes that come begin the wait anew: a large answer over a slow line is no stall."""
    monkeypatch.setattr(Connection, "answer_s", 4.0)
    for n in range(3):
        pg_proxy.delay(Point.DONE, "FROM .*records", 1.5, skip=n)
    assert bounded(lambda: [name for _, name in through.read()]) == [body for _, body in direct.read()]


def test_a_lock_held_elsewhere_is_waited_for_with_an_end_and_readers_do_not_wait(
    direct, stores, pg_url, admin, monkeypatch
):
    monkeypatch.setattr(postgres_write, "LOCK_S", 0.3)
    direct.append([draft("first", ["a"])])
    log = stores(pg_url).open()
    with admin.transaction():
        admin.execute("SELECT 1 FROM log.head FOR UPDATE")
        with pytest.raises(UnavailableError) as caught:
            bounded(lambda: log.append([draft(1)]))
        assert (caught.value.code, caught.value.exit_code) == ("store.locked", 8)
        reads = (
            log.head,
            lambda: list(log.read((Item(tags=("a",)),))),
            lambda: log.positions_of([draft("first").id]),
            log.types,
        )
        for read in reads:  # each answers while the lock is held
            assert bounded(read)
        assert next(log.subscribe())[0] == 1
        (waits,) = admin.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
        assert waits == 0
    assert log.append([draft(1)]).first == 2


def test_a_writer_that_hangs_with_the_lock_is_ended_by_the_server(direct, stores, pg_url, admin):
    """A process stopped in the middle of an append: the server ends its session, others go on, and it finds out."""
    direct.append([draft("first")])
    with connect(parse(stores(pg_url).where)) as held:
        (said,) = held.execute("SHOW idle_in_transaction_session_timeout").fetchone()
        assert said == "30s"
        held.execute("SET idle_in_transaction_session_timeout = '100ms'")
        held.execute("BEGIN")
        held.execute("SELECT 1 FROM log.head FOR UPDATE")
        assert bounded(lambda: direct.append([draft(1)])).first == 2
        with pytest.raises(psycopg.Error):
            held.execute("COMMIT")


# -- backends that are ended, statements that are cancelled ----------------------------------------------------------


def test_an_ended_backend_is_replaced_at_idle(direct, admin):
    for n in range(3):
        assert direct.append([draft(n)]).first == n + 1
        admin.execute(f"SELECT pg_terminate_backend(pid) FROM ({WRITER}) AS writer")
    check_whole(direct)


@pytest.mark.parametrize("how", ["pg_terminate_backend", "pg_cancel_backend"])
def test_a_backend_ended_in_the_middle_of_an_append(direct, stores, pg_url, admin, how):
    direct.append([draft("first")])
    blocked = (
        "SELECT pid FROM pg_stat_activity WHERE wait_event_type = 'Lock' AND datname = current_database()"
    )
    with psycopg.connect(pg_url) as other, ThreadPoolExecutor(1) as pool:
        other.execute("SELECT 1 FROM log.head FOR UPDATE")
        appended = pool.submit(direct.append, [draft(1)])
        wait(lambda: admin.execute(blocked).fetchone() is not None, "the append waits for the lock")
        admin.execute(f"SELECT {how}(pid) FROM ({blocked}) AS waiting")
        if how == "pg_cancel_backend":
            with pytest.raises(UnavailableError) as caught:
                appended.result(PATIENCE_S)
            assert caught.value.code == "store.timeout"
        other.rollback()
        if how == "pg_terminate_backend":
            assert appended.result(PATIENCE_S).first == 2
    assert direct.append([draft(1)]).first == 2
    check_whole(direct)


def test_a_statement_timeout_of_the_database_is_an_error_and_not_a_loss(direct, stores, pg_url, admin):
    direct.append([draft("first")])
    admin.execute(f"ALTER ROLE CURRENT_USER IN DATABASE {admin.info.dbname} SET statement_timeout = '200ms'")
    log = stores(pg_url).open()
    with admin.transaction():
        admin.execute("SELECT 1 FROM log.head FOR UPDATE")
        with pytest.raises(UnavailableError) as caught:
            bounded(lambda: log.append([draft(1)]))
        assert (caught.value.code, caught.value.exit_code) == ("store.timeout", 8)
    assert log.append([draft(1)]).first == 2
