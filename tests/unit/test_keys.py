"""Keys on disk and the signature of a record."""

from __future__ import annotations

import base64
import hashlib
import os
import stat

import pytest
from cryptography.hazmat.primitives.asymmetric.ec import SECP256R1, generate_private_key
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from cryptography.hazmat.primitives.serialization import (
    BestAvailableEncryption,
    Encoding,
    NoEncryption,
    PrivateFormat,
)
from muniment.app import keys
from muniment.domain.errors import ConflictError, InvalidError, NotFoundError, UnfitError, UsageError

# RFC 8032, section 7.1, TEST 1 and TEST 2: secret key, public key, message, signature
RFC_8032 = [
    (
        "9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60",
        "d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a",
        "",
        "e5564300c360ac729086e2cc806e828a84877f1eb8e5d974d873e065224901555fb8821590a33bacc61e39701cf9b46bd25bf5f0595bbe24655141438e7a100b",
    ),
    (
        "4ccd089b28ff96da9db6c346ec114e0f5b8a319f35aba624da8cf6ed4fb8a6fb",
        "3d4017c3e843895a92b70aa74d1b7ebc9c982ccf2ec4968cc0cd55f12af4660c",
        "72",
        "92a009a9f0d4cab8720e820b5f642540a2b27b5416503f8fb3762223ebdb69da085ac1e43e15996e458f3613d0f11d8c387b2eaeb4302aeeb00d291612bb0c00",
    ),
]


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "home" / "keys" / "s-1"


@pytest.fixture
def key():
    return Ed25519PrivateKey.from_private_bytes(bytes(range(32)))


@pytest.mark.parametrize(("secret", "public", "message", "signature"), RFC_8032)
def test_rfc_8032_vectors(secret, public, message, signature) -> None:
    signer = Ed25519PrivateKey.from_private_bytes(bytes.fromhex(secret))
    expected = base64.b64encode(bytes.fromhex(signature)).decode()
    assert expected == keys.sign(signer, bytes.fromhex(message))
    assert keys.public_key_b64(signer) == base64.b64encode(bytes.fromhex(public)).decode()
    assert keys.key_id(signer) == hashlib.sha256(bytes.fromhex(public)).hexdigest()[:16]
    assert keys.verify(keys.public_key_b64(signer), expected, bytes.fromhex(message))


def test_create_load_list(folder) -> None:
    old = os.umask(0)
    try:
        made = keys.create_key("alice", folder)
    finally:
        os.umask(old)
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    assert stat.S_IMODE((folder / "alice.pem").stat().st_mode) == 0o600
    assert [path.name for path in folder.iterdir()] == ["alice.pem"]
    assert keys.key_id(keys.load_key("alice", folder)) == made
    info = keys.list_keys(folder)
    assert [(item.name, item.key_id, item.problem) for item in info] == [("alice", made, "")]
    assert keys.list_keys(folder / "none") == []


def test_key_is_never_overwritten(folder) -> None:
    keys.create_key("alice", folder)
    before = (folder / "alice.pem").read_bytes()
    with pytest.raises(ConflictError):
        keys.create_key("alice", folder)
    assert (folder / "alice.pem").read_bytes() == before
    assert len(list(folder.iterdir())) == 1


@pytest.mark.parametrize("mode", [0o640, 0o604, 0o620, 0o602, 0o601, 0o660, 0o777])
def test_open_key_file_is_refused(folder, mode) -> None:
    keys.create_key("alice", folder)
    (folder / "alice.pem").chmod(mode)
    with pytest.raises(UnfitError, match="open to others"):
        keys.load_key("alice", folder)
    assert "open to others" in keys.list_keys(folder)[0].problem


@pytest.mark.parametrize("mode", [0o750, 0o705, 0o777])
def test_open_folder_is_refused(folder, mode) -> None:
    keys.create_key("alice", folder)
    folder.chmod(mode)
    for function in (keys.load_key, keys.create_key):
        with pytest.raises(UnfitError):
            function("alice", folder)


def test_link_fifo_and_folder_are_no_key(folder) -> None:
    keys.create_key("alice", folder)
    (folder / "link.pem").symlink_to("alice.pem")
    os.mkfifo(folder / "fifo.pem", 0o600)
    (folder / "dir.pem").mkdir(mode=0o700)
    for name in ("link", "fifo", "dir"):
        with pytest.raises(UnfitError):
            keys.load_key(name, folder)


def test_somebody_elses_key(folder) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root can give a file away")
    keys.create_key("alice", folder)
    os.chown(folder / "alice.pem", 12345, -1)
    with pytest.raises(UnfitError, match="somebody else"):
        keys.load_key("alice", folder)


