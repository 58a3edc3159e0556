"""Threads, asyncio tasks, subscriptions and closing: one truth whoever calls."""

from __future__ import annotations

import asyncio
import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from muniment.domain.errors import InvalidError, MunimentError, UnavailableError
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
    deadline = time.monotonic() + 20
    while len(found) < 9 and time.monotonic() < deadline:
        time.sleep(0.005)
    assert thread.is_alive(), "it blocks at the end"
    subscription.stop()
    thread.join(20)
    assert not thread.is_alive()
    assert list(range(4, 21, 2)) == found


def test_closing_the_log_ends_its_subscriptions(make, draft):
    log = make()
    subscription = log.subscribe(poll_s=30)
    thread = threading.Thread(target=lambda: list(subscription))
    thread.start()
    time.sleep(0.05)
    log.close()
    thread.join(20)
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
    reader.join(60)
    assert list(range(1, 201)) == seen


def test_waiting_is_bounded_and_a_failed_transaction_fails_only_the_culprit():
    sizes: list[int] = []
    room = threading.Event()

    def commit(group):
        room.wait(60)
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
        release.wait(60)
        for work in group:
            work.answer = Appended(1, 1, "")

    group_commit = GroupCommit(commit, max_waiting=2)
    with ThreadPoolExecutor(8) as pool:
        futures = [pool.submit(group_commit.append, Work(())) for _ in range(8)]
        time.sleep(0.05)
        assert group_commit._waiting <= 2
        release.set()
        assert [future.result(60).first for future in futures] == [1] * 8
    group_commit.close()
    with pytest.raises(UnavailableError, match="closed"):
        group_commit.append(Work(()))


def test_what_is_wrong_with_one_append_never_fails_its_neighbours(make, draft, event):
    """Threads and tasks at once; each wrong one is told what is wrong with it, each right one stands."""
    log = make()
    log.append([draft("used", tags=["a"])])
    surrogate = chr(0xD800)
    wrong = {
        "large": (lambda: [draft("large", data="x" * 70_000)], "store.record_size"),
        "id": (lambda: [draft("id")._replace(id="no-uuid")], "store.record_id"),
        "reused": (lambda: [draft("used", data="other")], "store.id_reused"),
        "twice": (lambda: [draft("twice"), draft("twice")], "store.id_reused"),
        "partly": (lambda: [draft("new"), draft("used", tags=["a"])], "store.partly_present"),
        "none": (list, "store.empty_append"),
        "kind": (lambda: [event(1)], "store.kind"),
        "nul": (lambda: [draft("nul", "thing\0/1")], "store.type"),
        "untyped": (lambda: [draft("untyped", "")], "store.type"),
        "long": (lambda: [draft("long", "t" * 1001)], "store.type"),
        "lone": (lambda: [draft("lone")._replace(type=surrogate)], "store.type"),
        "tag": (lambda: [draft("tag")._replace(tags=(surrogate,))], "store.tags"),
        "unsorted": (lambda: [draft("unsorted")._replace(tags=("b", "a"))], "store.tags"),
    }
    said = {}

    def refuse(name):
        drafts, code = wrong[name]
        try:
            said[name] = log.append(drafts())
        except MunimentError as error:
            said[name] = error.code
        return code

    async def tasks():
        async def one(name):
            try:
                await log.append_async(wrong[name][0]())
            except MunimentError as error:
                return error.code

        good = [log.append_async([draft(f"task{n}", tags=["\0", "ä"])]) for n in range(30)]
        codes = await asyncio.gather(*(one(name) for name in wrong))
        assert codes == [code for _, code in wrong.values()]
        return await asyncio.gather(*good)

    with ThreadPoolExecutor(8) as pool:
        good = [pool.submit(log.append, [draft(f"thread{n}", tags=["\0", "ä"])]) for n in range(30)]
        bad = list(pool.map(refuse, wrong))
        many = asyncio.run(tasks())
        answers = [future.result() for future in good]
    assert dict(zip(wrong, bad, strict=True)) == said
    assert len({answer.first for answer in answers + many}) == 60
    check_whole(log, 61)
    # what was let in can be indexed: nothing wrong has been left for a later commit to fall over
    for n in range(30):
        log.append([draft(f"{n}.{i}", f"type{i}{'é' * 400}/1", tags=["\0", "x" * 3000]) for i in range(20)])
    assert log.last_match((Item(tags=("\0", "x" * 3000)),)) == log.head().size == 661


def test_close_while_threads_append_keeps_what_was_acknowledged(make, draft):
    log, told = make(), []
    reader = log if not hasattr(log, "place") else None

    def work(k):
        n = 0
        while True:
            try:
                told.append((log.append([draft(f"{k}/{n}")]).first, draft(f"{k}/{n}").id))
            except UnavailableError as error:
                return error.code
            n += 1

    with ThreadPoolExecutor(6) as pool:
        working = [pool.submit(work, k) for k in range(6)]
        while len(told) < 60:
            time.sleep(0.001)
        log.close()
        assert {future.result(30) for future in working} == {"store.closed"}
    assert reader is log or sorted(at for at, _ in told) == list(range(1, len(told) + 1))
    assert len({at for at, _ in told}) == len(told)


def test_tasks_that_are_cancelled_while_they_wait_for_room_leave_the_others_their_turn():
    release = threading.Event()

    def commit(group):
        release.wait(60)
        for work in group:
            work.answer = Appended(1, 1, "")

    group_commit = GroupCommit(commit, max_waiting=2)

    async def main():
        async def one():
            return await group_commit.append_async(Work(()))

        tasks = [asyncio.create_task(one()) for _ in range(40)]
        await asyncio.sleep(0.01)
        for task in tasks[::2]:
            task.cancel()
        release.set()
        return await asyncio.wait_for(asyncio.gather(*tasks, return_exceptions=True), 30)

    results = asyncio.run(main())
    group_commit.close()
    assert all(isinstance(result, Appended) for result in results[1::2])
    assert all(isinstance(result, asyncio.CancelledError) for result in results[::2])
    assert group_commit._waiting == 0


def test_close_answers_those_that_wait_for_room():
    release = threading.Event()

    def commit(group):
        release.wait(60)
        for work in group:
            work.answer = Appended(1, 1, "")

    group_commit = GroupCommit(commit, max_waiting=1)
    with ThreadPoolExecutor(10) as pool:
        futures = [pool.submit(group_commit.append, Work(())) for _ in range(8)]
        while group_commit._waiting < 1:
            time.sleep(0.001)
        closing = pool.submit(group_commit.close)
        while not group_commit._closed:
            time.sleep(0.001)
        release.set()
        closing.result(30)
        found = [future.exception(30) for future in futures]
    assert {None, "store.closed"} >= {getattr(error, "code", None) for error in found}
    assert found.count(None) >= 2, "what was accepted was committed"


@pytest.mark.parametrize(
    "code", ["store.connections", "store.login", "store.unreachable", "store.locked", "store.rights"]
)
def test_a_server_that_refuses_all_is_asked_once(code):
    """Not once for each that waits: every one would be a login, or a wait for a lock, of its own."""
    asked, go = [], threading.Event()

    def commit(group):
        asked.append(len(group))
        go.wait(60)
        raise UnavailableError("no", code=code)

    group_commit = GroupCommit(commit)

    async def main():
        waiting = [group_commit.append_async(Work(())) for _ in range(50)]
        go.set()
        return await asyncio.gather(*waiting, return_exceptions=True)

    results = asyncio.run(main())
    group_commit.close()
    assert [error.code for error in results] == [code] * 50
    assert sum(asked) == 50
