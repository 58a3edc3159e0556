"""Signed heads of a log: C2SP tlog-checkpoint in a C2SP signed note.

    origin                      body: three lines or more, none empty; signed with its last newline
    size
    base64(root)
    [extension lines]

    — name base64(4-byte key hash || Ed25519 signature)

Rules:
1. One spelling: base64 as the encoder writes it, decimal without leading zeroes, lines end in U+000A, nothing
   else below U+0020.
2. Extension lines are kept and mean nothing here (settled.md, 24).
3. A signature counts only under a key the caller brought: name and key hash must both match. Other signatures
   are ignored; one by a known key that fails refuses the note, whatever else stands in it.
4. An empty log has one root, SHA-256 of nothing (RFC 6962, section 2.1).

Source: c2sp.org/signed-note and c2sp.org/tlog-checkpoint, v1.0.0.
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat
from muniment.domain.errors import InvalidError, WrongError

MAX_NOTE = 1_048_576  # bytes; clients must take 16 signatures of up to 5 kB (signed-note, Format)
MAX_SIGNATURES = 100
MAX_SIZE = 2**63 - 1
EMPTY_ROOT = hashlib.sha256(b"").digest()

_ED25519 = b"\x01"
_MARK = "— "
_SIZE = re.compile(r"0|[1-9][0-9]{0,18}")
_HASH = re.compile(r"[0-9a-f]{8}")


@dataclass(frozen=True, slots=True)
class Checkpoint:
    """A head: origin (the log's name), size in leaves, 32-byte root, extension lines.

    Raises:
        InvalidError: a part that has no place in a checkpoint.
    """

    origin: str
    size: int
    root: bytes
    extensions: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for line in (self.origin, *self.extensions):
            if not line or _has_control(line):
                raise _invalid("a line is empty or holds a control character", found=repr(line[:80]))
        if not 0 <= self.size <= MAX_SIZE:
            raise _invalid("size out of range", expected=f"0..{MAX_SIZE}", found=self.size)
        if len(self.root) != 32:
            raise _invalid("root is not 32 bytes", found=len(self.root))
        if self.size == 0 and self.root != EMPTY_ROOT:
            raise _invalid("root of an empty log", expected=EMPTY_ROOT.hex(), found=self.root.hex())

    def body(self) -> bytes:
        """The text that is signed."""
        root = base64.b64encode(self.root).decode()
        return "".join(f"{line}\n" for line in (self.origin, self.size, root, *self.extensions)).encode()


class NoteSignature(NamedTuple):
    """A signature line: key name, 4-byte key hash, signature bytes of whatever algorithm."""

    name: str
    key_hash: bytes
    signature: bytes


class SignedCheckpoint(NamedTuple):
    """A parsed note. Nothing in it is proven before `verify`."""

    checkpoint: Checkpoint
    signatures: tuple[NoteSignature, ...]


class VerifierKey(NamedTuple):
    """A public key by name: 4-byte key hash and 32 raw bytes."""

    name: str
    key_hash: bytes
    public: bytes

    def __str__(self) -> str:
        """The text form `name+hash+base64(0x01 || public key)`."""
        return f"{self.name}+{self.key_hash.hex()}+{base64.b64encode(_ED25519 + self.public).decode()}"


def key_hash(name: str, public: bytes) -> bytes:
    """First four bytes of SHA-256(name, newline, 0x01, public key)."""
    return hashlib.sha256(name.encode() + b"\n" + _ED25519 + public).digest()[:4]


def verifier_key(name: str, key: Ed25519PublicKey | Ed25519PrivateKey) -> VerifierKey:
    """Return what others need to check signatures of this key; `str()` gives the text to hand out.

    Raises:
        InvalidError: an empty name, or one with a space or plus.
    """
    _check_name(name)
    public = key.public_key() if isinstance(key, Ed25519PrivateKey) else key
    raw = public.public_bytes(Encoding.Raw, PublicFormat.Raw)
    return VerifierKey(name, key_hash(name, raw), raw)


def parse_verifier_key(text: str) -> VerifierKey:
    """Read `name+hash+base64(0x01 || public key)`.

    Raises:
        InvalidError: another shape or algorithm, or a hash that is not the key's.
    """
    parts = text.split("+", 2)  # base64 may hold a plus, a name may not
    if len(parts) != 3:
        raise _invalid("not a verifier key", expected="name+hash+base64", found=text[:120])
    name, digest, encoded = parts
    _check_name(name)
    data = _unbase64(encoded)
    if not _HASH.fullmatch(digest) or len(data) != 33 or data[:1] != _ED25519:
        raise _invalid(
            "not an Ed25519 verifier key", expected="8 hex digits, 0x01 and 32 bytes", found=text[:120]
        )
    key = VerifierKey(name, key_hash(name, data[1:]), data[1:])
    if key.key_hash.hex() != digest:
        raise _invalid("hash of a verifier key", expected=key.key_hash.hex(), found=digest)
    return key


def sign(checkpoint: Checkpoint, key: Ed25519PrivateKey, name: str = "") -> bytes:
    """Return the note with one signature; the key's name is the origin unless given, as C2SP advises."""
    return cosign(checkpoint.body() + b"\n", key, name or checkpoint.origin)


def cosign(note: bytes, key: Ed25519PrivateKey, name: str) -> bytes:
    """Return the note with one more signature line over the same body.

    Raises:
        InvalidError: not a note, or a name that no key may have.
    """
    body = _split(note)[0]
    verifier = verifier_key(name, key)
    encoded = base64.b64encode(verifier.key_hash + key.sign(body)).decode()
    return note + f"{_MARK}{name} {encoded}\n".encode()


def parse(note: bytes) -> SignedCheckpoint:
    """Read a note by shape only.

    Raises:
        InvalidError: any departure from rule 1, no signature, too many or too much.
    """
    body, lines = _split(note)
    text = body.decode().split("\n")[:-1]
    if len(text) < 3:
        raise _invalid("body is too short", expected="origin, size, root", found=len(text))
    origin, size, root, *extensions = text
    if not _SIZE.fullmatch(size):
        raise _invalid("size is no plain decimal", found=size[:80])
    checkpoint = Checkpoint(origin, int(size), _unbase64(root), tuple(extensions))
    if not 1 <= len(lines) <= MAX_SIGNATURES:
        raise _invalid("number of signatures", expected=f"1..{MAX_SIGNATURES}", found=len(lines))
    return SignedCheckpoint(checkpoint, tuple(_parse_signature(line) for line in lines))


def verify(note: bytes, keys: Sequence[VerifierKey], *, origin: str = "") -> Checkpoint:
    """Return the checkpoint if a given key signed it and no given key's signature fails (rule 3).

    Args:
        keys: from the caller, never from the thing being verified.
        origin: demand this origin if given.

    Raises:
        InvalidError: not a checkpoint.
        WrongError: no signature by a given key, one that fails, or another origin.
    """
    found = parse(note)
    body = found.checkpoint.body()
    known = {(key.name, key.key_hash): key for key in keys}
    signed = False
    for name, digest, signature in found.signatures:
        key = known.get((name, digest))
        if key is None:
            continue
        try:
            Ed25519PublicKey.from_public_bytes(key.public).verify(signature, body)
        except (InvalidSignature, ValueError) as error:
            raise WrongError(
                f"checkpoint signature by {name} is wrong",
                code="checkpoint.signature",
                origin=found.checkpoint.origin,
                size=found.checkpoint.size,
            ) from error
        signed = True
    if not signed:
        raise WrongError(
            "checkpoint carries no signature by a given key",
            code="checkpoint.unsigned",
            expected=[str(key) for key in keys],
            found=[f"{name}+{digest.hex()}" for name, digest, _ in found.signatures],
        )
    if origin and found.checkpoint.origin != origin:
        raise WrongError(
            "checkpoint of another log",
            code="checkpoint.origin",
            expected=origin,
            found=found.checkpoint.origin,
        )
    return found.checkpoint


def _split(note: bytes) -> tuple[bytes, list[str]]:
    """Part body and signature lines at the only empty line."""
    if len(note) > MAX_NOTE:
        raise _invalid("note is too long", expected=f"<= {MAX_NOTE} bytes", found=len(note))
    try:
        text = note.decode()
    except UnicodeDecodeError as error:
        raise _invalid("note is not UTF-8", found=f"byte {error.start}") from error
    body, blank, tail = text.partition("\n\n")
    if not blank or not text.endswith("\n") or _has_control(text.replace("\n", "")):
        raise _invalid(
            "not a signed note", expected="body, empty line, signature lines, each with its newline"
        )
    return f"{body}\n".encode(), tail.split("\n")[:-1]


def _parse_signature(line: str) -> NoteSignature:
    name, _, encoded = line.removeprefix(_MARK).partition(" ")
    if not line.startswith(_MARK):
        raise _invalid("not a signature line", expected="— name base64", found=line[:80])
    _check_name(name)
    data = _unbase64(encoded)
    if len(data) < 5:
        raise _invalid("signature is too short", expected="> 4 bytes", found=len(data))
    return NoteSignature(name, data[:4], data[4:])


def _check_name(name: str) -> None:
    if not name or "+" in name or _has_control(name) or any(char.isspace() for char in name):
        raise _invalid("not a key name", expected="no space, no plus, not empty", found=repr(name[:80]))


def _has_control(text: str) -> bool:
    return any(char < " " for char in text)


def _unbase64(text: str) -> bytes:
    try:
        data = base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError) as error:
        raise _invalid("not base64", found=text[:80]) from error
    if base64.b64encode(data).decode() != text:
        raise _invalid(
            "base64 in another spelling", expected=base64.b64encode(data).decode(), found=text[:80]
        )
    return data


def _invalid(message: str, *, expected: object = "", found: object = "") -> InvalidError:
    return InvalidError(f"checkpoint: {message}", code="checkpoint.syntax", expected=expected, found=found)
