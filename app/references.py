"""The words of references: kinds of things, what makes each known, and times (`app.reading` resolves them)."""

from __future__ import annotations

import difflib
import re
from collections.abc import Sequence

import msgspec
from muniment.domain import slot_state
from muniment.domain.instant import parse, to_text

COMPARED = 2000  # names looked at one by one, 20 us each

is_date = re.compile(r"\d{4}-\d\d-\d\d").fullmatch

SWITCHES = ("activation.reverted/1", "activation.switched/1")
# kind -> field of the read model
ENTITIES = {
    "build": "builds",
    "incident": "incidents",
    "intake": "intakes",
    "pack": "packs",
    "product": "products",
    "release": "releases",
    "slot": "slots",
    "channel": "channels",
    "key": "keys",
    "run": "runs",
}
# kind -> types of which a record with the entity's tag makes it known
BORN = {
    "build": ("build.requested/1",),
    "incident": ("incident.declared/1",),
    "intake": ("intake.recorded/1",),
    "key": ("identity.added/1",),
    "pack": ("pack.registered/1",),
    "product": ("pack.registered/1",),
    "release": ("release.created/1",),
    "run": ("runtime.run_started/1",),
    "slot": tuple(sorted(slot_state.HANDLES)),
}


class Ref(msgspec.Struct, frozen=True):
    """What a reference stands for: `kind` is record or an entity, `id` its id, `position` that of a record."""

    kind: str
    id: str
    position: int = 0

    @property
    def tag(self) -> str:
        """The tag of an entity's records; "" for a record."""
        if self.kind == "record":
            return ""
        return f"scope:{self.id}" if self.kind == "channel" else f"{self.kind}:{self.id}"

    def __str__(self) -> str:
        return f"#{self.position}" if self.kind == "record" else f"{self.kind}:{self.id}"


def moment(text: str) -> str:
    """A time as an instant; a date alone is its beginning in UTC.

    Raises:
        UsageError: not a time.
    """
    return to_text(parse(f"{text}T00:00:00Z" if is_date(text) else text))


def near_names(text: str, names: Sequence[str], count: int) -> list[str]:
    """Names that look like a text; of very many only those that begin as it does are compared."""
    start = len(text)
    pool = names
    while len(pool) > COMPARED:
        pool = (
            [name for name in names if name.startswith(text[:start])][:COMPARED]
            if start
            else names[:COMPARED]
        )
        if not pool:
            start, pool = start - 1, names
    return difflib.get_close_matches(text, pool, n=count, cutoff=0.5)
