"""`intake add`: collect a real input, then record it. Nothing is recorded unless every file was stored and checked."""

from __future__ import annotations

from pathlib import Path

from muniment.app import ids, intake
from muniment.app.request import Outcome
from muniment.app.session import Options, Session
from muniment.domain.canonical import encode
from muniment.domain.errors import UsageError
from muniment.domain.instant import from_micros
from muniment.domain.intake import Add
from muniment.domain.os_faults import shown
from muniment.domain.reference import check_name

MANIFEST_TYPE = "application/vnd.muniment.intake-manifest+json"
MAX_LINE = 1024


def add(
    session: Session,
    source: str,
    options: Options,
    *,
    intake_id: str = "",
    origin: str = "",
    authority: str = "",
    exclude: tuple[str, ...] = (),
    tool: str = "",
) -> tuple[Outcome, intake.IntakeManifest, str]:
    """Take in a file, folder, archive or `-`; return the outcome, the manifest and the intake id.

    Args:
        origin: where it came from; by default the path as given.
        authority: who may speak for it; by default the actor.
        tool: `NAME@VERSION STEP` of a transformation that was applied before, "" if none.

    A repeated idempotency key collects again and gives the recorded outcome if the content is the same.

    Raises:
        UsageError, UnavailableError, WrongError: see `app.intake.collect`; nothing was recorded.
        ConflictError: the idempotency key stands for another intake.
    """
    given = {"intake": check_name(intake_id, "an intake")} if intake_id else {}
    known = session.recorded(options, "intake.add", **given)
    earlier = known.event("intake.recorded/1") if known is not None else None
    name = str(earlier["intake"]) if earlier is not None else intake_id or ids.short_id("in-")
    for text in (origin, authority, tool):
        _check_line(text)
    fetched_at = from_micros(session.log.now())
    collected = intake.collect(
        source if source == "-" else Path(source),
        session.evidence,
        exclude=exclude,
        progress=session.progress,
    )
    blob = session.evidence.put(encode(collected.manifest))
    request = session.request(options)
    command = Add(
        intake=name,
        digest=collected.digest,
        files=collected.files,
        bytes=collected.bytes,
        excluded=len(collected.manifest["excluded"]),
        origin=origin or ("stdin" if source == "-" else shown(source)),
        authority=authority or request.actor.id,
        fetched_at=fetched_at,
        transformations=[{"tool": tool}] if tool else [],
        evidence=[blob.as_evidence("intake-manifest", MANIFEST_TYPE)],
    )
    return session.run(command, request=request), collected, name


def _check_line(text: str) -> None:
    """What a person says about an intake is text of one line; found out before a long intake, not after it."""
    try:
        size = len(text.encode())
    except UnicodeEncodeError:
        size = -1
    if not 0 <= size <= MAX_LINE or not text.isprintable():
        raise UsageError(
            f"not one line of text: {shown(text)}",
            code="intake.text",
            expected=f"at most {MAX_LINE} bytes without control characters",
        )
