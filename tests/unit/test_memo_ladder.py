"""The ladder of memos: views of the past, what it keeps, the folder it lies in."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import story
from muniment.app import memo, projecting
from muniment.domain.errors import UnavailableError, UsageError
from muniment.ops.bench import data
from muniment.store.memory import MemoryLog
from muniment.store.memos import FolderMemos, Read, Step, prune
from muniment.store.merkle import Frontier

# -- the ladder --------------------------------------------------------------------------------------------------------


def test_a_view_of_the_past_starts_at_the_nearest_memo_before_it(
    blocks: None, fleet: MemoryLog, tmp_path: Path
) -> None:
    projecting.current(fleet, tmp_path)
    kept = [step.position for step in memo.place_of(fleet.store_id, tmp_path).steps()]
    assert kept == [128, 256, 384, 512, 600]
    for until in (100, 128, 129, 383, 384, 511, 599, 600):
        past = projecting.current(fleet, tmp_path, as_of=until)
        assert past.cursor.position == until
        assert past.cursor.memo == max([at for at in kept if at <= until], default=0)
        assert story.digests_of(past.model) == story.digests_of(story.model_of(fleet, until))
    for wrong in (-1, 601):
        with pytest.raises(UsageError):
            projecting.current(fleet, tmp_path, as_of=wrong)


def test_an_older_memo_is_used_only_if_the_newest_names_it(
    blocks: None, fleet: MemoryLog, tmp_path: Path
) -> None:
    projecting.current(fleet, tmp_path)
    place = memo.place_of(fleet.store_id, tmp_path)
    other, frontier = MemoryLog(), Frontier()
    data.fill(other, 400, cycles=2)  # the same store id, another history
    frontier.extend(other.leaves(until=384))
    model = story.model_of(other, 384)
    model.incident_count = 77
    assert memo.save(place, fleet.store_id, model, frontier) == ""
    past = projecting.current(fleet, tmp_path, as_of=390)
    assert past.cursor.memo == 256
    assert past.model.incident_count == 0


def test_without_a_newest_that_fits_the_whole_ladder_is_discarded(
    blocks: None, fleet: MemoryLog, tmp_path: Path
) -> None:
    projecting.current(fleet, tmp_path)
    other = MemoryLog()
    data.fill(other, 598)
    story.append_raw(other, type="clock.jump_observed/1", data={"seconds": 5}, tags=["scope:*"])
    story.append_raw(
        other,
        id="00000000-0000-7000-8000-000000000001",
        type="clock.jump_observed/1",
        data={"seconds": 5},
        tags=["scope:*"],
    )
    found = projecting.current(other, tmp_path, as_of=300)
    assert (found.cursor.memo, found.cursor.note) == (0, "memo is not of this log")


def test_the_check_of_a_ladder_hashes_only_what_follows_its_newest_memo(
    blocks: None, fleet: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    projecting.current(fleet, tmp_path)
    data.fill(fleet, 603, first=601)
    hashed: list[int] = []
    leaves = fleet.leaves

    def counted(*, after: int = 0, until: int | None = None) -> Any:
        for leaf in leaves(after=after, until=until):
            hashed.append(1)
            yield leaf

    monkeypatch.setattr(fleet, "leaves", counted)
    assert projecting.current(fleet, tmp_path, as_of=300).cursor.memo == 256
    assert len(hashed) == 3


class _Places:
    """A ladder of which only sizes are known."""

    def __init__(self, size: int) -> None:
        self.size, self.at = size, list[int]()

    def steps(self) -> list[Step]:
        return [Step(at, self.size) for at in self.at]

    def drop(self, position: int) -> None:
        self.at.remove(position)

    def open(self, position: int) -> Read:
        raise NotImplementedError

    def write(self, position: int, data: Any) -> None:
        raise NotImplementedError

    def beside(self) -> _Places:
        raise NotImplementedError

    def swap(self) -> None:
        raise NotImplementedError


def test_a_ladder_is_bounded_and_densest_at_its_newest_end() -> None:
    place = _Places(1000)
    for position in range(1000, 1_000_001, 1000):
        place.at.append(position)
        prune(place)
    assert len(place.at) == 12
    assert place.at[-1] == 1_000_000
    gaps = [after - before for before, after in zip([0, *place.at], place.at, strict=False)]
    assert max(gaps) <= 280_000
    assert sum(gaps[-3:]) <= sum(gaps[:3]) / 2


def test_a_ladder_keeps_within_its_budget_and_its_newest_step_whatever_it_takes() -> None:
    place = _Places(400 << 20)
    place.at = [1, 2, 3, 4]
    prune(place)
    assert len(place.at) == 2
    assert place.at[-1] == 4
    huge = _Places(2 << 30)
    huge.at = [1, 2]
    prune(huge)
    assert huge.at == [2]


# -- the folder --------------------------------------------------------------------------------------------------------


def test_a_step_that_was_opened_stays_readable_when_it_is_dropped(tmp_path: Path) -> None:
    place = FolderMemos(tmp_path / "a" / "b")
    place.write(7, [b"ab", b"cd"])
    assert (tmp_path / "a" / "b").stat().st_mode & 0o777 == 0o700
    read = place.open(7)
    place.drop(7)
    place.drop(7)
    assert (read(1, 2), read(3, 9)) == (b"bc", b"d")
    with pytest.raises(UnavailableError):
        place.open(7)


def test_a_write_that_fails_leaves_the_step_as_it_was(tmp_path: Path) -> None:
    place = FolderMemos(tmp_path)
    place.write(7, [b"old"])

    def failing() -> Any:
        yield b"new"
        raise OSError(28, "No space left on device")

    with pytest.raises(UnavailableError):
        place.write(7, failing())
    assert place.open(7)(0, 9) == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["7.memo"]


def test_other_files_are_no_steps(tmp_path: Path) -> None:
    for name in ("x.memo", "7", ".new.1", "8.memo.bak", "99999999999999999.memo"):
        (tmp_path / name).write_bytes(b"")
    assert FolderMemos(tmp_path).steps() == []
