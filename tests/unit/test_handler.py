"""The handler: conflicts, keys, refusals, dry runs, signatures; on the memory log with a clock that is told the time."""

from __future__ import annotations

import itertools
import uuid
from collections.abc import Callable, Iterator
from typing import Any

import msgspec
import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from muniment.app import handlers, keys
from muniment.app.handlers import Handler
from muniment.app.redecide import redecide
from muniment.app.request import Outcome, Request
from muniment.domain import build, channel, intake, slot
from muniment.domain.admin import AcceptClock, AddIdentity, Init, PublishPolicy, RevokeKey
from muniment.domain.decision import ActorRef
from muniment.domain.errors import ConflictError, DeniedError, InvalidError, NotFoundError, UsageError
from muniment.domain.query import Item
from muniment.store.memory import MemoryLog

ALICE = ActorRef("alice")
DECLARE = channel.Declare("prod/stable", ["all"], [])
FREEZE = channel.FreezeScope("prod", "f1", "FORWARD", "")
UNPIN = channel.Unpin("prod")


class Racing(MemoryLog):
    """The memory log, and somebody who appends just before us, as often as told."""

    def __init__(self, **how: Any) -> None:
        super().__init__(**how)
        self.rivals: list[Callable[[], Any]] = []
        self.appends = 0

    def append(self, *args: Any, **how: Any) -> Any:
        self.appends += 1
        if self.rivals:
            self.rivals.pop(0)()
        return super().append(*args, **how)


class Store:
    def __init__(self, kit: Any) -> None:
        self.now = 1_767_225_600_000_000
        self.log = Racing(clock=lambda: self.now)
        ids = itertools.count(1)
        self.handler = Handler(
            self.log, now=lambda: self.now, new_id=lambda: str(uuid.UUID(int=next(ids), version=4))
        )
        document = kit.shipped("solo").document
        self.ask(Init("s-1", "records", {}, "0" * 16, "k" * 44, "muniment/s-1", document))
        self.ask(DECLARE)

    def ask(self, command: Any, actor: ActorRef = ALICE, **how: Any) -> Outcome:
        self.now += 1000
        return self.handler.execute(command, Request(actor, **{"reason": "because", **how}))

    def record(self, position: int) -> dict[str, Any]:
        body = next(iter(self.log.read(after=position - 1, until=position)))[1]
        found: dict[str, Any] = msgspec.json.decode(body)
        return found

    @property
    def size(self) -> int:
        return self.log.head().size


@pytest.fixture
def store(kit: Any) -> Iterator[Store]:
    made = Store(kit)
    yield made
    made.log.close()


def intake_of(name: str, at: str = "2026-01-01T00:00:00.000000Z") -> intake.Add:
    return intake.Add(name, "sha256:" + "0" * 64, 1, 1, 0, "o", "a", at, [], [])


# -- conflicts ----------------------------------------------------------------------------------------------------------


def test_a_conflict_means_deciding_anew(store: Store) -> None:
    rival = Handler(store.log, now=lambda: store.now, new_id=lambda: str(uuid.uuid4()))
    store.log.rivals = [lambda: rival.execute(FREEZE, Request(ActorRef("bob")))]
    outcome = store.ask(FREEZE)
    assert ("channel.freeze_used", "bob") == (outcome.refusal.rule, outcome.refusal.cause.actor)
    assert store.record(outcome.positions[0])["basis"]["after"] == outcome.positions[0] - 1


def test_an_unrelated_record_is_no_conflict(store: Store) -> None:
    rival = Handler(store.log, now=lambda: store.now, new_id=lambda: str(uuid.uuid4()))
    store.log.rivals = [lambda: rival.execute(intake_of("in-1"), Request(ALICE))]
    outcome = store.ask(FREEZE)
    assert outcome.exit_code == 0
    assert store.record(outcome.positions[0])["basis"]["after"] == outcome.positions[0] - 2


