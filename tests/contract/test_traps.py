"""The traps that stores of events fall into (targets.md, below its table), each by ten seeds: records lost to a tailing reader,
large batches, gaps, ids used again. Two logs in one database, and notifications: `test_traps_apart.py`.
"""

from __future__ import annotations

import random
import sqlite3
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import psycopg
import pytest
from muniment.domain.errors import InvalidError, UnavailableError, WrongError
from muniment.domain.query import Item
from muniment.store.api import AppendConflict, Condition
from muniment.store.sqlite_file import FILE_NAME
from stores import PATIENCE_S, Store, bounded, check_whole, draft, fork, join, name_of, schema

SEEDS = range(10)
A = Item(tags=("a",))

# 30 of 100 commits take longer, 2 are rolled back, at the very end of their transaction. A sequence counts rollbacks too.
SLOW = """
CREATE SEQUENCE {s}.fate;
CREATE FUNCTION {s}.fate() RETURNS trigger LANGUAGE plpgsql AS $$
DECLARE fate bigint := ('x' || substr(md5('{seed}.' || nextval('{s}.fate')), 1, 8))::bit(32)::bigint % 100;
BEGIN
    IF fate < 30 THEN PERFORM pg_sleep(0.004); END IF;
    IF fate >= 98 THEN RAISE EXCEPTION 'rolled back by the test' USING ERRCODE = '40001'; END IF;
    RETURN NULL;
END $$;
CREATE CONSTRAINT TRIGGER fate AFTER INSERT ON {s}.records DEFERRABLE INITIALLY DEFERRED
    FOR EACH ROW EXECUTE FUNCTION {s}.fate();
"""


@pytest.fixture(params=["sqlite", "postgres"])
def store(request, tmp_path):
    where = (
        schema(request.getfixturevalue("pg_url"), "traps") if request.param == "postgres" else tmp_path / "s"
    )
    one = Store(where)
    yield one
    one.close()


def disturb(store: Store, seed: int) -> None:
    """Slow commits and rollbacks, until the end of the test where somebody else has to make them."""
    if store.server:
        with psycopg.connect(store.where.split("?schema")[0].split("&schema")[0]) as db:
            db.execute(SLOW.format(s="traps", seed=seed))


def hinder(store: Store, seed: int, over: threading.Event) -> None:
    """SQLite has no commits that others wait for but those of others: take the lock, write the next rows, give up."""
    chance = random.Random(seed)
    if store.server:
        return
    db = sqlite3.connect(store.where / FILE_NAME, timeout=60, isolation_level=None)
    while not over.wait(chance.uniform(0, 0.01)):
        db.execute("BEGIN IMMEDIATE")
        (size,) = db.execute("SELECT size FROM head").fetchone()
        db.execute("INSERT INTO records VALUES (?, ?, x'00', x'00')", (size + 1, chance.randbytes(16)))
        time.sleep(chance.choice((0, 0, 0.004)))
        db.execute("ROLLBACK")
    db.close()


def until_appended(log, drafts, condition=None):
    """Append; again with the same ids while the store says that it could not."""
    end = time.monotonic() + PATIENCE_S
    while True:
        try:
            return log.append(drafts, condition)
        except UnavailableError:
            assert time.monotonic() < end


@pytest.mark.parametrize("seed", SEEDS)
def test_readers_that_follow_16_writers_skip_nothing(store, seed):
    """Twelve threads on three logs and four processes write; 30 % of commits are slow, 2 % roll back. Two readers check."""
    store.create()
    disturb(store, seed)
    per_writer, writers = 8, 16
    rngs = [random.Random(f"{seed}.{k}") for k in range(writers)]
    sizes = [[rng.choice((1, 1, 1, 3)) for _ in range(per_writer)] for rng in rngs]
    total = sum(map(sum, sizes))

    def write(log, k):
        for n, size in enumerate(sizes[k]):
            until_appended(log, [draft(f"{k}.{n}.{i}", ["a"]) for i in range(size)])

    def alone(k):
        own = Store(store.where)
        write(own.open(), k)
        own.close()

    processes = [fork(lambda k=k: alone(k)) for k in range(12, 16)]
    followed, polled = [], []

    def follow():
        for record in store.open().subscribe(poll_s=0.01):
            followed.append(record)
            if len(followed) == total:
                return

    def poll():
        log, end = store.open(), time.monotonic() + PATIENCE_S
        while len(polled) < total and time.monotonic() < end:
            for page in log.pages(after=polled[-1][0] if polled else 0, size=7):
                polled.extend(page)

    over = threading.Event()
    side = [
        threading.Thread(target=act, daemon=True) for act in (follow, poll, lambda: hinder(store, seed, over))
    ]
    for thread in side:
        thread.start()
    logs = [store.open() for _ in range(3)]
    with ThreadPoolExecutor(12) as pool:
        list(pool.map(lambda k: write(logs[k % 3], k), range(12)))
    join(processes)
    over.set()
    for thread in side:
        thread.join(PATIENCE_S)
    assert list(range(1, total + 1)) == [position for position, _ in followed]
    assert followed == polled == list(logs[0].read())
    names = check_whole(logs[0])
    assert {f"{k}.{n}.{i}" for k in range(16) for n in range(per_writer) for i in range(sizes[k][n])} == set(
        names
    )


