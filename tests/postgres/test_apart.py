"""Two logs in one database stay apart; a lost notification costs one poll; a subscription outlives its server."""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from muniment.domain.errors import ConflictError, UnavailableError
from muniment.store import base, indexed_log, postgres_listen, postgres_write
from muniment.store.postgres_log import PostgresLog
from postgres_programs import wait
from postgres_proxy import Point, Proxy
from stores import PATIENCE_S, bounded, check_whole, draft

SEEDS = range(10)
NEVER_S = 3600.0  # a poll that does not come within a test
LISTENING = "SELECT pid FROM pg_stat_activity WHERE datname = current_database() AND query LIKE 'LISTEN%'"


class Following:
    """A thread that follows a log."""

    def __init__(self, log, poll_s):
        self.found = []
        self.subscription = log.subscribe(poll_s=poll_s)
        self.thread = threading.Thread(target=self._run, daemon=True)
        self.thread.start()

    def _run(self):
        for position, _ in self.subscription:
            self.found.append(position)

    def has(self, count):
        wait(lambda: len(self.found) >= count, f"{count} records, there are {self.found}", PATIENCE_S)
        assert list(range(1, count + 1)) == self.found

    def end(self):
        self.subscription.stop()
        self.thread.join(PATIENCE_S)
        assert not self.thread.is_alive()


# -- two logs in one database ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("seed", SEEDS)
def test_two_logs_in_one_database_stay_apart(pg_url, stores, seed):
    """The same ids, tags and types in both, written at once: records, index, ids and notifications are of one log each."""
    one, two = (stores(pg_url, name) for name in ("one", "two"))
    rng = random.Random(seed)
    sizes = {store: rng.randrange(20, 60) for store in (one, two)}
    logs = {store: store.create() for store in (one, two)}

    def write(store):
        for n in range(sizes[store]):
            answer = logs[store].append([draft(n, ["a"], data=store.where[-3:])])
            assert (n + 1, n + 1, False) == (answer.first, answer.last, answer.duplicate)

    with ThreadPoolExecutor(2) as pool:
        list(pool.map(write, (one, two)))
    for store, log in logs.items():
        assert [str(n) for n in range(sizes[store])] == check_whole(log)
        assert all(f'"data":"{store.where[-3:]}"'.encode() in body for _, body in log.read())
    assert logs[one].head().root != logs[two].head().root


def test_a_writer_of_one_log_waits_for_no_other(pg_url, stores):
    one, two = (stores(pg_url, name) for name in ("one", "two"))
    one.create()
    log = two.create()
    with psycopg.connect(pg_url) as other:
        other.execute("SELECT 1 FROM one.head FOR UPDATE")
        other.execute("SELECT pg_advisory_xact_lock(hashtextextended('muniment:one', 0))")
        assert log.append([draft(1)]).first == 1
        assert stores(pg_url, "three").create().append([draft(1)]).first == 1


def test_a_notification_of_one_log_wakes_no_follower_of_another(pg_url, stores):
    one, two = (stores(pg_url, name) for name in ("one", "two"))
    writer, _ = one.create(), two.create()
    heard = {"one": 0, "two": 0}

    def hear(name):
        heard[name] += 1

    logs = {"one": one.open(), "two": two.open()}
    listeners = [
        postgres_listen.Listener(log.place, log._channel, lambda name=name: hear(name))
        for name, log in logs.items()
    ]
    wait(lambda: heard == {"one": 1, "two": 1}, "the first look of both")
    writer.append([draft(1)])
    wait(lambda: heard["one"] == 2, "the notification")
    assert heard["two"] == 1
    assert logs["one"]._channel != logs["two"]._channel, "it may have come later than we looked"
    for listener in listeners:
        listener.stop()


@pytest.mark.parametrize("kinds", [("records", "records"), ("records", "opaque"), ("opaque", "records")])
def test_a_schema_takes_one_log(pg_url, stores, kinds):
    store = stores(pg_url, "one")
    log = store.create(kinds[0])
    with pytest.raises(ConflictError, match="there is a store already"):
        store.create(kinds[1])
    assert log.kind == store.open().kind == kinds[0]


