"""Packs: create from a build's output, reproduce, register, verify."""

from __future__ import annotations

import base64
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO

import msgspec
from muniment.app import building, ids, keys, pack_files
from muniment.app.pack_check import Check, attack_of, id_bytes
from muniment.app.pack_manifest import pack_id, parse_manifest
from muniment.app.request import Outcome
from muniment.app.runner import run_stage
from muniment.app.session import Options, Session
from muniment.app.stage_record import check_command
from muniment.domain import build as builds
from muniment.domain import pack as packs
from muniment.domain.canonical import digest, encode
from muniment.domain.decision import Fact
from muniment.domain.errors import InvalidError, NotFoundError, UnavailableError, UsageError, WrongError
from muniment.domain.folding import FOLD
from muniment.domain.identity_state import IDENTITY_ITEM
from muniment.domain.query import Item
from muniment.domain.reference import check_pack
from muniment.domain.states import Key
from muniment.domain.world import World, fold
from muniment.store.files import faults

NO_CONFIG = digest({})
NO_PACK = "sha256:" + "0" * 64  # the second pack of a build that has no first one; always refused
_ATTACKS = {"missing": "truncated", "size": "truncated", "unreadable": ""}
PACK_TYPE = "application/vnd.muniment.runtime-pack-manifest+json"


def create(
    session: Session,
    options: Options,
    folder: str,
    *,
    build_id: str,
    epoch: int = 0,
    reads: tuple[int, int] = (1, 1),
    writes: int = 1,
    compiler: Mapping[str, str] | None = None,
    compatibility: Mapping[str, Any] | None = None,
    roles: Mapping[str, str] | None = None,
    sign_with: str = "",
) -> tuple[Outcome, dict[str, Any]]:
    """Describe a folder as the build's pack, keep every file as evidence, record what was compiled.

    Args:
        folder: a path, or `{out.STAGE}` for the outputs of a stage.
        sign_with: name of an identity key that signs the pack.
    """
    state = building.state_of(session, build_id)
    place = building.expand_path(session, state, folder)
    manifest = pack_files.make_manifest(
        place,
        product=state.product,
        build=build_id,
        intake=state.intake_digest,
        security_epoch=epoch,
        reads=reads,
        writes=writes,
        compiler=dict(compiler or {"name": "unknown", "version": "0"}),
        config_digest=state.config_digest or NO_CONFIG,
        compatibility=dict(compatibility or {}),
        roles=roles,
    )
    if sign_with:
        private = keys.load_key(sign_with, session.keys)
        manifest = pack_files.sign(manifest, private, keys.key_id(private))
    evidence: list[dict[str, Any]] = []
    if not options.dry_run:
        stored = pack_files.store_pack(place, manifest, session.evidence, progress=session.progress)
        evidence = [stored.manifest.as_evidence("pack-manifest", PACK_TYPE)]
    command = builds.Compile(
        build=build_id,
        pack=str(manifest["runtime_pack_id"]),
        files=len(manifest["files"]),
        bytes=sum(item["bytes"] for item in manifest["files"]),
        compiler=manifest["compiler"],
        evidence=evidence,
    )
    return session.run(command, options), manifest


def compiled(session: Session, pack: str) -> Fact:
    """The record that names a pack as compiled.

    Raises:
        NotFoundError: no build of this store compiled it.
    """
    fact = session.last(Item(("build.compiled/1",), (f"pack:{check_pack(pack)}",)))
    if fact is None:
        raise NotFoundError(
            f"no build here compiled pack {pack}", code="pack.unknown", hint="muniment pack list"
        )
    return fact


def manifest_of(session: Session, pack: str) -> dict[str, Any]:
    """The manifest of a compiled pack, read from evidence and checked against its id."""
    fact = compiled(session, pack)
    raw = encode(building.named_manifest(session, fact, "pack-manifest"))
    manifest = parse_manifest(raw)
    if pack_id(manifest) != pack:
        raise WrongError(
            "the stored manifest is another pack's",
            code="pack.manifest",
            expected=pack,
            found=pack_id(manifest),
        )
    return manifest


