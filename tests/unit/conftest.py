"""The given/when/then harness of the deciders, and a story that leads to any state by commands.

`when` selects facts by the command's own boundary, to its fixpoint, and decides on them alone; then it decides on every
fact there is. Both answers must be one, so a decider that reads beyond its boundary is red in any test (I11).

The fixtures of memos stand here too: `eager`, `blocks`, `fleet`.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from muniment.app import late_part, memo_parts, projecting
from muniment.domain import activation, admin, build, channel, commands, intake, pack, release, rollback, slot
from muniment.domain.channel import POLICY_ITEM
from muniment.domain.decision import ActorRef, Context, Event, Fact
from muniment.domain.folding import FOLD
from muniment.domain.instant import plus
from muniment.domain.policy import Policy, parse
from muniment.domain.query import Query, union
from muniment.domain.records import TABLE, tags_of, validate
from muniment.domain.refusal import NOT_FOUND, Mark, Refusal
from muniment.domain.states import Stage
from muniment.domain.world import World, fold, policy_of
from muniment.ops.bench import data
from muniment.store.memory import MemoryLog

START = "2026-01-01T00:00:00.000000Z"
PERSON = ActorRef("alice")
AGENT = ActorRef("robot", "agent", "os")
SLOT = "prod/stable/all"
T = "t1"
SHIPPED = Path(__file__).parents[2] / "ops" / "policies"


def shipped(name: str) -> Policy:
    return parse(json.loads((SHIPPED / f"{name}.json").read_text()))


def with_rules(policy: Policy, **sections: dict[str, Any]) -> Policy:
    """The policy with some fields of some sections changed."""
    changed = {
        name: msgspec.structs.replace(getattr(policy, name), **fields) for name, fields in sections.items()
    }
    return msgspec.structs.replace(policy, **changed)


def pid(name: str) -> str:
    """A pack id that a name stands for."""
    return "sha256:" + hashlib.sha256(name.encode()).hexdigest()


class Case:
    """Facts so far, the last answer, and ways to say what should come of a command."""

    def __init__(self, policy: Policy) -> None:
        self.policy = policy
        self.facts: list[Fact] = []
        self.at = START
        self.actor = PERSON
        self.answer: list[Event] | Refusal = []
        self.count = 0

    # -- given -----------------------------------------------------------------------------------------------------

    def later(self, seconds: int) -> Case:
        self.at = plus(self.at, seconds=seconds)
        return self

    def given(self, *events: Event | tuple[str, dict[str, Any]]) -> Case:
        """Facts as they stand, in one batch each."""
        for each in events:
            event = each if isinstance(each, Event) else Event(*each)
            self._append(event, "given")
        return self

    def run(self, *asked: commands.AnyCommand, actor: ActorRef | None = None) -> Case:
        """Commands that must succeed."""
        for command in asked:
            self.when(command, actor=actor)
            assert not isinstance(self.answer, Refusal), (command, self.answer)
            for event in self.answer:
                self._append(event, "story")
        return self

    def _append(self, event: Event, reason: str) -> None:
        validate(event.type, event.data)
        self.later(1)
        self.facts.append(
            Fact(
                event.type,
                self.at,
                self.at,
                self.actor,
                json.loads(json.dumps(event.data)),
                tags=sorted(tags_of(event.type, event.data)),
                evidence=list(event.evidence),
                position=len(self.facts) + 1,
            )
        )

    # -- when ------------------------------------------------------------------------------------------------------

    def select(self, command: commands.AnyCommand) -> tuple[Query, list[Fact]]:
        """The query at its fixpoint and what it selects."""
        boundary = commands.DECIDERS[type(command)].boundary
        query: Query = ()
        found: list[Fact] = []
        for _ in range(12):
            wanted = union(query, (POLICY_ITEM,), boundary(command, self._world(found)))
            if wanted == query:
                return query, found
            query = wanted
            for item in query:
                assert item.types
                assert item.tags
                assert not [type_ for type_ in item.types if type_.startswith(("runtime.", "fact."))]
                assert set(item.types) <= set(TABLE)
            found = [f for f in self.facts if any(i.matches(f.type, frozenset(f.tags)) for i in query)]
        raise AssertionError(f"the boundary of {command} does not settle")

    @staticmethod
    def _world(facts: list[Fact]) -> World:
        return fold(World(), facts, FOLD)

    def world(self) -> World:
        """The state of everything."""
        return self._world(self.facts)

    def when(
        self, command: commands.AnyCommand, *, actor: ActorRef | None = None, at: str | None = None
    ) -> Case:
        commands.check(command)
        if actor is not None:
            self.actor = actor
        decide = commands.DECIDERS[type(command)].decide
        _, found = self.select(command)
        world, whole = self._world(found), self.world()
        context = Context(at or self.at, actor or PERSON, "because", policy_of(world))
        before = msgspec.json.encode(world)
        self.answer = decide(world, command, context)
        assert msgspec.json.encode(world) == before, "a decision is pure"
        assert decide(whole, command, context) == self.answer, "the boundary is too narrow"
        again = commands.from_record(commands.name_of(command), commands.arguments(command))
        assert again == command, "a recorded command reads back"
        self._check(commands.name_of(command))
        return self

    def _check(self, name: str) -> None:
        if isinstance(self.answer, Refusal):
            no = self.answer
            assert all((no.rule, no.subject, no.message, no.next)), no
            fields = msgspec.to_builtins(no)
            for type_, data in fields.pop("also"):
                self._check_event(Event(type_, data), name)
            if no.exit_code != NOT_FOUND:  # the handler raises that and records nothing
                validate("command.refused/1", fields)
            assert no.cause is None or 0 < no.cause.position <= len(self.facts)
        else:
            assert self.answer
            for event in self.answer:
                self._check_event(event, name)

    @staticmethod
    def _check_event(event: Event, name: str) -> None:
        validate(event.type, event.data)
        assert tags_of(event.type, event.data)
        makers = TABLE[event.type].command.replace(" (refused)", "").split(", ")
        assert name in makers, f"{event.type} is made by {name}, the registry says {makers}"

    # -- then ------------------------------------------------------------------------------------------------------

    def then(self, *expected: Event | tuple[str, dict[str, Any]] | str) -> Case:
        """Exactly these events: by type, or with the fields given."""
        assert not isinstance(self.answer, Refusal), self.answer
        assert [e if isinstance(e, str) else e[0] if isinstance(e, tuple) else e.type for e in expected] == [
            event.type.removesuffix("/1") for event in self.answer
        ]
        for wanted, event in zip(expected, self.answer, strict=True):
            if isinstance(wanted, tuple):
                assert wanted[1] == {field: event.data[field] for field in wanted[1]}
        return self

    def then_refused(self, rule: str, *, cause: str = "", exit_code: int = 6) -> Refusal:
        """Refused by this rule; `cause` is the type of the record that made it so ("-": there must be none)."""
        assert isinstance(self.answer, Refusal), [event.type for event in self.answer]
        assert (rule, exit_code) == (self.answer.rule, self.answer.exit_code)
        if cause == "-":
            assert self.answer.cause is None
        elif cause:
            assert isinstance(self.answer.cause, Mark), f"no cause, expected {cause}"
            assert self.facts[self.answer.cause.position - 1].type == cause + "/1"
        return self.answer

    def event(self, type_: str) -> dict[str, Any]:
        """The payload of the one event of a type in the last answer."""
        assert not isinstance(self.answer, Refusal)
        return next(event.data for event in self.answer if event.type == type_ + "/1")

    def trace(self) -> list[tuple[str, str]]:
        """(source, code) of every candidate of the last decision on a rollback."""
        assert not isinstance(self.answer, Refusal), self.answer
        for event in self.answer:
            if event.type in ("rollback.pack_selected/1", "rollback.no_candidate/1"):
                return [(line["source"], line["code"]) for line in event.data["trace"]]
        raise AssertionError(self.answer)

    # -- story: commands that lead somewhere --------------------------------------------------------------------------

    def unique(self, prefix: str) -> str:
        self.count += 1
        return f"{prefix}{self.count}"

    def init(self) -> Case:
        return self.run(
            admin.Init(
                "s-1", "records", {"record": "1"}, "0" * 16, "a" * 44, "muniment/s-1", self.policy.document
            )
        )

    def declared(self, name: str = "prod/stable", *cohorts: str, upstream: tuple[str, ...] = ()) -> Case:
        return self.run(channel.Declare(name, list(cohorts) or ["all"], list(upstream)))

    def built(self, name: str, *, product: str = "shop") -> Case:
        """A build of the name, gated and compiled, not finished."""
        self.run(
            intake.Add(f"in-{name}", pid("in" + name), 1, 1, 0, "here", "me", START, [], []),
            build.Start(f"b-{name}", product, f"in-{name}", "", {}),
            build.StartStage(f"b-{name}", "validate", f"at-{name}", ["true"], {}),
            finish_stage(f"b-{name}", "validate", f"at-{name}"),
            build.DecideGate(f"b-{name}", "validate", "PASS", {}, []),
        )
        return self.run(build.Compile(f"b-{name}", pid(name), 1, 10, {"name": "cc"}, []))

    def packed(self, name: str, *, epoch: int = 0, reads: tuple[int, int] = (0, 9), writes: int = 0) -> str:
        """A registered and verified pack."""
        self.built(name)
        self.run(build.Reproduce(f"b-{name}", pid(name)), build.Finish(f"b-{name}"))
        self.run(register(name, epoch=epoch, reads=reads, writes=writes))
        self.run(pack.RecordVerification(pid(name), "PASS", "store", []))
        return pid(name)

    def released(self, pack_id: str, *slots: str, soak_s: int = 0) -> str:
        """A release of the pack, started and promoted to its first stage, which is all of these slots."""
        name = self.unique("r-")
        self.run(release.Create(name, pack_id, [Stage(list(slots) or [SLOT], 100_000, soak_s)]))
        self.run(release.Start(name), release.Promote(name, ""))
        return name

    def activated(
        self, where: str = SLOT, target: str = T, *, until: str = "confirm", actor: ActorRef | None = None
    ) -> str:
        """An activation of what is wanted at a target, as far as `until`."""
        name = self.unique("a-")
        self.run(activation.Plan(name, where, target, f"/srv/{target}", "folder", "", True), actor=actor)
        wanted = self.world().slots[where].targets[target].activation
        assert wanted is not None
        check = {"name": "files", "verdict": "pass"}
        for step, command in (
            ("plan", None),
            ("fetched", activation.Step(name, where, target, "fetched", {})),
            ("verified", activation.Verified(name, where, target, [check])),
            ("staged", activation.Step(name, where, target, "staged", {})),
            ("switch", activation.Switch(name, where, target, True)),
            ("confirm", activation.Confirm(name, where, target, wanted.pack)),
        ):
            if command is not None:
                self.run(command, actor=actor)
            if step == until:
                break
        return name

    def healthy(self, where: str = SLOT, target: str = T, status: str = "HEALTHY") -> Case:
        return self.run(slot.Report(where, target, status, []))

    def good(self, name: str, *, where: str = SLOT, target: str = T, epoch: int = 0, writes: int = 0) -> str:
        """A pack that went out, was attested good, and whose release is complete."""
        pack_id = self.packed(name, epoch=epoch, writes=writes)
        self.goes_good(pack_id, where=where, target=target)
        return pack_id

    def goes_good(self, pack_id: str, *, where: str = SLOT, target: str = T) -> Case:
        rollout = self.released(pack_id, where)
        self.activated(where, target)
        self.healthy(where, target)
        return self.run(release.Complete(rollout))

    def shelf(self, *names: str, **of: Any) -> list[str]:
        """Packs attested good one after the other; the last one is active."""
        self.declared()
        return [self.good(name, **of) for name in names]

    def back(self, where: str = SLOT, target: str = T, *, to: str = "", trigger: str = "operator") -> Any:
        return rollback.Request(self.unique("rb-"), where, target, to, trigger)

    def target(self, where: str = SLOT, target: str = T) -> Any:
        return self.world().slots[where].targets[target]


def finish_stage(of: str, stage: str, attempt: str, status: str = "PASS") -> build.FinishStage:
    return build.FinishStage(of, stage, attempt, status, 0, "", 1, 1, 1, 1, {}, [], [])


def register(
    name: str, *, epoch: int = 0, reads: tuple[int, int] = (0, 9), writes: int = 0, **other: Any
) -> pack.Register:
    fields: dict[str, Any] = {
        "pack": pid(name),
        "product": "shop",
        "build": f"b-{name}",
        "security_epoch": epoch,
        "reads": list(reads),
        "writes": writes,
        "files": 1,
        "bytes": 10,
        "signed_by": ["0" * 16],
        "available": True,
        "evidence": [],
    }
    return pack.Register(**(fields | other))


@pytest.fixture
def case() -> Case:
    """A store under policy solo, nothing else."""
    return Case(shipped("solo")).init()


@pytest.fixture
def under() -> Callable[..., Case]:
    """A store under a shipped policy, some of its rules changed."""

    def made(name: str = "solo", **sections: dict[str, Any]) -> Case:
        return Case(with_rules(shipped(name), **sections)).init()

    return made


@pytest.fixture
def eager(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(projecting, "SAVE_AFTER", 1)


@pytest.fixture
def blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Small parts are kept in blocks too, and long folds save often."""
    monkeypatch.setattr(memo_parts, "LARGE", 2)
    monkeypatch.setattr(late_part, "BLOCK", 4)
    monkeypatch.setattr(projecting, "STRIDE", 64)


@pytest.fixture
def fleet() -> MemoryLog:
    log = MemoryLog()
    data.fill(log, 600)
    return log


@pytest.fixture
def kit() -> Any:
    """The names of this file that tests use: they cannot import it (importlib mode)."""
    from types import SimpleNamespace

    return SimpleNamespace(
        **{
            name: globals()[name]
            for name in (
                "AGENT",
                "PERSON",
                "SLOT",
                "START",
                "T",
                "finish_stage",
                "pid",
                "register",
                "shipped",
                "with_rules",
                "Case",
            )
        }
    )
