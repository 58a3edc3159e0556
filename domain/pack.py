"""Pack: the artifact that gets activated.

1. The id is the digest of the canonical manifest; it is admitted only if it is the one its build's `build.compiled` names.
2. `seq` is assigned here, gap-free per product; a publisher cannot inflate it.
3. Registered, admitted and available stand in one decision when the guards hold (settled.md, 14).
4. One person blocks, unblocking takes the people R10 asks for; withdrawn is terminal.
"""

from __future__ import annotations

from typing import Any, assert_never

import msgspec
from muniment.domain import build_state
from muniment.domain.decision import Context, Decision, Event
from muniment.domain.pack_state import HANDLES, STORE_SITE, item, product_item, unknown
from muniment.domain.policy import needs_people
from muniment.domain.query import Query
from muniment.domain.refusal import NOT_FOUND, Refusal
from muniment.domain.states import Pack
from muniment.domain.world import World


class Register(msgspec.Struct, frozen=True, tag="pack.register"):
    """Register a compiled pack; the fields come from its manifest, `signed_by` are the known keys that verify."""

    pack: str
    product: str
    build: str
    security_epoch: int
    reads: list[int]
    writes: int
    files: int
    bytes: int
    signed_by: list[str]
    available: bool
    evidence: list[dict[str, Any]]


class RecordVerification(msgspec.Struct, frozen=True, tag="pack.verify"):
    """Record what a verification of the stored pack found."""

    pack: str
    verdict: str
    site: str
    checks: list[dict[str, Any]]


class BlockPack(msgspec.Struct, frozen=True, tag="pack.block"):
    """Forbid a pack within a scope."""

    pack: str
    scope: str
    block: str
    advisory: str


class UnblockPack(msgspec.Struct, frozen=True, tag="pack.unblock"):
    """Lift one block (R10)."""

    pack: str
    block: str


class Withdraw(msgspec.Struct, frozen=True, tag="pack.withdraw"):
    """End a pack for good."""

    pack: str


Command = Register | RecordVerification | BlockPack | UnblockPack | Withdraw


def boundary(command: Command, world: World) -> Query:  # noqa: ARG001
    """The pack; to register also its build and the product's order."""
    if isinstance(command, Register):
        return (item(command.pack), build_state.item(command.build), product_item(command.product))
    return (item(command.pack),)


def decide(world: World, command: Command, context: Context) -> Decision:
    """Dispatch; every command but `register` needs a registered pack."""
    pack = world.packs.get(command.pack)
    if isinstance(command, Register):
        return _register(world, command, context)
    if pack is None or pack.registered is None:
        return unknown(command.pack)
    if pack.state == "WITHDRAWN" and not isinstance(command, RecordVerification):
        return Refusal(
            "pack.withdrawn",
            command.pack,
            "the pack is withdrawn for good",
            cause=pack.withdrawn,
            next="muniment pack list",
        )
    match command:
        case RecordVerification():
            return [verification(command, context)]
        case BlockPack():
            return _block(pack, command, context)
        case UnblockPack():
            return _unblock(pack, command, context)
        case Withdraw():
            return [Event("pack.withdrawn/1", {"pack": command.pack, "reason": context.reason})]
    assert_never(command)


def verification(command: RecordVerification, context: Context) -> Event:
    """R2's verification, under the digest of the policy's verification section (settled.md, 17)."""
    return Event(
        "pack.reverified/1",
        {
            "pack": command.pack,
            "verdict": command.verdict,
            "policy": context.policy.verification_digest,
            "site": command.site,
            "checks": command.checks,
        },
    )


def _register(world: World, command: Register, context: Context) -> Decision:
    pack = world.packs.get(command.pack)
    build = world.builds.get(command.build)
    if pack is not None and pack.registered is not None:
        return Refusal(
            "pack.registered",
            command.pack,
            f"the pack is registered as seq {pack.seq} of {pack.product}",
            cause=pack.registered,
            next=f"muniment pack show {command.pack}",
        )
    if build is None or build.pack != command.pack:
        return Refusal(
            "pack.not_compiled",
            command.pack,
            f"build {command.build} does not name this pack as what it compiled",
            cause=build.compiled if build else None,
            next=f"muniment build show {command.build}",
        )
    if build.product != command.product:
        return Refusal(
            "pack.product",
            command.product,
            f"build {command.build} is of product {build.product}, not of {command.product}",
            cause=build.requested,
            next=f"muniment build show {command.build}",
        )
    if build_state.state(build, context.at) != "ELIGIBLE":
        return Refusal(
            "R2.build_not_eligible",
            command.build,
            f"build {command.build} is {build_state.state(build, context.at)}",
            cause=build.finished,
            next=f"muniment build finish {command.build}",
            facts=build_state.failed_conditions(build, context.at),
        )
    needed = context.policy.verification.pack_signatures
    if len(set(command.signed_by)) < needed:
        return Refusal(
            "R2.signatures",
            command.pack,
            f"{needed} known keys must have signed the pack, found {len(set(command.signed_by))}",
            # the build has ended, so its pack cannot be made anew: a signed one comes of another build
            next="muniment build start --product P --intake IN, then muniment pack create DIR --build B --key KEY",
        )
    if not command.available:
        return Refusal(
            "R2.unavailable",
            command.pack,
            "not all files of the pack are in the store",
            next="muniment evidence-summary --check",
        )
    product = world.products.get(command.product)
    registered = {
        "pack": command.pack,
        "product": command.product,
        "seq": (product.seq if product else 0) + 1,
        "build": command.build,
        "security_epoch": command.security_epoch,
        "reads": command.reads,
        "writes": command.writes,
        "files": command.files,
        "bytes": command.bytes,
    }
    return [
        Event("pack.registered/1", registered, tuple(command.evidence)),
        Event(
            "pack.admitted/1", {"pack": command.pack, "build": command.build, "signed_by": command.signed_by}
        ),
        Event("pack.available/1", {"pack": command.pack, "site": STORE_SITE}),
    ]


def _block(pack: Pack, command: BlockPack, context: Context) -> Decision:
    if (known := pack.blocks.get(command.block)) is not None:
        return Refusal(
            "pack.block_used",
            command.block,
            "a block of this id is in force",
            cause=known.mark,
            next="give another --id",
        )
    return [
        Event(
            "pack.blocked/1",
            {
                "pack": command.pack,
                "scope": command.scope,
                "block": command.block,
                "advisory": command.advisory,
                "reason": context.reason,
            },
        )
    ]


def _unblock(pack: Pack, command: UnblockPack, context: Context) -> Decision:
    block = pack.blocks.get(command.block)
    if block is None:
        return Refusal(
            "pack.block_unknown",
            command.block,
            f"no block {command.block} is in force for the pack",
            next=f"muniment pack show {command.pack}",
            exit_code=NOT_FOUND,
        )
    if refusal := needs_people(
        context.policy, f"lifting block {command.block}", 0, f"muniment pack show {command.pack}"
    ):
        refusal.cause = block.mark
        return refusal
    return [
        Event(
            "pack.unblocked/1",
            {"pack": command.pack, "scope": block.scope, "block": command.block, "reason": context.reason},
        )
    ]


__all__ = [
    "HANDLES",
    "STORE_SITE",
    "BlockPack",
    "Command",
    "RecordVerification",
    "Register",
    "UnblockPack",
    "Withdraw",
    "boundary",
    "decide",
    "item",
    "product_item",
    "unknown",
    "verification",
]
