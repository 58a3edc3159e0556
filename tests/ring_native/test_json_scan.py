"""The JSON scanner against Python's json: the same texts are JSON, the same members match."""

from __future__ import annotations

import json
import random
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

SYNTAX, OBJECT, DUPLICATE, NESTING, UTF8, RULE = (str(-n) for n in range(1, 7))
DEPTH = 64


class Pairs(list):
    """Members of an object as they stand, duplicates and all."""


class Literal(str):
    """A number as it is written."""

    __slots__ = ()


def refuse(name: str) -> None:
    raise ValueError(name)


def parsed(text: bytes) -> object:
    return json.loads(
        text.decode(), object_pairs_hook=Pairs, parse_int=Literal, parse_float=Literal, parse_constant=refuse
    )


def faults(value: object, names: list[str], depth: int = 0) -> set[str]:
    """What is wrong with a text that is JSON for Python."""
    if isinstance(value, str):
        return set() if value.encode(errors="replace") == value.encode(errors="surrogatepass") else {UTF8}
    if not isinstance(value, list):
        return set()
    found = {NESTING} if depth == DEPTH else set()
    below = [part for pair in value for part in pair] if isinstance(value, Pairs) else value
    for part in below:
        found |= faults(part, [], depth + 1)
    if names and isinstance(value, Pairs):
        mine = [member for name, member in value if name == names[0]]
        found |= {DUPLICATE} if len(mine) > 1 else set()
        for member in mine:
            found |= faults(member, names[1:], depth + 1) & {DUPLICATE}
    return found


def expected(text: bytes, path: str, value: str) -> set[str]:
    """The answers that are right."""
    try:
        whole = parsed(text)
    except ValueError:  # not UTF-8, or not JSON
        return {SYNTAX, UTF8, DUPLICATE, NESTING}  # whichever comes first in the text
    if wrong := faults(whole, path.split(".")):
        return wrong
    if not isinstance(whole, Pairs):
        return {OBJECT}
    member: object = whole
    for name in path.split("."):
        member = dict(member).get(name, Pairs()) if isinstance(member, Pairs) else Pairs()
    written = {True: "true", False: "false", None: "null"}
    found = (
        member if isinstance(member, str) else written.get(member) if not isinstance(member, list) else None
    )
    return {"1" if found == value else "0"}


NAMES = st.sampled_from(["a", "b", "é", "a.b", "", "\x00", "a\n", "😀", "longer than eight bytes"])
SCALARS = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(allow_nan=False, allow_infinity=False),
    st.text(max_size=12),
    NAMES,
    st.just("x"),
)
VALUES = st.recursive(
    SCALARS,
    lambda inner: st.one_of(
        st.lists(inner, max_size=4), st.lists(st.tuples(NAMES, inner), max_size=5).map(Pairs)
    ),
    max_leaves=12,
)
PIECES = [
    *(
        b"{",
        b"}",
        b"[",
        b"]",
        b",",
        b":",
        b'"',
        b"\\",
        b"\\u12",
        b"\\ud83d\\ude00",
        b"\\ud83d",
        b"\\ude00",
        b'"a":1,',
        b'"a":{"b":"x"},',
    ),
    *(
        b"\x00",
        b"\x1f",
        b"\x7f",
        b"\x80",
        b"\xc0\x80",
        b"\xe0\x80\x80",
        b"\xed\xa0\x80",
        b"\xf4\x90\x80\x80",
        b"\xef\xbb\xbf",
    ),
    *(b"NaN", b"-", b"01", b"1.", b".5", b"1e", b"+1", b"tru", b" ", b"\x0b", b"//"),
]


