"""A refusal as people and programs read it: rule, actor, time, position, then the next command (cli.md, section 2)."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Any

from muniment.cli.results import Refused
from muniment.cli.settings import Settings
from muniment.cli.text import instant, short, short_command, visible

UNAPPROVED = ("R10.approvals",)
_numbered = re.compile(r"([RI]\d+)\.(.+)")


def rule_words(rule: str) -> str:
    """`R9.pinned` -> `R9 pinned`; a rule without a number stays as it is."""
    found = _numbered.fullmatch(rule)
    return f"{found[1]} {found[2]}" if found else rule


def members(result: Refused) -> dict[str, Any]:
    """The JSON form, `refused/1`."""
    refusal = result.refusal
    cause = refusal.cause
    return {
        "schema": "refused/1",
        "as_of": result.as_of,
        "rule": refusal.rule,
        "subject": refusal.subject,
        "message": refusal.message,
        "cause": None
        if cause is None
        else {"position": cause.position, "at": cause.at, "actor": cause.actor, "reason": cause.reason},
        "next": refusal.next,
        "facts": list(refusal.facts),
        "position": result.position,
        "dry_run": result.dry_run,
        "repeated": result.repeated,
        "exit": result.exit_code,
    }


def lines(settings: Settings, result: Refused) -> Iterator[str]:
    """The layout of cli.md, section 2."""
    refusal = result.refusal

    def plain(text: str) -> str:
        return short(visible(text)) if settings.terminal else visible(text)

    yield plain(f"refused  {rule_words(refusal.rule)}: {refusal.message}")
    for line in result.lines:
        yield plain(line)
    cause = refusal.cause
    if cause is not None:
        when = instant(cause.at, local=settings.local) if settings.terminal else cause.at
        said = [cause.actor, when, f'"{cause.reason}"' if cause.reason else "", f"record #{cause.position}"]
        yield plain("  by     " + ", ".join(filter(None, said)))
        yield f"  look   muniment history show '#{cause.position}'"
    elif result.position is not None:
        yield f"  look   muniment explain '#{result.position}'"
    for fact in refusal.facts:
        if settings.verbose or fact not in refusal.message:
            yield plain(f"  fact   {fact}")
    if refusal.rule in UNAPPROVED:
        yield "  note   approvals are no part of this version: policy solo lets one person act (README, limits)"
    if refusal.next:
        text = visible(refusal.next)
        yield "  next   " + (short_command(text) if settings.terminal else text)
    if result.position is not None and (settings.verbose or result.repeated):
        again = " (the same refusal within a minute)" if result.repeated else ""
        yield f"  record #{result.position}{again}"
    if result.dry_run:
        yield "nothing was written"
