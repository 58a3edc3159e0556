"""Stores as versions of ours wrote them: each opens, verifies, folds to the digests of its day and takes new records, for ever.

    stores/sqlite-1.tar.gz     a folder store of schema 1, written by the code of commit b23b35b (two builds, one degraded release)
    stores/backup-1.tar.gz     a backup of it
    stores/postgres-1.sql.gz   the same log in PostgreSQL, as `pg_dump --inserts` gives it
    stores/expected.json       head, digests of the projections, evidence: what each of them must give
    stores/released.txt        SHA-256 of those that a release has written; they are never written again

A new schema gets new files beside these: raise the version, then `MUNIMENT_WRITE_GOLDEN=1 pytest tests/golden/test_stores.py`
writes what is not released (pg_dump of any version from 14 on must be found) and refuses the rest. What a release writes is then
added to `released.txt`.
"""

from __future__ import annotations

import gzip
import hashlib
import io
import json
import os
import shutil
import subprocess
import tarfile
from contextlib import closing
from pathlib import Path
from typing import Any

import copies
import psycopg
import pytest
from muniment.app import backup as backups
from muniment.app import copying
from muniment.domain.errors import InvalidError
from muniment.store import migrations, migrations_open
from muniment.store.open import open_log

STORES = Path(__file__).parent / "stores"
NOW = 1_790_000_000_000_000
WRITE = os.environ.get("MUNIMENT_WRITE_GOLDEN") == "1"


def released() -> dict[str, str]:
    lines = (STORES / "released.txt").read_text().splitlines()
    return dict(line.split() for line in lines if line and not line.startswith("#"))


def write(name: str, data: bytes) -> None:
    """Write a golden store of this version.

    Raises:
        FileExistsError: a release has written it.
    """
    if name in released():
        raise FileExistsError(f"{name} was released: a new schema is a new version beside it")
    (STORES / name).write_bytes(data)


def packed(folder: Path) -> bytes:
    """A folder as an archive that is the same bytes whoever makes it."""
    data = io.BytesIO()
    with tarfile.open(fileobj=data, mode="w", format=tarfile.PAX_FORMAT) as tar:
        for path in sorted(folder.rglob("*")):
            name = str(path.relative_to(folder))
            if name.startswith(("staging", "keys", "work", "log.db-")):
                continue
            info = tar.gettarinfo(path, name)
            info.uid = info.gid = info.mtime = 0
            info.uname = info.gname = ""
            with path.open("rb") if path.is_file() else io.BytesIO() as stream:
                tar.addfile(info, stream)
    return gzip.compress(data.getvalue(), 9, mtime=0)


def unpacked(name: str, to: Path) -> str:
    with tarfile.open(STORES / name) as tar:
        tar.extraction_filter = getattr(tarfile, "data_filter", None)  # from 3.11.4 on
        tar.extractall(to)
    for path in to.rglob("*"):
        path.chmod(0o700 if path.is_dir() else 0o600)
    return str(to)


def loaded(name: str, url: str) -> str:
    """Restore a plain SQL dump into a database."""
    text = gzip.decompress((STORES / name).read_bytes()).decode()
    lines = [line for line in text.splitlines(keepends=True) if not line.startswith("\\")]
    with psycopg.connect(url, autocommit=True) as link:
        link.execute("".join(lines).encode(), prepare=False)
    return url


def dumped(url: str, program: Path) -> bytes:
    """What `pg_dump` says, without what only newer servers know."""
    command = [program, "--inserts", "--no-owner", "--no-privileges", "--schema=muniment", "--dbname", url]
    text = subprocess.run(command, capture_output=True, text=True, check=True).stdout
    kept = [
        line
        for line in text.splitlines(keepends=True)
        if not line.startswith(("SET transaction_timeout", "\\", "-- Dumped"))
    ]
    return gzip.compress("".join(kept).encode(), 9, mtime=0)


def given(url: str) -> dict[str, Any]:
    """What is expected of a store for ever."""
    facts = copies.facts(url)
    return {
        "store_id": facts["id"],
        "size": facts["head"].size,
        "root": facts["head"].root.hex(),
        "recorded_at": facts["head"].recorded_at,
        "types": sorted({json.loads(body)["type"] for _, body in facts["records"]}),
        "evidence": sorted(facts["evidence"]),
        "projections": {
            row["projection"]: {"version": row["version"], "digest": row["digest"]}
            for row in facts["projections"]["data"]
        },
    }


