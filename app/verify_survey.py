"""Look at a stretch of records as a whole: fast, in any process, and able to say only that nothing is wrong with it.

1. `Surveyor.look` returns a `Survey` only if it is certain that each record passes by itself; else None, which is no finding:
   `verify_records` looks at each record of the stretch then, and only that makes findings.
2. What needs the records before it is not judged here but handed on: the ends of the times, the order of new types, the records
   of batches, keys and signatures. So stretches may be surveyed in any order, by any number of processes.
"""

from __future__ import annotations

import hashlib
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

import msgspec
from muniment.app.verify_sequel import CREATED, KEY_TYPES
from muniment.app.verify_sum import PRIME, SPAN, SPAN_BITS, Sum
from muniment.app.verify_typed import reader
from muniment.store.inspect import Cells
from muniment.store.merkle import Frontier

NOTED = frozenset((CREATED, *KEY_TYPES))
_TYPE, _TYPE_END = b'"type":"', -len(b'","v":1}')
_UNSET = msgspec.UNSET
_sha256 = hashlib.sha256


class Plan(msgspec.Struct, array_like=True):
    """What a survey must know of the whole.

    Attributes:
        key: of the run's sums (32 bytes). types: numbers by name, as stored. indexed: the index covers positions up to it.
        cuts: sizes of the log at which the root is wanted. evidence: whether to hand on the evidence that records name.
    """

    key: bytes
    types: dict[str, int]
    indexed: int
    cuts: list[int]
    evidence: bool


class Survey(msgspec.Struct, array_like=True, gc=False):
    """A stretch in which nothing is wrong.

    Attributes:
        size: records. roots: their tree (`Frontier`). cuts: size within the stretch -> roots of the tree of so many.
        first_at, last_at: recorded_at of its ends. types: indexed types in the order of their first records. sum: see `Sum`.
        evidence: (position, entries). noted: (position, body) of those that are judged by what came before.
    """

    size: int
    roots: list[bytes]
    cuts: dict[int, list[bytes]]
    first_at: str
    last_at: str
    types: list[str]
    sum: int
    evidence: list[tuple[int, list[dict[str, Any]]]]
    noted: list[tuple[int, bytes]]

    def tree(self) -> Frontier:
        """The tree of its records."""
        return Frontier(self.size, self.roots)


class Surveyor:
    """One run's look at stretches. A stretch lies within one span of `SPAN` positions and begins where a subtree may."""

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._sum = Sum(plan.key, plan.indexed, plan.types.values())

    def look(self, first: int, rows: Sequence[Cells]) -> Survey | None:
        """Survey the rows that should be those of positions `first` onwards (rule 1)."""
        if not rows or (first - 1) >> SPAN_BITS != (first + len(rows) - 2) >> SPAN_BITS:
            return None
        positions, ids, leaves, bodies = zip(*rows, strict=True)
        if positions != tuple(range(first, first + len(rows))) or set(map(type, positions)) != {int}:
            return None
        if set(map(type, bodies)) != {bytes}:
            return None
        made = [_sha256(b"\x00" + body).digest() for body in bodies]
        if made != list(leaves):
            return None
        survey = self._read(first, ids, bodies)
        if survey is not None:
            self._grow(survey, first, made)
        return survey

    def _read(self, first: int, ids: Sequence[Any], bodies: Sequence[bytes]) -> Survey | None:
        """Read all records, types apart (`verify_typed`)."""
        plan, skip = self._plan, len(_TYPE)
        groups: defaultdict[bytes, list[int]] = defaultdict(list)
        for at, raw in enumerate([body[body.rfind(_TYPE) + skip : _TYPE_END] for body in bodies]):
            groups[raw].append(at)
        texts: list[Any] = [None] * len(bodies)
        times: list[Any] = texts.copy()
        noted: list[int] = [0] if first == 1 else []
        evidence: list[tuple[int, list[dict[str, Any]]]] = []
        types: list[tuple[int, str]] = []
        within = plan.indexed - first + 1  # places below it have entries
        base = (first - 1) & (SPAN - 1)
        total = 0
        for raw, places in groups.items():
            name = raw.decode("utf-8", "replace")
            typed = reader(name)
            if typed is None:
                return None
            rows = typed.read([bodies[at] for at in places])
            if rows is None or not typed.tagged(rows):
                return None
            for at, row in zip(places, rows, strict=True):
                texts[at] = row.id
                times[at] = row.recorded_at
            noted += (
                places
                if name in NOTED
                else [
                    at
                    for at, row in zip(places, rows, strict=True)
                    if row.batch is not _UNSET or row.signature is not _UNSET or row.actor.auth != "os"
                ]
            )
            if plan.evidence:
                evidence += [
                    (first + at, row.evidence)
                    for at, row in zip(places, rows, strict=True)
                    if row.evidence is not _UNSET
                ]
            if places[0] < within:
                number = plan.types.get(name)
                if number is None:
                    return None
                types.append((places[0], name))
                tags = [row.tags for row in rows]
                if places[-1] >= within:
                    places = [at for at in places if at < within]
                    tags = tags[: len(places)]
                try:
                    total += self._sum.made(number, [base + at for at in places], tags)
                except KeyError:
                    return None
        if not _ids_agree(texts, ids) or times != sorted(times):
            return None
        at_once = sorted(set(noted))
        evidence.sort(key=lambda item: item[0])
        return Survey(
            len(bodies),
            [],
            {},
            times[0],
            times[-1],
            [name for _, name in sorted(types)],
            total * self._sum.span((first - 1) >> SPAN_BITS) % PRIME,
            evidence,
            [(first + at, bodies[at]) for at in at_once],
        )

    def _grow(self, survey: Survey, first: int, leaves: list[bytes]) -> None:
        tree, done = Frontier(), 0
        for size in self._plan.cuts:
            cut = size - first + 1
            if done < cut <= len(leaves):
                tree.extend(leaves[done:cut])
                done = cut
                survey.cuts[cut] = tree.roots.copy()
        tree.extend(leaves[done:] if done else leaves)
        survey.roots = tree.roots


def _ids_agree(texts: Sequence[Any], cells: Sequence[Any]) -> bool:
    """Tell whether each id column holds the sixteen bytes of its record's id."""
    try:
        if set(map(len, cells)) != {16} or set(map(len, texts)) != {36}:
            return False
        # No id holds a line break if the lines are equal, so they are equal one by one.
        return "\n".join(texts).replace("-", "") == b"".join(cells).hex("\n", 16)
    except TypeError:
        return False
