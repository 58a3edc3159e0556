"""Hold a folder against a pack manifest: every check of release-rules.md, section 3, that needs only the
files.

1. Every check is evaluated, in a fixed order, whatever failed before; what could not be read is a failure.
2. A file is never read past its declared size: endless data costs one chunk more than the promise.
3. A failure names the class of attack it stands for; none is named where nobody could look.
"""

from __future__ import annotations

import base64
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey
from muniment.app.pack_manifest import MANIFEST, MAX_MANIFEST, manifest_problems, pack_id, parse_manifest
from muniment.app.tree import MAX_FILES, Node, Tree
from muniment.domain.errors import InvalidError, MunimentError, UnavailableError, WrongError
from muniment.domain.os_faults import os_fault, shown
from muniment.store.files import faults, hash_copy, regular

PackKey = Ed25519PublicKey | bytes


class Check(NamedTuple):
    """One check of a pack.

    Attributes:
        verdict: `pass`, `fail` or `not_applicable`.
        attack: the class of attack a failure stands for (release-rules.md, section 4); "" where nobody
        could look.
    """

    id: str
    verdict: str
    expected: str
    observed: str
    path: str = ""
    attack: str = ""


def passed(checks: list[Check]) -> bool:
    """Tell whether something was checked and nothing failed."""
    return any(check.verdict == "pass" for check in checks) and all(
        check.verdict != "fail" for check in checks
    )


def attack_of(checks: list[Check]) -> str:
    """The attack class of the first failure that has one, "" if none has (then nobody could look: exit 8)."""
    return next((check.attack for check in checks if check.verdict == "fail" and check.attack), "")


def read_manifest(folder: Path) -> dict[str, Any]:
    """Read and check the manifest of a folder.

    Raises:
        WrongError: there is none, it is no regular file, or its id is wrong. InvalidError: it does not fit.
        UnavailableError: unreadable.
    """
    path = folder / MANIFEST
    try:
        mode = path.lstat().st_mode
    except FileNotFoundError as error:
        raise WrongError(f"{shown(folder)} has no {MANIFEST}", code="pack.no_manifest") from error
    except OSError as error:
        raise os_fault(error, "look at", path, "pack") from error
    if not stat.S_ISREG(mode):
        raise WrongError(f"{shown(path)} is no regular file", code="pack.manifest_file")
    with regular(path) as (stream, _), faults("read", path, "pack"):
        data = b""
        while len(data) <= MAX_MANIFEST and (chunk := stream.read(MAX_MANIFEST + 1 - len(data))):
            data += chunk
    return parse_manifest(data)


def id_bytes(manifest: Mapping[str, Any]) -> bytes:
    return bytes.fromhex(pack_id(manifest).removeprefix("sha256:"))


def verify_tree(
    folder: Path,
    manifest: Mapping[str, Any],
    *,
    keys: Mapping[str, PackKey],
    threshold: int,
    wanted: str | None = None,
) -> list[Check]:
    """Hold a folder against a manifest: every check, in a fixed order, whatever fails.

    Args:
        keys: the keys that count, by id; leave out those that are revoked, retired or not yet active.
        threshold: distinct keys that must have signed; 0 makes the check not applicable.
        wanted: the pack id asked for.
    """
    checks = [*_manifest_checks(manifest, wanted), _signatures(manifest, keys, threshold)]
    if any(check.id == "manifest.valid" and check.verdict == "fail" for check in checks):
        return [
            *checks,
            Check("tree", "fail", "a valid manifest to compare with", "none", attack="arbitrary_software"),
        ]
    try:
        with Tree(folder, area="pack") as tree:
            nodes = tree.scan(limit=MAX_FILES + 2 * len(manifest["files"]))
            found = {node.path: node for node in nodes}
            checks.append(_own_manifest(folder, manifest))
            checks += [_file(tree, item, found.get(item["path"])) for item in manifest["files"]]
            checks += _extra(nodes, [item["path"] for item in manifest["files"]])
            tree.unchanged()
    except MunimentError as error:
        attack = "" if isinstance(error, UnavailableError) else "arbitrary_software"
        checks.append(Check("tree", "fail", "a folder that can be read", error.message, attack=attack))
    return checks


