"""`evidence-summary`: what proof the records promise, and whether the bytes are there."""

from __future__ import annotations

from typing import Any

import click
from muniment.cli.framework import verb
from muniment.cli.progress import size
from muniment.cli.results import Result
from muniment.cli.settings import Settings

SHOWN = 20


@verb(
    "evidence-summary",
    uses=("fields", "as_of"),
    examples=[
        "muniment evidence-summary",
        "muniment evidence-summary rel-43 --check",
        "muniment evidence-summary b-1 -o json",
    ],
)
@click.argument("ref", metavar="[REF]", required=False, default="")
@click.option("--check", is_flag=True, help="Hash every file again; else presence and size are looked at.")
def evidence_summary(settings: Settings, ref: str, check: bool) -> Result:
    """What a release rests on.

    Every file that the records of REF (default: the store) promise, and whether it is there. Exit 7 if one is
    missing or damaged, or if nothing is promised: nothing proves nothing.
    """
    from muniment.app.evidence_summary import summarized
    from muniment.cli.refs import reader

    with settings.open() as session:
        page = summarized(reader(settings, session), session.evidence, ref, check=check)
    members = ("subject", "verdict", "checked", "counts", "bytes", "roles")
    data: dict[str, Any] = {**{name: page[name] for name in members}, "files": page["data"]}
    return Result(
        page["schema"],
        data,
        page["as_of"],
        lines(settings, data),
        brief=data["verdict"],
        exit_code=page["exit_code"],
    )


def lines(settings: Settings, data: dict[str, Any]) -> list[str]:
    """Verdict, counts by role, then what is not as promised."""
    counts = data["counts"]
    out = [
        f"{data['verdict']}  {data['subject']}: {counts['promised']} promises of {counts['distinct']} files, {size(data['bytes'])}"
    ]
    out += [f"  role   {name:<20} {count}" for name, count in data["roles"].items()]
    bad = [item for item in data["files"] if item["state"] != "present"]
    listed = data["files"] if settings.verbose else bad[:SHOWN]
    out += [
        f"  {item['state']:<8} {item['role']}  record #{item['position']}  {item['sha256']}  {item['found']}".rstrip()
        for item in listed
    ]
    left = 0 if settings.verbose else len(bad) - len(listed)
    return [*out, f"  … {left} more (-v)"] if left > 0 else out
