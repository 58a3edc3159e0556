"""Steps and roles of a log in PostgreSQL: forward only, whole or not at all, and said beforehand."""

from __future__ import annotations

import contextlib
import json
import secrets
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from muniment.cli.main import run
from muniment.domain.errors import (
    ConflictError,
    DeniedError,
    InvalidError,
    MunimentError,
    UnavailableError,
    UsageError,
    WrongError,
)
from muniment.ops.bench import data
from muniment.store import migrations, postgres_facts
from muniment.store.migrations_open import migrate, plan
from muniment.store.migrations_rights import found, roles_of
from muniment.store.postgres_log import PostgresLog
from muniment.store.postgres_pool import connect
from muniment.store.postgres_url import parse
from postgres_site import as_user

SECOND = """-- Schema 2, made up.
CREATE TABLE notes (position bigint PRIMARY KEY REFERENCES records, note text NOT NULL);
CREATE TRIGGER notes_hold BEFORE UPDATE OR DELETE OR TRUNCATE ON notes EXECUTE FUNCTION refuse_change();
CREATE FUNCTION noted() RETURNS bigint LANGUAGE sql SET search_path = pg_catalog, pg_temp AS 'SELECT 1::bigint';
"""
Place = Callable[..., str]


@pytest.fixture
def place(postgres: Any) -> Iterator[Place]:
    """URL of a schema of its own in a fresh database, for a role; the group roles are gone afterwards."""
    schema = f"m{secrets.token_hex(4)}"
    logins: list[str] = []

    def url(login: str = "", more: str = "") -> str:
        if not login:
            return f"{admin}&schema={schema}"
        name_ = f"{schema}_{login}"
        if name_ not in logins:
            postgres.execute(f"CREATE ROLE {name_} LOGIN PASSWORD 'p' {more}")
            logins.append(name_)
        return f"{as_user(admin, name_)}&schema={schema}"

    try:
        with postgres.database() as name:
            admin = postgres.url(name)
            admin = admin if "?" in admin else f"{admin}?connect_timeout=10"
            yield url
    finally:
        for role in (*logins, *roles_of(schema)):
            postgres.execute(f"DROP ROLE IF EXISTS {role}")


@pytest.fixture
def step(next_version: Callable[[str, str], None]) -> Callable[..., None]:
    return lambda text=SECOND: next_version("postgres", text)


def admin(url: str, statement: str, *values: Any) -> list[tuple[Any, ...]]:
    with connect(parse(url)) as db:
        done = db.execute(statement.encode(), values or None, prepare=False)
        return done.fetchall() if done.description else []


def catalog(url: str) -> tuple[Any, ...]:
    """Facts, owners, rights and comment of the schema, without its name."""
    schema = parse(url).schema
    with connect(parse(url)) as db:
        rows = db.execute(
            "SELECT relkind::text || relname || pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = to_regnamespace(%s)"
            " UNION ALL SELECT proname || pg_get_userbyid(proowner) FROM pg_proc WHERE pronamespace = to_regnamespace(%s)"
            " UNION ALL SELECT obj_description(to_regnamespace(%s), 'pg_namespace')",
            (schema, schema, schema),
        ).fetchall()
        rights = found(db, schema, roles_of(schema))
        facts = postgres_facts.found(db, schema)
    clean = sorted(str(row[0]).replace(schema, "S") for row in rows)
    return facts, clean, sorted(str(tuple(right)).replace(schema, "S") for right in rights)


def test_a_new_log_with_its_roles_is_one_transaction_and_the_second_time_nothing(place: Place) -> None:
    planned = plan(place())
    assert (planned.found, planned.version) == (0, 1)
    done = migrate(place())
    assert [act.what for act in done.acts] == [act.what for act in planned.acts]
    again = migrate(place())
    assert (again.found, again.acts) == (1, [])
    assert catalog(place())[0] == postgres_facts.EXPECTED


def test_the_printed_statements_are_those_that_are_run(place: Place, postgres: Any, capsys: Any) -> None:
    assert run(["store", "migrate", "--sql", "--store", place()]) == 0
    script = capsys.readouterr().out
    admin(place(), script)
    made = catalog(place())
    assert plan(place()).acts == []
    schema = parse(place()).schema
    admin(place(), f"DROP SCHEMA {schema} CASCADE")
    migrate(place())
    assert catalog(place()) == made