def _manifest_checks(manifest: Mapping[str, Any], wanted: str | None) -> list[Check]:
    problems = manifest_problems(manifest)
    valid = not problems
    text = "valid" if valid else "; ".join(problems[:5])
    checks = [_check("manifest.valid", valid, "valid", text, attack="arbitrary_software")]
    try:
        found = pack_id(manifest)
    except MunimentError as error:
        found = error.message
    named = str(manifest.get("runtime_pack_id"))
    checks.append(_check("manifest.id", named == found, found, named, attack="arbitrary_software"))
    if wanted is None:
        return [*checks, Check("manifest.wanted", "not_applicable", "", found)]
    return [*checks, _check("manifest.wanted", found == wanted, wanted, found, attack="wrong_software")]


def _signatures(manifest: Mapping[str, Any], keys: Mapping[str, PackKey], threshold: int) -> Check:
    expected = f">= {threshold} of {len(keys)} keys"
    if threshold <= 0:
        return Check("signatures.threshold", "not_applicable", "no threshold is set", "not looked at")
    good: dict[bytes, str] = {}  # by key bytes: one key under two ids counts once
    entries = manifest.get("signatures")
    for entry in entries if isinstance(entries, list) else []:
        try:
            key = keys[entry["key_id"]]
            public = key if isinstance(key, Ed25519PublicKey) else Ed25519PublicKey.from_public_bytes(key)
            public.verify(base64.b64decode(entry["signature"], validate=True), id_bytes(manifest))
            good[public.public_bytes_raw()] = entry["key_id"]
        except (KeyError, TypeError, ValueError, InvalidSignature, MunimentError):
            continue  # does not count; the threshold decides
    observed = f"{len(good)}: {', '.join(sorted(good.values()))}" if good else "0"
    return _check(
        "signatures.threshold", len(good) >= threshold, expected, observed, attack="key_below_threshold"
    )


def _own_manifest(folder: Path, manifest: Mapping[str, Any]) -> Check:
    """The manifest that lies in the folder says the same as the one that is held against it."""
    expected = str(manifest["runtime_pack_id"])
    try:
        found = str(read_manifest(folder)["runtime_pack_id"])
    except UnavailableError as error:
        return Check("manifest.file", "fail", expected, error.message, MANIFEST)
    except WrongError as error:
        attack = "truncated" if error.code == "pack.no_manifest" else "arbitrary_software"
        return Check("manifest.file", "fail", expected, error.message, MANIFEST, attack)
    except InvalidError as error:
        return Check("manifest.file", "fail", expected, error.message, MANIFEST, "arbitrary_software")
    return _check("manifest.file", found == expected, expected, found, MANIFEST, "mix_and_match")


def _file(tree: Tree, item: Mapping[str, Any], node: Node | None) -> Check:
    path, size = item["path"], item["bytes"]
    expected = f"{size} bytes, sha256 {item['sha256']}, blake3 {item['blake3']}"
    if node is None:
        return Check("file", "fail", expected, "absent", path, "truncated")
    if node.kind != "file":
        return Check("file", "fail", expected, f"a {node.kind}", path, "arbitrary_software")
    if node.size != size:
        attack = "truncated" if node.size < size else "endless_data"
        return Check("file", "fail", expected, f"{node.size} bytes", path, attack)
    try:
        with tree.open(node) as stream:
            blob = hash_copy(stream, None, "", size, None, None, tree.root / path)
    except MunimentError as error:
        return Check("file", "fail", expected, error.message, path)
    equal = (blob.sha256, blob.blake3) == (item["sha256"], item["blake3"])
    observed = f"{blob.bytes} bytes, sha256 {blob.sha256}, blake3 {blob.blake3}"
    return _check("file", equal, expected, observed, path, "arbitrary_software")


def _extra(nodes: list[Node], paths: list[str]) -> list[Check]:
    """Nothing but the declared files, the manifest and the folders on the way to them."""
    declared = {*paths, MANIFEST}
    folders = {path[:at] for path in paths for at, char in enumerate(path) if char == "/"}
    strange = [node for node in nodes if node.path not in (folders if node.kind == "folder" else declared)]
    if not strange:
        return [Check("tree.extra", "pass", "nothing but the declared files", "nothing else")]
    return [
        Check(
            "tree.extra",
            "fail",
            "nothing but the declared files",
            node.problem[1] if node.problem else f"a {node.kind}",
            shown(node.path),
            "endless_data" if node.kind == "limit" else "extraneous_dependency",
        )
        for node in strange
    ]


def _check(name: str, good: bool, expected: str, observed: str, path: str = "", attack: str = "") -> Check:
    return Check(name, "pass" if good else "fail", expected, observed, path, "" if good else attack)
