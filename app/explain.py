"""Explain: why is it so? For a record, a refusal, or the state of anything: rule, facts, policy, who, what else was looked at."""

from __future__ import annotations

import re
from typing import Any

import msgspec
from muniment.app import redecide
from muniment.app.history import record as whole_record
from muniment.app.history import row
from muniment.app.reading import ENTITIES, Reader, Ref
from muniment.domain.envelope import Envelope, read_fact
from muniment.domain.query import Item
from muniment.projections.words import line

MAX_FACTS = 500
_rule_id = re.compile(r"\b[IR]\d+\b").findall

# Rules that stand behind a decision, by the type of its records (release-rules.md, section 5).
RULES = {
    "build.compile_refused": "I13 no compile without its gates",
    "build.finished": "eligibility: the list of failed conditions",
    "pack.admitted": "admission: the pack its build compiled, inputs frozen, signatures as the policy asks",
    "release.gate_judged": "R11 the gate of a stage",
    "release.promoted": "R9 forward moves",
    "release.started": "R10 approvals, R12 one rollout a slot",
    "activation.planned": "R9 forward moves, R12 one activation a target",
    "activation.switched": "R2 eligibility, R9 forward moves, R6 what a rollback leaves",
    "rollback.pack_selected": "R5 the candidates in order",
    "rollback.no_candidate": "R5 the candidates in order",
    "slot.good_attested": "R4 confirmed, soaked, reported healthy",
    "channel.floor_raised": "R3 floors only rise",
    "channel.frozen": "R8 freezes",
    "incident.contained": "I22 containment is a predicate over the log",
}


def explained(reader: Reader, text: str) -> dict[str, Any]:
    """Explain a reference (`explain/1`); of an entity, its state and the last decision about it.

    Raises:
        UsageError, NotFoundError: see `Reader.resolve`.
    """
    ref = reader.resolve(text)
    position = ref.position if ref.kind == "record" else reader.last_of(ref)
    batch = redecide.batch_of(reader.log, position)
    record = next(one for one in batch if one.position == position)
    refusal = next((one for one in batch if one.type == "command.refused/1"), None)
    first = batch[0]
    answer = redecide.redecide(reader.log, position)
    facts, more = _facts(reader, first)
    data = {
        "reference": text,
        "subject": str(ref),
        "state": _state(reader, ref),
        "record": whole_record(reader, position),
        "answer": "refused"
        if refusal is not None
        else "decided"
        if first.command is not None
        else "observed",
        "rule": _rule(batch, refusal),
        "who": first.actor,
        "when": {"occurred_at": first.occurred_at, "recorded_at": record.recorded_at},
        "reason": str((first.command or {}).get("reason", "")),
        "command": first.command,
        "events": [
            {"position": one.position, "type": one.type, "summary": _line(reader, one.position)}
            for one in batch
        ],
        "policy": _policy(reader, first),
        "facts": facts,
        "facts_omitted": more,
        "candidates": _candidates(batch),
        "cause": _cause(reader, record, refusal),
        "next": str(refusal.data.get("next", ""))
        if refusal is not None
        else f"muniment history show '#{position}'",
        "redecided": msgspec.to_builtins(answer),
    }
    return {"schema": "explain/1", "as_of": reader.until, "data": [data], "next": None, "omitted": 0}


def _rule(batch: list[Envelope], refusal: Envelope | None) -> dict[str, Any]:
    """The rule of a refusal as it was recorded, else those behind the records that were made."""
    if refusal is not None:
        data = refusal.data
        return {
            "id": data["rule"],
            "text": data["message"],
            "subject": data["subject"],
            "findings": data["facts"],
            "exit_code": data["exit_code"],
        }
    known = {type_: RULES[type_] for one in batch if (type_ := one.type.partition("/")[0]) in RULES}
    return {
        "id": ", ".join(dict.fromkeys(id_ for text in known.values() for id_ in _rule_id(text))),
        "text": "; ".join(known.values()) or "no rule stands against it",
        "subject": "",
        "findings": [text for one in batch for text in one.data.get("facts", []) if isinstance(text, str)],
        "exit_code": 0,
    }


def _facts(reader: Reader, first: Envelope) -> tuple[list[dict[str, Any]], int]:
    """The records the decision rested on: its own query, selected again as of its basis."""
    if first.basis is None:
        return [], 0
    query = tuple(Item(tuple(item["types"]), tuple(item["tags"])) for item in first.basis["query"])
    until = int(first.basis["after"])
    if not until or not query:
        return [], 0
    rows: list[dict[str, Any]] = []
    more = 0
    for position, body in reader.log.read(query, until=until):
        if len(rows) < MAX_FACTS:
            found = row(read_fact(body, position))
            rows.append({key: found[key] for key in ("position", "recorded_at", "type", "actor", "summary")})
        else:
            more += 1
    return rows, more


def _policy(reader: Reader, first: Envelope) -> dict[str, Any] | None:
    """Name, digest and record of the policy in force for the decision; None if none was published yet."""
    if first.basis is None:
        return None
    item = Item(("policy.published/1",), ("scope:*",))
    until = int(first.basis["after"])
    found = list(reader.log.read((item,), until=until, limit=1, reverse=True)) if until else []
    if not found:
        return None
    position, body = found[0]
    data = read_fact(body, position).data
    return {
        "policy": data["policy"],
        "digest": data["digest"],
        "position": position,
        "cited": first.basis["policy"],
        "equal": data["digest"] == first.basis["policy"],
    }


def _candidates(batch: list[Envelope]) -> list[dict[str, Any]]:
    """R5's trace: every pack that was looked at, with its code."""
    traces = [
        one.data["trace"]
        for one in batch
        if one.type in ("rollback.pack_selected/1", "rollback.no_candidate/1")
    ]
    return [dict(candidate) for trace in traces for candidate in trace]


def _cause(reader: Reader, record: Envelope, refusal: Envelope | None) -> dict[str, Any] | None:
    """The record that made it so: the cause of a refusal, else the record named as causation."""
    position = 0
    if refusal is not None and refusal.data.get("cause"):
        position = int(refusal.data["cause"]["position"])
    elif record.causation:
        position = reader.log.positions_of([record.causation]).get(record.causation, 0)
    if not 0 < position <= reader.size:
        return None
    return row(read_fact(reader.body(position), position))


def _state(reader: Reader, ref: Ref) -> dict[str, Any] | None:
    """The state of an entity now, as its projection shows it; None for a record."""
    if ref.kind == "record":
        return None
    if ref.kind in ("build", "incident", "pack", "release", "slot"):
        return reader.row(ref.kind, ref.id)
    found: dict[str, Any] = msgspec.to_builtins(getattr(reader.model, ENTITIES[ref.kind])[ref.id])
    return found


def _line(reader: Reader, position: int) -> str:
    return line(read_fact(reader.body(position), position))
