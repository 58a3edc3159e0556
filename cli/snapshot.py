"""`snapshot`: the live state of a pipeline, from another terminal, before any restart."""

from __future__ import annotations

from typing import Any

import click
from muniment.cli.framework import verb
from muniment.cli.results import Result
from muniment.cli.settings import Settings


@verb(
    "snapshot",
    uses=("fields",),
    examples=[
        "muniment snapshot --run towns",
        "muniment snapshot --run run-4k2qzt7m -O ring.json --incident i-1",
        "muniment snapshot --ring-path /dev/shm/muniment-1000/towns/ring --no-record -o json",
    ],
)
@click.option("--run", "run", metavar="ID|SPEC", help="A run by its id or its spec's name.")
@click.option("--ring-path", metavar="R", help="A ring by its file.")
@click.option("-O", "--out", metavar="F", help="Write the state to a new file, as JSON.")
@click.option("--incident", metavar="I", help="It belongs to this incident: its timeline shows it.")
@click.option("--no-record", is_flag=True, help="Do not record it.")
def snapshot(
    settings: Settings,
    run: str | None,
    ring_path: str | None,
    out: str | None,
    incident: str | None,
    no_record: bool,
) -> Result:
    """Capture the state of a running pipeline, without stopping or slowing it.

    The ring is read only; payloads are not in it. By default it becomes a record, with the packed bytes as evidence.
    Where that cannot be done it says why and shows the state all the same.
    """
    from muniment.app import snapshotting
    from muniment.cli.ring_words import ring_lines
    from muniment.domain.errors import UsageError

    if (run is None) == (ring_path is None):
        raise UsageError(
            "name one of --run and --ring-path", code="snapshot.which", hint="muniment snapshot --run SPEC"
        )
    if incident and no_record:
        raise UsageError(
            "--incident is for a recorded snapshot", code="snapshot.incident", hint="leave --no-record out"
        )
    picture = snapshotting.of_run(run) if run is not None else snapshotting.of_ring(str(ring_path))
    positions, why = _keep(settings, picture, incident or "", no_record=no_record)
    rings = [ring.seen for ring in picture.rings]
    data: dict[str, Any] = {
        "run": picture.run,
        "spec": picture.spec,
        "live": picture.live,
        "rings": [{"lane": ring.lane, **ring.seen} for ring in picture.rings],
        "graph": picture.graph,
        "positions": positions,
        "not_recorded": why,
    }
    state = picture.graph if picture.graph is not None else rings[0] if len(rings) == 1 else rings
    if out is not None:
        _write(out, state)
    alive = {True: "running", False: "not running any more", None: "of a ring by its path"}[picture.live]
    lines = [f"captured  {picture.run or picture.spec or ring_path} ({alive})"]
    for ring in picture.rings:
        lines += ring_lines(ring.seen, ring.lane)
    for role in (picture.graph or {}).get("roles", []):
        error = f": {role['last_error']}" if role["last_error"] else ""
        lines.append(f"  role {role['name']}  {role['state']}, {role['processed']} done{error}")
    lines += [f"  record #{position}" for position in positions] or [f"  not recorded: {why}"]
    if out is not None:
        lines.append(f"  written to {out}")
    return Result(
        "snapshot/1", data, None, lines, f"muniment history show '#{positions[0]}'" if positions else ""
    )


def _keep(settings: Settings, picture: Any, incident: str, *, no_record: bool) -> tuple[list[int], str]:
    from muniment.app import snapshotting
    from muniment.domain.errors import MunimentError

    if no_record:
        return [], "--no-record"
    try:
        with settings.open(write=True) as session:
            return snapshotting.keep(session, picture, incident), ""
    except MunimentError as error:
        if incident:
            raise
        return [], f"{error.message} ({error.code})"


def _write(out: str, state: Any) -> None:
    import json
    from pathlib import Path

    from muniment.domain.errors import ConflictError, UnavailableError

    try:
        with Path(out).open("x") as file:
            file.write(json.dumps(state, indent=2, sort_keys=True) + "\n")
    except FileExistsError as error:
        raise ConflictError(
            f"{out} exists", code="snapshot.exists", hint="name a new file; nothing was overwritten"
        ) from error
    except OSError as error:
        raise UnavailableError(
            f"{out} cannot be written: {error.strerror}", code="snapshot.unwritable"
        ) from error
