"""The proxy fails where it is told, and nowhere else: tried with psycopg alone."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from postgres_programs import wait
from postgres_proxy import Point, Proxy

if TYPE_CHECKING:
    from postgres_server import Given, Place

Link = psycopg.Connection[Any]
INSERT = "INSERT INTO kept VALUES (%s)"


@pytest.fixture
def behind(pg_url: str) -> Iterator[Link]:
    """A connection that does not go through the proxy, to a table `kept`."""
    with psycopg.connect(pg_url, autocommit=True) as link:
        link.execute("CREATE TABLE kept (n int)")
        yield link


def kept(behind: Link) -> list[int]:
    return [n for (n,) in behind.execute("SELECT n FROM kept ORDER BY n")]


def settled(behind: Link) -> list[int]:
    """What is kept once no other client is connected: a server whose client is gone ends what it does first."""
    others = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND pid <> pg_backend_pid()"
    )
    wait(lambda: behind.execute(others).fetchone() == (0,), "the end of the others")
    return kept(behind)


def once_asleep(behind: Link, act: Callable[[], object]) -> threading.Thread:
    """Do something, in a thread, when a client is in `pg_sleep`."""
    asked = (
        "SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event = 'PgSleep'"
    )

    def work() -> None:
        wait(lambda: behind.execute(asked).fetchone() == (1,), "a client that sleeps")
        act()

    thread = threading.Thread(target=work)
    thread.start()
    return thread


def through(proxy: Proxy, **how: Any) -> Link:
    return psycopg.connect(proxy.url, **how)


# -- without a rule ------------------------------------------------------------------------------------------------


def test_what_passes_is_not_changed(pg_proxy: Proxy, behind: Link) -> None:
    big = "ä" * 3_000_000
    with through(pg_proxy) as link:
        assert (big,) == link.execute("SELECT %s::text", [big]).fetchone()
        for n in range(20):  # prepared from the sixth on
            link.execute(INSERT, [n])
        with link.cursor().copy("COPY kept FROM STDIN") as copy:
            copy.write_row([77])
        with link.cursor().copy("COPY kept TO STDOUT") as copy:
            assert len(list(copy)) == 21
        with pytest.raises(psycopg.errors.DivisionByZero), link.transaction():
            link.execute("SELECT 1/0")
    assert [*range(20), 77] == kept(behind)
    assert 20 == pg_proxy.statements.count("INSERT INTO kept VALUES ($1)")
    assert "COMMIT" in pg_proxy.statements


def test_round_trips_are_counted(pg_proxy: Proxy, behind: Link) -> None:
    with through(pg_proxy, autocommit=True) as link:
        before = pg_proxy.round_trips
        link.execute(INSERT, [1])
        assert 1 == pg_proxy.round_trips - before
        with link.pipeline():
            for n in range(10):
                link.execute(INSERT, [n])
        assert 2 == pg_proxy.round_trips - before


def test_the_password_of_a_tcp_server_is_asked(postgres_place: Place) -> None:
    with postgres_place.server() as server, Proxy(server.tcp_url()) as proxy:
        with through(proxy) as link:
            assert link.pgconn.used_password
        with pytest.raises(psycopg.OperationalError, match="password authentication failed"):
            psycopg.connect(proxy.url, password="wrong")


def test_a_query_can_be_cancelled(pg_proxy: Proxy, behind: Link) -> None:
    with through(pg_proxy, autocommit=True) as link:
        canceller = once_asleep(behind, link.cancel_safe)
        with pytest.raises(psycopg.errors.QueryCanceled):
            link.execute("SELECT pg_sleep(300)")
        canceller.join()
        assert (1,) == link.execute("SELECT 1").fetchone()


# -- cuts ----------------------------------------------------------------------------------------------------------

HAPPENED = {Point.BEFORE: [], Point.HALF: [], Point.SENT: [1], Point.DONE: [1], Point.TOLD: [1]}


@pytest.mark.parametrize("point", Point)
def test_a_cut_at_the_commit(pg_proxy: Proxy, behind: Link, point: Point) -> None:
    """The client is told the same each time; whether it is committed is another matter."""
    rule = pg_proxy.cut(point, "^commit$")
    with through(pg_proxy) as link:
        link.execute(INSERT, [1])
        with pytest.raises(psycopg.OperationalError):
            link.commit()
        assert link.broken
    assert rule.reached.is_set()
    assert HAPPENED[point] == settled(behind)


@pytest.mark.parametrize("prepared", [False, True])
@pytest.mark.parametrize("point", Point)
def test_a_cut_at_a_statement_that_commits_by_itself(
    pg_proxy: Proxy, behind: Link, point: Point, prepared: bool
) -> None:
    with through(pg_proxy, autocommit=True, prepare_threshold=0 if prepared else None) as link:
        link.execute(INSERT, [0])
        pg_proxy.cut(point, "INSERT INTO kept")
        with pytest.raises(psycopg.OperationalError):
            link.execute(INSERT, [1])
    assert [0, *HAPPENED[point]] == settled(behind)


@pytest.mark.parametrize("point", Point)
def test_a_cut_in_a_pipeline_leaves_all_of_it_or_nothing(pg_proxy: Proxy, behind: Link, point: Point) -> None:
    pg_proxy.cut(point, "INSERT", skip=2)

    def five(link: Link) -> None:
        with link.pipeline():
            for n in range(5):
                link.execute(INSERT, [n])

    with through(pg_proxy, autocommit=True) as link, pytest.raises(psycopg.OperationalError):
        five(link)
    assert settled(behind) == ([0, 1, 2, 3, 4] if HAPPENED[point] else [])


def test_once_done_it_is_committed_while_the_client_still_waits(pg_proxy: Proxy, behind: Link) -> None:
    rule = pg_proxy.hold(Point.DONE, "^INSERT")
    said: list[object] = []

    def client() -> None:
        with through(pg_proxy, autocommit=True) as link:
            try:
                said.append(link.execute(INSERT, [1]).rowcount)
            except psycopg.OperationalError as error:
                said.append(error)

    thread = threading.Thread(target=client)
    thread.start()
    rule.wait()
    assert [1] == kept(behind)  # at once: no wait for the client to go
    assert said == []
    rule.release(cut=True)
    thread.join(20)
    assert isinstance(said[0], psycopg.OperationalError)


def test_a_rule_is_for_one_statement_on_one_connection(pg_proxy: Proxy, behind: Link) -> None:
    rule = pg_proxy.cut(Point.BEFORE, "INSERT", skip=1)
    with through(pg_proxy, autocommit=True) as other, through(pg_proxy, autocommit=True) as link:
        link.execute("SELECT 1")
        link.execute(INSERT, [1])
        assert not rule.reached.is_set()
        with pytest.raises(psycopg.OperationalError):
            link.execute(INSERT, [2])
        other.execute(INSERT, [3])
    assert [1, 3] == kept(behind)


def test_a_rule_that_no_statement_meets_says_so(pg_proxy: Proxy) -> None:
    rule = pg_proxy.cut(Point.SENT, "DELETE")
    with through(pg_proxy) as link:
        link.execute("SELECT 1")
    with pytest.raises(TimeoutError, match="'DELETE' came to SENT"):
        rule.wait(0.01)


def test_an_error_of_the_server_is_an_answer(pg_proxy: Proxy, behind: Link) -> None:
    rule = pg_proxy.cut(Point.DONE, "nowhere")
    with (
        through(pg_proxy) as link,
        pytest.raises(psycopg.OperationalError),
    ):  # not UndefinedTable: it did not come through
        link.execute("INSERT INTO nowhere VALUES (%s)", [1])
    assert rule.reached.is_set()


def test_every_connection_is_cut_and_none_is_let_in(pg_proxy: Proxy, behind: Link) -> None:
    with through(pg_proxy) as one, through(pg_proxy) as two:
        one.execute(INSERT, [1])
        pg_proxy.accepts = False
        pg_proxy.cut_all()
        for link in (one, two):
            with pytest.raises(psycopg.OperationalError):
                link.execute("SELECT 1")
        with pytest.raises(psycopg.OperationalError):
            through(pg_proxy)
    pg_proxy.accepts = True
    with through(pg_proxy) as link:
        assert [] == kept(link)


# -- waits ---------------------------------------------------------------------------------------------------------


def test_a_delay_is_a_delay(pg_proxy: Proxy, behind: Link) -> None:
    rule = pg_proxy.delay(Point.BEFORE, "INSERT", 0.3)
    with through(pg_proxy, autocommit=True) as link:
        began = time.monotonic()
        link.execute(INSERT, [1])
        assert time.monotonic() - began >= 0.3
        assert rule.reached.is_set()
        rule.reached.clear()
        link.execute(INSERT, [1])
        assert not rule.reached.is_set(), "once is once"
    assert [1, 1] == kept(behind)


def test_a_statement_that_is_held_goes_on(pg_proxy: Proxy, behind: Link) -> None:
    rule = pg_proxy.hold(Point.BEFORE, "INSERT")
    with through(pg_proxy, autocommit=True) as link:
        thread = threading.Thread(target=lambda: link.execute(INSERT, [1]))
        thread.start()
        rule.wait()
        assert [] == kept(behind)
        assert thread.is_alive()
        rule.release()
        thread.join(20)
    assert [1] == kept(behind)


def test_a_held_statement_does_not_hold_the_end_of_the_test_up(pg_url: str, behind: Link) -> None:
    with Proxy(pg_url) as proxy:
        rule = proxy.hold(Point.DONE, "INSERT")
        link = through(proxy, autocommit=True)
        failed = threading.Event()

        def client() -> None:
            with pytest.raises(psycopg.OperationalError):
                link.execute(INSERT, [1])
            failed.set()

        thread = threading.Thread(target=client)
        thread.start()
        rule.wait()
        began = time.monotonic()
    thread.join(20)
    assert failed.is_set()
    assert time.monotonic() - began < 10
    link.close()


# -- servers that go -----------------------------------------------------------------------------------------------


def test_a_server_killed_at_a_commit_and_its_standby_behind_the_same_address(postgres_place: Place) -> None:
    with (
        postgres_place.server() as primary,
        postgres_place.standby_of(primary) as standby,
        Proxy(primary.url()) as proxy,
    ):
        primary.execute("CREATE TABLE kept (n int)")
        rule = proxy.hold(Point.DONE, "^INSERT")
        failures: list[Exception] = []

        def client() -> None:
            with through(proxy, autocommit=True) as link:
                try:
                    link.execute(INSERT, [1])
                except psycopg.OperationalError as error:
                    failures.append(error)

        thread = threading.Thread(target=client)
        thread.start()
        rule.wait()
        primary.kill()
        rule.release(cut=True)
        thread.join(20)
        assert len(failures) == 1
        with pytest.raises(psycopg.OperationalError):
            through(proxy)
        standby.promote()
        proxy.target(standby.url())
        with through(proxy) as link:
            assert [1] == kept(link)


def test_the_last_words_of_a_server_come_through(postgres: Given, pg_proxy: Proxy, behind: Link) -> None:
    rule = pg_proxy.hold(Point.DONE, "pg_sleep")
    with through(pg_proxy, autocommit=True) as link:
        pid = link.info.backend_pid
        ender = once_asleep(behind, lambda: postgres.execute("SELECT pg_terminate_backend(%s)", pid))
        with pytest.raises(psycopg.errors.AdminShutdown):
            link.execute("SELECT pg_sleep(300)")
        ender.join()
    assert not rule.reached.is_set()