def reproduce(
    session: Session,
    options: Options,
    *,
    build_id: str,
    folder: str = "",
    argv: Sequence[str] = (),
    env: Mapping[str, str] | None = None,
    timeout_s: float | None = None,
    tee: BinaryIO | None = None,
) -> tuple[Outcome, str]:
    """Compare a second compile: a folder, or a command that is run again on the same input.

    A repeated idempotency key runs nothing and gives the recorded outcome. A dry run runs nothing either, and decides as if
    the second pack were equal. A second tree that differs is kept for the comparison.

    Raises:
        UsageError: neither or both. UnavailableError: the command did not end well, so nothing can be compared.
    """
    if bool(folder) == bool(argv):
        raise UsageError(
            "give either a folder or a command", code="build.second", hint="--from DIR, or -- COMMAND"
        )
    if argv:
        check_command(argv, env or {}, timeout_s)
    if (known := session.recorded(options, "build.reproduce", build=build_id)) is not None:
        return known, str((known.event("build.reproduced/1") or {}).get("second", ""))
    state = building.state_of(session, build_id)
    if not state.pack or (argv and options.dry_run):
        return session.run(builds.Reproduce(build_id, state.pack or NO_PACK), options), state.pack
    first = manifest_of(session, state.pack)
    if folder:
        return _compare(session, options, build_id, building.expand_path(session, state, folder), first)
    attempt = ids.short_id("re-")
    place, output = session.work(build_id, attempt), session.work(build_id, attempt, "output")
    with faults("look at", "the current folder", "stage"):
        here = Path.cwd()
    with building.materialized(session, state.intake, place) as given:
        words = building.expand(session, state, argv, str(given), str(output))
        run = run_stage(words, cwd=here, env=env or {}, timeout_s=timeout_s, log_dir=place / "logs", tee=tee)
    if run.status != "PASS":
        raise UnavailableError(
            f"the second compile ended as {run.status}: {run.reason or run.exit_code}",
            code="build.second_failed",
            hint=f"see {run.stderr.path}",
        )
    answer = _compare(session, options, build_id, output, first)
    if answer[1] == state.pack:
        shutil.rmtree(output, ignore_errors=True)
    return answer


def _compare(
    session: Session, options: Options, build_id: str, place: Path, first: Mapping[str, Any]
) -> tuple[Outcome, str]:
    second = pack_files.make_manifest(
        place,
        product=first["product"],
        build=first["build_id"],
        intake=first["source_intake"],
        security_epoch=first["security_epoch"],
        reads=tuple(first["schema"]["reads"]),
        writes=first["schema"]["writes"],
        compiler=first["compiler"],
        config_digest=first["config_digest"],
        compatibility=first["compatibility"],
        roles={item["path"]: item["role"] for item in first["files"]},
    )
    found = str(second["runtime_pack_id"])
    return session.run(builds.Reproduce(build_id, found), options), found


def live_keys(session: Session) -> dict[str, Key]:
    """Identity keys bound in this store and not revoked."""
    world = fold(World(), session.facts((IDENTITY_ITEM,)), FOLD)
    return {key_id: key for key_id, key in world.keys.items() if key.revoked is None}


def signers(session: Session, manifest: Mapping[str, Any]) -> list[str]:
    """Ids of the live keys whose signature on the manifest is good, sorted."""
    known = live_keys(session)
    good = {
        item["key_id"]
        for item in manifest["signatures"]
        if item["key_id"] in known
        and keys.verify(known[item["key_id"]].public_key, item["signature"], id_bytes(manifest))
    }
    return sorted(good)


