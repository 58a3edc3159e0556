"""The steps of a schema in SQLite."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path

from muniment.store import migrations, sqlite_file
from muniment.store.migrations import Act, Plan

BUSY_S = 30.0


def plan(folder: Path) -> Plan:
    """What would be done; writes nothing.

    Raises:
        NotFoundError: no store there.
        WrongError: not a log. InvalidError: newer than this program.
        UnavailableError: it cannot be read now.
    """
    path = sqlite_file.find(folder)
    try:
        frozen = sqlite_file.is_frozen(path)
        with closing(sqlite_file.connect(path, busy_s=BUSY_S, immutable=frozen)) as db:
            sqlite_file.identify(db, path, any_version=True)
            found = sqlite_file.version(db)
    except sqlite3.Error as error:
        raise sqlite_file.from_sqlite(error, path) from error
    left = migrations.steps("sqlite", after=found)
    if not left:
        migrations.check_version(str(path), found, "sqlite")
    acts = [
        Act(
            f"schema {step.number - 1} to {step.number}",
            ("BEGIN IMMEDIATE;", step.text.strip(), f"PRAGMA user_version = {step.number};", "COMMIT;"),
        )
        for step in left
    ]
    return Plan(str(folder), found, migrations.version("sqlite"), acts)


def migrate(folder: Path) -> Plan:
    """Bring a store to the version of this program; a step that fails leaves the version before it.

    Raises:
        NotFoundError, WrongError, InvalidError: see `plan`.
        UnavailableError: locked, full, read-only.
        UnfitError: on a network file system.
    """
    planned = plan(folder)
    path = sqlite_file.find(folder)
    sqlite_file.refuse_network_file_system(path.parent)
    try:
        with closing(sqlite_file.connect(path, busy_s=BUSY_S, write=True)) as db:
            for step in migrations.steps("sqlite", after=planned.found):
                sqlite_file.take(db, step)
    except sqlite3.Error as error:
        raise sqlite_file.from_sqlite(error, path) from error
    return planned
