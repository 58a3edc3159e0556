"""What a run that died left behind: its rings are captured as they stand, then set aside, and only then is a new run begun."""

from __future__ import annotations

from collections.abc import Callable

from muniment.app import runtime_records as records
from muniment.app.session import Session
from muniment.domain.errors import InvalidError
from muniment.ring import _ring
from muniment.ring.place import RunPlace
from muniment.ring.snapshot import render, stage_names
from muniment.ring.spec import Spec
from muniment.ring.spec_rules import parse


def spec_of(ring: _ring.Ring, name: str) -> Spec | None:
    """The spec that a ring carries; None if it carries none that can be read."""
    try:
        return parse(ring.meta, name) if ring.meta else None
    except InvalidError:
        return None


def capture(place: RunPlace, session: Session | None, told: Callable[[str, str], None]) -> str:
    """Capture and set aside every ring that is in the way; "" if there was none, else what became of them.

    A ring that cannot be read is set aside too, and kept until a person removes it; that is said.

    Raises:
        UnavailableError: its state cannot be recorded, so nothing was touched.
    """
    before = place.before
    said: list[str] = []
    for path in before.rings:
        lane = path.name if path.parent != place.folder else ""
        try:
            with _ring.Ring.attach(path, writable=False) as ring:
                packed, spec = ring.snapshot_raw(True), spec_of(ring, str(path))
        except (_ring.RingError, OSError) as error:
            aside = place.set_aside(path, captured=False)
            said.append(f"{path.name} unreadable ({error}), kept as {aside.name}")
            told("left over", said[-1])
            continue
        if before.left_over:
            try:
                seen = render(packed, stage_names(spec, lane), str(path))
            except InvalidError:
                seen = render(packed, None, str(path))  # the spec in it is not of this ring
            if session is not None:
                records.record_snapshot(
                    session, packed, seen, "left_over", before.run, spec=place.spec, lane=lane
                )
            said.append(f"{path.name} at {seen['cursor']} of run {before.run or 'unknown'}")
            told("left over", f"{said[-1]}: captured" + ("" if session else ", not recorded"))
        place.set_aside(path, captured=True)
    return ", ".join(said)[:1000]
