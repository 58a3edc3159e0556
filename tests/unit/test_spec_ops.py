"""Operations: every one of them, and what is no argument of it."""

from __future__ import annotations

import pytest
from muniment.ring.spec import Op
from muniment.ring.spec_ops import NAMES, read_op

GOOD = [
    ("identity", "identity", ""),
    ("count", "count", ""),
    ("digest", "digest", ""),
    ("filter:kind=error", "filter", "kind=error"),
    ("filter:data.kind=", "filter", "data.kind="),
    ("filter:a=b=c:d", "filter", "a=b=c:d"),
    ("schema:channel.pinned", "schema", "channel.pinned"),
    ("schema:channel.pinned/2", "schema", "channel.pinned/2"),
    ("sink:log", "sink:log", ""),
    ("sink:file:out dir/x:y.jsonl", "sink:file", "out dir/x:y.jsonl"),
    ("python:my_op-1", "python", "my_op-1"),
    ("guard:personal", "guard", "personal"),
    ("http_post:https://example.org:8443/a?b=c", "http_post", "https://example.org:8443/a?b=c"),
    ("http_post:http://[::1]:80/", "http_post", "http://[::1]:80/"),
    ("http_post:http://[::1]/", "http_post", "http://[::1]/"),
    ("http_post:http://localhost", "http_post", "http://localhost"),
    ("exec:/bin/tee|-a|", "exec", "/bin/tee|-a|"),
]
UNKNOWN = [
    "",
    ":",
    "Count",
    "count ",
    "sink",
    "sink:",
    "sink:logs",
    "sink:File:x",
    "forward",
    "sql:x",
    "=",
    "é",
]
BAD = [
    "identity:",
    "identity:x",
    "count:1",
    "digest:md5",
    "sink:log:x",
    "sink:log:",
    "filter",
    "filter:",
    "filter:kind",
    "filter:=x",
    "filter:a..b=x",
    "filter:.a=x",
    "filter:" + ".".join("a" * 17) + "=x",
    "filter:a=" + "x" * 512,
    "filter:a=" + "é" * 256,
    "schema",
    "schema:",
    "schema:A",
    "schema:a/0",
    "schema:a/b",
    "sink:file",
    "sink:file:",
    "sink:file:dir/",
    "sink:file:.",
    "sink:file:a/..",
    "python:",
    "python:a b",
    "python:os.system('x')",
    "guard:",
    "guard:A",
    "http_post:",
    "http_post:example.org",
    "http_post:ftp://example.org/",
    "http_post:file:///etc/passwd",
    "http_post:https://",
    "http_post:https:///x",
    "http_post:https://user@example.org/",
    "http_post:https://user:secret@example.org/",
    "http_post:https://:secret@example.org/",
    "http_post:https://@example.org/",
    "http_post:https://example.org:99999/",
    "http_post:https://example.org:0/",
    "http_post:https://example.org:x/",
    "http_post:https://exa mple.org/",
    "http_post:https://example.org/a b",
    "http_post:https://[::1/",
    "http_post:https://[zz]/",
    "http_post:https://a\\@b/",
    "exec:",
    "exec:|arg",
    "exec: |arg",
]


@pytest.mark.parametrize(("text", "name", "argument"), GOOD)
def test_good(text: str, name: str, argument: str) -> None:
    op = read_op(text)
    assert op == Op(name, argument)
    assert str(op) == text


def test_every_op_is_shown() -> None:
    assert {name for _, name, _ in GOOD} == set(NAMES)


@pytest.mark.parametrize("text", UNKNOWN)
def test_unknown(text: str) -> None:
    fault = read_op(text)
    assert isinstance(fault, tuple)
    assert fault[0] == "stage.unknown_op"
    assert "sink:log" in fault[2]


@pytest.mark.parametrize("text", BAD)
def test_bad_arguments(text: str) -> None:
    fault = read_op(text)
    assert isinstance(fault, tuple)
    assert fault[0] == "stage.bad_argument"
    assert fault[2]


def test_parts_of_arguments() -> None:
    op = read_op("filter:a.b=c=d")
    assert isinstance(op, Op)
    assert op.filter == ("a.b", "c=d")
    op = read_op("exec:tee|-a||x")
    assert isinstance(op, Op)
    assert op.words == ("tee", "-a", "", "x")
