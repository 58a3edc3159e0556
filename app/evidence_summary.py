"""Evidence summary: what proof the records promise, and whether the bytes are there.

Promised but absent is a gap; gap and damage exit 7, what could not be looked at 8. Where nothing is promised nothing is proven:
that is no pass either (exit 7).
"""

from __future__ import annotations

from typing import Any

import msgspec
from muniment.app.reading import Reader, Ref
from muniment.app.verify_evidence import MANIFEST_ROLES, MAX_MANIFEST
from muniment.domain.envelope import read_fact
from muniment.domain.errors import MunimentError
from muniment.domain.query import Item, Query
from muniment.store.evidence import EvidenceStore

Key = tuple[str, str, int]
State = tuple[str, str]
Listed = tuple[str, dict[str, Any], State]

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
            query = tuple(Item((), (tag,)) for tag in behind(reader, ref))
    rows: list[dict[str, Any]] = []
    states: dict[Key, State] = {}
    lists: dict[Key, list[Listed]] = {}
    promised = 0
    for page in reader.log.pages(query, after=first, until=last):
        for position, body in page:
            if b'"evidence":[' not in body:
                continue
            fact = read_fact(body, position)
            for entry in fact.evidence:
                key = (entry["blake3"], entry["sha256"], entry["bytes"])
                if key not in states:
                    states[key] = _state(evidence, *key, check=check)
                    if states[key][0] == PRESENT and entry["role"] in MANIFEST_ROLES:
                        lists[key] = _listed(evidence, entry, states, check=check)
                promised += 1 + len(lists.get(key, ()))
                state, found = states[key]
                rows.append(_row(position, fact.type, entry["role"], state, found, entry))
                # a manifest speaks for its files: those that are not as it says are named, the others counted
                rows += [
                    _row(position, fact.type, f"{entry['role']}:{path}", *found_state, listed)
                    for path, listed, found_state in lists.get(key, ())
                    if found_state[0] != PRESENT
                ]
    counts = {
        state: sum(found[0] == state for found in states.values())
        for state in (PRESENT, GAP, DAMAGED, UNREADABLE)
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
        "counts": {"promised": promised, "distinct": len(states), **counts},
        "bytes": sum(key[2] for key in states),
        "roles": dict(sorted(roles.items())),
        "data": rows,
        "exit_code": exit_code,
        "next": None,
        "omitted": 0,
    }


def behind(reader: Reader, ref: Ref) -> list[str]:
    """The tags of an entity and of what it rests on: a release on its pack, a pack on its build, a build on its intake."""
    tags, model = [ref.tag], reader.model
    pack = ref.id if ref.kind == "pack" else ""
    build = ref.id if ref.kind == "build" else ""
    if ref.kind == "release" and (release := model.releases.get(ref.id)) is not None:
        pack = release.pack
        tags.append(f"pack:{pack}")
    if pack and (state := model.packs.get(pack)) is not None and state.build:
        build = state.build
        tags.append(f"build:{build}")
    if build and (made := model.builds.get(build)) is not None:
        tags.append(f"intake:{made.intake}")
    return tags


def _row(
    position: int, type_: str, role: str, state: str, found: str, entry: dict[str, Any]
) -> dict[str, Any]:
    return {
        "position": position,
        "type": type_,
        "role": role,
        "state": state,
        "found": found,
        "bytes": entry["bytes"],
        "media_type": entry.get("media_type", ""),
        "blake3": entry["blake3"],
        "sha256": entry["sha256"],
    }


def _listed(
    evidence: EvidenceStore, entry: dict[str, Any], states: dict[Key, State], *, check: bool
) -> list[Listed]:
    """The files that a manifest lists, each with its state; a manifest that cannot be read is damaged itself."""
    try:
        files = msgspec.json.decode(evidence.read(entry["blake3"], limit=MAX_MANIFEST))["files"]
        keys = [(item["blake3"], item["sha256"], item["bytes"]) for item in files]
    except (MunimentError, msgspec.DecodeError, KeyError, TypeError) as error:
        states[entry["blake3"], entry["sha256"], entry["bytes"]] = (DAMAGED, f"manifest: {error}"[:200])
        return []
    for key in keys:
        if key not in states:
            states[key] = _state(evidence, *key, check=check)
    return [(item["path"], item, states[key]) for item, key in zip(files, keys, strict=True)]


def _state(evidence: EvidenceStore, blake3: str, sha256: str, size: int, *, check: bool) -> tuple[str, str]:
    """State of one blob, and what was found where it is not as promised."""
    try:
        if check:
            problem = evidence.check(blake3, sha256, size)
            if problem is None:
                return PRESENT, ""
            names = {"missing": GAP, "unreadable": UNREADABLE}
            return names.get(problem.code, DAMAGED), f"{problem.code}: {problem.found}"
        found = evidence.sizes([blake3]).get(blake3)
        if found is None:
            return GAP, "no such file"
        return (PRESENT, "") if found == size else (DAMAGED, f"size: {found} bytes")
    except MunimentError as error:
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