@pytest.mark.parametrize("roles", [True, False])
def test_a_migrated_schema_is_a_fresh_schema(place: Place, step: Any, postgres: Any, roles: bool) -> None:
    with contextlib.closing(PostgresLog.create(place())) as log:
        data.fill(log, 20)
        head = log.head()
    if roles:
        migrate(place())
    step()
    done = migrate(place(), roles=roles)
    assert (done.found, done.version) == (1, 2)
    assert done.acts[0].what == "schema 1 to 2"
    migrated = catalog(place())
    with contextlib.closing(PostgresLog.open(place())) as log:
        assert log.head() == head
        log.append(data.drafts(100, 2))
    admin(place(), f"DROP SCHEMA {parse(place()).schema} CASCADE")
    if roles:
        migrate(place())
    else:
        PostgresLog.create(place()).close()
    assert catalog(place()) == migrated
    assert "table notes" in migrated[0]


def test_an_older_log_is_refused_with_the_way_forward(place: Place, step: Any, capsys: Any) -> None:
    PostgresLog.create(place()).close()
    step()
    with pytest.raises(InvalidError) as caught:
        PostgresLog.open(place())
    assert (caught.value.code, caught.value.hint) == ("store.version", "muniment store migrate")
    assert caught.value.context == {"expected": 2, "found": 1}
    for words in (
        ["history", "list"],
        ["channel", "show"],
        ["identity", "list"],
        ["init"],
    ):
        capsys.readouterr()
        assert run([*words, "--store", place(), "-o", "json"]) == 10, words
        assert json.loads(capsys.readouterr().err)["code"] == "store.version"
    assert run(["verify", "store", "--store", place()]) == 7
    assert "fail     store.settings" in capsys.readouterr().out


def test_a_newer_log_is_refused_and_left(place: Place, monkeypatch: Any, step: Any) -> None:
    with monkeypatch.context():
        old = migrations.FOLDER
        step()
        migrate(place())
        before = catalog(place())
        monkeypatch.setattr(migrations, "FOLDER", old)
    for work in (PostgresLog.open, plan, migrate):
        with pytest.raises(InvalidError, match="newer"):
            work(place())
    assert catalog(place()) == before


@pytest.mark.parametrize("where", ["CREATE TABLE head (x int);", "SELECT 1/0;", "syntax error;"])
def test_a_failed_step_leaves_the_old_version(place: Place, step: Any, where: str) -> None:
    migrate(place())
    before = catalog(place())
    step(SECOND + where)
    with pytest.raises(MunimentError):
        migrate(place())
    assert catalog(place()) == before
    step()
    assert migrate(place()).version == 2


def test_a_failed_first_step_leaves_nothing_and_no_role(place: Place, step: Any, postgres: Any) -> None:
    step("SELECT 1/0;")
    with pytest.raises(MunimentError):
        migrate(place())
    schema = parse(place()).schema
    assert postgres.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE %s", f"{schema}%") == []
    assert admin(place(), "SELECT 1 FROM pg_namespace WHERE nspname = %s", schema) == []


def test_a_dry_run_writes_nothing_and_says_all(place: Place, step: Any, capsys: Any) -> None:
    migrate(place())
    step()
    before = catalog(place())
    assert run(["store", "migrate", "--dry-run", "--store", place(), "-o", "json"]) == 0
    said = json.loads(capsys.readouterr().out)["data"]
    assert (said["found"], said["version"], said["dry_run"]) == (1, 2, True)
    assert any("CREATE TABLE notes" in text for act in said["acts"] for text in act["statements"])
    assert catalog(place()) == before
    assert run(["store", "migrate", "--dry-run", "--sql", "--store", place()]) == 2


