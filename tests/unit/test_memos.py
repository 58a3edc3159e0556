"""Memos: which are used, what damages them, what a ladder keeps, how they are rebuilt."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
import story
from muniment.app import late_part, memo, memo_parts, projecting, rebuilding
from muniment.domain.channel_state import POLICY_ITEM
from muniment.domain.eligible import reading
from muniment.domain.errors import InvalidError, UnavailableError, UnfitError, UsageError
from muniment.domain.slot_state import reports
from muniment.ops.bench import data
from muniment.projections import digest
from muniment.projections.fold import Stopped
from muniment.projections.model import ReadModel
from muniment.projections.registry import ALL, DRIVER, VERSIONS
from muniment.store.api import Draft, Log
from muniment.store.memory import MemoryLog
from muniment.store.memos import FolderMemos, Read, Step, prune
from muniment.store.merkle import Frontier


def grown() -> tuple[MemoryLog, Any]:
    """A log of one's own, and who tells it."""
    clock = story.Clock()
    made = MemoryLog("records", clock=clock)
    teller = story.Story(made, clock)
    teller.whole()
    return made, teller


def model_of(log: Log, until: int | None = None) -> ReadModel:
    model = ReadModel()
    DRIVER.fold(model, log.pages(until=until))
    return model


def digests_of(model: ReadModel) -> dict[str, str]:
    return {p.name: digest.full(p, model) for p in ALL}


def newest_file(base: Path, store_id: str = "s-story") -> Path:
    place = memo.place_of(store_id, base)
    return place.folder / f"{place.steps()[-1].position}.memo"


