"""What a folder must not hold, and a folder that changes while it is read."""

from __future__ import annotations

import os
import socket
import stat
from collections.abc import Callable
from pathlib import Path

import pytest
from muniment.app.intake import collect
from muniment.app.tree import Tree
from muniment.domain.errors import UnavailableError, UsageError
from muniment.store.evidence_folder import EvidenceFolder


def bad_symlink(root: Path) -> None:
    (root / "l").symlink_to("/etc/passwd")


def bad_inner_symlink(root: Path) -> None:
    (root / "l").symlink_to("empty")


def bad_folder_symlink(root: Path) -> None:
    (root / "l").symlink_to("a", target_is_directory=True)


def bad_fifo(root: Path) -> None:
    os.mkfifo(root / "f")


def bad_socket(root: Path) -> None:
    here = Path.cwd()
    os.chdir(root)
    with socket.socket(socket.AF_UNIX) as end:
        end.bind("s")
    os.chdir(here)


def bad_device(root: Path) -> None:
    try:
        os.mknod(root / "null", 0o600 | stat.S_IFCHR, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("needs the right to make a device")


def bad_control(root: Path) -> None:
    (root / "a\x1b[2J").write_text("x")


def bad_newline(root: Path) -> None:
    (root / "a\nb").write_text("x")


def bad_bidi(root: Path) -> None:
    (root / "\u202egpj.exe").write_text("x")


def bad_undecodable(root: Path) -> None:
    (Path(os.fsdecode(os.fsencode(root) + b"/\xff\xfe"))).write_text("x")


def bad_long_path(root: Path) -> None:
    here = Path.cwd()
    os.chdir(root)
    for _ in range(18):
        Path("d" * 240).mkdir()
        os.chdir("d" * 240)
    Path("f").write_text("x")
    os.chdir(here)


BAD: dict[str, Callable[[Path], None]] = {
    k[4:]: v for k, v in list(globals().items()) if k.startswith("bad_")
}


@pytest.mark.parametrize("kind", sorted(BAD))
def test_what_a_folder_must_not_hold(store: EvidenceFolder, folder: Path, kind: str) -> None:
    BAD[kind](folder)
    with pytest.raises(UsageError) as caught:
        collect(folder, store)
    assert caught.value.code.startswith("intake.")
    assert caught.value.message.isprintable()
    assert caught.value.hint


def change_content(root: Path) -> None:
    (root / "grüße.txt").write_bytes(b"y" * 5000)


def change_grow(root: Path) -> None:
    with (root / "grüße.txt").open("ab") as file:
        file.write(b"more")


def change_vanish(root: Path) -> None:
    (root / "grüße.txt").unlink()


def change_add(root: Path) -> None:
    (root / "a/c/late").write_text("x")


def change_replace(root: Path) -> None:
    (root / "new").write_bytes(b"x" * 5000)
    (root / "new").rename(root / "grüße.txt")


def change_to_symlink(root: Path) -> None:
    (root / "grüße.txt").unlink()
    (root / "grüße.txt").symlink_to("/etc/passwd")


def change_to_folder(root: Path) -> None:
    (root / "grüße.txt").unlink()
    (root / "grüße.txt").mkdir()


def change_parent_to_symlink(root: Path) -> None:
    outside = root.parent / "outside"
    (outside / "c").mkdir(parents=True, exist_ok=True)
    (outside / "c/run.sh").write_bytes(b"#!/bin/sh\n")
    (root / "a").rename(root.parent / "moved")
    (root / "a").symlink_to(outside)


CHANGES: dict[str, Callable[[Path], None]] = {
    k[7:]: v for k, v in list(globals().items()) if k.startswith("change_")
}


@pytest.mark.parametrize("kind", sorted(CHANGES))
def test_a_folder_that_changes_meanwhile_fails(store: EvidenceFolder, folder: Path, kind: str) -> None:
    done: list[int] = []

    def meddle(count: int) -> None:
        if not done:
            CHANGES[kind](folder)
        done.append(count)

    with pytest.raises(UnavailableError):
        collect(folder, store, progress=meddle)


def test_a_swapped_parent_cannot_lead_out(folder: Path) -> None:
    with Tree(folder) as tree:
        nodes = {node.path: node for node in tree.files()}
        change_parent_to_symlink(folder)
        with pytest.raises(UnavailableError), tree.open(nodes["a/c/run.sh"]):
            pass
