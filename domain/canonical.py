"""Canonical bytes: RFC 8785 (JCS) within our profile, and the digests made over them.

Profile `jcs-rfc8785/1` (store.created names it): no floats, no integer beyond 2^53-1, string keys, valid Unicode.
Inside it the fast encoder and the RFC agree on everything but one point: RFC 8785 section 3.2.3 sorts keys by UTF-16
code unit, msgspec by UTF-8 byte. The two orders differ only where a key holds a character beyond U+FFFF, which in
UTF-8 begins with a byte >= 0xF0, so bytes without one are canonical as they come and all others are sorted again.
"""

from __future__ import annotations

import hashlib
import re
from typing import Any

import msgspec
from muniment.domain.errors import InvalidError

PROFILE = "jcs-rfc8785/1"
MAX_INT = 2**53 - 1
MAX_DEPTH = 64

_encoder = msgspec.json.Encoder(order="deterministic")
_plain_encoder = msgspec.json.Encoder()
_astral = re.compile(rb"[\xf0-\xf4]").search


def encode(value: Any) -> bytes:
    """Return the canonical bytes of a JSON value.

    Raises:
        InvalidError: a float, an integer beyond 2^53-1, a key that is no string, a lone surrogate.
    Source: RFC 8785; settled.md, section 3; measured 0.4 us for a 500-byte record against 21 us for the reference.
    """
    check_profile(value)
    return encode_trusted(value)


def encode_trusted(value: Any) -> bytes:
    """Encode a value whose profile has been checked already (a validated payload)."""
    try:
        data = _encoder.encode(value)
        if not data.isascii() and _astral(data):  # isascii: 0.1 us, the search alone 5.6 us
            return _plain_encoder.encode(_sorted(msgspec.to_builtins(value)))
        return data
    except (UnicodeEncodeError, TypeError, OverflowError) as error:
        raise InvalidError(f"not canonical JSON: {error}", code="canonical.value") from error


def _fits(value: Any, depth: int) -> bool:
    """Tell whether a container is in the profile, but not where it is not: half the time of the walk that names places."""
    if depth >= MAX_DEPTH:
        return False  # the walk below decides
    if type(value) is dict:
        for key in value:
            if type(key) is not str:
                return False
        value = value.values()
    for item in value:
        kind = type(item)
        if kind is str:
            continue
        if kind is int:
            if not -MAX_INT <= item <= MAX_INT:
                return False
        elif kind is dict or kind is list or kind is tuple:
            if not _fits(item, depth + 1):
                return False
        elif item is not None and kind is not bool:
            return False
    return True


def check_profile(value: Any, path: str = "$", depth: int = 0) -> None:
    """Refuse what the profile does not hold; `path` names the place in the message."""
    if depth > MAX_DEPTH:
        raise InvalidError(
            "value is nested too deeply",
            code="canonical.depth",
            expected=f"at most {MAX_DEPTH} levels",
            found=path[:200],
        )
    kind = type(value)
    if kind is str or value is None or kind is bool:
        return
    if depth == 0 and (kind is dict or kind is list or kind is tuple) and _fits(value, 0):
        return
    if kind is int:
        if not -MAX_INT <= value <= MAX_INT:
            raise InvalidError(
                f"integer at {path} is beyond 2^53-1",
                code="canonical.integer",
                expected="|n| <= 2^53-1",
                found=str(value),
            )
    elif kind is dict:
        for key, item in value.items():
            if type(key) is not str:
                raise InvalidError(
                    f"key at {path} is not a string", code="canonical.key", found=repr(key)[:80]
                )
            check_profile(item, f"{path}.{key}", depth + 1)
    elif kind is list or kind is tuple:
        for index, item in enumerate(value):
            check_profile(item, f"{path}[{index}]", depth + 1)
    else:
        raise InvalidError(
            f"{kind.__name__} at {path} has no canonical form here",
            code="canonical.type",
            expected="object, array, string, integer, true, false or null",
            found=kind.__name__,
        )


def _sorted(value: Any) -> Any:
    if isinstance(value, dict):
        keys = sorted(value, key=lambda key: key.encode("utf-16-be"))
        return {key: _sorted(value[key]) for key in keys}
    if isinstance(value, list | tuple):
        return [_sorted(item) for item in value]
    return value


def digest(value: Any) -> str:
    """`sha256:` and 64 hex digits over the canonical bytes of a value."""
    return "sha256:" + hashlib.sha256(encode(value)).hexdigest()
