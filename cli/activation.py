"""`activate` and `active`: the switch on a real target, and what a target says of itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from muniment.cli.framework import verb
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.writes import Answer, expected, outcome_data, refused

if TYPE_CHECKING:
    from muniment.app.activating import Result as Activated


@verb(
    "activate",
    write=True,
    examples=[
        "muniment activate prod/stable/eu --target /srv/gazetteer",
        "muniment activate prod/stable/eu --target ./host-1 --name host-1 --dry-run",
    ],
)
@click.argument("slot")
@click.option(
    "--target", "directory", required=True, metavar="DIR", help="Folder of the target; made if absent."
)
@click.option(
    "--name", default="", metavar="NAME", help="Name of a new target; made of the folder if absent."
)
@click.option("--waive-rollback", is_flag=True, help="Go on though no rollback target exists; recorded.")
def activate(settings: Settings, slot: str, directory: str, name: str, waive_rollback: bool) -> Answer:
    """Verify, switch and record a slot's pack on a target.

    Fetch, verify every byte on the target, stage, switch by one rename, read back. Run again after a cut, it
    goes on or gives up, it never assumes. Exit 7 if the verification fails; the target then keeps what it runs.
    """
    from muniment.app import activating
    from muniment.cli.refs import slot_id

    with settings.open(write=True, progress="fetched") as session:
        done = activating.activate(
            session,
            settings.options(),
            slot_id(session, slot),
            directory,
            name=name,
            waive_rollback=waive_rollback,
        )
        head = session.log.head().size
    return activated("activate/1", done, head, dry_run=settings.dry_run)


def activated(schema: str, done: Activated, head: int, *, dry_run: bool) -> Answer:
    """The answer of an activation."""
    bad = [check for check in done.checks if check["verdict"] not in ("pass", "not_applicable")]
    if done.refused is not None and done.exit_code != 7:
        return refused(done.refused, lines=_state_lines(done))
    data = activation_data(done)
    where = f"{done.slot} on target {done.target}"
    if dry_run:
        act = f"would resume ({done.resumed})" if done.resumed else "would activate"
        said = [line for outcome in done.outcomes[:1] for line in expected(outcome)]
        lines = [f"{act} pack {done.pack} in {where}", *said, "nothing was written"]
    else:
        lines = [f"{done.state} pack {done.pack} in {where}", *_state_lines(done)]
        lines += [
            f"  {item['verdict']}  {item['id']} {item['path']}  expected {item['expected']}, found {item['observed']}"
            for item in bad[:20]
        ]
    next_ = f"muniment health report {done.slot} --status HEALTHY" if done.state == "CONFIRMED" else ""
    return Result(
        schema, data, head, lines, next_, brief=done.activation, exit_code=exit_of(done, dry_run=dry_run)
    )


def exit_of(done: Activated, *, dry_run: bool) -> int:
    """0 only for what was confirmed, or for a dry run that would go on; a state that is neither is 8."""
    if done.exit_code or dry_run or done.state == "CONFIRMED":
        return done.exit_code
    return 7 if done.state in ("STAGE_FAILED", "REVERTED") else 8


def activation_data(done: Activated) -> dict[str, Any]:
    """An activation in JSON."""
    return {
        "id": done.activation,
        "slot": done.slot,
        "target": done.target,
        "location": done.location,
        "pack": done.pack,
        "state": done.state,
        "replaced": done.replaced,
        "resumed": done.resumed,
        "checks": done.checks,
        "decisions": [outcome_data(outcome) for outcome in done.outcomes],
    }


def _state_lines(done: Activated) -> list[str]:
    lines = [f"  target   {done.location}"]
    lines += [f"  replaced {done.replaced}"] if done.replaced else []
    lines += [f"  resumed  from {done.resumed}"] if done.resumed else []
    return [*lines, f"  state    {done.state}"] if done.refused is not None and done.state else lines


@verb(
    "active",
    uses=("fields",),
    examples=["muniment active --target /srv/gazetteer", "muniment active --target ./host-1 -q"],
)
@click.option("--target", "directory", required=True, metavar="DIR", help="Folder of the target.")
def active(settings: Settings, directory: str) -> Result:  # noqa: ARG001
    """Say what a target runs, from the target itself.

    No store is needed. Every byte of the active pack is read again; exit 7 if one is wrong.
    """
    from muniment.app import activating

    found = activating.active(directory)
    lines = [
        f"active   {found['pack']}",
        f"  slot   {found['slot']}",
        f"  target {found['target']} at {found['location']}",
        f"  checks {found['files']} passed",
    ]
    return Result("active/1", found, None, lines, brief=found["pack"])
