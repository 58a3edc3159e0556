"""References, lists, pages and single records: what a reader asks and is answered."""

from __future__ import annotations

import base64
import json
import threading
from pathlib import Path
from typing import Any

import pytest
import story
from muniment.app import history
from muniment.app.reading import Reader, Ref
from muniment.domain.errors import MunimentError, NotFoundError, UsageError
from muniment.store.memory import MemoryLog

FIRST = story.Story(MemoryLog(), story.Clock()).pack_id("b-1")
SECOND = story.Story(MemoryLog(), story.Clock()).pack_id("b-2")


@pytest.fixture(scope="module")
def told(tmp_path_factory: pytest.TempPathFactory) -> tuple[MemoryLog, Any, Path]:
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    teller = story.Story(log, clock)
    teller.whole()
    teller.declared("test/stable", "eu")
    teller.declared("test/lts", "eu")
    teller.declared("test/lts", "us")
    return log, teller, tmp_path_factory.mktemp("home")


@pytest.fixture
def reader(told: tuple[MemoryLog, Any, Path]) -> Reader:
    log, teller, home = told
    return Reader(log, now=teller.clock.now, base=home)


def positions(page: dict[str, Any]) -> list[int]:
    return [row["position"] for row in page["data"]]


# -- references --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "kind", "id_"),
    [
        ("prod/stable/eu", "slot", "prod/stable/eu"),
        ("slot:prod/stable/eu", "slot", "prod/stable/eu"),
        ("prod/stable", "channel", "prod/stable"),
        ("lts", "channel", "test/lts"),
        ("b-1", "build", "b-1"),
        ("r-2", "release", "r-2"),
        ("i-1", "incident", "i-1"),
        ("in-2", "intake", "in-2"),
        ("intake:in-2", "intake", "in-2"),
        (FIRST, "pack", FIRST),
        (f"pack:{FIRST[7:10]}", "pack", FIRST),
        (FIRST[7:13], "pack", FIRST),
        (SECOND[:20], "pack", SECOND),
    ],
)
def test_a_reference_names_one_thing(reader: Reader, text: str, kind: str, id_: str) -> None:
    assert Ref(kind, id_) == reader.resolve(text)


def test_records_by_position_id_and_prefix(reader: Reader) -> None:
    whole = reader.resolve("#40")
    assert (whole.kind, whole.position) == ("record", 40)
    assert reader.resolve(whole.id) == whole
    assert reader.resolve(whole.id[:24]) == whole


@pytest.mark.parametrize(
    ("text", "position"),
    [
        ("prod/stable/eu~0", 90),
        ("prod/stable~1", 79),
        ("prod/stable/eu~2", 37),
        ("prod/stable@2026-09-22", 90),
    ],
)
def test_changes_before_the_last(reader: Reader, text: str, position: int) -> None:
    assert reader.resolve(text).position == position


@pytest.mark.parametrize(
    ("text", "candidates"),
    [
        ("stable", ["channel:prod/stable", "channel:test/stable"]),
        ("0190", []),
    ],
)
def test_an_ambiguous_reference_lists_its_candidates(
    reader: Reader, text: str, candidates: list[str]
) -> None:
    with pytest.raises((UsageError, NotFoundError)) as error:
        reader.resolve(text)
    assert error.value.context.get("candidates", []) == candidates


def test_an_id_of_two_things_is_ambiguous(told: tuple[MemoryLog, Any, Path], tmp_path: Path) -> None:
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    teller = story.Story(log, clock)
    teller.init()
    teller.taken("same")
    teller.built("same", "same")
    reader = Reader(log, now=clock.now, base=tmp_path)
    with pytest.raises(UsageError) as error:
        reader.resolve("same")
    assert error.value.context["candidates"] == ["build:same", "intake:same"]
    assert reader.resolve("build:same").kind == "build"
    assert reader.resolve("same", kinds=("intake",)).kind == "intake"


