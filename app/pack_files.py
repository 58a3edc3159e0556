"""Runtime packs as files: the manifest, its id, its signatures, and the way in and out of evidence.

1. The pack id is `sha256:` of the canonical manifest without its own id, signatures and `created_at`; so it
   commits to every digest, and who signs, or when, never changes what a pack is (release-rules.md, section
   1).
2. The manifest never lists itself; its files are sorted by the bytes of the path.
3. A pack says nothing about modes, which are no bytes: role `executable` makes a file executable where it
   is put.
"""

from __future__ import annotations

import base64
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from muniment.app.pack_check import Check, PackKey, attack_of, id_bytes, passed, read_manifest, verify_tree
from muniment.app.pack_manifest import MANIFEST, manifest_problems, pack_id, parse_manifest
from muniment.app.tree import Tree, matching
from muniment.domain import canonical
from muniment.domain.errors import InvalidError, UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.evidence import EvidenceStore
from muniment.store.files import NEW, Blob, Memory, Progress, faults, fsync_folder, hash_copy, write_all

__all__ = [
    "MANIFEST", "Check", "PackKey", "StoredPack", "attack_of", "fetch_pack", "make_manifest",
    "manifest_bytes", "manifest_problems", "pack_id", "parse_manifest", "passed", "read_manifest", "sign",
    "store_pack", "verify_tree", "write_manifest",
]  # fmt: skip

DEFAULT_ROLE = "payload"
EXECUTABLE_ROLE = "executable"


class StoredPack(NamedTuple):
    """The evidence of a pack: its manifest, and its files in the manifest's order."""

    manifest: Blob
    files: tuple[Blob, ...]


