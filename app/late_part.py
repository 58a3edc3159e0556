"""A large part of a read model: entities in blocks of bytes, found by id and decoded when they are asked for.

The blocks of a part stand in a memo (`app.memo_parts`), in the file of a fold that is under way (`app.spill`), or in both.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import msgspec

BLOCK = 64
MOST = (
    8192  # entities of a part that a fold keeps decoded: 60 MB; with a quarter of it a fold takes 10 % longer
)

_encode = msgspec.msgpack.Encoder().encode
_decode_block = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode


class Damaged(Exception):  # noqa: N818 - never leaves the memo: a damaged one counts as none
    """Bytes of a memo are not those that were written."""


_DAMAGE = (Damaged, msgspec.MsgspecError, KeyError, IndexError)


class Span(NamedTuple):
    """Bytes of a memo: where they start, how many, their digest."""

    start: int
    size: int
    digest: bytes


class PartIndex(msgspec.Struct, array_like=True):
    """Where a part stands: its ids in order, and how many of them each block holds."""

    ids: Span
    counts: list[int]
    blocks: list[Span]


class Part(MutableMapping[str, Any]):
    """One large part of a read model, by id in the order of the fold; decodes what is asked for and keeps it.

    Blocks stand in a memo, and behind those in a file of the fold that is under way (`pack`); where an entity is in several,
    the last one counts. Not a dict, so that whatever looks past its methods (msgspec, C code) fails loudly instead of seeing
    a few entities.

    Args:
        recover: makes the entities of the memo by a fold, for when a block of it turns out to be damaged.
    """

    __slots__ = (
        "_bytes_of",
        "_decode",
        "_here",
        "_index",
        "_limit",
        "_memo_blocks",
        "_packed",
        "_places",
        "_raw",
        "_recover",
    )

    def __init__(
        self,
        index: PartIndex,
        bytes_of: Callable[[Span], bytes],
        decode: Callable[[Any], Any],
        recover: Callable[[], Mapping[str, Any]],
        here: dict[str, Any] | None = None,
    ) -> None:
        self._index: PartIndex | None = index
        self._bytes_of = bytes_of
        self._decode = decode
        self._recover = recover
        self._here: dict[str, Any] = {} if here is None else here
        self._raw: dict[str, Any] = {}
        self._places: dict[str, int] | None = None
        self._memo_blocks = len(index.blocks)
        self._packed: list[Callable[[], bytes]] = []
        self._limit = MOST

    @classmethod
    def of(cls, entities: dict[str, Any], decode: Callable[[Any], Any]) -> Part:
        """A part without a memo, which takes over a dict."""
        part = cls(_NOWHERE, _nothing, decode, dict, entities)
        part._places = {}
        return part

    def get(self, key: str, default: Any = None) -> Any:
        found = self._here.get(key)
        if found is None:
            found = self._find(key)
        return default if found is None else found

    def __getitem__(self, key: str) -> Any:
        found = self._here.get(key)
        if found is None and (found := self._find(key)) is None:
            raise KeyError(key)
        return found

    def setdefault(self, key: str, default: Any = None) -> Any:
        found = self.get(key)
        if found is None:
            found = self._here[key] = default
        return found

    def __setitem__(self, key: str, value: Any) -> None:
        self._here[key] = value

    def __delitem__(self, key: str) -> None:
        raise TypeError("an entity never ends to have been")

    def __contains__(self, key: object) -> bool:
        return key in self._here or key in self._where()

    def __iter__(self) -> Iterator[str]:
        places = self._where()
        yield from places
        yield from [key for key in self._here if key not in places]

    def __len__(self) -> int:
        places = self._where()
        return len(places) + sum(key not in places for key in self._here)

    def _where(self) -> dict[str, int]:
        """Id -> number of its block."""
        if self._places is None:
            assert self._index is not None
            try:
                ids = _decode_ids(self._bytes_of(self._index.ids))
                blocks = [block for block, count in enumerate(self._index.counts) for _ in range(count)]
                self._places = dict(zip(ids, blocks, strict=True))
            except (Damaged, msgspec.MsgspecError, ValueError):
                self._give_up()
        assert self._places is not None
        return self._places

    def _block(self, number: int) -> dict[str, Any]:
        """The entities of a block that are in no later one, still encoded."""
        if number < self._memo_blocks:
            assert self._index is not None
            data = self._bytes_of(self._index.blocks[number])
        else:
            data = self._packed[number - self._memo_blocks]()
        places = self._where()
        return {key: raw for key, raw in _decode_block(data).items() if places.get(key) == number}

    def _find(self, key: str) -> Any:
        block = self._where().get(key)
        if block is None:
            return self._here.get(key)
        try:
            if key not in self._raw:
                self._raw.update(self._block(block))
            found = self._here[key] = self._decode(self._raw[key])
        except _DAMAGE:
            self._give_up()
            return self._here.get(key)
        return found

    def _give_up(self) -> None:
        """Take every entity of the memo that was not asked for yet from a fold up to the same position."""
        packed = {key: block for key, block in (self._places or {}).items() if block >= self._memo_blocks}
        self._places = packed
        self._here = {**self._recover(), **dict(self._through(packed)), **self._here}
        self._here = {
            key: self._decode(value) if isinstance(value, msgspec.Raw) else value
            for key, value in self._here.items()
        }
        self._index, self._places, self._packed, self._memo_blocks = None, {}, [], 0
        self._raw.clear()

    def _through(self, keys: Iterable[str]) -> Iterator[tuple[str, Any]]:
        """Each id once, with its entity if that is here, else its bytes; reads a block once and keeps none.

        Raises:
            Damaged, msgspec.MsgspecError, KeyError: a block of the memo is not what was written.
        """
        raw: dict[str, Any] = {}
        places = self._where()
        for key in keys:
            found = self._here.get(key)
            if found is None:
                if key not in raw:
                    raw.update(self._block(places[key]))
                found = raw.pop(key)
            yield key, found

    def each(self, order: Callable[[str], Any] | None = None) -> Iterator[tuple[str, Any]]:
        """Every id with its entity, in the order of the fold or another one; what is read for this is not kept."""
        ids = list(self) if order is None else sorted(self, key=order)
        done = 0
        try:
            for key, found in self._through(ids):
                entity = self._decode(found) if isinstance(found, msgspec.Raw) else found
                done += 1
                yield key, entity
        except _DAMAGE:
            self._give_up()
            yield from ((key, self._here[key]) for key in ids[done:])

    def pack(self, keep: Callable[[bytes], Callable[[], bytes]]) -> None:
        """Move what is here into blocks, if it is much and not asked for again and again.

        Args:
            keep: puts bytes aside and returns what reads them.

        Raises:
            UnavailableError: they could not be put aside; what was not stays here.
        """
        if len(self._here) <= self._limit:
            return
        places = self._where()
        if 2 * len(self._here.keys() & places.keys()) > len(self._here):
            self._limit *= 2  # most of them were packed before: so many are at work at a time
            return
        self._raw.clear()
        items = list(self._here.items())
        at = 0
        try:
            for at in range(0, len(items), BLOCK):
                block = dict(items[at : at + BLOCK])
                number = self._memo_blocks + len(self._packed)
                self._packed.append(keep(_encode(block)))
                places.update(dict.fromkeys(block, number))
            at = len(items)
        finally:
            self._here = dict(items[at:])

    def written(self) -> Iterator[tuple[list[str], bytes]]:
        """Ids and bytes of each block as it is now; a block that is as it was in the memo is copied.

        Raises:
            Damaged: a block cannot be read.
        """
        ids, places = list(self), self._where()
        counts = self._index.counts if self._index is not None else []
        for at in range(0, len(ids), BLOCK):
            keys = ids[at : at + BLOCK]
            block = places.get(keys[0], self._memo_blocks)
            if (
                self._index is not None
                and block < self._memo_blocks
                and counts[block] == len(keys)
                and all(places.get(key) == block and key not in self._here for key in keys)
            ):
                yield keys, self._bytes_of(self._index.blocks[block])
                continue
            try:
                data = _encode(dict(self._through(keys)))
            except (msgspec.MsgspecError, KeyError) as error:
                raise Damaged(str(error)) from error
            yield keys, data


_NOWHERE = PartIndex(Span(0, 0, b""), [], [])


def _nothing(span: Span) -> bytes:
    raise Damaged(f"no memo has bytes {span.start}")
