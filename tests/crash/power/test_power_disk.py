"""The model of the disk itself: what it must be able to lose, and what it must never lose."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from power_disk import Disk, Entry

SEEDS = 120
OLD, NEW = b"o" * 2000, b"n" * 2000


def entry(op: str, inode: int = 0, number: int = 0, one: bytes = b"", two: bytes = b"") -> Entry:
    return Entry(op, inode, number, one, two)


def after(entries: list[Entry], where: Path, seeds: int = SEEDS) -> list[dict[str, bytes]]:
    """The disks that may be there after some entries: name -> bytes (a symlink: its text)."""
    disk, found = Disk(), []
    for each in [entry("d", 1, 0o755), *entries]:
        disk.play(each)
    for seed in range(seeds):
        disk.crash(seed, where / "x")
        names: dict[str, bytes] = {}
        for path in (where / "x").rglob("*"):
            name = str(path.relative_to(where / "x"))
            if path.is_symlink():
                names[name] = str(path.readlink()).encode()
            elif path.is_file():
                names[name] = path.read_bytes()
        found.append(names)
        shutil.rmtree(where / "x")
    return found


MADE = [entry("c", 2, 0o644, b"a"), entry("w", 2, 0, OLD), entry("s", 2), entry("s", 1)]


def test_what_is_synced_is_never_lost(tmp_path: Path) -> None:
    assert [{"a": OLD}] * SEEDS == after(MADE, tmp_path)


def test_a_synced_file_may_lose_its_name(tmp_path: Path) -> None:
    found = after(MADE[:3], tmp_path)
    assert {} in found
    assert {"a": OLD} in found
    assert all(names in ({}, {"a": OLD}) for names in found)


def test_a_synced_name_may_lose_its_bytes(tmp_path: Path) -> None:
    found = [names["a"] for names in after([*MADE[:2], MADE[3]], tmp_path)]
    assert b"" in found
    assert OLD in found
    assert any(0 < len(data) < 2000 and data == OLD[: len(data)] for data in found), "torn"
    assert any(len(data) == 2000 and set(data) - set(OLD + b"\0") for data in found), "rubbish"


def test_a_write_is_torn_at_sectors_only_and_leaves_its_neighbours(tmp_path: Path) -> None:
    found = after([*MADE, entry("w", 2, 500, NEW[:1000])], tmp_path)
    seen = {names["a"] for names in found}
    # 500..512 lies in the first sector, then 512..1024 and 1024..1500: each is new or old as a whole
    parts = ((500, 512), (512, 1024), (1024, 1500))
    for data in seen:
        assert (OLD[:500], OLD[1500:]) == (data[:500], data[1500:])
        for start, end in parts:
            assert data[start:end] in (OLD[start:end], NEW[start:end])
    assert len(seen) >= 6


def test_a_later_write_may_be_there_without_an_earlier_one(tmp_path: Path) -> None:
    found = after([*MADE, entry("w", 2, 0, b"1" * 512), entry("w", 2, 512, b"2" * 512)], tmp_path)
    seen = {(names["a"][:1], names["a"][512:513]) for names in found}
    assert {(b"o", b"o"), (b"1", b"o"), (b"o", b"2"), (b"1", b"2")} == seen


def test_a_truncation_may_be_lost(tmp_path: Path) -> None:
    assert {0, 2000} == {len(names["a"]) for names in after([*MADE, entry("t", 2, 0)], tmp_path)}


def test_a_rename_is_one_act_and_may_be_lost_until_both_folders_are_synced(tmp_path: Path) -> None:
    two = [entry("d", 3, 0o755, b"s"), entry("d", 4, 0o755, b"p"), entry("s", 1)]
    made = [*two, entry("c", 2, 0o644, b"s/a"), entry("w", 2, 0, OLD), entry("s", 2), entry("s", 3)]
    moved = [*made, entry("r", 0, 0, b"s/a", b"p/b")]
    before, done = {"s/a": OLD}, {"p/b": OLD}
    for entries in (moved, [*moved, entry("s", 4)], [*moved, entry("s", 3)]):
        found = after(entries, tmp_path)
        assert before in found
        assert done in found
        assert all(names in (before, done) for names in found)
    assert [done] * SEEDS == after([*moved, entry("s", 4), entry("s", 3)], tmp_path)


def test_a_file_made_without_a_name_is_nowhere_before_its_link_is_kept(tmp_path: Path) -> None:
    made = [entry("c", 2, 0o600), entry("w", 2, 0, OLD), entry("s", 2)]
    linked = [*made, entry("l", 2, 0, b"", b"a")]
    assert [{}] * SEEDS == after([*made, entry("s", 1)], tmp_path)
    found = after(linked, tmp_path)
    assert {} in found
    assert {"a": OLD} in found
    assert all(names in ({}, {"a": OLD}) for names in found)
    assert [{"a": OLD}] * SEEDS == after([*linked, entry("s", 1)], tmp_path)


def test_an_unlinked_file_may_be_back_and_its_name_may_hold_the_old_one(tmp_path: Path) -> None:
    again = [entry("u", 0, 0, b"a"), entry("c", 9, 0o644, b"a"), entry("w", 9, 0, NEW), entry("s", 9)]
    found = [names.get("a") for names in after([*MADE, *again], tmp_path)]
    assert {None, OLD, NEW} == set(found)


def test_a_replaced_link_is_old_or_new_and_never_neither(tmp_path: Path) -> None:
    first = [entry("y", 0, 0, b"active", b"one"), entry("s", 1)]
    second = [entry("y", 0, 0, b"next", b"two"), entry("s", 1), entry("r", 0, 0, b"next", b"active")]
    found = after([*first, *second], tmp_path)
    assert {b"one", b"two"} == {names["active"] for names in found}


def test_a_folder_synced_inside_may_itself_be_lost(tmp_path: Path) -> None:
    entries = [entry("d", 5, 0o755, b"f"), entry("c", 2, 0o644, b"f/a"), entry("w", 2, 0, OLD)]
    found = after([*entries, entry("s", 2), entry("s", 5)], tmp_path)
    assert {} in found
    assert {"f/a": OLD} in found


@pytest.mark.parametrize("seed", range(3))
def test_a_state_is_made_of_trace_and_seed_alone(tmp_path: Path, seed: int) -> None:
    entries = [*MADE, entry("w", 2, 100, NEW), entry("t", 2, 900), entry("c", 7, 0o644, b"b")]
    made = []
    for turn in range(2):
        disk = Disk()
        for each in [entry("d", 1, 0o755), *entries]:
            disk.play(each)
        disk.crash(seed, tmp_path / f"{turn}")
        made.append({path.name: path.read_bytes() for path in (tmp_path / f"{turn}").iterdir()})
    assert made[0] == made[1]


def test_an_inode_number_used_again_is_another_file(tmp_path: Path) -> None:
    again = [entry("u", 0, 0, b"a"), entry("s", 1), entry("c", 2, 0o644, b"b"), entry("w", 2, 0, NEW)]
    found = after([*MADE, *again, entry("s", 2), entry("s", 1)], tmp_path)
    assert [{"b": NEW}] * SEEDS == found
