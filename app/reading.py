"""What a reader names: references, points in the past, filters; and the models to look things up in.

References: `#18422` position · a record id or a unique prefix of one (8 or more characters) · `prod/stable/eu` slot ·
`prod/stable`, `stable` channel · `pack:9f2c41…` or 6 or more hex digits, unique prefix of a pack · `b-…` `r-…` `i-3` `in-…`
by their ids · `KIND:ID` (`build:b-1`) to say which is meant · `stable~1` the change of `active` before the last one,
`stable@TIME` the last one at a time.

Nothing is guessed: an ambiguous reference lists its candidates (exit 2), an unknown one what comes near (exit 3).
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

from muniment.app import projecting
from muniment.app.memo_parts import only
from muniment.app.references import BORN, ENTITIES, SWITCHES, Ref, is_date, moment, near_names
from muniment.domain.channel_state import POLICY_ITEM, scope_item
from muniment.domain.eligible import reading
from muniment.domain.envelope import read_fact
from muniment.domain.errors import NotFoundError, UsageError
from muniment.domain.instant import from_micros
from muniment.domain.policy import Policy
from muniment.domain.query import Item, Query
from muniment.domain.reference import EVERYWHERE, covers
from muniment.domain.slot_state import reports
from muniment.domain.world import World, policy_of
from muniment.projections.model import ReadModel
from muniment.projections.registry import BY_NAME
from muniment.store.api import Log

MIN_PACK_DIGITS = 6
MIN_ID = 8
NEAR = 5

_uuid = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}").fullmatch
_hex = re.compile(r"[0-9a-f]+").fullmatch
_id_prefix = re.compile(r"[0-9a-f]{8}[0-9a-f-]*").fullmatch
_back = re.compile(r"(?P<base>.+?)(?:~(?P<back>\d{1,9})|@(?P<at>.+))").fullmatch


class Reader:
    """One log as of one point, with the read model made when it is first asked for.

    Args:
        base: the reader's home; None is the default one.
        as_of: REF, TIME or POSITION; None is the head.
        now: microseconds since 1970, the instant at which expiry is evaluated without `as_of`.
    """

    def __init__(
        self,
        log: Log,
        *,
        now: int,
        base: Path | None = None,
        as_of: str | int | None = None,
        progress: projecting.Progress | None = None,
    ) -> None:
        self.log = log
        self.base = base
        self._progress = progress
        self._current: projecting.Current | None = None
        self.size = log.head().size
        self.at = from_micros(now)
        self.until = self.size
        self._past = False
        if as_of is not None:
            self.until, self.at = self.point(as_of)
            self._current = None  # a reference is looked up at the head
            self._past = True

    # -- models --------------------------------------------------------------------------------------------------------

    @property
    def current(self) -> projecting.Current:
        """Model and cursor at the point this reader looks at."""
        if self._current is None:
            as_of = self.until if self._past else None
            self._current = projecting.current(self.log, self.base, as_of=as_of, progress=self._progress)
            if not self._past:
                self.until = self._current.cursor.position
        return self._current

    @property
    def model(self) -> ReadModel:
        """The read model."""
        return self.current.model

    @property
    def policy(self) -> Policy:
        """The policy in force."""
        return policy_of(self.model)

    def row(self, kind: str, id_: str) -> dict[str, Any] | None:
        """The row of one build, incident, pack, release or slot, None if there is none; the others are not looked at."""
        part = ENTITIES[kind]
        model = self._slots(id_) if kind == "slot" else self.model
        if id_ not in getattr(model, part):
            return None
        rows = BY_NAME[part].rows(only(model, part, [id_]), self.at, policy_of(model))
        return rows[0] if rows else None

    def slots(self, scope: str) -> list[dict[str, Any]]:
        """The rows of the slots within a scope, by name."""
        # a wider scope reaches so many records that a fold of all of them is as fast
        model = self._slots(scope) if "/" in scope else self.model
        within = [name for name in model.slots if covers(scope, name)]
        return BY_NAME["slots"].rows(only(model, "slots", within), self.at, policy_of(model))

    def _slots(self, scope: str) -> ReadModel:
        """A model in which the slots of a scope are true: of the past, or of one slot, only what bears on them is read."""
        if self._current is not None or not (self._past or scope.count("/") == 2):
            return self.model

        def boundary(world: World) -> Query:
            names = {name for name in world.slots if covers(scope, name)} | (
                {scope} if scope.count("/") == 2 else set()
            )
            return (
                POLICY_ITEM,
                scope_item(EVERYWHERE),
                *(item for name in names for item in (*reading(world, name), reports(name))),
            )

        found = projecting.selected(self.log, boundary, until=self.until, base=self.base)
        return self.model if found is None else found

    def rows(self, projection: str, where: Mapping[str, str] | None = None) -> dict[str, Any]:
        """The rows of a projection (`<projection>/1`), those with `where` field = value.

        Raises:
            UsageError: no such projection, or no row has such a field.
        """
        if projection not in BY_NAME:
            raise UsageError(
                f"no projection {projection!r}", code="reading.projection", expected=", ".join(BY_NAME)
            )
        rows = BY_NAME[projection].rows(self.model, self.at, self.policy)
        for field, value in (where or {}).items():
            if rows and field not in rows[0]:
                raise UsageError(
                    f"{projection} have no field {field!r}", code="reading.where", expected=", ".join(rows[0])
                )
            rows = [row for row in rows if str(row[field]) == value]
        return {
            "schema": f"{projection}/1",
            "as_of": self.until,
            "data": rows,
            "next": None,
            "omitted": 0,
        }

    def narrow(self, part: str, ids: Iterable[str]) -> None:
        """From here on only these entities of a part are there, for views that show a page of them."""
        found = self.current
        self._current = found._replace(model=only(found.model, part, ids))

    def notes(self, verbose: bool) -> tuple[str, ...]:
        """Why a memo was not used or not written, for people who ask for more."""
        found = self._current.cursor.note if self._current is not None and verbose else ""
        return (found,) if found else ()

    # -- points in the past --------------------------------------------------------------------------------------------

    def point(self, as_of: str | int) -> tuple[int, str]:
        """Position and instant of REF, TIME or POSITION.

        Raises:
            UsageError, NotFoundError: it is none of these, or not in this log.
        """
        text = str(as_of)
        if text.isascii() and text.isdigit():
            position = int(text)
        elif is_date(text[:10]) and (len(text) == 10 or "T" in text[10:11]):
            instant = moment(text)
            return self.before(instant), instant
        else:
            ref = self.resolve(text)
            position = ref.position if ref.kind == "record" else self.last_of(ref)
        if not 0 <= position <= self.size:
            raise NotFoundError(
                f"position {position} is not in this log", code="reading.position", expected=f"0..{self.size}"
            )
        return position, self.recorded_at(position) if position else "1970-01-01T00:00:00.000000Z"

    def recorded_at(self, position: int) -> str:
        """When a record was recorded."""
        return read_fact(self.body(position), position).recorded_at

    def body(self, position: int) -> bytes:
        """The bytes of a record.

        Raises:
            NotFoundError: no such position.
        """
        found = next(self.log.read(after=position - 1, until=position), None) if position > 0 else None
        if found is None:
            raise NotFoundError(
                f"no record #{position}",
                code="reading.position",
                expected=f"1..{self.size}",
                hint="muniment history list",
            )
        return found[1]

    def before(self, instant: str) -> int:
        """The last position recorded at or before an instant; a binary search, since recorded_at never goes backwards."""
        low, high = 0, self.size
        while low < high:
            middle = (low + high + 1) // 2
            if self.recorded_at(middle) <= instant:
                low = middle
            else:
                high = middle - 1
        return low

    def last_of(self, ref: Ref) -> int:
        """Position of an entity's last record at this point.

        Raises:
            NotFoundError: it has none.
        """
        position = self.log.last_match((Item((), (ref.tag,)),), until=self.until)
        if not position:
            raise NotFoundError(f"no record of {ref}", code="reading.reference", hint="muniment history list")
        return position

    # -- references ----------------------------------------------------------------------------------------------------

    def resolve(self, text: str, *, kinds: Iterable[str] = ()) -> Ref:
        """Say what a reference stands for; `kinds` narrows what is meant.

        Raises:
            UsageError: ambiguous; the candidates are listed.
            NotFoundError: nothing of that name; what comes near is listed.
        """
        wanted = set(kinds)
        if text.startswith("#"):
            return self._position(text)
        if (found := _back(text)) is not None and not _uuid(text):
            return self._change(found["base"], int(found["back"] or 0), found["at"] or "")
        if _uuid(text):
            position = self.log.positions_of([text]).get(text)
            if position is None:
                raise self._unknown(text, wanted)
            return Ref("record", text, position)
        if (exact := self._exact(text, wanted)) is not None:
            return exact
        candidates = self._candidates(text, wanted)
        if not candidates and _id_prefix(text) and not wanted - {"record"} and "-" in text:
            candidates = self._by_id_prefix(text)
        if not candidates:
            raise self._unknown(text, wanted)
        if len(candidates) > 1:
            names = [str(ref) for ref in candidates]
            raise UsageError(
                f"{text!r} may be {', '.join(names[:NEAR])}{' …' if len(names) > NEAR else ''}",
                code="reading.ambiguous",
                hint="write one of them",
                candidates=names,
            )
        return candidates[0]

    def slot(self, text: str) -> Ref:
        """A slot by its name, or by a channel that has one cohort.

        Raises:
            UsageError, NotFoundError: see `resolve`.
        """
        ref = self.resolve(text, kinds=("slot", "channel"))
        if ref.kind == "slot":
            return ref
        slots = [f"{ref.id}/{cohort}" for cohort in self.model.channels[ref.id].cohorts]
        if len(slots) != 1:
            raise UsageError(
                f"{text!r} may be {', '.join(slots)}",
                code="reading.ambiguous",
                hint="name the slot",
                candidates=[f"slot:{slot}" for slot in slots],
            )
        return Ref("slot", slots[0])

    def _position(self, text: str) -> Ref:
        digits = text[1:]
        if not (digits.isascii() and digits.isdigit()):
            raise UsageError(f"not a position: {text[:40]!r}", code="reading.position", expected="#1, #2 …")
        if len(digits) > 16:  # more than a log can hold, and than the databases can count
            raise NotFoundError(f"no record {text[:40]}", code="reading.position", expected=f"1..{self.size}")
        position = int(digits)
        fact = read_fact(self.body(position), position)
        return Ref("record", fact.id, position)

    def _exact(self, text: str, wanted: set[str]) -> Ref | None:
        """A whole id of a kind that is said, found in the index: nothing is folded for it."""
        kind, colon, rest = text.partition(":")
        if colon and kind == "sha256":
            kind, rest = "pack", text
        elif not colon and (len(wanted) == 1 or text.count("/") == 2):
            kind, rest = next(iter(wanted)) if len(wanted) == 1 else "slot", text
        elif not colon:
            return self._exact_of_any(text, wanted)
        if self._current is not None or kind not in BORN or (wanted and kind not in wanted):
            return None
        return self._born(Ref(kind, rest))

    def _exact_of_any(self, text: str, wanted: set[str]) -> Ref | None:
        """The same where no kind is said: one thing has this id, and it could be no prefix and no short name."""
        if self._current is not None or wanted or _hex(text) or "/" in text:
            return None
        found = [ref for kind in BORN if (ref := self._born(Ref(kind, text))) is not None]
        declared = self.log.read((Item(("channel.declared/1",)),), until=self.until) if self.until else ()
        short = any(read_fact(body, at).data["channel"].endswith(f"/{text}") for at, body in declared)
        return found[0] if len(found) == 1 and not short else None

    def _born(self, ref: Ref) -> Ref | None:
        return ref if self.log.last_match((Item(BORN[ref.kind], (ref.tag,)),), until=self.until) else None

    def _candidates(self, text: str, wanted: set[str]) -> list[Ref]:
        kind, colon, rest = text.partition(":")
        if colon and kind == "sha256":
            kind, rest = "pack", text
        elif not colon:
            kind, rest = "", text
        if kind and kind not in ENTITIES:
            raise UsageError(
                f"no kind {kind[:40]!r} of thing", code="reading.kind", expected=", ".join(sorted(ENTITIES))
            )
        found = []
        for name, part in ENTITIES.items():
            if (kind and name != kind) or (wanted and name not in wanted):
                continue
            known = getattr(self.model, part)
            if rest in known:
                found.append(Ref(name, rest))
            elif name == "pack":
                digits = rest.removeprefix("sha256:")
                if _hex(digits) and (len(digits) >= MIN_PACK_DIGITS or kind == "pack"):
                    found += [Ref("pack", id_) for id_ in known if id_.startswith(f"sha256:{digits}")]
            elif name == "channel" and "/" not in rest:
                found += [Ref("channel", id_) for id_ in known if id_.split("/")[1] == rest]
        return sorted(found, key=str)

    def _by_id_prefix(self, text: str) -> list[Ref]:
        """Records whose id begins so; ids stand in no order of an index, so every record is looked at."""
        mark = f'"id":"{text}'.encode()
        found = []
        for page in self.log.pages(until=self.size):
            for position, body in page:
                if mark in body and (fact := read_fact(body, position)).id.startswith(text):
                    found.append(Ref("record", fact.id, position))
                    if len(found) > NEAR:
                        return found
        return found

    def _change(self, base: str, back: int, at: str) -> Ref:
        """`X~n`: the n-th change of `active` of a slot before its last one. `X@TIME`: the last one at that time."""
        slot = self.slot(base)
        until = min(self.until, self.before(moment(at))) if at else self.until
        item = Item(SWITCHES, (slot.tag,))
        found = list(self.log.read((item,), until=until, limit=back + 1, reverse=True)) if until else []
        if len(found) <= back:
            raise NotFoundError(
                f"{slot.id} has changed {len(found)} times" + (f" until {at}" if at else ""),
                code="reading.reference",
                expected=f"at least {back + 1} changes",
                found=len(found),
                hint=f"muniment history list --where slot={slot.id}",
            )
        position, body = found[back]
        return Ref("record", read_fact(body, position).id, position)

    def _unknown(self, text: str, wanted: set[str]) -> NotFoundError:
        names = [
            f"{kind}:{id_}"
            for kind, part in ENTITIES.items()
            if not wanted or kind in wanted
            for id_ in getattr(self.model, part)
        ]
        bare = {name: name.partition(":")[2] for name in names}
        near = near_names(text, list(bare.values()), NEAR)
        close = [name for name, id_ in bare.items() if id_ in near][:NEAR]
        what = (
            " or ".join(sorted(wanted)) or "record, build, pack, release, slot, channel, incident or intake"
        )
        return NotFoundError(
            f"no {what} {text[:80]!r} in this store",
            code="reading.reference",
            hint=f"did you mean {', '.join(close)}" if close else "muniment help references",
            near=close,
        )


__all__ = ["ENTITIES", "Reader", "Ref", "moment", "near_names"]