def test_of_many_that_create_one_log_one_does(pg_url, stores):
    store = stores(pg_url, "one")

    def create(_):
        try:
            return store.create()
        except ConflictError:
            return None

    with ThreadPoolExecutor(6) as pool:
        made = [log for log in pool.map(create, range(6)) if log]
    assert len(made) == 1
    assert made[0].append([draft(1)]).first == 1


# -- notifications ---------------------------------------------------------------------------------------------------


def test_another_process_wakes_a_follower_that_does_not_poll(pg_url, stores, monkeypatch):
    monkeypatch.setattr(postgres_write, "TELL_S", 0.0)
    store = stores(pg_url, "one")
    writer = store.create()
    following = Following(store.open(), NEVER_S)
    for n in range(3):
        wait(lambda n=n: len(following.found) == n, "the one before", PATIENCE_S)
        wait(
            lambda: writer._writer is None or base.time.monotonic() - writer._writer._told > 0.1,
            "a time to tell",
        )
        writer.append([draft(n)])
    following.has(3)
    following.end()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_lost_notification_costs_a_poll(pg_url, stores, seed):
    """No NOTIFY ever leaves the writer: who polls has all; who does not poll has nothing, so it was indeed lost."""
    store = stores(pg_url, "one")
    store.create().close()
    size = random.Random(seed).randrange(1, 20)
    with Proxy(pg_url) as proxy:
        proxy.cut(Point.BEFORE, "^NOTIFY", times=1_000_000)
        writer = stores(proxy.url, "one").open()
        polling, waiting = Following(store.open(), 0.02), Following(store.open(), NEVER_S)
        with psycopg.connect(pg_url, autocommit=True) as admin:
            wait(lambda: len(admin.execute(LISTENING).fetchall()) == 2, "both listen")
        for n in range(size):
            assert writer.append([draft(n)]).first == n + 1
        polling.has(size)
        assert [] == waiting.found
        waiting.end()
        polling.end()
        writer.close()


@pytest.mark.parametrize("seed", SEEDS)
def test_a_listener_whose_connection_is_ended_listens_again(pg_url, stores, seed, monkeypatch):
    monkeypatch.setattr(postgres_listen, "_AGAIN_S", 0.01)
    monkeypatch.setattr(postgres_write, "TELL_S", 0.0)
    store = stores(pg_url, "one")
    writer = store.create()
    following = Following(store.open(), NEVER_S)
    rng, size = random.Random(seed), 0
    with psycopg.connect(pg_url, autocommit=True) as admin:
        for _ in range(3):
            wait(lambda: admin.execute(LISTENING).fetchall(), "somebody listens", PATIENCE_S)
            (pid,) = admin.execute(LISTENING).fetchone()
            admin.execute("SELECT pg_terminate_backend(%s)", (pid,))
            for _ in range(rng.randrange(1, 4)):  # while nobody listens: found at the first look after
                size += 1
                writer.append([draft(size)])
            wait(lambda old=pid: [old] != [p for (p,) in admin.execute(LISTENING)], "it is gone", PATIENCE_S)
            following.has(size)
    following.end()


# -- a server that goes and comes ------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def server(postgres_place):
    with postgres_place.server() as server:
        yield server


@pytest.fixture
def url(server):
    with server.database() as name:
        yield server.url(name)


