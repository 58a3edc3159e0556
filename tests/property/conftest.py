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
from muniment.app.handlers import Handler
from muniment.app.request import Outcome, Request
from muniment.domain import activation, admin, build, channel, commands, intake, pack
from muniment.domain.decision import ActorRef, Fact
from muniment.domain.envelope import read_fact
from muniment.domain.folding import FOLD
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
            fold(self._world, [self._facts[-1]], FOLD)
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


# -- the rules, a second time -------------------------------------------------------------------------------------------


def levels(where: str) -> list[str]:
    env, chan, _ = where.split("/")
    return [where, f"{env}/{chan}", env, "*"]


class Pre:
    """The facts before a record, read as the rules' text reads them; no code of `domain` takes part."""

    def __init__(self, facts: list[Fact], at: str, automation: bool) -> None:
        self.facts, self.at, self.automation = facts, at, automation

    def of(self, *types: str, **fields: Any) -> list[Fact]:
        return [
            f
            for f in self.facts
            if f.type.removesuffix("/1") in types and all(f.data.get(k) == v for k, v in fields.items())
        ]

    def floor(self, where: str) -> int:
        return max(
            [f.data["floor"] for f in self.of("channel.floor_raised") if f.data["scope"] in levels(where)],
            default=0,
        )

    def pin(self, where: str) -> str:
        for level in levels(where):
            last = (self.of("channel.pinned", "channel.unpinned", scope=level) or [None])[-1]
            if last is not None and last.type == "channel.pinned/1":
                end = last.data["expires_at"]
                if not end or self.at < end:
                    return str(last.data["pack"])
        return ""

    def frozen(self, where: str, *kinds: str) -> bool:
        live: dict[tuple[str, str], Fact] = {}
        for fact in self.of("channel.frozen", "channel.unfrozen"):
            key = (fact.data["scope"], fact.data["freeze"])
            live.pop(key, None)
            if fact.type == "channel.frozen/1":
                live[key] = fact
        return any(
            f.data["kind"] in kinds and (not f.data["expires_at"] or self.at < f.data["expires_at"])
            for (scope, _), f in live.items()
            if scope in levels(where)
        )

    def quarantined(self, p: str, where: str) -> bool:
        found = self.of("slot.quarantined", "slot.quarantine_lifted", pack=p, channel=where.rsplit("/", 1)[0])
        return bool(found) and found[-1].type == "slot.quarantined/1"

    def code(self, p: str, where: str) -> str:
        """R2, the first code of settled.md 17 that applies; "" is eligible. Schema levels are all one here."""
        if not self.of("pack.admitted", pack=p):
            return "not_admitted"
        if self.of("pack.withdrawn", pack=p):
            return "withdrawn"
        blocks: dict[str, str] = {}
        for fact in self.of("pack.blocked", "pack.unblocked", pack=p):
            blocks[fact.data["block"]] = fact.data["scope"] if fact.type == "pack.blocked/1" else ""
        if any(scope in levels(where) for scope in blocks.values()):
            return "blocked"
        if self.automation and self.quarantined(p, where):
            return "quarantined"
        if self.of("pack.registered", pack=p)[0].data["security_epoch"] < self.floor(where):
            return "below_floor"
        if (self.of("pack.reverified", pack=p) or [None])[-1] is None:
            return "unverified"
        return "" if self.of("pack.reverified", pack=p)[-1].data["verdict"] == "PASS" else "unverified"

    def active(self, where: str, target: str) -> str:
        """I2: nothing else sets it."""
        moves = self.of(
            "activation.switched", "activation.reverted", "target.adopted", slot=where, target=target
        )
        last = moves[-1].data if moves else {}
        return str(last.get("active", last.get("pack", "")))

    def attested(self, where: str, target: str) -> list[tuple[str, bool]]:
        """(pack, good), newest attestation first, one line a pack."""
        found: dict[str, bool] = {}
        for fact in reversed(self.of("slot.good_attested", slot=where, target=target)):
            p = fact.data["pack"]
            revoked = self.of("slot.good_revoked", slot=where, target=target, pack=p)
            found.setdefault(p, not any(r.position > fact.position for r in revoked))
        return list(found.items())

    def chain(self, where: str, target: str) -> list[str]:
        """R7: packs that failed since the last confirmation that ended a chain."""
        found: list[str] = []
        rolling = False
        for fact in self.of(
            "rollback.requested",
            "rollback.step_failed",
            "rollback.completed",
            "slot.stuck",
            "slot.unstuck",
            "activation.confirmed",
            slot=where,
            target=target,
        ):
            kind = fact.type.removesuffix("/1")
            if kind == "rollback.requested":
                found, rolling = [*found, fact.data["failing"]], True
            elif kind == "rollback.step_failed":
                found.append(fact.data["pack"])
            elif kind == "slot.unstuck" or (
                kind == "activation.confirmed" and (not rolling or fact.data["kind"] == "rollback")
            ):
                found = []
            if kind in ("rollback.completed", "slot.stuck"):
                rolling = False
        return found

    def r5(
        self, where: str, target: str, failing: str, also: list[str], depth: int
    ) -> tuple[str, list[tuple[str, str]]]:
        """R5 from its text: (pack or "", [(pack, code)])."""
        out = {failing, *self.chain(where, target), *also}
        trace: list[tuple[str, str]] = []

        def take(p: str, *, good: bool = True) -> bool:
            code = "excluded" if p in out else "" if good else "revoked"
            trace.append((p, code or self.code(p, where) or "chosen"))
            return trace[-1][1] == "chosen"

        pin = self.pin(where)
        if pin == failing:
            trace.append((pin, "pin_target_is_current"))
        elif pin:
            return (pin if take(pin) else ""), trace
        seen = 0
        for p, good in self.attested(where, target):
            if seen > depth:
                break
            if take(p, good=good):
                return p, trace
            seen += good and p not in out
        if where == "prod/canary/all" and (p := self.slot_lkg("prod/stable/all")) and take(p):
            return p, trace
        based = self.of("channel.baselined", scope="prod")
        if based and take(based[-1].data["pack"]):
            return str(based[-1].data["pack"]), trace
        return "", trace

    def slot_lkg(self, where: str) -> str:
        """Attested on every target, and eligible there."""
        targets = list(
            dict.fromkeys(
                f.data["target"] for f in self.facts if f.data.get("slot") == where and "target" in f.data
            )
        )
        goods = [[p for p, good in self.attested(where, t) if good] for t in targets]
        return next(
            (
                p
                for p in (goods[0] if goods else [])
                if all(p in g for g in goods) and not self.code(p, where)
            ),
            "",
        )

    def stuck(self, where: str, target: str) -> bool:
        found = self.of("slot.stuck", "slot.unstuck", slot=where, target=target)
        return bool(found) and found[-1].type == "slot.stuck/1"


