"""`pack`: the artifacts that get activated."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any

import click
from muniment.cli.framework import Noun
from muniment.cli.progress import size
from muniment.cli.results import Result, Rows
from muniment.cli.settings import Settings
from muniment.cli.text import counted
from muniment.cli.writes import Answer, answer

if TYPE_CHECKING:
    from muniment.app.request import Outcome

pack = Noun(
    "pack",
    "Artifacts: create, verify, register, block.",
    ["muniment pack create '{out.compile}' --build b-1", "muniment pack list"],
)
PACK = click.argument("pack_ref", metavar="PACK")


@pack.verb(
    "create",
    write=True,
    examples=[
        "muniment pack create '{out.compile}' --build b-1 --compiler gazc@2.1",
        "muniment pack create ./dist --epoch 4 --reads 1-3 --writes 3 --key alice",
    ],
)
@click.argument("folder", metavar="DIR")
@click.option("--build", "build_id", metavar="BUILD", help="The build; the only unfinished one if absent.")
@click.option("--epoch", type=click.IntRange(0, 2**31), default=0, show_default=True, help="Security epoch.")
@click.option("--reads", default="1", metavar="LO-HI", help="Data schema levels it reads.")
@click.option(
    "--writes", type=click.IntRange(0, 2**31), default=1, show_default=True, help="Level it writes."
)
@click.option("--compiler", metavar="NAME@VERSION", help="What made it.")
@click.option("--compat", multiple=True, metavar="K=V", help="A compatibility requirement.")
@click.option("--role", multiple=True, metavar="PATH=ROLE", help="The role of a file.")
@click.option(
    "--key",
    "key_name",
    metavar="KEY",
    help="Sign the pack with this key of yours; the key of --sign if absent.",
)
def create(
    settings: Settings,
    folder: str,
    build_id: str | None,
    epoch: int,
    reads: str,
    writes: int,
    compiler: str | None,
    compat: tuple[str, ...],
    role: tuple[str, ...],
    key_name: str | None,
) -> Answer:
    """Describe a folder as the build's pack, keep every file, record what was compiled.

    DIR may be {out.STAGE}, the outputs of a stage. The id is the digest of the manifest.
    """
    from muniment.app import building, packing
    from muniment.cli.build import words_of

    name, _, version = (compiler or "unknown@0").partition("@")
    with settings.open(write=True, progress="stored") as session:
        target = build_id or building.only_open(session)
        options = settings.options()
        outcome, manifest = packing.create(
            session,
            options,
            folder,
            build_id=target,
            epoch=epoch,
            reads=_levels(reads),
            writes=writes,
            compiler={"name": name, "version": version or "0"},
            compatibility=words_of(compat, "compat"),
            roles=words_of(role, "role"),
            sign_with=key_name or options.sign,
        )
    made = str(manifest["runtime_pack_id"])
    total = sum(item["bytes"] for item in manifest["files"])
    return answer(
        "pack.create/1",
        outcome,
        ("create", "created"),
        f"pack {made}: {counted(len(manifest['files']), 'file')}, {size(total)}, build {target}",
        id_=made,
        data={"build": target, "files": len(manifest["files"]), "bytes": total},
        next_=f"muniment build finish --build {target}",
        notes=unsigned(outcome, manifest, "give pack create --key KEY before the build is finished"),
    )


def unsigned(outcome: Outcome, manifest: Mapping[str, Any], then: str) -> list[str]:
    """The note on a pack that registration will refuse for want of signatures, while that can be mended."""
    from muniment.domain.world import policy_of

    needed = policy_of(outcome.world).verification.pack_signatures if outcome.world is not None else 0
    found = len({item["key_id"] for item in manifest["signatures"]})
    if found >= needed or outcome.refusal is not None:
        return []
    return [f"the policy asks for {counted(needed, 'signature')} on a pack, this one has {found}: {then}"]


def _levels(text: str) -> tuple[int, int]:
    from muniment.domain.errors import UsageError

    low, sign, high = text.partition("-")
    high = high if sign else low
    if not (low.isascii() and low.isdigit() and high.isascii() and high.isdigit()) or int(low) > int(high):
        raise UsageError(f"--reads takes LO-HI, got {text[:40]!r}", code="cli.reads", expected="1 or 1-3")
    return int(low), int(high)


@pack.verb(
    "register",
    write=True,
    examples=["muniment pack register build:b-1", "muniment pack register 9f2c41aa03d7"],
)
@PACK
def register(settings: Settings, pack_ref: str) -> Answer:
    """Register a compiled pack: it gets its place in the product's order and is admitted if the guards hold."""
    from muniment.app import packing
    from muniment.cli.refs import pack_id

    with settings.open(write=True) as session:
        target = pack_id(session, pack_ref)
        outcome, manifest = packing.register(session, settings.options(), target)
    event = outcome.event("pack.registered/1") or {}
    return answer(
        "pack.register/1",
        outcome,
        ("register", "registered"),
        f"pack {target} as seq {event.get('seq', '?')} of {manifest['product']}",
        id_=target,
        data={"product": manifest["product"], "seq": event.get("seq")},
        next_=f"muniment pack verify {target}",
    )