def quoted(text: str, drawn: random.Random) -> str:
    """A JSON string; each character as it is, or in one of its escapes."""
    out = []
    for one in text:
        units = one.encode("utf-16-be", "surrogatepass")
        long = "".join(f"\\u{units[i]:02x}{units[i + 1]:02X}" for i in range(0, len(units), 2))
        out.append(long if drawn.random() < 0.2 else json.dumps(one, ensure_ascii=drawn.random() < 0.2)[1:-1])
    return f'"{"".join(out).replace("/", drawn.choice(["/", chr(92) + "/"]))}"'


def rendered(value: object, drawn: random.Random) -> str:
    gap = lambda: drawn.choice(["", "", "", " ", "\n\t", "\r "])  # noqa: E731
    if isinstance(value, str):
        return quoted(value, drawn)
    if isinstance(value, Pairs):
        return (
            "{"
            + ",".join(f"{gap()}{quoted(k, drawn)}{gap()}:{gap()}{rendered(v, drawn)}" for k, v in value)
            + gap()
            + "}"
        )
    if isinstance(value, list):
        return "[" + ",".join(f"{gap()}{rendered(v, drawn)}{gap()}" for v in value) + gap() + "]"
    return json.dumps(value)


def mutated(text: bytes, drawn: random.Random) -> bytes:
    for _ in range(drawn.choice([0, 0, 1, 1, 2, 5])):
        at, cut = drawn.randrange(len(text) + 1), drawn.randrange(3)
        text = text[:at] + drawn.choice(PIECES) + text[at + cut :]
    return text[: drawn.randrange(len(text) + 1)] if drawn.random() < 0.1 else text


OBJECTS = st.lists(st.tuples(NAMES, VALUES), max_size=5).map(Pairs)
CORPUS = st.lists(
    st.tuples(st.one_of(OBJECTS, OBJECTS, VALUES), st.integers(0, 2**32)), min_size=1, max_size=60
)


@settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    corpus=CORPUS,
    path=st.sampled_from(["a", "a.b", "b.a.é", "😀", "longer than eight bytes.a"]),
    value=SCALARS,
)
def test_as_python_reads_it(
    corpus: list[tuple[object, int]], path: str, value: object, scan: Callable[..., list[str]]
) -> None:
    texts = []
    for one, seed in corpus:
        drawn = random.Random(seed)
        texts.append(mutated(rendered(one, drawn).encode(errors="surrogatepass"), drawn))
    wanted = value if isinstance(value, str) else json.dumps(value)
    if "\x00" in wanted:  # an argument of a program holds none
        wanted = "x"
    for text, answer in zip(texts, scan("match", path, wanted, texts=texts), strict=True):
        assert answer in expected(text, path, wanted), text


def nested(depth: int) -> bytes:
    return b'{"a":' * (depth - 1) + b"{}" + b"}" * (depth - 1)


