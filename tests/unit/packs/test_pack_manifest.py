"""Manifests of packs: signatures and thresholds, and every manifest that does not fit is refused."""

from __future__ import annotations

import base64
import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from muniment.app.pack_check import passed
from muniment.app.pack_files import MANIFEST, manifest_bytes, pack_id, parse_manifest, sign
from muniment.domain import canonical
from muniment.domain.errors import InvalidError, WrongError
from pack_samples import KEYS, PUBLIC, make, verify


def forged(manifest: dict[str, Any]) -> dict[str, Any]:
    signed = sign(manifest, KEYS[0], "k0")
    raw = bytearray(base64.b64decode(signed["signatures"][0]["signature"]))
    raw[5] ^= 1
    signed["signatures"][0]["signature"] = base64.b64encode(raw).decode()
    return signed


@pytest.mark.parametrize(
    ("change", "threshold", "good"),
    [
        (lambda m: sign(m, KEYS[0], "k0"), 1, True),
        (lambda m: m, 1, False),
        (lambda m: sign(m, KEYS[0], "k0"), 2, False),
        (lambda m: sign(m, KEYS[0], "unknown"), 1, False),
        (lambda m: sign(m, KEYS[0], "k1"), 1, False),
        (forged, 1, False),
        (lambda m: {**sign({**m, "security_epoch": 1}, KEYS[0], "k0"), "security_epoch": 3}, 1, False),
        (lambda m: sign(sign(m, KEYS[0], "k0"), KEYS[0], "alias"), 2, False),
        (lambda m: sign(sign(m, KEYS[0], "k0"), KEYS[2], "k2"), 2, True),
    ],
)
def test_thresholds(
    folder: Path,
    manifest: dict[str, Any],
    change: Callable[[dict[str, Any]], dict[str, Any]],
    threshold: int,
    good: bool,
) -> None:
    keys = {**PUBLIC, "alias": PUBLIC["k0"].public_bytes_raw()}
    check = next(
        c for c in verify(folder, change(manifest), keys=keys, threshold=threshold) if c.id.startswith("sign")
    )
    assert (check.verdict, check.attack) == ("pass", "") if good else ("fail", "key_below_threshold")
    assert good == (check.verdict == "pass")


def without(key: str) -> Callable[[dict[str, Any]], object]:
    return lambda m: m.pop(key)


