"""Packs, their keys, and targets of the driver `folder`; `import pack_samples` finds it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from muniment.app import folder as driver
from muniment.app.pack_check import Check, passed, verify_tree
from muniment.app.pack_files import make_manifest
from muniment.store.evidence_folder import EvidenceFolder

FILES = {"bin/run": b"#!/bin/sh\n", "data/a": b"alpha", "data/b": b"x" * 3000, "z": b""}
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 4)]
PUBLIC = {f"k{i}": key.public_key() for i, key in enumerate(KEYS)}
SLOT = "prod/stable/eu"


def make(folder: Path, **changes: Any) -> dict[str, Any]:
    """A manifest of the folder; what is said of it may be changed."""
    arguments: dict[str, Any] = {
        "product": "demo",
        "build": "b-1",
        "intake": "sha256:" + "1" * 64,
        "security_epoch": 3,
        "reads": (1, 2),
        "writes": 2,
        "compiler": {"name": "cc", "version": "1.0"},
        "config_digest": "sha256:" + "2" * 64,
        "compatibility": {"runtime": ">=1"},
        "roles": {"bin/*": "executable"},
    }
    return make_manifest(folder, **{**arguments, **changes})


def verify(folder: Path, manifest: dict[str, Any], **options: Any) -> list[Check]:
    return verify_tree(folder, manifest, **{"keys": PUBLIC, "threshold": 0, **options})


def pid(manifest: dict[str, Any]) -> str:
    return str(manifest["runtime_pack_id"])


def install(target: Path, manifest: dict[str, Any], store: EvidenceFolder, attempt: str = "t1") -> Path:
    driver.fetch(target, manifest, store, attempt)
    assert passed(driver.verify(target, attempt, pid(manifest)))
    assert pid(manifest) == driver.stage(target, attempt, pid(manifest))
    return target / "packs" / pid(manifest)[7:]


def overwrite(path: Path, data: bytes) -> None:
    path.chmod(0o600)
    path.write_bytes(data)
