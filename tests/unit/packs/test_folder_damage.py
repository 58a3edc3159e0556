"""The driver `folder` on damaged attempts, packs, links and target files."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.app import folder as driver
from muniment.app.pack_check import attack_of, passed
from muniment.app.pack_files import MANIFEST, manifest_bytes
from muniment.domain.errors import InvalidError, WrongError
from muniment.store.evidence_folder import EvidenceFolder
from pack_samples import SLOT, install, overwrite, pid


def alter(place: Path) -> None:
    overwrite(place / "lib/code", b"two" * 499 + b"tw0")


def cut(place: Path) -> None:
    overwrite(place / "lib/code", b"one")


def add(place: Path) -> None:
    (place / "more").write_text("x")


def drop(place: Path) -> None:
    (place / "same").unlink()


def drop_manifest(place: Path) -> None:
    (place / MANIFEST).unlink()


def garble_manifest(place: Path) -> None:
    overwrite(place / MANIFEST, b"{}")


DAMAGES = [alter, cut, add, drop, drop_manifest, garble_manifest]


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_attempt_is_never_staged(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder, damage: Callable[[Path], None]
) -> None:
    damage(driver.fetch(target, packs[0], store, "t1"))
    checks = driver.verify(target, "t1", pid(packs[0]))
    assert not passed(checks)
    assert attack_of(checks)
    with pytest.raises((WrongError, InvalidError)):
        driver.stage(target, "t1")
    with pytest.raises(WrongError):
        driver.stage(target, "t1", pid(packs[0]))
    assert driver.installed(target) == []
    assert driver.abandon(target, "t1")
    assert list((target / "staging").iterdir()) == []


def test_another_pack_than_the_wanted_one(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    driver.fetch(target, packs[0], store, "t1")
    assert attack_of(driver.verify(target, "t1", pid(packs[1]))) == "wrong_software"
    with pytest.raises(WrongError):
        driver.stage(target, "t1", pid(packs[1]))


@pytest.mark.parametrize("damage", DAMAGES)
def test_a_damaged_installed_pack_is_not_overwritten_and_not_used(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder, damage: Callable[[Path], None]
) -> None:
    place = install(target, packs[0], store)
    driver.switch(target, pid(packs[0]))
    damage(place)
    before = {p.name: p.stat().st_mtime_ns for p in place.iterdir()}
    driver.fetch(target, packs[0], store, "t2")
    with pytest.raises(WrongError, match="installed"):
        driver.stage(target, "t2")
    assert before == {p.name: p.stat().st_mtime_ns for p in place.iterdir()}
    if damage in {drop_manifest, garble_manifest}:
        with pytest.raises(WrongError):
            driver.read_active(target)
    else:
        assert not passed(driver.verify_active(target))
    install(target, packs[1], store, "t3")  # and the way to a good pack is open
    driver.switch(target, pid(packs[1]))
    assert passed(driver.verify_active(target))


def test_an_empty_folder_under_a_packs_name_is_not_replaced(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    (target / "packs" / pid(packs[0])[7:]).mkdir()
    driver.fetch(target, packs[0], store, "t1")
    with pytest.raises(WrongError):
        driver.stage(target, "t1")
    with pytest.raises(WrongError):
        driver.switch(target, pid(packs[0]))


@pytest.mark.parametrize(
    "text", ["/etc", "../elsewhere", "packs", "packs/x", "./packs/" + "0" * 64, "packs/" + "0" * 64]
)
def test_foreign_and_dangling_links(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder, text: str
) -> None:
    (target / "active").symlink_to(text)
    for call in (lambda: driver.read_active(target), lambda: driver.verify_active(target)):
        with pytest.raises(WrongError) as caught:
            call()
        assert caught.value.exit_code == 7
    install(target, packs[0], store)
    if text in {"/etc", "../elsewhere", "packs", "packs/x"}:
        with pytest.raises(WrongError):
            driver.switch(target, pid(packs[0]))
    driver.switch(target, pid(packs[0]), replace_foreign=True)
    assert pid(packs[0]) == driver.read_active(target)


@pytest.mark.parametrize("kind", ["file", "folder"])
def test_active_that_is_no_link_is_never_replaced(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder, kind: str
) -> None:
    install(target, packs[0], store)
    if kind == "file":
        (target / "active").write_text("mine")
    else:
        (target / "active").mkdir()
    for call in (
        lambda: driver.read_active(target),
        lambda: driver.switch(target, pid(packs[0])),
        lambda: driver.switch(target, pid(packs[0]), replace_foreign=True),
    ):
        with pytest.raises(WrongError):
            call()
    assert not (target / "active").is_symlink()


def test_a_manifest_of_another_pack_is_a_mixture(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    place = install(target, packs[0], store)
    driver.switch(target, pid(packs[0]))
    overwrite(place / MANIFEST, manifest_bytes(packs[1]))
    for call in (driver.read_active, driver.verify_active):
        with pytest.raises(WrongError):
            call(target)


@pytest.mark.parametrize(
    "data", [b"", b"{", b"[]", b"{}", b'{"v":2,"target":"-","slots":["a/b/c"]}', b'{"v":1}', b"[" * 50_000]
)
def test_a_damaged_target_file(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder, data: bytes
) -> None:
    (target / "target.json").write_bytes(data)
    for call in (
        lambda: driver.read_target(target),
        lambda: driver.adopt(target, "-", SLOT),
        lambda: driver.fetch(target, packs[0], store, "t1"),
    ):
        with pytest.raises(WrongError):
            call()
