"""Where memos are kept: one suite for the reader's folder and for PostgreSQL, and the ladder of a log over either."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
import story
from muniment.app import late_part, memo, memo_parts, projecting, rebuilding
from muniment.domain.errors import UnavailableError
from muniment.ops.bench import data
from muniment.store.memos import FolderMemos, MemoPlace, Step
from muniment.store.memos_postgres import CHUNK
from muniment.store.postgres_log import PostgresLog


@pytest.fixture
def shared_log(pg_url: str) -> Iterator[PostgresLog]:
    with PostgresLog.create(pg_url) as log:
        data.fill(log, 600)
        yield log


@pytest.fixture(params=["folder", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> MemoPlace:
    if request.param == "folder":
        return FolderMemos(tmp_path / "memos")
    log: PostgresLog = request.getfixturevalue("shared_log")
    return log.memo_place()


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(memo_parts, "LARGE", 2)
    monkeypatch.setattr(late_part, "BLOCK", 4)
    monkeypatch.setattr(projecting, "STRIDE", 64)
    monkeypatch.setattr(projecting, "SAVE_AFTER", 1)


def test_a_step_is_read_by_parts_and_replaced_as_a_whole(place: MemoPlace) -> None:
    assert place.steps() == []
    text = bytes(range(256)) * 1000
    place.write(9, [text[:10], b"", text[10:]])
    place.write(7, [b"seven"])
    assert place.steps() == [Step(7, 5), Step(9, len(text))]
    read = place.open(9)
    for start, size in ((0, 5), (CHUNK - 3, 6), (CHUNK, 1), (len(text) - 4, 100), (10, 200_000)):
        assert read(start, size) == text[start : start + size]
    place.write(9, [b"new"])
    assert place.open(9)(0, 99) == b"new"
    place.drop(9)
    place.drop(9)
    assert place.steps() == [Step(7, 5)]
    with pytest.raises(UnavailableError):
        place.open(9)


def test_a_reader_of_a_replaced_step_never_sees_a_mixture(place: MemoPlace) -> None:
    place.write(9, [b"a" * 3 * CHUNK])
    read = place.open(9)
    assert read(0, 2) == b"aa"
    place.write(9, [b"b" * 3 * CHUNK])
    try:
        found = read(2 * CHUNK, 2)
    except UnavailableError:
        found = b"aa"
    assert found == b"aa"


def test_a_write_that_fails_changes_nothing(place: MemoPlace) -> None:
    place.write(9, [b"old"])

    def failing() -> Any:
        yield b"x" * 200_000
        raise OSError(28, "No space left on device")

    with pytest.raises((UnavailableError, OSError)):
        place.write(9, failing())
    assert place.steps() == [Step(9, 3)]
    assert place.open(9)(0, 9) == b"old"


def test_the_ladder_beside_takes_the_place_of_the_live_one(place: MemoPlace) -> None:
    for at in (1, 2, 3):
        place.write(at, [b"live"])
    beside = place.beside()
    beside.write(2, [b"anew"])
    beside.write(4, [b"anew"])
    assert [step.position for step in place.steps()] == [1, 2, 3]
    place.swap()
    assert [step.position for step in place.steps()] == [2, 4]
    assert place.open(2)(0, 9) == b"anew"
    assert beside.steps() == []


def test_shared_memos_serve_a_reader_who_has_none(
    blocks: None, shared_log: PostgresLog, tmp_path: Path
) -> None:
    expected = story.digests_of(projecting.current(shared_log, tmp_path / "other").model)
    assert shared_log.memo_place().steps() == [], "a read writes nothing into the store"
    found = rebuilding.rebuild(shared_log, tmp_path / "writer", shared=True)
    assert (found["verdict"], found["note"]) == ("nothing to compare with", "")
    assert [step.position for step in shared_log.memo_place().steps()] == [128, 256, 384, 512, 600]
    assert memo.place_of(shared_log.store_id, tmp_path / "writer").steps() == []
    with PostgresLog.open(shared_log.place, read_only=True) as log:
        mine = projecting.current(log, tmp_path / "reader")
        assert (mine.cursor.memo, mine.cursor.note) == (600, "")
        assert story.digests_of(mine.model) == expected
        past = projecting.current(log, tmp_path / "reader", as_of=300)
        assert past.cursor.memo == 256
    status = rebuilding.status(shared_log, tmp_path / "reader")
    assert [item["place"] for item in status["memos"]] == ["home", "store"]


def test_shared_memos_of_another_history_are_not_used(
    blocks: None, shared_log: PostgresLog, tmp_path: Path
) -> None:
    other = projecting.from_zero(shared_log, 500)
    frontier = memo.Frontier()
    frontier.extend(b"x" * 32 for _ in range(600))
    assert memo.save(shared_log.memo_place(), shared_log.store_id, other, frontier) == ""
    found = projecting.current(shared_log, tmp_path)
    assert found.cursor.memo == 0
    assert story.digests_of(found.model) == story.digests_of(projecting.from_zero(shared_log, 600))


def test_a_role_without_rights_on_memos_reads_without_them(
    blocks: None, shared_log: PostgresLog, pg_url: str, tmp_path: Path
) -> None:
    rebuilding.rebuild(shared_log, tmp_path / "writer", shared=True)
    role, schema = f"guest_{shared_log.place.conninfo.__hash__() & 0xFFFFFF}", shared_log.place.schema
    with psycopg.connect(pg_url, autocommit=True) as db:
        db.execute(f"CREATE ROLE {role} LOGIN")
        try:
            db.execute(f"GRANT USAGE ON SCHEMA {schema} TO {role}")
            db.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA {schema} TO {role}")
            db.execute(f"REVOKE ALL ON {schema}.memo, {schema}.memo_chunk FROM {role}")
            guest = pg_url.replace("//postgres@", f"//{role}@")
            assert guest != pg_url
            with PostgresLog.open(guest) as log:
                found = projecting.current(log, tmp_path / "reader")
                assert (found.cursor.position, found.cursor.memo) == (600, 0)
                (home, store) = rebuilding.status(log, tmp_path / "reader")["memos"]
                assert (home["note"], "may not do that" in store["note"]) == ("", True)
                said = rebuilding.rebuild(log, tmp_path / "writer", shared=True)
                assert said["note"].startswith("memo not written")
                assert "may not do that" in said["note"]
                assert said["exit_code"] == 8, "who asked for shared memos got none"
        finally:
            db.execute(f"DROP OWNED BY {role}")
            db.execute(f"DROP ROLE {role}")
