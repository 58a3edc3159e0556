"""What the checks of a host are made of: rules, what they look at, and what they say (`host_check` has the meaning)."""

from __future__ import annotations

from collections.abc import Callable
from enum import Enum
from typing import NamedTuple

from muniment.app.host_check_facts import HostFacts
from muniment.domain.errors import MunimentError

TUNED = ("low-latency", "isolated-core")
ALL = ("default", *TUNED)


class Verdict(Enum):
    """What was found of a clause, whoever asks for it; with `required_by` this makes the state."""

    HOLDS = "all of it"
    PARTIAL = "part of it"
    PENDING = "a run brings it about"
    LACKS = "not there"
    UNKNOWN = "could not be looked at"


class Seen(NamedTuple):
    """What was found: the verdict, the thing in words, and why the verdict is not HOLDS (with what to do about it)."""

    verdict: Verdict
    observed: str
    reason: str = ""


class StoreSeen(NamedTuple):
    """The store as it was looked at (`host_check_store.look_at`).

    Attributes:
        error: why it could not be opened, None if it could. missing: there is none.
        place: the folder in which it is or would be, None if it is on a server.
        settings: (name, expected, found) of what makes a commit durable.
        settings_error: why they could not be read.
        size, recorded_at: of the head. now_us: the clock that decides there.
        seen_size, seen_at: of the last head that this user saw; `seen_warning` why that cannot be said.
        jump: what the judge of forward jumps says (`app.clock`), seconds ahead; 0 for nothing.
    """

    name: str
    place: str | None
    error: MunimentError | None = None
    missing: bool = False
    settings: tuple[tuple[str, str, str], ...] = ()
    settings_error: str = ""
    size: int = 0
    recorded_at: str = ""
    now_us: int = 0
    seen_size: int = 0
    seen_at: str = ""
    seen_warning: str = ""
    jump: int = 0


class Look(NamedTuple):
    """What a rule looks at.

    Attributes:
        runtime: the folder of rings. home: the user's own folder, "" if there is none, and then `home_error` says why.
    """

    host: HostFacts
    store: StoreSeen
    runtime: str
    home: str
    home_error: str = ""


class Rule(NamedTuple):
    """One clause.

    Attributes:
        expected: what must be found, in words.
        required_by: the profiles whose runs break without it; none: it is information.
    """

    id: str
    expected: str
    required_by: tuple[str, ...]
    look: Callable[[Look], Seen]
