"""Who acts: the operating-system user, or the holder of an identity key (architecture.md, section 4).

Rules:
1. The user is the real uid of this process as the password database names it. No environment variable and no
   flag names an actor (`USER` and `LOGNAME` are what the caller wants them to be).
2. A name that fits `[a-z0-9][a-z0-9._-]{0,63}` stands as it is. Any other is folded into that form and ends
   in twelve hex digits of its SHA-256, so `Bob` and `bob` stay two people.
3. A uid without an entry is `uid-1234`; a user whose name is of that form falls under rule 2.
"""

from __future__ import annotations

import hashlib
import os
import pwd
import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from muniment.domain.errors import InvalidError

Kind = Literal["human", "service", "agent"]

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_AUTH = re.compile(r"os|ed25519:[0-9a-f]{16}")
_UID = re.compile(r"uid-[0-9]+")


@dataclass(frozen=True, slots=True)
class Actor:
    """The actor of a record: `auth` is `os` or `ed25519:<key id>`.

    Raises:
        InvalidError: a field of another shape.
    """

    id: str
    kind: Kind
    auth: str

    def __post_init__(self) -> None:
        if not _NAME.fullmatch(self.id):
            raise InvalidError(
                "actor id is no name", code="actor.id", expected=_NAME.pattern, found=self.id[:80]
            )
        if self.kind not in ("human", "service", "agent"):
            raise InvalidError(
                "unknown kind of actor", code="actor.kind", expected="human|service|agent", found=self.kind
            )
        if not _AUTH.fullmatch(self.auth):
            raise InvalidError(
                "unknown proof of an actor", code="actor.auth", expected=_AUTH.pattern, found=self.auth[:80]
            )

    def as_record(self) -> dict[str, str]:
        """The member `actor` of a record."""
        return {"id": self.id, "kind": self.kind, "auth": self.auth}


def os_actor(
    kind: Kind = "human",
    *,
    uid: Callable[[], int] = os.getuid,
    name_of: Callable[[int], str] = lambda number: pwd.getpwuid(number).pw_name,
) -> Actor:
    """Return the user who runs this process (rules 1 to 3).

    Args:
        uid: source of the real uid; `name_of` raises KeyError for a uid without an entry.
    """
    number = uid()
    try:
        name = map_name(name_of(number))
    except KeyError:
        name = f"uid-{number}"
    return Actor(name, kind, "os")


def key_actor(name: str, key_id: str, kind: Kind = "human") -> Actor:
    """Return the holder of an identity key; whether that key is his is the policy's question."""
    return Actor(name, kind, f"ed25519:{key_id}")


def map_name(name: str) -> str:
    """Map a user name into the form of an actor id (rule 2); the same name gives the same id everywhere."""
    if _NAME.fullmatch(name) and not _UID.fullmatch(name):
        return name
    folded = re.sub(r"[^a-z0-9._-]", "-", name.lower()).lstrip("._-")[:51] or "user"
    return f"{folded}-{hashlib.sha256(name.encode('utf-8', 'surrogateescape')).hexdigest()[:12]}"
