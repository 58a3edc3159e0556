"""Power loss below the log, the evidence store, a target, `init` and a journal: nothing acknowledged is lost, no half state.

Each scenario runs once as a process below `power_shim.c`; then power is lost at hundreds of points of what it did
and the disk is one of those `power_disk` allows. The mutants show that a missing sync is noticed.
"""

from __future__ import annotations

import struct
from pathlib import Path

import pytest
from power_disk import Disk
from power_run import Campaign, Record, Recorded, build_shim, campaign

STATES = {"log": 180, "evidence": 180, "activation": 120, "init": 120, "journal": 180}
_WAL = (0x377F0682, 0x377F0683)  # https://www.sqlite.org/fileformat2.html, section 4.1


def told(run: Recorded, found: Campaign) -> str:
    shown = [f"{lost.seed} ({lost.how}): " + "; ".join(lost.breaches) for lost in found.lost[:5]]
    return (
        f"{run.scenario}: {len(found.lost)} of {found.states} states broke a promise; trace: {run.trace}\n"
        + "\n".join(shown)
    )


@pytest.mark.parametrize("scenario", STATES)
def test_no_promise_is_broken(record: Record, scenario: str) -> None:
    run = record(scenario)
    found = campaign(run, STATES[scenario], "1")
    assert [] == found.lost, told(run, found)
    assert found.states == STATES[scenario]
    # there was something to lose, else nothing is shown
    assert found.open_writes > found.states / 10
    assert found.open_names > found.states / 30


def test_no_promise_is_broken_with_the_settings_as_shipped(record: Record) -> None:
    run = record("log", pages=0)
    found = campaign(run, 60, "shipped")
    assert [] == found.lost, told(run, found)


def test_no_promise_is_broken_where_folders_are_made_for_the_store(record: Record) -> None:
    run = record("deep")
    found = campaign(run, 60, "1")
    assert [] == found.lost, told(run, found)


def test_the_checkpoint_that_init_named_is_there(record: Record) -> None:
    run = record("init")._replace(scenario="checkpoint")
    found = campaign(run, 60, "1")
    assert [] == found.lost, told(run, found)


@pytest.mark.parametrize(
    ("scenario", "mutant", "breach"),
    [
        ("log", "synchronous=OFF", "acknowledged records are lost"),
        ("log", "synchronous=NORMAL", "acknowledged records are lost"),
        ("log", "store-name", "the store is gone"),
        ("evidence", "evidence-file", "acknowledged blob"),
        ("evidence", "evidence-folder", "acknowledged blob"),
        ("evidence", "evidence-root", "acknowledged blob"),
        ("activation", "switch", "active is"),
        ("activation", "switch-last", "active is"),
        ("activation", "pack-files", "not whole"),
        ("activation", "pack-folders", "not whole"),
        ("activation", "pack-name", "staged and gone"),
        ("init", "log-key", "key.damaged"),
        ("init", "log-key-name", "key.none"),
        ("journal", "journal-segment", "acknowledged records are lost"),
        ("journal", "journal-header", "journal.header"),
        ("journal", "journal-names", "acknowledged records are lost"),
        ("journal", "journal-mark", "journal.mark"),
    ],
)
def test_a_missing_sync_is_noticed(record: Record, scenario: str, mutant: str, breach: str) -> None:
    run = record(scenario, mutant=mutant)
    found = campaign(run, 120, "1", until=breach)
    assert any(breach in text for lost in found.lost for text in lost.breaches), told(run, found)


@pytest.mark.parametrize("scenario", STATES)
def test_the_trace_is_whole(record: Record, scenario: str, tmp_path: Path) -> None:
    run, disk = record(scenario), Disk()
    for entry in run.entries:
        disk.play(entry)
    disk.whole(tmp_path / "replay")
    assert listing(run.base / "disk") == listing(tmp_path / "replay")


def listing(folder: Path) -> dict[str, object]:
    """Everything below a folder, with bytes, modes and the number of names, but for SQLite's shared memory."""
    found: dict[str, object] = {}
    for path in folder.rglob("*"):
        info = path.lstat()
        if path.is_symlink():
            found[str(path.relative_to(folder))] = path.readlink()
        elif path.is_dir():
            found[str(path.relative_to(folder))] = info.st_mode
        elif not path.name.endswith("-shm"):
            found[str(path.relative_to(folder))] = (path.read_bytes(), info.st_mode, info.st_nlink)
    return found


def test_the_log_scenario_begins_its_wal_anew(record: Record) -> None:
    begins = [entry for entry in record("log").entries if entry.op == "w" and entry.number == 0]
    headers = {entry.one for entry in begins if len(entry.one) == 32}
    assert len([one for one in headers if struct.unpack(">I", one[:4])[0] in _WAL]) >= 5


def test_without_a_compiler_it_fails_and_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(AssertionError, match="no C compiler"):
        build_shim(tmp_path)


@pytest.mark.soak
@pytest.mark.parametrize("seed", range(2, 12))
@pytest.mark.parametrize("scenario", STATES)
def test_soak(record: Record, scenario: str, seed: int) -> None:
    run = record(scenario, seed=seed, pages=(0, 30, 60, 200)[seed % 4])
    found = campaign(run, 1000, str(seed))
    assert [] == found.lost, told(run, found)
