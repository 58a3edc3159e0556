"""Copy the records of a log into another one, byte for byte, in a way that survives a cut.

1. The target is *unfinished* until it is whole: its log carries the mark of a copy instead of that of a store (PostgreSQL: the
   comment of the schema; SQLite: `application_id`), and no verb opens it. `finish` sets the mark in one
   transaction, so there is no moment at which half a copy is a store (ops/decisions/0014).
2. What is there of an unfinished log must be a prefix of the source, leaf by leaf; then the copy goes on behind it.
3. Each batch says at which size it goes in, and is one transaction: a cut loses the batch, two copies at once cannot mix.
4. A leaf is hashed from its bytes on the way and compared with the source's own; the root at the end with its head.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator

from muniment.domain.errors import ConflictError, NotFoundError, WrongError
from muniment.store import merkle
from muniment.store.api import Head, Log, Page
from muniment.store.copy_evidence import Progress
from muniment.store.copy_place import Unfinished

BATCH = 1024  # records in a transaction; at most 67 MB of them in memory


def demand_first(source: Log) -> None:
    """Demand the record that says which log this is.

    Raises:
        NotFoundError: an empty log. WrongError: its first record is damaged or gone.
    """
    if not source.head().size:
        raise NotFoundError(
            "the source holds no records", code="store.empty", hint="muniment init makes its first"
        )
    try:
        for page in source.pages(until=1):
            _hashed(page, source.leaves(until=1), 0)
            return
    except WrongError as error:
        if error.code != "store.head_mismatch":
            raise
    raise _damaged(1, "a record", "no record")


def copy_records(source: Log, target: Unfinished, head: Head, progress: Progress) -> int:
    """Bring a target to a head of its source; return the size it had.

    Args:
        head: as the source had it when the copy began; what comes later is left out.

    Raises:
        WrongError: the source is damaged, with the position; the target stays unfinished.
        ConflictError: the target holds other records, or more, or another copy writes to it.
        UnavailableError: as `Log.adopt`; run again, it goes on.
    """
    try:
        return _copy(source, target, head, progress)
    except WrongError as error:
        if error.code != "store.head_mismatch" or not (position := _gap(source, head.size)):
            raise
        raise _damaged(position, "a record", "no record") from error


def _copy(source: Log, target: Log, head: Head, progress: Progress) -> int:
    begun = target.head()
    frontier = _prefix(source, target, begun, head)
    leaves = source.leaves(after=begun.size, until=head.size)
    for page in source.pages(after=begun.size, until=head.size, size=BATCH):
        frontier.extend(_hashed(page, leaves, frontier.size))
        last = frontier.size == head.size
        if last:
            _demand_root(frontier, source, head)
        target.adopt(
            [body for _, body in page],
            recorded_at=head.recorded_at if last else None,
            after=page[0][0] - 1,
        )
        progress("records", frontier.size, head.size)
    if frontier.size != head.size:
        raise _damaged(frontier.size + 1, "a record", "no record")
    _demand_root(frontier, source, head)
    reached = target.head()
    if reached != head:
        raise WrongError(
            "the copy has another head than its source",
            code="copy.head",
            hint="keep both; the copy stays unfinished",
            expected=_said(head),
            found=_said(reached),
        )
    return begun.size


def _gap(log: Log, size: int) -> int:
    """The first position below a size where no record is, 0 if every one is there."""
    after, step = 0, BATCH
    while after < size:
        until = min(after + step, size)
        try:
            whole = sum(map(len, log.pages(after=after, until=until))) == until - after
        except WrongError:
            whole = False
        if not whole and step == 1:
            return until
        after, step = (until, step) if whole else (after, 1)
    return 0


def _prefix(source: Log, target: Log, begun: Head, head: Head) -> merkle.Frontier:
    """The frontier behind what the target holds already (rule 2)."""
    if begun.size > head.size:
        raise ConflictError(
            "the unfinished copy there holds more records than the source",
            code="copy.other",
            hint="name another place; was the source restored from a backup?",
            expected=f"at most {head.size} records",
            found=f"{begun.size} records",
        )
    frontier = merkle.Frontier()
    ours = source.leaves(until=begun.size)
    while chunk := list(itertools.islice(ours, BATCH)):
        frontier.extend(chunk)
    if frontier.root() != begun.root:
        pairs = zip(source.leaves(until=begun.size), target.leaves(), strict=False)
        at = next((n for n, (one, two) in enumerate(pairs, 1) if one != two), frontier.size + 1)
        raise ConflictError(
            f"the unfinished copy there is not of this log: they differ at position {at}",
            code="copy.other",
            hint="name another place",
            position=at,
        )
    return frontier


def _hashed(page: Page, leaves: Iterator[bytes], before: int) -> list[bytes]:
    """The leaf hashes of a page, each compared with the one the source keeps."""
    hashes = []
    for wanted, (position, body) in enumerate(page, before + 1):
        if position != wanted:
            raise _damaged(wanted, "a record", f"position {position}")
        found, kept = merkle.leaf_hash(body), next(leaves, b"")
        if found != kept:
            raise _damaged(position, kept.hex(), found.hex())
        hashes.append(found)
    return hashes


def _demand_root(frontier: merkle.Frontier, source: Log, head: Head) -> None:
    if frontier.root() == head.root:
        return
    size, roots = source.frontier()
    first = 1
    if size == head.size:  # the first subtree that differs says where to look
        for bit, found, kept in zip(_subtrees(size), frontier.roots, roots, strict=True):
            if found != kept:
                break
            first += bit
    raise WrongError(
        f"the source is damaged: its records do not give its root, from position {first} on",
        code="copy.source",
        hint="muniment verify store says more; restore a backup",
        position=first,
        expected=head.root.hex(),
        found=frontier.root().hex(),
    )


def _subtrees(size: int) -> list[int]:
    return [1 << bit for bit in reversed(range(size.bit_length())) if size >> bit & 1]


def _damaged(position: int, expected: str, found: str) -> WrongError:
    return WrongError(
        f"the source is damaged at position {position}",
        code="copy.source",
        hint="muniment verify store says more; restore a backup",
        position=position,
        expected=expected,
        found=found,
    )


def _said(head: Head) -> str:
    return f"{head.size} records, root {head.root.hex()}, {head.recorded_at}"
