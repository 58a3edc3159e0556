"""The driver `folder`: steps that can be repeated, one link that is switched, and nothing else touched."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import pytest
from muniment.app import folder as driver
from muniment.app.pack_check import passed
from muniment.domain.errors import ConflictError, NotFoundError, UsageError, WrongError
from muniment.store.evidence_folder import EvidenceFolder
from pack_samples import SLOT, install, pid


def test_the_whole_route(target: Path, packs: list[dict[str, Any]], store: EvidenceFolder) -> None:
    assert driver.read_active(target) is None
    for number, manifest in enumerate([*packs, packs[0]]):
        install(target, manifest, store, f"t{number}")
        before = driver.read_active(target)
        assert (before, pid(manifest), True) == driver.switch(target, pid(manifest))
        assert pid(manifest) == driver.read_active(target)
        assert f"packs/{pid(manifest)[7:]}" == str((target / "active").readlink())
        assert passed(driver.verify_active(target))
    assert sorted(map(pid, packs)) == driver.installed(target)
    assert list((target / "staging").iterdir()) == []


def test_every_step_can_be_repeated(target: Path, packs: list[dict[str, Any]], store: EvidenceFolder) -> None:
    one = packs[0]
    driver.fetch(target, one, store, "t1")
    driver.fetch(target, one, store, "t1")
    assert driver.verify(target, "t1", pid(one)) == driver.verify(target, "t1", pid(one))
    assert pid(one) == driver.stage(target, "t1")
    assert pid(one) == driver.stage(target, "t1", pid(one))
    assert driver.switch(target, pid(one)).changed
    assert (pid(one), pid(one), False) == driver.switch(target, pid(one))
    driver.fetch(target, one, store, "t1")
    inode = (target / "packs" / pid(one)[7:]).stat().st_ino
    assert pid(one) == driver.stage(target, "t1")
    assert inode == (target / "packs" / pid(one)[7:]).stat().st_ino
    assert not driver.abandon(target, "t1")


def test_adopt_is_keyed_by_slot_and_target(target: Path) -> None:
    assert driver.read_target(target) == (SLOT, "-")
    assert driver.adopt(target, "-", SLOT) == ("-", SLOT, False, None)
    for name, slot in (("other", SLOT), ("-", "prod/stable/us")):
        with pytest.raises(ConflictError):
            driver.adopt(target, name, slot)


@pytest.mark.parametrize(
    ("name", "slot"),
    [("", SLOT), ("../x", SLOT), ("A", SLOT), ("-", "prod"), ("-", "prod/stable"), ("-",
    "prod/stable/eu/x"), ("-", "p//c"),
     ("-", "../../x"), ("-\n", SLOT), ("-", SLOT + "\n")],
)  # fmt: skip
def test_bad_names_make_no_folder(tmp_path: Path, name: str, slot: str) -> None:
    with pytest.raises(UsageError):
        driver.adopt(tmp_path / "t", name, slot)
    assert not (tmp_path / "t").exists()


def test_adopt_leaves_what_runs_there(tmp_path: Path) -> None:
    place = tmp_path / "brownfield"
    (place / "releases/v1").mkdir(parents=True)
    (place / "app.conf").write_text("x")
    assert driver.adopt(place, "host-1", SLOT).new
    assert {"releases", "app.conf", "packs", "staging", "journal", "target.json", "lock"} == {
        p.name for p in place.iterdir()
    }


@pytest.mark.parametrize("kind", ["symlink", "file", "fifo", "dangling"])
def test_a_target_that_is_no_folder(
    tmp_path: Path, kind: str, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    place = tmp_path / "t"
    if kind == "symlink":
        (tmp_path / "real").mkdir()
        place.symlink_to("real")
    elif kind == "dangling":
        place.symlink_to("nowhere")
    elif kind == "file":
        place.write_text("x")
    else:
        os.mkfifo(place)
    for call in (
        lambda: driver.adopt(place, "-", SLOT),
        lambda: driver.read_active(place),
        lambda: driver.switch(place, pid(packs[0])),
        lambda: driver.fetch(place, packs[0], store, "t1"),
    ):
        with pytest.raises(UsageError) as caught:
            call()
        assert caught.value.exit_code == 2


def test_steps_on_what_is_no_target_yet(
    tmp_path: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    (tmp_path / "t").mkdir()
    for place in (tmp_path / "t", tmp_path / "absent"):
        with pytest.raises(NotFoundError):
            driver.fetch(place, packs[0], store, "t1")
        with pytest.raises(NotFoundError):
            driver.read_target(place)
    assert not (tmp_path / "absent").exists()


@pytest.mark.parametrize("name", ["packs", "staging"])
def test_a_symlink_in_the_layout_is_refused(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder, tmp_path: Path, name: str
) -> None:
    (tmp_path / "outside").mkdir()
    (target / name).rmdir()
    (target / name).symlink_to(tmp_path / "outside")
    with pytest.raises(WrongError):
        install(target, packs[0], store)
    assert [p for p in (tmp_path / "outside").rglob("*") if name == "packs"] == []


@pytest.mark.parametrize("attempt", ["", "..", ".", "a/b", "../x", ".hidden", "a" * 129, "a\n", "a b"])
def test_attempt_names(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder, attempt: str
) -> None:
    for call in (
        lambda: driver.fetch(target, packs[0], store, attempt),
        lambda: driver.verify(target, attempt, pid(packs[0])),
        lambda: driver.stage(target, attempt),
        lambda: driver.abandon(target, attempt),
    ):
        with pytest.raises(UsageError):
            call()


@pytest.mark.parametrize(
    "pack", ["", "sha256:", "sha256:" + "0" * 63, "sha256:" + "../" * 22, "0" * 64, "latest"]
)
def test_pack_names(target: Path, pack: str) -> None:
    with pytest.raises(UsageError):
        driver.switch(target, pack)


def test_steps_out_of_order(target: Path, packs: list[dict[str, Any]]) -> None:
    for call in (
        lambda: driver.verify(target, "t1", pid(packs[0])),
        lambda: driver.stage(target, "t1"),
        lambda: driver.stage(target, "t1", pid(packs[0])),
        lambda: driver.switch(target, pid(packs[0])),
        lambda: driver.verify_active(target),
    ):
        with pytest.raises(NotFoundError):
            call()


def test_abandon_removes_its_own_attempt_only(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    driver.fetch(target, packs[0], store, "mine")
    driver.fetch(target, packs[1], store, "theirs")
    assert driver.abandon(target, "mine")
    assert [p.name for p in (target / "staging").iterdir()] == ["theirs"]


def test_abandon_follows_no_link(target: Path, tmp_path: Path) -> None:
    (tmp_path / "precious").mkdir()
    (tmp_path / "precious/x").write_text("x")
    (target / "staging/t1").symlink_to(tmp_path / "precious")
    with pytest.raises(WrongError):
        driver.abandon(target, "t1")
    assert (tmp_path / "precious/x").exists()
