"""What the owner of a log in PostgreSQL may do beyond appending: only what a record of the log declares, in one transaction."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from muniment.app.verify import verify_store
from muniment.cli.main import run
from postgres_site import Site, site_of
from psycopg import errors


def refused(db: psycopg.Connection[Any], statement: str, kind: type[psycopg.Error]) -> None:
    with pytest.raises(kind):
        db.execute(statement.encode())


@pytest.fixture
def kept(postgres: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    """A log whose first records are those of `init`."""
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))

    def init(site: Site) -> None:
        assert run(["init", "--store", f"{site.urls['writer']}&schema={site.schema}", "-q"]) == 0

    with site_of(postgres, init) as made:
        yield made


def declared(site: Site, capsys: pytest.CaptureFixture[str]) -> int:
    capsys.readouterr()
    url = f"{site.urls['writer']}&schema={site.schema}"
    assert run(["store", "maintain", "mend", "--reason", "ticket 7", "--store", url, "-o", "json"]) == 0
    return int(json.loads(capsys.readouterr().out)["data"]["positions"][0])


def test_a_declared_act_lets_one_transaction_through(kept: Site, capsys: Any, tmp_path: Path) -> None:
    at = declared(kept, capsys)
    with kept.connect("owner") as db:
        with db.transaction():
            db.execute(
                "INSERT INTO maintenance (position, who, at, txid) VALUES (%s, 'somebody', '2001-01-01', '7')",
                (at,),
            )
            db.execute("UPDATE records SET leaf = sha256(leaf) WHERE position = 2")
            db.execute("UPDATE head SET indexed = indexed")
            with pytest.raises(errors.RaiseException), db.transaction():
                db.execute("DELETE FROM maintenance")
            with pytest.raises(errors.RaiseException), db.transaction():
                db.execute("UPDATE maintenance SET who = 'me'")
        who, txid = db.execute("SELECT who, txid::text FROM maintenance").fetchall()[0]
        assert who == f"{kept.schema}_o"
        assert txid != "7"
        refused(db, "UPDATE records SET leaf = sha256(leaf)", errors.RaiseException)
        refused(db, f"INSERT INTO maintenance (position) VALUES ({at})", errors.UniqueViolation)
    report = verify_store(f"{kept.urls['auditor']}&schema={kept.schema}", base=tmp_path)
    assert report.exit_code == 7, "what it changed is found"


@pytest.mark.parametrize("position", ["1", "2", "99", "NULL", "-1"])
def test_no_maintenance_without_a_record_that_declares_it(kept: Site, position: str) -> None:
    with kept.connect("owner") as db, pytest.raises(errors.RaiseException, match="declares no maintenance"):
        db.execute(f"INSERT INTO maintenance (position) VALUES ({position})".encode())


def test_maintenance_of_another_transaction_opens_nothing(kept: Site, capsys: Any) -> None:
    at = declared(kept, capsys)
    with kept.connect("owner") as first, kept.connect("owner") as second, first.transaction():
        first.execute("INSERT INTO maintenance (position) VALUES (%s)", (at,))
        refused(second, "DELETE FROM records", errors.RaiseException)


def test_a_writer_who_declares_still_changes_nothing(kept: Site, capsys: Any) -> None:
    at = declared(kept, capsys)
    with kept.connect("writer") as db:
        refused(db, f"INSERT INTO maintenance (position) VALUES ({at})", errors.InsufficientPrivilege)


def test_the_statement_is_printed_and_a_dry_run_declares_nothing(kept: Site, capsys: Any) -> None:
    url = f"{kept.urls['writer']}&schema={kept.schema}"
    assert run(["store", "maintain", "mend", "--dry-run", "--store", url]) == 0
    assert "INSERT INTO" not in capsys.readouterr().out
    assert run(["store", "maintain", "mend", "--store", url]) == 0
    shown = capsys.readouterr().out
    statement = shown[shown.index("BEGIN;") :].splitlines()[0]
    with kept.connect("owner") as db:
        db.execute(statement.encode())
        assert db.execute("UPDATE records SET leaf = leaf").rowcount > 0
        db.execute("ROLLBACK")
    assert run(["store", "maintain", "mend", "--store", ".muniment"]) == 2
    assert run(["store", "maintain", " ", "--store", url]) == 2
