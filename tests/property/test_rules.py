"""Random command sequences through the real handler: the properties of release-rules.md, section 5.

Each is judged record by record against the state before the record (`pre`), by code of this file: eligibility, floors,
pins, freezes and R5 are written a second time here, plainly, from the text of the rules.
"""

from __future__ import annotations

import contextlib
import random
from typing import Any

import msgspec
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muniment.app.request import Request
from muniment.domain import build, channel, commands, incident, pack, release, rollback, slot
from muniment.domain.decision import Context, Fact
from muniment.domain.errors import MunimentError, NotFoundError
from muniment.domain.folding import FOLD
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
# A release that is not complete yet, and everything goes well on the way back from it.
BACK: tuple[tuple[str, tuple[int, ...]], ...] = (("forward", (1, 3, 0, 1, 1)), ("retreat", (1, 7, 0, 0, 1)))
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


@LIMITS
@given(moves=MOVES)
def test_every_record_was_allowed(make_lab: Any, kit: Any, moves: Any) -> None:
    lab = make_lab().set_up()
    begun = len(lab.facts())
    play(lab, kit, moves)
    floors: dict[str, int] = {}
    for fact in lab.facts()[begun:]:
        kit.judge(lab, fact)
    world = World()
    for fact in lab.facts():
        fold(world, [fact], FOLD)
        for name, level in world.scopes.items():
            assert level.floor >= floors.get(name, 0), "I3"
            floors[name] = level.floor
    last = kit.Pre(lab.facts(), "", False)
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
    world = fold(World(), kept, FOLD)
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
    shuffled = fold(World(), facts, FOLD)
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
            world = fold(World(), [*facts, added], FOLD)
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
            with contextlib.suppress(NotFoundError):  # of a pack that this play has not registered
                LONG[kind](lab, kit, n, kit.PERSON)
            continue
        try:
            command = command_of(lab, kit, kind, n)
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
        seen |= {fact.type for fact in play(make_lab().set_up(), kit, [*BACK, *moves]).facts()}
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