def test_it_gives_up_after_a_bounded_number(store: Store) -> None:
    rival = Handler(store.log, now=lambda: store.now, new_id=lambda: str(uuid.uuid4()))
    numbers = itertools.count()

    def interfere() -> None:
        # an append of the rival is one of the log too: it takes no rival of its own
        rivals, store.log.rivals = store.log.rivals, []
        freeze = channel.FreezeScope("prod", f"r{next(numbers)}", "FORWARD", "")
        rival.execute(freeze, Request(ALICE))
        store.log.rivals = rivals

    store.log.rivals = [interfere] * 50
    with pytest.raises(ConflictError) as caught:
        store.ask(FREEZE)
    assert "decision.contended" == caught.value.code
    assert handlers.ATTEMPTS == next(numbers)


def test_a_decision_older_than_five_seconds_is_made_again(store: Store) -> None:
    def wait() -> None:
        store.now += 5_000_001

    store.log.rivals = [wait]
    before = store.now
    outcome = store.ask(FREEZE)
    record = store.record(outcome.positions[0])
    assert record["occurred_at"] == record["recorded_at"]
    assert store.now == before + 1000 + 5_000_001


def test_recorded_at_never_goes_back(store: Store) -> None:
    one = store.ask(FREEZE)
    store.now -= 60_000_000
    two = store.ask(channel.Unfreeze("prod", "f1"))
    assert one.recorded_at == two.recorded_at
    assert store.record(two.positions[0])["occurred_at"] < two.recorded_at


def test_expect(store: Store) -> None:
    at = store.ask(FREEZE).positions[-1]
    store.ask(intake_of("in-1"))
    with pytest.raises(ConflictError) as caught:
        store.ask(channel.Unfreeze("prod", "f1"), expect=at - 1)
    assert ("decision.expected", at) == (caught.value.code, caught.value.context["found"])
    assert 0 == store.ask(channel.Unfreeze("prod", "f1"), expect=at).exit_code


def test_expect_is_not_moved_by_telemetry() -> None:
    query = (Item(("slot.health_reported/1",), ("slot:x",)), Item(("a/1", "slot.health_reported/1"), ("t",)))
    assert (Item(("a/1",), ("t",)),) == handlers.without_telemetry(query)


# -- idempotency --------------------------------------------------------------------------------------------------------


def test_a_known_key_returns_the_recorded_outcome(store: Store) -> None:
    one, size = store.ask(FREEZE, key="k"), store.size
    two = store.ask(FREEZE, key="k")
    assert (one.positions, one.events, one.recorded_at, True) == (
        two.positions,
        two.events,
        two.recorded_at,
        two.repeated,
    )
    assert size == store.size


def test_a_known_key_returns_a_refusal_too(store: Store) -> None:
    one = store.ask(UNPIN, key="k")
    two = store.ask(UNPIN, key="k")
    assert (one.refusal, one.positions, 6) == (two.refusal, two.positions, two.exit_code)


@pytest.mark.parametrize(
    "other", [channel.Unfreeze("prod", "f1"), channel.FreezeScope("*", "f1", "FORWARD", "")]
)
def test_a_key_with_another_command_is_a_conflict(store: Store, other: Any) -> None:
    store.ask(FREEZE, key="k")
    with pytest.raises(ConflictError) as caught:
        store.ask(other, key="k")
    assert ("decision.key_reused", 5) == (caught.value.code, caught.value.exit_code)


def test_what_a_client_makes_anew_is_not_another_argument(store: Store) -> None:
    store.ask(intake_of("in-1"), key="k")
    assert store.ask(intake_of("in-1", "2026-02-02T00:00:00.000000Z"), key="k").repeated


def test_two_callers_with_one_key_append_once(store: Store) -> None:
    """Even where the boundary does not cover the command's own events."""
    rival = Handler(store.log, now=lambda: store.now, new_id=lambda: str(uuid.uuid4()))
    command = AcceptClock(7)
    store.log.rivals = [lambda: rival.execute(command, Request(ALICE, key="k"))]
    outcome = store.ask(command, key="k")
    assert outcome.repeated
    assert 1 == len([*store.log.read((Item(("clock.jump_accepted/1",), ("scope:*",)),))])


# -- refusals -----------------------------------------------------------------------------------------------------------


def test_a_refusal_is_recorded_with_tags_and_basis(store: Store) -> None:
    outcome = store.ask(channel.Unpin("prod/stable"))
    record = store.record(outcome.positions[0])
    assert ("command.refused/1", ["scope:prod/stable"]) == (record["type"], record["tags"])
    assert {
        "name": "channel.unpin",
        "args": {"scope": "prod/stable"},
        "key": "",
        "reason": "because",
    } == record["command"]
    assert record["basis"]["query"]
    assert ("channel.not_pinned", 6) == (record["data"]["rule"], record["data"]["exit_code"])


