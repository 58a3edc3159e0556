"""`intake`: inputs with provenance."""

from __future__ import annotations

import click
from muniment.cli.framework import Noun
from muniment.cli.progress import size
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.text import counted
from muniment.cli.writes import Answer, answer

intake = Noun(
    "intake",
    "Inputs: add, list, show.",
    ["muniment intake add ./sources --exclude .git", "muniment intake list"],
)


@intake.verb(
    "add",
    write=True,
    examples=[
        "muniment intake add ./sources --exclude .git --origin https://example.org/repo@4f1c09a",
        "curl -s https://example.org/towns.csv | muniment intake add - --id in-towns",
    ],
)
@click.argument("source", metavar="FILE|DIR|ARCHIVE|-")
@click.option("--id", "intake_id", metavar="ID", help="Its id; made up if absent.")
@click.option("--origin", metavar="TEXT", help="Where it came from; the path if absent.")
@click.option("--authority", metavar="WHO", help="Who vouches for it; the actor if absent.")
@click.option("--exclude", metavar="PATTERN", multiple=True, help="Leave out; listed in the manifest.")
@click.option("--tool", metavar="NAME@VERSION", help="What transformed it before.")
def add(
    settings: Settings,
    source: str,
    intake_id: str | None,
    origin: str | None,
    authority: str | None,
    exclude: tuple[str, ...],
    tool: str | None,
) -> Answer:
    """Take in a file, a folder, an archive or standard input: every byte is kept and digested.

    What - reads is one file named stdin, and is not unpacked: an archive is given by its path.
    """
    from muniment.app import intaking

    with settings.open(write=True, progress="taken in") as session:
        outcome, taken, name = intaking.add(
            session,
            source,
            settings.options(),
            intake_id=intake_id or "",
            origin=origin or "",
            authority=authority or "",
            exclude=exclude,
            tool=tool or "",
        )
    left_out = len(taken.manifest["excluded"])
    more = f", {left_out} left out" if left_out else ""
    return answer(
        "intake.add/1",
        outcome,
        ("record", "recorded"),
        f"intake {name}: {counted(taken.files, 'file')}, {size(taken.bytes)}{more}",
        id_=name,
        data={"digest": taken.digest, "files": taken.files, "bytes": taken.bytes, "excluded": left_out},
        lines=[f"  digest {taken.digest}"],
        next_=f"muniment build start --product NAME --intake {name}",
    )


@intake.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=["muniment intake list", "muniment intake list --fields intake,digest -o csv"],
)
def list_(settings: Settings) -> Rows:
    """Every input taken in, oldest first."""
    from muniment.cli.views import listing
    from muniment.projections.builds import intake_rows

    return listing(
        settings,
        "intake.list/1",
        "builds",
        columns=("intake", "files", "bytes", "digest", "origin"),
        key="intake",
        part="intakes",
        empty="no intakes",
        rows=lambda view: intake_rows(view.model),
    )


@intake.verb(
    "show",
    uses=("fields", "as_of"),
    examples=["muniment intake show in-4k2qzt7m", "muniment intake show in-4k2qzt7m -o json"],
)
@click.argument("name", metavar="INTAKE")
def show(settings: Settings, name: str) -> Result:
    """One input: digest, provenance and its manifest."""
    from muniment.app import building
    from muniment.cli.views import mark_line, one
    from muniment.projections.builds import intake_rows

    with settings.open() as session:
        found, as_of = one(settings, session, "builds", "intake", name, rows=lambda v: intake_rows(v.model))
        manifest = building.intake_manifest(session, name)
    data = {**found, "manifest": manifest}
    lines = [
        f"intake {name}: {counted(found['files'], 'file')}, {size(found['bytes'])}",
        f"  digest  {found['digest']}",
        f"  origin  {found['origin']}",
        mark_line(settings, found["recorded"]),
    ]
    lines += [
        f"  file    {item['path']}  {item['bytes']}  {item['sha256']}" for item in manifest["files"][:20]
    ]
    lines += (
        [f"  … {len(manifest['files']) - 20} more files (-o json)"] if len(manifest["files"]) > 20 else []
    )
    return Result("intake.show/1", data, as_of, lines, brief=name)
