"""Verification by several processes says what verification by one says, finding for finding; a worker that is lost is an error."""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import signal
import sqlite3
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.app import rebuilding, verify_stretches, verify_worker
from muniment.app.verify import Anchor, verify_store
from muniment.app.verify_records import RecordPass
from muniment.app.verify_report import Report
from muniment.app.verify_stretches import Worker
from muniment.app.verify_sum import SPAN
from muniment.app.verify_tags import Index
from muniment.ops.bench import data
from muniment.store.open import create_log, open_log

SIZE = SPAN * 2 + 700


@pytest.fixture(scope="module")
def master(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A log of three stretches, with a saved memo."""
    root = tmp_path_factory.mktemp("workers")
    with contextlib.closing(create_log(root / "store")) as log:
        data.fill(log, SIZE)
        rebuilding.rebuild(log, root / "home")
    return root


@pytest.fixture
def store(master: Path, tmp_path: Path) -> Path:
    """A copy to be damaged."""
    shutil.copytree(master, tmp_path / "copy")
    return tmp_path / "copy"


def both(root: Path, **options: Any) -> Report:
    """Verify by one and by two processes; the reports must be the same."""
    alone = verify_store(root / "store", base=root / "home", processes=1, **options)
    shared = verify_store(root / "store", base=root / "home", processes=2, **options)
    assert shared.as_json() == alone.as_json()
    return shared


def attack(root: Path, *statements: tuple[str, tuple[Any, ...]]) -> None:
    db = sqlite3.connect(root / "store" / "log.db", isolation_level=None)
    with contextlib.closing(db):
        guards = db.execute("SELECT name, sql FROM sqlite_master WHERE type = 'trigger'").fetchall()
        for name, _ in guards:
            db.execute(f"DROP TRIGGER {name}")
        for sql, values in statements:
            db.execute(sql, values)
        for _, sql in guards:
            db.execute(sql)


def one(root: Path, sql: str, *values: Any) -> Any:
    with contextlib.closing(sqlite3.connect(root / "store" / "log.db")) as db:
        return db.execute(sql, values).fetchone()


def test_the_untouched_log_passes_and_workers_were_used(
    master: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[Any] = []
    tell = Worker.tell
    monkeypatch.setattr(Worker, "tell", lambda self, message: (asked.append(message), tell(self, message))[1])
    with contextlib.closing(open_log(master / "store", read_only=True)) as log:
        root = log.head().root.hex()
    told: list[int] = []
    report = both(master, against=[Anchor(SIZE, root, "known")], progress=told.append)
    assert report.failed() == []
    assert (report.size, report.root) == (SIZE, root)
    assert {"projections.memo", "store.postings", "log.leaves", "head.against"} <= {
        check.id for check in report.checks if check.verdict == "pass"
    }
    assert [type(message).__name__ for message in asked].count("Look") == 3
    assert told == [SPAN, 2 * SPAN, SIZE] * 2


@pytest.mark.parametrize("processes", [1, 2])
def test_a_good_log_is_cleared_by_surveys_and_sums_alone(
    master: Path, monkeypatch: pytest.MonkeyPatch, processes: int
) -> None:
    def slow(*_: object) -> None:
        raise AssertionError("looked at one by one")

    monkeypatch.setattr(RecordPass, "_record", slow)
    monkeypatch.setattr(Index, "of", slow)
    assert verify_store(master / "store", base=master / "home", processes=processes).ok


@pytest.mark.parametrize("size", [1, SPAN - 1, SPAN, SPAN + 1, SIZE - 1])
def test_a_known_head_is_compared_wherever_it_cuts(master: Path, size: int) -> None:
    report = both(master, against=[Anchor(size, "0" * 64, "wrong")])
    assert report.failed() == ["head.against"]
    right = report["head.against"].findings[0].found
    assert both(master, against=[Anchor(size, right, "right")]).ok


def _body(root: Path, position: int, change: Callable[[bytes], bytes]) -> tuple[str, tuple[Any, ...]]:
    body = bytes(one(root, "SELECT body FROM records WHERE position = ?", position)[0])
    return "UPDATE records SET body = ? WHERE position = ?", (change(body), position)


_ROW = "(term, first) = (SELECT term, max(first) FROM postings WHERE first <= ?)"

CASES: dict[str, Callable[[Path, int], list[tuple[str, tuple[Any, ...]]]]] = {
    "body": lambda root, at: [_body(root, at, lambda body: body[:-9] + b"~" + body[-8:])],
    "leaf": lambda _, at: [("UPDATE records SET leaf = zeroblob(32) WHERE position = ?", (at,))],
    "id": lambda _, at: [("UPDATE records SET id = randomblob(16) WHERE position = ?", (at,))],
    "text body": lambda _, at: [("UPDATE records SET body = 'text' WHERE position = ?", (at,))],
    "gone": lambda _, at: [("DELETE FROM records WHERE position = ?", (at,))],
    "moved": lambda _, at: [("UPDATE records SET position = 1000000 + position WHERE position = ?", (at,))],
    "first": lambda _, at: [("UPDATE records SET position = -5 WHERE position = ?", (at,))],
    "last": lambda _, at: [("UPDATE records SET position = 9223372036854775807 WHERE position = ?", (at,))],
    "very first": lambda _, at: [
        ("UPDATE records SET position = -9223372036854775808 WHERE position = ?", (at,))
    ],
    "time": lambda root, at: [
        _body(root, at, lambda body: body.replace(b'"recorded_at":"2', b'"recorded_at":"1'))
    ],
    "batch": lambda root, at: [
        _body(
            root, at, lambda body: body.replace(b',"corr', b',"batch":{"first":"x","index":1,"size":3},"corr')
        )
    ],
    "entries": lambda _, at: [(f"UPDATE postings SET entries = entries || entries WHERE {_ROW}", (at,))],
    "term": lambda _, at: [(f"UPDATE postings SET term = 'x' WHERE {_ROW}", (at,))],
    "row": lambda _, at: [(f"DELETE FROM postings WHERE {_ROW}", (at,))],
    "types": lambda _, __: [("UPDATE types SET name = name || 'x' WHERE id = 4", ())],
    "swapped types": lambda _, __: [("UPDATE types SET id = CASE id WHEN 4 THEN 400 ELSE id END", ())],
    "head size": lambda _, at: [("UPDATE head SET size = ?", (at - 1,))],
    "head text": lambda _, __: [("UPDATE head SET size = 'x'", ())],
    "head gone": lambda _, __: [("DELETE FROM head", ())],
    "head beyond": lambda _, at: [("UPDATE head SET size = size + ?", (at,))],
    "indexed": lambda _, at: [("UPDATE head SET indexed = ?", (at // 2,))],
    "indexed below": lambda _, at: [("UPDATE head SET indexed = -?", (at,))],
}


@pytest.mark.parametrize("case", CASES)
def test_both_ways_give_the_same_report_of_damage(store: Path, case: str) -> None:
    at = random.Random(case).choice([2, 500, SPAN - 1, SPAN, SPAN + 1, SPAN * 2, SIZE - 1, SIZE])
    attack(store, *CASES[case](store, at))
    report = both(store)
    assert report.exit_code == 7, (case, at)


@pytest.mark.parametrize("seed", range(4))
def test_both_ways_give_the_same_report_of_much_damage(store: Path, seed: int) -> None:
    chance = random.Random(seed)
    for case in chance.sample(sorted(CASES), 4):
        with contextlib.suppress(sqlite3.Error, TypeError):
            attack(store, *CASES[case](store, chance.randint(2, SIZE)))
    assert both(store).exit_code == 7


def test_damage_in_one_stretch_leaves_the_others_to_the_workers(store: Path) -> None:
    attack(store, *CASES["leaf"](store, SPAN + 5))
    report = both(store)
    assert report.failed() == ["log.leaves"]
    assert report["log.leaves"].count == 1
    assert report["log.leaves"].findings[0].position == SPAN + 5


@pytest.mark.parametrize("lost", ["a process", "every process"])
def test_a_killed_worker_is_unavailable_and_no_pass(
    master: Path, monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    started: list[Worker] = []
    hear = Worker.hear

    def kill_then_hear(self: Worker, kind: Any) -> Any:
        if self not in started:
            started.append(self)  # its first answer is that to Hello
        elif lost != "a process" or self is started[0]:
            os.kill(self._process.pid, signal.SIGKILL)
            self._process.wait()
        return hear(self, kind)

    monkeypatch.setattr(Worker, "hear", kill_then_hear)
    report = verify_store(master / "store", base=master / "home", processes=2)
    assert report.exit_code == 8
    assert not report.ok
    assert report["store.readable"].verdict == "skipped"
    assert "ended before it was done" in report["store.readable"].detail
    assert all(worker._process.poll() is not None for worker in started)


@pytest.mark.parametrize("program", ["/nonexistent/python", "/bin/false", "/bin/true"])
def test_where_no_worker_starts_one_process_does_it(
    master: Path, monkeypatch: pytest.MonkeyPatch, program: str
) -> None:
    monkeypatch.setattr(sys, "executable", program)
    report = verify_store(master / "store", base=master / "home", processes=2)
    assert report.ok
    assert report.size == SIZE


def test_a_worker_of_another_version_is_not_used(master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_worker, "FORMAT", "another")
    assert verify_store(master / "store", base=master / "home", processes=2).ok


def test_short_logs_take_no_worker(master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify_stretches, "Workers", None)
    assert verify_store(master / "store", base=master / "home").ok


def test_an_interrupt_leaves_no_worker(master: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    started: list[Worker] = []
    make = Worker.__init__
    monkeypatch.setattr(Worker, "__init__", lambda self: (started.append(self), make(self))[1])

    def interrupt(_: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        verify_store(master / "store", base=master / "home", processes=2, progress=interrupt)
    assert len(started) == 2
    assert all(worker._process.poll() is not None for worker in started)


_PARENT = """
import os, sys
from pathlib import Path
from muniment.app import verify_stretches
from muniment.app.verify import verify_store
made = verify_stretches.Worker.__init__
def note(self):
    made(self)
    print(self._process.pid, flush=True)
verify_stretches.Worker.__init__ = note
verify_store(Path(sys.argv[1]), base=Path(sys.argv[2]), processes=2, progress=lambda _: os.kill(os.getpid(), 9))
"""


def test_workers_end_with_a_parent_that_is_killed(master: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-c", _PARENT, str(master / "store"), str(master / "home")],
        stdout=subprocess.PIPE,
        check=False,
    )
    assert done.returncode == -signal.SIGKILL
    workers = [int(line) for line in done.stdout.split()]
    assert len(workers) == 2
    until = time.monotonic() + 20
    while time.monotonic() < until and any(map(_runs, workers)):
        time.sleep(0.05)
    assert not any(map(_runs, workers))


def _runs(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text(encoding="ascii").rpartition(")")[2].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False
