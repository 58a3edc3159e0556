"""A pack is what its manifest says, byte for byte, or verification says which kind of wrong it is."""

from __future__ import annotations

import base64
import json
import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given, settings
from hypothesis import strategies as st
from muniment.app.pack_check import Check, attack_of, passed, read_manifest, verify_tree
from muniment.app.pack_files import (
    MANIFEST,
    fetch_pack,
    make_manifest,
    manifest_bytes,
    pack_id,
    parse_manifest,
    sign,
    store_pack,
    write_manifest,
)
from muniment.domain import canonical
from muniment.domain.errors import InvalidError, MunimentError, NotFoundError, UsageError, WrongError
from muniment.store.evidence_folder import EvidenceFolder

FILES = {"bin/run": b"#!/bin/sh\n", "data/a": b"alpha", "data/b": b"x" * 3000, "z": b""}
KEYS = [Ed25519PrivateKey.from_private_bytes(bytes([i]) * 32) for i in range(1, 4)]
PUBLIC = {f"k{i}": key.public_key() for i, key in enumerate(KEYS)}


def make(folder: Path, **changes: Any) -> dict[str, Any]:
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


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    root = tmp_path / "pack"
    for path, data in FILES.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(data)
    return root


@pytest.fixture
def manifest(folder: Path) -> dict[str, Any]:
    made = make(folder)
    write_manifest(folder, made)
    return made


@pytest.fixture
def store(tmp_path: Path) -> EvidenceFolder:
    return EvidenceFolder(tmp_path / "evidence", tmp_path / "staging")


def verify(folder: Path, manifest: dict[str, Any], **options: Any) -> list[Check]:
    return verify_tree(folder, manifest, **{"keys": PUBLIC, "threshold": 0, **options})


def test_the_same_bytes_give_the_same_manifest(folder: Path, manifest: dict[str, Any]) -> None:
    (folder / "z").touch()
    (folder / "z").chmod(0o755)
    assert manifest_bytes(manifest) == manifest_bytes(make(folder))
    assert [item["path"] for item in manifest["files"]] == ["bin/run", "data/a", "data/b", "z"]
    assert [item["role"] for item in manifest["files"]] == ["executable", "payload", "payload", "payload"]


def test_the_id_covers_all_but_itself_signatures_and_time(manifest: dict[str, Any]) -> None:
    bare = {k: v for k, v in manifest.items() if k not in {"runtime_pack_id", "signatures", "created_at"}}
    assert canonical.digest(bare) == manifest["runtime_pack_id"] == pack_id(manifest)
    assert pack_id(manifest) == pack_id(
        sign({**manifest, "created_at": "2026-11-20T09:00:00Z"}, KEYS[0], "k0")
    )
    for key in bare:
        assert pack_id(manifest) != pack_id({**manifest, key: "other"}), key


def test_round_trip_and_whole_verification(folder: Path, manifest: dict[str, Any]) -> None:
    signed = sign(sign(manifest, KEYS[1], "k1"), KEYS[0], "k0")
    assert signed == sign(signed, KEYS[0], "k0")
    write_manifest(folder, signed)
    assert signed == read_manifest(folder)
    checks = verify(folder, signed, threshold=2, wanted=pack_id(manifest))
    assert passed(checks)
    assert {"pass"} == {check.verdict for check in checks}
    assert len(FILES) == sum(check.id == "file" for check in checks)


def truncate(f: Path) -> None:
    (f / "data/b").write_bytes(b"x" * 2999)


def remove(f: Path) -> None:
    (f / "data/b").unlink()


def remove_folder(f: Path) -> None:
    for name in ("a", "b"):
        (f / "data" / name).unlink()
    (f / "data").rmdir()


def lengthen(f: Path) -> None:
    (f / "data/b").write_bytes(b"x" * 3001)


def endless(f: Path) -> None:
    with (f / "data/b").open("wb") as file:
        file.truncate(1 << 40)  # a sparse terabyte: reading it would be noticed


def alter(f: Path) -> None:
    (f / "data/b").write_bytes(b"x" * 2999 + b"y")


def extra(f: Path) -> None:
    (f / "data/c").write_bytes(b"")


def extra_folder(f: Path) -> None:
    (f / "hollow").mkdir()


def extra_link(f: Path) -> None:
    (f / "l").symlink_to("z")


def extra_fifo(f: Path) -> None:
    os.mkfifo(f / "p")


def link_for_file(f: Path) -> None:
    (f / "data/b").rename(f.parent / "b")
    (f / "data/b").symlink_to(f.parent / "b")


def link_for_folder(f: Path) -> None:
    (f / "data").rename(f.parent / "data")
    (f / "data").symlink_to(f.parent / "data")


def folder_for_file(f: Path) -> None:
    (f / "z").unlink()
    (f / "z").mkdir()


def no_manifest(f: Path) -> None:
    (f / MANIFEST).unlink()


def folder_for_manifest(f: Path) -> None:
    (f / MANIFEST).unlink()
    (f / MANIFEST).mkdir()


