"""Take in a file, a folder, standard input or an archive: every file becomes evidence, the list becomes a
manifest.

1. All or nothing: any problem fails the whole intake. Blobs stored until then stay as orphans, which harm
   nobody.
2. The digest is over path, SHA-256 and size of the files only: equal bytes give the same digest, whether
   they came as a folder or as an archive of it, with whatever mode, owner or time (release-rules.md,
   section 1).
3. An archive is first stored as evidence itself and then read from there, so its source cannot change
   meanwhile, and its provenance is kept beside what was taken out of it.
4. What is left out is listed, with the pattern that left it out. An intake of nothing is refused.
"""

from __future__ import annotations

import os
import re
import secrets
import shutil
import stat
import sys
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app.archive import Limits, expand, kind_of
from muniment.app.tree import Tree, matching, path_problem, paths_problem
from muniment.domain import canonical
from muniment.domain.errors import InvalidError, UnavailableError, UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.evidence import EvidenceStore
from muniment.store.files import NEW, Blob, Progress, Readable, faults, fsync_folder

STDIN_NAME = "stdin"
_hex = re.compile(r"[0-9a-f]{64}").fullmatch


class IntakeManifest(NamedTuple):
    """What was taken in.

    Attributes:
        manifest: `{"files": [{path, sha256, blake3, bytes, mode_exec}], "excluded": [{path, pattern}]}`,
        sorted by
            the bytes of the path; from an archive also `"archive": {name, format, sha256, blake3, bytes}`.
        digest: `sha256:…`, the identity of the intake.
        files: how many.
        bytes: of all files together.
    """

    manifest: dict[str, Any]
    digest: str
    files: int
    bytes: int


class _Sum:
    """Progress over several files: each `put` counts from zero."""

    def __init__(self, progress: Progress | None) -> None:
        self._progress, self._before, self._now = progress, 0, 0

    def __call__(self, done: int) -> None:
        self._now = self._before + done
        if self._progress is not None:
            self._progress(self._now)

    def next(self) -> None:
        self._before = self._now


def collect(
    source: Path | str,
    evidence: EvidenceStore,
    *,
    exclude: Iterable[str] = (),
    progress: Progress | None = None,
    limits: Limits | None = None,
    stdin: Readable | None = None,
) -> IntakeManifest:
    """Store every file of the source as evidence and return the manifest.

    Args:
        source: a file, a folder, an archive by its suffix (.tar .tar.gz .tgz .zip), or "-" for standard
        input. exclude: patterns; one with `/` is held against the path, one without against each name
        (`.git`, `*.pyc`). progress: called with the bytes done, over all files.
        stdin: read in place of the process's own standard input.

    Raises:
        UsageError: nothing to take in, or something that cannot be (symlink, device, name, bomb, over a
        limit). UnavailableError: unreadable, vanished or changed while it was read; disk full.
        WrongError: the archive is damaged, or a stored blob is.
    """
    bounds, patterns, done = limits or Limits(), tuple(exclude), _Sum(progress)
    if str(source) == "-":
        if stdin is None and not sys.stdin.readable():
            raise UnavailableError(
                "standard input is closed", code="intake.closed", hint="redirect a file or a pipe into it"
            )
        stream = sys.stdin.buffer if stdin is None else stdin
        blob = evidence.put(stream, limit=bounds.max_bytes, progress=done)
        return _manifest([_file(STDIN_NAME, blob, executable=False)], [])
    path = Path(source)
    with faults("look at", path, "intake"):
        mode = path.stat().st_mode if path.exists() else None
    if mode is None:
        raise UsageError(f"{shown(path)} does not exist", code="intake.absent")
    if stat.S_ISDIR(mode):
        return _collect_folder(path, evidence, patterns, done, bounds)
    if (problem := path_problem(path.name)) is not None:
        raise UsageError(f"{shown(path)}: {problem[1]}", code=f"intake.{problem[0]}")
    if path.is_symlink():
        raise UsageError(f"{shown(path)} is a symlink", code="intake.symlink", hint="name the file itself")
    blob = evidence.put(path, limit=bounds.max_bytes, progress=done)
    kind = kind_of(path.name)
    if kind is None:
        if (pattern := matching(path.name, patterns)) is not None:
            return _manifest([], [{"path": path.name, "pattern": pattern}])
        return _manifest([_file(path.name, blob, executable=bool(mode & stat.S_IXUSR))], [])
    return _collect_archive(path.name, kind, blob, evidence, patterns, done, bounds)


