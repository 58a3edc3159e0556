"""The protocol of a projection, and the one driver that folds all of them in one pass.

1. A projection is a set of handlers of the domain over the read model, and a view of the parts it owns. The handlers are
   those that decisions use, so a projection cannot see another truth than a decision does.
2. A page is decoded at once (`decode_page`), or record by record where that could go wrong; the state is the same.
3. An unknown type stops the fold (exit 10): what is not understood is not skipped.
4. Pure: no clock, no file. Expiry is evaluated by the view, at the instant it is given.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from operator import itemgetter
from typing import Any, Protocol, cast

import msgspec
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.envelope import read_fact
from muniment.domain.errors import InvalidError, MunimentError
from muniment.domain.folding import FOLD
from muniment.domain.policy import Policy
from muniment.domain.world import Handler
from muniment.projections.model import ReadModel

# What pipelines tell: read by the projection `runtime`, and by no decision.
RUNTIME = frozenset(
    f"runtime.{name}/1"
    for name in (
        "spec_validated",
        "spec_rejected",
        "host_checked",
        "run_started",
        "run_ended",
        "snapshot_captured",
        "heartbeat_recorded",
        "batch_acknowledged",
    )
)
# Types that change no state of a decision. With FOLD they are the whole registry; a test compares (importing it would import
# pydantic).
WITHOUT_STATE = RUNTIME | frozenset(
    {
        "fact.imported/1",
        "store.created/1",
        "store.maintenance_declared/1",
        "clock.jump_observed/1",
        "clock.jump_accepted/1",
        "release.soaked/1",
        "rollback.no_candidate/1",
        "command.refused/1",
    }
)
KNOWN = frozenset(FOLD) | WITHOUT_STATE

_CORRELATION = b',"correlation":"'
_ACTOR = len(b'{"actor":')
_MAX_ACTORS = 10_000


class _Tail(Fact, kw_only=True):
    """A fact decoded from `correlation` on; basis and command, half of the bytes, stand before it and no fold reads them."""

    actor: ActorRef = ActorRef("")


class _Row(msgspec.Struct, kw_only=True, gc=False):
    """A fact but for its id, which no handler reads, its fields in the order of the bytes: an eighth less to decode."""

    actor: ActorRef
    data: dict[str, Any]
    evidence: list[dict[str, Any]] = msgspec.field(default_factory=list)
    occurred_at: str
    recorded_at: str
    tags: list[str] = msgspec.field(default_factory=list)
    type: str
    position: int = 0
    id = ""
    mark = Fact.mark


_decode_lines = msgspec.json.Decoder(_Row).decode_lines
_decode = msgspec.json.Decoder(_Tail).decode
_decode_actor = msgspec.json.Decoder(ActorRef).decode
_actors: dict[bytes, ActorRef] = {}
_first, _last = itemgetter(0), itemgetter(-1)
_OPEN, _CLOSE = {ord("{")}, {ord("}")}
LONG = 1000  # bytes a record, from where `decode_fact`, which leaves half unread, is taken (chosen, not measured)
PageHandler = Callable[[ReadModel, Sequence[Fact]], None]


def decode_fact(body: bytes, position: int) -> Fact:
    """Read a fact, its first half unread where that is safe: 2.3 us in place of 6.0 us for 1.6 kB.

    In JSON the mark occurs only as a key. If it is not the key of the record but one further inside, the rest closes more
    objects than it opens, so it does not parse, and the record is decoded whole. The same holds for the actor in front.

    Raises:
        InvalidError: the bytes are no record.
    """
    try:
        start = body.find(_CORRELATION)
        fact = _decode(b"{" + body[start + 1 :])
        front = body[_ACTOR : body.find(b"}") + 1]
        actor = _actors.get(front)
        if actor is None:
            actor = _decode_actor(front)
            if len(_actors) < _MAX_ACTORS:
                _actors[front] = actor
        fact.actor = actor
        fact.position = position
    except (msgspec.MsgspecError, UnicodeDecodeError):
        return read_fact(body, position)
    return fact


def decode_page(page: Sequence[tuple[int, bytes]]) -> list[Fact] | None:
    """Read the facts of a page at once; None if it is not certain that each record is one, or if one by one is faster.

    Each line begins with `{` and ends with `}`, and between those two JSON allows nothing but the end of a value: so no value
    goes over the end of a line, and as many values as lines are one a line. A line break is in no JSON string.
    """
    bodies = [body for _, body in page]
    try:
        if (
            sum(map(len, bodies)) > LONG * len(bodies)
            or set(map(_first, bodies)) != _OPEN
            or set(map(_last, bodies)) != _CLOSE
        ):
            return None
        facts = cast("list[Fact]", _decode_lines(b"\n".join(bodies)))
    except (msgspec.MsgspecError, UnicodeDecodeError, TypeError, IndexError):
        return None
    if len(facts) != len(bodies):
        return None
    for (position, _), fact in zip(page, facts, strict=True):
        fact.position = position
    return facts


class Projection(Protocol):
    """One read model. Attributes:

    name: a word. version: raised when the same records give another state. question: the one question it answers.
    handles: type -> handlers; the type `*`, without a handler, means every record. on_page: what is told of every record, a page
    at a time, after the handlers; it owns its parts alone. parts: fields of the read model it owns.
    exempt: True if order of unrelated records may change it (settled.md, 19).
    """

    name: str
    version: int
    question: str
    handles: Mapping[str, tuple[Handler, ...]]
    on_page: PageHandler | None
    parts: tuple[str, ...]
    exempt: bool

    def rows(self, model: ReadModel, at: str, policy: Policy) -> list[dict[str, Any]]:
        """The view as JSON values, in a stable order, every expiry evaluated at `at`. Changes nothing."""
        ...


class Stopped(InvalidError):  # noqa: N818 - the fold has stopped; it is a state that `status` reports
    """The fold met a record it does not understand; `position` is the last one it has applied."""

    default_code = "projection.stopped"
    position: int = 0


class Misfit(InvalidError):  # noqa: N818 - named like Stopped, which it becomes
    """A record does not fit those before it: raised by what is told of a page, which alone knows which one."""

    default_code = "fold.mismatch"
    position: int = 0


_MISFIT = (MunimentError, KeyError, AttributeError, TypeError, IndexError, ValueError)


class Driver:
    """Folds pages of records into one read model for a set of projections."""

    def __init__(self, projections: Sequence[Projection]) -> None:
        self.projections = tuple(projections)
        self._on_page = tuple(p.on_page for p in projections if p.on_page is not None)
        table: dict[str, list[Handler]] = {type_: [] for type_ in KNOWN}
        for projection in projections:
            for type_, handlers in projection.handles.items():
                if type_ == "*":
                    continue
                if type_ not in KNOWN:
                    raise InvalidError(
                        f"projection {projection.name} handles {type_}, which is no type of the registry"
                    )
                table[type_] += [handler for handler in handlers if handler not in table[type_]]
        self._table = {type_: tuple(handlers) for type_, handlers in table.items()}

    def fold(self, model: ReadModel, pages: Iterable[Sequence[tuple[int, bytes]]], position: int = 0) -> int:
        """Apply pages of (position, bytes) in order and return the position reached.

        Raises:
            Stopped: an unknown type, bytes that are no record, a record that does not fit those before it.
        """
        for page in pages:
            position = self.page(model, page, position)
        return position

    def page(self, model: ReadModel, page: Sequence[tuple[int, bytes]], done: int) -> int:
        """Apply one page; see `fold`."""
        facts = decode_page(page)
        if facts is not None:
            self._apply(model, facts)
            return facts[-1].position
        position = done
        for position, body in page:
            try:
                fact = decode_fact(body, position)
            except MunimentError as error:
                raise self._stopped(position, error) from error
            self._apply(model, [fact])
        return position

    def _apply(self, model: ReadModel, facts: list[Fact]) -> None:
        table = self._table
        fact = facts[0]
        try:
            for fact in facts:
                for handler in table[fact.type]:
                    handler(model, fact)
        except _MISFIT as error:
            self._pages(model, facts[: next(at for at, one in enumerate(facts) if one is fact)])
            cause: Exception = error
            if fact.type not in table:
                text = f"record {fact.position} has the unknown type {fact.type!r}"
                cause = InvalidError(text, code="record.type_unknown")
            raise self._stopped(fact.position, cause) from cause
        self._pages(model, facts)

    def _pages(self, model: ReadModel, facts: Sequence[Fact]) -> None:
        for handle in self._on_page:
            try:
                handle(model, facts)
            except Misfit as error:
                raise self._stopped(error.position, error) from error

    @staticmethod
    def _stopped(position: int, cause: Exception) -> Stopped:
        if isinstance(cause, MunimentError):
            code, message = cause.code, cause.message
        else:
            code, message = (
                "fold.mismatch",
                f"record {position} does not fit the records before it: {cause!r}",
            )
        error = Stopped(
            message,
            code=code,
            hint="muniment verify store; the record may come from a newer version",
            position=position,
        )
        error.position = position - 1
        return error
