"""References on the command line: packs, releases, slots, and moments of the log.

pack     sha256:<64 hex>, pack:<prefix>, <prefix of 6 or more hex digits>, build:b-1 or b-1 (what it compiled),
         release:r-1 (what it rolls out)
moment   #18422 or 18422 (a position), a time, or an age
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from muniment.cli.settings import Settings
from muniment.domain.errors import NotFoundError, UsageError

if TYPE_CHECKING:
    from muniment.app.session import Session
    from muniment.projections.model import ReadModel

_full = re.compile(r"sha256:[0-9a-f]{64}").fullmatch
_prefix = re.compile(r"(?:pack:)?(?:sha256:)?([0-9a-f]{6,64})").fullmatch
_position = re.compile(r"#?([0-9]{1,15})").fullmatch


def _model(session: Session) -> ReadModel:
    from muniment.app import projecting

    return projecting.current(session.log).model


def pack_id(session: Session, text: str) -> str:
    """The full id of a pack.

    Raises:
        NotFoundError: no pack here is meant. UsageError: several are, or it is no reference at all.
    """
    if _full(text):
        return text
    model = _model(session)
    kind, _, name = text.partition(":")
    if kind == "release" and name:
        return model.releases[release_id(session, name)].pack
    build = name if kind == "build" else text
    if build in model.builds:
        if not model.builds[build].pack:
            raise NotFoundError(
                f"build {build} has compiled no pack", code="pack.none", hint=f"muniment build show {build}"
            )
        return model.builds[build].pack
    if kind != "build" and text in model.releases:
        return model.releases[text].pack
    found = _prefix(text)
    if found is None:
        if kind == "build":
            raise NotFoundError(f"no build {name[:80]}", code="build.unknown", hint="muniment build list")
        raise UsageError(
            f"not a pack: {text[:80]!r}",
            code="ref.pack",
            expected="sha256:…, a prefix of 6 or more hex digits, build:ID or release:ID",
            hint="muniment help references",
        )
    known = [pack for pack in model.packs if pack.removeprefix("sha256:").startswith(found[1])]
    if len(known) > 1:
        raise UsageError(
            f"{len(known)} packs begin with {found[1]}",
            code="ref.ambiguous",
            expected="a longer prefix",
            found=", ".join(known[:5]),
        )
    if not known:
        raise NotFoundError(f"no pack {text[:80]} here", code="pack.unknown", hint="muniment pack list")
    return known[0]


def release_id(session: Session, text: str) -> str:
    """The id of a release.

    Raises:
        NotFoundError: there is none of that name.
    """
    name = text.removeprefix("release:")
    releases = _model(session).releases
    if name in releases:
        return name
    from difflib import get_close_matches

    near = get_close_matches(name, list(releases), n=3)
    raise NotFoundError(
        f"no release {name[:80]} here",
        code="release.unknown",
        hint=f"did you mean {', '.join(near)}?" if near else "muniment release list",
    )


def slot_id(session: Session, text: str) -> str:
    """The full name of a slot; a channel with one cohort names that slot.

    Raises:
        UsageError: not a slot, or a channel with several cohorts.
    """
    from muniment.domain.reference import check_slot

    if text.count("/") == 1:
        channel = _model(session).channels.get(text)
        if channel is not None and len(channel.cohorts) == 1:
            return f"{text}/{channel.cohorts[0]}"
        if channel is not None:
            raise UsageError(
                f"channel {text} has {len(channel.cohorts)} slots",
                code="ref.ambiguous",
                expected=" or ".join(f"{text}/{cohort}" for cohort in channel.cohorts),
            )
    return check_slot(text)


def as_of_position(settings: Settings, session: Session) -> tuple[int, str]:
    """`--as-of` as a position and the instant it was recorded.

    Raises:
        UsageError: no such position, or neither a position nor a time. NotFoundError: nothing was recorded then.
    """
    from muniment.domain.envelope import read_fact

    size = session.log.head().size
    found = _position(settings.as_of)
    position = int(found[1]) if found else _position_at(session, settings.as_of, size)
    if not 1 <= position <= size:
        raise UsageError(
            f"position {position} is not in this log", code="reading.as_of", expected=f"1..{size}"
        )
    for at, body in session.log.read((), after=position - 1, until=position):
        return position, read_fact(body, at).recorded_at
    raise NotFoundError(f"no record #{position}", code="record.unknown")


def _position_at(session: Session, text: str, size: int) -> int:
    """The last record no later than a time, by bisection (`recorded_at` never goes back)."""
    from muniment.cli.when import earlier
    from muniment.domain.envelope import read_fact

    moment = earlier(text)
    low, high = 0, size
    while low < high:
        middle = (low + high + 1) // 2
        _, body = next(iter(session.log.read((), after=middle - 1, until=middle)))
        if read_fact(body, middle).recorded_at <= moment:
            low = middle
        else:
            high = middle - 1
    if low == 0:
        raise NotFoundError(f"nothing was recorded by {moment}", code="reading.before_first")
    return low