@pytest.mark.parametrize("seed", SEEDS)
def test_a_batch_over_a_megabyte_and_one_of_16_end(store, seed):
    """psycopg's pipeline hangs for ever on one message of over a megabyte, with its locks held."""
    log = store.create()
    rng = random.Random(seed)
    for size in (1 << 20, 16 << 20) if seed == 0 else (rng.randrange(1 << 20, 3 << 20),):
        each = rng.randrange(20_000, 65_000)
        drafts = [draft(f"{size}.{n}", size=each) for n in range(size // each + 1)]
        answer = bounded(lambda drafts=drafts: log.append(drafts))
        assert answer.last - answer.first + 1 == len(drafts)
        assert bounded(lambda drafts=drafts: log.append(drafts)) == (*answer[:3], True), (
            "found, and not repeated"
        )
    check_whole(log)


def test_4096_records_of_65_kb_in_groups_end(store):
    log = store.create()
    with ThreadPoolExecutor(16) as pool:
        work = [[draft(f"{k}.{n}", size=65_000) for n in range(64)] for k in range(64)]
        answers = bounded(lambda: list(pool.map(log.append, work)))
    spans = sorted((answer.first, answer.last) for answer in answers)
    assert [(64 * k + 1, 64 * k + 64) for k in range(64)] == spans
    for (_, body), k in zip(log.read(after=spans[-1][0] - 1), range(64), strict=True):
        assert name_of(body).endswith(f".{k}")
    assert log.head().size == 4096


@pytest.mark.parametrize("seed", SEEDS)
def test_refusals_conflicts_and_rollbacks_leave_no_gap(store, seed):
    log, rng = store.create(), random.Random(seed)
    disturb(store, seed)
    other = store.open()
    until_appended(log, [draft("first", ["a"])])
    written = ["first"]
    for n in range(40):
        by = rng.choice((log, other))
        fate = rng.randrange(6)
        if fate == 0:
            with pytest.raises((AppendConflict, UnavailableError)):
                by.append([draft(f"stale{n}"), draft(f"stale{n}b")], Condition((A,), 0))
        elif fate == 1:
            with pytest.raises((AppendConflict, UnavailableError)):
                by.append([draft("first", data=n)])
        elif fate == 2:
            with pytest.raises(InvalidError):
                by.append([draft(f"large{n}", size=70_000)])
        elif fate == 3:
            with pytest.raises((AppendConflict, UnavailableError)):
                by.append([draft(f"new{n}"), draft("first")])
        else:
            batch = [f"{n}.{i}" for i in range(rng.randrange(1, 4))]
            until_appended(by, [draft(name) for name in batch])
            written += batch
    assert written == check_whole(other)


@pytest.mark.parametrize("seed", SEEDS)
def test_of_two_processes_with_the_same_ids_one_writes_each(store, seed):
    """The same content is answered twice and stored once; other content under the same id is stored once and refused once."""
    log = store.create()
    said = {}

    def write(who, log):
        order = list(range(24))
        random.Random(f"{seed}{who}").shuffle(order)
        for n in order:
            data = None if n % 2 else who  # even ones differ
            try:
                said[who, n] = log.append([draft(n, data=data)])
            except AppendConflict as error:
                if (n % 2, error.code) != (0, "store.id_reused"):
                    raise
                said[who, n] = None

    def alone():
        own = Store(store.where)
        write("them", own.open())
        for (_, n), answer in said.items():
            print_to.write(
                f"{n} {0 if answer is None else answer.first} {answer is not None and answer.duplicate:d}\n"
            )
        print_to.flush()
        own.close()

    with tempfile.TemporaryFile("w+") as print_to:
        process = fork(alone)
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(write, ("us", "we"), (log, store.open())))
        join([process])
        print_to.seek(0)
        theirs = {int(n): (int(at), dup == "1") for n, at, dup in (line.split() for line in print_to)}
    assert sorted(int(name) for name in check_whole(log)) == list(range(24))
    for n in range(24):
        answers = [(a.first, a.duplicate) if (a := said[who, n]) else (0, False) for who in ("us", "we")] + [
            theirs[n]
        ]
        places = {at for at, _ in answers if at}
        assert places == {log.positions_of([draft(n).id])[draft(n).id]}
        assert sum(1 for at, repeated in answers if at and not repeated) == 1, "one of them wrote it"
        assert sum(1 for at, _ in answers if not at) == (0 if n % 2 else 2)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_position_is_never_given_twice(store, seed):
    """Rows taken out behind our back, by somebody who may do anything: what was the last position is not given again."""
    log, rng = store.create(), random.Random(seed)
    size = rng.randrange(2, 30)
    for n in range(size):
        log.append([draft(n)])
    gone = rng.randrange(1, 3)
    remove(store, size - gone)
    for one in (log, store.open()):
        try:
            answer = one.append([draft(f"after{id(one)}")])
        except WrongError:
            continue  # it noticed
        assert answer.first > size
    with pytest.raises(WrongError):
        list(store.open().read())


def remove(store: Store, above: int) -> None:
    if store.server:
        with psycopg.connect(store.where.split("?schema")[0].split("&schema")[0]) as db:
            db.execute("SET session_replication_role = replica")
            db.execute("DELETE FROM traps.records WHERE position > %s", (above,))
        return
    db = sqlite3.connect(store.where / FILE_NAME, timeout=60, isolation_level=None)
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.execute("DELETE FROM records WHERE position > ?", (above,))
    db.close()


def test_commits_do_roll_back(pg_url):
    """What `SLOW` makes go wrong does go wrong: otherwise the tests above would show nothing."""
    store = Store(schema(pg_url, "traps"))
    log, failed = store.create(), []
    disturb(store, 1)
    for n in range(300):
        try:
            log.append([draft(n)])
        except UnavailableError as error:
            failed.append(error.code)
    store.close()
    assert len(failed) > 0
    assert set(failed) == {"store.locked"}
