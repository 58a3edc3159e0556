"""Appends: positions, conditions, ids, time, hashes, size (`store.api`, promises 1 to 6)."""

from __future__ import annotations

import json

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muniment.domain import instant
from muniment.domain.errors import InvalidError, UnavailableError
from muniment.domain.query import Item
from muniment.store import index_tail, merkle, writer
from muniment.store.api import MAX_RECORD, AppendConflict, Condition, Draft, StaleDecision
from muniment.store.memory import MemoryLog
from muniment.store.sqlite_log import SqliteLog

A, B = Item(tags=("a",)), Item(tags=("b",))


def test_an_empty_log(log):
    assert log.head() == (0, merkle.EMPTY_ROOT, "")
    assert log.frontier() == (0, [])
    assert [] == list(log.read()) == list(log.pages()) == list(log.leaves())
    assert log.last_match(()) == 0
    assert log.store_id == ""


def test_positions_bytes_and_head(log, draft, clock):
    first = log.append([draft(1), draft(2, tags=["a", "b"])])
    second = log.append([draft(3)])
    assert (first.first, first.last, second.first, second.last) == (1, 2, 3, 3)
    assert not first.duplicate
    drafts = [draft(1), draft(2, tags=["a", "b"]), draft(3)]
    stamps = [first.recorded_at, first.recorded_at, second.recorded_at]
    bodies = [d.leaf(at) for d, at in zip(drafts, stamps, strict=True)]
    assert list(enumerate(bodies, 1)) == list(log.read())
    hashes = [merkle.leaf_hash(body) for body in bodies]
    assert hashes == list(log.leaves())
    assert hashes[1:2] == list(log.leaves(after=1, until=2))
    assert (3, merkle.root(hashes), second.recorded_at) == log.head()
    size, roots = log.frontier()
    assert merkle.root(hashes) == merkle.Frontier(size, roots).root()
    assert {drafts[2].id: 3} == log.positions_of([drafts[2].id, draft(9).id, "no id", "zz"])


def test_the_store_id_is_in_the_first_record(log, draft):
    log.append([draft(0, "store.created/1", data={"store_id": "s-1", "kind": "records"})])
    assert log.store_id == "s-1"


def test_another_first_record_names_no_store(log, draft):
    log.append([draft(0, data={"store_id": "s-1"})])
    assert log.store_id == ""


@pytest.mark.parametrize(
    ("query", "broken"),
    [
        ((A,), True),
        ((B,), False),
        ((B, A), True),
        ((Item(("t/1",), ("a",)),), True),
        ((Item(("u/1",), ("a",)),), False),
        ((Item(("t/1",)),), True),
        ((Item(("u/1",)),), False),
        ((Item(tags=("a", "b")),), False),
        ((), True),
        ((Item(),), True),
    ],
)
def test_a_condition(log, draft, query, broken):
    log.append([draft(1, "u/1", ["b"])])
    log.append([draft(2, "t/1", ["a"])])
    log.append([draft(3, "v/1", ["c"])], Condition(query, 3 - 1))
    if broken:
        with pytest.raises(AppendConflict) as caught:
            log.append([draft(4)], Condition(query, 1))
        assert caught.value.exit_code == 5
        assert log.head().size == 3
    else:
        assert log.append([draft(4)], Condition(query, 1)).first == 4


def test_a_condition_ahead_of_the_log_is_a_conflict(log, draft):
    log.append([draft(1)])
    with pytest.raises(AppendConflict, match="not reached"):
        log.append([draft(2)], Condition((A,), 2))


def test_a_batch_does_not_break_its_own_condition(log, draft):
    done = log.append([draft(1, tags=["a"]), draft(2, tags=["a"])], Condition((A,), 0))
    assert done.last == 2
    with pytest.raises(AppendConflict):
        log.append([draft(3, tags=["a"])], Condition((A,), 1))


names = st.sampled_from(["a", "b", "c"])
tag_sets = st.lists(names, unique=True, max_size=3)
types = st.sampled_from(["t/1", "u/1", "v/1"])
queries = st.lists(
    st.tuples(st.lists(types, unique=True, max_size=2), tag_sets).map(
        lambda pair: Item(tuple(pair[0]), tuple(sorted(pair[1])))
    ),
    max_size=3,
).map(tuple)
steps = st.lists(
    st.tuples(
        st.lists(st.tuples(types, tag_sets), min_size=1, max_size=3),
        st.none() | st.tuples(queries, st.integers(0, 4)),
        st.booleans(),
    ),
    min_size=1,
    max_size=10,
)


