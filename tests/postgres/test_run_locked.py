"""`run` on a PostgreSQL log whose lock somebody keeps: it ends, says so, loses nothing, and the next run goes on."""

from __future__ import annotations

from pathlib import Path

import psycopg
import pytest
from muniment.app import creating, patience
from muniment.app.session import Session
from muniment.store import postgres_write
from pipelines import Bench, events, single

LOG = single("sink:log")


def test_a_lock_that_is_kept_ends_the_run_and_nothing_is_lost(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pg_url: str
) -> None:
    monkeypatch.setenv("MUNIMENT_RUNTIME", str(tmp_path / "run"))
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(postgres_write, "LOCK_S", 0.5)
    monkeypatch.setattr(patience, "WAITS", (0.1,) * 9)
    monkeypatch.setattr(patience, "LIMIT_S", 1.0)
    creating.create_store(pg_url, policy="solo")
    with Session(pg_url, write=True) as session, psycopg.connect(pg_url) as other:
        bench = Bench(tmp_path, session)
        bench.feed(events(1, 100))
        bench.run(LOG)
        bench.feed(events(1, 300))
        take = patience.Patience.until_done

        def locked(self: patience.Patience, act: object) -> object:
            other.execute("SELECT 1 FROM muniment.head FOR UPDATE")
            return take(self, act)  # type: ignore[arg-type]

        with monkeypatch.context() as patch:
            patch.setattr(patience.Patience, "until_done", locked)
            report = bench.run(LOG)
        assert report.failure is not None
        assert (report.failure.error.exit_code, report.failure.error.code) == (8, "store.locked")
        assert "kept the log locked" in report.end_unrecorded
        assert [word for word, _ in bench.told].count("waits") == 1
        assert (bench.numbers(), bench.lived()) == ([*range(1, 101)], ["completed"])
        other.rollback()
        bench.run(LOG)
        assert (bench.numbers(), bench.lived()) == ([*range(1, 301)], ["completed"] * 2)