def test_an_identical_refusal_within_a_minute_is_not_appended(store: Store) -> None:
    one = store.ask(UNPIN)
    size = store.size
    store.now += 59_000_000
    two = store.ask(UNPIN)
    assert (one.positions, 6, True, size) == (two.positions, two.exit_code, two.repeated, store.size)
    store.now += 2_000_000
    assert store.ask(UNPIN).positions == [size + 1]


def test_only_an_identical_one(store: Store) -> None:
    store.ask(UNPIN)
    size = store.size
    store.ask(UNPIN, ActorRef("bob"))
    store.ask(channel.Unpin("prod/stable"))
    store.ask(UNPIN, key="k")
    assert size + 3 == store.size


def test_a_refused_compile_stands_beside_its_refusal(store: Store) -> None:
    store.ask(intake_of("in-1"))
    store.ask(build.Start("b-1", "shop", "in-1", "", {}))
    outcome = store.ask(build.Compile("b-1", "sha256:" + "0" * 64, 1, 1, {}, []), key="k")
    first, second = (store.record(position) for position in outcome.positions)
    assert ("build.compile_refused/1", "command.refused/1") == (first["type"], second["type"])
    assert "command" in first
    assert "command" not in second
    again = store.ask(build.Compile("b-1", "sha256:" + "0" * 64, 1, 1, {}, []), key="k")
    assert (outcome.refusal, outcome.positions) == (
        msgspec.structs.replace(again.refusal, also=outcome.refusal.also),
        again.positions,
    )


def test_what_never_becomes_a_record(store: Store) -> None:
    size = store.size
    with pytest.raises(UsageError):
        store.ask(slot.Attest("prod", "t1"))
    with pytest.raises(InvalidError):
        store.ask(channel.FreezeScope("prod", "f1", "SOFT", ""))
    assert size == store.size


# -- dry runs, batches, basis -------------------------------------------------------------------------------------------


def test_a_dry_run_writes_nothing_and_exits_the_same(store: Store) -> None:
    size = store.size
    for command in (FREEZE, UNPIN):
        dry = store.ask(command, dry_run=True)
        assert (size, [], True) == (store.size, dry.positions, dry.dry_run)
        wet = store.ask(command)
        size = store.size
        assert (dry.exit_code, dry.events, dry.refusal) == (wet.exit_code, wet.events, wet.refusal)
    with pytest.raises(InvalidError):
        store.ask(channel.FreezeScope("prod", "f9", "SOFT", ""), dry_run=True)


def test_a_batch_says_so_on_every_record(store: Store) -> None:
    store.ask(intake_of("in-1"))
    outcome = store.ask(build.Start("b-1", "shop", "in-1", "", {}), causation="c-1")
    records = [store.record(position) for position in outcome.positions]
    assert [{"first": records[0]["id"], "index": n, "size": 2} for n in (0, 1)] == [
        r["batch"] for r in records
    ]
    assert [True, False] == ["basis" in r for r in records]
    assert [True, False] == ["command" in r for r in records]
    assert 1 == len({r["correlation"] for r in records})
    assert {"c-1"} == {r["causation"] for r in records}
    assert "batch" not in store.record(store.ask(FREEZE).positions[0])


def test_basis_is_what_was_selected(store: Store) -> None:
    request = Request(ALICE)
    _, query, n = store.handler.select(FREEZE, request)
    record = store.record(store.ask(FREEZE).positions[0])
    assert n == record["basis"]["after"]
    assert [{"tags": list(i.tags), "types": list(i.types)} for i in query] == record["basis"]["query"]
    assert record["basis"]["policy"] == store.record(2)["data"]["digest"]


# -- keys ---------------------------------------------------------------------------------------------------------------


class Identity:
    def __init__(self, name: str) -> None:
        self.private = Ed25519PrivateKey.generate()
        self.key_id, self.public = keys.key_id(self.private), keys.public_key_b64(self.private)
        self.actor = ActorRef(name, "human", f"ed25519:{self.key_id}")

    def sign(self, record: dict[str, Any]) -> dict[str, str]:
        return keys.record_signature(self.private, record)