def _pem(other, protection=None) -> bytes:
    return other.private_bytes(Encoding.PEM, PrivateFormat.PKCS8, protection or NoEncryption())


@pytest.mark.parametrize(
    "data",
    [
        b"",
        b"x" * 20_000,
        b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n",
        _pem(generate_private_key(SECP256R1())),
        _pem(Ed25519PrivateKey.generate(), BestAvailableEncryption(b"secret")),
        _pem(Ed25519PrivateKey.generate())[:60],
    ],
    ids=["empty", "long", "short", "other-curve", "encrypted", "cut"],
)
def test_damaged_key(folder, data) -> None:
    keys.create_key("alice", folder)
    (folder / "alice.pem").write_bytes(data)
    with pytest.raises(InvalidError, match="damaged"):
        keys.load_key("alice", folder)


def test_absent_key_and_folder(folder) -> None:
    with pytest.raises(NotFoundError):
        keys.load_key("alice", folder)
    keys.create_key("alice", folder)
    with pytest.raises(NotFoundError):
        keys.load_key("bob", folder)


@pytest.mark.parametrize("name", ["", "../alice", "a/b", "Alice", ".hidden", "a" * 65, "a\n", "a\0"])
def test_not_a_key_name(folder, name) -> None:
    for function in (keys.load_key, keys.create_key):
        with pytest.raises(UsageError):
            function(name, folder)


def test_unwritable_place(tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnfitError):
        keys.create_key("alice", tmp_path / "file" / "keys")


def test_every_flipped_bit_of_a_signature_is_refused(key) -> None:
    public, signature = keys.public_key_b64(key), base64.b64decode(keys.sign(key, b"message"))
    assert keys.verify(public, base64.b64encode(signature).decode(), b"message")
    for bit in range(512):
        forged = bytearray(signature)
        forged[bit // 8] ^= 1 << bit % 8
        assert not keys.verify(public, base64.b64encode(forged).decode(), b"message")


@pytest.mark.parametrize("text", ["", "=", "A", "é", "AAAA", "A" * 88, " " * 88])
def test_text_that_is_no_signature_or_key(key, text) -> None:
    good = keys.sign(key, b"m")
    assert not keys.verify(keys.public_key_b64(key), text, b"m")
    assert not keys.verify(text, good, b"m")
    assert not keys.verify(keys.public_key_b64(key), good + "\n", b"m")


def test_base64_in_another_spelling_is_refused(key) -> None:
    good = keys.sign(key, b"m")
    alphabet = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/"
    other = good[:85] + alphabet[alphabet.index(good[85]) | 1] + "=="
    assert base64.b64decode(other) == base64.b64decode(good)
    assert other != good
    assert not keys.verify(keys.public_key_b64(key), other, b"m")


RECORD = {"actor": {"id": "alice"}, "data": {"n": 1}, "type": "x.y/1"}


def test_signing_bytes() -> None:
    record = {"type": "x/1", "signature": {"key": "k"}, "recorded_at": "now", "data": {"signature": 1}}
    assert keys.signing_bytes(record) == b'{"data":{"signature":1},"type":"x/1"}'
    assert set(record) == {"type", "signature", "recorded_at", "data"}


def test_record_signature_survives_recording_and_nothing_else(key) -> None:
    signature = keys.record_signature(key, RECORD)
    public = keys.public_key_b64(key)
    record = {**RECORD, "signature": signature}
    assert keys.verify_record({**record, "recorded_at": "2026-11-20T00:00:00.000000Z"}, public)
    assert not keys.verify_record({**record, "data": {"n": 2}}, public)
    assert not keys.verify_record({**record, "actor": {"id": "bob"}}, public)
    assert not keys.verify_record({**record, "extra": None}, public)
    for bad in (
        None,
        "",
        {},
        {"key_id": signature["key_id"]},
        {**signature, "key_id": "0" * 16},
        {**signature, "alg": "none"},
        {**signature, "x": 1},
    ):
        assert not keys.verify_record({**record, "signature": bad}, public)
    assert not keys.verify_record(RECORD, public)
    other = keys.public_key_b64(Ed25519PrivateKey.generate())
    assert not keys.verify_record({**record, "signature": signature}, other)


def test_record_signature_golden(key) -> None:
    assert keys.record_signature(key, RECORD) == {
        "alg": "ed25519",
        "key_id": "56475aa75463474c",
        "signature": "e7S0tdP8By0c9cfjGkT83rVKiGdl2i1l6VAh+Ho5YisGnkFBRndZnIC17o0BM/5HmG58tXrX2Gza7DIOT83WDw==",
    }
