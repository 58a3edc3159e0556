"""Names and references: slots, channels, scopes, and the tags made of them (settled.md, 6).

A slot is `ENV/CHANNEL/COHORT`, a channel `ENV/CHANNEL`; a scope is `*`, an environment, a channel or a slot.
"""

from __future__ import annotations

import re

from muniment.domain.errors import UsageError

NAME = r"[a-z0-9][a-z0-9._-]{0,63}"
PACK_ID = r"sha256:[0-9a-f]{64}"
EVERYWHERE = "*"
_name = re.compile(NAME).fullmatch
_pack = re.compile(PACK_ID).fullmatch
_subject = re.compile(
    rf"(?:build|incident|release):{NAME}|pack:{PACK_ID}|slot:{NAME}/{NAME}/{NAME}"
).fullmatch


def check_name(text: str, what: str) -> str:
    """Return the text if it is a name.

    Raises:
        UsageError: it is not; the message says what a name is.
    """
    if not _name(text):
        raise UsageError(
            f"not a name for {what}: {text[:80]!r}",
            code="name.syntax",
            expected="1 to 64 of a-z 0-9 . _ - beginning with a letter or digit",
        )
    return text


def check_path(text: str, parts: tuple[int, ...], what: str) -> str:
    """Return `a/b/c` if it has an allowed number of parts, each a name."""
    if text == EVERYWHERE and 0 in parts:
        return text
    pieces = text.split("/")
    if len(pieces) not in parts or not all(_name(piece) for piece in pieces):
        shapes = {0: "*", 1: "ENV", 2: "ENV/CHANNEL", 3: "ENV/CHANNEL/COHORT"}
        raise UsageError(
            f"not a {what}: {text[:200]!r}", code="name.path", expected=" or ".join(shapes[n] for n in parts)
        )
    return text


def check_slot(text: str) -> str:
    """A slot, `ENV/CHANNEL/COHORT`."""
    return check_path(text, (3,), "slot")


def check_channel(text: str) -> str:
    """A channel, `ENV/CHANNEL`."""
    return check_path(text, (2,), "channel")


def check_scope(text: str) -> str:
    """A scope: `*`, `ENV`, `ENV/CHANNEL` or a slot."""
    return check_path(text, (0, 1, 2, 3), "scope")


def check_pack(text: str) -> str:
    """A full pack id, `sha256:` and 64 hex digits."""
    if not _pack(text):
        raise UsageError(
            f"not a pack id: {text[:100]!r}", code="name.pack", expected="sha256:<64 hex digits>"
        )
    return text


def channel_of(slot: str) -> str:
    """`prod/stable/eu` -> `prod/stable`."""
    return slot.rsplit("/", 1)[0]


def scopes_of(slot: str) -> tuple[str, str, str, str]:
    """Every scope that covers the slot, narrowest first: slot, channel, environment, everywhere."""
    channel = channel_of(slot)
    return slot, channel, channel.split("/", 1)[0], EVERYWHERE


def covers(scope: str, slot: str) -> bool:
    """Tell whether the slot lies in the scope."""
    return scope in scopes_of(slot)


def scope_tag(scope: str) -> str:
    """The tag of a scope: a slot is tagged as a slot, wider scopes as `scope:`."""
    return f"slot:{scope}" if scope.count("/") == 2 else f"scope:{scope}"


def subject_tags(subject: str) -> tuple[str, ...]:
    """The tag of a foreign event's subject: the subject itself if it is a reference of ours, else none."""
    return (subject,) if _subject(subject) else ()
