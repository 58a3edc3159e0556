"""`store copy`: a whole store into another place: records, evidence, exported checkpoints; never a private key.

1. The head is read first. Every blob that a record up to there names was stored before it, so what is copied afterwards has
   them all, whoever writes meanwhile.
2. The target is verified as `verify store` does before it becomes a store, and its head is the one that was read.
3. What the source is wrong in itself (a missing blob, a bad signature) is kept and told, and is never exit 0. Without `as_is`
   the target stays unfinished then. Where the copy is wrong, no option makes it a store.
"""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from typing import NamedTuple

import msgspec
from muniment.app.home import write_atomic
from muniment.app.session import EXPORTS, evidence_of, folder_for
from muniment.app.verify import verify_store
from muniment.app.verify_exports import Anchor, exported
from muniment.app.verify_report import CHECKS, FAIL, SKIPPED, Check, Report
from muniment.domain.errors import (
    ConflictError,
    UnavailableError,
    UsageError,
    WrongError,
)
from muniment.domain.os_faults import shown
from muniment.store.api import Head, Log
from muniment.store.checkpoint import MAX_NOTE
from muniment.store.copy import copy_records, demand_first
from muniment.store.copy_evidence import Files, Progress, copy_evidence, same_place
from muniment.store.copy_place import Unfinished, begin
from muniment.store.evidence import EvidenceStore
from muniment.store.files import faults, regular
from muniment.store.open import folder_of, name_of, open_log
from muniment.store.postgres_url import is_postgres

# What a copy takes over from its source: found in a right copy, it was so there.
INHERITED = frozenset(
    {id_ for id_ in CHECKS if id_.startswith(("record.", "evidence."))}
    | {"store.created", "exports.checkpoints", "head.against"}
)


class Side(NamedTuple):
    """One of the two stores: its log, its evidence, the folder of its exports, and its name for people."""

    log: Log
    evidence: EvidenceStore
    exports: Path
    name: str


class Inherited(NamedTuple):
    """Something that is wrong at the source: the check it fails, position or None, what was expected and found."""

    check: str
    position: int | None
    field: str
    expected: str
    found: str


class Copied(NamedTuple):
    """What was done.

    Attributes:
        head: of the copy, and of the source when it began.
        begun: records that an earlier, cut run had brought.
        later: records that the source got meanwhile, which are not in the copy.
        shared: both stores keep their evidence in one place, and nothing was copied.
        checkpoints: names of the exported ones that came along.
        finished: the target is a store.
    """

    store_id: str
    kind: str
    source: str
    target: str
    head: Head
    begun: int
    later: int
    files: Files
    shared: bool
    checkpoints: list[str]
    wrong: list[Inherited]
    finished: bool

    @property
    def exit_code(self) -> int:
        """0 only if nothing is wrong; an unfinished target is always wrong."""
        return 0 if self.finished and not self.wrong else 7


def quiet(what: str, done: int, whole: int) -> None:
    """No progress."""


def copy(source: str, target: str, *, as_is: bool = False, progress: Progress = quiet) -> Copied:
    """Copy a store, or go on with a copy that was cut.

    Args:
        source: URL of a store, which is only read.
        target: URL of a place where nothing is, or an unfinished copy of the same log.
        as_is: make it a store although something is wrong at the source.

    Raises:
        NotFoundError: no store, or an empty one.
        ConflictError: there is a store at the target, or something else.
        WrongError: the source is damaged, or the copy is not right; the target stays unfinished.
        UsageError, InvalidError, DeniedError, UnfitError, UnavailableError: see `store.copy.begin` and `open_log`.
    """
    apart(source, target)
    with opened(source) as one, begun(target, one.log) as two:
        done = transfer(one, two, as_is=as_is, progress=progress)
        if done.finished:
            _finish(two.log)
        return done


@contextmanager
def opened(url: str) -> Iterator[Side]:
    """A store, to be read."""
    with closing(open_log(url, read_only=True)) as log:
        demand_first(log)
        yield Side(log, _evidence(url, log, read_only=True), _exports(url, log), name_of(url))


@contextmanager
def begun(url: str, source: Log, *, backup: bool = False) -> Iterator[Side]:
    """The unfinished copy of a log; left as it is."""
    with closing(begin(url, source.kind, backup=backup)) as log:
        yield Side(log, _evidence(url, log, read_only=False), _exports(url, source), name_of(url))


def _evidence(url: str, log: Log, *, read_only: bool) -> EvidenceStore:
    return evidence_of(url, getattr(log, "connection", None), read_only=read_only)


def _exports(url: str, log: Log) -> Path:
    return folder_for(url, log.store_id) / EXPORTS


def _finish(log: Log) -> None:
    unfinished: Unfinished = log  # type: ignore[assignment]
    unfinished.finish()


