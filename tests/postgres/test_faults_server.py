"""Processes that end in the middle: writers, the server, its postmaster alone; a server that stands still; a disk that is full."""

from __future__ import annotations

import os
import random
import resource
import signal
import subprocess
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress

import pytest
from muniment.domain.errors import UnavailableError
from muniment.domain.query import Item
from muniment.store import writer
from muniment.store.api import Condition
from muniment.store.postgres_log import PostgresLog
from muniment.store.postgres_pool import Connection
from postgres_programs import children, wait
from stores import PATIENCE_S, Store, bounded, check_whole, draft, fork, schema

A = Item(tags=("a",))
KILLS, LONGEST_S = 15, 20.0  # kills of a way of appending, or as many as come in the time


@pytest.fixture(scope="module")
def server(postgres_place):
    with postgres_place.server() as server:
        yield server


@pytest.fixture
def url(server):
    with server.database() as name:
        yield schema(server.url(name), "log")


# -- writers ---------------------------------------------------------------------------------------------------------


def single(log, tell, seed):
    n = 0
    while True:
        d = draft(f"{seed}.{n}", ["a"])
        tell([d], log.append([d], Condition((A,), log.head().size)))
        n += 1


def batches(log, tell, seed):
    n = 0
    while True:
        drafts = [draft(f"{seed}.{n}.{i}", ["a"]) for i in range(1 + n % 40)]
        tell(drafts, log.append(drafts))
        n += 1


def threads(log, tell, seed):
    def work(k):
        n = 0
        while True:
            d = draft(f"{seed}.{k}.{n}", ["a"])
            tell([d], log.append([d]))
            n += 1

    for k in range(4):
        threading.Thread(target=work, args=(k,), daemon=True).start()
    time.sleep(PATIENCE_S)


def killed(url, way, seed, delay):
    """Fork, append, kill; (position, count, id) of each append that was answered."""
    answer, answering = os.pipe()

    def work():
        def tell(drafts, said):
            os.write(answering, f"{said.first} {len(drafts)} {drafts[0].id}\n".encode())

        way(PostgresLog.open(url), tell, seed)

    pid = fork(work)
    os.close(answering)
    with os.fdopen(answer) as pipe:
        first = pipe.readline()  # it is at work: from here on every moment is worth a kill
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        lines = [first, *pipe]
    _, status = os.waitpid(pid, 0)
    assert os.WIFSIGNALED(status), f"it ended by itself: {status}"
    return [
        (int(at), int(count), id_) for at, count, id_ in (line.split() for line in lines if line[-1:] == "\n")
    ]


@pytest.mark.parametrize("every", [2, 512])
@pytest.mark.parametrize("way", [single, threads, batches])
def test_no_acknowledged_record_is_lost_with_its_writer(url, way, every, monkeypatch):
    """With rows of the index in every second commit or so, and with the usual few. The next writer has no lock to wait for."""
    monkeypatch.setattr(writer, "INDEX_EVERY", every)
    chance, told, end = random.Random(f"{way.__name__}{every}"), [], time.monotonic() + LONGEST_S
    PostgresLog.create(url).close()
    for seed in range(KILLS):
        told += killed(url, way, seed, chance.uniform(0, 0.03))
        if time.monotonic() > end:
            break
    store = Store(url)
    log = store.open()
    names = check_whole(log)
    rows = list(log.read())
    assert rows == list(log.read((A,)))
    for position, _, id_ in told:
        assert f'"id":"{id_}"'.encode() in rows[position - 1][1]
    if way is batches:
        stems = {}
        for name in names:
            stem, _, index = name.rpartition(".")
            stems.setdefault(stem, []).append(int(index))
        for stem, found in stems.items():
            assert list(range(1 + int(stem.partition(".")[2]) % 40)) == found, "a batch is whole"
    assert len(told) > 3
    assert log.append([draft("after")], Condition((A,), len(rows))).first == len(rows) + 1
    store.close()


# -- servers ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["everything", "postmaster", "immediate", "fast"])
@pytest.mark.parametrize("seed", range(2))
def test_no_acknowledged_record_is_lost_with_the_server(server, url, how, seed):
    """Ended three times while four threads append by two logs, which go on with it when it is back."""
    rng, store, told, over = random.Random(f"{how}{seed}"), Store(url), {}, threading.Event()
    store.create()
    logs = [store.open(), store.open()]

    def work(k):
        n = 0
        while not over.is_set():
            drafts = [draft(f"{k}.{n}.{i}", ["a"]) for i in range(rng.choice((1, 1, 7)))]
            while True:
                try:
                    answer = logs[k % 2].append(drafts)
                    break
                except UnavailableError:
                    time.sleep(0.005)
            told.update({d.id: answer.first + at for at, d in enumerate(drafts)})
            n += 1

    with ThreadPoolExecutor(4) as pool:
        working = [pool.submit(work, k) for k in range(4)]
        try:
            for _ in range(3):
                enough = len(told) + rng.randrange(5, 60)
                wait(lambda enough=enough: len(told) >= enough, "some records", PATIENCE_S)
                if how in ("everything", "postmaster"):
                    server.kill(postmaster_only=how == "postmaster")
                else:
                    server.stop(how)
                server.start()
        finally:
            over.set()
        for each in working:
            each.result(PATIENCE_S)
    check_whole(logs[0])
    assert told.items() <= logs[1].positions_of(list(told)).items()
    assert len(list(logs[0].read((A,)))) == logs[0].head().size
    store.close()


