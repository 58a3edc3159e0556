"""Who may do what in the schema of a log, as data: what is wanted, what the catalog says, and the statements between.

    <schema>_owner    owns everything; who is granted it can migrate
    <schema>_writer   reads, inserts, sets the columns of the head, and keeps memos
    <schema>_auditor  reads

`PUBLIC` gets nothing. Roles of other names are left as they are: `verify store` says what they may do.
"""

from __future__ import annotations

from itertools import groupby
from typing import NamedTuple

from muniment.store.postgres_pool import Connection
from psycopg import sql

APPENDED = ("records", "types", "postings", "evidence", "evidence_chunk")
HEAD = ("size", "frontier", "recorded_at", "indexed")
READ = ("head", "maintenance")
FREE = ("memo", "memo_chunk")  # no part of the log: nothing rests on them
PUBLIC = "PUBLIC"


class Roles(NamedTuple):
    """Names of the group roles of a log."""

    owner: str
    writer: str
    auditor: str


class Right(NamedTuple):
    """A privilege (`SELECT`, `UPDATE (size)`) on a thing (`SCHEMA`, `TABLE records`, `FUNCTION …`) for a role.

    `DEFAULT TABLES` and `DEFAULT FUNCTIONS` are what the owner will make.
    """

    thing: str
    privilege: str
    role: str


_FOUND = """
WITH place AS (SELECT oid, nspacl, nspowner FROM pg_namespace WHERE nspname = %(schema)s),
owner AS (SELECT oid FROM pg_roles WHERE rolname = %(owner)s),
acls (thing, suffix, acl) AS (
    SELECT 'SCHEMA', '', coalesce(nspacl, acldefault('n', nspowner)) FROM place
    UNION ALL
    SELECT 'TABLE ' || relname, '', coalesce(relacl, acldefault('r', relowner))
      FROM pg_class JOIN place ON relnamespace = place.oid WHERE relkind IN ('r', 'p', 'v', 'm', 'f')
    UNION ALL
    SELECT 'TABLE ' || relname, ' (' || attname || ')', attacl
      FROM pg_class c JOIN place ON relnamespace = place.oid JOIN pg_attribute ON attrelid = c.oid
     WHERE attacl IS NOT NULL AND NOT attisdropped
    UNION ALL
    SELECT 'FUNCTION ' || proname || '(' || pg_get_function_identity_arguments(p.oid) || ')', '',
           coalesce(proacl, acldefault('f', proowner))
      FROM pg_proc p JOIN place ON pronamespace = place.oid
    UNION ALL
    SELECT 'DEFAULT TABLES', '', defaclacl FROM pg_default_acl JOIN owner ON defaclrole = owner.oid
      JOIN place ON defaclnamespace = place.oid WHERE defaclobjtype = 'r'
    UNION ALL
    SELECT 'DEFAULT FUNCTIONS', '', coalesce((SELECT defaclacl FROM pg_default_acl
        JOIN owner ON defaclrole = owner.oid WHERE defaclnamespace = 0 AND defaclobjtype = 'f'), acldefault('f', 10))
)
SELECT thing, privilege_type || suffix, CASE grantee WHEN 0 THEN 'PUBLIC' ELSE pg_get_userbyid(grantee) END
  FROM acls, aclexplode(acl)
"""


def roles_of(schema: str) -> Roles:
    """The group roles of the log in a schema."""
    return Roles(f"{schema}_owner", f"{schema}_writer", f"{schema}_auditor")


def wanted(roles: Roles) -> set[Right]:
    """Every right that writer and auditor have."""
    rights = set()
    for role in (roles.writer, roles.auditor):
        rights.add(Right("SCHEMA", "USAGE", role))
        rights.add(Right("DEFAULT TABLES", "SELECT", role))
        rights |= {Right(f"TABLE {name}", "SELECT", role) for name in (*APPENDED, *READ, *FREE)}
    rights |= {Right(f"TABLE {name}", "INSERT", roles.writer) for name in APPENDED}
    rights |= {
        Right(f"TABLE {name}", change, roles.writer)
        for name in FREE
        for change in ("INSERT", "UPDATE", "DELETE")
    }
    rights |= {Right("TABLE head", f"UPDATE ({column})", roles.writer) for column in HEAD}
    return rights


def found(db: Connection, schema: str, roles: Roles) -> set[Right]:
    """Every right that writer, auditor and PUBLIC have now."""
    rows = db.execute(_FOUND, {"schema": schema, "owner": roles.owner}).fetchall()
    return {Right(*row) for row in rows if row[2] in (roles.writer, roles.auditor, PUBLIC)}


def changes(schema: str, roles: Roles, there: set[Right]) -> list[sql.Composed]:
    """The statements from what is there to what is wanted; what is too much goes first."""
    want = wanted(roles)
    made = []
    for text, rights in (("REVOKE {} ON {} FROM {}", there - want), ("GRANT {} ON {} TO {}", want - there)):
        for (thing, role), some in groupby(sorted(rights, key=_by_thing), key=_by_thing):
            made.append(_change(text, schema, roles, thing, role, sorted(right.privilege for right in some)))
    return made


def _by_thing(right: Right) -> tuple[str, str]:
    return right.thing, right.role


def _change(
    text: str, schema: str, roles: Roles, thing: str, role: str, privileges: list[str]
) -> sql.Composed:
    kind, _, name = thing.partition(" ")
    what = sql.SQL(", ").join(map(_privilege, privileges))
    to = sql.SQL(PUBLIC) if role == PUBLIC else sql.Identifier(role)
    if kind == "DEFAULT":
        # What is in force everywhere can only be taken away everywhere.
        where = sql.SQL("IN SCHEMA {} ").format(sql.Identifier(schema)) if name == "TABLES" else sql.SQL("")
        whose = sql.SQL("ALTER DEFAULT PRIVILEGES FOR ROLE {} {}").format(sql.Identifier(roles.owner), where)
        return whose + sql.SQL(text).format(what, sql.SQL(name), to)
    if kind == "SCHEMA":
        on = sql.SQL("SCHEMA {}").format(sql.Identifier(schema))
    elif kind == "TABLE":
        on = sql.SQL("TABLE {}").format(sql.Identifier(schema, name))
    else:  # the arguments of a function are the catalog's own text
        called, _, arguments = name.partition("(")
        on = sql.SQL("FUNCTION {}({})").format(
            sql.Identifier(schema, called), sql.SQL(arguments.removesuffix(")"))
        )
    return sql.SQL(text).format(what, on, to)


def _privilege(privilege: str) -> sql.Composable:
    """`UPDATE (size)` with the column as a name."""
    word, _, column = privilege.partition(" ")
    return sql.SQL("{} ({})").format(sql.SQL(word), sql.Identifier(column[1:-1])) if column else sql.SQL(word)
