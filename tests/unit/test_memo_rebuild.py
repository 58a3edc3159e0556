"""Memos that are compared, rebuilt and swapped, and what is said of them."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest
import story
from muniment.app import memo, projecting, rebuilding
from muniment.domain.errors import UnfitError
from muniment.projections.fold import Stopped
from muniment.projections.model import ReadModel
from muniment.projections.registry import VERSIONS
from muniment.store.memory import MemoryLog
from muniment.store.memos import FolderMemos


def test_status_is_fresh_at_the_head(tmp_path: Path) -> None:
    log, _ = story.grown()
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
    log, _ = story.grown()
    story.append_raw(log, type="build.invented/1")
    story.append_raw(log, id="00000000-0000-7000-8000-000000000001")
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
