"""`doctor` as a use case: look at the host and the store, and keep what was found as a record (settled.md, 22)."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

from muniment.app import clock, home
from muniment.app.host_check import Report, check_host
from muniment.app.host_check_facts import HostFacts
from muniment.app.host_check_model import Look, StoreSeen
from muniment.app.runtime_records import record_host_check
from muniment.app.session import Session
from muniment.domain.canonical import encode
from muniment.domain.errors import MunimentError, UnfitError, UsageError
from muniment.ring.place import runtime_folder
from muniment.store.durable import durable_settings
from muniment.store.open import folder_of, name_of
from muniment.store.postgres_url import is_postgres

REASON = 200  # characters of a reason in the record; the report, which is its evidence, has all of them


def examine(url: str, profile: str, host: HostFacts | None = None) -> Report:
    """Look at this host and at the store of a URL; nothing is changed.

    Raises:
        UsageError: no such profile, or no such kind of store.
    """
    host = host or HostFacts()
    try:
        own, lost = str(home.home(host.env)), ""
    except UnfitError as error:
        own, lost = "", f"{error.message}: {error.hint}"
    return check_host(Look(host, look_at(url, own), str(runtime_folder(host.env)), own, lost), profile)


def look_at(url: str, own: str = "") -> StoreSeen:
    """Look at a store as a reader does.

    Raises:
        UsageError: no such kind of store.
    """
    name = name_of(url)
    place = None if is_postgres(url) else str(folder_of(url).absolute())
    base = Path(own) if own else None  # without one, who asks for it says why there is none
    try:
        with Session(url) as session:
            head = session.log.head()
            seen, warning = home.last_head(session.store_id, base)
            cache = home.writer_file(session.store_id, base)
            verdict = clock.ClockCache(cache, lambda: clock.read_host(session.log.now)).check()
            now_us = session.log.now()
    except UsageError:
        raise
    except MunimentError as error:
        return StoreSeen(name, place, error, missing=error.code == "store.not_found")
    try:
        settings, unsaid = durable_settings(url), ""
    except MunimentError as error:
        settings, unsaid = (), f"{error.message} ({error.code})"
    return StoreSeen(
        name,
        place,
        settings=settings,
        settings_error=unsaid,
        size=head.size,
        recorded_at=head.recorded_at,
        now_us=now_us,
        seen_size=seen.size if seen else 0,
        seen_at=seen.seen_at if seen else "",
        seen_warning=warning,
        jump=verdict.by_s if verdict.kind == "jump_refused" else 0,
    )


def payload(report: Report, host: HostFacts) -> dict[str, Any]:
    """The report as the data of `runtime.host_checked/1`.

    Raises:
        OSError, ValueError: this host cannot be told from others, so a record of it would speak of nobody.
    """
    return {
        "profile": report.profile,
        "ok": report.ok,
        "host": {
            "kernel": report.host["kernel"],
            "cpus": report.host["cpus"] or 0,
            "boot_id": host.boot_id,
            "machine": host.machine,
        },
        "host_id": host.host_id,
        "checks": [
            {
                "id": check.id,
                "state": check.state,
                "required": report.profile in check.required_by,
                "reason": check.reason[:REASON],
            }
            for check in report.checks
        ],
    }


class Kept(NamedTuple):
    """Where a report was recorded; None, why not and what to do, if it was not."""

    position: int | None
    reason: str = ""
    hint: str = ""


def keep(url: str, report: Report, host: HostFacts) -> Kept:
    """Record a report, a bad one too. What a store says against it is an answer, and never raised.

    Raises:
        UsageError: the password of the store stands in the report, or no such kind of store.
    """
    try:
        data = payload(report, host)
        with Session(url, write=True) as session:
            return Kept(record_host_check(session, data, encode(report.as_json())))
    except UsageError:
        raise
    except MunimentError as error:
        return Kept(None, error.message, error.hint)
    except (OSError, ValueError) as error:
        return Kept(None, f"this host cannot be told from others: {error}")
