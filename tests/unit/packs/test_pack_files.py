"""A pack is what its manifest says, byte for byte, or verification says which kind of wrong it is."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.app.pack_check import Check, attack_of, passed, read_manifest
from muniment.app.pack_files import (
    MANIFEST,
    fetch_pack,
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
from pack_samples import FILES, KEYS, make, verify


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