def test_concurrent_migrations_do_the_work_once(place: Place, step: Any) -> None:
    migrate(place())
    step(f"{SECOND}SELECT pg_sleep(0.3);")
    done: list[Any] = []
    threads = [threading.Thread(target=lambda: done.append(migrate(place()))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(60)
    assert sorted(len([a for a in each.acts if a.what == "schema 1 to 2"]) for each in done) == [0, 0, 0, 1]


# -- roles ---------------------------------------------------------------------------------------------------------


def test_a_role_that_may_not_make_roles_is_told_what_to_have_run(
    place: Place, postgres: Any, capsys: Any
) -> None:
    bob = place("bob")
    database = admin(place(), "SELECT current_database()")[0][0]
    postgres.execute(f"GRANT CREATE ON DATABASE {database} TO {parse(bob).schema}_bob")
    PostgresLog.create(bob).close()
    before = catalog(place())
    for words in ([], ["--dry-run"]):
        assert run(["store", "migrate", *words, "--store", bob, "-o", "json"]) == 4
        said = json.loads(capsys.readouterr().err)
        assert said["code"] == "store.roles"
    assert catalog(place()) == before
    assert run(["store", "migrate", "--no-roles", "--store", bob]) == 0
    for name, statement in said["context"].items():
        assert name.startswith("run_")
        admin(place(), statement)
    assert len(migrate(bob).acts) == 2
    assert migrate(bob).acts == []
    PostgresLog.open(bob).close()
    owners = admin(place(), "SELECT DISTINCT pg_get_userbyid(relowner) FROM pg_class WHERE relnamespace = %s::regnamespace",
                   parse(bob).schema)  # fmt: skip
    assert owners == [(roles_of(parse(bob).schema).owner,)]


def test_a_plain_user_without_a_schema_is_told_so(place: Place) -> None:
    with pytest.raises(DeniedError) as caught:
        migrate(place("carol"))
    assert any("GRANT CREATE ON DATABASE" in str(text) for text in caught.value.context.values())
    assert any("CREATE ROLE" in str(text) for text in caught.value.context.values())


def test_a_role_that_may_make_roles_needs_no_superuser(place: Place, postgres: Any) -> None:
    maker = place("maker", "CREATEROLE")
    database = admin(place(), "SELECT current_database()")[0][0]
    postgres.execute(f"GRANT CREATE ON DATABASE {database} TO {parse(maker).schema}_maker")
    assert plan(maker).wanting == ()
    migrate(maker)
    assert migrate(maker).acts == []
    mine = catalog(maker)
    assert mine[0] == postgres_facts.EXPECTED
    with contextlib.closing(PostgresLog.open(maker)) as log:
        data.fill(log, 3)


def test_rights_that_were_changed_are_put_right(place: Place) -> None:
    migrate(place())
    made = catalog(place())
    schema, roles = parse(place()).schema, roles_of(parse(place()).schema)
    admin(
        place(),
        f"GRANT UPDATE, DELETE ON {schema}.records TO {roles.writer}; GRANT SELECT ON {schema}.records TO PUBLIC",
    )
    admin(
        place(),
        f"GRANT UPDATE (body) ON {schema}.records TO {roles.auditor}; GRANT CREATE ON SCHEMA {schema} TO PUBLIC",
    )
    admin(
        place(),
        f"REVOKE INSERT ON {schema}.records FROM {roles.writer}; GRANT EXECUTE ON FUNCTION {schema}.refuse_change() TO PUBLIC",
    )
    assert catalog(place()) != made
    done = migrate(place())
    assert [act.what for act in done.acts] == [f"rights of {roles.writer} and {roles.auditor}"]
    assert catalog(place()) == made


def test_a_role_of_another_log_is_not_used(place: Place, postgres: Any) -> None:
    schema = parse(place()).schema
    migrate(place())
    with postgres.database() as other:
        url = postgres.url(other)
        url = f"{url}{'&' if '?' in url else '?'}schema={schema}"
        with pytest.raises(ConflictError) as caught:
            migrate(url)
        assert caught.value.code == "store.role_taken"
        assert admin(url, "SELECT 1 FROM pg_namespace WHERE nspname = %s", schema) == []


def test_a_name_that_leaves_no_room_is_refused(place: Place) -> None:
    url = place().replace(f"schema={parse(place()).schema}", f"schema={'x' * 56}")
    with pytest.raises(UsageError):
        migrate(url)
    assert migrate(url, roles=False).version == 1


@pytest.mark.parametrize(
    ("comment", "kind"),
    [("muniment copy: kind=records schema=1", UnavailableError), ("muniment log: kind=records schema=0", InvalidError),
     ("muniment log: kind=records schema=7", InvalidError), ("something", ConflictError), ("", ConflictError)],
)  # fmt: skip
def test_what_is_no_log_is_left_alone(place: Place, comment: str, kind: type[MunimentError]) -> None:
    migrate(place(), roles=False)
    schema = parse(place()).schema
    admin(place(), f"COMMENT ON SCHEMA {schema} IS '{comment}'")
    before = catalog(place())
    for work in (plan, migrate):
        with pytest.raises(kind):
            work(place())
    assert catalog(place()) == before


def test_init_makes_no_role(place: Place, postgres: Any, monkeypatch: Any, tmp_path: Path) -> None:
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path))
    assert run(["init", "--store", place(), "-q"]) == 0
    assert postgres.execute("SELECT 1 FROM pg_roles WHERE rolname LIKE %s", f"{parse(place()).schema}%") == []
    assert run(["store", "migrate", "--store", place()]) == 0
    assert run(["verify", "store", "--store", place()]) == 0


def test_a_log_that_is_no_log_says_so(place: Place) -> None:
    admin(place(), f"CREATE SCHEMA {parse(place()).schema}")
    with pytest.raises(WrongError):
        PostgresLog.open(place())
    assert migrate(place()).version == 1, "an empty schema that an administrator made is used"
    with contextlib.closing(PostgresLog.open(place())), psycopg.connect(place().rpartition("&")[0]):
        pass
