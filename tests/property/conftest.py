"""A real handler over the memory log, and the commands that random sequences are made of."""

from __future__ import annotations

import hashlib
import itertools
import json
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import msgspec
import pytest
from muniment.app.handlers import Handler, Outcome, Request
from muniment.domain import activation, admin, build, channel, commands, intake, pack
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.envelope import read_fact
from muniment.domain.world import World, fold
from muniment.store.memory import MemoryLog

PERSON, AGENT = ActorRef("alice"), ActorRef("robot", "agent", "os")
PACKS = tuple("sha256:" + hashlib.sha256(name.encode()).hexdigest() for name in "abcd")
EPOCHS = (0, 1, 0, 2)
SLOTS = ("prod/canary/all", "prod/stable/all")
POLICY = json.loads((Path(__file__).parents[2] / "ops" / "policies" / "solo.json").read_text())
START_US = 1_767_225_600_000_000


class Lab:
    """A store under policy solo with four verified packs and two channels; time is a number that grows."""

    def __init__(self) -> None:
        self.now = START_US
        self.log = MemoryLog(clock=lambda: self.now)
        ids = itertools.count(1)
        self.handler = Handler(
            self.log, now=lambda: self.now, new_id=lambda: str(uuid.UUID(int=next(ids), version=4))
        )
        self.names = itertools.count(1)
        self._facts: list[Fact] = []
        self._records: list[dict[str, Any]] = []
        self._world = World()

    def ask(self, command: commands.AnyCommand, actor: ActorRef = PERSON, **how: Any) -> Outcome:
        self.now += 1_000_000
        return self.handler.execute(command, Request(actor, reason="because", **how))

    def set_up(self, packs: int = len(PACKS)) -> Lab:
        empty: list[dict[str, Any]] = []
        self.ask(admin.Init("s-1", "records", {}, "0" * 16, "k" * 44, "muniment/s-1", POLICY))
        for number, pack_id in enumerate(PACKS[:packs]):
            b, epoch = f"b-{number}", EPOCHS[number]
            for command in (
                intake.Add(f"in-{number}", pack_id, 1, 1, 0, "o", "a", "2026-01-01T00:00:00.000000Z", [], []),
                build.Start(b, "shop", f"in-{number}", "", {}),
                build.DecideGate(b, "validate", "PASS", {}, []),
                build.Compile(b, pack_id, 1, 1, {}, []),
                build.Reproduce(b, pack_id),
                build.Finish(b),
                pack.Register(pack_id, "shop", b, epoch, [0, 9], 0, 1, 1, [], True, empty),
                pack.RecordVerification(pack_id, "PASS", "store", []),
            ):
                assert self.ask(command).refusal is None
        for slot in SLOTS:
            assert self.ask(channel.Declare(slot.rsplit("/", 1)[0], ["all"], [])).refusal is None
        return self

    def facts(self) -> list[Fact]:
        """Every fact; decoded once, since the log only grows."""
        for position, body in self.log.read(after=len(self._facts)):
            self._facts.append(read_fact(body, position))
            self._records.append(msgspec.json.decode(body))
            fold(self._world, [self._facts[-1]], commands.FOLD)
        return self._facts

    def records(self) -> list[dict[str, Any]]:
        self.facts()
        return self._records

    def world(self) -> World:
        self.facts()
        return self._world

    def name(self, prefix: str) -> str:
        return f"{prefix}{next(self.names)}"

    def step(self, slot: str, target: str, *, well: bool = True) -> commands.AnyCommand:
        """The next step of the activation at a target, or a new plan."""
        state = self.world().slots[slot].targets.get(target)
        now = state.activation if state is not None else None
        if now is None:
            return activation.Plan(self.name("a-"), slot, target, f"/srv/{target}", "folder", "", True)
        at = (now.activation, slot, target)
        checks = [{"name": "files", "verdict": "pass" if well else "fail"}]
        table: dict[str, commands.AnyCommand] = {
            "PLANNED": activation.Step(*at, "fetched", {})
            if well
            else activation.Fail(*at, "fetch_failed", ""),
            "FETCHED": activation.Verified(*at, checks),
            "VERIFIED": activation.Step(*at, "staged", {})
            if well
            else activation.Fail(*at, "stage_failed", ""),
            "STAGED": activation.Switch(*at, True),
            "SWITCHED": activation.Confirm(*at, now.pack) if well else activation.Revert(*at, now.replaced),
        }
        plan = activation.Plan(self.name("a-"), slot, target, f"/srv/{target}", "folder", "", True)
        return table.get(now.state, plan)


@pytest.fixture
def make_lab() -> Iterator[Callable[[], Lab]]:
    """A maker of labs; the logs are closed at the end."""
    made: list[Lab] = []

    def make() -> Lab:
        while made:
            made.pop().log.close()
        made.append(Lab())
        return made[0]

    yield make
    for lab in made:
        lab.log.close()


@pytest.fixture
def kit() -> Any:
    from types import SimpleNamespace

    return SimpleNamespace(PERSON=PERSON, AGENT=AGENT, PACKS=PACKS, SLOTS=SLOTS, Lab=Lab, POLICY=POLICY)
