"""The seam of the SQLite index: rows up to `head.indexed`, the tail after them, and everybody who may stand between."""

from __future__ import annotations

import json
import os
import sqlite3
from collections import defaultdict
from collections.abc import Callable
from pathlib import Path

import pytest
from muniment.domain.errors import UnavailableError, WrongError
from muniment.domain.query import Item
from muniment.store import index_tail, writer
from muniment.store.api import AppendConflict, Condition
from muniment.store.sqlite_log import SqliteLog

A, B, BOTH = Item(tags=("a",)), Item(tags=("b",)), Item(tags=("a", "b"))
EVEN, TYPED = Item(("even/1",)), Item(("even/1",), ("a",))
DENSE = Item(tags=("all", "most"))
ITEMS = (A, B, BOTH, EVEN, TYPED, DENSE)
EVERY = 8


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(writer, "INDEX_EVERY", EVERY)
    monkeypatch.setattr(index_tail, "ROW_ENTRIES", 3)


def type_of(n: int) -> str:
    return "even/1" if n % 2 == 0 else "odd/1"


def tags_of(n: int) -> list[str]:
    tags = {"a": n % 3 == 0, "b": n % 4 == 0, "most": n % 5 != 0, "all": True, f"n:{n}": True}
    return [tag for tag, wanted in tags.items() if wanted]


@pytest.fixture
def nth(draft) -> Callable[[int], object]:
    """The n-th record of a story in which every item has matches, and gaps."""

    def made(n: int):
        return draft(n, type_of(n), tags_of(n))

    return made


def matching(item: Item, after: int, until: int) -> list[int]:
    return [n for n in range(after + 1, until + 1) if item.matches(type_of(n), set(tags_of(n)))]


def positions(log: SqliteLog, *items: Item, **bounds: object) -> list[int]:
    return [position for position, _ in log.read(items, **bounds)]


def indexed(folder: Path) -> int:
    db = sqlite3.connect(folder / "log.db")
    try:
        return int(db.execute("SELECT indexed FROM head").fetchone()[0])
    finally:
        db.close()


def check_index(folder: Path) -> None:
    """The rows of the index are what the bodies up to `indexed` make, and nothing else."""
    db = sqlite3.connect(folder / "log.db")
    size, upto = db.execute("SELECT size, indexed FROM head").fetchone()
    assert 0 <= size - upto < EVERY
    numbers: dict[str, int] = {}
    expected: dict[object, list[int]] = defaultdict(list)
    for position, body in db.execute(
        "SELECT position, body FROM records WHERE position <= ? ORDER BY 1", (upto,)
    ):
        record = json.loads(body)
        number = numbers.setdefault(record["type"], len(numbers) + 1)
        for term in (number, *record["tags"]):
            expected[term].append(position << 24 | number)
    found: dict[object, list[int]] = defaultdict(list)
    for term, first, data in db.execute("SELECT term, first, entries FROM postings ORDER BY term, first"):
        entries = [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]
        assert 1 <= len(entries) <= 3
        assert first == entries[0] >> 24
        found[term] += entries
    assert expected == found
    assert numbers == dict(db.execute("SELECT name, id FROM types"))
    db.close()


def test_rows_come_when_they_are_due_and_say_what_the_bodies_say(sqlite_folder, nth):
    with SqliteLog.open(sqlite_folder) as log:
        for n in range(1, 30):
            log.append([nth(n)])
            assert indexed(sqlite_folder) == n - n % EVERY
            assert [n] == positions(log, Item(tags=(f"n:{n}",))), "seen at once"
        log.append([nth(n) for n in range(30, 60)])
        assert indexed(sqlite_folder) == 59, "a batch takes what waits with it"
    check_index(sqlite_folder)


@pytest.mark.parametrize("size", [EVERY - 1, EVERY, EVERY + 1, 5 * EVERY + 3])
def test_a_query_crosses_the_seam_from_any_position_to_any_other(sqlite_folder, nth, size):
    with SqliteLog.open(sqlite_folder) as log:
        for n in range(1, size + 1):
            log.append([nth(n)])
        for item in ITEMS:
            for after in range(size + 1):
                for until in (after, min(after + 1, size), size - 1, size):
                    expected = matching(item, after, until)
                    assert expected == positions(log, item, after=after, until=until)
                    assert expected[::-1][:2] == positions(
                        log, item, after=after, until=until, reverse=True, limit=2
                    )
            assert max(matching(item, 0, size), default=0) == log.last_match((item,))
        union = sorted({n for item in ITEMS for n in matching(item, 0, size)})
        assert union == positions(log, *ITEMS)
        assert [] == positions(log, Item(tags=("never",)), Item(("never/1",)))


