"""Settings and limits of the server, the database and the role that would do harm."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from muniment.domain.errors import UnavailableError, UnfitError, UsageError
from muniment.store import base, postgres_pool
from muniment.store.postgres_log import PostgresLog
from muniment.store.postgres_url import parse
from stores import PATIENCE_S, Store, bounded, check_whole, draft, schema

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
