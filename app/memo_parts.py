"""The bytes of a memo: blocks of entities, an index, and a line of JSON.

A read model of a large log is mostly entities that nobody asks for: at 1 M records 80 MB, 3.8 s to decode. So a part with many
entities is kept as blocks, found through a list of its ids, and an entity is decoded when it is asked for (`app.late_part`); all
else (`rest`) is decoded at once. A block of which nothing was asked is copied as it is into the next memo.

    blocks of the parts, their ids, rest     msgpack, each found by (start, size, BLAKE2b of 16 bytes)
    index                                    msgpack, `Index`
    \\n and one line of JSON                  `app.memo`

The digests find damage, not forgery: whoever can write a memo can write its digests.
"""

from __future__ import annotations

import hashlib
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any

import msgspec
from muniment.app import late_part
from muniment.app.late_part import Damaged, Part, PartIndex, Span
from muniment.domain.errors import UnavailableError
from muniment.projections.model import ReadModel
from muniment.store.memos import Read

LARGE = 1024  # entities from which on a part is kept in blocks

_encode = msgspec.msgpack.Encoder().encode
_decode_rest = msgspec.msgpack.Decoder(ReadModel).decode


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


def pack(model: ReadModel, keep: Callable[[bytes], Callable[[], bytes]]) -> None:
    """Put most entities of the large parts of a model aside, so that a fold needs memory for those at work alone.

    Raises:
        UnavailableError: they could not be put aside; the model is as it was.
    """
    for name, decode in DECODERS.items():
        part: Any = getattr(model, name)
        if isinstance(part, dict):
            if len(part) <= late_part.MOST:
                continue
            part = Part.of(part, decode)
            setattr(model, name, part)
        part.pack(keep)


def read_through(model: ReadModel) -> None:
    """Decode every entity once and keep none, so that damage shows."""
    for name in DECODERS:
        if isinstance(part := getattr(model, name), Part):
            for _ in part.each():
                pass


def whole(model: ReadModel) -> ReadModel:
    """The same model with every entity decoded: what encoders need."""
    late = {name: dict(part.each()) for name in DECODERS if isinstance(part := getattr(model, name), Part)}
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
        if isinstance(part, dict):
            if len(part) <= LARGE:
                continue
            part = Part.of(part, DECODERS[name])
        ids: list[str] = []
        counts: list[int] = []
        spans: list[Span] = []
        for keys, data in part.written():
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
