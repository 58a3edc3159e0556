"""`incident`: declare, note, contain, resolve, close."""

from __future__ import annotations

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.text import counted
from muniment.cli.writes import Answer, answer

incident = Noun(
    "incident",
    "Declare, contain, resolve, close.",
    [
        "muniment incident declare --scope prod/stable --severity SEV2 --summary 'checkout fails'",
        "muniment incident timeline i-1",
    ],
)
NAME = click.argument("name", metavar="INCIDENT")
CLASSES = ("workflow", "operating-context", "storage-visibility", "tool-behavior", "publish-boundary")


@incident.verb(
    "declare",
    write=True,
    examples=[
        "muniment incident declare --scope prod/stable --severity SEV2 --summary 'checkout fails'",
        "muniment incident declare --scope prod --severity SEV1 --summary 'bad data' --pack 9f2c41aa03d7",
    ],
)
@click.option("--scope", required=True, metavar="SCOPE", help="*, ENV, ENV/CHANNEL or a slot.")
@click.option("--severity", required=True, type=click.Choice(["SEV0", "SEV1", "SEV2", "SEV3", "SEV4"]))
@click.option("--summary", required=True, metavar="TEXT", help="What is seen, in one sentence.")
@click.option("--pack", "pack_ref", default="", metavar="PACK", help="The pack thought to be the cause.")
def declare(settings: Settings, scope: str, severity: str, summary: str, pack_ref: str) -> Answer:
    """Declare an incident: one act freezes the scope and pauses every release that overlaps it."""
    from muniment.cli.refs import pack_id
    from muniment.domain.incident import Declare
    from muniment.domain.reference import check_scope

    with settings.open(write=True) as session:
        pack = pack_id(session, pack_ref) if pack_ref else ""
        outcome = session.run(Declare(severity, check_scope(scope), summary, pack), settings.options())
    event = outcome.event("incident.declared/1") or {}
    name = str(event.get("incident", ""))
    lines = [f"  frozen  {scope} (FORWARD, {event.get('freeze', '')})"] if event else []
    lines += [f"  paused  release {item}" for item in event.get("releases", ())]
    return answer(
        "incident.declare/1",
        outcome,
        ("declare", "declared"),
        f"incident {name}, {severity}, over {scope}",
        id_=name,
        data={"scope": scope, "severity": severity},
        lines=lines,
        next_=f"muniment incident contain {name}",
    )


@incident.verb(
    "note",
    write=True,
    examples=["muniment incident note i-1 --text 'database is fine, cache is not' --class operating-context"],
)
@NAME
@click.option("--text", required=True, metavar="TEXT", help="What is known now.")
@click.option("--class", "class_", type=click.Choice(CLASSES), help="The class, once it is known.")
@click.option("--attach", multiple=True, metavar="FILE", help="Keep a file as evidence of the note.")
def note(settings: Settings, name: str, text: str, class_: str | None, attach: tuple[str, ...]) -> Answer:
    """Add a note, its class if known, and files as evidence."""
    from pathlib import Path

    from muniment.domain.errors import NotFoundError
    from muniment.domain.incident import Note
    from muniment.domain.reference import check_name

    files = [Path(item) for item in attach]
    missing = [str(item) for item in files if not item.is_file()]
    if missing:
        raise NotFoundError(f"no file {missing[0]}", code="incident.attachment")
    with settings.open(write=True, progress="stored") as session:
        evidence: list[dict[str, object]] = []
        if not settings.dry_run:
            evidence = [
                dict(session.evidence.put(item).as_evidence("attachment", "application/octet-stream"))
                for item in files
            ]
        outcome = session.run(
            Note(check_name(name, "an incident"), text, class_ or "", evidence), settings.options()
        )
    return answer(
        "incident.note/1",
        outcome,
        ("note", "noted"),
        f"in incident {name}",
        id_=name,
        data={"attached": len(files)},
    )


@incident.verb("contain", write=True, examples=["muniment incident contain i-1"])
@NAME
def contain(settings: Settings, name: str) -> Answer:
    """State that it does not spread: every rollout in scope paused, every slot frozen, pinned, stuck or rolled back."""
    from muniment.domain.incident import Contain
    from muniment.domain.reference import check_name

    with settings.open(write=True) as session:
        outcome = session.run(Contain(check_name(name, "an incident")), settings.options())
    return answer("incident.contain/1", outcome, ("contain", "contained"), f"incident {name}", id_=name)


