"""`health` and `slot`: what people and probes report, and the ways out of STUCK and quarantine."""

from __future__ import annotations

from typing import Any

import click
from muniment.cli.framework import Noun
from muniment.cli.settings import Settings
from muniment.cli.writes import Answer, answer

health = Noun(
    "health", "Health of what is active.", ["muniment health report prod/stable/eu --status HEALTHY"]
)
slot = Noun("slot", "Slots: attest, unstick, lift-quarantine.", ["muniment slot attest prod/stable/eu"])
SLOT = click.argument("slot_ref", metavar="SLOT")
TARGET = click.option("--target", default="", metavar="NAME|DIR", help="The target; the only one if absent.")


@health.verb(
    "report",
    write=True,
    examples=[
        "muniment health report prod/stable/eu --status HEALTHY",
        "muniment health report prod/stable/eu --status UNHEALTHY --signal errors=17 --reason 'checkout fails'",
    ],
)
@SLOT
@click.option("--status", required=True, type=click.Choice(["HEALTHY", "DEGRADED", "UNHEALTHY", "UNKNOWN"]))
@TARGET
@click.option(
    "--signal", multiple=True, metavar="NAME=VALUE", help="What it rests on: whole numbers or words."
)
def report(settings: Settings, slot_ref: str, status: str, target: str, signal: tuple[str, ...]) -> Answer:
    """Report the health of the active pack.

    A failing status revokes the attestation; enough healthy reports over the soak attest the pack good.
    """
    from muniment.app import health as probing
    from muniment.cli.refs import slot_id
    from muniment.domain.slot import Report

    signals = signals_of(signal)
    with settings.open(write=True) as session:
        slot_name = slot_id(session, slot_ref)
        name, _ = probing.target_of(session, slot_name, target)
        outcome = session.run(Report(slot_name, name, status, signals), settings.options())
    return _reported("health.report/1", outcome, slot_name, name, status, signals, {})


def signals_of(pairs: tuple[str, ...]) -> list[dict[str, Any]]:
    """`NAME=VALUE` as recorded signals; a whole number is a number, anything else its text."""
    from muniment.cli.build import words_of

    found: list[dict[str, Any]] = []
    for name, value in words_of(pairs, "signal").items():
        digits = value.removeprefix("-")
        number = digits.isascii() and digits.isdigit() and len(digits) < 16
        found.append({"name": name, "observed": int(value) if number else value})
    return found


def _reported(
    schema: str,
    outcome: Any,
    slot_name: str,
    target: str,
    status: str,
    signals: list[Any],
    codes: dict[str, int],
) -> Answer:
    event = outcome.event("slot.health_reported/1") or {}
    lines = [f"  {item['name']}  {item['observed']}" for item in signals if {"name", "observed"} <= set(item)]
    lines += ["  this status fails under the policy"] if event.get("failed") else []
    lines += ["  attested good"] if outcome.event("slot.good_attested/1") else []
    lines += ["  attestation revoked"] if outcome.event("slot.good_revoked/1") else []
    return answer(
        schema,
        outcome,
        ("record", "recorded"),
        f"{status} for {slot_name} target {target}",
        id_=slot_name,
        data={
            "slot": slot_name,
            "target": target,
            "status": status,
            "signals": signals,
            "failed": event.get("failed"),
        },
        lines=lines,
        next_=f"muniment rollback {slot_name} --dry-run" if event.get("failed") else "",
        exit_code=codes.get(status, 0),
    )


