"""References on the command line, resolved by `app.reading`; what is added here is what a PACK argument may also be.

pack     sha256:<64 hex>, pack:<prefix>, 6 or more hex digits, build:b-1 or b-1 (what it compiled), release:r-1 or r-1
moment   for --as-of: a reference, #18422 or 18422, a time, or an age
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from muniment.cli.settings import Settings
from muniment.cli.when import earlier, seconds
from muniment.domain.errors import NotFoundError

if TYPE_CHECKING:
    from muniment.app.reading import Reader
    from muniment.app.session import Session

_full = re.compile(r"sha256:[0-9a-f]{64}").fullmatch


def reader(settings: Settings | None, session: Session) -> Reader:
    """A reader of the log now, or at `--as-of`; folding shows its progress.

    Raises:
        UsageError, NotFoundError: `--as-of` names no moment of this log.
    """
    from muniment.app.reading import Reader

    now = session.log.now
    as_of = settings.as_of if settings is not None else ""
    if as_of and seconds(as_of) is not None:
        as_of = earlier(as_of, now)
    if settings is None:
        return Reader(session.log, now=now())
    bar = settings.progress("folded")
    bar.unit = "records"

    def told(done: int, total: int) -> None:
        bar.total = total
        bar(done)
        if done >= total:
            bar.close()

    return Reader(session.log, now=now(), as_of=as_of or None, progress=told)


def pack_id(session: Session, text: str, settings: Settings | None = None) -> str:
    """The full id of a pack. A full id is taken as it is: whether it is known is the rules' question.

    Raises:
        NotFoundError: no pack here is meant. UsageError: several are, or it is no reference.
    """
    if _full(text):
        return text
    looking = reader(settings, session)
    ref = looking.resolve(text, kinds=("pack", "build", "release"))
    if ref.kind == "pack":
        return ref.id
    model = looking.model
    pack = model.builds[ref.id].pack if ref.kind == "build" else model.releases[ref.id].pack
    if not pack:
        raise NotFoundError(
            f"{ref.kind} {ref.id} has compiled no pack",
            code="pack.none",
            hint=f"muniment {ref.kind} show {ref.id}",
        )
    return pack


def slot_id(session: Session, text: str) -> str:
    """The full name of a slot; a channel with one cohort names that slot. A full name is taken as it is.

    Raises:
        NotFoundError: no such channel. UsageError: a channel with several cohorts.
    """
    if text.count("/") == 2:
        from muniment.domain.reference import check_slot

        return check_slot(text.removeprefix("slot:"))
    return reader(None, session).slot(text).id


def id_of(session: Session, kind: str, text: str) -> str:
    """The id of a release, build … by its id or `KIND:ID`.

    Raises:
        NotFoundError: there is none; the nearest are named.
    """
    return reader(None, session).resolve(text, kinds=(kind,)).id
