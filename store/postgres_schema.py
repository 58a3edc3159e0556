"""The schema of a log in PostgreSQL: creating it whole or not at all, and telling what is there.

The comment of the schema names the log, as `application_id` and `user_version` do in SQLite: only its owner can
write it, and it stands or falls with the transaction that made the tables.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import psycopg
from muniment.domain.errors import (
    ConflictError,
    DeniedError,
    InvalidError,
    NotFoundError,
    UnfitError,
    WrongError,
)
from muniment.store import migrations
from muniment.store.api import KIND_OPAQUE, KIND_RECORDS, not_finished
from muniment.store.migrations import Step
from muniment.store.postgres_errors import from_postgres
from muniment.store.postgres_pool import Connection
from muniment.store.postgres_url import Place
from psycopg import sql

_comment = re.compile(r"muniment (?:log|copy): kind=(records|opaque) schema=([0-9]{1,6})").fullmatch
_COPY = "muniment copy: "  # no store before it is whole: then the word becomes `log` (ops/decisions/0014)

_LOOK = """SELECT n.oid IS NOT NULL, obj_description(n.oid, 'pg_namespace'),
    n.oid IS NOT NULL AND has_schema_privilege(n.oid, 'USAGE'),
    (extract(epoch FROM clock_timestamp()) * 1000000)::bigint, current_setting('fsync')
    FROM (SELECT 1) AS one LEFT JOIN pg_namespace AS n ON n.nspname = %s"""


class Found(NamedTuple):
    """What a schema holds: kind of the log, version of its tables, clock of the server (microseconds since 1970),
    and whether a commit there is durable."""

    kind: str
    version: int
    now: int
    durable: bool


def identify(db: Connection, place: Place) -> Found:
    """Look at the schema of a log.

    Raises:
        NotFoundError: there is none.
        DeniedError: this role may not look into it.
        WrongError: a schema, but not of a log of ours.
        InvalidError: tables of another version.
        UnavailableError: no store yet. ConflictError: a store, where `place` means an unfinished one.
    """
    try:
        there, comment, usable, now, fsync = db.execute(_LOOK, (place.schema,)).fetchall()[0]
    except psycopg.Error as error:
        raise from_postgres(error, place.name) from error
    if not there:
        raise NotFoundError(f"no store at {place.name}", code="store.not_found", hint="muniment init")
    match = read_comment(comment or "")
    if match is None:
        raise WrongError(
            f"{place.name}: the schema holds no Muniment log",
            code="store.not_a_log",
            hint="name another with schema=",
            expected="a comment 'muniment log: …'",
            found=repr((comment or "")[:60]),
        )
    if not usable:
        raise DeniedError(
            f"{place.name}: this role may not read the log",
            code="store.rights",
            hint="ask its owner for the role of a writer or an auditor (muniment store migrate)",
        )
    if is_copy(comment) != place.unfinished:
        raise _exists(place) if place.unfinished else not_finished(place.name)
    found = Found(*match, now, fsync == "on")
    migrations.check_version(place.name, found.version, "postgres")
    return found


def demand_durable(durable: bool, place: Place) -> None:
    """Refuse to write where a commit may be lost.

    Raises:
        UnfitError: the server runs with `fsync = off`.
    """
    if not durable:
        raise UnfitError(
            f"{place.name}: the server does not keep what it acknowledges",
            code="store.not_durable",
            hint="set fsync = on",
            expected="fsync = on",
            found="fsync = off",
        )


def create(db: Connection, place: Place, kind: str) -> None:
    """Create an empty log in one transaction; a schema may stand there if nothing is in it.

    Raises:
        ConflictError: there is a log, or something else.
        DeniedError: this role may not create it. UnfitError: see `demand_durable`.
    """
    if kind not in (KIND_RECORDS, KIND_OPAQUE):
        raise InvalidError(
            f"no such kind of log: {kind}", code="store.kind", expected=[KIND_OPAQUE, KIND_RECORDS]
        )
    try:
        (fsync,) = db.execute("SELECT current_setting('fsync')").fetchall()[0]
        demand_durable(fsync == "on", place)
        with db.transaction():
            lock(db, place)
            if db.execute("SELECT 1 FROM pg_namespace WHERE nspname = %s", (place.schema,)).fetchone():
                demand_empty(db, place)
            else:
                db.execute(sql.SQL("CREATE SCHEMA {}").format(sql.Identifier(place.schema)))
            for step in migrations.steps("postgres"):
                for statement in statements(db, place, step, kind):
                    db.execute(statement.encode(), prepare=False)
    except psycopg.Error as error:
        raise from_postgres(error, place.name) from error


def finish(db: Connection, place: Place) -> None:
    """Make an unfinished log a store, in one transaction.

    Raises:
        DeniedError: this role is not its owner. NotFoundError, WrongError, ConflictError: see `identify`.
    """
    found = identify(db, place)
    try:
        db.execute(
            sql.SQL("COMMENT ON SCHEMA {} IS {}").format(
                sql.Identifier(place.schema), f"muniment log: kind={found.kind} schema={found.version}"
            )
        )
    except psycopg.Error as error:
        raise from_postgres(error, place.name) from error


def take_empty(db: Connection, place: Place) -> None:
    """Make an empty store, as `store migrate` leaves it, an unfinished log.

    Raises:
        ConflictError: it holds records. DeniedError: this role is not its owner.
        NotFoundError, WrongError, InvalidError: see `identify`.
    """
    found = identify(db, place._replace(unfinished=False))
    schema = sql.Identifier(place.schema)
    size = sql.SQL("SELECT size FROM {}.head").format(schema)
    try:
        with db.transaction():
            if db.execute(size).fetchone() != (0,) or db.execute(
                size + sql.SQL(" FOR UPDATE")
            ).fetchone() != (0,):
                raise _exists(place)
            db.execute(
                sql.SQL("COMMENT ON SCHEMA {} IS {}").format(
                    schema, f"{_COPY}kind={found.kind} schema={found.version}"
                )
            )
    except psycopg.Error as error:
        raise from_postgres(error, place.name) from error


def _exists(place: Place) -> ConflictError:
    return ConflictError(
        f"there is a store already: {place.name}", code="store.exists", hint="use it, or name another schema"
    )


def lock(db: Connection, place: Place) -> None:
    """Keep the schema of a log from everybody else who creates or migrates it, until the transaction ends."""
    db.execute("SELECT pg_advisory_xact_lock(hashtextextended('muniment:' || %s, 0))", (place.schema,))


def statements(db: Connection, place: Place, step: Step, kind: str) -> tuple[str, ...]:
    """What one step of a log is: its file, run inside the schema, and the version it reaches."""
    schema = sql.Identifier(place.schema)
    inside = sql.SQL("SET LOCAL search_path TO {}, pg_temp;").format(schema)
    word = "copy" if place.unfinished else "log"
    says = sql.SQL("COMMENT ON SCHEMA {} IS {};").format(
        schema, f"muniment {word}: kind={kind} schema={step.number}"
    )
    return inside.as_string(db), step.text.strip(), says.as_string(db)


def read_comment(comment: str) -> tuple[str, int] | None:
    """Kind and version, from the comment of a schema; None if it is not of a log."""
    match = _comment(comment)
    return (match[1], int(match[2])) if match else None


def is_copy(comment: str) -> bool:
    """Tell whether a log is not whole yet (`store.copy`)."""
    return comment.startswith(_COPY)


def demand_empty(db: Connection, place: Place) -> None:
    """Refuse a schema in which something stands.

    Raises:
        ConflictError: `store.exists`.
    """
    # Whatever lies in a schema depends on it: tables, functions, types, operators; default rights are no such thing.
    comment, objects = db.execute(
        "SELECT coalesce(obj_description(oid, 'pg_namespace'), ''), (SELECT count(*) FROM pg_depend"
        " WHERE refclassid = 'pg_namespace'::regclass AND refobjid = n.oid"
        " AND classid <> 'pg_default_acl'::regclass) FROM pg_namespace AS n WHERE nspname = %s",
        (place.schema,),
    ).fetchall()[0]
    if read_comment(comment):
        raise _exists(place)
    if objects or comment:
        raise ConflictError(
            f"{place.name}: the schema is in use by something else",
            code="store.exists",
            hint="name another with schema=; a log has a schema of its own",
            expected="nothing in it, and no comment",
            found=f"{objects} objects, comment {comment[:60]!r}",
        )