@health.verb(
    "collect",
    write=True,
    examples=["muniment health collect prod/stable/eu -- ./probe.sh {active}"],
)
@SLOT
@click.argument("argv", metavar="-- COMMAND…", nargs=-1, type=click.UNPROCESSED)
@TARGET
@click.option(
    "--timeout", type=click.FloatRange(min=0, min_open=True), default=60.0, show_default=True, metavar="S"
)
def collect(settings: Settings, slot_ref: str, argv: tuple[str, ...], target: str, timeout: float) -> Answer:
    """Run a probe and report what it says: one JSON object {"status": …, "signals": […]}.

    {active} in COMMAND is the link to the active pack. An answer that cannot be read is UNKNOWN, never
    healthy. Exit 7 if the status fails under the policy, 8 if it is UNKNOWN.
    """
    from muniment.app import health as probing
    from muniment.cli.refs import slot_id

    with settings.open(write=True) as session:
        slot_name = slot_id(session, slot_ref)
        name, _ = probing.target_of(session, slot_name, target)
        outcome, status, signals = probing.collect(
            session, settings.options(), slot_name, argv, target=name, timeout_s=timeout
        )
    failed = bool((outcome.event("slot.health_reported/1") or {}).get("failed"))
    codes = {status: 7} if failed else {"UNKNOWN": 8}
    return _reported("health.collect/1", outcome, slot_name, name, status, signals, codes)


@slot.verb(
    "attest", write=True, examples=["muniment slot attest prod/stable/eu --reason 'soaked over the weekend'"]
)
@SLOT
@TARGET
def attest(settings: Settings, slot_ref: str, target: str) -> Answer:
    """Attest the active pack good now, if soak and reports allow it (R4)."""
    from muniment.app import health as probing
    from muniment.cli.refs import slot_id
    from muniment.domain.slot import Attest

    with settings.open(write=True) as session:
        slot_name = slot_id(session, slot_ref)
        name, _ = probing.target_of(session, slot_name, target)
        outcome = session.run(Attest(slot_name, name), settings.options())
    event = outcome.event("slot.good_attested/1") or {}
    raised = outcome.event("channel.floor_raised/1")
    return answer(
        "slot.attest/1",
        outcome,
        ("attest", "attested"),
        f"pack {event.get('pack', '')} good in {slot_name} target {name}",
        id_=slot_name,
        data={"slot": slot_name, "target": name, "pack": event.get("pack")},
        lines=[f"  floor of {raised['scope']} raised to epoch {raised['floor']}"] if raised else [],
    )


@slot.verb(
    "unstick",
    write=True,
    examples=["muniment slot unstick prod/stable/eu --to 77ad0e114c02 --reason 'checked by hand'"],
)
@SLOT
@click.option("--to", "pack_ref", required=True, metavar="PACK", help="What the slot should run.")
@TARGET
def unstick(settings: Settings, slot_ref: str, pack_ref: str, target: str) -> Answer:
    """Leave STUCK with a named pack as what the slot should run."""
    from muniment.app import health as probing
    from muniment.cli.refs import pack_id, slot_id
    from muniment.domain.slot import Unstick

    with settings.open(write=True) as session:
        slot_name, pack = slot_id(session, slot_ref), pack_id(session, pack_ref)
        name, place = probing.target_of(session, slot_name, target)
        outcome = session.run(Unstick(slot_name, name, pack), settings.options())
    return answer(
        "slot.unstick/1",
        outcome,
        ("unstick", "unstuck"),
        f"{slot_name} target {name}: pack {pack} should run",
        id_=slot_name,
        data={"slot": slot_name, "target": name, "pack": pack},
        next_=f"muniment activate {slot_name} --target {place}",
    )


@slot.verb(
    "lift-quarantine",
    write=True,
    examples=[
        "muniment slot lift-quarantine prod/stable --pack 9f2c41aa03d7 --reason 'the fault was the database'"
    ],
)
@click.argument("channel", metavar="ENV/CHANNEL")
@click.option("--pack", "pack_ref", required=True, metavar="PACK", help="The pack.")
def lift_quarantine(settings: Settings, channel: str, pack_ref: str) -> Answer:
    """Let automation select a pack again in a channel it was rolled back from (R6)."""
    from muniment.cli.refs import pack_id
    from muniment.domain.reference import check_channel
    from muniment.domain.slot import LiftQuarantine

    check_channel(channel)
    with settings.open(write=True) as session:
        pack = pack_id(session, pack_ref)
        outcome = session.run(LiftQuarantine(channel, pack), settings.options())
    return answer(
        "slot.lift-quarantine/1",
        outcome,
        ("lift", "lifted"),
        f"quarantine of pack {pack} in {channel}",
        id_=channel,
        data={"channel": channel, "pack": pack},
    )