def test_a_server_that_stands_still_is_not_waited_for_without_an_end(server, url, monkeypatch):
    """Its kernel still takes connections and answers keepalives."""
    store = Store(url + "&connect_timeout=2")
    log = store.create()
    log.append([draft(1)])
    monkeypatch.setattr(Connection, "answer_s", 0.5)

    def everybody(how):  # one of them may be on its way out
        for pid in (server.pid, *children(server.pid)):
            with suppress(ProcessLookupError):
                os.kill(pid, how)

    try:
        everybody(signal.SIGSTOP)
        for act in (log.head, lambda: log.append([draft(2)])):
            with pytest.raises(UnavailableError) as caught:
                bounded(act)
            assert caught.value.exit_code == 8
    finally:
        everybody(signal.SIGCONT)
    server.execute("SELECT 1")  # it has gone through what came meanwhile
    monkeypatch.setattr(Connection, "answer_s", 30.0)
    assert log.append([draft(2)]).first == 2
    assert ["1", "2"] == check_whole(log)
    store.close()


# -- a full disk -----------------------------------------------------------------------------------------------------


def mounted(folder, *options):
    return (
        subprocess.run(["mount", "-t", "tmpfs", *options, "tmpfs", folder], capture_output=True).returncode
        == 0
    )


def may_mount():
    if os.geteuid():
        return False
    with tempfile.TemporaryDirectory() as folder:
        return mounted(folder, "-o", "size=64k") and not subprocess.run(["umount", folder]).returncode


@contextmanager
def small_file_system(server):
    """The database lies in a tablespace of 14 MiB; yields its URL and what makes room."""
    folder = server.folder / "small"
    folder.mkdir()
    owner = server.data.stat()
    assert mounted(folder, "-o", f"size=14m,mode=0700,uid={owner.st_uid},gid={owner.st_gid}")
    server.execute(f"CREATE TABLESPACE small LOCATION '{folder}'")
    server.execute("CREATE DATABASE small TABLESPACE small TEMPLATE template0 ENCODING 'UTF8'")
    try:
        yield (
            server.url("small"),
            lambda: subprocess.run(["mount", "-o", "remount,size=200m", folder], check=True),
        )
    finally:
        server.execute("DROP DATABASE small WITH (FORCE)")
        server.execute("DROP TABLESPACE small")
        subprocess.run(["umount", "-l", folder], check=True)


@contextmanager
def small_files(server):
    """No file of the server may pass 20 MiB (a WAL segment has 16): what can be had without being root. Room takes a restart."""

    def restart(size):
        _, hard = before = resource.getrlimit(resource.RLIMIT_FSIZE)
        server.stop()
        resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
        try:
            server.start()
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, before)

    unlimited, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    with server.database() as name:
        restart(20 << 20)
        try:
            yield server.url(name), lambda: restart(unlimited)
        finally:
            restart(unlimited)


# The first where we may mount, the second everywhere: never neither.
FULL = [(small_file_system, {"store.full"})] if may_mount() else []
FULL += [(small_files, {"store.full", "store.postgres", "store.io"})]


@pytest.mark.parametrize(("full", "codes"), FULL, ids=lambda value: getattr(value, "__name__", ""))
def test_a_full_disk_refuses_and_room_makes_it_work_again(server, full, codes):
    with full(server) as (place, make_room):
        store = Store(schema(place, "log"))
        log, kept = store.create(), []

        def fill():
            for n in range(200):
                log.append(batch(n))
                kept.append(n)

        with pytest.raises(UnavailableError) as caught:
            fill()
        assert caught.value.code in codes
        assert caught.value.exit_code == 8
        assert kept
        assert [f"{k}.{n}" for k in kept for n in range(10)] == check_whole(log), "it can be read"
        with pytest.raises(UnavailableError):
            log.append(batch(len(kept)))
        make_room()
        answer = log.append(batch(len(kept)))
        assert answer.first == 10 * len(kept) + 1
        assert log.append([draft("small")]).first == answer.last + 1
        check_whole(store.open())
        store.close()


def batch(number):
    return [draft(f"{number}.{n}", size=60_000) for n in range(10)]