def test_a_reader_between_two_pages_does_not_notice_new_rows(sqlite_folder, nth):
    with SqliteLog.open(sqlite_folder) as log, SqliteLog.open(sqlite_folder) as reader:
        for n in range(1, EVERY):
            log.append([nth(n)])
        walks = {item: reader.pages((item,), size=1) for item in ITEMS}
        seen = {item: [page[0][0] for page in [next(walk)]] for item, walk in walks.items() if item != BOTH}
        for n in range(EVERY, 4 * EVERY):  # rows are written for what the reader holds in memory
            log.append([nth(n)])
        for item, found in seen.items():
            found += [page[0][0] for page in walks[item]]
            assert matching(item, 0, EVERY - 1) == found
        for item in ITEMS:
            assert matching(item, 0, 4 * EVERY - 1) == positions(reader, item)


def test_a_stale_tail_is_true_up_to_its_end_and_is_renewed_beyond(sqlite_folder, nth, monkeypatch):
    monkeypatch.setattr(index_tail, "MAX_TAIL", 3 * EVERY)
    monkeypatch.setattr("muniment.store.indexed_log.MAX_TAIL", 3 * EVERY)
    with SqliteLog.open(sqlite_folder) as log, SqliteLog.open(sqlite_folder, read_only=True) as reader:
        for n in range(1, 20 * EVERY):
            log.append([nth(n)])
            if n % 5 == 0:
                assert matching(A, 0, n) == positions(reader, A)
                assert reader._tail.size == n
                assert n - reader._tail.base < 3 * EVERY, "what is kept in memory is bounded"
        assert log._writer._tail.size - log._writer._tail.base < EVERY
        assert matching(BOTH, 10, 70) == positions(reader, BOTH, after=10, until=70)


def append_elsewhere(folder: Path, drafts: list[object]) -> None:
    """Append one by one in a process of its own."""
    child = os.fork()
    if child == 0:
        code = 1
        try:
            with SqliteLog.open(folder) as log:
                for one in drafts:
                    log.append([one])
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(child, 0)
    assert status == 0


def test_another_process_writes_rows_under_a_reader_and_a_writer(sqlite_folder, nth):
    with SqliteLog.open(sqlite_folder) as log, SqliteLog.open(sqlite_folder, read_only=True) as reader:
        log.append([nth(n) for n in range(1, 4)])
        assert [3] == positions(log, A) == positions(reader, A)
        append_elsewhere(sqlite_folder, [nth(n) for n in range(4, 31)])
        assert matching(A, 0, 30) == positions(log, A) == positions(reader, A)
        with pytest.raises(AppendConflict) as caught:
            log.append([nth(31)], Condition((A,), 3))
        assert caught.value.context["position"] == 30
        with pytest.raises(AppendConflict):
            log.append([nth(31)], Condition((A,), 29))
        assert log.append([nth(31)], Condition((A, BOTH), 30)).first == 31
        assert log.append([nth(5)]).duplicate
        log.append([nth(n) for n in range(32, 50)])
        assert matching(BOTH, 0, 49) == positions(reader, BOTH)
    check_index(sqlite_folder)


@pytest.mark.parametrize("after", [1, EVERY - 1, EVERY, EVERY + 2, 3 * EVERY - 1])
def test_a_condition_sees_rows_tail_and_its_own_group(sqlite_folder, nth, draft, after):
    with SqliteLog.open(sqlite_folder) as log:
        for n in range(1, 3 * EVERY + 1):
            log.append([nth(n)])
        for reopened in (False, True):
            with SqliteLog.open(sqlite_folder) if reopened else log as writer:
                for item in ITEMS:
                    condition = Condition((item,), after)
                    if matching(item, after, 3 * EVERY):
                        with pytest.raises(AppendConflict):
                            writer.append([draft("x")], condition)
                never = Condition((Item(("odd/1",), ("a", "b")), Item(tags=("n:1",))), after)
                assert writer.append([draft(f"y{reopened}", "none/1")], never).first


