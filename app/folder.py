"""The driver `folder`: activation on a target that is a folder, by one rename of one link.

    DIR/target.json        {"v": 1, "target", "slots"}: whose place this is
    DIR/packs/<pack hex>/  installed packs, never changed, each with its manifest
    DIR/staging/<attempt>/ an attempt on its way in; nothing runs from here
    DIR/active             relative symlink to packs/<pack hex>: the one thing that is switched
    DIR/journal/           acts done offline, to be imported as records later
    DIR/lock               flock, so that two activations never interleave

1. Every step can be run again after a kill at any point and ends in the same state.
2. A tree enters `packs/` by one rename after every byte was compared, and is never overwritten: what stands
   there under a pack's name is verified instead, and refused if it is damaged.
3. `active` changes by one `rename(2)` over it; before it the old pack runs, after it the new one, never a
   mixture.
4. `active` is read from the link and the manifest behind it, never from the store (settled.md, 16).
5. Nothing is removed but the attempt's own folder under `staging/`; a damaged pack that is installed again is kept there.
"""

from __future__ import annotations

import errno
import os
import re
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app.folder_place import (
    ACTIVE,
    JOURNAL,
    PACKS,
    STAGING,
    folder_fd,
    locked,
    read_target,
    real,
    set_aside,
    target_file,
    write_target_file,
)
from muniment.app.pack_check import Check, PackKey, attack_of, passed, read_manifest, verify_tree
from muniment.app.pack_files import fetch_pack
from muniment.app.pack_manifest import manifest_problems, pack_id
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WrongError,
)
from muniment.domain.os_faults import shown
from muniment.store.evidence import EvidenceStore
from muniment.store.files import faults, fsync_folder

__all__ = [
    "Adopted", "Switched", "abandon", "adopt", "fetch", "installed", "locked", "read_active", "read_target",
    "set_aside", "stage", "switch", "verify", "verify_active",
]  # fmt: skip

_NEXT = ".active.next"  # one name, used under the lock: a killed switch leaves at most one

_attempt = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}").fullmatch
_target = re.compile(r"-|[a-z0-9][a-z0-9._-]{0,63}").fullmatch
_slot = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}(/[a-z0-9][a-z0-9._-]{0,63}){2}").fullmatch
_pack = re.compile(r"sha256:([0-9a-f]{64})").fullmatch
_link = re.compile(r"packs/([0-9a-f]{64})").fullmatch


class Adopted(NamedTuple):
    """A folder as a target: its place, whether this call made it one, and what is active there."""

    target: str
    slot: str
    new: bool
    active: str | None


class Switched(NamedTuple):
    """What `active` named before and names now; `changed` is False if it did already."""

    previous: str | None
    active: str
    changed: bool


# --- steps


def adopt(folder: Path, target: str, slot: str) -> Adopted:
    """Make a folder the place of one (slot, target). What runs there now is not touched.

    Args:
        folder: made if it is absent (the folder above it must exist).
        target: a name, or `-` for the default one.
        slot: environment/channel/cohort.

    Raises:
        ConflictError: it is the place of another slot or target. UsageError: a bad name, a symlink, no
        folder. UnavailableError: not writable, full, or busy.
    """
    if not _target(target) or not _slot(slot):
        raise UsageError(
            f"not a target and slot: {shown(target)} {shown(slot)}",
            code="target.name",
            expected="a name or -, and environment/channel/cohort",
        )
    if not folder.is_symlink() and not folder.exists():
        with faults("create", folder, "target"):
            folder.mkdir(mode=0o755)
            fsync_folder(folder.parent)
    with locked(folder):
        for name in (PACKS, STAGING, JOURNAL):
            with faults("create", folder / name, "target"):
                (folder / name).mkdir(mode=0o755, exist_ok=True)
            real(folder, name)
        fact = {"v": 1, "target": target, "slots": [slot]}
        known = target_file(folder)
        if known is not None and known != fact:
            raise ConflictError(
                f"{shown(folder)} is the place of another target",
                code="target.other",
                expected=f"{target} of {slot}",
                found=f"{known['target']} of {', '.join(known['slots'])}",
            )
        if known is None:
            write_target_file(folder, fact)
        with faults("sync", folder, "target"):
            fsync_folder(folder)
        # the link alone: a damaged pack behind it must not stand in the way of its own rollback
        return Adopted(target, slot, known is None, _read_link(folder / ACTIVE))


