"""`health collect`: ask a probe about the pack that is active on a target, and report what it said.

The probe is a command of the operator; it prints one JSON object `{"status": …, "signals": […]}`. `{active}` in its arguments is
the target's `active` link. What cannot be read as a status is UNKNOWN, never healthy.
"""

from __future__ import annotations

import json
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from muniment.app import activating
from muniment.app.request import Outcome
from muniment.app.session import Options, Session
from muniment.app.stage_facts import BASE_ENV
from muniment.domain import slot as slots
from muniment.domain.errors import NotFoundError, UsageError

MAX_SIGNALS = 50
MAX_OUTPUT = 1 << 20


def target_of(session: Session, slot: str, target: str = "") -> tuple[str, Path]:
    """Name and folder of a slot's target: the one named, or the only one.

    Raises:
        NotFoundError: the slot has none, or none of that name. UsageError: it has several and none is named.
    """
    _, state = activating.slot_of(session, slot)
    targets = state.targets if state is not None else {}
    if target:
        name = activating.named(targets, target)
    elif len(targets) == 1:
        name = next(iter(targets))
    elif not targets:
        raise NotFoundError(
            f"{slot} has no target", code="target.none", hint=f"muniment activate {slot} --target DIR"
        )
    else:
        raise UsageError(
            f"{slot} has {len(targets)} targets",
            code="target.ambiguous",
            hint=f"--target {'|'.join(targets)}",
        )
    return name, Path(targets[name].location)


def collect(
    session: Session,
    options: Options,
    slot: str,
    argv: Sequence[str],
    *,
    target: str = "",
    timeout_s: float = 60,
) -> tuple[Outcome, str, list[dict[str, Any]]]:
    """Run a probe and report what it said; return the outcome, the status and the signals.

    Raises:
        UsageError: no command. NotFoundError: no such target.
    """
    if not argv:
        raise UsageError(
            "no probe to run", code="health.no_probe", hint="muniment health collect SLOT -- COMMAND"
        )
    name, place = target_of(session, slot, target)
    status, signals = _ask([word.replace("{active}", str(place / "active")) for word in argv], timeout_s)
    return session.run(slots.Report(slot, name, status, signals), options), status, signals


def _ask(argv: Sequence[str], timeout_s: float) -> tuple[str, list[dict[str, Any]]]:
    try:
        done = subprocess.run(  # the operator's own command, without a shell
            argv, stdin=subprocess.DEVNULL, capture_output=True, timeout=timeout_s, check=False, env=BASE_ENV
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return "UNKNOWN", [{"name": "probe", "observed": f"{type(error).__name__}: {error}"[:500]}]
    try:
        said = json.loads(done.stdout[:MAX_OUTPUT])
        status = said["status"]
        signals = [_plain(signal) for signal in said.get("signals", [])[:MAX_SIGNALS]]
    except (ValueError, TypeError, KeyError, AttributeError) as error:
        return "UNKNOWN", [
            {"name": "probe", "observed": f"exit {done.returncode}, no status: {error!r}"[:500]}
        ]
    if status not in slots.STATUSES:
        return "UNKNOWN", [{"name": "probe", "observed": f"unknown status {str(status)[:100]}"}]
    return status, signals


def _plain(signal: Any) -> dict[str, Any]:
    """Words and integers only; a float has no canonical form here and becomes its text."""
    return {
        str(name)[:100]: value if isinstance(value, int) and abs(value) < 2**53 else str(value)[:500]
        for name, value in signal.items()
    }
