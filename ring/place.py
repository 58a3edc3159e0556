"""Where running pipelines live: the runtime folder, and in it a folder for each spec by its name.

    <runtime>/<spec name>/run.json       whose run it is: id, pid, spec, start
                         /ring           or ring-<shard>: mapped rings
                         /lanes/<name>   rings that are lanes in memory
                         /ring.left-<ns> a ring of a run that died, after its state was captured

1. A run holds a lock on its folder for its life, so who lives is the kernel's word, across containers too; the pid is for messages.
2. The runtime folder is ours alone (mode 0700, no link), or it is refused: rings are memory that whoever may write can change.
3. It is not a place of evidence, and often memory: the capture of a left-over ring is the evidence. The last 3 captured ones are
   kept; one that could not be captured is kept until somebody removes it.
4. Journals are not here: they have to outlive the host, see `journals`.
"""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Self

from muniment.domain.errors import ConflictError, UsageError
from muniment.domain.os_faults import shown
from muniment.ring.files import FOLDER, faults, hold, write_new
from muniment.ring.place_runs import (
    NAME,
    RUN_ID,
    RUN_V,
    SHA,
    Run,
    check_ours,
    find_run,
    is_ring,
    list_runs,
    look,
    runtime_folder,
)

__all__ = ["KEEP_LEFT", "Run", "RunPlace", "check_ours", "find_run", "list_runs", "runtime_folder"]

KEEP_LEFT = 3


class RunPlace:
    """The folder of a spec while one run of it lives: claimed here, let go of by `release`.

    Args:
        journals: the folder on a disk for this spec's journal lanes (rule 4).

    Raises:
        UsageError: no such name. ConflictError: a run of this spec lives. UnfitError, UnavailableError.
    """

    def __init__(self, spec: str, *, runtime: Path | None = None, journals: Path | None = None) -> None:
        _named(spec, "spec.name")
        self.spec, self.runtime = spec, runtime or runtime_folder()
        self.folder, self._journals, self._lock = self.runtime / spec, journals, -1
        _make_ours(self.runtime)
        _make_ours(self.folder)
        try:
            with faults("open", self.folder, "runtime"):
                self._lock = os.open(self.folder, FOLDER)
                free = hold(self._lock)
            before = look(self.runtime, spec)
            if not free:
                raise _taken(before)  # noqa: TRY301  # the clean-up is the same for every way out
        except BaseException:
            self.release()
            raise
        self.before = before._replace(live=False)
        """What the run before this one left."""

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def ring(self, shard: int | None = None) -> Path:
        return self.folder / ("ring" if shard is None else f"ring-{shard}")

    def lane(self, name: str) -> Path:
        """The ring of a lane in memory; its folder is made."""
        lanes = self.folder / "lanes"
        _make_ours(lanes)
        return lanes / _named(name, "lane.name")

    def journal(self, name: str) -> Path:
        """The folder of a journal lane. Raises UsageError: no folder for journals was given."""
        if self._journals is None:
            raise UsageError(
                f"lane {name} is a journal and there is no folder for journals",
                code="run.no_journals",
                hint="name a folder on a disk: a runtime folder is memory",
            )
        return self._journals / _named(name, "lane.name")

    def begin(self, run: str, spec_sha256: str) -> Run:
        """Say whose run this is. Raises UsageError: no id or digest. UnavailableError."""
        if not RUN_ID.fullmatch(run) or not SHA.fullmatch(spec_sha256):
            raise UsageError(
                "not the name of a run",
                code="run.name",
                expected=f"{RUN_ID.pattern}, 64 hex digits",
                found=f"{run[:80]} {spec_sha256[:80]}",
            )
        self._write(run, spec_sha256, time.time_ns(), 0)
        return look(self.runtime, self.spec)._replace(live=True)

    def tell(self, name: str, data: bytes) -> None:
        """Write a small file beside the rings, whole or not at all. Raises UnavailableError."""
        with faults("write", self.folder / name, "runtime"):
            write_new(self.folder, name, data + b"\n", durable=False)

    def end(self) -> None:
        """Say that the run ended of its own accord; its rings may be read until the next one."""
        found = look(self.runtime, self.spec)
        if not found.run:
            raise UsageError("a run that has not begun cannot end", code="run.not_begun")
        self._write(found.run, found.spec_sha256, found.started_unix_ns, time.time_ns())

    def set_aside(self, path: Path, *, captured: bool) -> Path:
        """Rename a ring or lane that is in the way; its new path (rule 3).

        Args:
            captured: its state is on record. If not (it was damaged), the file is kept until somebody removes it.
        """
        if path.parent not in {self.folder, self.folder / "lanes"} or not NAME.fullmatch(path.name):
            raise UsageError("not a ring of this run", code="run.path", found=shown(path))
        kind = "left" if captured else "unread"
        aside = path.with_name(f"{path.name}.{kind}-{time.time_ns():020}")
        with faults("set aside", path, "runtime"):
            path.rename(aside)
            if captured:
                for old in sorted(path.parent.glob(f"{path.name}.left-*"))[:-KEEP_LEFT]:
                    old.unlink()
        return aside

    def clear(self) -> None:
        """Remove the rings of a run that ended. Raises ConflictError: it died, and its rings were not set aside."""
        found = look(self.runtime, self.spec)
        if found.rings and not found.ended_unix_ns:
            raise ConflictError(
                f"rings of a run of {self.spec} that died are here",
                code="run.left_over",
                hint="capture their state and set them aside first",
                expected="a run that ended",
                found=", ".join(shown(path.name) for path in found.rings),
            )
        for path in found.rings:
            with faults("remove", path, "runtime"):
                path.unlink()

    def release(self) -> None:
        """Let go of the folder; what is in it stays."""
        if self._lock >= 0:
            os.close(self._lock)
        self._lock = -1

    def _write(self, run: str, spec_sha256: str, started: int, ended: int) -> None:
        data = {
            "ended_unix_ns": str(ended),
            "pid": os.getpid(),
            "run": run,
            "run_v": RUN_V,
            "spec": self.spec,
            "spec_sha256": spec_sha256,
            "started_unix_ns": str(started),
        }
        with faults("write", self.folder / "run.json", "runtime"):
            write_new(self.folder, "run.json", json.dumps(data).encode() + b"\n", durable=False)


def _named(name: str, field: str) -> str:
    if not NAME.fullmatch(name) or not is_ring(name):
        raise UsageError(
            f"{field} cannot name a place", code="run.name", expected=NAME.pattern, found=shown(name[:80])
        )
    return name


def _make_ours(folder: Path) -> None:
    """Make a folder that only we may enter, or check the one there is."""
    with faults("make", folder, "runtime"):
        folder.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            folder.mkdir(mode=0o700)
        except FileExistsError:
            pass
        else:
            folder.chmod(0o700)  # whatever the umask took
    check_ours(folder)


def _taken(run: Run) -> ConflictError:
    return ConflictError(
        f"spec {run.spec} is running: run {run.run or 'unknown'} of process {run.pid or 'unknown'}",
        code="run.live",
        hint=f"stop it, or look at it with `muniment snapshot --run {run.run or run.spec}`",
        expected="no other run of this spec",
        found=f"pid {run.pid}" if run.pid else "a run that has not said who it is",
        run=run.run,
        path=shown(run.folder),
    )
