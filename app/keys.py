"""Ed25519 keys of people, services and stores: create, load, list, sign, verify.

Rules:
1. A private key is a PKCS8 PEM file `<name>.pem`, mode 0600, in a folder of mode 0700, both of this user.
   Anything more open is refused when the key is made and when it is used.
2. A key file appears whole or not at all and is never overwritten.
3. A key id is the first 16 hex digits of SHA-256 over the 32 raw bytes of the public key.
4. The signature of a record covers its canonical bytes without `recorded_at` (the store sets it later) and
   without `signature` (settled.md, 4). Canonical bytes hold no newline and a checkpoint body holds three, so
   a signature of one is never a signature of the other.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import os
import re
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import (
    Encoding,
    NoEncryption,
    PrivateFormat,
    PublicFormat,
    load_pem_private_key,
)
from muniment.app.home import make_private
from muniment.domain.envelope import signing_bytes
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UnfitError,
    UsageError,
)
from muniment.store.files import write_new

_NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
_MAX_FILE = 16_384  # bytes; a PKCS8 Ed25519 PEM has 119


class KeyInfo(NamedTuple):
    """A key as listed: `problem` is "", or why it cannot be used (then id and public key are "")."""

    name: str
    key_id: str
    public: str
    problem: str


def create_key(name: str, folder: Path) -> str:
    """Make a key pair, keep its private half in `folder`, and return the key id.

    Raises:
        ConflictError: there is a key of that name.
        UnfitError: the folder is open to others, or cannot be written.
        UsageError: not a name.
    """
    path = _path(name, folder)
    key = Ed25519PrivateKey.generate()
    pem = key.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    try:
        make_private(folder)
        _check_mode(folder, folder.stat(), stat.S_ISDIR)
        write_new(path, pem)  # a link, unlike a rename, fails if the name is taken (rule 2)
    except FileExistsError as error:
        raise ConflictError(
            f"key {name} exists",
            code="key.exists",
            where=str(path),
            hint="choose another name, or rotate the key",
        ) from error
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
        raise (UnavailableError if full else UnfitError)(
            f"key {name} not stored: {error.strerror}",
            code="key.store",
            where=str(path),
            hint="is the folder writable?",
        ) from error
    return key_id(key.public_key())


def load_key(name: str, folder: Path) -> Ed25519PrivateKey:
    """Return the private key of that name.

    Raises:
        NotFoundError: no such key.
        UnfitError: the file or folder is open to others or belongs to somebody else, or cannot be read.
        InvalidError: the file holds no unencrypted Ed25519 private key.
    """
    path = _path(name, folder)
    try:
        _check_mode(folder, folder.stat(), stat.S_ISDIR)
        # O_NONBLOCK: a FIFO in place of the file must not hang; fstat: the mode of the file that is read
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with os.fdopen(descriptor, "rb") as file:
            _check_mode(path, os.fstat(file.fileno()), stat.S_ISREG)
            pem = file.read(_MAX_FILE + 1)
    except FileNotFoundError as error:
        raise NotFoundError(
            f"no key {name}", code="key.none", where=str(path), hint=f"muniment key create {name}"
        ) from error
    except OSError as error:
        raise UnfitError(
            f"key {name} not read: {error.strerror}", code="key.read", where=str(path)
        ) from error
    try:
        key = load_pem_private_key(pem, password=None) if len(pem) <= _MAX_FILE else None
    except (ValueError, TypeError, UnsupportedAlgorithm) as error:
        raise _damaged(name, path) from error
    if not isinstance(key, Ed25519PrivateKey):
        raise _damaged(name, path)
    return key


def list_keys(folder: Path) -> list[KeyInfo]:
    """List every key file of a folder by name, those that cannot be used too; a missing folder holds none."""
    found = []
    for path in sorted(folder.glob("*.pem")):
        try:
            public = load_key(path.stem, folder).public_key()
        except MunimentError as error:
            found.append(KeyInfo(path.stem, "", "", error.message))
        else:
            found.append(KeyInfo(path.stem, key_id(public), public_key_b64(public), ""))
    return found


def key_id(key: Ed25519PublicKey | Ed25519PrivateKey) -> str:
    """The id of a key (rule 3)."""
    return hashlib.sha256(_raw(key)).hexdigest()[:16]


def public_key_b64(key: Ed25519PublicKey | Ed25519PrivateKey) -> str:
    """The 32 raw bytes of the public key in base64."""
    return base64.b64encode(_raw(key)).decode()


def sign(key: Ed25519PrivateKey, message: bytes) -> str:
    """Sign and return the 64 bytes in base64. Source: RFC 8032."""
    return base64.b64encode(key.sign(message)).decode()


def verify(public_b64: str, signature_b64: str, message: bytes) -> bool:
    """Say whether the signature is good; text that is no key or no signature is not."""
    public, signature = _strict_b64(public_b64, 32), _strict_b64(signature_b64, 64)
    if public is None or signature is None:
        return False
    try:
        Ed25519PublicKey.from_public_bytes(public).verify(signature, message)
    except (InvalidSignature, ValueError):
        return False
    return True


def record_signature(key: Ed25519PrivateKey, record: Mapping[str, Any]) -> dict[str, str]:
    """Return the member `signature` of a record: {alg, key_id, signature}, as packs carry it."""
    return {"alg": "ed25519", "key_id": key_id(key), "signature": sign(key, signing_bytes(record))}


def verify_record(record: Mapping[str, Any], public_b64: str) -> bool:
    """Say whether a record carries a good signature by this public key; one without a signature does not."""
    found = record.get("signature")
    public = _strict_b64(public_b64, 32)
    if not isinstance(found, dict) or public is None or set(found) != {"alg", "key_id", "signature"}:
        return False
    if found["alg"] != "ed25519" or found["key_id"] != hashlib.sha256(public).hexdigest()[:16]:
        return False
    return isinstance(found["signature"], str) and verify(
        public_b64, found["signature"], signing_bytes(record)
    )


def _raw(key: Ed25519PublicKey | Ed25519PrivateKey) -> bytes:
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    return public.public_bytes(Encoding.Raw, PublicFormat.Raw)


def _strict_b64(text: str, size: int) -> bytes | None:
    """Decode base64 of exactly one spelling: other padding bits would give one signature many texts."""
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return None
    return data if len(data) == size and base64.b64encode(data).decode() == text else None


def _path(name: str, folder: Path) -> Path:
    if not _NAME.fullmatch(name):
        raise UsageError("not a key name", code="key.name", expected=_NAME.pattern, found=name[:80])
    return folder / f"{name}.pem"


def _damaged(name: str, path: Path) -> InvalidError:
    return InvalidError(
        f"key {name} is damaged",
        code="key.damaged",
        where=str(path),
        expected="an unencrypted Ed25519 private key in PKCS8 PEM",
        hint="restore it from a backup, or rotate the key",
    )


def _check_mode(path: Path, found: os.stat_result, is_kind: Any) -> None:
    """Refuse what others may read or write, or could have made (rule 1)."""
    if not is_kind(found.st_mode):
        raise UnfitError("a key is a plain file in a folder", code="key.kind", where=str(path))
    mode = stat.S_IMODE(found.st_mode)
    if mode & 0o077:
        wanted = "0700" if stat.S_ISDIR(found.st_mode) else "0600"
        raise UnfitError(
            f"{path.name} is open to others",
            code="key.mode",
            where=str(path),
            expected=wanted,
            found=f"{mode:04o}",
            hint=f"chmod {wanted} {path}; if others could read it, rotate the key",
        )
    if found.st_uid not in (os.geteuid(), 0):
        raise UnfitError(
            f"{path.name} belongs to somebody else",
            code="key.owner",
            where=str(path),
            expected=f"uid {os.geteuid()}",
            found=f"uid {found.st_uid}",
        )
