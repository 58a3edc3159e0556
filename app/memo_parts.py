"""The bytes of a memo: blocks of entities, an index, and a line of JSON; and the parts of a read model that read them late.

A read model of a large log is mostly entities that nobody asks for: at 1 M records 80 MB, 3.8 s to decode. So a part with many
entities is kept as blocks of `BLOCK`, found through a list of its ids, and an entity is decoded when it is asked for; all else
(`rest`) is decoded at once. A block of which nothing was asked is copied as it is into the next memo.

    blocks of the parts, their ids, rest     msgpack, each found by (start, size, BLAKE2b of 16 bytes)
    index                                    msgpack, `Index`
    \\n and one line of JSON                  `app.memo`

The digests find damage, not forgery: whoever can write a memo can write its digests.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping, MutableMapping
from typing import Any, NamedTuple

import msgspec
from muniment.domain.errors import UnavailableError
from muniment.projections.model import ReadModel
from muniment.store.memos import Read

LARGE = 1024  # entities from which on a part is kept in blocks
BLOCK = 64

_encode = msgspec.msgpack.Encoder().encode
_decode_block = msgspec.msgpack.Decoder(dict[str, msgspec.Raw]).decode
_decode_ids = msgspec.msgpack.Decoder(list[str]).decode
_decode_rest = msgspec.msgpack.Decoder(ReadModel).decode


class Damaged(Exception):  # noqa: N818 - never leaves the memo: a damaged one counts as none
    """Bytes of a memo are not those that were written."""


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


class Index(msgspec.Struct, array_like=True):
    """Where everything stands."""

    rest: Span
    parts: dict[str, PartIndex]


_decode_index = msgspec.msgpack.Decoder(Index).decode


def _entity_decoders() -> dict[str, Callable[[Any], Any]]:
    """A decoder for the entities of each part that is a mapping from ids."""
    found: dict[str, Callable[[Any], Any]] = {}
    for field in msgspec.structs.fields(ReadModel):
        if typing.get_origin(field.type) is dict:
            found[field.name] = msgspec.msgpack.Decoder(typing.get_args(field.type)[1]).decode
    return found


DECODERS = _entity_decoders()


class Part(MutableMapping[str, Any]):
    """One large part of a read model, by id in the order of the fold; decodes what is asked for and keeps it.

    Not a dict, so that whatever looks past its methods (msgspec, C code) fails loudly instead of seeing a few entities.

    Args:
        recover: makes the entities of this part by a fold, for when a block turns out to be damaged.
    """

    __slots__ = ("_bytes_of", "_decode", "_here", "_index", "_places", "_raw", "_recover")

    def __init__(
        self,
        index: PartIndex,
        bytes_of: Callable[[Span], bytes],
        decode: Callable[[Any], Any],
        recover: Callable[[], Mapping[str, Any]],
    ) -> None:
        self._index: PartIndex | None = index
        self._bytes_of = bytes_of
        self._decode = decode
        self._recover = recover
        self._here: dict[str, Any] = {}
        self._raw: dict[str, Any] = {}
        self._places: dict[str, int] | None = None

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

    def _find(self, key: str) -> Any:
        block = self._where().get(key)
        if block is None or self._index is None:
            return self._here.get(key)
        try:
            if key not in self._raw:
                self._raw.update(_decode_block(self._bytes_of(self._index.blocks[block])))
            found = self._here[key] = self._decode(self._raw[key])
        except (Damaged, msgspec.MsgspecError, KeyError, IndexError):
            self._give_up()
            return self._here.get(key)
        return found

    def _give_up(self) -> None:
        """Take every entity that was not asked for yet from a fold up to the same position."""
        self._here = {**self._recover(), **self._here}
        self._index, self._places = None, {}

    def written(self) -> Iterator[tuple[list[str], bytes]]:
        """Ids and bytes of each block as it is now; blocks of which nothing was asked are copied.

        Raises:
            Damaged: a block cannot be read.
        """
        places = self._where()
        ids: list[list[str]] = [[] for _ in self._index.counts] if self._index is not None else []
        for key, block in places.items():
            ids[block].append(key)
        asked = {places[key] for key in self._here if key in places}
        new = [key for key in self._here if key not in places]
        if ids and new and len(ids[-1]) < BLOCK:  # the last one is filled up
            asked.add(len(ids) - 1)
            room = BLOCK - len(ids[-1])
            ids[-1], new = ids[-1] + new[:room], new[room:]
        for block, keys in enumerate(ids):
            assert self._index is not None
            data = self._bytes_of(self._index.blocks[block])
            if block in asked:
                old = _decode_block(data)
                data = _encode({key: self._here.get(key) or old[key] for key in keys})
            yield keys, data
        for at in range(0, len(new), BLOCK):
            keys = new[at : at + BLOCK]
            yield keys, _encode({key: self._here[key] for key in keys})


def whole(model: ReadModel) -> ReadModel:
    """The same model with every entity decoded: what digests and encoders need."""
    late = {name: dict(part.items()) for name in DECODERS if isinstance(part := getattr(model, name), Part)}
    return msgspec.structs.replace(model, **late) if late else model


def only(model: ReadModel, part: str, ids: Iterable[str]) -> ReadModel:
    """The same model with some entities of a part and no others of it: what a view is made of when only they are asked for."""
    known = getattr(model, part)
    return msgspec.structs.replace(model, **{part: {id_: known[id_] for id_ in ids}})


def encoded(model: ReadModel) -> Iterator[bytes]:
    """The bytes of a model up to its index; the last ones are the span of the index, as `Span` in msgpack.

    Raises:
        Damaged: the memo it was read from is.
    """
    at = 0

    def span(data: bytes) -> Span:
        nonlocal at
        at += len(data)
        return Span(at - len(data), len(data), _digest(data))

    parts: dict[str, PartIndex] = {}
    for name in DECODERS:
        part: Any = getattr(model, name)
        if isinstance(part, Part):
            blocks = part.written()
        elif len(part) > LARGE:
            blocks = _blocks(part)
        else:
            continue
        ids: list[str] = []
        counts: list[int] = []
        spans: list[Span] = []
        for keys, data in blocks:
            ids += keys
            counts.append(len(keys))
            spans.append(span(data))
            yield data
        data = _encode(ids)
        parts[name] = PartIndex(span(data), counts, spans)
        yield data
    data = _encode(msgspec.structs.replace(model, **{name: {} for name in parts}))
    rest = span(data)
    yield data
    data = _encode(Index(rest, parts))
    index = span(data)
    yield data
    yield _encode(index)


def _blocks(part: dict[str, Any]) -> Iterator[tuple[list[str], bytes]]:
    ids = list(part)
    for at in range(0, len(ids), BLOCK):
        keys = ids[at : at + BLOCK]
        yield keys, _encode({key: part[key] for key in keys})


def decoded(read: Read, index: Span, recover: Callable[[], ReadModel]) -> ReadModel:
    """A model over opened bytes, its large parts read late.

    Raises:
        Damaged: the index or what is read at once.
    """

    def bytes_of(span: Span) -> bytes:
        try:
            data = read(span.start, span.size)
        except UnavailableError as error:
            raise Damaged(error.message) from error
        if _digest(data) != span.digest:
            raise Damaged("other bytes than were written")
        return data

    def entities(name: str) -> Callable[[], Mapping[str, Any]]:
        return lambda: getattr(recover(), name)

    try:
        found = _decode_index(bytes_of(index))
        model = _decode_rest(bytes_of(found.rest))
        for name, part in found.parts.items():
            late: Any = Part(part, bytes_of, DECODERS[name], entities(name))
            setattr(model, name, late)
    except (msgspec.MsgspecError, KeyError) as error:
        raise Damaged(str(error)) from error
    return model


def _digest(data: bytes) -> bytes:
    return hashlib.blake2b(data, digest_size=16).digest()
