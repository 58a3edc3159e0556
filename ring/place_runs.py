"""Which runs there are, who is alive, and whether a runtime folder can be trusted (rules: `ring.place`)."""

from __future__ import annotations

import json
import os
import re
import stat
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

from muniment.domain.errors import ConflictError, NotFoundError, UnfitError, WrongError
from muniment.domain.os_faults import shown
from muniment.ring.files import FOLDER, READ, faults, read_exactly, unheld

RUN_V = 1
NAME = re.compile(r"[a-z0-9][a-z0-9._-]{0,63}")
RUN_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
SHA = re.compile(r"[0-9a-f]{64}")
_MAX_JSON = 1 << 16


class Run(NamedTuple):
    """A run as its `run.json` tells, and what is there of it. `problem`: why that file says nothing ("" if it does).

    live: its process holds the folder. Times are nanoseconds since 1970; `ended_unix_ns` is 0 while it runs or if it died.
    """

    spec: str
    folder: Path
    live: bool
    rings: list[Path]
    run: str = ""
    pid: int = 0
    spec_sha256: str = ""
    started_unix_ns: int = 0
    ended_unix_ns: int = 0
    problem: str = ""

    @property
    def left_over(self) -> bool:
        """It died: nobody holds the folder, and it did not end."""
        return not self.live and not self.ended_unix_ns and bool(self.run or self.problem or self.rings)


def runtime_folder(env: Mapping[str, str] | None = None, *, shm: Path = Path("/dev/shm")) -> Path:  # noqa: S108  # the place is ours alone, rule 2
    """Name the runtime folder; nothing is made or checked.

    `MUNIMENT_RUNTIME`, else `$XDG_RUNTIME_DIR/muniment`, else `/dev/shm/muniment-<uid>`, else `<tmp>/muniment-<uid>`. A relative or
    absent XDG path is ignored. Source: XDG Base Directory Specification 0.8.
    """
    env = os.environ if env is None else env
    if own := env.get("MUNIMENT_RUNTIME"):
        return Path(own).expanduser().absolute()
    xdg = env.get("XDG_RUNTIME_DIR", "")
    if xdg and Path(xdg).is_absolute() and Path(xdg).is_dir():
        return Path(xdg) / "muniment"
    above = shm if shm.is_dir() and os.access(shm, os.W_OK | os.X_OK) else Path(tempfile.gettempdir())
    return above / f"muniment-{os.getuid()}"


def check_ours(folder: Path) -> None:
    """Refuse a folder that others could put things into (rule 2).

    Raises:
        NotFoundError: it is not there. UnfitError: a link, no folder, not ours, open to others. UnavailableError.
    """
    with faults("look at", folder, "runtime"):
        try:
            info = os.lstat(folder)
        except FileNotFoundError:
            raise NotFoundError(
                f"no runtime folder {shown(folder)}", code="runtime.none", path=shown(folder)
            ) from None
    kinds = {stat.S_IFDIR: "a folder", stat.S_IFLNK: "a link", stat.S_IFREG: "a file"}
    kind = kinds.get(stat.S_IFMT(info.st_mode), "something special")
    mode = stat.S_IMODE(info.st_mode)
    if kind != "a folder":
        code, expected, found, hint = "kind", "a folder", kind, "set MUNIMENT_RUNTIME to a folder of your own"
    elif info.st_uid != os.geteuid():
        code, hint = "owner", "set MUNIMENT_RUNTIME to a folder of your own"
        expected, found = f"uid {os.geteuid()}", f"uid {info.st_uid}"
    elif mode & 0o077:
        code, expected, found = "mode", "0700", f"{mode:04o}"
        hint = f"set MUNIMENT_RUNTIME to a folder of its own; if nothing else uses this one: chmod 700 {shown(folder)}"
    else:
        return
    raise UnfitError(
        f"runtime folder {shown(folder)} cannot be trusted: {found}",
        code=f"runtime.{code}",
        hint=hint,
        path=shown(folder),
        expected=expected,
        found=found,
    )


def list_runs(runtime: Path | None = None) -> list[Run]:
    """Every spec that has a folder, by name: running, ended or dead.

    Raises UnfitError, UnavailableError.
    """
    runtime = runtime or runtime_folder()
    try:
        check_ours(runtime)
    except NotFoundError:
        return []
    with faults("list", runtime, "runtime"):
        folders = [path for path in runtime.iterdir() if path.is_symlink() or path.is_dir()]
    names = sorted(path.name for path in folders if NAME.fullmatch(path.name))
    return [look(runtime, name) for name in names]


def find_run(key: str, runtime: Path | None = None) -> Run:
    """The run of an id or of a spec's name.

    Raises:
        NotFoundError: none. ConflictError: the id of one run is the spec name of another.
        WrongError: it is there and its `run.json` says nothing.
    """
    runs = list_runs(runtime)
    found = [run for run in runs if key in {run.run, run.spec}]
    if not found:
        raise NotFoundError(
            f"no run {shown(key)}",
            code="run.none",
            hint="a run is named by its id or its spec's name",
            found=", ".join(f"{run.spec} ({run.run})" for run in runs) or "no runs",
            path=shown(runtime or runtime_folder()),
        )
    if len(found) > 1:
        raise ConflictError(
            f"{shown(key)} names two runs",
            code="run.ambiguous",
            hint="name the other one's id, or the ring's path",
            found=", ".join(f"{run.spec} ({run.run})" for run in found),
        )
    if found[0].problem:
        raise WrongError(
            f"run {shown(key)} does not say whose it is",
            code="run.damaged",
            hint="name the ring's path",
            path=shown(found[0].folder / "run.json"),
            expected="the JSON that a run writes",
            found=found[0].problem,
        )
    return found[0]


def look(runtime: Path, spec: str) -> Run:
    folder = runtime / spec
    check_ours(folder)
    with faults("look at", folder, "runtime"):
        fd = os.open(folder, FOLDER)
        try:
            with unheld(fd) as free:
                rings = [*folder.glob("ring"), *folder.glob("ring-*"), *folder.glob("lanes/*")]
        finally:
            os.close(fd)
    here = Run(spec, folder, not free, sorted(path for path in rings if is_ring(path.name)))
    try:
        fd = os.open(folder / "run.json", READ)
    except FileNotFoundError:
        return here if not here.rings else here._replace(problem="no run.json")
    except OSError as error:
        return here._replace(problem=error.strerror or "unreadable")
    try:
        return _parsed(here, read_exactly(fd, _MAX_JSON, 0))
    except (OSError, ValueError, KeyError, TypeError, RecursionError) as error:
        return here._replace(problem=f"run.json: {type(error).__name__}")
    finally:
        os.close(fd)


def _parsed(here: Run, raw: bytes) -> Run:
    data = json.loads(raw)
    run, sha, pid = data["run"], data["spec_sha256"], data["pid"]
    if data["run_v"] != RUN_V or data["spec"] != here.spec or type(pid) is not int or pid < 1:
        raise ValueError
    if not RUN_ID.fullmatch(run) or not SHA.fullmatch(sha):
        raise ValueError
    return here._replace(
        run=run,
        pid=pid,
        spec_sha256=sha,
        started_unix_ns=int(data["started_unix_ns"]),
        ended_unix_ns=int(data["ended_unix_ns"]),
    )


def is_ring(name: str) -> bool:
    return ".left-" not in name and ".unread-" not in name and not name.startswith(".")
