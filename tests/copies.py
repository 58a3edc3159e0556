"""A store of each kind that was lived in, copies of it, and what makes them differ."""

from __future__ import annotations

import shutil
import sqlite3
import tempfile
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

import psycopg
import pytest
import shop
from muniment.app import copying, projecting
from muniment.app.session import Session, evidence_alone, folder_for
from muniment.app.verify import verify_store
from muniment.domain.errors import MunimentError, UnavailableError
from muniment.store.open import open_log
from muniment.store.postgres_url import is_postgres, parse
from psycopg import sql

KINDS = pytest.mark.parametrize("kind", ["folder", "postgres"])


def build(base: Path) -> Path:
    """A store with two releases, evidence and an exported checkpoint."""
    made = shop.Shop(base)
    made.init()
    with made.open() as session:
        made.two(session)
    return made.at


def url_in(kind: str, base: Path, server: str, name: str) -> str:
    """The URL of a place of a kind where nothing is."""
    if kind == "folder":
        return str(base / name)
    return f"{server}{'&' if '?' in server else '?'}schema={name}"


def facts(url: str) -> dict[str, Any]:
    """All that a copy keeps."""
    with closing(open_log(url, read_only=True)) as log:
        said = {
            "records": list(log.read()),
            "leaves": list(log.leaves()),
            "head": log.head(),
            "frontier": log.frontier(),
            "kind": log.kind,
            "id": log.store_id,
            "projections": projecting.digest(log) if log.kind == "records" else None,
        }
        exports = folder_for(url, log.store_id) / "exports"
        said["exports"] = {path.name: path.read_bytes() for path in sorted(exports.iterdir())}
    with evidence_alone(url) as evidence:
        said["evidence"] = {one.blake3: evidence.read(one.blake3, limit=1 << 20) for one in evidence.iter()}
    return said


def sound(url: str) -> None:
    """Demand that a store verifies."""
    with evidence_alone(url) as evidence:
        report = verify_store(url, evidence=evidence)
    assert report.exit_code == 0, [(check.id, check.findings, check.detail) for check in report.checks]


@contextmanager
def spoiling(url: str):
    """Statements that no guard stops; `?` stands for a value."""
    if is_postgres(url):
        place = parse(url)
        with psycopg.connect(place.conninfo, autocommit=True) as link:
            link.execute("SET session_replication_role = replica")
            link.execute(sql.SQL("SET search_path TO {}").format(sql.Identifier(place.schema)))
            yield lambda text, *values: link.execute(text.replace("?", "%s").encode(), values)
        return
    with closing(sqlite3.connect(Path(url) / "log.db", isolation_level=None)) as link:
        for name in ("records_hold", "records_stay"):
            link.execute(f"DROP TRIGGER IF EXISTS {name}")
        yield lambda text, *values: link.execute(text, values)


def blob_path(folder: str | Path, number: int = 0) -> Path:
    """A file below `evidence/`."""
    return sorted(path for path in (Path(folder) / "evidence").rglob("*") if path.is_file())[number]


def clone(folder: Path, to: Path) -> str:
    """A store folder, file by file."""
    shutil.copytree(folder, to)
    for path in (to / "evidence").rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return str(to)


def write_one(url: str, name: str = "more") -> None:
    """One more record, with evidence of its own."""
    with tempfile.TemporaryDirectory() as base, Session(url, write=True) as session:
        shop.Shop(Path(base)).taken(session, name)


def refused(kind: type[MunimentError], code: str, *given: str, **more: Any) -> MunimentError:
    """Demand that a copy is refused."""
    with pytest.raises(kind) as caught:
        copying.copy(*given, **more)
    assert caught.value.code == code, caught.value.context
    return caught.value


def unfinished(url: str | Path) -> None:
    """Demand that nobody takes it for a store."""
    with pytest.raises(UnavailableError) as caught:
        open_log(url)
    assert caught.value.code == "store.unfinished"