def fetch(folder: Path, manifest: Mapping[str, Any], evidence: EvidenceStore, attempt: str) -> Path:
    """Copy a pack from evidence into `staging/<attempt>`, synced; an earlier try of the same attempt starts
    anew.

    Raises:
        NotFoundError, WrongError: evidence is missing or damaged. InvalidError: the manifest is not valid.
        UnavailableError: disk full, not writable, busy.
    """
    with locked(folder):
        place = _attempt_path(folder, attempt)
        read_target(folder)
        if problems := manifest_problems(manifest):
            raise InvalidError(f"not a pack manifest: {problems[0]}", code="pack.manifest", problems=problems)
        _remove_attempt(folder, attempt)
        needed = sum(item["bytes"] for item in manifest["files"])
        with faults("look at", place.parent, "target"):
            room = os.statvfs(place.parent)
        if needed > room.f_bavail * room.f_frsize:
            raise UnavailableError(
                f"no room on {shown(folder)}",
                code="target.disk_full",
                hint="free space, then run it again",
                expected=f"{needed} bytes free",
                found=f"{room.f_bavail * room.f_frsize} bytes free",
            )
        fetch_pack(manifest, evidence, place)
        with faults("sync", place.parent, "target"):
            fsync_folder(place.parent)
        return place


def verify(
    folder: Path, attempt: str, wanted: str, *, keys: Mapping[str, PackKey] | None = None, threshold: int = 0
) -> list[Check]:
    """Read every byte of `staging/<attempt>` again and hold it against its manifest and the wanted pack.

    Raises:
        NotFoundError: nothing was fetched for this attempt. All else is a failed check.
    """
    place = _attempt_path(folder, attempt)
    if not place.is_dir():
        raise NotFoundError(f"nothing was fetched for attempt {attempt}", code="target.no_attempt")
    return _verify(place, wanted, keys or {}, threshold)


def _verify(place: Path, wanted: str, keys: Mapping[str, PackKey], threshold: int) -> list[Check]:
    try:
        manifest = read_manifest(place)
    except MunimentError as error:
        attack = "" if isinstance(error, UnavailableError) else "arbitrary_software"
        if error.code == "pack.no_manifest":
            attack = "truncated"
        return [Check("manifest.valid", "fail", "a valid manifest", error.message, attack=attack)]
    return verify_tree(place, manifest, keys=keys, threshold=threshold, wanted=wanted)


def stage(folder: Path, attempt: str, pack: str | None = None) -> str:
    """Move `staging/<attempt>` to `packs/<hex>` by one rename and return the pack id.

    Args:
        pack: the pack this must be; with it a repeat after the rename finds the pack installed.

    Raises:
        WrongError: bytes are not those of the manifest, or the pack that is installed already is damaged.
        NotFoundError: nothing was fetched.
    """
    with locked(folder):
        place = _attempt_path(folder, attempt)
        real(folder, PACKS)
        if not place.is_dir():
            if pack is not None and _installed(folder, pack).is_dir():
                _sound(_installed(folder, pack), pack, "installed")
                return pack
            raise NotFoundError(f"nothing was fetched for attempt {attempt}", code="target.no_attempt")
        found = pack or str(read_manifest(place)["runtime_pack_id"])
        final = _installed(folder, found)
        if os.path.lexists(final):  # first: a kill while the attempt was removed leaves a part of it
            _sound(final, found, "installed")
            _remove_attempt(folder, attempt)
        else:
            _sound(place, found, "fetched")
            with faults("rename", final, "target"):
                place.rename(final)
        with faults("sync", folder, "target"):
            fsync_folder(folder / PACKS)
            fsync_folder(folder / STAGING)
        return found


def _sound(place: Path, pack: str, what: str) -> None:
    checks = _verify(place, pack, {}, 0)
    if passed(checks):
        return
    bad = [check for check in checks if check.verdict == "fail"]
    kind = WrongError if attack_of(checks) else UnavailableError
    first = bad[0]
    raise kind(
        f"the {what} pack {shown(place)} is not whole: {first.id} {shown(first.path)}".rstrip(),
        code=f"target.{what}_damaged",
        hint="keep it for the investigation, move it away, then run it again",
        expected=first.expected,
        found=first.observed,
        attack=attack_of(checks),
        failed=len(bad),
    )


def switch(folder: Path, pack: str, *, replace_foreign: bool = False) -> Switched:
    """Let `active` name an installed pack, by one rename over the link; durable when it returns.

    Args:
        replace_foreign: also replace a link that does not name one of our packs (a brownfield host).

    Raises:
        NotFoundError: the pack is not installed. WrongError: its manifest is not its own, or `active` is
        not ours.
    """
    with locked(folder):
        place = _installed(folder, pack)
        real(folder, PACKS)
        _names_itself(place, pack)
        link = folder / ACTIVE
        current = _read_link(link, foreign_ok=replace_foreign)
        with faults("switch", link, "target"):
            if current != pack:
                following = folder / _NEXT
                following.unlink(missing_ok=True)
                following.symlink_to(f"{PACKS}/{place.name}")
                fsync_folder(folder)  # the link itself must be durable before it replaces another
                following.rename(link)
            fsync_folder(folder)
        return Switched(current, pack, current != pack)


