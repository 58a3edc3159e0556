"""From the URL of a store to what brings it to the version of this program."""

from __future__ import annotations

from pathlib import Path

from muniment.store import migrations_sqlite
from muniment.store.migrations import Plan
from muniment.store.open import folder_of
from muniment.store.postgres_url import is_postgres, parse


def plan(url: str | Path, *, roles: bool = True) -> Plan:
    """What would be done; writes nothing.

    Args:
        roles: in PostgreSQL also the group roles and their rights.

    Raises:
        UsageError: no such kind of store. NotFoundError: no SQLite store there.
        MunimentError: see `migrations_sqlite.plan`, `migrations_postgres.plan`.
    """
    if isinstance(url, str) and is_postgres(url):
        from muniment.store import migrations_postgres

        return migrations_postgres.plan(parse(url), roles=roles)
    return migrations_sqlite.plan(folder_of(url))


def migrate(url: str | Path, *, roles: bool = True) -> Plan:
    """Do it; return what was done.

    Raises:
        DeniedError: in PostgreSQL, this role may not; nothing was done.
        MunimentError: see `plan`.
    """
    if isinstance(url, str) and is_postgres(url):
        from muniment.store import migrations_postgres

        return migrations_postgres.migrate(parse(url), roles=roles)
    return migrations_sqlite.migrate(folder_of(url))


def demand_rights(planned: Plan) -> None:
    """See `migrations_postgres.demand_rights`."""
    if planned.wanting:
        from muniment.store import migrations_postgres

        migrations_postgres.demand_rights(planned)