def test_a_signed_record_verifies_and_a_changed_one_does_not(store: Store) -> None:
    me = Identity("ann")
    store.ask(AddIdentity("ann", "human", me.key_id, me.public))
    record = store.record(store.ask(FREEZE, me.actor, signer=me.sign).positions[0])
    assert keys.verify_record(record, me.public)
    assert not keys.verify_record({**record, "occurred_at": "2020-01-01T00:00:00.000000Z"}, me.public)
    assert not keys.verify_record(record, Identity("ann").public)


def test_a_signature_is_made_anew_at_every_retry(store: Store) -> None:
    me = Identity("ann")
    store.ask(AddIdentity("ann", "human", me.key_id, me.public))
    rival = Handler(store.log, now=lambda: store.now, new_id=lambda: str(uuid.uuid4()))
    other = channel.FreezeScope("prod", "f2", "FORWARD", "")
    store.log.rivals = [lambda: rival.execute(other, Request(ALICE))]
    record = store.record(store.ask(FREEZE, me.actor, signer=me.sign).positions[0])
    assert keys.verify_record(record, me.public)


def test_an_unknown_a_revoked_and_a_foreign_key_are_denied(store: Store) -> None:
    me = Identity("ann")
    assert ("R10.key_unknown", 4) == rule(store.ask(FREEZE, me.actor, signer=me.sign))
    store.ask(AddIdentity("ann", "human", me.key_id, me.public))
    as_bob = msgspec.structs.replace(me.actor, id="bob")
    assert ("R10.key_unknown", 4) == rule(store.ask(FREEZE, as_bob, signer=me.sign))
    store.ask(RevokeKey(me.key_id))
    assert ("R10.key_revoked", 4) == rule(store.ask(FREEZE, me.actor, signer=me.sign))


def test_a_key_that_proves_nothing_signs_nothing(store: Store) -> None:
    """The refusal is the operating-system user's record; who the key claimed to be stands in it as a finding."""
    me = Identity("ann")
    for expected in ("R10.key_unknown", "R10.key_revoked"):
        outcome = store.ask(FREEZE, me.actor, signer=me.sign, user=ALICE)
        record = store.record(outcome.positions[0])
        assert (expected, me.actor.auth) == (record["data"]["rule"], record["data"]["subject"])
        assert "signature" not in record
        assert {"id": "alice", "kind": "human", "auth": "os"} == record["actor"]
        assert "identity: ann" in record["data"]["facts"]
        assert "equal" == redecide(store.log, outcome.positions[0]).verdict
        assert store.ask(FREEZE, me.actor, signer=me.sign, user=ALICE).repeated
        store.ask(AddIdentity("ann", "human", me.key_id, me.public))
        store.ask(RevokeKey(me.key_id))


def test_what_does_not_exist_is_not_found_and_not_recorded(store: Store) -> None:
    size = store.size
    for how in ({}, {"dry_run": True}, {"key": "k"}):
        with pytest.raises(NotFoundError) as caught:
            store.ask(build.Cancel("b-9"), **how)
        assert ("build.unknown", "muniment build list") == (caught.value.code, caught.value.hint)
    assert size == store.size


def rule(outcome: Outcome) -> tuple[str, int]:
    assert outcome.refusal is not None
    return outcome.refusal.rule, outcome.exit_code


def test_an_actor_is_who_signs(store: Store) -> None:
    """A flag alone never names an actor."""
    me, you = Identity("ann"), Identity("you")
    store.ask(AddIdentity("ann", "human", me.key_id, me.public))
    size = store.size
    for actor, signer in ((me.actor, None), (me.actor, you.sign), (ALICE, me.sign)):
        with pytest.raises(DeniedError):
            store.ask(FREEZE, actor, signer=signer)
    assert size == store.size


def test_policy_says_which_commands_need_a_key(store: Store, kit: Any) -> None:
    me = Identity("ann")
    store.ask(AddIdentity("ann", "human", me.key_id, me.public))
    store.ask(PublishPolicy(kit.shipped("regulated").document))
    assert ("R10.key_needed", 4) == rule(store.ask(UNPIN))
    assert ("channel.not_pinned", 6) == rule(store.ask(UNPIN, me.actor, signer=me.sign))