def pre(lab: Any, fact: Fact, *, decision: bool = False) -> Pre:
    """What stood before a record, or before the whole decision that it belongs to."""
    records = lab.records()
    at = fact.position - (records[fact.position - 1].get("batch", {}).get("index", 0) if decision else 0)
    return Pre(lab.facts()[: at - 1], fact.occurred_at, fact.actor.automation)


# -- I1 to I10, I13, I22 ------------------------------------------------------------------------------------------------


def judge(lab: Any, fact: Fact, depth: int = 5) -> None:
    """What a single record must have been allowed by."""
    kind, data = fact.type.removesuffix("/1"), fact.data
    if kind == "activation.switched":
        before = pre(lab, fact)
        where, p = data["slot"], data["pack"]
        assert not before.code(p, where), "I1, I4, I6"
        assert not before.frozen(where, "ALL"), "R8"
        assert data["replaced"] == before.active(where, data["target"]), "I2"
        if data["kind"] == "forward":
            assert not before.frozen(where, "FORWARD"), "I5"
            assert not before.stuck(where, data["target"]), "I5"
            assert before.pin(where) in ("", p), "I5"
        else:
            assert p not in before.chain(where, data["target"]), "I7"
    elif kind in ("rollback.pack_selected", "rollback.no_candidate"):
        before = pre(lab, fact, decision=True)
        where, target = data["slot"], data["target"]
        failing = before.active(where, target)
        batch = [f for f in lab.facts() if f.position < fact.position and f.position > len(before.facts)]
        also = [f.data["pack"] for f in batch if f.type == "rollback.step_failed/1"]
        chosen = data.get("pack", "")
        trace = [(line["pack"], line["code"]) for line in data["trace"]]
        if data["trace"] and data["trace"][0]["source"] == "explicit":
            assert [(chosen, "chosen")] == trace
            assert not before.code(chosen, where)
        elif data.get("reason") == "chain_limit":
            assert fact.actor.automation, "R7"
            assert len(before.chain(where, target)) >= 2, "R7"
        else:
            assert (chosen, trace) == before.r5(where, target, failing, also, depth), "I8"
        assert chosen not in {failing, *before.chain(where, target), *also} or not chosen, "I7"
    elif kind == "slot.stuck":
        after = Pre(lab.facts()[: fact.position], fact.occurred_at, False)
        assert data["pack"] == after.active(data["slot"], data["target"]), "I9"
        assert after.stuck(data["slot"], data["target"]), "I9"
    elif kind == "build.compiled":
        gates = pre(lab, fact).of("build.gate_decided", build=data["build"], gate="validate")
        assert "PASS" == gates[-1].data["verdict"], "I13"
    elif kind == "incident.contained":
        before = pre(lab, fact, decision=True)
        scope = before.of("incident.declared", incident=data["incident"])[0].data["scope"]
        for where in ("prod/canary/all", "prod/stable/all"):
            targets = {f.data["target"] for f in before.of("target.adopted", slot=where)}
            if scope in levels(where):
                stuck = targets and all(before.stuck(where, t) for t in targets)
                assert before.frozen(where, "FORWARD", "ALL") or before.pin(where) or stuck, "I22"


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

    return SimpleNamespace(
        PERSON=PERSON, AGENT=AGENT, PACKS=PACKS, SLOTS=SLOTS, Lab=Lab, POLICY=POLICY, Pre=Pre, judge=judge
    )