def naive(records, query, after, until):
    return [
        position
        for position, (type_, tags) in enumerate(records, 1)
        if after < position <= until and (not query or any(i.matches(type_, set(tags)) for i in query))
    ]


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    plan=steps,
    queries_=st.lists(queries, max_size=3),
    page=st.integers(1, 5),
    every=st.sampled_from([1, 2, 4, 7, 512]),
)
def test_conditions_and_reads_agree_with_a_naive_model(tmp_path_factory, draft, plan, queries_, page, every):
    folder = tmp_path_factory.mktemp("model") / "s"
    sqlite, memory = SqliteLog.create(folder, kind="records"), MemoryLog()
    records: list[tuple[str, list[str]]] = []
    monkeypatch = pytest.MonkeyPatch()
    monkeypatch.setattr(writer, "INDEX_EVERY", every)
    monkeypatch.setattr(index_tail, "ROW_ENTRIES", 2)
    try:
        for batch, condition, reopen in plan:
            if reopen:
                sqlite.close()
                sqlite = SqliteLog.open(folder)
            drafts = [draft(len(records) + i, *one) for i, one in enumerate(batch)]
            after = 0 if condition is None else max(len(records) - condition[1], 0)
            given_ = None if condition is None else Condition(condition[0], after)
            refused = condition is not None and naive(records, condition[0], after, len(records))
            for log in (sqlite, memory):
                if refused:
                    with pytest.raises(AppendConflict):
                        log.append(drafts, given_)
                else:
                    assert log.append(drafts, given_).last == len(records) + len(batch)
            if not refused:
                records += batch
        size = len(records)
        for log in (sqlite, memory):
            bodies = dict(log.read())
            for query in [*queries_, ()]:
                for after, until in ((0, None), (1, size - 1), (size, size), (0, size + 5)):
                    end = size if until is None else until
                    expected = naive(records, query, after, end)
                    pages = list(log.pages(query, after=after, until=until, size=page))
                    assert all(0 < len(rows) <= page for rows in pages)
                    assert [(p, bodies[p]) for p in expected] == [row for rows in pages for row in rows]
                    for limit in (None, 0, 1, 3):
                        found = [p for p, _ in log.read(query, after=after, until=until, limit=limit)]
                        assert expected[:limit] == found
                        found = [
                            p for p, _ in log.read(query, after=after, until=until, limit=limit, reverse=True)
                        ]
                        assert expected[::-1][:limit] == found
                    assert max(naive(records, query, 0, end), default=0) == log.last_match(query, until=until)
    finally:
        monkeypatch.undo()
        sqlite.close()
        memory.close()


def test_many_arms_are_split_and_merged(log, draft):
    log.append([draft(n, f"t{n % 130}/1", [f"g{n % 7}"]) for n in range(1, 400)])
    query = (Item(tuple(f"t{n}/1" for n in range(125))), Item(tags=("g3",)))
    expected = [n for n in range(1, 400) if n % 130 < 125 or n % 7 == 3]
    assert expected == [n for n, _ in log.read(query)]
    assert expected[::-1] == [n for n, _ in log.read(query, reverse=True)]
    assert expected[40:50] == next(
        iter([[n for n, _ in p] for p in log.pages(query, after=expected[39], size=10)])
    )
    assert log.last_match(query) == expected[-1]


def test_the_same_record_again_is_a_duplicate(log, draft):
    first = log.append([draft(1, tags=["a"]), draft(2)])
    log.append([draft(3)])
    again = log.append([draft(1, tags=["a"]), draft(2)])
    assert first._replace(duplicate=True) == again
    assert log.head().size == 3


@pytest.mark.parametrize("name", ["signature", "basis", "occurred_at"])
def test_what_a_retry_makes_anew_is_not_content(log, draft, name):
    log.append([draft(1, **{name: "one"})])
    assert log.append([draft(1, **{name: "two"})]).duplicate


@pytest.mark.parametrize(
    "change", [{"data": {"n": True}}, {"actor": "x"}, {"type_": "other/1"}, {"tags": ["x"]}]
)
def test_an_id_with_other_content_is_a_conflict(log, draft, change):
    log.append([draft(1)])
    with pytest.raises(AppendConflict, match="other content"):
        log.append([draft(1, **change)])
    assert log.head().size == 1


def test_a_duplicate_comes_before_condition_and_age(make, draft, clock):
    log = make(clock=clock)
    log.append([draft(1, tags=["a"])], Condition((A,), 0))
    assert log.append([draft(1, tags=["a"])], Condition((A,), 0)).duplicate
    assert log.append([draft(1, tags=["a"])], decided_at=clock.now - 60_000_000).duplicate
    assert log.append([draft(1, tags=["a"])], Condition((A,), 99)).duplicate


