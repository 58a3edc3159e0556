"""`projection`: the derived views, and whether they are what the records say."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Rows
from muniment.cli.settings import Settings

if TYPE_CHECKING:
    from muniment.app.projecting import Progress

projection = Noun(
    "projection",
    "Derived views: status, rebuild, digest.",
    ["muniment projection status", "muniment projection rebuild"],
)
_USES = ("where", "fields", "limit", "cursor")


@contextmanager
def folding(settings: Settings) -> Iterator[Progress]:
    """Progress of a fold in records."""
    bar = settings.progress("folded")
    bar.unit = "records"

    def told(done: int, total: int) -> None:
        bar.total = total
        bar(done)

    try:
        yield told
    finally:
        bar.close()


def _rows(said: dict[str, Any], columns: tuple[str, ...], notes: list[str]) -> Rows:
    return Rows(
        said["schema"],
        said["data"],
        columns,
        "projection",
        said["as_of"],
        notes=[line for line in notes if line],
        exit_code=int(said.get("exit_code", 0)),
    )


@projection.verb(
    "status",
    uses=_USES,
    examples=["muniment projection status", "muniment projection status --where stale=true"],
)
def status(settings: Settings) -> Rows:
    """How far each view has read; exit 8 if one is behind the log. -v says where memos of it are kept."""
    from muniment.app import rebuilding

    with settings.open() as session, folding(settings) as told:
        said = rebuilding.status(session.log, progress=told)
    stopped = said["stopped"]
    notes = [f"stopped at record #{stopped['position']}: {stopped['message']}"] if stopped else []
    notes += [said["memo"]["note"], *map(_kept, said["memos"])] if settings.verbose else []
    return _rows(said, ("projection", "version", "position", "lag", "stale", "question"), notes)


def _kept(place: dict[str, Any]) -> str:
    at = ", ".join(f"#{position}" for position in place["positions"]) or "none"
    rebuild_ = f"; a rebuild has come to #{place['rebuild']}" if place["rebuild"] else ""
    return f"memos in the {place['place']}: {place['note'] or at + rebuild_}"


@projection.verb(
    "rebuild",
    uses=_USES,
    examples=["muniment projection rebuild", "muniment projection rebuild --shared --restart"],
)
@click.option("--shared", is_flag=True, help="The memos beside a PostgreSQL log, which all its readers use.")
@click.option("--restart", is_flag=True, help="Do not go on with a rebuild that was cut short.")
def rebuild(settings: Settings, shared: bool, restart: bool) -> Rows:
    """Fold every view anew from the first record, compare, swap; exit 7 if the saved one differs.

    Exit 8 if memos that are --shared could not be saved.

    What is live stays until the end. One that was cut short goes on from the last memo it saved.
    """
    from muniment.app import rebuilding

    with settings.open(write=shared) as session, folding(settings) as told:
        said = rebuilding.rebuild(session.log, shared=shared, restart=restart, progress=told)
    began = f"went on from record #{said['began']} of a rebuild that was cut short" if said["began"] else ""
    return _rows(
        said,
        ("projection", "version", "equal", "rebuilt"),
        [began, f"verdict: {said['verdict']}", said["note"]],
    )


@projection.verb(
    "digest",
    uses=(*_USES, "as_of"),
    examples=["muniment projection digest", "muniment projection digest --as-of '#120'"],
)
def digest(settings: Settings) -> Rows:
    """Digests of every view: equal digests, equal answers, on any machine."""
    from muniment.app import projecting
    from muniment.cli.refs import reader

    with settings.open() as session:
        at = reader(settings, session).until if settings.as_of else None
        said = projecting.digest(session.log, as_of=at)
    notes = [f"combined {said['combined']}", f"combined core {said['combined_core']}"]
    return _rows(said, ("projection", "version", "digest", "core"), notes)
