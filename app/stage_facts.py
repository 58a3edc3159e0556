"""The facts around a stage: which executable, which host, which files it made. Read by `app.runner`."""

from __future__ import annotations

import hashlib
import os
import platform
import shutil
import stat
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from blake3 import blake3
from muniment.domain import canonical
from muniment.domain.errors import UnavailableError

BASE_ENV = {
    "PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin",
    "LANG": "C.UTF-8",
    "TZ": "UTC",
}
_CHUNK = 1 << 20


class OutputFile(NamedTuple):
    """A file below the outputs folder: relative POSIX path, size, digests in hex."""

    path: str
    bytes: int
    blake3: str
    sha256: str


class Tool(NamedTuple):
    """The executable that ran, as it was before it ran."""

    path: str
    sha256: str
    bytes: int


class Environment(NamedTuple):
    """Where it ran; `digest` covers it and the declared values (so declare no guessable secret)."""

    os: str
    kernel: str
    machine: str
    python: str
    locale: str
    timezone: str
    declared: tuple[str, ...]
    digest: str


def environment(declared: Mapping[str, str]) -> Environment:
    """Describe this host as a stage sees it; no host name, since it must compare equal on equal hosts."""
    try:
        system = platform.freedesktop_os_release().get("PRETTY_NAME", "Linux")
    except OSError:
        system = "Linux"
    seen = {**BASE_ENV, **declared}
    uname = os.uname()
    python = platform.python_version()
    names = tuple(sorted(declared))
    facts = [system, uname.release, uname.machine, python, seen["LANG"], seen["TZ"]]
    digest = canonical.digest({"facts": facts, "declared": dict(declared)})
    return Environment(system, uname.release, uname.machine, python, seen["LANG"], seen["TZ"], names, digest)


def resolve(name: str, cwd: Path, path: str) -> str | None:
    """Return the absolute path of what `exec` would run, seen from the stage's folder and PATH."""
    if "/" in name:
        return shutil.which(str(cwd.absolute() / name))
    return shutil.which(
        name, path=os.pathsep.join(str(cwd.absolute() / item) for item in path.split(os.pathsep))
    )


def tool_of(path: str | None) -> Tool | None:
    """Identify an executable by its bytes; None if there is none or it may be run but not read."""
    if path is None:
        return None
    try:
        with Path(path).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
            return Tool(path, digest, file.tell())
    except OSError:
        return None


def collect(folder: Path) -> tuple[tuple[OutputFile, ...], str]:
    """Digest every file below the folder in order of path; the second value says what is wrong with it."""
    if not folder.is_dir():
        return (), f"promised outputs folder is missing: {folder}"
    found, problem = [], ""
    for path in sorted(folder.rglob("*")):
        kind = path.lstat().st_mode
        if stat.S_ISDIR(kind):
            continue
        if not stat.S_ISREG(kind):
            problem = problem or f"output is no plain file: {path.relative_to(folder).as_posix()}"
            continue
        found.append(_digest_output(folder, path))
    return tuple(found), problem or ("" if found else f"promised outputs folder is empty: {folder}")


def _digest_output(folder: Path, path: Path) -> OutputFile:
    wide, short, size = blake3(), hashlib.sha256(), 0
    try:
        with path.open("rb") as file:
            while data := file.read(_CHUNK):
                wide.update(data)
                short.update(data)
                size += len(data)
    except OSError as error:
        raise UnavailableError(
            f"output not read: {error.strerror}", code="stage.output", where=str(path)
        ) from error
    return OutputFile(path.relative_to(folder).as_posix(), size, wide.hexdigest(), short.hexdigest())