@pytest.mark.parametrize(
    ("text", "error"),
    [
        ("nothing", NotFoundError),
        ("r-9", NotFoundError),
        ("pack:ffffff", NotFoundError),
        ("#0", NotFoundError),
        ("#107", NotFoundError),
        ("#x", UsageError),
        ("#", UsageError),
        ("#-1", UsageError),
        ("thing:b-1", UsageError),
        ("prod/stable/eu~3", NotFoundError),
        ("prod/stable/eu@2020-01-01", NotFoundError),
        ("prod/stable/eu@yesterday", UsageError),
        ("lts~1", UsageError),
        ("01900000-0000-7000-8000-000000000000", NotFoundError),
        ("", NotFoundError),
        ("77c10", NotFoundError),
        ("PROD/STABLE", NotFoundError),
    ],
)
def test_what_names_nothing_says_so(reader: Reader, text: str, error: type[MunimentError]) -> None:
    with pytest.raises(error):
        reader.resolve(text)


def test_near_misses_are_named(reader: Reader) -> None:
    with pytest.raises(NotFoundError) as error:
        reader.resolve("prod/stabel")
    assert "channel:prod/stable" in error.value.context["near"]  # type: ignore[operator]


def test_a_channel_of_one_cohort_is_a_slot(reader: Reader) -> None:
    assert reader.slot("prod/stable").id == "prod/stable/eu"
    with pytest.raises(UsageError) as error:
        reader.slot("lts")
    assert error.value.context["candidates"] == ["slot:test/lts/eu", "slot:test/lts/us"]


# -- points in the past ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("as_of", "until"), [("60", 60), ("#60", 60), (0, 0), ("r-1", 44), ("2026-09-20", 0)]
)
def test_as_of_a_point(told: tuple[MemoryLog, Any, Path], as_of: str | int, until: int) -> None:
    log, teller, home = told
    reader = Reader(log, now=teller.clock.now, base=home, as_of=as_of)
    assert reader.until == until
    assert max(positions(history.listed(reader, limit=500)), default=0) == until
    assert reader.current.cursor.position == until


def test_as_of_shows_the_state_then(told: tuple[MemoryLog, Any, Path]) -> None:
    log, teller, home = told
    then = Reader(log, now=teller.clock.now, base=home, as_of="#80").rows("slots")
    assert then["as_of"] == 80
    assert then["data"][0]["targets"][0]["active"] == SECOND
    now = Reader(log, now=teller.clock.now, base=home).rows("slots", {"slot": "prod/stable/eu"})
    assert now["data"][0]["targets"][0]["active"] == FIRST


@pytest.mark.parametrize("as_of", [200, "#200", "nothing", "2026-13-01", "-1"])
def test_as_of_what_is_not_in_the_log(told: tuple[MemoryLog, Any, Path], as_of: str | int) -> None:
    log, teller, home = told
    with pytest.raises(MunimentError):
        Reader(log, now=teller.clock.now, base=home, as_of=as_of)


def test_times_are_found_by_search(reader: Reader) -> None:
    stamps = [reader.recorded_at(position) for position in range(1, reader.size + 1)]
    for position in (1, 5, 44, reader.size):
        expected = max(i for i, stamp in enumerate(stamps, 1) if stamp <= stamps[position - 1])
        assert reader.before(stamps[position - 1]) == expected


def test_rows_refuse_what_is_no_field_or_projection(reader: Reader) -> None:
    with pytest.raises(UsageError):
        reader.rows("slots", {"colour": "red"})
    with pytest.raises(UsageError):
        reader.rows("nothing")


# -- lists -------------------------------------------------------------------------------------------------------------


def test_all_records_newest_last(reader: Reader) -> None:
    page = history.listed(reader, limit=500)
    assert page["schema"] == "history.list/1"
    assert positions(page) == list(range(1, reader.size + 1))
    assert page["next"] is None
    assert json.loads(json.dumps(page)) == page
    assert positions(history.listed(reader, limit=500, reverse=True)) == positions(page)[::-1]


@pytest.mark.parametrize("limit", [1, 7, 106])
@pytest.mark.parametrize("reverse", [False, True])
def test_pages_are_the_list(reader: Reader, limit: int, reverse: bool) -> None:
    where = {"slot": "prod/stable"} if limit == 7 else {}
    if where:
        where = {"slot": "prod/stable/eu"}
    expected = positions(history.listed(reader, where=where, limit=500, reverse=reverse))
    found: list[int] = []
    cursor = ""
    while True:
        page = history.listed(reader, where=where, limit=limit, reverse=reverse, cursor=cursor)
        found += positions(page)
        cursor = page["next"] or ""
        if not cursor:
            break
    assert expected == found


