"""Schema, roles and rights of a log in PostgreSQL: what is there, what is wanted, and the statements between.

1. First the roles and who owns what, then the steps, then the rights. Of a log that is not there yet all are one transaction.
2. Each transaction takes the lock of the schema and looks again behind it: what somebody else has done meanwhile is done.
3. Roles belong to the server, not to a database, so each says in its comment whose it is; one that is another log's is not used.
"""

from __future__ import annotations

from math import inf
from typing import NamedTuple

import psycopg
from muniment.domain.errors import ConflictError, DeniedError, InvalidError, UsageError
from muniment.store import migrations, postgres_schema
from muniment.store.api import KIND_RECORDS, not_finished
from muniment.store.migrations import Act, Plan
from muniment.store.migrations_rights import Roles, changes, found, roles_of
from muniment.store.postgres_errors import from_postgres
from muniment.store.postgres_pool import Connection, connect
from muniment.store.postgres_url import Place
from psycopg import sql

LOCK_S = 60.0
LONGEST_SCHEMA = 63 - len("_auditor")


class _Here(NamedTuple):
    """Who asks, and what stands there."""

    user: str
    superuser: bool
    may_make_roles: bool
    may_make_schemas: bool
    database: str
    server: int
    owner: str | None  # of the schema, None if there is none
    comment: str


def plan(place: Place, *, roles: bool = True) -> Plan:
    """What would be done; writes nothing.

    Args:
        roles: also the group roles, ownership and rights; else only the schema.

    Raises:
        InvalidError: newer than this program. ConflictError: the schema, or a role, is something else's.
        UsageError: the name of the schema leaves no room for those of its roles.
        UnavailableError, DeniedError: see `store.postgres_pool.connect`.
    """
    _check_name(place, roles=roles)
    with connect(place) as db:
        try:
            here, version, kind = _look(db, place)
            acts = [act for batch in _batches(db, place, here, version, kind, roles=roles) for act in batch]
            return _planned(db, place, here, version, acts, roles=roles)
        except psycopg.Error as error:
            raise from_postgres(error, place.name) from error


def migrate(place: Place, *, roles: bool = True) -> Plan:
    """Do it; return what was done.

    Raises:
        DeniedError: somebody with more rights has to do something first; nothing was done.
        InvalidError, ConflictError, UsageError, UnavailableError: see `plan`.
    """
    demand_rights(planned := plan(place, roles=roles))
    done: list[Act] = []
    last: list[Act] = []
    with connect(place, lock_s=LOCK_S) as db:
        db.answer_s = inf  # a step may take as long as the log is
        try:
            while True:
                with db.transaction():
                    postgres_schema.lock(db, place)
                    batches = _batches(db, place, *_look(db, place), roles=roles)
                    if not batches:
                        break
                    if batches[0] == last:
                        raise _stuck(place, last)
                    last = batches[0]
                    for statement in (text for act in last for text in act.statements):
                        db.execute(statement.encode(), prepare=False)
                done += last
        except psycopg.Error as error:
            raise from_postgres(error, place.name) from error
    return planned._replace(acts=done)


def demand_rights(planned: Plan) -> None:
    """Refuse what this role cannot do.

    Raises:
        DeniedError: with each statement that an administrator has to run.
    """
    if planned.wanting:
        raise DeniedError(
            f"{planned.name}: this role lacks rights for that; nothing was done",
            code="store.roles",
            hint="have an administrator run these, then run it again; --no-roles brings up the schema alone",
            **{f"run_{number}": text for number, text in enumerate(planned.wanting, 1)},
        )


def _stuck(place: Place, acts: list[Act]) -> ConflictError:
    return ConflictError(
        f"{place.name}: what was done is not what is there",
        code="store.rights_stuck",
        hint="a right that somebody else granted is not ours to take: have its grantor revoke it",
        found="; ".join(act.what for act in acts),
    )


def _check_name(place: Place, *, roles: bool) -> None:
    if roles and len(place.schema) > LONGEST_SCHEMA:
        raise UsageError(
            "the name of the schema leaves no room for those of its roles",
            code="store.url",
            hint="a shorter schema=, or --no-roles",
            expected=f"at most {LONGEST_SCHEMA} characters",
            found=len(place.schema),
        )


