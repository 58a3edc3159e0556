"""The timeline of an incident: what happened in its scope, from the change before it to its end."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from muniment.cli.settings import Settings

if TYPE_CHECKING:
    from muniment.app.reading import Reader

BEFORE = ("activation.switched/1", "release.promoted/1")
SNAPSHOT = "runtime.snapshot_captured/1"
OF_RUN = (
    "runtime.heartbeat_recorded/1",
    "runtime.run_ended/1",
    "runtime.run_started/1",
    SNAPSHOT,
)


def incident_timeline(settings: Settings, name: str) -> tuple[list[dict[str, Any]], int]:
    """Rows in order of position: the records of the incident, its slots, its scope and its releases.

    It begins at the last switch or promotion before the declaration, which is what people ask for first, and ends with
    the incident. Refusals that name any of these belong to it. So do the snapshots taken for it (`--incident`) and, from its
    declaration on, whatever the runs that these show said of themselves.

    Raises:
        NotFoundError: no such incident.
    """
    from muniment.cli.refs import reader

    with settings.open() as session:
        looking = reader(settings, session)
        ref = looking.resolve(name, kinds=("incident",))
        return _rows(looking, ref.id), looking.until


def _rows(looking: Reader, name: str) -> list[dict[str, Any]]:
    from muniment.app.history import row
    from muniment.domain.envelope import read_fact
    from muniment.domain.query import Item
    from muniment.domain.reference import scope_tag

    incident = looking.model.incidents[name]
    log, declared = looking.log, incident.declared.position
    own = f"incident:{name}"
    tags = [own, scope_tag(incident.scope)]
    tags += [f"slot:{slot}" for slot in incident.slots] + [f"release:{item}" for item in incident.releases]
    changes = tuple(Item(BEFORE, (f"slot:{slot}",)) for slot in incident.slots)
    before = list(log.read(changes, until=declared, limit=1, reverse=True)) if changes else []
    first = before[0][0] if before else declared
    last = incident.ended.position if incident.ended is not None else looking.until
    taken = log.read((Item((SNAPSHOT,), (own,)),), after=declared, until=last)
    runs = dict.fromkeys(read_fact(body, position).data["run"] for position, body in taken)
    query = tuple(Item((), (tag,)) for tag in dict.fromkeys(tags))
    query += tuple(Item(OF_RUN, (f"run:{run}",)) for run in runs if run)
    rows = []
    for position, body in log.read(query, after=first - 1, until=last):
        found = row(read_fact(body, position))
        if position < declared and found["type"] in OF_RUN:
            continue
        rows.append(
            {
                "position": position,
                "at": found["recorded_at"],
                "actor": found["actor"],
                "type": found["type"],
                "said": found["summary"],
                "reason": found["reason"],
            }
        )
    return rows
