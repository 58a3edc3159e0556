"""`store migrate`, `store maintain`: the schema of a store, its roles, and what its owner does beyond appending."""

from __future__ import annotations

import click
from muniment.cli.framework import verb
from muniment.cli.results import Refused, Result
from muniment.cli.settings import Settings
from muniment.cli.writes import Answer, answer
from muniment.store.postgres_url import is_postgres


@verb(
    "migrate",
    examples=[
        "muniment store migrate --store 'postgresql://db/app?schema=atlas'",
        "muniment store migrate --dry-run",
        "muniment store migrate --sql --store postgresql://db/app | less",
    ],
)
@click.option("--dry-run", is_flag=True, help="Say what would be done; exits as the real run would.")
@click.option("--sql", is_flag=True, help="Print the statements, whoever may run them; do nothing.")
@click.option("--no-roles", is_flag=True, help="The schema alone; roles and rights stay as they are.")
def migrate(settings: Settings, dry_run: bool, sql: bool, no_roles: bool) -> Result:
    """Bring a store to the schema of this version; in PostgreSQL make it, its roles and their rights.

    Forward only, one transaction a step. The group roles SCHEMA_owner, SCHEMA_writer (reads and appends) and SCHEMA_auditor
    (reads) are for an administrator to grant: GRANT muniment_writer TO alice. What is right already stays as it is, so run it
    as often as you like. Whoever owned the schema before becomes a member of SCHEMA_owner.
    """
    from muniment.domain.errors import UsageError
    from muniment.store import migrations, migrations_open

    if sql and dry_run:
        raise UsageError(
            "--sql runs nothing, so it takes no --dry-run",
            code="cli.argument",
            hint="muniment store migrate --help",
        )
    if sql or dry_run:
        plan = migrations_open.plan(settings.url, roles=not no_roles)
        if dry_run:
            migrations_open.demand_rights(plan)
    else:
        plan = migrations_open.migrate(settings.url, roles=not no_roles)
    data = {
        "store": plan.name,
        "found": plan.found,
        "version": plan.version,
        "dry_run": dry_run or sql,
        "acts": [{"what": act.what, "statements": list(act.statements)} for act in plan.acts],
        "wanting": list(plan.wanting),
    }
    if sql:
        lines = (
            ["BEGIN;", *migrations.script(plan.acts).splitlines(), "COMMIT;"]
            if plan.acts
            else ["-- nothing to do"]
        )
        if any("BEGIN IMMEDIATE;" in act.statements for act in plan.acts):  # of SQLite: each step has its own
            lines = lines[1:-1]
        return Result("store.migrate/1", data, None, lines)
    done = "would migrate" if dry_run else "migrated"
    lines = [
        f"{done if plan.acts else 'up to date'}  {plan.name}, schema {plan.version}",
        *(f"  {'would do' if dry_run else 'done':<8} {act.what}" for act in plan.acts),
    ]
    lines += ["nothing was written"] if dry_run else []
    return Result("store.migrate/1", data, None, lines)


@verb(
    "maintain",
    write=True,
    examples=["muniment store maintain 'rebuild the index of types' --reason 'ticket 4711'"],
)
@click.argument("act")
def maintain(settings: Settings, act: str) -> Answer:
    """Declare what the owner of a PostgreSQL store is about to do to rows that otherwise stay.

    The record comes first; it lets one transaction of the owner through, which begins with the statement that is printed.
    `verify store` finds what it changed all the same.
    """
    from muniment.domain.admin import DeclareMaintenance
    from muniment.domain.errors import UsageError

    if not is_postgres(settings.url):
        raise UsageError(
            "only a store in PostgreSQL has an owner of its own",
            code="store.maintenance",
            hint="a folder is kept from changes by the rights on it",
        )
    from muniment.store.postgres_url import parse

    with settings.open(write=True) as session:
        outcome = session.run(DeclareMaintenance(act), settings.options())
    result = answer("store.maintain/1", outcome, ("declare", "declared"), f"maintenance: {act}", id_=act)
    if isinstance(result, Refused) or outcome.dry_run:
        return result
    position = result.data["positions"][0]
    words = f'INSERT INTO "{parse(settings.url).schema}".maintenance (position) VALUES'
    result.lines = [*result.lines, f"  begin  BEGIN; {words} ({position});"]
    return result
