"""Roles of a log in PostgreSQL: what writer, auditor, owner and a stranger can and cannot do, each with a login of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from muniment.app.verify import verify_store
from muniment.domain.errors import DeniedError, UnavailableError
from muniment.ops.bench import data
from muniment.store import migrations_rights
from postgres_site import KEPT, TABLES, Site, site_of
from psycopg import errors

COLUMN = {"records": "body", "types": "name", "postings": "entries", "evidence": "sha256", "evidence_chunk": "bytes",
          "head": "frontier", "maintenance": "who"}  # fmt: skip
KEY = {"records": "position", "types": "id", "postings": "term, first", "evidence": "blake3",
       "evidence_chunk": "blake3, index", "head": "one", "maintenance": "position"}  # fmt: skip


def _fill(site: Site) -> None:
    with contextlib.closing(site.log("writer")) as log:
        data.fill(log, 600)
    with site.connect("writer") as db, db.transaction():
        db.execute("INSERT INTO evidence_chunk VALUES (%s, 0, 'x')", ("ab" * 32,))
        db.execute("INSERT INTO evidence VALUES (%s, %s, 1)", ("ab" * 32, "cd" * 32))


@pytest.fixture(scope="module")
def site(postgres: Any) -> Iterator[Site]:
    with site_of(postgres, _fill) as made:
        yield made


@pytest.fixture
def untouched(site: Site) -> Iterator[None]:
    """Nothing that stays is other than before."""
    before = site.state()
    yield
    assert site.state() == before


def _changes(table: str) -> dict[str, str]:
    column, key = COLUMN[table], KEY[table]
    return {
        "update": f"UPDATE {table} SET {column} = {column}",
        "update of the key": f"UPDATE {table} SET {key.partition(',')[0]} = {key.partition(',')[0]}",
        "update from": f"UPDATE {table} AS t SET {column} = o.{column} FROM {table} AS o",
        "delete": f"DELETE FROM {table}",
        "delete using": f"DELETE FROM {table} USING pg_class",
        "truncate": f"TRUNCATE {table}",
        "truncate cascade": f"TRUNCATE {table} CASCADE",
        "insert on conflict": f"INSERT INTO {table} SELECT * FROM {table} ON CONFLICT ({key}) DO UPDATE"
        f" SET {column} = EXCLUDED.{column}",
        "in a with": f"WITH x AS (DELETE FROM {table} RETURNING 1) SELECT * FROM x",
        "in a block": f"DO $$BEGIN UPDATE {table} SET {column} = {column}; END$$",
        "through a view": f"CREATE TEMP VIEW w AS SELECT * FROM {table}; UPDATE w SET {column} = {column}",
        "through a function": f"CREATE FUNCTION pg_temp.f() RETURNS void LANGUAGE sql SECURITY DEFINER AS 'DELETE FROM {table}';"
        "SELECT pg_temp.f()",
        "merge": f"MERGE INTO {table} AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN DELETE",
        "merge update": f"MERGE INTO {table} AS t USING (SELECT 1) AS s ON true WHEN MATCHED THEN UPDATE SET {column} = {column}",
    }


CHANGES = [(table, way) for table in TABLES for way in _changes("head")]
STRUCTURE = {
    "triggers off": "ALTER TABLE {t} DISABLE TRIGGER ALL",
    "user triggers off": "ALTER TABLE {t} DISABLE TRIGGER USER",
    "a trigger": "CREATE TRIGGER x BEFORE UPDATE ON {t} EXECUTE FUNCTION refuse_change()",
    "a rule": "CREATE RULE x AS ON INSERT TO {t} DO INSTEAD NOTHING",
    "a column": "ALTER TABLE {t} ADD COLUMN x text",
    "a policy": "CREATE POLICY x ON {t}",
    "row security": "ALTER TABLE {t} ENABLE ROW LEVEL SECURITY",
    "an owner": "ALTER TABLE {t} OWNER TO CURRENT_USER",
    "drop": "DROP TABLE {t}",
    "rename": "ALTER TABLE {t} RENAME TO x",
    "an index": "CREATE UNIQUE INDEX x ON {t} (({c}))",
    "inheritance": "CREATE TEMP TABLE x () INHERITS ({t})",
    "a lock that readers feel": "BEGIN; LOCK TABLE {t} IN ACCESS EXCLUSIVE MODE",
    "a lock that writers feel": "BEGIN; LOCK TABLE {t} IN SHARE ROW EXCLUSIVE MODE",
}
SYSTEM = {
    "replica": "SET session_replication_role = replica",
    "replica by function": "SELECT pg_catalog.set_config('session_replication_role', 'replica', false)",
    "the owner's role": "SET ROLE {owner}",
    "another session": "SET SESSION AUTHORIZATION {owner}",
    "oneself owner": "GRANT {owner} TO CURRENT_USER",
    "a table in the schema": "CREATE TABLE x (y int)",
    "a view in the schema": "CREATE VIEW x AS SELECT 1",
    "a function in the schema": "CREATE FUNCTION x() RETURNS int LANGUAGE sql AS 'SELECT 1'",
    "the function": "CREATE OR REPLACE FUNCTION refuse_change() RETURNS trigger LANGUAGE plpgsql AS 'BEGIN RETURN NULL; END'",
    "its settings": "ALTER FUNCTION refuse_change() RESET search_path",
    "drop the function": "DROP FUNCTION refuse_change() CASCADE",
    "the comment": "COMMENT ON SCHEMA {schema} IS 'muniment log: kind=records schema=1'",
    "the name": "ALTER SCHEMA {schema} RENAME TO x",
    "the schema": "DROP SCHEMA {schema} CASCADE",
    "an event trigger": "CREATE EVENT TRIGGER x ON ddl_command_start EXECUTE FUNCTION refuse_change()",
    "a foreign server": "CREATE FOREIGN DATA WRAPPER x",
    "a program": "COPY records FROM PROGRAM 'cat'",
    "a file": "COPY records FROM '/etc/passwd'",
    "a setting": "ALTER SYSTEM SET fsync = off",
    "a publication": "CREATE PUBLICATION x FOR ALL TABLES",
}


def refused(db: psycopg.Connection[Any], statement: str, *kinds: type[psycopg.Error]) -> None:
    if statement.startswith(("MERGE", "WITH x AS (MERGE")) and db.info.server_version < 150_000:
        pytest.skip("PostgreSQL 14 has no MERGE")
    with pytest.raises(kinds or errors.InsufficientPrivilege):
        db.execute(statement.encode())


@pytest.mark.parametrize(("table", "way"), CHANGES)
@pytest.mark.parametrize("who", ["writer", "auditor"])
def test_what_stays_is_changed_by_nobody(site: Site, who: str, table: str, way: str) -> None:
    allowed = who == "writer" and table == "head"  # a column right: here the trigger refuses
    kinds = (
        (errors.InsufficientPrivilege, errors.RaiseException) if allowed else (errors.InsufficientPrivilege,)
    )
    with site.connect(who) as db:
        refused(db, _changes(table)[way], *kinds)


@pytest.mark.parametrize("table", TABLES)
@pytest.mark.parametrize("what", STRUCTURE)
@pytest.mark.parametrize("who", ["writer", "auditor"])
def test_no_table_is_altered(site: Site, who: str, table: str, what: str) -> None:
    with site.connect(who) as db:
        refused(db, STRUCTURE[what].format(t=table, c=COLUMN[table]))


@pytest.mark.parametrize("what", SYSTEM)
@pytest.mark.parametrize("who", ["writer", "auditor"])
def test_no_way_around(site: Site, who: str, what: str) -> None:
    owner = migrations_rights.roles_of(site.schema).owner
    with site.connect(who) as db:
        refused(db, SYSTEM[what].format(owner=owner, schema=site.schema))


@pytest.mark.parametrize("table", TABLES)
def test_an_auditor_adds_nothing_and_a_stranger_sees_nothing(site: Site, table: str) -> None:
    with site.connect("auditor") as db:
        refused(db, f"INSERT INTO {table} SELECT * FROM {table}")
        refused(db, f"COPY {table} FROM STDIN")
        refused(db, f"SELECT 1 FROM {table} FOR UPDATE")
        assert db.execute(f"SELECT count(*) FROM {table}".encode()).fetchone() is not None
    with site.connect("stranger") as db:
        refused(db, f"SELECT 1 FROM {site.schema}.{table}")


@pytest.mark.parametrize("table", ["head", "maintenance"])
def test_a_writer_adds_no_head_and_no_maintenance(site: Site, table: str, untouched: None) -> None:
    with site.connect("writer") as db:
        refused(db, f"INSERT INTO {table} SELECT * FROM {table}")
        refused(db, f"INSERT INTO {table} ({KEY[table]}) VALUES (1)")
        refused(db, f"COPY {table} FROM STDIN")


@pytest.mark.parametrize("table", KEPT)
def test_a_writer_locks_no_row_that_stays(site: Site, table: str) -> None:
    with site.connect("writer") as db:
        refused(db, f"SELECT 1 FROM {table} FOR UPDATE")
        refused(db, f"SELECT 1 FROM {table} FOR KEY SHARE")


BACKWARDS = {
    "the same": "size = size",
    "smaller": "size = size - 1",
    "an earlier time": "size = size + 1, recorded_at = '2001-01-01T00:00:00.000000Z'",
    "less index": "size = size + 1, indexed = indexed - 1",
    "more index than log": "size = size + 1, indexed = size + 2",
    "another frontier": "frontier = ''",
}


@pytest.mark.parametrize("case", BACKWARDS)
@pytest.mark.parametrize("who", ["writer", "owner"])
def test_the_head_only_moves_on(site: Site, who: str, case: str, untouched: None) -> None:
    with site.connect(who) as db:
        refused(db, f"UPDATE head SET {BACKWARDS[case]}", errors.RaiseException)


def test_the_head_moves_on(site: Site) -> None:
    with site.connect("writer") as db, db.transaction(force_rollback=True):
        assert db.execute("UPDATE head SET size = size + 1").rowcount == 1


@pytest.mark.parametrize(("table", "way"), CHANGES)
def test_the_owner_is_refused_by_the_triggers(site: Site, table: str, way: str, untouched: None) -> None:
    if table == "maintenance" and way == "insert on conflict":
        pytest.skip("nothing stands there to conflict with")
    with site.connect("owner") as db, db.transaction(force_rollback=True):
        refused(
            db,
            _changes(table)[way],
            errors.RaiseException,
            errors.FeatureNotSupported,
            errors.ActiveSqlTransaction,
        )


def test_an_owner_switches_no_triggers_off_for_the_session(site: Site) -> None:
    with site.connect("owner") as db:
        refused(db, SYSTEM["replica"])


PLANTED = """
CREATE SCHEMA evil;
CREATE TABLE evil.maintenance (position bigint, txid xid8);
CREATE TABLE evil.records AS SELECT 1::bigint AS position, '{"type":"store.maintenance_declared/1"}'::bytea AS body;
CREATE FUNCTION evil.yes(bigint, bigint) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.yes(text, text) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE FUNCTION evil.yes(xid8, xid8) RETURNS boolean LANGUAGE sql AS 'SELECT true';
CREATE OPERATOR evil.> (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.yes);
CREATE OPERATOR evil.>= (LEFTARG = bigint, RIGHTARG = bigint, FUNCTION = evil.yes);
CREATE OPERATOR evil.>= (LEFTARG = text, RIGHTARG = text, FUNCTION = evil.yes);
CREATE OPERATOR evil.= (LEFTARG = xid8, RIGHTARG = xid8, FUNCTION = evil.yes);
CREATE FUNCTION evil.format(text, name) RETURNS text LANGUAGE sql AS $$SELECT 'SELECT true'$$;
CREATE FUNCTION evil.pg_current_xact_id_if_assigned() RETURNS xid8 LANGUAGE sql AS $$SELECT '1'::xid8$$;
CREATE TEMP TABLE maintenance (position bigint, txid xid8);
CREATE TEMP TABLE records AS SELECT * FROM evil.records;
INSERT INTO evil.maintenance VALUES (1, pg_current_xact_id());
"""


@pytest.mark.parametrize("who", ["writer", "owner"])
def test_what_is_planted_in_a_search_path_changes_nothing(
    site: Site, postgres: Any, who: str, untouched: None
) -> None:
    with site.connect("admin") as db:
        db.execute(f"GRANT CREATE ON DATABASE {db.info.dbname} TO PUBLIC".encode())
    with site.connect(who) as db:
        db.execute(PLANTED.encode())
        try:
            for path in ("evil, pg_catalog, pg_temp", "pg_temp, evil, pg_catalog"):
                db.execute(f"SET search_path TO {path}".encode())
                refused(db, f"UPDATE {site.schema}.head SET size = size", errors.RaiseException)
                if who == "owner":
                    refused(db, f"DELETE FROM {site.schema}.records", errors.RaiseException)
                    refused(
                        db,
                        f"INSERT INTO {site.schema}.maintenance (position) VALUES (1)",
                        errors.RaiseException,
                    )
        finally:
            db.execute("DROP SCHEMA evil CASCADE")


def test_a_function_planted_in_public_is_not_called_by_the_program(site: Site) -> None:
    with site.connect("admin", "public") as db:
        db.execute(  # of (oid, text), so a better fit to what the program says than that of the system, of (oid, name)
            "CREATE FUNCTION public.obj_description(oid, text) RETURNS text LANGUAGE sql AS $$SELECT 'planted'$$"
        )
        db.execute("GRANT USAGE ON SCHEMA public TO PUBLIC")
        try:
            with contextlib.closing(site.log("writer")) as log:
                before = log.head().size
                log.append(data.drafts(20_001, 3))
                assert log.head().size == before + 3
        finally:
            db.execute("DROP FUNCTION public.obj_description(oid, text)")


def test_the_rights_are_those_that_are_wanted_and_no_other(site: Site) -> None:
    roles = migrations_rights.roles_of(site.schema)
    with site.connect("admin") as db:
        assert migrations_rights.found(db, site.schema, roles) == migrations_rights.wanted(roles)
        strangers = db.execute(
            "SELECT DISTINCT pg_get_userbyid(grantee) FROM pg_class, aclexplode(relacl) WHERE relnamespace = to_regnamespace(%s)",
            (site.schema,),
        ).fetchall()
    assert {name for (name,) in strangers} == set(roles)
    with site.connect("admin") as db:
        found = db.execute(
            "SELECT rolcanlogin, rolsuper FROM pg_roles WHERE rolname = ANY(%s)", (list(roles),)
        ).fetchall()
    assert found == [(False, False)] * 3


@pytest.mark.parametrize("who", ["writer", "auditor", "stranger"])
def test_nobody_passes_a_right_on(site: Site, who: str) -> None:
    roles = migrations_rights.roles_of(site.schema)
    with site.connect(who) as db:
        for table in TABLES:
            for right in ("ALL", "UPDATE", "SELECT"):
                with contextlib.suppress(
                    errors.InsufficientPrivilege
                ):  # else a warning, and nothing is granted
                    db.execute(f"GRANT {right} ON {site.schema}.{table} TO PUBLIC".encode())
    with site.connect("admin") as db:
        assert migrations_rights.found(db, site.schema, roles) == migrations_rights.wanted(roles)


def test_a_later_table_is_readable_and_nothing_more(site: Site) -> None:
    with site.connect("owner") as db:
        db.execute(f"SET ROLE {migrations_rights.roles_of(site.schema).owner}".encode())
        db.execute(
            "CREATE TABLE later (x int); CREATE FUNCTION later() RETURNS int LANGUAGE sql AS 'SELECT 1'"
        )
        try:
            for who in ("writer", "auditor"):
                with site.connect(who) as other:
                    assert other.execute("SELECT count(*) FROM later").fetchone() == (0,)
                    refused(other, "INSERT INTO later VALUES (1)")
                    refused(other, "SELECT later()")
        finally:
            db.execute("DROP TABLE later; DROP FUNCTION later()")


def test_a_writer_appends_and_keeps_memos_and_an_auditor_reads_and_verifies(
    site: Site, tmp_path: Path
) -> None:
    with contextlib.closing(site.log("writer")) as log:
        log.append(data.drafts(30_001, 3))
        log.memo_place().write(5, [b"five"])
        with contextlib.closing(site.log("auditor")) as seen:
            assert seen.head() == log.head()
            assert seen.memo_place().open(5)(0, 9) == b"five"
            with pytest.raises(UnavailableError):
                seen.memo_place().write(6, [b"six"])
            with pytest.raises(DeniedError):
                seen.append(data.drafts(10_000, 1))
    with contextlib.closing(site.log("auditor", read_only=True)) as seen:
        assert seen.last_match(()) == seen.head().size
        assert verify_store(f"{site.urls['auditor']}&schema={site.schema}", base=tmp_path).ok
    with site.connect("auditor") as db:
        db.execute("LISTEN anything")


def test_a_stranger_is_told_to_ask(site: Site) -> None:
    with pytest.raises(DeniedError) as caught:
        site.log("stranger")
    assert caught.value.code == "store.rights"
    assert "store migrate" in caught.value.hint