@pack.verb(
    "verify",
    write=True,
    examples=["muniment pack verify 9f2c41aa03d7", "muniment pack verify build:b-1 -o json"],
)
@PACK
def verify(settings: Settings, pack_ref: str) -> Answer:
    """Hash every stored byte of a pack again and record the verdict; exit 7 if anything is wrong."""
    from muniment.app import packing
    from muniment.cli.refs import pack_id

    with settings.open(write=True, progress="verified") as session:
        target = pack_id(session, pack_ref)
        outcome, checks = packing.verify(session, settings.options(), target)
    bad = [check for check in checks if check.verdict != "pass"]
    lines = [
        f"  {item.verdict:<4}  {item.id} {item.path}  expected {item.expected}, found {item.observed}".rstrip()
        for item in bad[:20]
    ]
    lines += [f"  … {len(bad) - 20} more"] if len(bad) > 20 else []
    failed = any(check.verdict == "fail" for check in checks)
    return answer(
        "pack.verify/1",
        outcome,
        (f"record {'FAIL' if failed else 'PASS'} for", "FAIL" if failed else "PASS"),
        f"pack {target}: {len(checks) - len(bad)} of {counted(len(checks), 'check')} passed",
        id_=target,
        data={"verdict": "FAIL" if failed else "PASS", "checks": [dict(item._asdict()) for item in checks]},
        lines=lines,
        exit_code=7 if bad else 0,
    )


@pack.verb(
    "block",
    write=True,
    examples=[
        "muniment pack block 9f2c41aa03d7 --scope prod --advisory CVE-2026-1234 --reason 'parser overflow'"
    ],
)
@PACK
@click.option(
    "--scope", default="*", show_default=True, metavar="SCOPE", help="*, ENV, ENV/CHANNEL or a slot."
)
@click.option("--id", "block", metavar="ID", help="Its id; made up if absent.")
@click.option("--advisory", default="", metavar="TEXT", help="What it rests on.")
def block(settings: Settings, pack_ref: str, scope: str, block: str | None, advisory: str) -> Answer:
    """Forbid a pack within a scope. One person may; lifting takes the people that policy asks for."""
    from muniment.app.ids import short_id
    from muniment.cli.refs import pack_id
    from muniment.domain.pack import BlockPack
    from muniment.domain.reference import check_name, check_scope

    name = check_name(block, "a block") if block else short_id("bl-")
    with settings.open(write=True) as session:
        target = pack_id(session, pack_ref)
        outcome = session.run(BlockPack(target, check_scope(scope), name, advisory), settings.options())
    return answer(
        "pack.block/1",
        outcome,
        ("block", "blocked"),
        f"pack {target} in {scope} (block {name})",
        id_=name,
        data={"pack": target, "scope": scope},
    )


@pack.verb(
    "unblock",
    write=True,
    examples=["muniment pack unblock 9f2c41aa03d7 --id bl-4k2qzt7m --reason 'false alarm'"],
)
@PACK
@click.option("--id", "block", required=True, metavar="ID", help="The block to lift.")
def unblock(settings: Settings, pack_ref: str, block: str) -> Answer:
    """Lift one block."""
    from muniment.cli.refs import pack_id
    from muniment.domain.pack import UnblockPack

    with settings.open(write=True) as session:
        target = pack_id(session, pack_ref)
        outcome = session.run(UnblockPack(target, block), settings.options())
    return answer(
        "pack.unblock/1",
        outcome,
        ("lift", "lifted"),
        f"block {block} of pack {target}",
        id_=block,
        data={"pack": target},
    )


@pack.verb(
    "withdraw",
    write=True,
    examples=["muniment pack withdraw 9f2c41aa03d7 --reason 'superseded, end of life'"],
)
@PACK
def withdraw(settings: Settings, pack_ref: str) -> Answer:
    """End a pack for good; it may never be activated again."""
    from muniment.cli.refs import pack_id
    from muniment.domain.pack import Withdraw

    with settings.open(write=True) as session:
        target = pack_id(session, pack_ref)
        outcome = session.run(Withdraw(target), settings.options())
    return answer("pack.withdraw/1", outcome, ("withdraw", "withdrew"), f"pack {target}", id_=target)


@pack.verb(
    "list",
    uses=("where", "fields", "limit", "cursor", "as_of"),
    examples=["muniment pack list", "muniment pack list --where product=gazetteer --fields seq,pack,state"],
)
def list_(settings: Settings) -> Rows:
    """Every pack, by product and order."""
    from muniment.cli.views import listing

    return listing(
        settings,
        "pack.list/1",
        "packs",
        columns=("pack", "product", "seq", "state", "verified", "security_epoch", "build"),
        key="pack",
        empty="no packs",
    )


@pack.verb(
    "show",
    uses=("fields", "as_of"),
    examples=["muniment pack show 9f2c41aa03d7", "muniment pack show build:b-1 -o json"],
)
@PACK
def show(settings: Settings, pack_ref: str) -> Result:
    """One pack: order, verification, blocks, quarantines, files."""
    from muniment.app import packing
    from muniment.cli.refs import pack_id
    from muniment.cli.views import mark_line, one

    with settings.open() as session:
        target = pack_id(session, pack_ref)
        found, as_of = one(settings, session, "packs", "pack", target)
        manifest = packing.manifest_of(session, target)
    data: dict[str, Any] = {**found, "manifest": manifest}
    lines = [
        f"pack {target} is {found['state']}",
        f"  product  {found['product'] or manifest['product']}, seq {found['seq'] or '-'}",
        f"  build    {found['build']}",
        f"  epoch    {found['security_epoch']}, reads {_range(found['reads'])}, writes {found['writes']}",
        f"  files    {found['files']}, {size(found['bytes'])}",
        f"  verified {found['verified']}",
    ]
    lines += [
        f"  blocked  {item['scope']} ({item['block']}) {item['advisory']}".rstrip()
        for item in found["blocks"]
    ]
    lines += [f"  quarantined in {channel}" for channel in found["quarantines"]]
    lines += [mark_line(settings, found["registered"])] if found["registered"] else []
    lines += [mark_line(settings, found["withdrawn"], "ended")] if found["withdrawn"] else []
    return Result("pack.show/1", data, as_of, lines, brief=target)


def _range(levels: list[int]) -> str:
    return "-".join(str(level) for level in dict.fromkeys(levels)) or "-"