@pytest.mark.parametrize("batch", [[1, 2], [2, 1], [0, 1, 2], [3, 1]])
def test_a_batch_that_is_partly_there_or_elsewise_is_a_conflict(log, draft, batch):
    log.append([draft(1)])
    log.append([draft(3)])
    with pytest.raises(AppendConflict, match="in the log"):
        log.append([draft(n) for n in batch])
    assert log.head().size == 2


def test_an_id_twice_in_a_batch_is_refused(log, draft):
    with pytest.raises(AppendConflict, match="twice"):
        log.append([draft(1), draft(2), draft(1)])
    assert log.head().size == 0


def _bad(draft) -> list[list[Draft]]:
    good = draft(1)
    return [
        [],
        [good._replace(id=None)],
        [good._replace(tail=None)],
        [good._replace(id="not-an-id")],
        [good._replace(id=good.id.upper())],
        [good._replace(id=good.id.replace("-", ""))],
        [good._replace(tags=("b", "a"))],
        [good._replace(tags=("a", "a"))],
        [good, good._replace(id=None, tail=None)],
        [draft(2, data="x" * MAX_RECORD)],
    ]


@pytest.mark.parametrize("index", range(10))
def test_a_malformed_draft_is_refused_and_its_batch_with_it(log, draft, index):
    with pytest.raises(InvalidError):
        log.append(_bad(draft)[index])
    assert log.head().size == 0


def test_the_largest_record_fits_and_one_byte_more_does_not(log, draft):
    empty = len(draft(1, data="").leaf("0" * 27))
    log.append([draft(1, data="x" * (MAX_RECORD - empty))])
    assert len(next(log.read())[1]) == MAX_RECORD
    with pytest.raises(InvalidError, match="too large"):
        log.append([draft(1, data="x" * (MAX_RECORD - empty + 1))])


def test_an_opaque_log_begins_with_our_record_and_takes_no_other(make, draft, event):
    log = make("opaque")
    with pytest.raises(InvalidError, match="position 1"):
        log.append([event(1)])
    with pytest.raises(InvalidError):
        log.append([draft(0)])
    created = draft(0, "store.created/1", data={"store_id": "s", "kind": "opaque"})
    with pytest.raises(InvalidError, match="position 1"):
        log.append([created, event(1)])
    log.append([created])
    assert log.append([event(1), event(1)]).last == 3, "events have no id and may repeat"
    assert log.append([created]).duplicate
    with pytest.raises(InvalidError, match="position 1"):
        log.append([draft(7, "store.created/1")])
    assert [body for _, body in log.read(after=1)] == [b'{"n": 1, "type": "event", "tags": []}'] * 2
    assert log.store_id == "s"


def test_a_records_log_takes_no_foreign_event(log, event):
    with pytest.raises(InvalidError, match="of kind records"):
        log.append([event(1)])


def test_the_clock_backwards_equal_and_in_2099(make, draft, clock):
    log = make(clock=clock)
    year_2099 = 4_070_908_800_000_000
    now = clock.now
    stamps = []
    for n, micros in enumerate((now, now, now - 1_000_000, now + 5, year_2099, now + 10, now + 20)):
        clock.now = micros
        stamps.append(log.append([draft(n)], decided_at=micros).recorded_at)
    far = instant.from_micros(year_2099)
    assert [instant.from_micros(now)] * 3 + [instant.from_micros(now + 5)] + [far] * 3 == stamps
    assert stamps == [json.loads(body)["recorded_at"] for _, body in log.read()]
    assert far == log.head().recorded_at


def test_a_decision_ages_by_the_raw_clock(make, draft, clock):
    log = make(clock=clock)
    log.append([draft(1)], decided_at=clock.now - 5_000_000)
    with pytest.raises(StaleDecision):
        log.append([draft(2)], decided_at=clock.now - 5_000_001)
    assert log.head().size == 1


def test_a_closed_log_answers_nothing(make, draft):
    log = make()
    log.append([draft(1)])
    log.close()
    log.close()
    for use in (
        lambda: log.append([draft(2)]),
        log.head,
        lambda: list(log.read()),
        lambda: list(log.leaves()),
        lambda: log.positions_of([draft(1).id]),
        lambda: log.last_match((A,)),
    ):
        with pytest.raises(UnavailableError, match="closed"):
            use()
