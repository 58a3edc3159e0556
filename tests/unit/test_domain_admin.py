"""The store itself: creation, policy, identities, keys, the clock; and R10 under the policies that ask for people."""

from __future__ import annotations

from base64 import b64encode
from typing import Any

import pytest
from muniment.domain.admin import (
    SMALL_ORDER,
    AcceptClock,
    AddIdentity,
    DeclareMaintenance,
    Init,
    PublishPolicy,
    RevokeKey,
    key_refusal,
)
from muniment.domain.canonical import PROFILE
from muniment.domain.decision import ActorRef
from muniment.domain.errors import InvalidError
from muniment.domain.policy import STRICTEST, parse
from muniment.domain.world import World, policy_of

KEY, OTHER = "a" * 16, "b" * 16
ALICE = ActorRef("alice", "human", f"ed25519:{KEY}")


def add(name: str = "alice", key: str = KEY, kind: str = "human") -> AddIdentity:
    return AddIdentity(name, kind, key, "x" * 44)


def init(policy: Any) -> Init:
    return Init("s-1", "records", {"record": "1"}, "0" * 16, "a" * 44, "muniment/s-1", policy.document)


def test_a_store_begins_with_itself_and_its_policy(kit: Any) -> None:
    case = kit.Case(kit.shipped("solo"))
    case.when(init(case.policy)).then(
        ("store.created", {"store_id": "s-1", "canonical": PROFILE}),
        ("policy.published", {"policy": "solo", "digest": case.policy.digest}),
    )


def test_a_store_is_created_once(case: Any) -> None:
    case.when(init(case.policy)).then_refused("store.exists", cause="policy.published")


def test_before_a_policy_the_strictest_holds() -> None:
    assert STRICTEST == policy_of(World())
    assert 0 < STRICTEST.approvals.required


def test_a_policy_is_published_by_content(case: Any, kit: Any) -> None:
    case.when(PublishPolicy(case.policy.document)).then_refused("policy.in_force", cause="policy.published")
    case.run(PublishPolicy(kit.shipped("team").document))
    assert "team" == case.world().policy.name
    refusal = case.when(PublishPolicy(case.policy.document)).then_refused(
        "R10.approvals", cause="policy.published", exit_code=4
    )
    assert "approvals.required" in refusal.facts


WEAKER = [
    ("approvals", {"required": 1}),
    ("build", {"required_gates": []}),
    ("build", {"unwaivable_gates": []}),
    ("build", {"reproduce": "waived"}),
    ("verification", {"pack_signatures": 0}),
    ("attestation", {"soak_s": 1}),
    ("attestation", {"healthy_reports": 1}),
    ("health", {"failing": []}),
    ("rollback", {"depth": 6}),
    ("rollback", {"chain_limit": 3}),
    ("freeze", {"all_max_s": 259_201}),
]


@pytest.mark.parametrize(("section", "change"), WEAKER)
def test_one_person_does_not_switch_off_two(kit: Any, section: str, change: dict[str, Any]) -> None:
    case = kit.Case(STRICTEST).init()
    document = STRICTEST.document
    less = {**document, section: {**document[section], **change}}
    case.when(PublishPolicy(less)).then_refused("R10.approvals", exit_code=4)
    case.when(PublishPolicy({**document, "risk_order": ["lts", "canary"]})).then_refused(
        "R10.approvals", exit_code=4
    )
    more = {**document, "version": 2, "approvals": {"required": 3}}
    case.run(PublishPolicy(more))
    solo = kit.Case(kit.shipped("solo")).init()
    solo.when(PublishPolicy({**solo.policy.document, "risk_order": []})).then("policy.published")


def test_a_policy_that_wants_keys_is_not_weakened_without_one(kit: Any) -> None:
    keyed = {**kit.shipped("solo").document, "commands_need_key": ["rollback"]}
    case = kit.Case(parse(keyed)).init()
    case.when(PublishPolicy(kit.shipped("solo").document)).then_refused("R10.key_needed", exit_code=4)
    case.run(add())
    case.when(PublishPolicy(kit.shipped("solo").document), actor=ALICE).then("policy.published")