def append_raw(log: MemoryLog, **changed: Any) -> None:
    record = json.loads(next(log.read(after=3, until=4))[1])
    record = {**record, "id": "00000000-0000-7000-8000-000000000000", "recorded_at": "", **changed}
    text = json.dumps(record, sort_keys=True, separators=(",", ":"))
    head, mark, tail = text.encode().partition(b'"recorded_at":"')
    log.append([Draft(record["id"], record["type"], tuple(record["tags"]), head + mark, tail)])


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projecting, "SAVE_AFTER", 1)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts are kept in blocks too, and long folds save often."""
    monkeypatch.setattr(memo_parts, "LARGE", 2)
    monkeypatch.setattr(late_part, "BLOCK", 4)
    monkeypatch.setattr(projecting, "STRIDE", 64)


@pytest.fixture
def fleet() -> MemoryLog:
    log = MemoryLog()
    data.fill(log, 600)
    return log


# -- one memo ----------------------------------------------------------------------------------------------------------


def test_a_memo_is_used_and_gives_what_a_rebuild_gives(eager: None, tmp_path: Path) -> None:
    log, teller = grown()
    first = projecting.current(log, tmp_path)
    assert (first.cursor.memo, first.cursor.position, first.cursor.note) == (0, 103, "")
    teller.must(story.command("clock.accept", 9))
    second = projecting.current(log, tmp_path)
    assert (second.cursor.memo, second.cursor.position) == (103, 104)
    assert digests_of(second.model) == digests_of(model_of(log))
    assert second.cursor.root == log.head().root.hex()


def test_short_catch_ups_are_not_written(tmp_path: Path) -> None:
    log, _ = grown()
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
    log, _ = grown()
    projecting.current(log, tmp_path)
    path = newest_file(tmp_path)
    assert damage(path.read_bytes()) != path.read_bytes()
    path.write_bytes(damage(path.read_bytes()))
    assert memo.load("s-story", tmp_path).note == note
    found = projecting.current(log, tmp_path)
    assert found.cursor.memo == 0
    assert digests_of(found.model) == digests_of(model_of(log))


def test_a_memo_of_another_history_of_the_same_store_is_discarded(eager: None, tmp_path: Path) -> None:
    log, teller = grown()
    other, other_teller = grown()
    teller.must(story.command("clock.accept", 1))
    other_teller.must(story.command("clock.accept", 2))
    projecting.current(log, tmp_path)
    other_teller.must(story.command("clock.accept", 3))
    found = projecting.current(other, tmp_path)
    assert found.cursor.memo == 0
    assert digests_of(found.model) == digests_of(model_of(other))


def test_a_memo_beyond_a_cut_log_is_discarded(eager: None, tmp_path: Path) -> None:
    log, teller = grown()
    teller.must(story.command("clock.accept", 1))
    projecting.current(log, tmp_path)
    assert projecting.current(grown()[0], tmp_path).cursor.memo == 0


def test_a_home_that_cannot_be_written_costs_only_the_memo(eager: None, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    log, _ = grown()
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
        expected = model_of(log)
        assert isinstance(found.model.builds, late_part.Part) or not found.cursor.memo
        assert digests_of(found.model) == digests_of(expected)
        assert list(found.model.builds) == list(expected.builds)
    assert found.cursor.memo > 0


def test_a_part_says_what_a_dict_says(eager: None, blocks: None, fleet: MemoryLog, tmp_path: Path) -> None:
    projecting.current(fleet, tmp_path)
    packs, expected = projecting.current(fleet, tmp_path).model.packs, model_of(fleet).packs
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
    assert digests_of(found.model) == digests_of(model_of(fleet))


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
        assert digests_of(past.model) == digests_of(model_of(fleet, until))
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
    model = model_of(other, 384)
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
    append_raw(other, type="clock.jump_observed/1", data={"seconds": 5}, tags=["scope:*"])
    append_raw(
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


# -- what was selected -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_memos", [True, False])
@pytest.mark.parametrize("until", [1, 130, 300, 599, 600])
def test_a_selected_slot_is_that_of_a_fold_of_everything(
    blocks: None, fleet: MemoryLog, tmp_path: Path, until: int, with_memos: bool
) -> None:
    if with_memos:
        projecting.current(fleet, tmp_path)
    expected = model_of(fleet, until)
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
    log, _ = grown()
    append_raw(log, type="build.invented/1")
    assert projecting.selected(log, lambda w: reading(w, story.SLOT), until=103, base=tmp_path) is None


def test_a_boundary_that_does_not_settle_is_an_error(fleet: MemoryLog, tmp_path: Path) -> None:
    turns: list[int] = []

    def boundary(world: Any) -> Any:
        turns.append(1)
        return reading(world, f"prod/stable/c-{len(turns):02d}")

    with pytest.raises(InvalidError):
        projecting.selected(fleet, boundary, until=600, base=tmp_path)


# -- status and rebuild ------------------------------------------------------------------------------------------------


def test_status_is_fresh_at_the_head(tmp_path: Path) -> None:
    log, _ = grown()
    status = rebuilding.status(log, tmp_path)
    assert status["exit_code"] == 0
    assert {(row["position"], row["lag"], row["stale"]) for row in status["data"]} == {(103, 0, False)}
    assert {row["projection"]: row["version"] for row in status["data"]} == VERSIONS


def test_status_names_the_memos_that_are_kept(blocks: None, fleet: MemoryLog, tmp_path: Path) -> None:
    rebuilding.status(fleet, tmp_path)
    (home,) = rebuilding.status(fleet, tmp_path)["memos"]
    assert (home["place"], home["positions"], home["rebuild"]) == ("home", [128, 256, 384, 512, 600], 0)
    assert home["bytes"] > 1000


def test_status_of_a_stopped_fold_is_stale_and_says_why(tmp_path: Path) -> None:
    log, _ = grown()
    append_raw(log, type="build.invented/1")
    append_raw(log, id="00000000-0000-7000-8000-000000000001")
    status = rebuilding.status(log, tmp_path)
    assert status["exit_code"] == 8
    assert status["stopped"]["position"] == 104
    assert {(row["position"], row["lag"], row["stale"]) for row in status["data"]} == {(103, 2, True)}
    with pytest.raises(Stopped):
        projecting.current(log, tmp_path)
    with pytest.raises(Stopped):
        rebuilding.rebuild(log, tmp_path)
    assert memo.place_of("s-story", tmp_path).steps() == []


def forged(place: FolderMemos, store_id: str) -> None:
    """Change what the newest memo says, digests and all."""
    position = place.steps()[-1].position
    live = memo.opened(place, place.steps()[-1], store_id, lambda _: ReadModel())
    assert live.model is not None
    live.model.incident_count = 99
    assert memo.save(place, store_id, live.model, live.frontier, live.below) == ""
    assert place.steps()[-1].position == position


def test_rebuild_compares_and_swaps(blocks: None, fleet: MemoryLog, tmp_path: Path) -> None:
    place = memo.place_of(fleet.store_id, tmp_path)
    assert rebuilding.rebuild(fleet, tmp_path)["verdict"] == "nothing to compare with"
    equal = rebuilding.rebuild(fleet, tmp_path)
    assert (equal["verdict"], equal["exit_code"]) == ("equal", 0)
    forged(place, fleet.store_id)
    assert projecting.current(fleet, tmp_path).model.incident_count == 99
    different = rebuilding.rebuild(fleet, tmp_path)
    assert (different["verdict"], different["exit_code"]) == ("different", 7)
    assert [row["projection"] for row in different["data"] if not row["equal"]] == ["incidents"]
    assert rebuilding.rebuild(fleet, tmp_path)["verdict"] == "equal"
    assert projecting.current(fleet, tmp_path).model.incident_count == 0
    assert [step.position for step in place.steps()] == [128, 256, 384, 512, 600]
    assert place.beside().steps() == []


class _Cut(Exception):  # noqa: N818
    pass


def cut_at(position: int) -> Callable[[int, int], None]:
    def told(done: int, total: int) -> None:
        if done > position:
            raise _Cut

    return told


def test_a_rebuild_that_is_cut_short_goes_on_and_nothing_live_changes_before_its_end(
    blocks: None, fleet: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rebuilding.rebuild(fleet, tmp_path)
    place = memo.place_of(fleet.store_id, tmp_path)
    before = {path.name: path.read_bytes() for path in place.folder.glob("*.memo")}
    with pytest.raises(_Cut):
        rebuilding.rebuild(fleet, tmp_path, progress=cut_at(300))
    assert {path.name: path.read_bytes() for path in place.folder.glob("*.memo")} == before
    assert rebuilding.status(fleet, tmp_path)["memos"][0]["rebuild"] == 256
    told: list[tuple[int, int]] = []
    found = rebuilding.rebuild(fleet, tmp_path, progress=lambda *of: told.append(of))
    assert (found["began"], found["verdict"], told[-1]) == (256, "equal", (344, 344))
    with pytest.raises(_Cut):
        rebuilding.rebuild(fleet, tmp_path, progress=cut_at(300))
    assert rebuilding.rebuild(fleet, tmp_path, restart=True)["began"] == 0
    with pytest.raises(_Cut):
        rebuilding.rebuild(fleet, tmp_path, progress=cut_at(300))
    monkeypatch.setattr(rebuilding, "__version__", "9.9.9")
    assert rebuilding.rebuild(fleet, tmp_path)["began"] == 0, "another version may fold otherwise"


def test_a_rebuild_never_begins_at_a_live_memo(blocks: None, fleet: MemoryLog, tmp_path: Path) -> None:
    projecting.current(fleet, tmp_path)
    assert rebuilding.rebuild(fleet, tmp_path)["began"] == 0


def test_a_swap_that_is_cut_short_leaves_no_mixture(
    blocks: None, fleet: MemoryLog, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = memo.place_of(fleet.store_id, tmp_path)
    projecting.current(fleet, tmp_path)
    forged(place, fleet.store_id)

    def cut(self: Path, target: Path) -> None:
        if target.parent == place.folder:
            raise OSError(28, "No space left on device")
        real(self, target)

    real = Path.replace
    monkeypatch.setattr(Path, "replace", cut)
    found = rebuilding.rebuild(fleet, tmp_path)
    assert found["note"].startswith("memo not written")
    assert projecting.current(fleet, tmp_path).model.incident_count == 0
    monkeypatch.setattr(Path, "replace", real)
    assert rebuilding.rebuild(fleet, tmp_path)["began"] == 600
    assert [step.position for step in place.steps()] == [128, 256, 384, 512, 600]


def test_a_store_without_shared_memos_says_so(fleet: MemoryLog, tmp_path: Path) -> None:
    with pytest.raises(UnfitError):
        rebuilding.rebuild(fleet, tmp_path, shared=True)


def test_progress_is_told_the_way_to_the_end(blocks: None, fleet: MemoryLog, tmp_path: Path) -> None:
    told: list[tuple[int, int]] = []
    projecting.current(fleet, tmp_path, progress=lambda done, total: told.append((done, total)))
    assert told[-1] == (600, 600)
    assert told == sorted(told)


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
