"""The driver `folder`: steps that can be repeated, one link that is switched, and nothing else touched."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from muniment.app import folder as driver
from muniment.app.pack_check import attack_of, passed
from muniment.app.pack_files import MANIFEST, make_manifest, manifest_bytes, store_pack
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WrongError,
)
from muniment.store.evidence_folder import EvidenceFolder

SLOT = "prod/stable/eu"


@pytest.fixture
def store(tmp_path: Path) -> EvidenceFolder:
    return EvidenceFolder(tmp_path / "evidence", tmp_path / "tmp")


@pytest.fixture
def packs(tmp_path: Path, store: EvidenceFolder) -> list[dict[str, Any]]:
    made = []
    for name in ("one", "two"):
        source = tmp_path / name
        (source / "lib").mkdir(parents=True)
        (source / "lib/code").write_bytes(name.encode() * 500)
        (source / "same").write_bytes(b"same")
        manifest = make_manifest(
            source, product="demo", build=f"b-{name}", intake="sha256:" + "1" * 64, security_epoch=1,
            reads=(1, 1), writes=1, compiler={"name": "cc", "version": "1"}, config_digest="sha256:" + "2" *
            64, compatibility={},
        )  # fmt: skip
        store_pack(source, manifest, store)
        made.append(manifest)
    return made


@pytest.fixture
def target(tmp_path: Path) -> Path:
    driver.adopt(tmp_path / "target", "-", SLOT)
    return tmp_path / "target"


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


def test_two_activations_do_not_interleave(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    script = (
        "import sys; from pathlib import Path; from muniment.app.folder import locked\n"
        "with locked(Path(sys.argv[1])): print('held', flush=True); sys.stdin.read()"
    )
    other = subprocess.Popen(
        [sys.executable, "-c", script, str(target)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert other.stdout is not None
    assert other.stdout.readline() == "held\n"
    with pytest.raises(UnavailableError) as caught:
        driver.fetch(target, packs[0], store, "t1")
    assert (caught.value.exit_code, caught.value.code) == (8, "target.busy")
    assert driver.read_active(target) is None  # reading waits for nobody
    other.communicate("", timeout=10)
    install(target, packs[0], store)


def test_threads_do_not_interleave_and_one_thread_may_nest(target: Path) -> None:
    found: list[object] = []

    def other() -> None:
        try:
            with driver.locked(target):
                found.append("entered")
        except UnavailableError as error:
            found.append(error.code)

    with driver.locked(target), driver.locked(target):
        driver.abandon(target, "t1")
        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
    thread = threading.Thread(target=other)
    thread.start()
    thread.join()
    assert found == ["target.busy", "entered"]


@pytest.mark.parametrize(
    ("call", "number"), [("fsync", 5), ("write", 28), ("rename", 28), ("rename", 30), ("symlink", 13)]
)
def test_a_failing_system_call_leaves_the_old_pack(
    target: Path,
    packs: list[dict[str, Any]],
    store: EvidenceFolder,
    monkeypatch: pytest.MonkeyPatch,
    call: str,
    number: int,
) -> None:
    install(target, packs[0], store)
    driver.switch(target, pid(packs[0]))

    def fail(*_: object, **__: object) -> int:
        raise OSError(number, os.strerror(number))

    with monkeypatch.context() as patch:
        patch.setattr(os, call, fail)
        with pytest.raises(UnavailableError) as caught:  # noqa: PT012 (whichever step meets the call first)
            install(target, packs[1], store, "t2")
            driver.switch(target, pid(packs[1]))
        assert caught.value.exit_code == 8
    assert pid(packs[0]) == driver.read_active(target)
    assert passed(driver.verify_active(target))
    install(target, packs[1], store, "t2")
    driver.switch(target, pid(packs[1]))


def test_a_pack_larger_than_the_disk_is_refused_before_it_is_copied(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    packs[0]["files"][0]["bytes"] = 2**52
    with pytest.raises(UnavailableError) as caught:
        driver.fetch(target, packs[0], store, "t1")
    assert caught.value.code == "target.disk_full"
    assert list((target / "staging").iterdir()) == []


def test_a_full_disk_while_copying(
    target: Path, tmp_path: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    script = """
import resource, signal, sys
from pathlib import Path
from muniment.app import folder
from muniment.app.pack_manifest import parse_manifest
from muniment.domain.errors import UnavailableError
from muniment.store.evidence_folder import EvidenceFolder
base = Path(sys.argv[1])
signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
try:
    folder.fetch(base / "target", parse_manifest(sys.stdin.buffer.read()), EvidenceFolder(base / "evidence",
    base / "tmp"), "t1")
except UnavailableError as error:
    raise SystemExit(error.exit_code)
"""
    done = subprocess.run(
        [sys.executable, "-c", script, str(tmp_path)],
        input=manifest_bytes(packs[0]),
        capture_output=True,
        timeout=30,
    )
    assert (done.returncode, done.stderr) == (8, b"")
    assert not passed(driver.verify(target, "t1", pid(packs[0])))
    assert resource.getrlimit(resource.RLIMIT_FSIZE)[0] != 1000
    install(target, packs[0], store)


def test_a_killed_switch_leaves_one_link_that_the_next_one_takes(
    target: Path, packs: list[dict[str, Any]], store: EvidenceFolder
) -> None:
    install(target, packs[0], store)
    (target / ".active.next").symlink_to("packs/" + "0" * 64)
    driver.switch(target, pid(packs[0]))
    assert pid(packs[0]) == driver.read_active(target)
    assert not os.path.lexists(target / ".active.next")