@pytest.mark.parametrize("y", sorted(SMALL_ORDER))
@pytest.mark.parametrize("sign", [0, 0x80])
def test_a_key_of_small_order_is_refused(case: Any, y: bytes, sign: int) -> None:
    key = b64encode(y[:31] + bytes([y[31] | sign])).decode()
    case.when(AddIdentity("alice", "human", KEY, key)).then_refused("identity.weak_key")


def test_a_key_beside_a_weak_one_is_taken(case: Any) -> None:
    for y in (b"\x02" + bytes(31), bytes(31) + b"\x01", bytes(33)):
        case.when(AddIdentity("alice", "human", KEY, b64encode(y).decode())).then("identity.added")


@pytest.mark.parametrize(
    "change",
    [
        {"unknown": 1},
        {"approvals": {}},
        {"risk_order": "canary"},
        {"rollback": {"depth": "5", "chain_limit": 1}},
    ],
)
def test_a_policy_that_does_not_fit_is_refused(case: Any, change: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        case.when(PublishPolicy({**case.policy.document, **change}))
    with pytest.raises(InvalidError):
        parse({key: value for key, value in case.policy.document.items() if key not in change} | {"x": 1})


def test_a_name_has_one_live_key(case: Any) -> None:
    case.run(add())
    case.when(add("bob")).then_refused("identity.exists", cause="identity.added")
    case.when(add(key=OTHER)).then_refused("identity.exists", cause="identity.added")
    case.run(RevokeKey(KEY))
    case.when(add("bob")).then_refused("identity.exists")
    case.when(add(key=OTHER)).then("identity.added")


def test_a_key_is_revoked_once(case: Any) -> None:
    case.when(RevokeKey(KEY)).then_refused("key.unknown", cause="-", exit_code=3)
    case.run(add(), RevokeKey(KEY))
    case.when(RevokeKey(KEY)).then_refused("key.revoked", cause="key.revoked")


def test_an_accepted_jump_is_on_record(case: Any) -> None:
    case.when(AcceptClock(7_200)).then(("clock.jump_accepted", {"seconds": 7_200}))


def test_declared_maintenance_is_on_record(case: Any) -> None:
    case.when(DeclareMaintenance("mend the index")).then(
        ("store.maintenance_declared", {"act": "mend the index"})
    )


def test_whose_key_signs(case: Any, kit: Any) -> None:
    case.run(add())
    world = case.world()
    assert key_refusal(case.policy, world, ALICE, "rollback") is None
    for actor in (
        ActorRef("bob", "human", f"ed25519:{KEY}"),
        ActorRef("alice", "agent", f"ed25519:{KEY}"),
        ActorRef("alice", "human", f"ed25519:{OTHER}"),
    ):
        refusal = key_refusal(case.policy, world, actor, "rollback")
        assert ("R10.key_unknown", 4) == (refusal.rule, refusal.exit_code)
    case.run(RevokeKey(KEY))
    refusal = key_refusal(case.policy, case.world(), ALICE, "rollback")
    assert ("R10.key_revoked", 4, len(case.facts)) == (
        refusal.rule,
        refusal.exit_code,
        refusal.cause.position,
    )


def test_which_commands_need_a_key_is_policy(kit: Any) -> None:
    regulated, solo = kit.shipped("regulated"), kit.shipped("solo")
    os_user = ActorRef("alice")
    for command in regulated.commands_need_key:
        refusal = key_refusal(regulated, World(), os_user, command)
        assert ("R10.key_needed", 4) == (refusal.rule, refusal.exit_code)
        assert key_refusal(solo, World(), os_user, command) is None
    assert key_refusal(regulated, World(), os_user, "channel.freeze") is None
