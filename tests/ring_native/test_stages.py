"""Native stages in threads of their own: results against Python, marks through a diamond, errors that stop everybody."""

from __future__ import annotations

import hashlib
import json
import random
from collections.abc import Callable

import pytest

STOPPED, ENDED = -2, -3


def records(count: int, seed: int = 1) -> list[bytes]:
    drawn = random.Random(seed)
    kinds = ["order", "trade", 'quo"te']
    return [
        json.dumps({"id": i, "data": {"kind": drawn.choice(kinds), "n": drawn.randrange(3)}}).encode()
        for i in range(count)
    ]


def joined(lines: list[bytes]) -> bytes:
    return b"".join(line + b"\n" for line in lines)


def kind(line: bytes) -> str:
    return str(json.loads(line)["data"]["kind"])


def number(line: bytes) -> int:
    return int(json.loads(line)["data"]["n"])


@pytest.mark.parametrize("wait", [0, 1, 2, 3])
@pytest.mark.parametrize("flags", ["-", "m"])
def test_chain(flags: str, wait: int, pipeline: Callable[..., object]) -> None:
    lines = records(
        5000 if wait > 1 else 300
    )  # five spinning threads on two cores wait for their turn at each lap
    ran = pipeline(
        joined(lines), "forward", "count@0", "digest@1", "collect@2", slot=128, flags=flags, wait=wait
    )
    assert lines == ran.collected
    total = sum(map(len, lines))
    assert (ENDED, len(lines), len(lines), 0) == ran.of("stage0", "answer", "taken", "messages", "bytes")
    assert (ENDED, len(lines), len(lines), total) == ran.of("stage1", "answer", "taken", "messages", "bytes")
    assert hashlib.sha256(joined(lines)).hexdigest() == ran.said["stage2"]["digest"]
    assert (0,) == ran.of("stop", "state")


def test_digest_of_no_message(pipeline: Callable[..., object]) -> None:
    assert hashlib.sha256().hexdigest() == pipeline(b"", "digest").said["stage0"]["digest"]


def test_fixed_messages(pipeline: Callable[..., object]) -> None:
    lines = [b"%032d" % i for i in range(3000)]
    ran = pipeline(joined(lines), "count", "digest@0", slot=32, flags="f", capacity=1024)
    assert (3000, 3000, 96000) == ran.of("stage0", "taken", "messages", "bytes")
    assert hashlib.sha256(joined(lines)).hexdigest() == ran.said["stage1"]["digest"]


@pytest.mark.parametrize("sanitizer", ["address,undefined", "thread"])
@pytest.mark.parametrize("capacity", [1, 4, 64, 8192])
def test_two_filters_side_by_side(capacity: int, sanitizer: str, pipeline: Callable[..., object]) -> None:
    """What either rejects reaches none of those below both; what stands beside them sees everything."""
    lines = records(20000 if capacity > 4 else 2000)
    stages = ("filter:data.kind=trade", "filter:data.n=1", "digest@0,1", "count@0", "collect@2", "count")
    ran = pipeline(joined(lines), *stages, slot=128, capacity=capacity, sanitizer=sanitizer)
    one = [line for line in lines if kind(line) == "trade"]
    both = [line for line in one if number(line) == 1]
    assert both == ran.collected
    assert (len(lines), len(lines), len(lines) - len(one)) == ran.of(
        "stage0", "taken", "messages", "rejected"
    )
    assert (len(lines), len(lines) - sum(number(line) == 1 for line in lines)) == ran.of(
        "stage1", "messages", "rejected"
    )
    assert (len(lines), len(both), sum(map(len, both))) == ran.of("stage2", "taken", "messages", "bytes")
    assert hashlib.sha256(joined(both)).hexdigest() == ran.said["stage2"]["digest"]
    assert (len(one), sum(map(len, one))) == ran.of("stage3", "messages", "bytes")
    assert (len(lines), len(lines)) == ran.of("stage5", "taken", "messages")


def test_a_filter_below_a_filter_sees_what_is_left(pipeline: Callable[..., object]) -> None:
    lines = records(3000)
    spoilt = [line if kind(line) == "trade" else line.replace(b'"n": ', b'"n": 1, "n": ') for line in lines]
    ran = pipeline(
        joined(spoilt), "filter:data.kind=trade", "filter@0:data.n=1", "forward@1", "collect@2", slot=128
    )
    left = [line for line in lines if kind(line) == "trade"]
    assert [
        line for line in left if number(line) == 1
    ] == ran.collected  # and no error: the spoilt ones are skipped unread
    assert (3000, len(left)) == ran.of("stage1", "taken", "messages")


BAD = [
    (b'{"data":{"kind":"trade"}', 1),
    (b"", 1),
    (b"[1]", 2),
    (b'{"data":{},"data":{"kind":"trade"}}', 3),
    (b'{"data":{"kind":1,"kind":"trade"}}', 3),
    (b"[" * 65 + b"]" * 65, 4),
    (b'{"data":"\xff"}', 5),
]


@pytest.mark.parametrize("place", [1, 2, 64, 65, 4999, 5000])
@pytest.mark.parametrize(("bad", "code"), BAD, ids=range(len(BAD)))
def test_an_error_stops_the_ring_at_its_message(
    bad: bytes, code: int, place: int, pipeline: Callable[..., object]
) -> None:
    lines = records(5000)
    lines[place - 1] = bad
    ran = pipeline(joined(lines), "count", "filter@0:data.kind=trade", "collect@1", slot=160)
    assert (2, 1, code, place) == ran.of("stop", "state", "stage", "code", "sequence")
    assert (STOPPED, code, place) == ran.of("stage1", "answer", "code", "sequence")
    assert (place - 1, place - 1, place - 1) == ran.of(
        "stage1", "taken", "messages", "at"
    )  # all before it, and not itself
    (reached,) = ran.of("stage2", "at")
    assert reached < place
    assert [line for line in lines[:reached] if kind(line) == "trade"] == ran.collected
    assert ran.of("stage2", "answer") == (STOPPED,)


def test_the_spec_text_of_a_value_is_taken_as_it_is(pipeline: Callable[..., object]) -> None:
    lines = records(300)
    ran = pipeline(joined(lines), 'filter:data.kind=quo"te', "collect@0", slot=128)
    assert [line for line in lines if kind(line) == 'quo"te'] == ran.collected
    assert ran.collected


@pytest.mark.parametrize("stages", [("filter:a.=x",), ("filter",), ("digest", "filter@0")])
def test_a_filter_without_a_question_does_not_start(
    stages: tuple[str, ...], pipeline: Callable[..., object]
) -> None:
    with pytest.raises(AssertionError, match=r"\((2|4), "):
        pipeline(b"{}\n", *stages)
