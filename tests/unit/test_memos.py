"""Memos: which are used, what damages them, parts that are read late, what is selected from them."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import msgspec
import pytest
import story
from muniment.app import late_part, memo, projecting, rebuilding
from muniment.domain.channel_state import POLICY_ITEM
from muniment.domain.eligible import reading
from muniment.domain.errors import InvalidError
from muniment.domain.slot_state import reports
from muniment.ops.bench import data
from muniment.store.memory import MemoryLog


def newest_file(base: Path, store_id: str = "s-story") -> Path:
    place = memo.place_of(store_id, base)
    return place.folder / f"{place.steps()[-1].position}.memo"


# -- one memo ----------------------------------------------------------------------------------------------------------


def test_a_memo_is_used_and_gives_what_a_rebuild_gives(eager: None, tmp_path: Path) -> None:
    log, teller = story.grown()
    first = projecting.current(log, tmp_path)
    assert (first.cursor.memo, first.cursor.position, first.cursor.note) == (0, 103, "")
    teller.must(story.command("clock.accept", 9))
    second = projecting.current(log, tmp_path)
    assert (second.cursor.memo, second.cursor.position) == (103, 104)
    assert story.digests_of(second.model) == story.digests_of(story.model_of(log))
    assert second.cursor.root == log.head().root.hex()


def test_short_catch_ups_are_not_written(tmp_path: Path) -> None:
    log, _ = story.grown()
    projecting.current(log, tmp_path)
    assert memo.place_of("s-story", tmp_path).steps() == []


@pytest.mark.parametrize(
    ("damage", "note"),
    [
        (lambda data: data[: len(data) // 2], "memo is damaged"),
        (lambda data: data[:-1], "memo is damaged"),
        (lambda data: data[1:], "memo is damaged"),
        (lambda data: b"", "memo is damaged"),
        (lambda data: b"not json\n", "memo is damaged"),
        (lambda data: b"[1]\n", "memo is damaged"),
        (lambda data: bytes([data[0] ^ 1]) + data[1:], "memo is damaged"),
        (lambda data: data.replace(b'"position": 103', b'"position": 102'), "memo is damaged"),
        (lambda data: data.replace(b'"below": []', b'"below": 77'), "memo is damaged"),
        (lambda data: data.replace(b'"s-story"', b'"s-other"'), "memo of another store or format"),
        (
            lambda data: data.replace(b"muniment-memo/2", b"muniment-memo/1"),
            "memo of another store or format",
        ),
        (lambda data: data.replace(b'"slots": 1', b'"slots": 2'), "memo of other projection versions"),
    ],
)
def test_a_damaged_or_foreign_memo_counts_as_none(
    eager: None, tmp_path: Path, damage: Any, note: str
) -> None:
    log, _ = story.grown()
    projecting.current(log, tmp_path)
    path = newest_file(tmp_path)
    assert damage(path.read_bytes()) != path.read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    assert memo.load("s-story", tmp_path).note == note
    found = projecting.current(log, tmp_path)
    assert found.cursor.memo == 0
    assert story.digests_of(found.model) == story.digests_of(story.model_of(log))


def test_a_memo_of_another_history_of_the_same_store_is_discarded(eager: None, tmp_path: Path) -> None:
    log, teller = story.grown()
    other, other_teller = story.grown()
    teller.must(story.command("clock.accept", 1))
    other_teller.must(story.command("clock.accept", 2))
    projecting.current(log, tmp_path)
    other_teller.must(story.command("clock.accept", 3))
    found = projecting.current(other, tmp_path)
    assert found.cursor.memo == 0
    assert story.digests_of(found.model) == story.digests_of(story.model_of(other))


def test_a_memo_beyond_a_cut_log_is_discarded(eager: None, tmp_path: Path) -> None:
    log, teller = story.grown()
    teller.must(story.command("clock.accept", 1))
    projecting.current(log, tmp_path)
    assert projecting.current(story.grown()[0], tmp_path).cursor.memo == 0


def test_a_home_that_cannot_be_written_costs_only_the_memo(eager: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log, _ = story.grown()
    found = projecting.current(log, tmp_path / "file")
    assert found.cursor.position == 103
    assert found.cursor.note.startswith("memo not written")


def test_an_empty_log_has_an_empty_model(tmp_path: Path) -> None:
    log = MemoryLog()
    assert projecting.current(log, tmp_path).cursor.position == 0
    assert rebuilding.status(log, tmp_path)["exit_code"] == 0
    assert rebuilding.rebuild(log, tmp_path)["verdict"] == "nothing to compare with"


# -- parts that are read late ------------------------------------------------------------------------------------------


def test_parts_read_late_are_those_of_a_fold_also_after_more_records(
    eager: None, blocks: None, tmp_path: Path
) -> None:
    log = MemoryLog()
    for size in (250, 251, 400, 401, 700):
        data.fill(log, size, first=log.head().size + 1)
        found = projecting.current(log, tmp_path)
        expected = story.model_of(log)
        assert isinstance(found.model.builds, late_part.Part) or not found.cursor.memo
        assert story.digests_of(found.model) == story.digests_of(expected)
        assert list(found.model.builds) == list(expected.builds)
    assert found.cursor.memo > 0


def test_a_part_says_what_a_dict_says(eager: None, blocks: None, fleet: MemoryLog, tmp_path: Path) -> None:
    projecting.current(fleet, tmp_path)
    packs, expected = projecting.current(fleet, tmp_path).model.packs, story.model_of(fleet).packs
    first = next(iter(expected))
    assert isinstance(packs, late_part.Part)
    assert (first in packs, "x" in packs, packs.get("x"), len(packs)) == (True, False, None, len(expected))
    assert packs[first] == expected[first]
    assert packs[first] is packs.get(first), "one entity, else a fold would change a copy"
    with pytest.raises(KeyError):
        packs["x"]
    with pytest.raises(TypeError):
        del packs[first]
    packs["new"] = expected[first]
    assert list(packs) == [*expected, "new"]
    assert len(packs) == len(expected) + 1


def test_what_looks_past_the_methods_of_a_part_fails_loudly(
    eager: None, blocks: None, fleet: MemoryLog, tmp_path: Path
) -> None:
    projecting.current(fleet, tmp_path)
    model = projecting.current(fleet, tmp_path).model
    with pytest.raises(TypeError):
        msgspec.msgpack.encode(model)


@pytest.mark.parametrize("at", [0.05, 0.3, 0.5, 0.7])
def test_damage_that_is_met_late_is_folded_again(
    eager: None, blocks: None, fleet: MemoryLog, tmp_path: Path, at: float
) -> None:
    projecting.current(fleet, tmp_path)
    path = newest_file(tmp_path, fleet.store_id)
    data_ = bytearray(path.read_bytes())
    data_[int(len(data_) * at)] ^= 0xFF
    path.write_bytes(data_)
    assert memo.load(fleet.store_id, tmp_path).note == "memo is damaged"
    found = projecting.current(fleet, tmp_path)
    assert story.digests_of(found.model) == story.digests_of(story.model_of(fleet))


# -- what was selected -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_memos", [True, False])
@pytest.mark.parametrize("until", [1, 130, 300, 599, 600])
def test_a_selected_slot_is_that_of_a_fold_of_everything(
    blocks: None, fleet: MemoryLog, tmp_path: Path, until: int, with_memos: bool
) -> None:
    if with_memos:
        projecting.current(fleet, tmp_path)
    expected = story.model_of(fleet, until)
    for slot in expected.slots:
        found = projecting.selected(
            fleet,
            lambda w, slot=slot: (POLICY_ITEM, reports(slot), *reading(w, slot)),
            until=until,
            base=tmp_path,
        )
        assert found is not None
        assert found.slots[slot] == expected.slots[slot]
        for pack in [a.pack for t in expected.slots[slot].targets.values() for a in t.attestations]:
            assert found.packs[pack] == expected.packs[pack]


def test_nothing_is_selected_from_a_log_with_a_type_nobody_knows(tmp_path: Path) -> None:
    log, _ = story.grown()
    story.append_raw(log, type="build.invented/1")
    assert projecting.selected(log, lambda w: reading(w, story.SLOT), until=103, base=tmp_path) is None


def test_a_boundary_that_does_not_settle_is_an_error(fleet: MemoryLog, tmp_path: Path) -> None:
    turns: list[int] = []

    def boundary(world: Any) -> Any:
        turns.append(1)
        return reading(world, f"prod/stable/c-{len(turns):02d}")

    with pytest.raises(InvalidError):
        projecting.selected(fleet, boundary, until=600, base=tmp_path)