def versions(kind: str) -> list[int]:
    return list(range(1, migrations.version(kind) + 1))


@pytest.fixture
def expected(tmp_path, monkeypatch) -> dict[str, Any]:
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    return json.loads((STORES / "expected.json").read_text())


def holds(url: str, expected: dict[str, Any]) -> None:
    """Migrated to this version, the store is what it was, and goes on."""
    migrations_open.migrate(url, roles=False)
    found = given(url)
    for name, was in expected["projections"].items():
        now = found["projections"].pop(name)
        assert now["version"] >= was["version"]
        assert now["version"] > was["version"] or now == was, f"{name}: another answer under the same version"
    assert found == {key: value for key, value in expected.items() if key != "projections"} | {
        "projections": found["projections"]
    }
    copies.sound(url)
    copies.write_one(url)
    copies.sound(url)
    with closing(open_log(url)) as log:
        assert log.head().size == expected["size"] + 1


@pytest.mark.parametrize("version", versions("sqlite"))
def test_a_folder_store_is_what_it_was(version, tmp_path, expected):
    holds(unpacked(f"sqlite-{version}.tar.gz", tmp_path / "store"), expected)


@pytest.mark.parametrize("version", versions("sqlite"))
def test_a_backup_is_what_it_was(version, tmp_path, expected):
    made = unpacked(f"backup-{version}.tar.gz", tmp_path / "made")
    assert backups.restore(made, str(tmp_path / "store"))[0].exit_code == 0
    holds(str(tmp_path / "store"), expected)


@pytest.mark.parametrize("version", versions("postgres"))
def test_a_store_in_postgresql_is_what_it_was(version, pg_url, tmp_path, expected):
    url = loaded(f"postgres-{version}.sql.gz", pg_url)
    if not (exports := copies.folder_for(url, expected["store_id"]) / "exports").exists():
        unpacked("sqlite-1.tar.gz", tmp_path / "sqlite")  # they are not in the database (decision 0009)
        shutil.copytree(tmp_path / "sqlite" / "exports", exports)
    holds(url, expected)


def test_every_version_has_its_goldens_and_no_other_is_there():
    names = {f"{kind}-{n}.tar.gz" for kind in ("sqlite", "backup") for n in versions("sqlite")}
    names |= {f"postgres-{n}.sql.gz" for n in versions("postgres")}
    assert {path.name for path in STORES.iterdir()} == names | {"expected.json", "released.txt"}


def test_what_was_released_is_never_written_again():
    for name, digest in released().items():
        assert hashlib.sha256((STORES / name).read_bytes()).hexdigest() == digest, name
        with pytest.raises(FileExistsError):
            write(name, b"other")
        assert hashlib.sha256((STORES / name).read_bytes()).hexdigest() == digest, name
    assert "sqlite-1.tar.gz" in released()


def test_a_golden_of_tomorrow_is_refused(tmp_path, expected):
    url = unpacked("sqlite-1.tar.gz", tmp_path / "store")
    with copies.spoiling(url) as run:
        run(f"PRAGMA user_version = {migrations.version('sqlite') + 1}")
    with pytest.raises(InvalidError) as caught:
        open_log(url)
    assert caught.value.code == "store.version"


@pytest.mark.skipif(not WRITE, reason="MUNIMENT_WRITE_GOLDEN=1 writes them")
def test_write(tmp_path, pg_url, postgres, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    store = unpacked("sqlite-1.tar.gz", tmp_path / "store")
    if not (STORES / "expected.json").exists():
        (STORES / "expected.json").write_text(json.dumps(given(store), indent=1, sort_keys=True) + "\n")
    migrations_open.migrate(store, roles=False)
    known, sqlite, server = released(), migrations.version("sqlite"), migrations.version("postgres")
    if f"sqlite-{sqlite}.tar.gz" not in known:
        write(f"sqlite-{sqlite}.tar.gz", packed(Path(store)))
    if f"backup-{sqlite}.tar.gz" not in known:
        backups.backup(store, str(tmp_path / "made"), now=NOW)
        write(f"backup-{sqlite}.tar.gz", packed(tmp_path / "made"))
    if f"postgres-{server}.sql.gz" not in known:
        copying.copy(store, pg_url)
        program = shutil.which("pg_dump") or postgres.binaries.folder / "pg_dump"
        write(f"postgres-{server}.sql.gz", dumped(pg_url, Path(program)))
