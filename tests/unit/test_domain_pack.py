"""Pack: the guards of registration, the order of a product, blocks and the end."""

from __future__ import annotations

from typing import Any

import pytest
from muniment.domain import build, pack


def eligible(case: Any, name: str) -> Any:
    return case.built(name).run(
        build.Reproduce(f"b-{name}", case.world().builds[f"b-{name}"].pack), build.Finish(f"b-{name}")
    )


def test_registered_admitted_and_available_stand_together(case: Any, kit: Any) -> None:
    eligible(case, "p").when(kit.register("p")).then(
        ("pack.registered", {"seq": 1}), "pack.admitted", ("pack.available", {"site": "store"})
    )


def test_the_store_assigns_the_order(case: Any, kit: Any) -> None:
    for name in ("p", "q"):
        eligible(case, name)
    eligible(case.run(), "r")
    for number, name in enumerate(("r", "p", "q"), 1):
        case.when(kit.register(name)).then(
            ("pack.registered", {"seq": number}), "pack.admitted", "pack.available"
        )
        case.run(kit.register(name))


def test_another_product_has_its_own_order(case: Any, kit: Any) -> None:
    eligible(case, "p").run(kit.register("p"))
    case.built("q", product="other").run(build.Reproduce("b-q", kit.pid("q")), build.Finish("b-q"))
    case.when(kit.register("q", product="other")).then(
        ("pack.registered", {"seq": 1}), "pack.admitted", "pack.available"
    )


@pytest.mark.parametrize(
    ("fields", "rule", "cause"),
    [
        ({"build": "b-none"}, "pack.not_compiled", "-"),
        ({"build": "b-other"}, "pack.not_compiled", "build.compiled"),
        ({"product": "other"}, "pack.product", "build.requested"),
        ({"available": False}, "R2.unavailable", "-"),
    ],
)
def test_guards_of_registration(case: Any, kit: Any, fields: dict[str, Any], rule: str, cause: str) -> None:
    eligible(eligible(case, "other"), "p")
    case.when(kit.register("p", **fields)).then_refused(rule, cause=cause)


def test_signatures_are_counted_by_key(under: Any, kit: Any) -> None:
    case = eligible(under(verification={"pack_signatures": 2}), "p")
    key = "0" * 16
    case.when(kit.register("p", signed_by=[])).then_refused("R2.signatures")
    case.when(kit.register("p", signed_by=[key, key])).then_refused("R2.signatures")
    case.when(kit.register("p", signed_by=[key, "1" * 16])).then(
        "pack.registered", "pack.admitted", "pack.available"
    )


def test_only_an_eligible_build_gives_a_pack(case: Any, kit: Any) -> None:
    case.built("p")
    no = case.when(kit.register("p")).then_refused("R2.build_not_eligible", cause="-")
    assert ["not_reproduced"] == no.facts
    case.run(build.Finish("b-p"))
    case.when(kit.register("p")).then_refused("R2.build_not_eligible", cause="build.finished")


def test_a_pack_is_registered_once(case: Any, kit: Any) -> None:
    eligible(case, "p").run(kit.register("p"))
    case.when(kit.register("p")).then_refused("pack.registered", cause="pack.registered")


def test_a_pack_that_is_only_compiled_is_unknown(case: Any, kit: Any) -> None:
    case.built("p")
    for command in (
        pack.RecordVerification(kit.pid("p"), "PASS", "store", []),
        pack.BlockPack(kit.pid("p"), "*", "k1", ""),
        pack.UnblockPack(kit.pid("p"), "k1"),
        pack.Withdraw(kit.pid("p")),
    ):
        case.when(command).then_refused("pack.unknown", cause="-", exit_code=3)


def test_a_verification_stands_under_the_verification_policy(case: Any, kit: Any) -> None:
    case.packed("p")
    case.when(pack.RecordVerification(kit.pid("p"), "FAIL", "store", [])).then(
        ("pack.reverified", {"verdict": "FAIL", "policy": case.policy.verification_digest})
    )


def test_blocks_add_up_and_each_is_lifted_by_itself(case: Any, kit: Any) -> None:
    p = case.packed("p")
    case.run(pack.BlockPack(p, "*", "k1", "adv-1"), pack.BlockPack(p, "prod", "k2", ""))
    case.when(pack.BlockPack(p, "stage", "k1", "")).then_refused("pack.block_used", cause="pack.blocked")
    case.when(pack.UnblockPack(p, "k3")).then_refused("pack.block_unknown", exit_code=3)
    case.run(pack.UnblockPack(p, "k1"))
    assert ["k2"] == list(case.world().packs[p].blocks)
    case.when(pack.UnblockPack(p, "k1")).then_refused("pack.block_unknown", exit_code=3)


@pytest.mark.parametrize("policy", ["team", "regulated"])
def test_one_person_blocks_and_more_unblock(under: Any, kit: Any, policy: str) -> None:
    case = under(policy)
    p = case.packed("p")
    case.run(pack.BlockPack(p, "*", "k1", ""))
    case.when(pack.UnblockPack(p, "k1")).then_refused("R10.approvals", exit_code=4, cause="pack.blocked")


def test_withdrawn_is_terminal(case: Any, kit: Any) -> None:
    p = case.packed("p")
    case.run(pack.BlockPack(p, "*", "k1", ""), pack.Withdraw(p))
    for command in (pack.BlockPack(p, "*", "k2", ""), pack.UnblockPack(p, "k1"), pack.Withdraw(p)):
        case.when(command).then_refused("pack.withdrawn", cause="pack.withdrawn")
    case.when(kit.register("p")).then_refused("pack.registered")
    case.when(pack.RecordVerification(p, "FAIL", "store", [])).then("pack.reverified")