def _collect_folder(
    path: Path, evidence: EvidenceStore, patterns: tuple[str, ...], done: _Sum, bounds: Limits
) -> IntakeManifest:
    files = []
    with Tree(path, follow_root=True, area="intake") as tree:
        nodes = tree.files(limit=bounds.max_files, exclude=patterns)
        _refuse_own_store(path, evidence, [node.path for node in nodes], patterns)
        if (total := sum(node.size for node in nodes)) > bounds.max_bytes:
            raise UsageError(
                f"{shown(path)} holds {total} bytes", code="intake.limit", expected=f"<= {bounds.max_bytes}"
            )
        for node in nodes:
            with tree.open(node) as stream:
                blob = evidence.put(stream, size=node.size, progress=done)
            done.next()
            files.append(_file(node.path, blob, executable=node.executable))
        tree.unchanged()
        excluded = [{"path": item.path, "pattern": item.pattern} for item in tree.excluded]
    return _manifest(files, excluded)


def _refuse_own_store(
    path: Path, evidence: EvidenceStore, paths: list[str], patterns: tuple[str, ...]
) -> None:
    """A store inside the folder would be read while it is written: its owner must leave it out by name."""
    root = path.resolve()
    for ours in (folder.resolve() for folder in evidence.folders):
        if ours == root or root in ours.parents:
            relative = ours.relative_to(root).as_posix()
            parts = relative.split("/")
            if not any(matching("/".join(parts[: i + 1]), patterns) for i in range(len(parts))):
                raise UsageError(
                    f"{shown(path)} holds the evidence store itself ({shown(relative)})",
                    code="intake.own_store",
                    hint=f"exclude {shown(parts[0])}",
                    found=f"{len(paths)} files",
                )


def _collect_archive(
    name: str,
    kind: str,
    archive: Blob,
    evidence: EvidenceStore,
    patterns: tuple[str, ...],
    done: _Sum,
    bounds: Limits,
) -> IntakeManifest:
    done.next()
    files: list[dict[str, Any]] = []
    excluded: dict[str, str] = {}
    with evidence.open(archive.blake3) as stream:
        for member in expand(stream, kind, archive.bytes, bounds, evidence.staging):
            parts = member.path.split("/")
            prefixes = ["/".join(parts[: i + 1]) for i in range(len(parts))]
            hit = next(((p, found) for p in prefixes if (found := matching(p, patterns)) is not None), None)
            if hit is not None:
                excluded[hit[0] + "/" * (hit[0] != member.path)] = hit[1]
                continue
            try:
                blob = evidence.put(member.stream, size=member.size, progress=done)
            except UnavailableError as error:
                if error.code != "evidence.changed":
                    raise
                # the archive is evidence already and does not change: it lies about a member's size
                raise WrongError(
                    f"archive {shown(name)}: {shown(member.path)} is not as long as the archive says",
                    code="intake.archive_damaged",
                    expected=error.context.get("expected"),
                    found=error.context.get("found"),
                ) from error
            done.next()
            files.append(_file(member.path, blob, executable=member.executable))
    files.sort(key=lambda item: item["path"].encode())
    left_out = [{"path": path, "pattern": excluded[path]} for path in sorted(excluded, key=str.encode)]
    if (problem := paths_problem(item["path"] for item in files)) is not None:
        raise UsageError(f"archive {shown(name)}: {problem[1]}", code=f"intake.{problem[0]}")
    taken = _manifest(files, left_out)
    taken.manifest["archive"] = {
        "name": name,
        "format": kind,
        "sha256": archive.sha256,
        "blake3": archive.blake3,
        "bytes": archive.bytes,
    }
    return taken


