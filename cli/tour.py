"""`tour`: the whole review route of a release in one place, in reading order. It reads and runs nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from muniment.cli.framework import verb
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.text import instant

if TYPE_CHECKING:
    from muniment.app.reading import Reader


@verb(
    "tour",
    uses=("fields", "as_of"),
    examples=["muniment tour", "muniment tour rel-43", "muniment tour rel-43 -o json"],
)
@click.argument("ref", metavar="[RELEASE]", required=False, default="")
def tour(settings: Settings, ref: str) -> Result:
    """The whole review route of a release in one place.

    Intake, build, gates, pack, plan and approvals, exposures, activations, health, rollback, incident, and how to
    verify all of it. Without RELEASE the last one that was started. Everything is read from the log; nothing runs.
    """
    from muniment.cli.refs import reader

    with settings.open() as session:
        looking = reader(settings, session)
        data = route(looking, ref)
        size = looking.until
    return Result("tour/1", data, size, list(lines(settings, data)), brief=data["release"])


def route(looking: Reader, ref: str) -> dict[str, Any]:
    """The chapters of a release.

    Raises:
        NotFoundError: no such release, or none was ever started.
    """
    from muniment.cli.tour_route import chapters
    from muniment.domain.errors import NotFoundError

    model = looking.model
    if ref:
        name = looking.resolve(ref, kinds=("release",)).id
    else:
        started = [item for item in model.releases.values() if item.state != "DRAFT"]
        if not started:
            raise NotFoundError(
                "no release was started here", code="tour.no_release", hint="muniment release list"
            )
        name = max(started, key=lambda item: item.created.position).release
    release = model.releases[name]
    return {
        "release": name,
        "state": release.state,
        "pack": release.pack,
        "size": looking.until,
        "chapters": chapters(looking, release),
    }


def lines(settings: Settings, data: dict[str, Any]) -> list[str]:
    """Chapter by chapter: the question, the records that answer it, the command that shows more."""
    out = [f"release {data['release']} is {data['state']}, pack {data['pack']}, as of record #{data['size']}"]
    for number, chapter in enumerate(data["chapters"], 1):
        out += ["", f"{number}  {chapter['title']}: {chapter['question']}"]
        out += [f"   {item['name']:<10} {item['value']}" for item in chapter["answers"]]
        for item in chapter["records"]:
            when = instant(item["at"], local=settings.local) if settings.terminal else item["at"]
            out.append(f"   #{item['position']:<6} {when}  {item['actor']}  {item['summary']}")
        out += ["   nothing on record"] if not chapter["records"] and not chapter["answers"] else []
        out += [f"   $ {command}" for command in chapter["look"]]
    return out
