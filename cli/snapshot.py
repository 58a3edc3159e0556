"""`snapshot`: the live state of a pipeline, from another terminal, before any restart."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
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
    from muniment.projections.runtime_words import number

    if (run is None) == (ring_path is None):
        raise UsageError(
            "name one of --run and --ring-path", code="snapshot.which", hint="muniment snapshot --run SPEC"
        )
    if incident and no_record:
        raise UsageError(
            "--incident is for a recorded snapshot", code="snapshot.incident", hint="leave --no-record out"
        )
    if out == "-":
        raise UsageError(
            "-O names a new file", code="snapshot.out", hint="-o json has it on standard output; or -O ./-"
        )
    picture = snapshotting.of_run(run) if run is not None else snapshotting.of_ring(str(ring_path))
    rings = [ring.seen for ring in picture.rings]
    state = picture.graph if picture.graph is not None else rings[0] if len(rings) == 1 else rings
    with _written(out, state):
        positions, why = _keep(settings, picture, incident or "", no_record=no_record)
    data: dict[str, Any] = {
        "run": picture.run,
        "spec": picture.spec,
        "live": picture.live,
        "rings": [{"lane": ring.lane, **ring.seen} for ring in picture.rings],
        "graph": picture.graph,
        "positions": positions,
        "not_recorded": why,
    }
    alive = {True: "running", False: "not running any more", None: "of a ring by its path"}[picture.live]
    lines = [f"captured  {picture.run or picture.spec or ring_path} ({alive})"]
    for ring in picture.rings:
        lines += ring_lines(ring.seen, ring.lane)
    graph = picture.graph or {"lanes": [], "roles": []}
    for lane in graph["lanes"]:
        if lane["kind"] == "journal":
            lines.append(
                f"  journal {lane['name']}  to {number(lane['head'])}, read to {number(lane['tail'])}"
            )
    for role in graph["roles"]:
        error = f": {role['last_error']}" if role["last_error"] else ""
        lines.append(f"  role {role['name']}  {role['state']}, {number(role['processed'])} done{error}")
    lines += [f"  record #{position}" for position in positions] or [f"  not recorded: {why}"]
    if out is not None:
        lines.append(f"  written to {out}")
    return Result(
        "snapshot/1",
        data,
        None,
        lines,
        f"muniment history show '#{positions[0]}'" if positions else "",
        brief=" ".join(f"#{position}" for position in positions),
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


@contextmanager
def _written(out: str | None, state: Any) -> Iterator[None]:
    """The state in a new file while the block runs; if the block fails, the file is not there."""
    import json
    from pathlib import Path

    from muniment.domain.errors import ConflictError, UnavailableError

    if out is None:
        yield
        return
    path, made = Path(out), False
    try:
        try:
            with path.open("x", encoding="utf-8") as file:
                made = True
                file.write(json.dumps(state, indent=2, sort_keys=True) + "\n")
        except FileExistsError as error:
            raise ConflictError(
                f"{out} exists", code="snapshot.exists", hint="name a new file; nothing was overwritten"
            ) from error
        except (OSError, ValueError) as error:  # ValueError: a NUL in the path
            why = getattr(error, "strerror", None) or str(error)
            raise UnavailableError(
                f"{out} cannot be written: {why}", code="snapshot.unwritable", hint="name another file"
            ) from error
        yield
    except BaseException:
        if made:
            path.unlink(missing_ok=True)
        raise
