"""A primary with a synchronous standby, killed under load; the standby promoted; the same logs go on by a URL of both hosts.

What libpq's `target_session_attrs=read-write` can do: ask each server, when a connection is made, whether it takes writes. What it
cannot: know that a server which says yes is no longer the primary. Such a server is kept from acknowledging by its own
`synchronous_standby_names`, as long as nobody follows it: `test_an_old_primary_acknowledges_nothing`.
"""

from __future__ import annotations

import random
import threading
from concurrent.futures import ThreadPoolExecutor
from urllib.parse import quote

import pytest
from muniment.domain.errors import UnavailableError
from muniment.store import merkle
from muniment.store.postgres_pool import Connection
from postgres_programs import wait
from stores import PATIENCE_S, bounded, check_whole, draft

WRITERS = 6
WAITING = "SELECT pid FROM pg_stat_activity WHERE wait_event = 'SyncRep'"


@pytest.fixture
def pair(postgres_place):
    with (
        postgres_place.server(wal_receiver_timeout="2s") as primary,
        postgres_place.standby_of(primary) as standby,
    ):
        yield primary, standby


def both(*servers):
    """The URL of a database on several servers."""
    word = quote(servers[0].password, safe="")
    hosts = ",".join(f"127.0.0.1:{server.port}" for server in servers)
    return f"postgresql://postgres:{word}@{hosts}/postgres?connect_timeout=3"


def append_until_kept(log, drafts, over=None):
    """As a client does: the same ids again while the store is not available."""
    while True:
        try:
            return log.append(drafts)
        except UnavailableError:
            if over is not None and over.is_set():
                raise


def check_consistent(log, heads):
    """RFC 6962: each head told before is a prefix of what the log is now."""
    leaves = list(log.leaves())
    for head in heads:
        assert 0 < head.size <= len(leaves)
        proof = merkle.consistency_proof(
            merkle.over_leaves(lambda low, high: leaves[low:high]), head.size, len(leaves)
        )
        assert merkle.verify_consistency(head.size, len(leaves), proof, head.root, merkle.root(leaves))


def fail_over(pair, stores, seed):
    """Kill the primary while threads write, promote, go on; return what was acknowledged."""
    primary, standby = pair
    rng, store = random.Random(seed), stores(both(primary, standby))
    store.create().append([draft("first")])
    logs = [store.open() for _ in range(2)]
    told, heads, stop = {}, [logs[0].head()], threading.Event()
    found, following = [], threading.Event()
    subscription = store.open().subscribe(poll_s=0.02)  # before any server is killed

    def write(k):
        n = 0
        while not stop.is_set():
            names = [f"{k}.{n}.{i}" for i in range(1 + n % 3)]
            answer = append_until_kept(logs[k % 2], [draft(name) for name in names])
            told.update({name: answer.first + at for at, name in enumerate(names)})
            n += 1

    def follow():
        while not following.is_set() or len(found) < logs[0].head().size:
            try:
                found.append(next(subscription)[0])
            except UnavailableError:
                continue

    with ThreadPoolExecutor(WRITERS + 1) as pool:
        writing = [pool.submit(write, k) for k in range(WRITERS)]
        watching = pool.submit(follow)
        target = rng.randrange(20, 120)
        wait(lambda: len(told) >= target, "some records", PATIENCE_S)
        heads.append(logs[1].head())
        primary.kill()
        before = dict(told)
        standby.promote()
        wait(lambda: len(told) >= len(before) + 40, "the writers go on", PATIENCE_S)
        heads.append(logs[0].head())
        stop.set()
        for each in writing:
            each.result(PATIENCE_S)
        following.set()
        append_until_kept(logs[0], [draft("last")])
        watching.result(PATIENCE_S)
    names = check_whole(logs[1])
    for name, position in told.items():
        assert names[position - 1] == name, "acknowledged, and not there"
    assert list(range(1, len(found) + 1)) == found
    assert len(found) >= len(names) - 1
    check_consistent(logs[0], heads)
    return store, logs[0]


@pytest.mark.parametrize("seed", range(2))
def test_nothing_acknowledged_is_lost_when_the_standby_takes_over(pair, stores, seed):
    fail_over(pair, stores, seed)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(10, 20))
def test_soak(pair, stores, seed):
    fail_over(pair, stores, seed)