def test_a_cursor_stays_at_its_moment(tmp_path: Path) -> None:
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    teller = story.Story(log, clock)
    teller.whole()
    page = history.listed(Reader(log, now=clock.now, base=tmp_path), limit=100)
    teller.must(story.command("clock.accept", 1))
    rest = history.listed(Reader(log, now=clock.now, base=tmp_path), limit=100, cursor=page["next"])
    assert positions(rest) == [101, 102, 103]
    assert rest["as_of"] == page["as_of"] == 103


@pytest.mark.parametrize(
    ("where", "expected"),
    [
        ({"release": "r-1"}, [25, 26, 27, 28, 29, 30, 32, 42, 43, 44]),
        ({"type": "incident"}, [97, 99]),
        ({"type": "incident.noted"}, [99]),
        ({"type": "incident.noted/1"}, [99]),
        ({"actor": "bob"}, [97, 98]),
        ({"rule": "R9"}, [67]),
        ({"rule": "R9.pinned"}, [67]),
        ({"rule": "R"}, []),
        ({"tag": "incident:*"}, [97]),
        ({"scope": "prod/stable", "type": "channel"}, [24, 98]),
        ({"pack": SECOND[7:15], "slot": "prod/stable/eu", "type": "slot"}, [81, 91]),
        ({"rule": "R9", "type": "incident"}, []),
        ({"tag": "build:none"}, []),
    ],
)
def test_filters_narrow(reader: Reader, where: dict[str, str], expected: list[int]) -> None:
    assert positions(history.listed(reader, where=where)) == expected


def test_since_and_until_include_their_instants(reader: Reader) -> None:
    at = reader.recorded_at(44)
    same = [p for p in range(1, reader.size + 1) if reader.recorded_at(p) == at]
    assert positions(history.listed(reader, since=at, until=at)) == same
    assert positions(history.listed(reader, until="2026-09-20")) == []
    assert positions(history.listed(reader, since="2030-01-01T00:00:00+02:00")) == []


@pytest.mark.parametrize(
    "options",
    [
        {"where": {"colour": "red"}},
        {"where": {"type": "nothing"}},
        {"limit": 0},
        {"limit": 10**6},
        {"since": "soon"},
        {"until": "2026-09-21T00:00:00"},
        {"cursor": "x"},
        {"cursor": "äö"},
        {"cursor": base64.urlsafe_b64encode(b'[1,2,"x"]').decode()},
        {"cursor": base64.urlsafe_b64encode(b'{"a":1}').decode()},
        {"cursor": base64.urlsafe_b64encode(b"[" * 5000).decode()},
    ],
)
def test_what_makes_no_sense_is_refused(reader: Reader, options: dict[str, Any]) -> None:
    with pytest.raises(UsageError):
        history.listed(reader, **options)


def test_a_cursor_of_another_question_is_refused(reader: Reader) -> None:
    cursor = history.listed(reader, limit=5)["next"]
    for options in ({"reverse": True}, {"where": {"actor": "bob"}}, {"since": "2026-01-01"}):
        with pytest.raises(UsageError, match="another question"):
            history.listed(reader, cursor=cursor, **options)  # type: ignore[arg-type]


@pytest.mark.parametrize("text", ["#97", "i-1", "r-1", "b-2"])
def test_a_record_is_shown_whole(reader: Reader, text: str) -> None:
    (found,) = history.shown(reader, text)["data"]
    body = reader.body(found["position"])
    assert found["record"] == json.loads(body)
    assert found["bytes"] == len(body)
    assert bytes.fromhex(found["leaf"]) == list(reader.log.leaves())[found["position"] - 1]


def test_following_gives_what_comes_and_only_what_is_asked(tmp_path: Path) -> None:
    clock = story.Clock()
    log = MemoryLog("records", clock=clock)
    teller = story.Story(log, clock)
    teller.whole()
    reader = Reader(log, now=clock.now, base=tmp_path)
    follow = history.followed(log, reader, where={"actor": "carol"})
    rows: list[int] = []
    seen = threading.Event()

    def run() -> None:
        for row in follow:
            rows.append(row["position"])
            seen.set()

    thread = threading.Thread(target=run)
    thread.start()
    teller.must(story.command("clock.accept", 1))
    teller.must(story.command("clock.accept", 2), actor="carol")
    assert seen.wait(10)
    follow.stop()
    thread.join(10)
    assert rows == [105]