def test_a_failed_transaction_takes_its_rows_with_it(sqlite_folder, nth):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([nth(n) for n in range(1, EVERY)])
        db = log._writer._db
        db.execute(f"PRAGMA max_page_count = {db.execute('PRAGMA page_count').fetchone()[0] + 2}")
        with pytest.raises(UnavailableError):
            log.append([nth(n)._replace(tags=(f"{n:05d}" * 900,)) for n in range(EVERY, 30)])
        assert indexed(sqlite_folder) == 0
        assert matching(A, 0, EVERY - 1) == positions(log, A)
        db.execute("PRAGMA max_page_count = 100000")
        log.append([nth(n) for n in range(EVERY, 30)])
        assert matching(BOTH, 0, 29) == positions(log, BOTH)
    check_index(sqlite_folder)


def cost(log: SqliteLog, use: Callable[[], object]) -> tuple[int, int]:
    """Statements, and rows they returned."""
    count = [0, 0]
    run = log._run

    def counting(sql, parameters):
        rows = run(sql, parameters)
        count[0] += 1
        count[1] += len(rows)
        return rows

    log._run = counting
    use()
    del log._run
    return count[0], count[1]


def test_the_cost_of_a_history_does_not_grow_with_the_log(sqlite_folder, draft):
    """Statements and rows, not time; `ops/bench/growth.py` measures the time."""
    costs = []
    with SqliteLog.open(sqlite_folder) as log:
        for size in (300, 3000):
            done = log.head().size
            log.append([draft(n, f"t{n % 3}/1", ["all", f"few:{n % 50}"]) for n in range(done + 1, size + 1)])
            log.append([draft(f"own{size}", "own/1", [f"own:{size}"])])
            list(log.read((Item(tags=("all",)),), limit=1))  # the tail is renewed
            few, all_, own = (Item(tags=(tag,)) for tag in ("few:7", "all", f"own:{size}"))
            costs.append(
                [
                    cost(log, lambda: list(log.read((few,), limit=5))),  # noqa: B023
                    cost(log, lambda: list(log.read((all_,), limit=50))),  # noqa: B023
                    cost(log, lambda: log.last_match((all_, few))),  # noqa: B023
                    cost(log, lambda: log.last_match((own,))),  # noqa: B023
                ]
            )
    assert costs[0] == costs[1]
    assert max(rows for some in costs for _, rows in some) < 200


def open_up(folder: Path, sql: str) -> None:
    db = sqlite3.connect(folder / "log.db")
    for (name,) in db.execute("SELECT name FROM sqlite_master WHERE type = 'trigger'").fetchall():
        db.execute(f"DROP TRIGGER {name}")
    db.executescript(sql)
    db.close()


@pytest.mark.parametrize(
    ("sql", "code"),
    [
        ("DELETE FROM records WHERE position = 3", "store.index"),
        ("UPDATE postings SET entries = x'0102' WHERE term = 'a'", "store.index"),
        ("UPDATE postings SET entries = 'text' WHERE term = 'a'", "store.index"),
        ("UPDATE head SET indexed = 0 - 1", "store.head_mismatch"),
        ("UPDATE head SET indexed = 99", "store.head_mismatch"),
        ("UPDATE head SET indexed = 0, size = 5000", "store.head_mismatch"),
        ("DELETE FROM records WHERE position = 10", "store.head_mismatch"),
        ("DELETE FROM records WHERE position = 11", "store.head_mismatch"),
        ("UPDATE records SET body = x'ff' WHERE position = 10", "store.leaf"),
        ("""UPDATE records SET body = '{"type":"t"}' WHERE position = 10""", "store.leaf"),
        ("""UPDATE records SET body = '{"type":1,"tags":[]}' WHERE position = 10""", "store.leaf"),
    ],
)
def test_an_index_that_cannot_be_true_is_a_fault_and_never_an_answer(sqlite_folder, nth, sql, code):
    with SqliteLog.open(sqlite_folder) as log:
        log.append([nth(n) for n in range(1, EVERY + 1)])
        log.append([nth(n) for n in range(EVERY + 1, EVERY + 4)])
    open_up(sqlite_folder, sql)
    with SqliteLog.open(sqlite_folder) as log:
        for _ in range(2):  # nor the second time
            with pytest.raises(WrongError) as caught:
                positions(log, A)
            assert caught.value.code == code
