"""Canonical bytes against RFC 8785, inside our profile; what is outside is refused."""

from __future__ import annotations

from typing import Any

import pytest
import rfc8785
from hypothesis import example, given
from hypothesis import strategies as st
from muniment.domain.canonical import MAX_DEPTH, MAX_INT, check_profile, digest, encode
from muniment.domain.errors import InvalidError

TEXT = st.text(st.characters(exclude_categories=["Cs"]))
LEAF = st.none() | st.booleans() | st.integers(-MAX_INT, MAX_INT) | TEXT
VALUE = st.recursive(LEAF, lambda inner: st.lists(inner) | st.dictionaries(TEXT, inner), max_leaves=20)


@given(VALUE)
@example({"\U0001f600": 1, "\ufb33": 2, "\u20ac": 3, "\r": 4, "1": 5, "\u0080": 6, "\u00f6": 7})
@example({"\ue000": 1, "\U00010000": 2, "a": {"\uffff": 1, "\U0010ffff": {"\U00010000": 0, "\uffff": 1}}})
@example({"a": '\x00\x1f\x7f\u2028"\\/\b\f\n\r\t'})
@example([MAX_INT, -MAX_INT, 0, True, None, "", {}])
def test_equal_to_the_reference(value: Any) -> None:
    assert rfc8785.dumps(value) == encode(value)


@pytest.mark.parametrize(
    ("value", "code"),
    [
        (0.0, "canonical.type"),
        ([1.5], "canonical.type"),
        ({"a": {"b": float("nan")}}, "canonical.type"),
        (MAX_INT + 1, "canonical.integer"),
        ({"a": -MAX_INT - 1}, "canonical.integer"),
        ({1: "a"}, "canonical.key"),
        ({None: "a"}, "canonical.key"),
        ({"a": b"x"}, "canonical.type"),
        ({"a": {1, 2}}, "canonical.type"),
        ("\ud800", "canonical.value"),
        ({"\udfff": 1}, "canonical.value"),
        ({"\U0001f600": "\ud83d"}, "canonical.value"),
    ],
)
def test_outside_the_profile(value: Any, code: str) -> None:
    with pytest.raises(InvalidError) as caught:
        encode(value)
    assert (code, 10) == (caught.value.code, caught.value.exit_code)


def test_the_place_is_named() -> None:
    with pytest.raises(InvalidError, match=r"\$\.a\[1\]\.b"):
        check_profile({"a": [0, {"b": 1.0}]})


def test_depth_ends_before_the_interpreter_does() -> None:
    value: Any = 0
    for _ in range(MAX_DEPTH):
        value = [value]
    assert encode(value)
    with pytest.raises(InvalidError) as caught:
        encode([value])
    assert "canonical.depth" == caught.value.code
    for _ in range(100_000):
        value = [value]
    with pytest.raises(InvalidError):
        encode(value)


def test_digest_is_over_the_bytes() -> None:
    assert digest({"b": 1, "a": 2}) == digest({"a": 2, "b": 1})
    assert digest({}) == "sha256:44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"
