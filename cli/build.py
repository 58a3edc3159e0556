"""`build`: gated runs, from a frozen input to an eligible pack."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from muniment.cli.framework import Noun
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.tee import tee
from muniment.cli.text import counted
from muniment.cli.writes import Answer, answer, refused

if TYPE_CHECKING:
    from muniment.app.request import Outcome
    from muniment.app.session import Session

build = Noun(
    "build",
    "Gated runs from an intake to a pack.",
    ["muniment build start --product atlas --intake in-1", "muniment build list"],
)
VERDICT_EXIT = {"PASS": 0, "FAIL": 7, "ERROR": 8}  # settled.md, 21
OUTCOME_EXIT = {"ELIGIBLE": 0, "REJECTED": 7, "ERRORED": 8}
BUILD = click.option(
    "--build", "build_id", metavar="BUILD", help="The build; the only unfinished one if absent."
)


def words_of(pairs: tuple[str, ...], option: str) -> dict[str, str]:
    """`K=V` options as a mapping.

    Raises:
        UsageError: no `=`, or a key twice.
    """
    from muniment.domain.errors import UsageError

    found: dict[str, str] = {}
    for text in pairs:
        name, sign, value = text.partition("=")
        if not sign or not name or name in found:
            raise UsageError(f"--{option} takes K=V once for each K, got {text[:80]!r}", code="cli.pair")
        found[name] = value
    return found


@build.verb(
    "start",
    write=True,
    examples=[
        "muniment build start --product atlas --intake in-1",
        "B=$(muniment build start --product atlas --intake in-1 --config region=eu -q)",
    ],
)
@click.option("--product", required=True, metavar="NAME", help="What is built.")
@click.option("--intake", required=True, metavar="INTAKE", help="The input, frozen here.")
@click.option("--id", "build_id", metavar="ID", help="Its id; made up if absent.")
@click.option("--config", multiple=True, metavar="K=V", help="Configuration; its digest is recorded.")
@click.option("--pin", multiple=True, metavar="TOOL=VERSION", help="A tool version this build is pinned to.")
def start(
    settings: Settings,
    product: str,
    intake: str,
    build_id: str | None,
    config: tuple[str, ...],
    pin: tuple[str, ...],
) -> Answer:
    """Request a build of a product from an intake and freeze its inputs."""
    from muniment.app import building

    with settings.open(write=True) as session:
        outcome, name = building.start(
            session,
            settings.options(),
            product=product,
            intake_id=intake,
            build_id=build_id or "",
            config=words_of(config, "config"),
            pins=words_of(pin, "pin"),
        )
    return answer(
        "build.start/1",
        outcome,
        ("start", "started"),
        f"build {name} of {product} from intake {intake}",
        id_=name,
        next_=f"muniment build stage validate --build {name} -- COMMAND",
    )


@build.verb(
    "stage",
    write=True,
    examples=[
        "muniment build stage validate -- pytest --junitxml {output}/report.xml {input}",
        "muniment build stage compile --build b-1 --timeout 600 -- make -C {input} OUT={output}",
    ],
)
@click.argument("name", metavar="STAGE")
@click.argument("argv", metavar="-- COMMAND…", nargs=-1, type=click.UNPROCESSED)
@BUILD
@click.option("--timeout", type=click.FloatRange(min=0, min_open=True), metavar="SECONDS")
@click.option("--env", multiple=True, metavar="K=V", help="Declared to the command, and recorded.")
def stage(
    settings: Settings,
    name: str,
    argv: tuple[str, ...],
    build_id: str | None,
    timeout: float | None,
    env: tuple[str, ...],
) -> Answer:
    """Run one attempt of a stage for real and record it.

    Stages: ingest extract resolve validate compile, and STAGE.PART. In COMMAND, {input} is the folder of the
    intake, {output} an empty folder to fill, {out.STAGE} the outputs of an earlier stage. What the command
    prints goes to standard error and is kept as evidence. Exit 7 if the stage said no, 8 if it could not decide.
    """
    from muniment.app import building

    with settings.open(write=True) as session:
        target = build_id or building.only_open(session)
        done = building.stage(
            session,
            settings.options(),
            build_id=target,
            name=name,
            argv=argv,
            env=words_of(env, "env"),
            timeout_s=timeout,
            tee=None if settings.quiet else tee(),
        )
    what = f"stage {name} of build {target}"
    if done.finished is None or done.run is None:
        return answer(
            "build.stage/1", done.started, ("run", "started"), what, id_=target, data={"stage": name}
        )
    if done.finished.refusal is not None:
        return refused(done.finished)
    # the record has the last word: outputs that cannot be kept turn a run that passed into an attempt that did not
    event = done.finished.event("build.stage_finished/1")
    assert event is not None  # neither refused nor a dry run
    data = {key: event[key] for key in ("stage", "attempt", "status", "exit_code", "reason", "wall_us")}
    ended = f"exit {event['exit_code']}" if event["exit_code"] is not None else "not run to an end"
    why = f": {event['reason']}" if event["reason"] else ""
    kept = counted(len(event["outputs"]), "file")
    return answer(
        "build.stage/1",
        done.finished,
        ("run", f"{event['status']} "),
        f"{what}, {ended}, {event['wall_us'] / 1e6:.1f} s{why}",
        id_=target,
        data=data,
        lines=[f"  outputs {kept} in {done.outputs}"] if event["outputs"] else [],
        exit_code=VERDICT_EXIT.get(event["status"], 8),
    )


@build.verb(
    "gate",
    write=True,
    examples=[
        "muniment build gate validate --from '{out.validate}/report.xml'",
        "muniment build gate licence --verdict PASS --reason 'read by legal, ticket 4711'",
    ],
)
@click.argument("name", metavar="GATE")
@BUILD
@click.option("--from", "report", metavar="REPORT", help="JUnit XML or JSON; {out.STAGE} may stand in it.")
@click.option(
    "--verdict", type=click.Choice(["PASS", "FAIL", "ERROR"]), help="Stated by you; needs --reason."
)
def gate(
    settings: Settings, name: str, build_id: str | None, report: str | None, verdict: str | None
) -> Answer:
    """Judge a gate by a report, or by a stated verdict with a reason.

    Exit 7 if the gate fails, 8 if it could not decide: a report that cannot be read is never a pass.
    """
    from muniment.app import building

    with settings.open(write=True) as session:
        target = build_id or building.only_open(session)
        outcome, facts = building.gate(
            session,
            settings.options(),
            build_id=target,
            name=name,
            report=report or "",
            verdict=verdict or "",
        )
    found = str(facts["verdict"])
    cases = (
        f", {counted(facts['tests'], 'case')}, {facts['failures']} failed, {counted(facts['errors'], 'error')}"
        if report
        else ""
    )
    why = f": {facts['reason']}" if facts.get("reason") else ""
    return answer(
        "build.gate/1",
        outcome,
        (f"judge {found}", found),
        f"gate {name} of build {target}{cases}{why}",
        id_=target,
        data={"gate": name, "verdict": found},
        lines=[f"  failed  {case}" for case in list(facts.get("cases_failed", ()))[:10]],
        exit_code=VERDICT_EXIT.get(found, 8),
    )


@build.verb(
    "waive",
    write=True,
    examples=["muniment build waive licence --build b-1 --expires 3d --reason 'answer due on Monday'"],
)
@click.argument("name", metavar="GATE")
@BUILD
@click.option("--expires", required=True, metavar="AGE|TIME", help="2h, 3d, or RFC 3339.")
def waive(settings: Settings, name: str, build_id: str | None, expires: str) -> Answer:
    """Let a gate count as passed until an instant."""
    from muniment.app import building
    from muniment.cli.when import later
    from muniment.domain.build import WaiveGate

    with settings.open(write=True) as session:
        until = later(expires, session.log.now)
        target = build_id or building.only_open(session)
        outcome = session.run(WaiveGate(target, name, until), settings.options())
    return answer(
        "build.waive/1",
        outcome,
        ("waive", "waived"),
        f"gate {name} of build {target} until {until}",
        id_=target,
        data={"gate": name, "expires_at": until},
    )


@build.verb(
    "reproduce",
    write=True,
    examples=[
        "muniment build reproduce --build b-1 -- make -C {input} OUT={output}",
        "muniment build reproduce --from ./second",
    ],
)
@click.argument("argv", metavar="-- COMMAND…", nargs=-1, type=click.UNPROCESSED)
@BUILD
@click.option("--from", "folder", metavar="DIR", help="The result of a second compile.")
def reproduce(settings: Settings, argv: tuple[str, ...], build_id: str | None, folder: str | None) -> Answer:
    """Compare the pack of a second compile; exit 7 if it differs."""
    from muniment.app import building, packing

    with settings.open(write=True, progress="read") as session:
        target = build_id or building.only_open(session)
        outcome, second = packing.reproduce(
            session,
            settings.options(),
            build_id=target,
            folder=folder or "",
            argv=argv,
            tee=None if settings.quiet else tee(),
        )
    event = outcome.event("build.reproduced/1") or {}
    equal = bool(event.get("equal"))
    return answer(
        "build.reproduce/1",
        outcome,
        ("record", "reproduced" if equal else "different:"),
        f"build {target}: the second compile gives pack {second}",
        id_=target,
        data={"pack": second, "equal": equal},
        exit_code=0 if equal else 7,
    )


@build.verb("finish", write=True, examples=["muniment build finish --build b-1"])
@BUILD
def finish(settings: Settings, build_id: str | None) -> Answer:
    """End a build: ELIGIBLE, or the list of failed conditions. Exit 7 if rejected, 8 if it could not be decided."""
    from muniment.app import building
    from muniment.domain.build import Finish

    with settings.open(write=True) as session:
        target = build_id or building.only_open(session)
        outcome = session.run(Finish(target), settings.options())
        notes = _unsigned(session, outcome, target)
    event = outcome.event("build.finished/1") or {}
    found = str(event.get("outcome", ""))
    failed = [str(item) for item in event.get("failed", ())]
    return answer(
        "build.finish/1",
        outcome,
        (f"finish as {found}", found),
        f"build {target}",
        id_=target,
        data={"outcome": found, "failed": failed},
        lines=[f"  failed  {item}" for item in failed],
        next_=f"muniment pack register build:{target}" if found == "ELIGIBLE" else "",
        exit_code=OUTCOME_EXIT.get(found, 8),
        notes=notes,
    )


def _unsigned(session: Session, outcome: Outcome, build_id: str) -> list[str]:
    """A finished build takes no signature any more, so what its pack lacks is said at once."""
    from muniment.app import packing
    from muniment.cli.pack import unsigned

    state = outcome.world.builds.get(build_id) if outcome.world is not None else None
    if state is None or not state.pack or outcome.refusal is not None:
        return []
    then = "pack register will refuse it; start a new build, and give pack create --key KEY"
    return unsigned(outcome, packing.manifest_of(session, state.pack), then)


@build.verb("cancel", write=True, examples=["muniment build cancel b-1 --reason 'wrong input'"])
@click.argument("build_id", metavar="BUILD")
def cancel(settings: Settings, build_id: str) -> Answer:
    """End a build without a result."""
    from muniment.domain.build import Cancel
    from muniment.domain.reference import check_name

    with settings.open(write=True) as session:
        outcome = session.run(Cancel(check_name(build_id, "a build")), settings.options())
    return answer("build.cancel/1", outcome, ("cancel", "cancelled"), f"build {build_id}", id_=build_id)


@build.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=["muniment build list", "muniment build list --where state=ELIGIBLE -o json"],
)
def list_(settings: Settings) -> Rows:
    """Every build, oldest first."""
    from muniment.cli.views import listing

    return listing(
        settings,
        "build.list/1",
        "builds",
        columns=("build", "state", "product", "intake", "pack", "missing"),
        key="build",
        part="builds",
        empty="no builds",
    )


@build.verb(
    "show", uses=("fields", "as_of"), examples=["muniment build show b-1", "muniment build show b-1 -o json"]
)
@click.argument("name", metavar="BUILD")
def show(settings: Settings, name: str) -> Result:
    """One build: stages, gates, what is missing."""
    from muniment.cli.views import mark_line, one

    with settings.open() as session:
        found, as_of = one(settings, session, "builds", "build", name)
    return Result("build.show/1", found, as_of, list(_lines(settings, found, mark_line)), brief=name)


def _lines(settings: Settings, row: dict[str, Any], mark_line: Any) -> list[str]:
    lines = [
        f"build {row['build']} is {row['state']}",
        f"  product  {row['product']}",
        f"  intake   {row['intake']} {row['intake_digest']}",
    ]
    lines += [f"  stage    {name:<12} {status}" for name, status in row["stages"].items()]
    lines += [f"  gate     {name:<12} {verdict}" for name, verdict in row["gates"].items()]
    lines += [f"  pack     {row['pack']}"] if row["pack"] else []
    lines += [f"  missing  {item}" for item in row["missing"]]
    return [*lines, mark_line(settings, row["requested"])]
