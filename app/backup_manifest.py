"""The manifest of a backup: what must be there, and the comparison with what is there.

It names the head, SHA-256 of `log.db`, of each export, and of the list of the evidence (a line `<blake3> <bytes>` a blob, sorted),
which names each blob by its digest; `digest` covers the manifest itself. That shows damage. Who may write to the folder can
write all of it anew, so against that a signed checkpoint is kept elsewhere (`verify store --against`).
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import msgspec
from muniment import __version__
from muniment.app.copying import Copied
from muniment.app.home import write_atomic
from muniment.app.session import EVIDENCE, EXPORTS
from muniment.domain import instant
from muniment.domain.canonical import encode
from muniment.domain.errors import InvalidError, NotFoundError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.copy_place import MANIFEST
from muniment.store.evidence import EvidenceStore
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.files import CHUNK, faults, regular
from muniment.store.sqlite_file import FILE_NAME

VERSION = 1
_MAX_MANIFEST = 16 << 20  # bytes; 100 for each export


class Sum(msgspec.Struct, forbid_unknown_fields=True):
    """SHA-256 (hex) and size in bytes of a file."""

    sha256: str
    bytes: int


class Evidence(msgspec.Struct, forbid_unknown_fields=True):
    """Number of blobs, their bytes, SHA-256 of their list."""

    files: int
    bytes: int
    sha256: str


class Manifest(msgspec.Struct, forbid_unknown_fields=True):
    """What a backup holds.

    Attributes:
        v: version of this shape. made_at: when, by the host that made it. muniment: what made it.
        size, root, recorded_at: the head.
        as_is: things that are wrong at the source, and were known; 0 if all was right.
        digest: SHA-256 of all the rest, as canonical JSON.
    """

    v: int
    muniment: str
    made_at: str
    store_id: str
    kind: str
    size: int
    root: str
    recorded_at: str
    log: Sum
    evidence: Evidence
    exports: dict[str, Sum]
    as_is: int
    digest: str = ""


def evidence_in(folder: Path, *, read_only: bool) -> EvidenceFolder:
    """The evidence of a backup: its own, wherever `MUNIMENT_EVIDENCE` leads stores."""
    return EvidenceFolder(folder / EVIDENCE, folder / "staging", read_only=read_only)


def write(folder: Path, done: Copied, now: int) -> Manifest:
    """Close a backup: from here on it is one. Raises UnavailableError."""
    manifest = Manifest(
        v=VERSION,
        muniment=__version__,
        made_at=instant.from_micros(now),
        store_id=done.store_id,
        kind=done.kind,
        size=done.head.size,
        root=done.head.root.hex(),
        recorded_at=done.head.recorded_at,
        log=_sum(folder / FILE_NAME),
        evidence=_list(evidence_in(folder, read_only=True)),
        exports={name: _sum(folder / EXPORTS / name) for name in done.checkpoints},
        as_is=len(done.wrong),
    )
    manifest.digest = _digest(manifest)
    with faults("write", folder / MANIFEST, "backup"):
        write_atomic(folder / MANIFEST, msgspec.json.format(encode(msgspec.to_builtins(manifest))) + b"\n")
    return manifest


def read(folder: Path) -> Manifest:
    """Read the manifest.

    Raises:
        NotFoundError: no such folder. WrongError: none there, or damaged. InvalidError: of a newer version.
    """
    path = folder / MANIFEST
    if not folder.is_dir():
        raise NotFoundError(f"no backup at {shown(folder)}", code="backup.none", hint="name its folder")
    if not path.exists():
        raise WrongError(
            f"{shown(folder)} is no backup, or one that was cut",
            code="backup.unfinished",
            hint="give the same muniment store backup again, it goes on; or take another one",
            expected=MANIFEST,
            found="no such file",
        )
    with regular(path) as (stream, _), faults("read", path, "backup"):
        data = stream.read(_MAX_MANIFEST)
    try:
        found: Any = msgspec.json.decode(data)
        version = found["v"]
        if type(version) is int and version > VERSION:
            raise InvalidError(
                f"{shown(folder)} is a backup of a newer version",
                code="backup.version",
                hint="use a newer Muniment",
                expected=VERSION,
                found=version,
            )
        manifest = msgspec.convert(found, Manifest)
        bytes.fromhex(manifest.root)
    except (msgspec.MsgspecError, KeyError, TypeError, ValueError) as error:
        raise damaged(folder, MANIFEST, "a manifest", str(error)[:100]) from error
    if manifest.v != VERSION or manifest.digest != _digest(manifest):
        raise damaged(folder, MANIFEST, manifest.digest, _digest(manifest))
    return manifest


def _digest(manifest: Manifest) -> str:
    body: Mapping[str, Any] = msgspec.to_builtins(manifest)
    return hashlib.sha256(encode({key: value for key, value in body.items() if key != "digest"})).hexdigest()


def compare(folder: Path, manifest: Manifest) -> None:
    """Demand every file that the manifest names, as it was.

    Raises:
        WrongError: one differs. UnavailableError: unreadable.
    """
    files = {FILE_NAME: manifest.log, **{f"{EXPORTS}/{name}": one for name, one in manifest.exports.items()}}
    for name, expected in files.items():
        path = folder / name
        if path.is_symlink() or not path.is_file() or path.resolve() != folder.resolve() / name:
            raise damaged(folder, name, "a file", "none")
        found = _sum(path)
        if found != expected:
            raise damaged(
                folder,
                name,
                f"{expected.bytes} bytes, {expected.sha256}",
                f"{found.bytes} bytes, {found.sha256}",
            )
    wal = folder / f"{FILE_NAME}-wal"
    if wal.exists() and wal.stat().st_size:
        raise damaged(folder, wal.name, "nothing", f"{wal.stat().st_size} bytes")
    evidence = _list(evidence_in(folder, read_only=True))
    if evidence != manifest.evidence:
        raise damaged(
            folder,
            "the list of its evidence",
            f"{manifest.evidence.files} files, {manifest.evidence.sha256}",
            f"{evidence.files} files, {evidence.sha256}",
        )


def _sum(path: Path) -> Sum:
    digest, size = hashlib.sha256(), 0
    with regular(path) as (stream, _), faults("read", path, "backup"):
        while chunk := stream.read(CHUNK):
            digest.update(chunk)
            size += len(chunk)
    return Sum(digest.hexdigest(), size)


def _list(evidence: EvidenceStore) -> Evidence:
    digest, files, size = hashlib.sha256(), 0, 0
    for blake3, count in evidence.iter():
        digest.update(f"{blake3} {count}\n".encode())
        files, size = files + 1, size + count
    return Evidence(files, size, digest.hexdigest())


def damaged(folder: Path, what: str, expected: str, found: str) -> WrongError:
    """The error for a backup that is not as it was made."""
    return WrongError(
        f"{shown(folder)}: the backup is damaged: {what}",
        code="backup.damaged",
        hint="restore another one; nothing was made of this one",
        expected=expected,
        found=found,
    )
