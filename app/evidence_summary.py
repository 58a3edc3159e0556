"""Evidence summary: what proof the records promise, and whether the bytes are there.

Promised but absent is a gap; gap and damage exit 7, what could not be looked at 8. Where nothing is promised nothing is proven:
that is no pass either (exit 7).
"""

from __future__ import annotations

from typing import Any

from muniment.app.reading import Reader
from muniment.domain.envelope import read_fact
from muniment.domain.errors import MunimentError
from muniment.domain.query import Item, Query
from muniment.store.evidence import EvidenceStore

PRESENT, GAP, DAMAGED, UNREADABLE = "present", "gap", "damaged", "unreadable"
WRONG, COULD_NOT_LOOK = 7, 8


def summarized(
    reader: Reader, evidence: EvidenceStore, text: str = "", *, check: bool = False
) -> dict[str, Any]:
    """Every file that is promised, by record (`evidence.summary/1`), for one reference or the whole store.

    Args:
        check: hash each file again; else only its presence and size are looked at.

    Raises:
        UsageError, NotFoundError: see `Reader.resolve`.
    """
    query: Query = ()
    first, last, subject = 0, reader.until, "store"
    if text:
        ref = reader.resolve(text)
        subject = str(ref)
        if ref.kind == "record":
            first, last = ref.position - 1, ref.position
        else:
            query = (Item((), (ref.tag,)),)
    rows: list[dict[str, Any]] = []
    states: dict[tuple[str, str, int], tuple[str, str]] = {}
    for page in reader.log.pages(query, after=first, until=last):
        for position, body in page:
            if b'"evidence":[' not in body:
                continue
            fact = read_fact(body, position)
            for entry in fact.evidence:
                key = (entry["blake3"], entry["sha256"], entry["bytes"])
                if key not in states:
                    states[key] = _state(evidence, *key, check=check)
                state, found = states[key]
                rows.append(
                    {
                        "position": position,
                        "type": fact.type,
                        "role": entry["role"],
                        "state": state,
                        "found": found,
                        "bytes": entry["bytes"],
                        "media_type": entry["media_type"],
                        "blake3": entry["blake3"],
                        "sha256": entry["sha256"],
                    }
                )
    counts = {
        state: sum(row["state"] == state for row in rows) for state in (PRESENT, GAP, DAMAGED, UNREADABLE)
    }
    roles: dict[str, int] = {}
    for row in rows:
        roles[row["role"]] = roles.get(row["role"], 0) + 1
    verdict, exit_code = _verdict(rows, counts, check=check)
    return {
        "schema": "evidence.summary/1",
        "as_of": reader.until,
        "subject": subject,
        "verdict": verdict,
        "checked": check,
        "counts": {"promised": len(rows), "distinct": len(states), **counts},
        "bytes": sum(key[2] for key in states),
        "roles": dict(sorted(roles.items())),
        "data": rows,
        "exit_code": exit_code,
        "next": None,
        "omitted": 0,
    }


def _state(evidence: EvidenceStore, blake3: str, sha256: str, size: int, *, check: bool) -> tuple[str, str]:
    """State of one blob, and what was found where it is not as promised."""
    try:
        if check:
            problem = evidence.check(blake3, sha256, size)
            if problem is None:
                return PRESENT, ""
            names = {"missing": GAP, "unreadable": UNREADABLE}
            return names.get(problem.code, DAMAGED), f"{problem.code}: {problem.found}"
        if evidence.missing([blake3]):
            return GAP, "no such file"
        found = evidence.path(blake3).stat().st_size
        return (PRESENT, "") if found == size else (DAMAGED, f"size: {found} bytes")
    except (MunimentError, OSError) as error:
        return UNREADABLE, str(error)


def _verdict(rows: list[dict[str, Any]], counts: dict[str, int], *, check: bool) -> tuple[str, int]:
    if counts[GAP]:
        return "gap", WRONG
    if counts[DAMAGED]:
        return "damaged", WRONG
    if counts[UNREADABLE]:
        return "unreadable", COULD_NOT_LOOK
    if not rows:
        return "nothing promised", WRONG
    return ("checked" if check else "present"), 0
