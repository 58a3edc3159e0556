"""A log with its roles in a fresh database, and a login for each of them."""

from __future__ import annotations

import contextlib
import re
import secrets
from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import psycopg
from muniment.store import migrations_rights
from muniment.store.migrations_open import migrate
from muniment.store.postgres_log import PostgresLog
from psycopg import sql

KEPT = ("records", "types", "postings", "evidence", "evidence_chunk")
TABLES = (*KEPT, "head", "maintenance")


class Site(NamedTuple):
    """A log, its schema, and the URL of each login."""

    schema: str
    admin: str
    urls: dict[str, str]

    def connect(self, who: str, path: str = "") -> psycopg.Connection[Any]:
        link = psycopg.connect(self.admin if who == "admin" else self.urls[who], autocommit=True)
        link.execute(sql.SQL("SET search_path TO {}").format(sql.SQL(path or self.schema)))
        return link

    def log(self, who: str, **more: Any) -> PostgresLog:
        return PostgresLog.open(f"{self.urls[who]}&schema={self.schema}", **more)

    def state(self) -> str:
        """Everything that stays, and every fact of the schema."""
        parts = [
            f"(SELECT md5(coalesce(string_agg(t::text, '|' ORDER BY t::text), '')) FROM {t} AS t)"
            for t in TABLES
        ]
        with self.connect("admin") as db:
            row = db.execute(f"SELECT {', '.join(parts)}".encode()).fetchone()
            facts = db.execute(
                "SELECT count(*), sum(hashtext(t::text)) FROM pg_class AS t WHERE relnamespace = to_regnamespace(%s)"
                " AND relkind = 'r' AND relname <> 'memo'",
                (self.schema,),
            ).fetchone()
            triggers = db.execute(
                "SELECT string_agg(tgname || tgenabled::text, ',' ORDER BY tgname) FROM pg_trigger WHERE NOT tgisinternal"
            ).fetchone()
        return repr((row, facts and facts[0], triggers))


def as_user(url: str, user: str, password: str = "p") -> str:
    with_user = re.sub(r"^postgres(ql)?://([^@/?]*@)?", f"postgresql://{user}:{password}@", url)
    return with_user if "?" in with_user else f"{with_user}?connect_timeout=10"


@contextlib.contextmanager
def site_of(postgres: Any, fill: Callable[[Site], None]) -> Iterator[Site]:
    schema = f"r{secrets.token_hex(4)}"
    roles = migrations_rights.roles_of(schema)
    logins = {
        "writer": (f"{schema}_w", roles.writer),
        "auditor": (f"{schema}_a", roles.auditor),
        "owner": (f"{schema}_o", roles.owner),
        "stranger": (f"{schema}_s", ""),
    }
    try:
        with postgres.database() as name:
            admin = postgres.url(name)
            admin = admin if "?" in admin else f"{admin}?connect_timeout=10"
            migrate(f"{admin}&schema={schema}")
            for login, role in logins.values():
                postgres.execute(f"CREATE ROLE {login} LOGIN PASSWORD 'p'")
                if role:
                    postgres.execute(f"GRANT {role} TO {login}")
            site = Site(schema, admin, {who: as_user(admin, login) for who, (login, _) in logins.items()})
            fill(site)
            yield site
    finally:
        for login, _ in logins.values():
            postgres.execute(f"DROP ROLE IF EXISTS {login}")
        for role in roles:
            postgres.execute(f"DROP ROLE IF EXISTS {role}")
