"""`rollback`: go back, with a code for every candidate that was looked at."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import click
from muniment.cli.activation import activation_data, exit_of
from muniment.cli.framework import verb
from muniment.cli.refusals import lines as refusal_lines
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.writes import Answer, as_of, expected, outcome_data, records, refused

if TYPE_CHECKING:
    from muniment.app.activating import Result as Activated
    from muniment.app.request import Outcome

TRIGGERS = (
    "verification_failed",
    "health_regressed",
    "incompatible",
    "policy_violation",
    "determinism_drift",
    "operator",
    "emergency",
)
_NAMES = {
    "explicit": "explicit",
    "pin": "pin",
    "lkg": "LKG",
    "older": "older good",
    "safer": "safer channel",
    "baseline": "baseline",
}
STUCK = 6


@verb(
    "rollback",
    write=True,
    examples=[
        "muniment rollback prod/stable/eu --dry-run",
        "muniment rollback prod/stable/eu --trigger health_regressed --reason 'error rate doubled'",
        "muniment rollback prod/stable/eu --to 77ad0e114c02 --target host-1",
    ],
)
@click.argument("slot")
@click.option("--to", default="", metavar="PACK", help="This pack and no other; refused if it cannot be it.")
@click.option("--target", default="", metavar="DIR|NAME", help="Only this target; all of the slot if absent.")
@click.option("--trigger", type=click.Choice(TRIGGERS), default="operator", show_default=True)
def rollback(settings: Settings, slot: str, to: str, target: str, trigger: str) -> Answer:
    """Go back, with a code for every candidate.

    Order: explicit target, pin, last known good (LKG), older good packs, LKG of the next safer channel, baseline.
    Without a candidate the slot is STUCK, an incident is declared, and the exit code is 6.
    """
    from muniment.app import activating
    from muniment.cli.refs import pack_id, slot_id

    with settings.open(write=True, progress="fetched") as session:
        chosen = pack_id(session, to) if to else ""
        answers = activating.rollback(
            session, settings.options(), slot_id(session, slot), to=chosen, target=target, trigger=trigger
        )
    no = next((outcome for outcome, _ in answers if outcome.refusal is not None), None)
    if no is not None and len(answers) == 1:
        return refused(no)
    data = [_data(outcome, done) for outcome, done in answers]
    lines = [line for outcome, done in answers for line in _lines(settings, outcome, done)]
    lines += ["nothing was written"] if settings.dry_run else []
    codes = [_exit(outcome, done) for outcome, done in answers]
    code = next((item for item in (7, 8, 6, 4) if item in codes), 0)
    brief = "\n".join(item["pack"] for item in data if item["pack"])
    return Result(
        "rollback/1",
        {"slot": slot, "targets": data},
        as_of(answers[-1][0]),
        lines,
        brief=brief,
        exit_code=code,
    )


def _exit(outcome: Outcome, done: Activated | None) -> int:
    if outcome.refusal is not None:
        return outcome.exit_code
    if outcome.event("rollback.no_candidate/1") is not None:
        return STUCK
    if done is None:
        return 0
    return exit_of(done, dry_run=False) or (done.refused.exit_code if done.refused is not None else 0)


def _data(outcome: Outcome, done: Activated | None) -> dict[str, Any]:
    picked = outcome.event("rollback.pack_selected/1")
    none = outcome.event("rollback.no_candidate/1")
    asked = outcome.event("rollback.requested/1") or {}
    said = picked or none or {}
    refusal = outcome.refusal
    return {
        "rollback": said.get("rollback", ""),
        "target": said.get("target", ""),
        "failing": asked.get("failing", ""),
        "pack": (picked or {}).get("pack", ""),
        "reason": (none or {}).get("reason", ""),
        "trace": said.get("trace", []),
        "refused": refusal.rule if refusal is not None else "",
        "message": refusal.message if refusal is not None else "",
        "decision": outcome_data(outcome),
        "activation": activation_data(done) if done is not None else None,
    }


def _lines(settings: Settings, outcome: Outcome, done: Activated | None) -> list[str]:
    if outcome.refusal is not None:
        return [line for line in refusal_lines(settings, refused(outcome)) if line != "nothing was written"]
    asked = outcome.event("rollback.requested/1") or {}
    picked = outcome.event("rollback.pack_selected/1")
    none = outcome.event("rollback.no_candidate/1") or {}
    where = f"{asked['slot']} target {asked['target']}"
    if picked is not None:
        act = "would switch" if settings.dry_run else "switched" if _confirmed(done) else "selected for"
        first = f"{act} {where} from pack {asked['failing']} to {picked['pack']}"
    else:
        act = "would be STUCK" if settings.dry_run else "STUCK"
        first = f"{act}: {where} keeps pack {asked['failing']}, no candidate ({none.get('reason', '')})"
    first += "" if settings.dry_run else f"  ({records(outcome)})"
    lines = [first, *trace_lines((picked or none).get("trace", [])), *expected(outcome)]
    incident = outcome.event("incident.declared/1")
    lines += [f"  incident {incident['incident']} declared"] if incident is not None else []
    if done is not None and not _confirmed(done):
        lines.append(f"  activation {done.activation} is {done.state or 'not begun'}")
        lines += (
            [f"  refused  {done.refused.refusal.message}"] if done.refused and done.refused.refusal else []
        )
    return lines


def _confirmed(done: Activated | None) -> bool:
    return done is not None and done.state == "CONFIRMED"


def trace_lines(trace: list[dict[str, Any]]) -> list[str]:
    """The candidates in the order R5 looked at them, each with its code (cli.md, section 2)."""
    rows: list[tuple[str, str]] = []
    sources = {item["source"] for item in trace}
    if "explicit" not in sources:
        rows.append(("explicit target", "none given"))
        rows += [] if "pin" in sources else [("pin", "none")]
    for item in trace:
        name = f"{_NAMES.get(item['source'], item['source'])}  {item['pack']}"
        good = f"good since #{item['position']}" if item["position"] and item["source"] != "pin" else ""
        why = item["detail"] or item["code"].replace("_", " ") if item["code"] != "chosen" else "eligible"
        code = item["code"] if item["code"] == "chosen" or item["detail"] else ""
        rows.append((name, "  ".join(filter(None, [", ".join(filter(None, [good, why])), code]))))
    return [f"  {number}  {name:<15} {text}".rstrip() for number, (name, text) in enumerate(rows, 1)]
