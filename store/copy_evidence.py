"""Copy evidence from place to place: a blob is read and found right before a byte of it goes out, and hashed where it arrives."""

from __future__ import annotations

import itertools
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import NamedTuple

from muniment.domain.errors import NotFoundError, UnavailableError, WrongError
from muniment.store.evidence import EvidenceStore, Stored
from muniment.store.evidence_folder import EvidenceFolder

_BLOBS = 1000

Progress = Callable[[str, int, int], None]
"""(what: `records` or `bytes`, done, in all)."""


class Files(NamedTuple):
    """Evidence at the source: blobs, their bytes, how many were copied by this run; those that could not be, with the reason."""

    files: int = 0
    bytes: int = 0
    copied: int = 0
    missed: tuple[tuple[str, str], ...] = ()


def same_place(one: EvidenceStore, two: EvidenceStore) -> bool:
    """Tell whether two stores keep their evidence in one place."""
    if isinstance(one, EvidenceFolder) and isinstance(two, EvidenceFolder):
        return one.root.resolve() == two.root.resolve()
    return type(one) is type(two) and one.name == two.name


def copy_evidence(source: EvidenceStore, target: EvidenceStore, progress: Progress) -> Files:
    """Copy every blob, also one that no record names.

    A blob that is damaged or vanishes at the source is left out and told; what is in the target already is not read here.

    Raises:
        WrongError: a blob in the target is damaged. DeniedError, UnavailableError: run again, it goes on.
    """
    whole = sum(stored.bytes for stored in source.iter())
    files = size = copied = 0
    missed: list[tuple[str, str]] = []
    for some in _batches(source.iter(), _BLOBS):
        there = target.sizes([stored.blake3 for stored in some])
        for blake3, count in some:
            files, size = files + 1, size + count
            if there.get(blake3) != count:
                problem = _copy_blob(source, target, blake3)
                if problem:
                    missed.append((blake3, problem))
                copied += not problem
            progress("bytes", size, whole)
    return Files(files, size, copied, tuple(missed))


def _copy_blob(source: EvidenceStore, target: EvidenceStore, blake3: str) -> str:
    try:
        stream = source.open(blake3)
    except (WrongError, NotFoundError) as error:
        return error.message
    with stream:
        blob = target.put(stream)
    if blob.blake3 != blake3:
        raise UnavailableError(
            f"evidence {blake3} changed while it was copied",
            code="evidence.changed",
            hint="see who writes to the source, then run it again",
        )
    return ""


def _batches(stored: Iterable[Stored], size: int) -> Iterator[Sequence[Stored]]:
    every = iter(stored)
    while some := list(itertools.islice(every, size)):
        yield some
