"""Policy: the thresholds and requirements in force, as a content-addressed document.

The document is published as a record, its digest stands in the basis of every decision. A policy says what is
allowed; it never says what is computed (architecture.md, section 8).
"""

from __future__ import annotations

from typing import Any, Literal

import msgspec
from muniment.domain.canonical import digest, encode
from muniment.domain.errors import InvalidError
from muniment.domain.refusal import DENIED, Refusal


class Approvals(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """R10: how many distinct people, none the requester, must approve what needs approval."""

    required: int


class BuildRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Gates that every build must pass, and whether a second compile must give the same pack."""

    required_gates: list[str]
    unwaivable_gates: list[str]
    reproduce: Literal["required", "waived"]


class Verification(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Verification before activation: how many known keys must have signed a pack. R2 cites this section's digest."""

    pack_signatures: int


class Attestation(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """R4: an activation is good after this soak with at least so many healthy reports."""

    soak_s: int
    healthy_reports: int


class Health(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Health statuses that count as a failure of the active pack."""

    failing: list[Literal["DEGRADED", "UNHEALTHY"]]


class RollbackRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """R5 depth of older good packs, R7 limit of consecutive rollbacks by automation."""

    depth: int
    chain_limit: int


class FreezeRules(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """R8: the longest a freeze of kind ALL may last, seconds."""

    all_max_s: int


class Policy(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One policy document; every field is required, an unknown one is refused."""

    policy: str
    version: int
    approvals: Approvals
    commands_need_key: list[str]
    build: BuildRules
    verification: Verification
    attestation: Attestation
    health: Health
    rollback: RollbackRules
    freeze: FreezeRules
    risk_order: list[str]

    @property
    def document(self) -> dict[str, Any]:
        """The document as JSON values."""
        built: dict[str, Any] = msgspec.to_builtins(self)
        return built

    @property
    def digest(self) -> str:
        """Digest of the canonical document."""
        return digest(self.document)

    @property
    def verification_digest(self) -> str:
        """Digest of the verification section, which R2 means by "the current policy" (settled.md, 17)."""
        return digest(msgspec.to_builtins(self.verification))


# Before a policy is published nothing is allowed that a policy could forbid.
STRICTEST = Policy(
    policy="none",
    version=0,
    approvals=Approvals(required=2),
    commands_need_key=[],
    build=BuildRules(required_gates=["validate"], unwaivable_gates=["validate"], reproduce="required"),
    verification=Verification(pack_signatures=1),
    attestation=Attestation(soak_s=86_400, healthy_reports=10),
    health=Health(failing=["DEGRADED", "UNHEALTHY"]),
    rollback=RollbackRules(depth=5, chain_limit=2),
    freeze=FreezeRules(all_max_s=259_200),
    risk_order=["canary", "stable", "lts"],
)


def parse(document: Any) -> Policy:
    """Read a policy document.

    Raises:
        InvalidError: a missing, unknown or ill-typed field, named in the message.
    """
    try:
        policy = msgspec.convert(document, Policy)
    except msgspec.ValidationError as error:
        raise InvalidError(f"policy document: {error}", code="policy.invalid") from error
    encode(policy.document)
    return policy


def weaker(now: Policy, then: Policy) -> list[str]:
    """What a new document asks less of than the one in force, by the name of the field; [] if it is as strict or stricter."""
    lists = (
        ("commands_need_key", now.commands_need_key, then.commands_need_key),
        ("build.required_gates", now.build.required_gates, then.build.required_gates),
        ("build.unwaivable_gates", now.build.unwaivable_gates, then.build.unwaivable_gates),
        ("health.failing", now.health.failing, then.health.failing),
    )
    least = (
        ("approvals.required", now.approvals.required, then.approvals.required),
        ("verification.pack_signatures", now.verification.pack_signatures, then.verification.pack_signatures),
        ("attestation.soak_s", now.attestation.soak_s, then.attestation.soak_s),
        ("attestation.healthy_reports", now.attestation.healthy_reports, then.attestation.healthy_reports),
    )
    most = (
        ("rollback.depth", now.rollback.depth, then.rollback.depth),
        ("rollback.chain_limit", now.rollback.chain_limit, then.rollback.chain_limit),
        ("freeze.all_max_s", now.freeze.all_max_s, then.freeze.all_max_s),
    )
    return [
        *(name for name, old, new in lists if not set(old) <= set(new)),
        *(name for name, old, new in least if new < old),
        *(name for name, old, new in most if new > old),
        *(
            ["build.reproduce"]
            if (now.build.reproduce, then.build.reproduce) == ("required", "waived")
            else []
        ),
        *(
            ["risk_order"]
            if [name for name in then.risk_order if name in now.risk_order] != now.risk_order
            else []
        ),
    ]


def needs_people(policy: Policy, what: str, approved: int, next_command: str) -> Refusal | None:
    """R10: refuse unless enough distinct people have approved; with `required` 0 (policy solo) nobody is asked."""
    if approved >= policy.approvals.required:
        return None
    return Refusal(
        rule="R10.approvals",
        subject=what,
        message=f"{what} needs {policy.approvals.required} approvals under policy {policy.policy}, found {approved}",
        next=next_command,
        exit_code=DENIED,
    )
