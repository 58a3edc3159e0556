"""Threads, asyncio tasks, subscriptions and closing: one truth whoever calls."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from muniment.domain.errors import InvalidError, UnavailableError
from muniment.domain.query import Item
from muniment.store import merkle
from muniment.store.api import AppendConflict, Appended, Condition
from muniment.store.groupcommit import GroupCommit, Work

A = Item(tags=("a",))


def check_whole(log, size):
    rows = list(log.read())
    assert list(range(1, size + 1)) == [position for position, _ in rows]
    assert merkle.root(merkle.leaf_hash(body) for _, body in rows) == log.head().root


def test_threads_share_commits_and_every_answer_is_true(log, draft):
    def work(k):
        return [(n, log.append([draft(f"{k}/{n}", tags=[f"k:{k}"])])) for n in range(25)]

    with ThreadPoolExecutor(8) as pool:
        answers = dict(enumerate(pool.map(work, range(8))))
    check_whole(log, 200)
    for k, done in answers.items():
        assert [a.first for _, a in done] == [p for p, _ in log.read((Item(tags=(f"k:{k}",)),))]
        for n, answer in done:
            assert log.positions_of([draft(f"{k}/{n}").id]) == {draft(f"{k}/{n}").id: answer.first}


def test_of_racing_decisions_exactly_one_wins(log, draft):
    wins, losses = [], []

    def race(k):
        for n in range(30):
            after = log.head().size
            try:
                wins.append(log.append([draft(f"{k}/{n}", tags=["a"])], Condition((A,), after)))
            except AppendConflict:
                losses.append(after)

    with ThreadPoolExecutor(6) as pool:
        list(pool.map(race, range(6)))
    assert len(wins) + len(losses) == 180
    check_whole(log, len(wins))
    assert len({win.first for win in wins}) == len(wins)


def test_tasks_share_commits_conflicts_and_duplicates_reach_their_own(log, draft):
    log.append([draft("first", tags=["a"])])

    async def main():
        good = [log.append_async([draft(n)], Condition((Item(tags=("b",)),), 1)) for n in range(50)]
        stale = [log.append_async([draft(f"s{n}")], Condition((A,), 0)) for n in range(50)]
        same = [log.append_async([draft("same")]) for _ in range(20)]
        other = [log.append_async([draft("same", data=n)]) for n in range(3)]
        gather = asyncio.gather(*good, *stale, *same, *other, return_exceptions=True)
        return await gather

    results = asyncio.run(main())
    good, stale, same, other = results[:50], results[50:100], results[100:120], results[120:]
    assert all(isinstance(result, Appended) for result in good)
    assert all(isinstance(result, AppendConflict) for result in stale + other)
    assert len({result.first for result in same}) == 1
    assert sorted(result.duplicate for result in same) == [False] + [True] * 19
    check_whole(log, 52)


def test_conditions_inside_one_group_see_each_other(log, draft):
    async def main():
        tasks = [log.append_async([draft(n, tags=["a"])], Condition((A,), 0)) for n in range(40)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert sum(isinstance(result, Appended) for result in results) == 1
    check_whole(log, 1)


def test_a_bad_draft_of_a_task_fails_alone(log, draft):
    async def main():
        good = log.append_async([draft(1)])
        with pytest.raises(InvalidError):
            await log.append_async([])
        return await good

    assert asyncio.run(main()).first == 1


def test_a_cancelled_task_harms_nobody(log, draft):
    async def main():
        async def one(n):
            return await log.append_async([draft(n)])

        tasks = [asyncio.create_task(one(n)) for n in range(20)]
        await asyncio.sleep(0)
        tasks[3].cancel()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    assert isinstance(results[3], asyncio.CancelledError)
    assert sum(isinstance(result, Appended) for result in results) == 19
    log.close()


def test_close_commits_what_was_accepted_and_refuses_the_rest(make, draft):
    log = make()

    async def main():
        accepted = [log.append_async([draft(n)]) for n in range(100)]
        await asyncio.to_thread(log.close)
        with pytest.raises(UnavailableError, match="closed"):
            await log.append_async([draft(1000)])
        return await asyncio.gather(*accepted)

    assert list(range(1, 101)) == [answer.first for answer in asyncio.run(main())]


def test_a_subscription_follows_filters_and_stops(log, draft):
    log.append([draft(n, tags=["a"] if n % 2 else ["b"]) for n in range(10)])
    found: list[int] = []
    subscription = log.subscribe((A,), after=2, poll_s=30)

    def follow():
        found.extend(position for position, _ in subscription)

    thread = threading.Thread(target=follow)
    thread.start()
    for n in range(10, 20):
        log.append([draft(n, tags=["a"] if n % 2 else ["b"])])
    deadline = time.monotonic() + 5
    while len(found) < 9 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert thread.is_alive(), "it blocks at the end"
    subscription.stop()
    thread.join(5)
    assert not thread.is_alive()
    assert list(range(4, 21, 2)) == found


def test_closing_the_log_ends_its_subscriptions(make, draft):
    log = make()
    subscription = log.subscribe(poll_s=30)
    thread = threading.Thread(target=lambda: list(subscription))
    thread.start()
    time.sleep(0.05)
    log.close()
    thread.join(5)
    assert not thread.is_alive()


def test_a_reader_beside_writers_skips_nothing(log, draft):
    done = threading.Event()
    seen: list[int] = []

    def tail():
        while not done.is_set() or (seen[-1] if seen else 0) < log.head().size:
            after = seen[-1] if seen else 0
            seen.extend(position for position, _ in log.read(after=after))

    reader = threading.Thread(target=tail)
    reader.start()
    with ThreadPoolExecutor(4) as pool:
        list(pool.map(lambda n: log.append([draft(n), draft(-n - 1)]), range(100)))
    done.set()
    reader.join(10)
    assert list(range(1, 201)) == seen


def test_waiting_is_bounded_and_a_failed_transaction_fails_only_the_culprit():
    sizes: list[int] = []
    room = threading.Event()

    def commit(group):
        room.wait(5)
        sizes.append(len(group))
        if len(group) > 1 and any(work.decided_at == 7 for work in group):
            raise OSError("the whole transaction")
        for work in group:
            if work.decided_at == 7:
                raise OSError("this one")
            work.answer = Appended(1, 1, "")

    group_commit = GroupCommit(commit, max_waiting=4)
    waiting: list[int] = []

    async def main():
        async def one(n):
            return await group_commit.append_async(Work((), None, n))

        tasks = [asyncio.create_task(one(n)) for n in range(20)]
        for _ in range(10):
            await asyncio.sleep(0.001)
            waiting.append(group_commit._waiting)
        room.set()
        return await asyncio.gather(*tasks, return_exceptions=True)

    results = asyncio.run(main())
    group_commit.close()
    assert max(waiting) == 4
    assert max(sizes) <= 4
    assert [n == 7 for n in range(20)] == [isinstance(result, OSError) for result in results]


def test_threads_wait_for_room_too():
    release = threading.Event()

    def commit(group):
        release.wait(5)
        for work in group:
            work.answer = Appended(1, 1, "")

    group_commit = GroupCommit(commit, max_waiting=2)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(group_commit.append, Work(())) for _ in range(8)]
        time.sleep(0.05)
        assert group_commit._waiting <= 2
        release.set()
        assert [future.result(5).first for future in futures] == [1] * 8
    group_commit.close()
    with pytest.raises(UnavailableError, match="closed"):
        group_commit.append(Work(()))
