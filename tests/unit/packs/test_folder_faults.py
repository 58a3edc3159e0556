"""The driver `folder` among others, on a full disk, under system calls that fail, and killed."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import pytest
from muniment.app import folder as driver
from muniment.app.pack_check import passed
from muniment.app.pack_files import manifest_bytes
from muniment.domain.errors import UnavailableError
from muniment.store.evidence_folder import EvidenceFolder
from pack_samples import install, pid


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
