"""The contract check of a host (operator-flow.md, section 5): does it give what a tuning profile asks of it? Never a benchmark.

A profile is a request, and each check is one clause of it. The answer to a clause is one of four states:

    requested  asked for, and neither granted nor refused yet, because only a run brings it about (a folder that the first run
               makes); what could be looked at is as it must be
    applied    looked at, and all of it is there
    degraded   less than that, and a run under this profile goes on without: it is there in part, or it is missing or could not be
               looked at and this profile does not require it
    failed     this profile requires it, and it is missing or could not be looked at

So what was not seen is never `applied`, and `failed` stands only at what the profile requires. A profile requires what a run under
it would break without. `ok` is false if and only if a check has failed; what is merely degraded is said, with its reason.

A check looks at the host through `HostFacts` and at the store through `StoreSeen`, and changes nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from muniment.app import host_check_cpu, host_check_store
from muniment.app.host_check_facts import HostFacts
from muniment.app.host_check_model import Look, Rule, Seen, Verdict
from muniment.app.tuning import PROFILES
from muniment.domain.errors import UsageError

DOCTOR_V = 1
RULES = (*host_check_cpu.RULES, *host_check_store.RULES)


class Check(NamedTuple):
    """A clause and its state."""

    id: str
    required_by: tuple[str, ...]
    state: str
    observed: str
    expected: str
    reason: str


class Report(NamedTuple):
    """What `doctor` says. Its JSON is canonical: strings, integers and booleans only."""

    profile: str
    host: dict[str, Any]
    checks: tuple[Check, ...]

    @property
    def ok(self) -> bool:
        """No check has failed."""
        return not self.failed

    @property
    def failed(self) -> list[Check]:
        """Those that the profile requires and the host does not give."""
        return [check for check in self.checks if check.state == "failed"]

    def as_json(self) -> dict[str, Any]:
        """`{doctor_v, profile, ok, host, checks}`."""
        checks = [{**check._asdict(), "required_by": list(check.required_by)} for check in self.checks]
        return {
            "doctor_v": DOCTOR_V,
            "profile": self.profile,
            "ok": self.ok,
            "host": self.host,
            "checks": checks,
        }


def check_host(look: Look, profile: str) -> Report:
    """Make every check for a profile.

    Raises:
        UsageError: no such profile. That is a request that makes no sense, and says nothing about the host.
    """
    if profile not in PROFILES:
        raise UsageError(
            f"no profile {profile[:40]!r}",
            code="doctor.profile",
            hint="muniment doctor --help",
            expected=", ".join(PROFILES),
        )
    return Report(profile, describe(look.host), tuple(_checked(rule, look, profile) for rule in RULES))


def state_of(verdict: Verdict, *, required: bool) -> str:
    """The state of a clause; see the module."""
    if verdict is Verdict.HOLDS:
        return "applied"
    if verdict is Verdict.PENDING:
        return "requested"
    return "failed" if required and verdict is not Verdict.PARTIAL else "degraded"


def _checked(rule: Rule, look: Look, profile: str) -> Check:
    try:
        seen = rule.look(look)
    except (OSError, ValueError, LookupError) as error:
        seen = Seen(Verdict.UNKNOWN, "not known", f"could not be looked at: {said(error)}")
    state = state_of(seen.verdict, required=profile in rule.required_by)
    reason = seen.reason
    if state == "degraded" and seen.verdict is not Verdict.PARTIAL:
        reason += f" ({profile} runs without it)" if rule.required_by else ""
    return Check(rule.id, rule.required_by, state, seen.observed, rule.expected, reason)


def said(error: Exception) -> str:
    """An exception in words."""
    if isinstance(error, OSError):
        return f"{error.filename or ''}: {error.strerror or error}".removeprefix(": ")
    return f"{type(error).__name__}: {str(error)[:200]}" if isinstance(error, KeyError) else str(error)[:200]


def describe(host: HostFacts) -> dict[str, Any]:
    """`host{id, kernel, cpus, cpus_usable, boot_id, python, libc, machine}`; "" or null where it cannot be told."""
    asked: dict[str, tuple[Callable[[], str | int], str | None]] = {
        "id": (lambda: host.host_id, ""),
        "kernel": (lambda: host.text("/proc/sys/kernel/osrelease"), ""),
        "cpus": (lambda: len(host.online), None),
        "cpus_usable": (lambda: len(host.numbers.affinity & host.online), None),
        "boot_id": (lambda: host.boot_id, ""),
    }
    told: dict[str, Any] = {}
    for name, (ask, absent) in asked.items():
        try:
            told[name] = ask()
        except (OSError, ValueError, LookupError):
            told[name] = absent  # the checks that need it say why
    numbers = host.numbers
    return {**told, "python": numbers.python, "libc": numbers.libc, "machine": numbers.machine}