def test_an_old_primary_acknowledges_nothing(pair, stores, monkeypatch):
    """It comes back by itself and takes writes, and libpq cannot tell; but its standby no longer follows it."""
    primary, standby = pair
    _, log = fail_over(pair, stores, 99)
    size = log.head().size
    primary.start()
    with standby.connect() as db:
        assert db.execute("SELECT count(*) FROM pg_stat_replication").fetchone() == (0,)
    old = stores(both(primary, standby)).open()  # the first host that takes writes: the wrong one
    monkeypatch.setattr(Connection, "answer_s", 1.0)
    with pytest.raises(UnavailableError) as caught:
        bounded(lambda: old.append([draft("lost")]))
    assert caught.value.code in ("store.commit_unknown", "store.locked")
    monkeypatch.setattr(Connection, "answer_s", 30.0)
    assert log.append([draft("kept")]).first == size + 1, "who is connected to the new primary stays there"
    with pytest.raises(AssertionError):
        check_consistent(stores(both(primary)).open(), [log.head()])
    primary.configure(
        default_transaction_read_only="on"
    )  # what whoever fails over has to do, or stop it for good
    assert stores(both(primary, standby)).open().head() == log.head(), "libpq goes past it"


def test_an_append_waits_for_the_standby_and_a_reader_does_not_see_it_before(pair, stores, monkeypatch):
    primary, standby = pair
    store = stores(both(primary, standby))
    log = store.create()
    log.append([draft("first")])
    reader = store.open()
    standby.stop("immediate")
    with ThreadPoolExecutor(1) as pool:
        appended = pool.submit(log.append, [draft("second")])
        wait(lambda: primary.execute(WAITING), "the commit waits", PATIENCE_S)
        assert [1] == [position for position, _ in reader.read()]
        assert not appended.done()
        standby.start()
        assert appended.result(PATIENCE_S).first == 2
    assert [1, 2] == [position for position, _ in reader.read()]


@pytest.mark.parametrize("how", ["pg_cancel_backend", "pg_terminate_backend"])
def test_a_wait_for_the_standby_that_somebody_ends_is_no_acknowledgement(pair, stores, how, monkeypatch):
    """PostgreSQL then commits here alone, and answers a cancelled wait with success and a warning."""
    primary, standby = pair
    store = stores(both(primary, standby))
    log = store.create()
    log.append([draft("first")])
    standby.stop("immediate")
    monkeypatch.setattr(Connection, "answer_s", 2.0)
    with ThreadPoolExecutor(1) as pool:
        appended = pool.submit(log.append, [draft("second")])
        wait(lambda: primary.execute(WAITING), "the commit waits", PATIENCE_S)
        primary.execute(f"SELECT {how}(pid) FROM ({WAITING}) AS waiting")
        with pytest.raises(UnavailableError) as caught:
            appended.result(PATIENCE_S)
    assert caught.value.code == "store.commit_unknown"
    with pytest.raises(
        UnavailableError
    ) as caught:  # it stands here by now, and "it is there already" waits as well
        bounded(lambda: log.append([draft("second")]))
    assert caught.value.exit_code == 8
    monkeypatch.setattr(Connection, "answer_s", 30.0)
    standby.start()
    answer = bounded(lambda: append_until_kept(log, [draft("second")]))
    assert (answer.first, answer.duplicate) == (2, True)
    primary.kill()
    standby.promote()
    assert ["first", "second"] == check_whole(store.open())


def test_without_a_standby_it_waits_for_one_failover_loses_records_and_who_followed_is_told(
    postgres_place, stores
):
    """The counter-example: an asynchronous standby. What was acknowledged may be gone, and a follower says so."""
    with postgres_place.server() as primary, postgres_place.standby_of(primary, synchronous=False) as standby:
        store = stores(both(primary, standby))
        log = store.create()
        log.append([draft("first")])
        wait(
            lambda: standby.execute("SELECT 1 FROM pg_namespace WHERE nspname = 'log'"), "the standby follows"
        )
        wait(lambda: standby.execute("SELECT size FROM log.head") == [(1,)], "the standby follows")
        standby.execute("SELECT pg_wal_replay_pause()")
        subscription = store.open().subscribe(poll_s=0.01)
        standby.stop("immediate")
        log.append([draft("lost")])
        assert [1, 2] == [next(subscription)[0] for _ in range(2)]
        primary.kill()
        standby.start()
        standby.promote()
        with pytest.raises(UnavailableError) as caught:
            list(subscription)
        assert caught.value.code == "store.behind"
        assert store.open().head().size == 1