def transfer(
    source: Side, target: Side, *, as_is: bool, progress: Progress, expected: Head | None = None
) -> Copied:
    """Bring an unfinished target to the head of a source, and verify it; whoever calls makes it a store.

    Args:
        expected: the head the source must have.
    """
    head = source.log.head()
    if expected is not None and head != expected:
        raise WrongError(
            f"{source.name} has another head than its manifest",
            code="backup.head",
            expected=f"{expected.size} records, root {expected.root.hex()}",
            found=f"{head.size} records, root {head.root.hex()}",
        )
    before = copy_records(source.log, target.log, head, progress)  # type: ignore[arg-type]
    shared = same_place(source.evidence, target.evidence)
    files = Files() if shared else copy_evidence(source.evidence, target.evidence, progress)
    check, carried = _checkpoints(source, target, head)
    report = _verified(target, head, carried, progress)
    wrong = [Inherited("evidence.folder", None, blake3, "a sound blob", why) for blake3, why in files.missed]
    report.checks.append(check)
    wrong += inherited_of(report, target.name, "")
    return Copied(
        source.log.store_id,
        source.log.kind,
        source.name,
        target.name,
        head,
        before,
        source.log.head().size - head.size,
        files,
        shared,
        [anchor.name.removeprefix(f"{EXPORTS}/") for anchor in carried],
        wrong,
        as_is or not wrong,
    )


def _checkpoints(source: Side, target: Side, head: Head) -> tuple[Check, list[Anchor]]:
    """Bring every exported checkpoint up to the head along, once it is found right; those beyond speak of later records."""
    check = Check("exports.checkpoints", CHECKS["exports.checkpoints"])
    first = next(msgspec.json.decode(body) for _, body in source.log.read((), limit=1))
    born = int(first.get("batch", {}).get("size", 1))
    anchors = [a for a in exported(check, source.exports, first["data"], born) if a.size <= head.size]
    for anchor in anchors:
        name = anchor.name.removeprefix(f"{EXPORTS}/")
        _bring(source.exports / name, target.exports / name)
    return check, anchors


def _bring(one: Path, two: Path) -> None:
    with regular(one) as (stream, _), faults("read", one, "copy"):
        data = stream.read(MAX_NOTE)
    with faults("write", two, "copy"):
        if two.parent.is_symlink():
            raise UsageError(f"{shown(two.parent)} is a symlink", code="store.symlink")
        if two.is_symlink() or not two.exists():
            write_atomic(two, data)
        elif two.read_bytes() != data:
            raise ConflictError(
                f"{shown(two)} is another checkpoint of the same size: two logs have one name",
                code="copy.checkpoint",
                hint="keep both; see which of the two is right: muniment verify store",
            )


def _verified(target: Side, head: Head, anchors: list[Anchor], progress: Progress) -> Report:
    """The report on the target.

    Raises:
        WrongError: the copy is not what its source is. UnavailableError: it could not be looked at.
    """
    with (
        tempfile.TemporaryDirectory() as nobody
    ):  # what this reader saw of the log before does not bear on the copy
        report = verify_store(
            target.log,
            evidence=target.evidence,
            base=Path(nobody),
            against=anchors,
            progress=lambda done: progress("verified", done, head.size),
        )
    inherited_of(report, target.name, "the copy is not right; it stays unfinished")
    if (report.size, report.root) != (head.size, head.root.hex()):
        raise WrongError(
            f"{target.name}: the copy has another head than its source; it stays unfinished",
            code="copy.head",
            hint="copy to another place",
            expected=f"{head.size} records, root {head.root.hex()}",
            found=f"{report.size} records, root {report.root}",
        )
    return report


def inherited_of(report: Report, place: str | Path, text: str) -> list[Inherited]:
    """What is wrong in a store, all of it of the kind that a right copy takes over.

    Raises:
        WrongError: something else is wrong. UnavailableError: something could not be looked at.
    """
    for check in report.checks:
        if check.verdict == FAIL and check.id not in INHERITED:
            raise WrongError(
                f"{shown(place)}: {text}",
                code="copy.wrong",
                hint="see what lies below it, disk or database; take another place",
                check=check.id,
                position=check.findings[0].position,
                expected=check.findings[0].expected,
                found=check.findings[0].found,
            )
    for check in report.checks:
        if check.verdict == SKIPPED:
            raise UnavailableError(
                f"{shown(place)}: a check could not be made: {check.id}",
                code="copy.unverified",
                hint="run it again, it goes on",
                found=check.detail,
            )
    return [
        Inherited(check.id, one.position, one.field, one.expected, one.found)
        for check in report.checks
        if check.verdict == FAIL
        for one in check.findings
    ]


def apart(one: str, two: str) -> None:
    """Refuse a store and a copy of it in one folder, or one inside the other.

    Raises:
        UsageError: see above.
    """
    if is_postgres(one) or is_postgres(two):
        return
    try:
        left, right = (folder_of(url).absolute().resolve() for url in (one, two))
    except (OSError, RuntimeError) as error:
        raise UsageError(f"a folder cannot be followed: {error}", code="store.folder") from error
    if left.is_relative_to(right) or right.is_relative_to(left):
        raise UsageError(
            "one of the two folders lies in the other" if left != right else "both are the same folder",
            code="copy.same",
            hint="name a place outside the store",
            expected="two folders apart",
            found=f"{shown(left)}, {shown(right)}",
        )


__all__ = ["Copied", "Inherited", "Side", "apart", "begun", "copy", "opened", "quiet", "transfer"]
