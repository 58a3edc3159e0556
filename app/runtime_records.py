"""Records of pipelines: specs, hosts, runs, snapshots and heartbeats, written as observed facts.

1. Evidence first, then the record that names it: what is cut short leaves bytes nobody names, never a name without bytes.
2. A store that does not answer is asked a few times, then `UnavailableError` says so. A supervisor goes on without: whether a run
   is recorded never decides whether it runs.
3. A repeated append is the same bytes under the same id, so it is recorded once.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping, Sequence
from hashlib import sha256
from typing import Any, TypeVar

from muniment.app.request import Request
from muniment.app.session import Options, Session
from muniment.domain.errors import NotFoundError, UnavailableError
from muniment.domain.payloads_runtime import MAX_PROBLEMS
from muniment.domain.query import Item
from muniment.domain.reference import check_name
from muniment.store.api import Draft

SNAPSHOT_ROLE, SNAPSHOT_TYPE = "runtime-snapshot", "application/vnd.muniment.ring-snapshot"
SPEC_ROLE, SPEC_TYPE = "pipeline-spec", "text/plain; charset=utf-8"
GRAPH_ROLE, GRAPH_TYPE = "lane-graph-state", "application/json"
REPORT_ROLE, REPORT_TYPE = "host-report", "application/json"
PAUSES = (
    0.05,
    0.2,
    0.8,
)  # seconds between tries; a busy store has answered by then, one that is down is not waited for

WAITED_S = 1.0  # SQLite waits 5 s for a lock by itself: four such waits would hold a supervisor for 20 s

Attached = tuple[bytes, str, str]  # bytes, role, media type
T = TypeVar("T")


def patient(act: Callable[[], T]) -> T:
    """Try again, a few times, what the store could not do just then; one that was waited for already is not asked again.

    Raises:
        UnavailableError: it could not the last time either.
    """
    for pause in PAUSES:
        began = time.monotonic()
        try:
            return act()
        except UnavailableError as error:
            waited = time.monotonic() - began > WAITED_S
            if waited or error.code.startswith("clock."):  # a clock is for a person to settle
                raise
            time.sleep(pause)
    return act()


def fact_draft(
    session: Session,
    type_: str,
    data: dict[str, Any],
    *attached: Attached,
    request: Request | None = None,
) -> Draft:
    """The draft of one observed fact, its evidence stored.

    Raises:
        InvalidError: it does not fit its schema; nothing was stored.
        UnavailableError: the evidence cannot be stored. UsageError: the password of the store stands in it.
    """
    from muniment.domain.records import validate

    validate(type_, data)
    session.keep_secret(data)
    entries = [
        patient(lambda body=body: session.evidence.put(body)).as_evidence(role, media)  # type: ignore[misc]
        for body, role, media in attached
    ]
    return session.handler.fact(type_, data, request or session.request(Options()), entries)


def record(
    session: Session,
    type_: str,
    data: dict[str, Any],
    *attached: Attached,
    request: Request | None = None,
) -> int:
    """Append one observed fact and return its position.

    Raises:
        UnavailableError: see the module, 2. InvalidError, UsageError: see `fact_draft`.
    """
    draft = fact_draft(session, type_, data, *attached, request=request)
    return patient(lambda: session.append([draft])).last


# -- specs and hosts ---------------------------------------------------------------------------------------------------


def record_spec(
    session: Session, *, spec: str, model: str, canonical: bytes, stages: int, lanes: int = 0
) -> int:
    """A valid spec; its digest is that of the canonical text, which is kept.

    Raises: as `record`.
    """
    data = {
        "spec": spec,
        "spec_sha256": digest_of(canonical),
        "model": model,
        "stages": stages,
        "lanes": lanes,
    }
    return record(session, "runtime.spec_validated/1", data, (canonical, SPEC_ROLE, SPEC_TYPE))


def record_rejected_spec(
    session: Session, *, given: bytes, problems: Sequence[Mapping[str, Any]], spec: str = ""
) -> int:
    """A spec that breaks rules, its text as it was given.

    Args:
        problems: each with `code`, `line` and `message`; the first forty are named, the others counted.

    Raises: as `record`.
    """
    listed = [
        {"code": str(p["code"])[:64], "line": int(p["line"]), "message": str(p["message"])[:200]}
        for p in problems[:MAX_PROBLEMS]
    ]
    data = {
        "spec": spec,
        "given_sha256": digest_of(given),
        "problems": listed,
        "more": max(len(problems) - MAX_PROBLEMS, 0),
    }
    return record(session, "runtime.spec_rejected/1", data, (given, SPEC_ROLE, SPEC_TYPE))


def record_host_check(session: Session, data: dict[str, Any], report: bytes) -> int:
    """What `doctor` found (`runtime.host_checked/1`) and its whole report.

    Raises: as `record`.
    """
    return record(session, "runtime.host_checked/1", data, (report, REPORT_ROLE, REPORT_TYPE))


# -- runs --------------------------------------------------------------------------------------------------------------


def record_run_started(session: Session, data: dict[str, Any], canonical: bytes = b"") -> int:
    """A run began (`runtime.run_started/1`); with the text of its spec, that is evidence of this record too.

    Raises: as `record`.
    """
    attached = ((canonical, SPEC_ROLE, SPEC_TYPE),) if canonical else ()
    return record(session, "runtime.run_started/1", data, *attached)


def record_run_ended(session: Session, data: dict[str, Any]) -> int:
    """A run ended (`runtime.run_ended/1`).

    Raises: as `record`.
    """
    return record(session, "runtime.run_ended/1", data)


def record_heartbeat(session: Session, data: dict[str, Any]) -> int:
    """A sign of life, or that there was none (`runtime.heartbeat_recorded/1`).

    Raises: as `record`.
    """
    return record(session, "runtime.heartbeat_recorded/1", data)


# -- snapshots ---------------------------------------------------------------------------------------------------------


def snapshot_draft(
    session: Session,
    packed: bytes,
    rendered: Mapping[str, Any],
    reason: str,
    run: str = "",
    incident: str | None = None,
    *,
    spec: str = "",
    lane: str = "",
    agent: str = "",
    graph: bytes = b"",
) -> Draft:
    """The draft of a ring at a moment: its packed bytes as evidence, which is stored, its state as data.

    Args:
        rendered: what `ring.snapshot.render` makes of the bytes.
        incident: the incident that it belongs to; its timeline then shows it.
        graph: the canonical JSON of `lane_graph_state`, where the ring is a lane.

    Raises:
        NotFoundError: no such incident. Others as `fact_draft`.
    """
    if incident:
        check_name(incident, "an incident")
        if session.last(Item(("incident.declared/1",), (f"incident:{incident}",))) is None:
            raise NotFoundError(
                f"no incident {incident}", code="snapshot.incident", hint="muniment incident list"
            )
    data = snapshot_data(rendered, reason, run, incident or "", spec=spec, lane=lane, agent=agent)
    attached: list[Attached] = [(packed, SNAPSHOT_ROLE, SNAPSHOT_TYPE)]
    attached += [(graph, GRAPH_ROLE, GRAPH_TYPE)] if graph else []
    return fact_draft(session, "runtime.snapshot_captured/1", data, *attached)


def record_snapshot(
    session: Session,
    packed: bytes,
    rendered: Mapping[str, Any],
    reason: str,
    run: str = "",
    incident: str | None = None,
    **more: Any,
) -> int:
    """Record a ring at a moment; arguments and errors are those of `snapshot_draft`."""
    draft = snapshot_draft(session, packed, rendered, reason, run, incident, **more)
    return patient(lambda: session.append([draft])).last


def snapshot_data(
    rendered: Mapping[str, Any],
    reason: str,
    run: str = "",
    incident: str = "",
    *,
    spec: str = "",
    lane: str = "",
    agent: str = "",
) -> dict[str, Any]:
    """A rendered snapshot as the payload of its record."""
    bounds = {item["stage"]: item for item in rendered["bounds"]}
    return {
        "run": run,
        "spec": spec,
        "spec_sha256": rendered["spec_sha256"],
        "lane": lane,
        "reason": reason,
        "ring_path": rendered["ring_path"],
        "cursor": rendered["cursor"],
        "exact": rendered["exact"],
        "producer": {
            "blocked": rendered["producer_blocked"],
            "alive": rendered["producer"]["alive"],
            "dropped": rendered["dropped"],
        },
        "stop": rendered["stop"],
        "end": rendered["end"] or "",
        "stages": [
            {
                "stage": item["stage"],
                "state": item["state"],
                "alive": item["alive"],
                "lo": bounds[item["stage"]]["lo"],
                "hi": bounds[item["stage"]]["hi"],
                "lag": item["lag"],
                "lost": item["lost"],
                "silent_ms": item["silent_ms"],
            }
            for item in rendered["gating"]
        ],
        "slowest_stage": rendered["slowest_stage"],
        "remaining_capacity": rendered["remaining_capacity"],
        "agent": agent,
        "incident": incident,
    }


def digest_of(data: bytes) -> str:
    """`sha256:` and 64 hex digits over bytes."""
    return "sha256:" + sha256(data).hexdigest()