def register(session: Session, options: Options, pack: str) -> tuple[Outcome, dict[str, Any]]:
    """Register a compiled pack: the store assigns its order, and admits it when the guards hold."""
    if (known := session.recorded(options, "pack.register", pack=pack)) is not None:
        return known, manifest_of(session, pack)
    fact = compiled(session, pack)
    manifest = manifest_of(session, pack)
    command = packs.Register(
        pack=pack,
        product=manifest["product"],
        build=manifest["build_id"],
        security_epoch=manifest["security_epoch"],
        reads=list(manifest["schema"]["reads"]),
        writes=manifest["schema"]["writes"],
        files=len(manifest["files"]),
        bytes=sum(item["bytes"] for item in manifest["files"]),
        signed_by=signers(session, manifest),
        available=not session.evidence.missing(item["blake3"] for item in manifest["files"]),
        evidence=[item for item in fact.evidence if item["role"] == "pack-manifest"],
    )
    return session.run(command, options), manifest


def stored_checks(session: Session, pack: str) -> list[Check]:
    """Every byte of a stored pack, hashed again; every check evaluated. A failure without an attack: nobody could look."""
    try:
        manifest = manifest_of(session, pack)
    except (WrongError, InvalidError) as error:
        expected = "the manifest this pack id names"
        return [Check("manifest.valid", "fail", expected, error.message, attack="arbitrary_software")]
    except UnavailableError as error:
        return [Check("manifest.valid", "fail", "a manifest that can be read", error.message)]
    checks = [Check("manifest.id", "pass", pack, pack)]
    for item in manifest["files"]:
        problem = session.evidence.check(item["blake3"], item["sha256"], item["bytes"])
        if problem is None:
            checks.append(Check("file", "pass", item["sha256"], item["sha256"], item["path"]))
        else:
            attack = _ATTACKS.get(problem.code, "arbitrary_software")
            checks.append(Check("file", "fail", problem.expected, problem.found, item["path"], attack))
    return checks


def as_data(checks: Sequence[Check], *, limit: int = 100) -> list[dict[str, Any]]:
    """Checks as they stand in a record: every one that did not pass, and the first of the others up to the limit."""
    bad = [check for check in checks if check.verdict != "pass"]
    good = [check for check in checks if check.verdict == "pass"]
    kept = [*bad[:limit], *good[: max(limit - len(bad), 0)]]
    left = len(checks) - len(kept)
    rows: list[dict[str, Any]] = [msgspec.to_builtins(check._asdict()) for check in kept]
    if left:
        word = "fail" if len(bad) > limit else "pass"
        rows.append(
            {
                "id": "further",
                "verdict": word,
                "expected": "",
                "observed": f"{left} more",
                "path": "",
                "attack": "",
            }
        )
    return rows


def verify(session: Session, options: Options, pack: str) -> tuple[Outcome, list[Check]]:
    """Verify the stored bytes of a pack and record the verdict (R2).

    Raises:
        UnavailableError: nothing is wrong with what could be read, and something could not be read; nothing is recorded, since
            FAIL says that somebody looked.
    """
    compiled(session, pack)
    if (known := session.recorded(options, "pack.verify", pack=pack)) is not None:
        made = (known.event("pack.reverified/1") or {}).get("checks", [])
        return known, [msgspec.convert(tuple(row[f] for f in Check._fields), Check) for row in made]
    checks = stored_checks(session, pack)
    failed = [check for check in checks if check.verdict == "fail"]
    if failed and not attack_of(checks):
        raise UnavailableError(
            f"pack {pack} cannot be read: {failed[0].observed}",
            code="pack.unreadable",
            hint="check owner and mode of the evidence folder and its disk",
            expected=failed[0].expected,
            found=f"{len(failed)} of {len(checks)} checks could not look",
        )
    command = packs.RecordVerification(pack, "FAIL" if failed else "PASS", packs.STORE_SITE, as_data(checks))
    return session.run(command, options), checks


def public_keys(session: Session) -> dict[str, bytes]:
    """Raw public keys of the live identities, by key id, for checks on a target."""
    return {key_id: base64.b64decode(key.public_key) for key_id, key in live_keys(session).items()}
