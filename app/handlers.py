"""The handler: boundary -> select -> fold -> decide -> append under condition (architecture.md, ideas 2 and 3).

The boundary is iterated to a fixpoint, every select as of one position n; the condition is the union after n, and `basis`
stores it (settled.md, 7). A conflict means that the facts moved: the decision is made anew, a bounded number of times.
A refusal is a record too, appended under the same condition (settled.md, 8).
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import msgspec
from muniment.app.idempotency import key_item, key_tag, same_arguments
from muniment.app.request import Outcome, Request, check_signer
from muniment.app.worlds import Worlds
from muniment.domain import admin, commands, identity_state
from muniment.domain.canonical import encode
from muniment.domain.channel import POLICY_ITEM
from muniment.domain.decision import ActorRef, Context, Event
from muniment.domain.envelope import VERSION, halves, read_fact
from muniment.domain.errors import ConflictError, InvalidError, NotFoundError
from muniment.domain.instant import between, from_micros
from muniment.domain.query import Item, Query, union
from muniment.domain.records import argument_tags, tags_of, validate
from muniment.domain.refusal import NOT_FOUND, Refusal
from muniment.domain.world import World, policy_of
from muniment.store.api import AppendConflict, Condition, Draft, Log

ATTEMPTS = 12  # decisions made anew before giving up with exit 5
REPEAT_S = 60  # settled.md, 8: an identical refusal within a minute is not appended again
REPEAT_LOOK = 100  # other refusals of the same subject within that minute that are looked through
TELEMETRY = frozenset({"slot.health_reported/1"})
MAX_TAKEN = 4  # worlds kept when as many threads decide at once
MAX_ROUNDS = 12  # a boundary that does not settle is our bug


class Handler:
    """Decides commands on one log.

    Args:
        log: where records are read and appended.
        now: microseconds since 1970, the clock of the decisions.
        new_id: makes UUIDv7 texts.
    """

    def __init__(self, log: Log, *, now: Callable[[], int], new_id: Callable[[], str]) -> None:
        self.log = log
        self._now = now
        self._new_id = new_id
        self._worlds: list[Worlds] = []  # those not taken; more than one if threads share the handler

    def execute(self, command: commands.AnyCommand, request: Request) -> Outcome:
        """Decide and append; see the module docstring.

        Raises:
            ConflictError: `expect` does not hold, the key was used with other arguments, or the facts kept moving.
            DeniedError: the actor claims a key that does not sign.
            NotFoundError: what the command names does not exist; nothing is recorded (settled.md, 8).
            UsageError: a slot, channel, scope, pack or name of another form.
            InvalidError: an event does not fit its schema.
            UnavailableError: the store could not be written or read.
        """
        commands.check(command)
        check_signer(request)
        request.correlation = request.correlation or self._new_id()
        ids: list[str] = []  # one for each record, kept over attempts
        for _ in range(ATTEMPTS):
            try:
                return self._attempt(command, request, ids)
            except AppendConflict as error:
                if error.code == "store.ahead":  # not the log that the worlds were made from
                    self._worlds.clear()
        raise ConflictError(
            f"the facts behind {commands.name_of(command)} moved {ATTEMPTS} times while it was decided",
            code="decision.contended",
            hint="try again; nothing was written",
        )

    def record_fact(self, type_: str, data: dict[str, Any], request: Request) -> int:
        """Append one observed fact; return its position."""
        return self.log.append([self.fact(type_, data, request)]).last

    def fact(
        self,
        type_: str,
        data: dict[str, Any],
        request: Request,
        evidence: Sequence[dict[str, Any]] = (),
    ) -> Draft:
        """The draft of one observed fact: no command, no basis, nothing to decide.

        Raises:
            InvalidError: it does not fit its schema.
        """
        validate(type_, data)
        record: dict[str, Any] = {
            "v": VERSION,
            "id": self._new_id(),
            "type": type_,
            "occurred_at": from_micros(self._now()),
            "actor": msgspec.to_builtins(request.actor),
            "correlation": request.correlation or self._new_id(),
            "data": data,
            "tags": sorted(tags_of(type_, data)),
        }
        if evidence:
            record["evidence"] = list(evidence)
        return self._draft(record, request)

    # -- deciding --------------------------------------------------------------------------------------------------

    def select(self, command: commands.AnyCommand, request: Request) -> tuple[World, Query, int]:
        """The facts of a decision: folded world, its query, and the position they are as of.

        The world is the handler's: read it only, and before it decides or selects again.
        """
        with self._taken() as worlds:
            return self._select(worlds, command, request)

    def _select(
        self, worlds: Worlds, command: commands.AnyCommand, request: Request
    ) -> tuple[World, Query, int]:
        boundary = commands.DECIDERS[type(command)].boundary
        always = (POLICY_ITEM, *self._key_items(request.actor))
        n = worlds.advance()
        world = World()
        query: Query = ()
        for _ in range(MAX_ROUNDS):
            wanted = union(query, always, boundary(command, world))
            if wanted == query:
                worlds.trim()
                return world, query, n
            query = wanted
            world = worlds.world(query)
        raise InvalidError(
            f"the boundary of {commands.name_of(command)} does not settle", code="decision.boundary"
        )

    @contextmanager
    def _taken(self) -> Iterator[Worlds]:
        """Worlds that nobody else uses meanwhile; whatever fails, they are not used again."""
        try:
            worlds = self._worlds.pop()
        except IndexError:
            worlds = Worlds(self.log)
        yield worlds
        if len(self._worlds) < MAX_TAKEN:
            self._worlds.append(worlds)

    @staticmethod
    def _key_items(actor: ActorRef) -> tuple[Item, ...]:
        if actor.auth.startswith("ed25519:"):
            return (identity_state.key_item(actor.auth.removeprefix("ed25519:")),)
        return ()

    def _attempt(self, command: commands.AnyCommand, request: Request, ids: list[str]) -> Outcome:
        with self._taken() as worlds:
            outcome, drafts, condition, at_us = self._decide(worlds, command, request, ids)
        if not drafts:
            return outcome
        appended = self.log.append(drafts, condition, decided_at=at_us)
        outcome.positions = list(range(appended.first, appended.last + 1))
        outcome.recorded_at = appended.recorded_at
        with self._taken() as worlds:
            worlds.appended(appended, drafts)
        return outcome

    def _decide(
        self, worlds: Worlds, command: commands.AnyCommand, request: Request, ids: list[str]
    ) -> tuple[Outcome, list[Draft], Condition | None, int]:
        """The outcome, and what is to be appended on which condition: nothing in a dry run, or if it stands already."""
        world, query, n = self._select(worlds, command, request)
        condition = query
        if request.key:
            # looked for behind n, and in the condition from n on: two callers with one key cannot both append
            if (known := self._known(command, request.key)) is not None:
                return known, [], None, 0
            condition = union(query, (key_item(request.key),))
        if request.expect is not None:
            moved = self.log.last_match(without_telemetry(query), until=n)
            if moved != request.expect:
                raise ConflictError(
                    "the state is not the one this command was made for",
                    code="decision.expected",
                    expected=request.expect,
                    found=moved,
                    hint="look at what happened since, then repeat with the new position",
                )
        at_us = self._now()
        policy = policy_of(world)
        context = Context(from_micros(at_us), request.actor, request.reason, policy)
        answer = admin.key_refusal(policy, world, request.actor, commands.name_of(command))
        decided = answer or commands.DECIDERS[type(command)].decide(world, command, context)
        outcome = Outcome(head=n, dry_run=request.dry_run, world=world)
        if request.dry_run:
            outcome.expect = self.log.last_match(without_telemetry(query), until=n)
        if isinstance(decided, Refusal):
            if decided.exit_code == NOT_FOUND:
                raise NotFoundError(decided.message, code=decided.rule, hint=decided.next)
            if decided.rule in admin.UNPROVEN:
                user = request.user or ActorRef("unknown")
                request = msgspec.structs.replace(request, actor=user, signer=None)
            outcome.refusal = decided
            outcome.events = [Event(type_, data) for type_, data in decided.also]
            if not request.dry_run and (before := self._repeated(command, request, decided, context.at)):
                outcome.positions, outcome.repeated = [before], True
                return outcome, [], None, at_us
        else:
            outcome.events = decided
        basis = {
            "after": n,
            "query": as_recorded(query),
            "policy": world.policy.digest if world.policy is not None else "",
        }
        records = self._records(command, request, outcome, context.at, basis, ids)
        drafts = [] if request.dry_run else [self._draft(record, request) for record in records]
        return outcome, drafts, Condition(condition, n), at_us

    # -- records ---------------------------------------------------------------------------------------------------

    def _records(
        self,
        command: commands.AnyCommand,
        request: Request,
        outcome: Outcome,
        at: str,
        basis: dict[str, Any],
        ids: list[str],
    ) -> list[dict[str, Any]]:
        name, args = commands.name_of(command), commands.arguments(command)
        events = list(outcome.events)
        if (refusal := outcome.refusal) is not None:
            fields: dict[str, Any] = msgspec.to_builtins(refusal)
            del fields["also"]
            events.append(Event("command.refused/1", fields))
        while len(ids) < len(events):
            ids.append(self._new_id())
        records = []
        for index, event in enumerate(events):
            validate(event.type, event.data)
            tags = tags_of(event.type, event.data)
            if event.type == "command.refused/1":
                tags |= refusal_tags(args)
            record: dict[str, Any] = {
                "v": VERSION,
                "id": ids[index],
                "type": event.type,
                "occurred_at": at,
                "actor": msgspec.to_builtins(request.actor),
                "correlation": request.correlation,
                "data": event.data,
            }
            if request.causation:
                record["causation"] = request.causation
            if event.evidence:
                record["evidence"] = list(event.evidence)
            if index == 0:
                record["command"] = {"name": name, "args": args, "key": request.key}
                if request.reason:
                    record["command"]["reason"] = request.reason
                record["basis"] = basis
                if request.key:
                    tags.add(key_tag(request.key))
            if len(events) > 1:
                record["batch"] = {"first": ids[0], "index": index, "size": len(events)}
            record["tags"] = sorted(tags)
            records.append(record)
        return records

    @staticmethod
    def _draft(record: dict[str, Any], request: Request) -> Draft:
        if request.signer is not None:
            signature = request.signer(record)
            check_signer(request, signature)
            record["signature"] = signature
        head, tail = halves(record, trusted="basis")
        return Draft(record["id"], record["type"], tuple(record["tags"]), head, tail)

    # -- outcomes that stand already -------------------------------------------------------------------------------

    def _known(self, command: commands.AnyCommand, key: str) -> Outcome | None:
        """settled.md, 9: a known key returns the recorded outcome; other arguments under it are a conflict."""
        found = next(iter(self.log.read((key_item(key),), limit=1)), None)
        if found is None:
            return None
        position, body = found
        record = msgspec.json.decode(body)
        recorded = record["command"]
        if recorded["name"] != commands.name_of(command) or not same_arguments(recorded["args"], command):
            raise ConflictError(
                f"idempotency key {key!r} was used by record {position} for {recorded['name']} with other arguments",
                code="decision.key_reused",
                expected=encode(recorded["args"]).decode()[:300],
                found=encode(commands.arguments(command)).decode()[:300],
                hint="use a new key for a new command",
            )
        size = record.get("batch", {}).get("size", 1)
        outcome = Outcome(
            positions=list(range(position, position + size)), repeated=True, head=self.log.head().size
        )
        for _, each in self.log.read((), after=position - 1, until=position + size - 1):
            fact = read_fact(each, position)
            if fact.type == "command.refused/1":
                outcome.refusal = msgspec.convert({**fact.data, "also": []}, Refusal)
            else:
                outcome.events.append(Event(fact.type, fact.data, tuple(fact.evidence)))
            outcome.recorded_at = fact.recorded_at
        return outcome

    def _repeated(self, command: commands.AnyCommand, request: Request, refusal: Refusal, at: str) -> int:
        """Position of an identical refusal of the last minute, else 0."""
        if request.key:
            return 0
        item = Item(("command.refused/1",), tuple(sorted(refusal_tags(commands.arguments(command)))))
        for position, body in self.log.read((item,), limit=REPEAT_LOOK, reverse=True):
            fact = read_fact(body, position)
            if between(fact.occurred_at, at) > REPEAT_S * 1_000_000:
                return 0
            told = (*(fact.data[name] for name in ("rule", "subject", "message", "facts")), fact.actor)
            if told == (refusal.rule, refusal.subject, refusal.message, refusal.facts, request.actor):
                return position
        return 0


def without_telemetry(query: Query) -> Query:
    """What an approval and `expect` bind to (settled.md, 7): nobody can void a command by being noisy."""
    kept = (Item(tuple(type_ for type_ in item.types if type_ not in TELEMETRY), item.tags) for item in query)
    return tuple(item for item in kept if item.types)


def as_recorded(query: Query) -> list[dict[str, list[str]]]:
    """A query as a basis holds it."""
    return [{"tags": list(item.tags), "types": list(item.types)} for item in query]


def refusal_tags(args: dict[str, Any]) -> set[str]:
    """What the refused command spoke of; a command about the store itself acts at `scope:*`."""
    return argument_tags(args) or {"scope:*"}