def _file(path: str, blob: Blob, *, executable: bool) -> dict[str, Any]:
    return {
        "path": path,
        "sha256": blob.sha256,
        "blake3": blob.blake3,
        "bytes": blob.bytes,
        "mode_exec": executable,
    }


def _manifest(files: list[dict[str, Any]], excluded: list[dict[str, str]]) -> IntakeManifest:
    if not files:
        raise UsageError(
            "there is nothing to take in",
            code="intake.empty",
            hint="an intake holds at least one file; look at the exclusions",
            found=f"0 files, {len(excluded)} excluded",
        )
    manifest = {"files": files, "excluded": excluded}
    return IntakeManifest(
        manifest, manifest_digest(manifest), len(files), sum(item["bytes"] for item in files)
    )


def manifest_digest(manifest: Mapping[str, Any]) -> str:
    """The identity of an intake: canonical digest over path, SHA-256 and size of its files, and nothing
    else."""
    keys = ("path", "sha256", "bytes")
    return canonical.digest({"files": [{key: item[key] for key in keys} for item in manifest["files"]]})


def materialize(manifest: Mapping[str, Any], evidence: EvidenceStore, into: Path) -> None:
    """Re-create the tree from evidence, every byte compared; `into` appears whole or not at all.

    Args:
        into: does not exist yet, or is an empty folder. Files get mode 0644, or 0755 by `mode_exec`.

    Raises:
        InvalidError: the manifest is not one of ours. NotFoundError, WrongError: evidence is missing or
        damaged. UsageError: `into` is not empty. UnavailableError: disk full, no permission.
    """
    files = _checked(manifest)
    if into.is_symlink() or (into.exists() and (not into.is_dir() or any(into.iterdir()))):
        raise UsageError(f"{shown(into)} is not an empty folder", code="intake.not_empty")
    work = into.parent / f".{into.name}.part-{secrets.token_hex(4)}"
    with faults("create", work, "intake"):
        work.mkdir(mode=0o755)
    try:
        for path, blob, executable in files:
            target = work / path
            with faults("write", target, "intake"):
                target.parent.mkdir(parents=True, exist_ok=True)
                fd = os.open(target, NEW, 0o755 if executable else 0o644)
                try:
                    evidence.copy(blob, fd)
                finally:
                    os.close(fd)
        with faults("rename", into, "intake"):
            work.rename(into)
            fsync_folder(into.parent)
    finally:
        shutil.rmtree(work, ignore_errors=True)


def _checked(manifest: Mapping[str, Any]) -> list[tuple[str, Blob, bool]]:
    """A manifest may come from a record or a file: its paths and digests are looked at before they touch a
    disk."""
    try:
        files = [
            (item["path"], Blob(item["blake3"], item["sha256"], item["bytes"]), item["mode_exec"] is True)
            for item in manifest["files"]
        ]
        sound = bool(files) and all(
            type(path) is str
            and _hex(blob.blake3)
            and _hex(blob.sha256)
            and type(blob.bytes) is int
            and blob.bytes >= 0
            for path, blob, _ in files
        )
    except (KeyError, TypeError) as error:
        raise InvalidError(f"not an intake manifest: {error}", code="intake.manifest") from error
    if not sound:
        raise InvalidError(
            "not an intake manifest: a file lacks path, digest or size", code="intake.manifest"
        )
    if (problem := paths_problem(path for path, _, _ in files)) is not None:
        raise InvalidError(f"not an intake manifest: {problem[1]}", code=f"intake.{problem[0]}")
    return files
