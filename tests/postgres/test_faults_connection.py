"""What goes wrong between a writer and its server: cuts at every point, stalls, locks, settings, limits, ended backends."""

from __future__ import annotations

import math
import random
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from muniment.domain.errors import UnavailableError, UnfitError, UsageError
from muniment.domain.query import Item
from muniment.store import base, postgres_pool, postgres_write
from muniment.store.api import Condition, Draft
from muniment.store.postgres_log import PostgresLog
from muniment.store.postgres_pool import Connection, connect
from muniment.store.postgres_url import parse
from postgres_programs import wait
from postgres_proxy import Point
from stores import PATIENCE_S, Store, bounded, check_whole, draft, schema

A = Item(tags=("a",))
APPENDS = "UPDATE .*head.* SET"  # the one statement of an append, and the first of one in several
WRITER = (
    "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query ~ '^(WITH h|NOTIFY|COMMIT)'"
    " AND pid <> pg_backend_pid()"
)


@pytest.fixture
def stores():
    kept = []

    def make(url):
        kept.append(Store(schema(url, "log")))
        return kept[-1]

    yield make
    for one in kept:
        one.close()


@pytest.fixture
def direct(pg_url, stores):
    """The log, without a proxy."""
    return stores(pg_url).create()


@pytest.fixture
def admin(pg_url):
    with psycopg.connect(pg_url, autocommit=True) as db:
        yield db


@pytest.fixture
def through(direct, pg_proxy, stores):
    """A log through the proxy, with one record of its own, so that the next append is one statement."""
    log = stores(pg_proxy.url).open()
    log.append([draft("first")])
    return log


# -- cuts ------------------------------------------------------------------------------------------------------------


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


# -- stalls and locks ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("point", [Point.BEFORE, Point.DONE])
def test_a_server_that_stalls_in_an_append_is_not_waited_for_without_an_end(
    direct, through, pg_proxy, point, monkeypatch
):
    monkeypatch.setattr(Connection, "answer_s", 0.3)
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
    monkeypatch.setattr(Connection, "answer_s", 1.5)
    for n in range(3):
        pg_proxy.delay(Point.DONE, "FROM .*records", 0.6, skip=n)
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
            lambda: list(log.read((A,))),
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


# -- settings of the server, the database and the role ---------------------------------------------------------------


@pytest.mark.parametrize("level", ["repeatable read", "serializable"])
def test_another_isolation_as_default_changes_nothing(direct, stores, pg_url, admin, level):
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_isolation = '{level}'")
    logs = [stores(pg_url).open() for _ in range(3)]
    with ThreadPoolExecutor(6) as pool:
        list(pool.map(lambda n: logs[n % 3].append([draft(n)]), range(90)))
    assert len(check_whole(direct)) == 90


def test_a_database_that_was_closed_to_writers_stays_closed(direct, stores, pg_url, admin):
    direct.append([draft("first")])
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET default_transaction_read_only = on")
    log = stores(pg_url).open()
    with pytest.raises(UnavailableError) as caught:
        log.append([draft(1)])
    assert (caught.value.code, caught.value.exit_code) == ("store.not_primary", 8)
    assert [1] == [position for position, _ in log.read()]


@pytest.mark.parametrize(
    ("said", "then"),
    [("off", "on"), ("local", "on"), ("remote_write", "remote_write"), ("remote_apply", "remote_apply")],
)
def test_a_commit_is_durable_whatever_the_database_says(direct, stores, pg_url, admin, said, then):
    admin.execute(f"ALTER DATABASE {admin.info.dbname} SET synchronous_commit = '{said}'")
    log = stores(pg_url).open()
    log.append([draft(1)])
    assert log._writer._db.execute("SHOW synchronous_commit").fetchone() == (then,)


def test_a_server_without_fsync_is_not_written_to(postgres_place):
    with postgres_place.server() as server, server.database() as name:
        store = Store(schema(server.url(name), "log"))
        log = store.create()
        server.configure(fsync="off")
        with pytest.raises(UnfitError) as caught:
            log.append([draft(1)])
        assert caught.value.code == "store.not_durable"
        assert log.head().size == 0
        store.close()
        with pytest.raises(UnfitError):
            Store(schema(server.url(name), "other")).create()
        said = server.execute("SELECT count(*) FROM pg_namespace WHERE nspname = 'other'", dbname=name)
        assert said == [(0,)], "nothing was made"


def test_the_clock_of_the_host_is_not_that_of_the_records(direct, monkeypatch, admin):
    """A host in 2099, or in 1999: the server's clock counts, and it is asked."""
    for year in (4_070_908_800, 915_148_800):
        monkeypatch.setattr(time, "time_ns", lambda year=year: year * 1_000_000_000)
        monkeypatch.setattr(time, "time", lambda year=year: float(year))
        direct.append([draft(year)])
        (now,) = admin.execute("SELECT (extract(epoch FROM clock_timestamp()) * 1000000)::bigint").fetchone()
        assert abs(direct.now() - now) < PATIENCE_S * 1_000_000
    assert base.real_clock() == 915_148_800_000_000, "the host was indeed elsewhere"
    check_whole(direct)


# -- limits ----------------------------------------------------------------------------------------------------------


def test_a_pool_that_is_used_up_says_so_and_works_again(direct, stores, pg_url, monkeypatch):
    monkeypatch.setattr(postgres_pool, "WAIT_S", 0.2)
    log = stores(pg_url + ("&" if "?" in pg_url else "?") + "pool=2").open()
    with log.connection(), log.connection():
        with pytest.raises(UnavailableError) as caught:
            bounded(log.head)
        assert (caught.value.code, caught.value.exit_code) == ("store.pool_exhausted", 8)
        assert log.append([draft(1)]).first == 1, "who writes has a connection of its own"
    assert log.head().size == 1


def until_connected(act):
    """A server notices a goodbye a little later."""
    for _ in range(1000):
        try:
            return act()
        except UnavailableError as error:
            if error.code != "store.connections":
                raise
            time.sleep(0.01)
    return act()


def test_too_many_connections_are_told_and_pass(postgres_place):
    with (
        postgres_place.server(
            max_connections="8", max_wal_senders="0", superuser_reserved_connections="0"
        ) as server,
        server.database() as name,
    ):
        store = Store(schema(server.url(name), "log"))
        log = store.create()
        others = [server.connect(name) for _ in range(7)]  # and the log has one
        with pytest.raises(psycopg.OperationalError, match=r"slots|too many"):
            server.connect(name)
        with pytest.raises(UnavailableError) as caught:
            bounded(lambda: log.append([draft(1)]))
        assert (caught.value.code, caught.value.exit_code) == ("store.connections", 8)
        assert log.head().size == 0, "the connection it has still reads"
        for other in others:
            other.close()
        assert until_connected(lambda: log.append([draft(1)])).first == 1
        store.close()


@pytest.mark.parametrize("attributes", ["any", "read-only", "standby", "prefer-standby"])
def test_several_hosts_without_the_one_that_takes_writes_are_refused(attributes):
    """Two standbys are not at one position: pages of one read would come from two."""
    with pytest.raises(UsageError, match="only the one that takes writes"):
        PostgresLog.open(f"postgresql://u@a,b/db?target_session_attrs={attributes}")


def test_several_hosts_mean_the_one_that_takes_writes():
    assert postgres_pool.parameters(parse("postgresql://u@a,b/db"))["target_session_attrs"] == "read-write"
    assert "target_session_attrs" not in postgres_pool.parameters(parse("postgresql://u@a/db"))