def put(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda m: m.update(changes)


def file(**changes: Any) -> Callable[[dict[str, Any]], object]:
    return lambda m: m["files"][1].update(changes)


@pytest.mark.parametrize(
    "break_it",
    [
        *[without(k) for k in (
            "manifest_version", "runtime_pack_id", "product", "build_id", "source_intake", "compiler", "config_digest",
            "security_epoch", "schema", "compatibility", "canonicalization", "files", "signatures",
        )],
        put(extra=1), put(manifest_version="2"), put(manifest_version=1), put(product="Up/../x"), put(product=""),
        put(build_id=""), put(build_id="a\nb"), put(source_intake="1" * 64), put(config_digest="sha256:" + "A" * 64),
        put(security_epoch=-1), put(security_epoch=True), put(security_epoch="3"), put(compatibility=[]),
        put(canonicalization="none"), put(compiler={"name": "x"}), put(compiler={"name": "", "version": "1"}),
        put(compiler={"name": "x", "version": "1", "z": "y"}), put(schema={"reads": [2, 1], "writes": 1}),
        put(schema={"reads": [1], "writes": 1}), put(schema={"reads": [1, 2]}), put(schema=None), put(files=[]),
        put(files={}), put(runtime_pack_id="sha256:" + "0" * 64), put(created_at=5), put(signatures={}),
        put(signatures=[{"key_id": "k", "alg": "none", "signature": ""}]),
        put(signatures=[{"key_id": "k", "alg": "ed25519", "signature": "AAAA"}]),
        put(signatures=[{"key_id": "k", "alg": "ed25519", "signature": "!" * 88}]),
        put(signatures=[{"key_id": "k", "alg": "ed25519"}]),
        file(path="../evil"), file(path="/etc/passwd"), file(path="a/../b"), file(path=""), file(path="a\x1bb"),
        file(path="zz"), file(path="bin/run"), file(path="bin"), file(path=MANIFEST), file(path=None), file(path="\ud800"),
        file(role=""), file(role="A B"), file(sha256="0"), file(sha256="sha256:" + "0" * 64), file(blake3="G" * 64),
        file(blake3=5), file(bytes=-1), file(bytes="5"), file(bytes=None), file(bytes=2**53), file(more=1),
        lambda m: m["files"].reverse(), lambda m: m["files"].append(m["files"][-1]), lambda m: m["files"][0].pop("role"),
        lambda m: m["signatures"].extend(sign(m, KEYS[0], "k0")["signatures"] * 2),
    ],
)  # fmt: skip
def test_a_manifest_that_does_not_fit_is_refused(
    folder: Path, manifest: dict[str, Any], break_it: Callable[[dict[str, Any]], object]
) -> None:
    broken = json.loads(json.dumps(manifest))
    break_it(broken)
    with pytest.raises((InvalidError, WrongError)):
        parse_manifest(json.dumps(broken).encode())
    assert not passed(verify(folder, broken))


@pytest.mark.parametrize(
    "data",
    [
        b"", b"{}", b"[]", b"null", b'"x"', b"{", b"\xff", b"[" * 100_000, b'{"a":1,"a":1}', b'{"a":1.5}', b'{"a":NaN}',
        b'{"a":' + b"9" * 5000 + b"}", b'{"a":1e999}',
    ],
)  # fmt: skip
def test_bytes_that_are_no_manifest(data: bytes) -> None:
    with pytest.raises(InvalidError):
        parse_manifest(data)


def test_a_key_twice_and_a_manifest_too_long(manifest: dict[str, Any]) -> None:
    data = manifest_bytes(manifest)
    assert manifest == parse_manifest(data, len(data))
    with pytest.raises(InvalidError):
        parse_manifest(data, len(data) - 1)
    with pytest.raises(InvalidError):
        parse_manifest(b'{"product":"demo",' + data[1:])


@settings(max_examples=300, deadline=None)
@given(at=st.integers(0, 10**6), bit=st.integers(0, 7))
def test_any_flipped_bit_of_a_manifest_is_refused_or_outside_the_id(at: int, bit: int) -> None:
    item = {"path": "a", "role": "payload", "sha256": "3" * 64, "blake3": "4" * 64, "bytes": 1}
    made: dict[str, Any] = {
        "manifest_version": "1", "product": "demo", "build_id": "b-1", "source_intake": "sha256:" + "1" * 64,
        "compiler": {"name": "cc", "version": "1"}, "config_digest": "sha256:" + "2" * 64, "security_epoch": 1,
        "schema": {"reads": [1, 1], "writes": 1}, "compatibility": {}, "canonicalization": canonical.PROFILE,
        "files": [item], "signatures": [],
    }  # fmt: skip
    made = sign({**made, "runtime_pack_id": pack_id(made)}, KEYS[0], "k0")
    data = bytearray(manifest_bytes(made))
    data[at % len(data)] ^= 1 << bit
    try:
        read = parse_manifest(bytes(data))
    except (InvalidError, WrongError):
        return
    assert {**read, "signatures": []} == {**made, "signatures": []}


@pytest.mark.parametrize(
    "changes",
    [
        {"product": "A"},
        {"security_epoch": -1},
        {"reads": (2, 1)},
        {"config_digest": "x"},
        {"compiler": {}},
        {"intake": ""},
    ],
)
def test_make_refuses_what_parse_would(folder: Path, changes: dict[str, Any]) -> None:
    with pytest.raises(InvalidError):
        make(folder, **changes)
