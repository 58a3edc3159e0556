"""The line feeder: every byte of the input comes out as the lines a plain Python model says."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path

import pytest

ENDED, INVALID, SYSTEM = -3, -5, -13
LONG, SHORT = 1, 2


def lines_of(data: bytes) -> list[bytes]:
    """A last line without an end is a line if it is not empty."""
    found = data.split(b"\n")
    return found if found[-1] else found[:-1]


def as_the_model(data: bytes, ran: object) -> None:
    lines = lines_of(data)
    assert lines == ran.collected
    unterminated = int(bool(data) and not data.endswith(b"\n"))
    expected = (ENDED, ENDED, 0, len(lines), sum(map(len, lines)), len(data), unterminated, len(lines), 0)
    names = ("answer", "again", "code", "lines", "bytes", "offset", "unterminated", "claimed", "lost")
    assert expected == ran.of("feed", *names)
    # What a sink adds up by itself (rule 3): length + 1 a message, at most the size.
    assert min(sum(len(line) + 1 for line in lines), len(data)) == len(data)


DATA = {
    "empty": b"",
    "one end": b"\n",
    "ends only": b"\n" * 1000,
    "no end": b"abc",
    "end": b"abc\n",
    "empty between": b"a\n\nb\n",
    "crlf": b"a\r\nb\r\n\r\n",
    "cr alone": b"a\rb\rc",
    "zero bytes": b"\x00\n\x00\x00\na\x00b\n\x00",
    "not utf-8": bytes(range(10)) + bytes(range(11, 60)) + b"\n\xff\xfe\n",
    "exactly the slot": (b"x" * 64 + b"\n") * 300,
    "exactly the slot, no end": b"x" * 64,
    "more lines than a batch": b"".join(b"%d\n" % i for i in range(5000)),
}


@pytest.mark.parametrize("buffer", [65, 66, 1000, 0])
@pytest.mark.parametrize("flags", ["-", "m"])
@pytest.mark.parametrize("name", DATA)
def test_as_the_model(name: str, flags: str, buffer: int, pipeline: Callable[..., object]) -> None:
    as_the_model(DATA[name], pipeline(DATA[name], "collect", buffer=buffer, flags=flags, capacity=16))


@pytest.mark.parametrize("seed", range(30))
def test_random_files(seed: int, pipeline: Callable[..., object]) -> None:
    drawn = random.Random(seed)
    slot = drawn.choice([1, 7, 64, 1000])
    alphabet = drawn.choice([bytes(range(256)), b"\n\r\x00a", b"a\n", b"abcdefgh\n"])
    data = bytearray()
    for _ in range(drawn.randrange(2000)):
        data += bytes(drawn.choices(alphabet, k=drawn.randrange(slot + 1))).replace(b"\n", b"")
        data += b"\n" * drawn.choice([1, 1, 1, 2])
    if drawn.random() < 0.5:
        data += b"z" * drawn.randrange(slot + 1)
    capacity, buffer = (
        drawn.choice([1, 2, 64, 4096]),
        drawn.choice([slot + 1, slot + 2, 3 * slot, 0]) if slot > 1 else 0,
    )
    options = {
        "flags": drawn.choice("-m"),
        "wait": drawn.choice([2, 3]),
        "slice_us": drawn.choice([0, 100, 50_000]),
    }
    as_the_model(
        bytes(data), pipeline(bytes(data), "collect", slot=slot, capacity=capacity, buffer=buffer, **options)
    )


def test_a_slow_pipe(pipeline: Callable[..., object]) -> None:
    """Pieces cut lines anywhere; calls end at their deadlines meanwhile."""
    pieces = [(0.0, b"first\nsec"), (0.3, b"ond"), (0.3, b"\n"), (0.3, b"\n\nlast"), (0.3, b" one")]
    ran = pipeline(pieces, "collect", slice_us=10_000)
    as_the_model(b"".join(piece for _, piece in pieces), ran)
    assert ran.of("feed", "calls")[0] >= 20


def test_a_pipe_of_many_small_pieces(pipeline: Callable[..., object]) -> None:
    drawn = random.Random(5)
    data = b"".join(b"%d\n" % drawn.getrandbits(drawn.randrange(1, 60)) for _ in range(3000))
    cuts = sorted(drawn.sample(range(len(data)), 500))
    pieces = [(0.0, data[a:b]) for a, b in zip([0, *cuts], [*cuts, len(data)], strict=True)]
    as_the_model(data, pipeline(pieces, "collect", buffer=100))


@pytest.mark.parametrize("buffer", [65, 100, 0])
@pytest.mark.parametrize(
    "tail", [b"y" * 65, b"y" * 65 + b"\n", b"y" * 5_000_000 + b"\nmore\n"], ids=["end", "line", "huge"]
)
def test_a_line_over_the_slot_is_named_and_what_came_before_stays(
    tail: bytes, buffer: int, pipeline: Callable[..., object]
) -> None:
    before = b"".join(b"%d\n" % i for i in range(1000))
    ran = pipeline(before + tail, "collect", buffer=buffer)
    assert lines_of(before) == ran.collected
    expected = (INVALID, INVALID, LONG, 1000, 1001, len(before), len(before))
    assert expected == ran.of(
        "feed", "answer", "again", "code", "lines", "error_line", "error_offset", "offset"
    )
    assert (ENDED, 0) == (*ran.of("stage0", "answer"), *ran.of("stop", "state"))


@pytest.mark.parametrize(
    ("data", "code", "line"),
    [
        (b"12345678\n1234567\n", SHORT, 2),
        (b"12345678\n123456789\n", LONG, 2),
        (b"\n", SHORT, 1),
        (b"1234", SHORT, 1),
    ],
)
def test_fixed_messages_take_lines_of_one_length(
    data: bytes, code: int, line: int, pipeline: Callable[..., object]
) -> None:
    ran = pipeline(data, "collect", slot=8, flags="f")
    assert (INVALID, code, line) == ran.of("feed", "answer", "code", "error_line")
    assert [b"12345678"] * (line - 1) == ran.collected


def test_fixed_messages(pipeline: Callable[..., object]) -> None:
    data = b"".join(b"%08d\n" % i for i in range(1000)) + b"no ends!"
    as_the_model(data, pipeline(data, "collect", slot=8, flags="f"))


@pytest.mark.parametrize("flags", ["d", "dm"])
def test_a_full_ring_drops_and_counts(flags: str, pipeline: Callable[..., object]) -> None:
    data = b"".join(b"%d\n" % i for i in range(2000))
    ran = pipeline(data, "slow", "collect@0", capacity=4, flags=flags)
    answer, lines, offset, lost, claimed = ran.of("feed", "answer", "lines", "offset", "lost", "claimed")
    assert (ENDED, 2000, len(data)) == (answer, lines, offset)
    assert lost + len(ran.collected) == 2000
    assert lost > 1000
    assert len(ran.collected) == claimed
    kept = [int(line) for line in ran.collected]
    assert sorted(set(kept)) == kept


def test_what_cannot_be_read_is_no_end_of_input(tmp_path: Path, pipeline: Callable[..., object]) -> None:
    ran = pipeline(tmp_path, "collect")
    assert (SYSTEM, SYSTEM, 21) == ran.of("feed", "answer", "again", "system")  # EISDIR
    assert (-2,) == ran.of("stage0", "answer")
