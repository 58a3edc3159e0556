"""Entities that a fold puts aside: the same model in less memory, and never another one."""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

import pytest
from muniment.app import late_part, memo, memo_parts, projecting, spill
from muniment.domain.errors import UnavailableError
from muniment.ops.bench import data
from muniment.projections import digest
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, DRIVER
from muniment.store.memory import MemoryLog

SIZE = 3000
PARTS = ("intakes", "builds", "packs", "releases", "evidence")


@pytest.fixture(scope="module")
def fleet() -> MemoryLog:
    log = MemoryLog()
    data.fill(log, SIZE)
    return log


@pytest.fixture(scope="module")
def again() -> MemoryLog:
    """The same 40 cycles over and over: what was put aside is asked for again."""
    log = MemoryLog()
    data.fill(log, SIZE, cycles=40)
    return log


@pytest.fixture(autouse=True)
def small(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """Few entities are many."""
    monkeypatch.setattr(late_part, "MOST", 8)
    monkeypatch.setattr(memo_parts, "LARGE", 2)
    monkeypatch.setattr(late_part, "BLOCK", 4)
    monkeypatch.setattr(projecting, "STRIDE", 512)
    monkeypatch.setattr(spill.tempfile, "tempdir", str(tmp_path))


def plain(log: MemoryLog, until: int | None = None) -> ReadModel:
    """The model by the driver alone, which puts nothing aside."""
    model = ReadModel()
    DRIVER.fold(model, log.pages(until=until))
    return model


def folded(log: MemoryLog, *, size: int = 16, after: ReadModel | None = None, at: int = 0) -> ReadModel:
    model = after if after is not None else ReadModel()
    projecting.fold(log, model, after=at, until=log.head().size, size=size)
    return model


def digests_of(model: ReadModel) -> dict[str, tuple[str, str]]:
    return {p.name: (digest.full(p, model), digest.core(p, model)) for p in ALL}


def decoded(model: ReadModel) -> int:
    parts = [getattr(model, name) for name in PARTS]
    return sum(
        len(part if isinstance(part, dict) else part._here) + len(getattr(part, "_raw", ())) for part in parts
    )


@pytest.mark.parametrize("size", [1, 16, 100, 1024])
def test_the_model_is_that_of_a_fold_that_keeps_everything(fleet: MemoryLog, size: int) -> None:
    found, expected = folded(fleet, size=size), plain(fleet)
    assert all(isinstance(getattr(found, name), late_part.Part) for name in PARTS)
    assert digests_of(found) == digests_of(expected)
    assert memo_parts.whole(found) == expected
    for name in PARTS:
        assert list(getattr(found, name)) == list(getattr(expected, name)), "the order of the fold"


def test_entities_that_are_changed_after_they_were_put_aside_keep_the_change(
    again: MemoryLog, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(late_part.Part, "_limit", property(lambda _: 8, lambda *_: None), raising=False)
    found = folded(again)
    assert memo_parts.whole(found) == plain(again)


def test_few_stay_decoded_however_long_the_log(fleet: MemoryLog) -> None:
    assert decoded(folded(fleet)) <= len(PARTS) * (8 + 16)


def test_what_is_at_work_all_the_time_is_not_put_aside_again_and_again(again: MemoryLog) -> None:
    assert len(folded(again).builds._packed) <= 15


def test_a_digest_keeps_nothing_that_it_reads(fleet: MemoryLog) -> None:
    found = folded(fleet)
    before = decoded(found)
    digests_of(found)
    assert decoded(found) == before


def test_a_memo_of_it_is_that_of_a_fold_that_keeps_everything(fleet: MemoryLog, tmp_path: Path) -> None:
    first = projecting.current(fleet, tmp_path)
    assert first.cursor.note == ""
    second = projecting.current(fleet, tmp_path)
    assert second.cursor.memo == SIZE
    assert memo_parts.whole(second.model) == plain(fleet)
    half = projecting.current(fleet, tmp_path, as_of=1500)
    assert half.cursor.memo > 0
    assert memo_parts.whole(half.model) == plain(fleet, 1500)


def newest(log: MemoryLog, base: Path) -> Path:
    place = memo.place_of(log.store_id, base)
    return place.folder / f"{place.steps()[-1].position}.memo"


@pytest.mark.parametrize("at", [0.05, 0.2, 0.4, 0.6, 0.8])
def test_damage_of_a_memo_that_is_met_after_packing_is_folded_again(tmp_path: Path, at: float) -> None:
    log = MemoryLog()
    data.fill(log, 1000)
    projecting.current(log, tmp_path)
    path = newest(log, tmp_path)
    damaged = bytearray(path.read_bytes())
    damaged[int(len(damaged) * at)] ^= 0xFF
    path.write_bytes(damaged)
    data.fill(log, SIZE, first=1001)
    found = projecting.current(
        log, tmp_path, as_of=SIZE - 1
    )  # not the head's memo: nothing is written on the way
    assert memo_parts.whole(found.model) == plain(log, SIZE - 1)
    assert digests_of(found.model) == digests_of(plain(log, SIZE - 1))


@pytest.mark.parametrize("room", [0, 1, 12, 20, 21, 22, 23, 24])
def test_a_full_disk_costs_memory_and_nothing_else(
    fleet: MemoryLog, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    written = 0

    def full(descriptor: int, chunk: bytes) -> None:
        nonlocal written
        written += 1
        if written > room:
            raise OSError(errno.ENOSPC, "no space")
        os.write(descriptor, chunk)

    monkeypatch.setattr(spill, "write_all", full)
    found = folded(fleet)
    assert written == room + 1, "it is not tried again"
    assert decoded(found) > 300
    assert memo_parts.whole(found) == plain(fleet)


def test_a_folder_that_is_not_there_costs_memory_and_nothing_else(
    fleet: MemoryLog, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(spill.tempfile, "tempdir", str(tmp_path / "none"))
    assert memo_parts.whole(folded(fleet)) == plain(fleet)


@pytest.mark.parametrize("use", [digests_of, memo_parts.whole, lambda model: model.builds["b-0000001"]])
def test_what_was_put_aside_and_cannot_be_read_is_an_error(
    fleet: MemoryLog, monkeypatch: pytest.MonkeyPatch, use: Callable[[ReadModel], object]
) -> None:
    found = folded(fleet)
    monkeypatch.setattr(spill.os, "pread", lambda *_: b"")
    with pytest.raises(UnavailableError, match="no longer there"):
        use(found)


def test_the_file_has_no_name_and_goes_with_the_model(fleet: MemoryLog, tmp_path: Path) -> None:
    def open_files() -> int:
        return sum(str(link.readlink()).endswith("(deleted)") for link in links())

    def links() -> list[Path]:
        return [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]

    before = open_files()
    found = folded(fleet)
    assert list(tmp_path.iterdir()) == []
    assert open_files() == before + 1
    del found
    assert open_files() == before