def read_active(folder: Path) -> str | None:
    """The pack that `active` names, from the target alone; None if nothing was ever switched.

    Raises:
        WrongError: a foreign or dangling link, or a pack whose manifest is not its own.
    """
    with folder_fd(folder):
        pack = _read_link(folder / ACTIVE)
        if pack is not None:
            real(folder, PACKS)
            _names_itself(_installed(folder, pack), pack)
        return pack


def verify_active(
    folder: Path, *, keys: Mapping[str, PackKey] | None = None, threshold: int = 0
) -> list[Check]:
    """Read every byte of the active pack again.

    Raises:
        NotFoundError: nothing is active. WrongError: as `read_active`.
    """
    pack = read_active(folder)
    if pack is None:
        raise NotFoundError(f"nothing is active on {shown(folder)}", code="target.nothing_active")
    return _verify(_installed(folder, pack), pack, keys or {}, threshold)


def installed(folder: Path) -> list[str]:
    """The ids of the packs whose folders stand in `packs/`, sorted; their bytes are not looked at."""
    with folder_fd(folder), faults("list", folder / PACKS, "target"):
        names = sorted(entry.name for entry in os.scandir(folder / PACKS))
    return [f"sha256:{name}" for name in names if _link(f"packs/{name}")]


def abandon(folder: Path, attempt: str) -> bool:
    """Remove `staging/<attempt>` and nothing else; tell whether there was one."""
    with locked(folder):
        removed = _remove_attempt(folder, attempt)
        with faults("sync", folder, "target"):
            fsync_folder(folder / STAGING)
        return removed


# --- parts


def _attempt_path(folder: Path, attempt: str) -> Path:
    if not _attempt(attempt):
        raise UsageError(f"not an attempt id: {shown(attempt)}", code="target.attempt")
    with folder_fd(folder):
        if not os.path.lexists(folder / STAGING):
            raise NotFoundError(
                f"{shown(folder)} is no target yet",
                code="target.not_adopted",
                hint="muniment activate SLOT --target DIR",
            )
        real(folder, STAGING)
    path = folder / STAGING / attempt
    if path.is_symlink():
        raise WrongError(f"{shown(path)} is a symlink", code="target.layout")
    return path


def _installed(folder: Path, pack: str) -> Path:
    found = _pack(pack)
    if found is None:
        raise UsageError(
            f"not a pack id: {shown(pack)}", code="target.pack", expected="sha256: and 64 hex digits"
        )
    return folder / PACKS / found[1]


def _remove_attempt(folder: Path, attempt: str) -> bool:
    path = _attempt_path(folder, attempt)
    if not path.exists():
        return False
    with faults("remove", path, "target"):
        shutil.rmtree(path)
    return True


def _read_link(link: Path, *, foreign_ok: bool = False) -> str | None:
    try:
        text = os.readlink(link)  # noqa: PTH115 (a Path would drop `./` and double slashes)
    except FileNotFoundError:
        return None
    except OSError as error:
        if error.errno == errno.EINVAL:
            raise WrongError(
                f"{shown(link)} is no symlink", code="target.foreign", expected="a symlink"
            ) from error
        with faults("read", link, "target"):
            raise error from None
    found = _link(text)
    if found is None and not foreign_ok:
        raise WrongError(
            f"{shown(link)} names no pack of this target",
            code="target.foreign",
            hint="adopt the host as it is, or switch with leave to replace the link",
            expected="packs/<64 hex digits>",
            found=shown(text),
        )
    return None if found is None else f"sha256:{found[1]}"


def _names_itself(place: Path, pack: str) -> None:
    """The manifest in `packs/<hex>` parses, and its id is the folder's name."""
    if not os.path.lexists(place):
        raise (WrongError if _is_active(place) else NotFoundError)(
            f"pack {pack} is not installed", code="target.not_installed", path=shown(place)
        )
    if place.is_symlink() or not place.is_dir():
        raise WrongError(f"{shown(place)} is no folder", code="target.layout")
    try:
        found = pack_id(read_manifest(place))
    except InvalidError as error:
        raise WrongError(error.message, code="target.manifest", path=shown(place)) from error
    if found != pack:
        raise WrongError(
            f"the manifest in {shown(place)} is that of another pack",
            code="target.manifest",
            expected=pack,
            found=found,
        )


def _is_active(place: Path) -> bool:
    link = place.parent.parent / ACTIVE
    return link.is_symlink() and os.readlink(link) == f"{PACKS}/{place.name}"  # noqa: PTH115