def other_manifest(f: Path) -> None:
    write_manifest(f, make(f, security_epoch=9))


def bad_manifest(f: Path) -> None:
    (f / MANIFEST).write_bytes(b"{")


@pytest.mark.parametrize(
    ("damage", "attack", "path"),
    [
        (truncate, "truncated", "data/b"), (remove, "truncated", "data/b"), (remove_folder, "truncated", "data/a"),
        (lengthen, "endless_data", "data/b"), (endless, "endless_data", "data/b"),
        (alter, "arbitrary_software", "data/b"), (extra, "extraneous_dependency", "data/c"),
        (extra_folder, "extraneous_dependency", "hollow"), (extra_link, "extraneous_dependency", "l"),
        (extra_fifo, "extraneous_dependency", "p"), (link_for_file, "arbitrary_software", "data/b"),
        (link_for_folder, "truncated", "data/a"), (folder_for_file, "arbitrary_software", "z"),
        (no_manifest, "truncated", MANIFEST), (folder_for_manifest, "arbitrary_software", MANIFEST),
        (other_manifest, "mix_and_match", MANIFEST), (bad_manifest, "arbitrary_software", MANIFEST),
    ],
)  # fmt: skip
def test_every_damage_has_its_name(
    folder: Path, manifest: dict[str, Any], damage: Callable[[Path], None], attack: str, path: str
) -> None:
    count = len(verify(folder, manifest))
    damage(folder)
    checks = verify(folder, manifest)
    assert not passed(checks)
    first = next(check for check in checks if check.verdict == "fail")
    assert (attack, path) == (first.attack, first.path)
    assert attack == attack_of(checks)
    assert len(checks) >= count, "a check was left out"


def test_all_damages_are_reported_at_once(folder: Path, manifest: dict[str, Any]) -> None:
    truncate(folder)
    (folder / "data/a").write_bytes(b"ALPHA")
    (folder / "z").write_bytes(b"more")
    extra(folder)
    checks = verify(folder, manifest, threshold=1, wanted="sha256:" + "0" * 64)
    assert {
        "wrong_software", "key_below_threshold", "arbitrary_software", "truncated", "endless_data", "extraneous_dependency",
    } == {check.attack for check in checks if check.verdict == "fail"}  # fmt: skip


def test_an_absent_folder_is_a_failure(tmp_path: Path, manifest: dict[str, Any]) -> None:
    assert not passed(verify(tmp_path / "absent", manifest))


def test_nothing_checked_is_not_passed() -> None:
    assert not passed([])
    assert not passed([Check("x", "not_applicable", "", "")])


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


def test_make_refuses_an_empty_folder_and_links(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "void").mkdir()
    with pytest.raises(InvalidError):
        make(tmp_path / "void")
    extra_link(folder)
    with pytest.raises(UsageError):
        make(folder)


def test_into_evidence_and_out_again(
    folder: Path, manifest: dict[str, Any], store: EvidenceFolder, tmp_path: Path
) -> None:
    stored = store_pack(folder, manifest, store)
    assert manifest == parse_manifest(store.read(stored.manifest.blake3, limit=1 << 20))
    fetch_pack(manifest, store, tmp_path / "out")
    assert passed(verify(tmp_path / "out", manifest, wanted=pack_id(manifest)))
    assert (tmp_path / "out/bin/run").stat().st_mode & 0o777 == 0o555
    assert (tmp_path / "out/data/a").stat().st_mode & 0o777 == 0o444
    with pytest.raises(UsageError):
        fetch_pack(manifest, store, tmp_path / "out")


@pytest.mark.parametrize("damage", [truncate, remove, lengthen, alter, link_for_file, folder_for_file])
def test_a_damaged_folder_is_not_stored(
    folder: Path, manifest: dict[str, Any], store: EvidenceFolder, damage: Callable[[Path], None]
) -> None:
    damage(folder)
    with pytest.raises((WrongError, UsageError)):
        store_pack(folder, manifest, store)


def test_fetch_from_damaged_or_missing_evidence_is_no_pack(
    folder: Path, manifest: dict[str, Any], store: EvidenceFolder, tmp_path: Path
) -> None:
    store_pack(folder, manifest, store)
    blob = store.path(manifest["files"][2]["blake3"])
    blob.chmod(0o600)
    blob.write_bytes(b"y" * 3000)
    with pytest.raises(WrongError):
        fetch_pack(manifest, store, tmp_path / "out")
    blob.unlink()
    with pytest.raises(NotFoundError):
        fetch_pack(manifest, store, tmp_path / "out2")
    for name in ("out", "out2"):
        assert not (tmp_path / name / MANIFEST).exists()
        assert not passed(verify(tmp_path / name, manifest))


def test_fetch_trusts_no_manifest(manifest: dict[str, Any], store: EvidenceFolder, tmp_path: Path) -> None:
    manifest["files"][1]["path"] = "../evil"
    with pytest.raises(MunimentError):
        fetch_pack(manifest, store, tmp_path / "out")
    assert not (tmp_path / "evil").exists()
