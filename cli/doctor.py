"""`doctor`: does this host give what a tuning profile asks of it?"""

from __future__ import annotations

import click
from muniment.cli.framework import verb
from muniment.cli.results import Result
from muniment.cli.settings import Settings
from muniment.cli.text import counted

UNFIT = 9
ORDER = ("failed", "degraded", "requested", "applied")
MEANS = {
    "default": "any Linux, no privilege",
    "low-latency": "spinning, threads over the CPUs, locked memory",
    "isolated-core": "spinning on isolated CPUs in real time",
}


@verb(
    "doctor",
    uses=("fields",),
    examples=[
        "muniment doctor",
        "muniment doctor --profile low-latency",
        "muniment doctor --profile isolated-core --no-record -o json",
    ],
)
@click.option(
    "--profile",
    type=click.Choice(list(MEANS)),
    default="default",
    show_default=True,
    help="; ".join(f"{name}: {words}" for name, words in MEANS.items()) + ".",
)
@click.option("--no-record", is_flag=True, help="Do not record what was found.")
def doctor(settings: Settings, profile: str, no_record: bool) -> Result:
    """Check this host against what a profile asks of it.

    A contract, never a benchmark; nothing is changed. What was found becomes a record if there is a store.

    A check is applied (all of it is there), requested (a run brings it about), degraded (it is not all there, and this profile does
    without) or failed (this profile requires it).

    Exit 9 if a check has failed, also one that could not be looked at.
    """
    from muniment.app import host_check_record
    from muniment.app.host_check_facts import HostFacts

    host = HostFacts()
    report = host_check_record.examine(settings.url, profile, host)
    unkept = host_check_record.Kept(None, "--no-record")
    kept = unkept if no_record else host_check_record.keep(settings.url, report, host)
    checks = sorted(report.checks, key=lambda check: ORDER.index(check.state))
    wide = max(len(check.id) for check in checks)
    counts = {state: sum(check.state == state for check in checks) for state in ORDER}
    made = ", ".join(f"{counts[state]} {state}" for state in reversed(ORDER) if counts[state])
    lines = [
        f"{'fit' if report.ok else 'UNFIT'}  this host for profile {profile}: {counted(len(checks), 'check')}, {made}"
    ]
    for check in checks:
        why = f": {check.reason}" if check.reason else ""
        wanted = f" (expected {check.expected})" if check.state in ("failed", "degraded") else ""
        lines.append(f"  {check.state:<9}  {check.id:<{wide}}  {check.observed}{wanted}{why}")
    lines.append(f"  record #{kept.position}" if kept.position else f"  not recorded: {kept.reason}")
    next_ = kept.hint if kept.hint.startswith("muniment ") else ""
    return Result(
        "doctor/1",
        {**report.as_json(), "position": kept.position, "not_recorded": kept.reason},
        None,
        lines,
        next_ if report.ok else f"muniment doctor --profile {profile}",
        brief="fit" if report.ok else "unfit",
        exit_code=0 if report.ok else UNFIT,
    )