def make_manifest(
    folder: Path,
    *,
    product: str,
    build: str,
    intake: str,
    security_epoch: int,
    reads: tuple[int, int],
    writes: int,
    compiler: Mapping[str, str],
    config_digest: str,
    compatibility: Mapping[str, Any],
    roles: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """Describe a folder as a pack; the same bytes and arguments give the same manifest.

    Args:
        reads: lowest and highest schema level the pack can read; `writes` is the level it writes.
        roles: path or pattern to role; the first that matches, else `payload`.

    Raises:
        InvalidError: an argument does not fit the manifest. UsageError: the folder holds a link, device or
        bad name.
    """
    files = []
    with Tree(folder, area="pack") as tree:
        for node in tree.files():
            if node.path == MANIFEST:
                continue
            with tree.open(node) as stream:
                blob = hash_copy(stream, None, "", node.size, None, None, folder / node.path)
            role = (roles or {}).get(node.path) or _role(node.path, roles or {})
            files.append({"path": node.path, "role": role, **_digests(blob)})
        tree.unchanged()
    manifest: dict[str, Any] = {
        "manifest_version": "1",
        "product": product,
        "build_id": build,
        "source_intake": intake,
        "compiler": dict(compiler),
        "config_digest": config_digest,
        "security_epoch": security_epoch,
        "schema": {"reads": list(reads), "writes": writes},
        "compatibility": dict(compatibility),
        "canonicalization": canonical.PROFILE,
        "files": files,
        "signatures": [],
    }
    manifest["runtime_pack_id"] = pack_id(manifest)
    if problems := manifest_problems(manifest):
        raise InvalidError(f"not a pack manifest: {problems[0]}", code="pack.manifest", problems=problems)
    return manifest


def _role(path: str, roles: Mapping[str, str]) -> str:
    pattern = matching(path, roles)
    return DEFAULT_ROLE if pattern is None else roles[pattern]


def _digests(blob: Blob) -> dict[str, str | int]:
    return {"sha256": blob.sha256, "blake3": blob.blake3, "bytes": blob.bytes}


def manifest_bytes(manifest: Mapping[str, Any]) -> bytes:
    """The bytes of the manifest file: canonical, so one manifest has one file."""
    return canonical.encode(dict(manifest))


def write_manifest(folder: Path, manifest: Mapping[str, Any]) -> Path:
    """Write the manifest into the folder, durably, replacing an earlier one by one rename."""
    path, work = folder / MANIFEST, folder.parent / f".{folder.name}.{MANIFEST}.{os.getpid()}"
    with faults("write", path, "pack"):
        fd = os.open(work, NEW, 0o644)
        try:
            write_all(fd, manifest_bytes(manifest))
            os.fsync(fd)
        finally:
            os.close(fd)
        work.rename(path)
        fsync_folder(folder)
    return path


def sign(manifest: Mapping[str, Any], private_key: Ed25519PrivateKey, key_id: str) -> dict[str, Any]:
    """Return the manifest with one more signature: Ed25519 over the 32 bytes of the pack id; same key, same
    place."""
    signature = base64.b64encode(private_key.sign(id_bytes(manifest))).decode()
    others = [item for item in manifest["signatures"] if item["key_id"] != key_id]
    entry = {"key_id": key_id, "alg": "ed25519", "signature": signature}
    return {**manifest, "signatures": sorted([*others, entry], key=lambda item: str(item["key_id"]))}


def store_pack(
    folder: Path, manifest: Mapping[str, Any], evidence: EvidenceStore, *, progress: Progress | None = None
) -> StoredPack:
    """Put the manifest and every file it lists in evidence, comparing what is read with what it says.

    Raises:
        WrongError: a file is absent or differs. InvalidError: the manifest is not valid.
    """
    _valid(manifest)
    blobs = []
    with Tree(folder, area="pack") as tree:
        found = {node.path: node for node in tree.files()}
        for item in manifest["files"]:
            node, path = found.get(item["path"]), folder / item["path"]
            if node is None:
                raise WrongError(
                    f"{shown(path)} is absent", code="pack.truncated", expected=f"{item['bytes']} bytes"
                )
            with tree.open(node) as stream:
                blob = evidence.put(stream, size=node.size, progress=progress)
            if blob != _blob(item):
                raise WrongError(
                    f"{shown(path)} is not what the manifest lists",
                    code="pack.file",
                    expected=f"{item['bytes']} bytes, sha256 {item['sha256']}",
                    found=f"{blob.bytes} bytes, sha256 {blob.sha256}",
                )
            blobs.append(blob)
        tree.unchanged()
    return StoredPack(evidence.put(manifest_bytes(manifest)), tuple(blobs))


def fetch_pack(manifest: Mapping[str, Any], evidence: EvidenceStore, into: Path) -> None:
    """Copy a pack out of evidence into a new folder, every byte compared, files and folders synced.

    Raises:
        UsageError: `into` exists. NotFoundError, WrongError: evidence is missing or damaged.
        UnavailableError: disk full, no permission. What is there by then is not a pack.
    """
    _valid(manifest)
    try:
        into.mkdir(mode=0o755)
    except FileExistsError as error:
        raise UsageError(f"{shown(into)} exists", code="pack.exists") from error
    except OSError as error:
        with faults("create", into, "pack"):
            raise error from None
    folders = {into}
    for item in manifest["files"]:
        target = into / item["path"]
        with faults("write", target, "pack"):
            target.parent.mkdir(mode=0o755, parents=True, exist_ok=True)
            folders.update(parent for parent in target.parents if into in parent.parents)
            fd = os.open(target, NEW, 0o555 if item["role"] == EXECUTABLE_ROLE else 0o444)
            try:
                evidence.copy(_blob(item), fd)
                os.fsync(fd)
            finally:
                os.close(fd)
    # the manifest last: a folder without one is never taken for a pack
    with faults("write", into / MANIFEST, "pack"):
        fd = os.open(into / MANIFEST, NEW, 0o444)
        try:
            hash_copy(Memory(manifest_bytes(manifest)), fd, into / MANIFEST, None, None, None, MANIFEST)
            os.fsync(fd)
        finally:
            os.close(fd)
        for folder in sorted(folders, reverse=True):
            fsync_folder(folder)


def _blob(item: Mapping[str, Any]) -> Blob:
    return Blob(item["blake3"], item["sha256"], item["bytes"])


def _valid(manifest: Mapping[str, Any]) -> None:
    if problems := manifest_problems(manifest):
        raise InvalidError(f"not a pack manifest: {problems[0]}", code="pack.manifest", problems=problems)
