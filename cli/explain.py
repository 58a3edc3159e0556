"""`explain`: why is it so?"""

from __future__ import annotations

from typing import Any

import click
from muniment.cli.framework import verb
from muniment.cli.refusals import rule_words
from muniment.cli.results import Result
from muniment.cli.rollback import trace_lines
from muniment.cli.settings import Settings
from muniment.cli.text import instant

SHOWN_FACTS = 12


@verb(
    "explain",
    uses=("fields", "as_of"),
    examples=[
        "muniment explain '#42'",
        "muniment explain prod/stable~1",
        "muniment explain rel-43 -o json",
    ],
)
@click.argument("ref", metavar="REF")
def explain(settings: Settings, ref: str) -> Result:
    """Say why: rule, facts, policy, candidates.

    REF is a record, or anything with an id: then its state, and the last decision about it. The decision is made
    again from its facts; exit 7 if it comes out otherwise than it stands in the record.
    """
    from muniment.app.explain import explained
    from muniment.cli.refs import reader

    with settings.open() as session:
        page = explained(reader(settings, session), ref)
    found = page["data"][0]
    code = 7 if found["redecided"]["verdict"] == "different" else 0
    return Result(
        "explain/1",
        found,
        page["as_of"],
        lines(settings, found),
        found["next"],
        brief=f"#{found['record']['position']}",
        exit_code=code,
    )


def lines(settings: Settings, found: dict[str, Any]) -> list[str]:
    """Answer, rule, who and when; the policy; the candidates; the facts it rested on; the decision made again."""
    record = found["record"]
    when = found["when"]["recorded_at"]
    when = instant(when, local=settings.local) if settings.terminal else when
    rule = found["rule"]
    out = [f"{found['answer']}  {record['summary']}  (record #{record['position']})"]
    out.append(
        f"  rule   {rule_words(rule['id'])}: {rule['text']}"
        if rule["exit_code"]
        else f"  rule   {rule['text']}"
    )
    reason = f', "{found["reason"]}"' if found["reason"] else ""
    out.append(f"  by     {found['who']['id']}, {when}{reason}")
    out += [f"  found  {item}" for item in rule["findings"]]
    if found["command"]:
        out.append(f"  asked  {found['command']['name']} {_arguments(found['command']['args'])}".rstrip())
    if found["policy"]:
        policy = found["policy"]
        wrong = "" if policy["equal"] else f", but the decision cites {policy['cited']}"
        out.append(f"  policy {policy['policy']} {policy['digest']}, record #{policy['position']}{wrong}")
    if found["cause"]:
        out.append(f"  cause  #{found['cause']['position']} {found['cause']['summary']}")
    out += trace_lines(found["candidates"]) if found["candidates"] else []
    if len(found["events"]) > 1:
        out += [f"  made   #{item['position']} {item['summary']}" for item in found["events"]]
    facts = found["facts"]
    shown = facts if settings.verbose else facts[-SHOWN_FACTS:]
    left = len(facts) - len(shown) + found["facts_omitted"]
    out += [f"  facts  {left} earlier ones (-v)"] if left else []
    out += [f"  fact   #{item['position']} {item['summary']}" for item in shown]
    again = found["redecided"]
    out.append(f"  again  {_again(again)}")
    out += [
        f"         {item.get('field', '')}: expected {item.get('expected', '')}, found {item.get('found', '')}"
        for item in again.get("divergences", ())
    ]
    return out


def _again(again: dict[str, Any]) -> str:
    words = {
        "equal": "made again from these facts: the same decision",
        "different": "made again from these facts: ANOTHER decision",
        "unruled": "a fact that was observed; there is no decision to make again",
    }
    return words.get(again["verdict"], str(again["verdict"]))


def _arguments(args: dict[str, Any]) -> str:
    plain = [
        f"{name}={value}" for name, value in args.items() if isinstance(value, str | int) and value != ""
    ]
    return " ".join(plain)
