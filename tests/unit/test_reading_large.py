"""Reading without the whole: ids from the index, one row, the slots of a scope, a page. Each is what the whole says."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import story
from muniment.app import late_part, memo_parts, projecting
from muniment.app.reading import Reader
from muniment.app.references import COMPARED, near_names
from muniment.domain.errors import NotFoundError, UsageError
from muniment.ops.bench import data
from muniment.projections.fold import Stopped
from muniment.store.api import Draft
from muniment.store.memory import MemoryLog

NOW = data.START_US + 10**12
WHOLE = {"build": "builds", "incident": "incidents", "pack": "packs", "release": "releases", "slot": "slots"}


@pytest.fixture(autouse=True)
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_parts, "LARGE", 2)
    monkeypatch.setattr(late_part, "BLOCK", 4)
    monkeypatch.setattr(projecting, "STRIDE", 64)
    monkeypatch.setattr(projecting, "SAVE_AFTER", 16)


@pytest.fixture(params=["fleet", "story"])
def log(request: pytest.FixtureRequest) -> MemoryLog:
    if request.param == "fleet":
        made = MemoryLog()
        data.fill(made, 500)
        return made
    clock = story.Clock()
    made = MemoryLog(clock=clock)
    story.Story(made, clock).whole()
    return made


def reader(log: MemoryLog, base: Path, as_of: int | None = None) -> Reader:
    return Reader(log, now=NOW, base=base, as_of=as_of)


def test_a_whole_id_is_found_without_a_fold(log: MemoryLog, tmp_path: Path) -> None:
    model = reader(log, tmp_path).model
    for kind, part in WHOLE.items():
        for id_ in getattr(model, part):
            looking = reader(log, tmp_path)
            named = looking.resolve(id_ if kind == "slot" else f"{kind}:{id_}".replace("pack:", ""))
            folded = reader(log, tmp_path)
            assert folded.model
            assert named == folded.resolve(f"{kind}:{id_}".replace("pack:", ""))
            if kind != "slot":  # one that is only declared is known by its channel
                assert looking._current is None


def appended(log: MemoryLog, like: int, **changed: Any) -> None:
    """One more record, made of another."""
    body = json.loads(next(log.read(after=like - 1, until=like))[1])
    record = {**body, "id": "00000000-0000-7000-8000-000000000000", "recorded_at": "", **changed}
    head, mark, tail = json.dumps(record, sort_keys=True).encode().partition(b'"recorded_at": "')
    log.append([Draft(record["id"], record["type"], tuple(record["tags"]), head + mark, tail)])


def test_a_short_name_that_two_things_have_stays_ambiguous(tmp_path: Path) -> None:
    log = MemoryLog()
    data.fill(log, 100)
    declared = json.loads(next(log.read(after=2, until=3))[1])["data"]
    appended(log, 3, data={**declared, "channel": "prod/b-0000001"}, tags=["scope:*", "scope:prod/b-0000001"])
    with pytest.raises(UsageError, match="may be"):
        reader(log, tmp_path).resolve("b-0000001")
    assert reader(log, tmp_path).resolve("b-0000002").kind == "build"


def test_what_was_only_refused_is_not_known(tmp_path: Path) -> None:
    clock = story.Clock()
    log = MemoryLog(clock=clock)
    teller = story.Story(log, clock)
    teller.whole()
    appended(log, 4, type="command.refused/1", tags=["build:b-9"])
    with pytest.raises(NotFoundError):
        reader(log, tmp_path).resolve("b-9", kinds=("build",))


@pytest.mark.parametrize("as_of", [None, 90])
def test_a_row_is_the_row_of_the_projection(log: MemoryLog, tmp_path: Path, as_of: int | None) -> None:
    whole = reader(log, tmp_path, as_of)
    for kind, part in WHOLE.items():
        for row in whole.rows(part)["data"]:
            assert reader(log, tmp_path, as_of).row(kind, row[kind]) == row
        assert reader(log, tmp_path, as_of).row(kind, "none/of/these") is None


@pytest.mark.parametrize(
    "scope", ["*", "prod", "prod/stable", "prod/stable/c-01", "prod/stable/eu", "no/such"]
)
@pytest.mark.parametrize("as_of", [None, 1, 64, 100])
@pytest.mark.parametrize("memos", [True, False])
def test_the_slots_of_a_scope_are_those_of_the_whole(
    log: MemoryLog, tmp_path: Path, as_of: int | None, scope: str, memos: bool
) -> None:
    if memos:
        assert reader(log, tmp_path).model
    expected = [
        row
        for row in reader(log, tmp_path / "whole", as_of).rows("slots")["data"]
        if scope == "*" or f"{row['slot']}/".startswith(f"{scope}/")
    ]
    assert reader(log, tmp_path, as_of).slots(scope) == expected


def test_a_type_nobody_knows_stops_the_view_of_a_scope_too(tmp_path: Path) -> None:
    clock = story.Clock()
    log = MemoryLog(clock=clock)
    story.Story(log, clock).whole()
    appended(log, 4, type="intake.invented/9")
    with pytest.raises(Stopped):
        reader(log, tmp_path).slots("prod/stable/eu")


@pytest.mark.parametrize("part", ["builds", "releases"])
def test_a_page_of_entities_has_the_rows_of_the_list(log: MemoryLog, tmp_path: Path, part: str) -> None:
    for _ in range(2):  # from a fold, then from a memo
        whole = reader(log, tmp_path).rows(part)["data"]
        ids = list(getattr(reader(log, tmp_path).model, part))
        for start in range(0, len(ids), 3):
            page = reader(log, tmp_path)
            page.narrow(part, ids[start : start + 3])
            assert page.rows(part)["data"] == whole[start : start + 3]


def test_near_names_of_very_many_are_looked_for_where_the_text_begins() -> None:
    many = [f"b-{n:07d}" for n in range(20 * COMPARED)]
    assert near_names("b-0000123x", many, 1) == ["b-0000123"]
    assert near_names("", many, 1) == []
    assert near_names("zzz", many, 1) == []
    assert near_names("bb-1", ["b-1", "c-1"], 1) == ["b-1"]
