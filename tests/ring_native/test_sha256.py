"""SHA-256 in C: the examples of FIPS 180-4, and hashlib on anything."""

from __future__ import annotations

import hashlib
import random
from collections.abc import Callable

import pytest

# NIST, "SHA-256" examples to FIPS 180-4: one block, two blocks; and the empty message and a million times `a` of its test vectors.
EXAMPLES = {
    b"abc": "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad",
    b"abcdbcdecdefdefgefghfghighijhijkijkljklmklmnlmnomnopnopq": "248d6a61d20638b8e5c026930c3e6039a33ce45964ff2167f6ecedd419db06c1",
    b"": "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
    b"a" * 1_000_000: "cdc76e5c9914fb9281a1c7e284d73e67f1809a48a497200e046d39ccc7112cd0",
}


@pytest.mark.parametrize("portable", ["0", "1"])
def test_examples(portable: str, scan: Callable[..., list[str]]) -> None:
    assert list(EXAMPLES.values()) == scan("sha", portable, "1000000", texts=EXAMPLES)[1:]


@pytest.mark.parametrize("portable", ["0", "1"])
@pytest.mark.parametrize("chunk", [1, 55, 56, 63, 64, 65, 1000])
def test_as_hashlib_whatever_the_pieces(portable: str, chunk: int, scan: Callable[..., list[str]]) -> None:
    drawn = random.Random(chunk)
    texts = [drawn.randbytes(size) for size in [*range(130), *(drawn.randrange(5000) for _ in range(50))]]
    assert [hashlib.sha256(text).hexdigest() for text in texts] == scan(
        "sha", portable, str(chunk), texts=texts
    )[1:]


def test_the_portable_code_can_be_asked_for(scan: Callable[..., list[str]]) -> None:
    assert scan("sha", "1", "1", texts=[]) == ["0"]
