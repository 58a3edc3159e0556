"""Random command sequences through the real handler: the properties of release-rules.md, section 5.

Each is judged record by record against the state before the record (`pre`), by code of this file: eligibility, floors,
pins, freezes and R5 are written a second time here, plainly, from the text of the rules.
"""

from __future__ import annotations

import random
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muniment.app.handlers import Request
from muniment.domain import build, channel, commands, incident, pack, release, rollback, slot
from muniment.domain.decision import Context, Fact
from muniment.domain.errors import MunimentError
from muniment.domain.instant import from_micros, plus
from muniment.domain.policy import parse
from muniment.domain.query import Item
from muniment.domain.records import TABLE
from muniment.domain.states import Stage
from muniment.domain.world import World, fold, policy_of

LIMITS = settings(
    max_examples=10,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
NUMBERS = st.tuples(*[st.integers(0, 11)] * 5)
# An entry says what is asked; several ways to go forward keep the sequences deep.
LIKELY = {"forward": 4, "retreat": 3, "crisis": 1, "step": 5, "badly": 2, "health": 3, "rollback": 2}
ONCE = (
    "sick explicit pin unpin freeze thaw block unblock promote complete pause resume abort incident contain "
    "resolve close verify unverify baseline quarantine unstick withdraw lift attest note build"
)
KINDS = (*(kind for kind, times in LIKELY.items() for _ in range(times)), *ONCE.split(" "))
MOVES = st.lists(st.tuples(st.sampled_from(KINDS), NUMBERS), min_size=10, max_size=40)


def command_of(lab: Any, kit: Any, kind: str, n: tuple[int, ...]) -> Any:
    """One command, with arguments that exist more often than not."""
    where, p = kit.SLOTS[n[0] % 2], kit.PACKS[n[1] % 4]
    target = "t2" if n[2] == 0 else "t1"
    scope = ("*", "prod", where.rsplit("/", 1)[0], where)[n[3] % 4]
    later = plus(from_micros(lab.now), seconds=5 + n[4] * 5)
    held = next(iter(r for r in lab.world().releases if n[2] > 3), "") if kind in RELEASES else ""
    rollout = lab.world().slots[where].rollout or held or "r-none"
    i = f"i-{1 + n[4] % 3}"
    table: dict[str, Any] = {
        "step": lambda: lab.step(where, target),
        "badly": lambda: lab.step(where, target, well=False),
        "health": lambda: slot.Report(where, target, "HEALTHY", []),
        "sick": lambda: slot.Report(where, target, ("DEGRADED", "UNHEALTHY", "UNKNOWN")[n[3] % 3], []),
        "rollback": lambda: rollback.Request(lab.name("rb-"), where, target, "", "operator"),
        "explicit": lambda: rollback.Request(lab.name("rb-"), where, target, p, "emergency"),
        "pin": lambda: channel.SetPin(scope, p, later if n[4] % 2 else ""),
        "unpin": lambda: channel.Unpin(scope),
        "freeze": lambda: channel.FreezeScope(scope, f"f{n[4] % 2}", ("ALL", "FORWARD")[n[2] % 2], later),
        "thaw": lambda: channel.Unfreeze(scope, f"f{n[4] % 2}"),
        "block": lambda: pack.BlockPack(p, scope, f"k{n[4] % 2}", ""),
        "unblock": lambda: pack.UnblockPack(p, f"k{n[4] % 2}"),
        "withdraw": lambda: pack.Withdraw(p) if n[4] == 0 else pack.UnblockPack(p, "k0"),
        "verify": lambda: pack.RecordVerification(p, "PASS", "store", []),
        "unverify": lambda: pack.RecordVerification(p, "FAIL", "store", []),
        "promote": lambda: release.Promote(rollout, ""),
        "complete": lambda: release.Complete(rollout),
        "pause": lambda: release.Pause(rollout),
        "resume": lambda: release.Resume(rollout),
        "abort": lambda: release.Abort(rollout),
        "incident": lambda: incident.Declare("SEV2", scope, "x", p if n[4] % 2 else ""),
        "contain": lambda: incident.Contain(i),
        "resolve": lambda: incident.Resolve(i, "x"),
        "close": lambda: incident.Close(i, ["c"], []),
        "note": lambda: incident.Note(i, "x", ""),
        "baseline": lambda: channel.SetBaseline("prod", p),
        "quarantine": lambda: slot.LiftQuarantine("prod/stable", p),
        "lift": lambda: slot.LiftQuarantine("prod/canary", p),
        "unstick": lambda: slot.Unstick(where, target, p),
        "attest": lambda: slot.Attest(where, target),
        "build": lambda: build.Compile(f"b-x{n[4] % 2}", p, 1, 1, {}, []),
    }
    return table[kind]()


RELEASES = ("promote", "complete", "pause", "resume", "abort")


def forward(lab: Any, kit: Any, n: tuple[int, ...], actor: Any) -> list[Any]:
    """A whole release of one slot: created, started, promoted, planned and switched, confirmed, healthy, complete."""
    where, p, name = kit.SLOTS[n[0] % 2], kit.PACKS[n[1] % 4], lab.name("r-")
    asked = [
        release.Create(name, p, [Stage([where], 100_000, 0)]),
        release.Start(name),
        release.Promote(name, ""),
    ]
    done = [lab.ask(command, actor) for command in asked]
    done += [lab.ask(lab.step(where, "t1"), actor) for _ in range(6)]
    if n[3] % 4:
        done.append(lab.ask(slot.Report(where, "t1", "HEALTHY", []), actor))
    return [*done, lab.ask(release.Complete(name), actor)] if n[2] % 3 else done


def retreat(lab: Any, kit: Any, n: tuple[int, ...], actor: Any) -> None:
    """A rollback and its activation, in which one step may go badly."""
    where = kit.SLOTS[n[0] % 2]
    lab.ask(rollback.Request(lab.name("rb-"), where, "t1", "", "health_regressed"), actor)
    for number in range(6):
        lab.ask(lab.step(where, "t1", well=number != n[1] % 8), actor)
    if n[2] % 2:
        lab.ask(slot.Unstick(where, "t1", kit.PACKS[n[3] % 4]), actor)


def crisis(lab: Any, kit: Any, n: tuple[int, ...], actor: Any) -> None:
    """An incident from declaration to closing, if the rules let it."""
    where = kit.SLOTS[n[0] % 2]
    lab.ask(incident.Declare("SEV1", where, "x", kit.PACKS[n[1] % 4]), actor)
    name = f"i-{lab.world().incident_count}"
    lab.ask(slot.Report(where, "t1", "HEALTHY", []), actor)
    for command in (incident.Contain(name), incident.Resolve(name, "x"), incident.Close(name, ["c"], [])):
        lab.ask(command, actor)


# Three packs go out and become good, so that there is something to go back to.
PRELUDE: tuple[tuple[str, tuple[int, ...]], ...] = tuple(("forward", (1, p, 1, 1, 1)) for p in (0, 2, 1))
LONG = {"forward": forward, "retreat": retreat, "crisis": crisis}


def play(lab: Any, kit: Any, moves: Any, each: Any = None) -> Any:
    """Run a sequence; nothing but our typed errors may come out of it."""
    for kind, n in (*PRELUDE, *moves):
        actor = kit.AGENT if n[4] % 3 == 0 else kit.PERSON
        try:
            if kind in LONG:
                LONG[kind](lab, kit, n, actor)
                continue
            command = command_of(lab, kit, kind, n)
            if each is not None:
                each(lab, command, actor)
            lab.ask(command, actor)
        except MunimentError:
            continue
    return lab


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


@LIMITS
@given(moves=MOVES)
def test_every_record_was_allowed(make_lab: Any, kit: Any, moves: Any) -> None:
    lab = make_lab().set_up()
    begun = len(lab.facts())
    play(lab, kit, moves)
    floors: dict[str, int] = {}
    for fact in lab.facts()[begun:]:
        judge(lab, fact)
    world = World()
    for fact in lab.facts():
        fold(world, [fact], commands.FOLD)
        for name, level in world.scopes.items():
            assert level.floor >= floors.get(name, 0), "I3"
            floors[name] = level.floor
    last = Pre(lab.facts(), "", False)
    for where in kit.SLOTS:
        for target in world.slots[where].targets.values():
            assert last.active(where, target.target) == target.active, "I2"
            assert [p for p, good in last.attested(where, target.target) if good] == [
                a.pack for a in target.good()
            ], "I10"


def test_i13_a_compile_of_an_ungated_build_is_never_recorded(make_lab: Any, kit: Any) -> None:
    lab = make_lab().set_up(packs=1)
    lab.ask(build.Start("b-x0", "shop", "in-0", "", {}))
    outcome = lab.ask(build.Compile("b-x0", kit.PACKS[1], 1, 1, {}, []))
    assert ("I13.no_compile", ["build.compile_refused/1"]) == (
        outcome.refusal.rule,
        [e.type for e in outcome.events],
    )


# -- I11, I12: what a decision may depend on ----------------------------------------------------------------------------


@LIMITS
@given(moves=MOVES)
def test_i11_i30_a_decision_depends_on_its_recorded_read_set_only(
    make_lab: Any, kit: Any, moves: Any
) -> None:
    """Made anew from the record's own words: once with every fact outside `basis.query` deleted, once with all of them."""
    lab = play(make_lab().set_up(packs=3), kit, moves[:25])
    facts, records = lab.facts(), lab.records()
    for position, record in enumerate(records, 1):
        if "command" not in record:
            continue
        query = [Item(tuple(i["types"]), tuple(i["tags"])) for i in record["basis"]["query"]]
        every = facts[: record["basis"]["after"]]
        selected = [fact for fact in every if any(i.matches(fact.type, set(fact.tags)) for i in query)]
        batch = facts[position - 1 : position - 1 + record.get("batch", {}).get("size", 1)]
        for kept in (selected, every):
            assert [(fact.type, fact.data) for fact in batch] == again(record, batch[0], kept)


def again(record: dict[str, Any], fact: Fact, kept: list[Fact]) -> list[tuple[str, Any]]:
    """What the recorded command gives on these facts, as payloads."""
    command = commands.from_record(record["command"]["name"], record["command"]["args"])
    world = fold(World(), kept, commands.FOLD)
    context = Context(fact.occurred_at, fact.actor, record["command"].get("reason", ""), policy_of(world))
    answer = commands.DECIDERS[type(command)].decide(world, command, context)
    if isinstance(answer, list):
        return [(event.type, event.data) for event in answer]
    fields = msgspec.to_builtins(answer)
    return [*fields.pop("also"), ("command.refused/1", fields)]


@LIMITS
@given(moves=MOVES, seed=st.integers(0, 2**20))
def test_i12_unrelated_records_may_come_in_any_order(make_lab: Any, kit: Any, moves: Any, seed: int) -> None:
    """Records that share no tag but the policy's change places; every slot looks the same but for positions."""
    lab = play(make_lab().set_up(packs=3), kit, moves[:25])
    facts = [fact for fact in lab.facts() if fact.type != "command.refused/1"]
    dice = random.Random(seed)
    for _ in range(200):
        at = dice.randrange(len(facts) - 1)
        one, two = facts[at], facts[at + 1]
        if not set(one.tags) & set(two.tags):
            facts[at], facts[at + 1] = two, one
    shuffled = fold(World(), facts, commands.FOLD)
    assert lab.world().slots == shuffled.slots


# -- I20, I21 -----------------------------------------------------------------------------------------------------------

FORWARD = ("release.start", "release.promote", "release.resume", "activation.plan", "activation.switch")


@LIMITS
@given(moves=MOVES, extra=NUMBERS)
def test_i20_a_freeze_or_block_enables_nothing(
    make_lab: Any, kit: Any, moves: Any, extra: tuple[int, ...]
) -> None:
    def each(lab: Any, command: Any, actor: Any) -> None:
        if commands.name_of(command) not in FORWARD:
            return
        how = Request(actor, dry_run=True)
        if lab.handler.execute(command, how).refusal is None:
            return
        facts = lab.facts()
        for more in (
            {
                "scope": "*",
                "freeze": "fx",
                "kind": "FORWARD",
                "owner": "x",
                "expires_at": "",
                "incident": "",
                "reason": "",
            },
            {"pack": kit.PACKS[extra[1] % 4], "scope": "prod", "block": "kx", "advisory": "", "reason": ""},
        ):
            type_ = "channel.frozen/1" if "freeze" in more else "pack.blocked/1"
            added = Fact(type_, from_micros(lab.now), "", actor, more, position=len(facts) + 1)
            world = fold(World(), [*facts, added], commands.FOLD)
            context = Context(from_micros(lab.now), actor, "", parse(kit.POLICY))
            answer = commands.DECIDERS[type(command)].decide(world, command, context)
            assert not isinstance(answer, list), f"{type_} enabled {command}"

    play(make_lab().set_up(packs=3), kit, moves[:30], each)


@LIMITS
@given(moves=MOVES)
def test_i21_a_command_delivered_twice_changes_nothing(make_lab: Any, kit: Any, moves: Any) -> None:
    lab = make_lab().set_up(packs=3)
    for number, (kind, n) in enumerate(moves[:30]):
        if kind in LONG:
            LONG[kind](lab, kit, n, kit.PERSON)
            continue
        command = command_of(lab, kit, kind, n)
        try:
            once = lab.ask(command, key=f"k{number}")
            head = lab.log.head()
            twice = lab.ask(command, key=f"k{number}")
        except MunimentError:
            continue
        assert head == lab.log.head()
        assert (once.positions, once.exit_code) == (twice.positions, twice.exit_code)
        assert [e.data for e in once.events] == [e.data for e in twice.events]
        assert twice.repeated


# -- the sequences are worth something ----------------------------------------------------------------------------------


def test_the_sequences_reach_what_they_are_to_judge(make_lab: Any, kit: Any) -> None:
    """Random play that never rolls back, strands or contains would prove nothing."""
    seen: set[str] = set()
    for seed in range(20):
        dice = random.Random(seed)
        moves = [(dice.choice(KINDS), tuple(dice.randrange(12) for _ in range(5))) for _ in range(40)]
        seen |= {fact.type for fact in play(make_lab().set_up(), kit, moves).facts()}
    assert (
        set()
        == {
            "rollback.pack_selected/1",
            "rollback.step_failed/1",
            "rollback.completed/1",
            "rollback.no_candidate/1",
            "slot.unstuck/1",
            "slot.quarantined/1",
            "channel.floor_raised/1",
            "incident.contained/1",
            "incident.closed/1",
            "activation.reverted/1",
            "release.rolled_back/1",
            "release.aborted/1",
            "release.completed/1",
        }
        - seen
    )
    assert seen <= set(TABLE)