def _look(db: Connection, place: Place) -> tuple[_Here, int, str]:
    """Who asks and what is there; version 0 for no log yet."""
    row = db.execute(
        """SELECT r.rolname, r.rolsuper, r.rolsuper OR r.rolcreaterole, has_database_privilege(d.oid, 'CREATE'), d.datname,
            current_setting('server_version_num')::int,
            pg_get_userbyid(n.nspowner), coalesce(obj_description(n.oid, 'pg_namespace'), '')
        FROM pg_roles AS r JOIN pg_database AS d ON d.datname = current_database()
        LEFT JOIN pg_namespace AS n ON n.nspname = %s WHERE r.rolname = current_user""",
        (place.schema,),
    ).fetchall()[0]
    here = _Here(*row)
    match = postgres_schema.read_comment(here.comment)
    if match is None:
        if here.owner is not None:
            postgres_schema.demand_empty(db, place)
        return here, 0, KIND_RECORDS
    if postgres_schema.is_copy(here.comment):
        raise not_finished(place.name)
    kind, version = match
    if version > migrations.version("postgres"):
        migrations.check_version(place.name, version, "postgres")
    if version < 1:
        raise InvalidError(f"{place.name}: no such version", code="store.version", found=version)
    return here, version, kind


def _batches(
    db: Connection, place: Place, here: _Here, version: int, kind: str, *, roles: bool
) -> list[list[Act]]:
    """The acts, in transactions."""
    names = roles_of(place.schema)
    first = _roles(db, place, here, names) if roles else []
    owner = names.owner if roles else here.owner or here.user
    become = _text(db, "SET LOCAL ROLE {}", owner) if owner != here.user else ""
    if here.owner is None:
        text = "CREATE SCHEMA {} AUTHORIZATION {}" if roles else "CREATE SCHEMA {}"
        names_given = (place.schema, owner) if roles else (place.schema,)
        first.append(Act(f"schema {place.schema}", (_text(db, text, *names_given),)))
    steps = [
        [
            Act(
                f"schema {step.number - 1} to {step.number}",
                tuple(filter(None, (become, *postgres_schema.statements(db, place, step, kind)))),
            )
        ]
        for step in migrations.steps("postgres", after=version)
    ]
    rights = _rights(db, place, names, become, fresh=bool(steps)) if roles else []
    ordered = [batch for batch in (first, *steps, rights) if batch]
    # An older log comes forward a step at a time; a new one is there whole or not at all.
    return ordered if version else ([[act for batch in ordered for act in batch]] if ordered else [])


def _roles(db: Connection, place: Place, here: _Here, names: Roles) -> list[Act]:
    """Roles that are missing, and what does not belong to the owner yet."""
    says = f"muniment log: database={here.database} schema={place.schema}"
    comments: dict[str, str] = dict(
        db.execute(
            "SELECT rolname, coalesce(shobj_description(oid, 'pg_authid'), '') FROM pg_roles WHERE rolname = ANY(%s)",
            (list(names),),
        ).fetchall()
    )
    acts = []
    for name in names:
        if name not in comments:
            made = (_text(db, "CREATE ROLE {} NOLOGIN", name), _comment_on(db, name, says))
            acts.append(Act(f"role {name}", made))
        elif comments[name] != says:
            raise ConflictError(
                f"{place.name}: there is a role {name}, and it is not known as one of this log",
                code="store.role_taken",
                hint=f"name another with schema=; or, if it is: {_comment_on(db, name, says)}",
                expected=says,
                found=comments[name] or "no comment",
            )
    members = [here.user, *([here.owner] if here.owner and here.owner != names.owner else [])]
    acts += [
        Act(f"{member} acts as owner", (_text(db, "GRANT {} TO {}", names.owner, member),))
        for member in dict.fromkeys(members)
        if not _is_member(db, member, names.owner, exists=names.owner in comments)
    ]
    moved = _not_owned(db, place, names.owner) if here.owner else []
    if moved:
        acts.append(Act(f"everything belongs to {names.owner}", tuple(moved)))
    return acts


def _is_member(db: Connection, member: str, role: str, *, exists: bool) -> bool:
    """Superusers are everything already."""
    asked = "SELECT rolsuper OR (%s AND pg_has_role(oid, (SELECT r.oid FROM pg_roles AS r WHERE r.rolname = %s), 'MEMBER'))"
    found_ = db.execute(f"{asked} FROM pg_roles WHERE rolname = %s", (exists, role, member)).fetchall()
    return bool(found_ and found_[0][0])


