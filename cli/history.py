"""`history`: the records, filtered and paged; one whole; as they come."""

from __future__ import annotations

import json
from collections.abc import Iterator
from typing import Any

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.text import instant

history = Noun(
    "history",
    "The records: list, show, follow.",
    ["muniment history list --limit 20", "muniment history show '#42'"],
)
_COLUMNS = ("position", "recorded_at", "actor", "type", "summary")


@history.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of", "since", "until"),
    examples=[
        "muniment history list --limit 20",
        "muniment history list --where release=rel-43 --since 2d",
        "muniment history list --where type=command.refused --where actor=alice -o json",
        "muniment history list --oldest --limit 10000 -o jsonl > history.jsonl",
    ],
)
@click.option("--type", "type_", metavar="TYPE", help="The same as --where type=TYPE.")
@click.option("--oldest", is_flag=True, help="From the first record on; the newest come first without it.")
def list_(settings: Settings, oldest: bool, type_: str | None) -> Rows:
    """Records, newest first.

    --where takes build, channel, incident, intake, pack, release, slot, product, target, key, actor, rule, scope,
    run, spec, source, agent, host, tag and type; several narrow each other.
    """
    from muniment.app.history import LIMIT, listed
    from muniment.cli.refs import reader
    from muniment.cli.when import earlier

    settings.where += [f"type={type_}"] if type_ else []
    with settings.open() as session:
        page = listed(
            reader(settings, session),
            where=filters(settings),
            since=earlier(settings.since, session.log.now),
            until=earlier(settings.until, session.log.now),
            limit=settings.limit or LIMIT,
            cursor=settings.cursor,
            reverse=not oldest,
        )
    notes = [f"more: --cursor {page['next']}"] if page["next"] else []
    return Rows(
        page["schema"],
        page["data"],
        _COLUMNS,
        "position",
        page["as_of"],
        next=page["next"],
        empty="no records",
        paged=True,
        notes=notes,
    )


def filters(settings: Settings) -> dict[str, str]:
    """`--where` as the filters of history, each once; they are answered here and not row by row.

    Raises:
        UsageError: no `=`, or one filter twice.
    """
    from muniment.cli.select import conditions
    from muniment.domain.errors import UsageError

    found: dict[str, str] = {}
    for name, value in conditions(settings.where):
        if name in found:
            raise UsageError(f"--where {name} is given twice", code="history.where", hint="give it once")
        found[name] = value
    settings.where = []
    return found


@history.verb(
    "show",
    uses=("fields", "as_of"),
    examples=[
        "muniment history show '#42'",
        "muniment history show 01993f3c",
        "muniment history show rel-43 -o json",
    ],
)
@click.argument("ref", metavar="REF")
def show(settings: Settings, ref: str) -> Result:
    """One record whole: by position, id, prefix of an id, or the last one of anything that has an id."""
    from muniment.app.history import shown
    from muniment.cli.refs import reader

    with settings.open() as session:
        page = shown(reader(settings, session), ref)
    found = page["data"][0]
    return Result(
        "history.show/1", found, page["as_of"], record_lines(settings, found), brief=f"#{found['position']}"
    )


def record_lines(settings: Settings, found: dict[str, Any]) -> list[str]:
    """A record for people: what it says, who and when, then every member of its data."""
    record = found["record"]
    actor = record["actor"]
    when = (
        instant(record["recorded_at"], local=settings.local) if settings.terminal else record["recorded_at"]
    )
    lines = [
        f"#{found['position']}  {found['summary']}",
        f"  type     {record['type']}",
        f"  by       {actor['id']} ({actor['kind']}, {actor['auth']}), {when}",
        f"  id       {record['id']}",
        f"  leaf     {found['leaf']}",
    ]
    if command := record.get("command"):
        reason = f', "{command["reason"]}"' if command.get("reason") else ""
        lines.append(f"  command  {command['name']}{reason}")
    if basis := record.get("basis"):
        lines.append(f"  basis    records up to #{basis['after']}, policy {basis['policy'] or 'none'}")
    lines += [f"  {name:<8} {_plain(value)}" for name, value in record["data"].items()]
    lines += [
        f"  evidence {item['role']}  {item['bytes']} bytes  {item['sha256']}"
        for item in record.get("evidence", ())
    ]
    return [*lines, f"  tags     {' '.join(record['tags'])}"]


def _plain(value: Any) -> str:
    return value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))


@history.verb(
    "follow",
    uses=("where", "fields", "limit"),
    examples=["muniment history follow", "muniment history follow --where scope=prod -o jsonl"],
)
@click.option(
    "--after", type=click.IntRange(min=0), metavar="POSITION", help="Begin after this one; else now."
)
def follow(settings: Settings, after: int | None) -> Rows:
    """New records as they come, until interrupted; --limit ends it after so many."""
    where = filters(settings)
    return Rows(
        "history.follow/1", _followed(settings, where, after), _COLUMNS, "position", None, streamed=True
    )


def _followed(settings: Settings, where: dict[str, str], after: int | None) -> Iterator[dict[str, Any]]:
    from muniment.app.history import followed
    from muniment.cli.refs import reader
    from muniment.domain.errors import UnavailableError

    with settings.open() as session:
        whole = reader(settings, session)
        last = whole.size if after is None else after
        rows = followed(session.log, whole, where=where, after=last)
        try:
            for number, row in enumerate(rows, 1):
                yield row
                last = row["position"]
                if settings.limit is not None and number >= settings.limit:
                    return
        except UnavailableError as error:
            error.hint = f"the same with --after {last} goes on where this ended"
            raise
        finally:
            rows.stop()