@pytest.mark.parametrize("seed", range(3))
def test_a_subscription_says_that_the_server_is_gone_and_goes_on_behind_its_last_record(
    server, url, stores, seed, monkeypatch
):
    """Wherever it was: between two pages, at the end, asked twice while there is no server. Nothing is lost or repeated."""
    monkeypatch.setattr(base, "PAGE", 4)
    store = stores(url, "one")
    log, rng = store.create(), random.Random(seed)
    log.append([draft(n) for n in range(30)])
    reader = store.open()
    subscription, found = reader.subscribe(poll_s=0.01), []
    for stop in [*sorted(rng.sample(range(1, 30), 2)), 30]:
        take(subscription, found, stop)
        server.stop(rng.choice(("fast", "immediate")))
        with pytest.raises(UnavailableError):  # a page that it has already may come first
            found.extend(position for position, _ in subscription)
        with pytest.raises(UnavailableError):
            next(subscription)
        server.start()
    log.append([draft(n) for n in range(30, 40)])
    take(subscription, found, 40)
    assert list(range(1, 41)) == found
    anew = reader.subscribe(after=25)
    assert list(range(26, 41)) == [next(anew)[0] for _ in range(15)]


def take(subscription, found, count):
    """Follow until so many are there; a record that never comes is a failure, not a hang."""
    bounded(lambda: [found.append(next(subscription)[0]) for _ in range(count - len(found))])


@pytest.mark.parametrize("kind", ["pages", "read", "reverse", "leaves"])
def test_a_server_that_goes_in_the_middle_of_a_read_is_no_short_answer(
    server, url, stores, kind, monkeypatch
):
    for module in (base, indexed_log):
        monkeypatch.setattr(module, "PAGE", 4)
    store = stores(url, "one")
    log = store.create()
    log.append([draft(n) for n in range(30)])
    reader, found = store.open(), []
    reading = {
        "pages": lambda: reader.pages(size=4),
        "read": reader.read,
        "reverse": lambda: reader.read(reverse=True),
        "leaves": reader.leaves,
    }[kind]
    whole, begun = list(reading()), reading()
    found.append(next(begun))
    server.restart("immediate")  # back in between: the read goes on, on a new connection
    found.append(next(begun))
    server.stop()
    with pytest.raises(UnavailableError):
        found.extend(begun)
    assert whole[: len(found)] == found != whole
    server.start()
    assert whole == list(reading())


def test_a_follower_of_a_log_that_lost_records_says_so(pg_url, stores):
    """As after the promotion of a standby that lagged behind: positions it has read are not there."""
    store = stores(pg_url, "one")
    log = store.create()
    for n in range(3):
        log.append([draft(n)])
    subscription = store.open().subscribe(poll_s=0.01)
    assert [1, 2, 3] == [next(subscription)[0] for _ in range(3)]
    with psycopg.connect(pg_url) as db:
        db.execute("SET session_replication_role = replica")
        db.execute("DELETE FROM one.records WHERE position = 3")
        db.execute("UPDATE one.head SET size = 2")
    with pytest.raises(UnavailableError) as caught:
        next(subscription)
    assert caught.value.code == "store.behind"


@pytest.mark.parametrize(
    "stands",
    [
        "COMMENT ON SCHEMA taken IS 'billing'",
        "CREATE TYPE taken.colour AS ENUM ('red')",
        "CREATE DOMAIN taken.whole AS int CHECK (VALUE > 0)",
        "CREATE SEQUENCE taken.numbers",
        'CREATE COLLATION taken.plain FROM "C"',
    ],
)
def test_a_schema_in_which_something_stands_takes_no_log(pg_url, stands):
    with psycopg.connect(pg_url, autocommit=True) as link:
        link.execute("CREATE SCHEMA taken")
        link.execute(stands)
        with pytest.raises(ConflictError) as caught:
            PostgresLog.create(f"{pg_url}&schema=taken")
        assert caught.value.code == "store.exists"
        assert link.execute("SELECT to_regclass('taken.records')").fetchone() == (None,), "nothing was made"
    with psycopg.connect(pg_url, autocommit=True) as link:
        link.execute(
            "CREATE SCHEMA free; ALTER DEFAULT PRIVILEGES IN SCHEMA free GRANT SELECT ON TABLES TO PUBLIC"
        )
    PostgresLog.create(f"{pg_url}&schema=free").close()