def _not_owned(db: Connection, place: Place, owner: str) -> list[str]:
    """Statements that give the schema, then what is in it, to its owner."""
    rows = db.execute(
        """WITH place AS (SELECT oid, nspowner FROM pg_namespace WHERE nspname = %(schema)s)
        SELECT 0, 'SCHEMA', quote_ident(%(schema)s) FROM place WHERE pg_get_userbyid(nspowner) <> %(owner)s
        UNION ALL SELECT 1, 'TABLE', c.oid::regclass::text FROM pg_class AS c JOIN place ON relnamespace = place.oid
            WHERE relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND pg_get_userbyid(relowner) <> %(owner)s
        UNION ALL SELECT 2, 'ROUTINE', p.oid::regprocedure::text FROM pg_proc AS p JOIN place ON pronamespace = place.oid
            WHERE pg_get_userbyid(proowner) <> %(owner)s
        ORDER BY 1, 3""",
        {"schema": place.schema, "owner": owner},
    ).fetchall()
    to = sql.Identifier(owner).as_string(db)
    return [f"ALTER {kind} {name} OWNER TO {to};" for _, kind, name in rows]


def _rights(db: Connection, place: Place, names: Roles, become: str, *, fresh: bool) -> list[Act]:
    made = changes(place.schema, names, found(db, place.schema, names))
    texts = [f"{change.as_string(db)};" for change in made]
    if fresh:  # functions of steps to come
        texts.insert(0, _text(db, "REVOKE ALL ON ALL FUNCTIONS IN SCHEMA {} FROM PUBLIC", place.schema))
    return (
        [Act(f"rights of {names.writer} and {names.auditor}", tuple(filter(None, (become, *texts))))]
        if texts
        else []
    )


def _planned(
    db: Connection, place: Place, here: _Here, version: int, acts: list[Act], *, roles: bool
) -> Plan:
    """The plan, with what this role cannot do."""
    wanting: list[str] = []
    if not here.superuser:
        first = _roles(db, place, here, roles_of(place.schema)) if roles else []
        if first and not _may(db, here, first, roles_of(place.schema)):
            gives = here.owner is None or (
                here.may_make_schemas and _is_member(db, here.user, here.owner, exists=True)
            )
            wanting += [
                text
                for act in first
                for text in act.statements
                if not (gives and text.startswith(("ALTER", "CREATE SCHEMA")))
            ]
        if here.owner is None and not here.may_make_schemas:
            wanting.append(_text(db, "GRANT CREATE ON DATABASE {} TO {}", here.database, here.user))
        elif (
            not roles
            and here.owner is not None
            and acts
            and not _is_member(db, here.user, here.owner, exists=True)
        ):
            wanting.append(_text(db, "GRANT {} TO {}", here.owner, here.user))
    return Plan(place.name, version, migrations.version("postgres"), acts, tuple(wanting))


def _may(db: Connection, here: _Here, acts: list[Act], names: Roles) -> bool:
    """Tell whether a role that is no superuser can make the roles, grant the owner's, and give away what is there."""
    verbs = {statement.partition(" ")[0] for act in acts for statement in act.statements}
    makes_owner = any(act.what == f"role {names.owner}" for act in acts)
    if "CREATE" in verbs and not here.may_make_roles:
        return False
    if "GRANT" in verbs and not makes_owner:
        admin = db.execute(
            "SELECT pg_has_role(current_user, %s::name, 'MEMBER WITH ADMIN OPTION')", (names.owner,)
        ).fetchall()[0][0]
        if not admin and not (here.may_make_roles and here.server < 160_000):
            return False
    if "ALTER" in verbs:
        return _is_member(db, here.user, here.owner or here.user, exists=True) and here.may_make_schemas
    return True


def _comment_on(db: Connection, role: str, text: str) -> str:
    return f"{sql.SQL('COMMENT ON ROLE {} IS {}').format(sql.Identifier(role), text).as_string(db)};"


def _text(db: Connection, text: str, *names: str) -> str:
    query = sql.SQL(text).format(*map(sql.Identifier, names))
    return f"{query.as_string(db)};"