CASES = [
    (b'{"a":"x"}', "1"),
    (b'{"a":"\\u0078"}', "1"),
    (b'{"\\u0061":"x"}', "1"),
    (b'{"a":"xx"}', "0"),
    (b'{"a":""}', "0"),
    (b'{"a":["x"]}', "0"),
    (b'{"a":{"a":"x"}}', "0"),
    (b'{"b":{"a":"x"}}', "0"),
    (b'[{"a":"x"}]', OBJECT),
    (b'"x"', OBJECT),
    (b"7", OBJECT),
    (b"", SYNTAX),
    (b" ", SYNTAX),
    (b"{", SYNTAX),
    (b'{"a"', SYNTAX),
    (b'{"a":', SYNTAX),
    (b'{"a":"x"', SYNTAX),
    (b'{"a":"x"}}', SYNTAX),
    (b'{"a":"x"}{}', SYNTAX),
    (b'{"a":"x",}', SYNTAX),
    (b'{"a":"x"]', SYNTAX),
    (b"[}", SYNTAX),
    (b'{"b":[1,]}', SYNTAX),
    (b"{'a':1}", SYNTAX),
    (b'{"a":NaN}', SYNTAX),
    (b'{"a":01}', SYNTAX),
    (b'{"a":-}', SYNTAX),
    (b'{"a":"x","b":1.}', SYNTAX),  # after the answer is known
    (b'{"a":"\n"}', SYNTAX),
    (b'{"a":"\\x"}', SYNTAX),
    (b'{"a":"\\u00g0"}', SYNTAX),
    (b'{"a":"\\u00', SYNTAX),
    (b'{"a":tru', SYNTAX),
    (b'\xef\xbb\xbf{"a":"x"}', SYNTAX),
    (b'{"a":"x","b":"\xff"}', UTF8),
    (b'{"a":"\xc3"}', UTF8),
    (b'{"a":"\xed\xa0\x80"}', UTF8),
    (b'{"a":"\\ud800"}', UTF8),
    (b'{"a":"\\ud800\\u0041"}', UTF8),
    (b'{"a":"\\udc00"}', UTF8),
    (b'{"a":"x","a":"x"}', DUPLICATE),
    (b'{"a":"y","\\u0061":"x"}', DUPLICATE),
    (b'{"b":1,"b":2,"a":"x"}', "1"),  # not on the path
    (b'{"b":{"a":1},"c":{"a":1},"a":"x"}', "1"),
    (nested(64), "0"),
    (nested(65), NESTING),
    (b"[" * 64 + b"]" * 64, OBJECT),
    (b"[" * 65 + b"]" * 65, NESTING),
    (b"[" * 1_000_000, NESTING),
]


@pytest.mark.parametrize(("text", "answer"), CASES, ids=range(len(CASES)))
def test_one_text(text: bytes, answer: str, scan: Callable[..., list[str]]) -> None:
    assert [answer] == scan("match", "a", "x", texts=[text])
    assert text[:3] == b"[[[" or answer in expected(text, "a", "x")


@pytest.mark.parametrize(
    ("text", "path", "value", "answer"),
    [
        (b'{"a":{"b":{"c":"x"}}}', "a.b.c", "x", "1"),
        (b'{"a":{"z":{"c":"x"}},"b":{"c":"x"}}', "a.b.c", "x", "0"),
        (b'{"a":{"b":1,"b":{"c":"x"}}}', "a.b.c", "x", DUPLICATE),
        (b'{"a":1,"a":{"b":{"c":"x"}}}', "a.b.c", "x", DUPLICATE),
        (b'{"a":[{"b":{"c":"x"}}]}', "a.b.c", "x", "0"),
        (b'{"a":{},"b":{"c":"x"}}', "a.b.c", "x", "0"),
        (b'{"a":{"b":{}},"z":{"y":{"c":"x"}}}', "a.b.c", "x", "0"),
        (b'{"a.b":"x"}', "a.b", "x", "0"),
        (b'{"a":1.50}', "a", "1.50", "1"),
        (b'{"a":1.5}', "a", "1.50", "0"),
        (b'{"a":15}', "a", "1", "0"),
        (b'{"a":-0}', "a", "-0", "1"),
        (b'{"a":true}', "a", "true", "1"),
        (b'{"a":"true"}', "a", "true", "1"),
        (b'{"a":null}', "a", "null", "1"),
        (b'{"b":null}', "a", "null", "0"),
        (b'{"a":""}', "a", "", "1"),
        (b'{"a":{}}', "a", "", "0"),
        ('{"é":"\\ud83d\\ude00"}'.encode(), "é", "😀", "1"),
        (b'{"\\u00e9":"\xf0\x9f\x98\x80"}', "é", "😀", "1"),
        (b'{"a":"x\\u0000"}', "a", "x", "0"),
        (b"{}", "", "x", RULE),
        (b"{}", ".a", "x", RULE),
        (b"{}", "a", "x" * 512, RULE),
    ],
)
def test_one_question(
    text: bytes, path: str, value: str, answer: str, scan: Callable[..., list[str]]
) -> None:
    assert [answer] == scan("match", path, value, texts=[text])