@incident.verb(
    "resolve",
    write=True,
    examples=["muniment incident resolve i-1 --resolution 'rolled back to the last good pack'"],
)
@NAME
@click.option("--resolution", required=True, metavar="TEXT", help="What ended it.")
def resolve(settings: Settings, name: str, resolution: str) -> Answer:
    """State that health is back on every target in scope, and how."""
    from muniment.domain.incident import Resolve
    from muniment.domain.reference import check_name

    with settings.open(write=True) as session:
        outcome = session.run(Resolve(check_name(name, "an incident"), resolution), settings.options())
    return answer(
        "incident.resolve/1",
        outcome,
        ("resolve", "resolved"),
        f"incident {name}",
        id_=name,
        next_=f"muniment incident close {name} --cause TEXT --action WHAT,OWNER,DUE,CHECK",
    )


@incident.verb(
    "close",
    write=True,
    examples=[
        "muniment incident close i-1 --cause 'no test' --action 'write one,alice,2026-12-01,test_region'"
    ],
)
@NAME
@click.option("--cause", multiple=True, metavar="TEXT", help="A contributing cause; at least one.")
@click.option(
    "--action", multiple=True, metavar="WHAT,OWNER,DUE,CHECK", help="Who does what until when, and its proof."
)
def close(settings: Settings, name: str, cause: tuple[str, ...], action: tuple[str, ...]) -> Answer:
    """Complete the record; the incident's own freeze is lifted."""
    from muniment.domain.incident import Close
    from muniment.domain.reference import check_name

    command = Close(check_name(name, "an incident"), list(cause), [action_of(text) for text in action])
    with settings.open(write=True) as session:
        outcome = session.run(command, settings.options())
    return answer("incident.close/1", outcome, ("close", "closed"), f"incident {name}", id_=name)


def action_of(text: str) -> dict[str, str]:
    """`WHAT,OWNER,DUE,CHECK`; WHAT may hold commas itself.

    Raises:
        UsageError: fewer than four parts.
    """
    from muniment.domain.errors import UsageError

    parts = [item.strip() for item in text.rsplit(",", 3)]
    if len(parts) != 4:
        raise UsageError(
            f"not an action: {text[:80]!r}", code="incident.action", expected="WHAT,OWNER,DUE,CHECK"
        )
    return dict(zip(("what", "owner", "due", "check"), parts, strict=True))


@incident.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=[
        "muniment incident list",
        "muniment incident list --where state=CLOSED --fields incident,class",
    ],
)
def list_(settings: Settings) -> Rows:
    """Every incident, oldest first."""
    from muniment.cli.views import listing

    return listing(
        settings,
        "incident.list/1",
        "incidents",
        columns=("incident", "severity", "state", "scope", "summary", "commander"),
        key="incident",
        empty="no incidents",
    )


@incident.verb(
    "show",
    uses=("fields", "as_of"),
    examples=["muniment incident show i-1", "muniment incident show i-1 -o json"],
)
@NAME
def show(settings: Settings, name: str) -> Result:
    """One incident: scope, class, releases held, how it ended."""
    from muniment.cli.views import mark_line, one

    with settings.open() as session:
        found, as_of = one(settings, session, "incidents", "incident", name)
    lines = [
        f"incident {name} is {found['state']} ({found['severity']})",
        f"  scope   {found['scope']}: {', '.join(found['slots'])}",
        f"  summary {found['summary']}",
        f"  leads   {found['commander']}",
        f"  class   {found['class'] or '-'}, {counted(found['notes'], 'note')}",
    ]
    lines += [f"  pack    {found['cause_pack']}"] if found["cause_pack"] else []
    lines += [f"  paused  {', '.join(found['releases'])}"] if found["releases"] else []
    lines += [f"  ended   {found['resolution']}"] if found["resolution"] else []
    lines += [mark_line(settings, found["declared"])]
    lines += [mark_line(settings, found["ended"], "closed")] if found["ended"] else []
    return Result("incident.show/1", found, as_of, lines, f"muniment incident timeline {name}", brief=name)


@incident.verb(
    "timeline",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=["muniment incident timeline i-1", "muniment incident timeline i-1 -o csv > i-1.csv"],
)
@NAME
def timeline(settings: Settings, name: str) -> Rows:
    """Everything on record in the incident's scope from declaration to close, refusals included.

    Rings too: the snapshots taken with --incident, and what the runs that they show said of themselves meanwhile.
    """
    from muniment.cli.timeline import incident_timeline

    rows, as_of = incident_timeline(settings, name)
    columns = ("position", "at", "actor", "type", "said")
    return Rows("incident.timeline/1", rows, columns, "position", as_of, empty="nothing on record")
