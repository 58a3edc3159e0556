"""Checkpoints: our own golden vector, every mutation of it, and the corners of C2SP signed-note."""

from __future__ import annotations

import base64
import hashlib

import pytest
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey
from hypothesis import given
from hypothesis import strategies as st
from muniment.domain.errors import InvalidError, WrongError
from muniment.store import checkpoint as cp

ORIGIN = "muniment.example/s-1"
KEY = Ed25519PrivateKey.from_private_bytes(bytes(range(32)))
OTHER = Ed25519PrivateKey.from_private_bytes(b"\x07" * 32)
HEAD = cp.Checkpoint(ORIGIN, 18422, bytes(range(100, 132)))
VERIFIER = cp.verifier_key(ORIGIN, KEY)
GOLDEN_KEY = "muniment.example/s-1+3cbd9be5+AQOhB7/zzhC+HXDdGOdLwJln5NYwm6UNXx3chmQSVTG4"
GOLDEN = (
    "muniment.example/s-1\n"
    "18422\n"
    "ZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXp7fH1+f4CBgoM=\n"
    "\n"
    "\u2014 muniment.example/s-1 "
    "PL2b5fkM8Ak5AcT+gNHXGmsCrLBYMFUvz+hOR/Db88NSt7kw53oGKei2DvBnMPXZfAc6phJKSHk6CoF3MTSq3JAh4Aw=\n"
).encode()


def test_golden_note() -> None:
    assert cp.sign(HEAD, KEY) == GOLDEN
    assert str(VERIFIER) == GOLDEN_KEY
    assert cp.parse_verifier_key(GOLDEN_KEY) == VERIFIER
    assert cp.verify(GOLDEN, [VERIFIER], origin=ORIGIN) == HEAD


def test_golden_note_by_hand() -> None:
    """The format of c2sp.org/signed-note spelled out without a helper of ours."""
    public = KEY.public_key().public_bytes_raw()
    body = f"{ORIGIN}\n18422\n{base64.b64encode(bytes(range(100, 132))).decode()}\n".encode()
    digest = hashlib.sha256(ORIGIN.encode() + b"\n\x01" + public).digest()[:4]
    line = "\u2014 ".encode() + ORIGIN.encode() + b" " + base64.b64encode(digest + KEY.sign(body)) + b"\n"
    assert body + b"\n" + line == GOLDEN


def test_every_flipped_bit_is_refused() -> None:
    for bit in range(len(GOLDEN) * 8):
        forged = bytearray(GOLDEN)
        forged[bit // 8] ^= 1 << bit % 8
        with pytest.raises((InvalidError, WrongError)):
            cp.verify(bytes(forged), [VERIFIER])


def test_every_cut_and_every_insertion_is_refused() -> None:
    for index in range(len(GOLDEN)):
        for forged in (GOLDEN[:index], GOLDEN[:index] + GOLDEN[index + 1 :]):
            with pytest.raises((InvalidError, WrongError)):
                cp.verify(forged, [VERIFIER])
        for extra in (b"\n", b"\0", b" ", b"A"):
            with pytest.raises((InvalidError, WrongError)):
                cp.verify(GOLDEN[:index] + extra + GOLDEN[index:], [VERIFIER])


@given(
    st.text(
        st.characters(min_codepoint=33, exclude_characters="+", exclude_categories=("Cs", "Z", "Cc")),
        min_size=1,
    ),
    st.integers(1, cp.MAX_SIZE),
    st.binary(min_size=32, max_size=32),
    st.lists(st.text(st.characters(min_codepoint=32, exclude_categories=("Cs",)), min_size=1), max_size=3),
)
def test_what_is_signed_is_read_back(origin, size, root, extensions) -> None:
    head = cp.Checkpoint(origin, size, root, tuple(extensions))
    assert cp.verify(cp.sign(head, KEY), [cp.verifier_key(origin, KEY)]) == head


def test_foreign_extension_lines_are_kept_and_signed() -> None:
    head = cp.Checkpoint(ORIGIN, 1, b"\0" * 32, ("anything at all", "— looks like a signature AAAA"))
    note = cp.sign(head, KEY)
    assert cp.verify(note, [VERIFIER]).extensions == head.extensions
    with pytest.raises(WrongError):
        cp.verify(note.replace(b"anything at all\n", b""), [VERIFIER])


def test_unknown_signatures_are_ignored_and_prove_nothing() -> None:
    note = cp.cosign(GOLDEN, OTHER, "witness.example/w")
    note += "— some.log/x ".encode() + base64.b64encode(b"hash" + b"\x04" * 72) + b"\n"
    assert cp.verify(note, [VERIFIER]) == HEAD
    assert len(cp.parse(note).signatures) == 3
    assert cp.verify(note, [cp.verifier_key("witness.example/w", OTHER)]) == HEAD
    for strangers in ([], [cp.verifier_key("z", OTHER)], [cp.verifier_key("witness.example/w", KEY)]):
        with pytest.raises(WrongError, match="no signature by a given key"):
            cp.verify(note, strangers)


@pytest.mark.parametrize("first", [True, False])
def test_a_failing_signature_of_a_known_key_refuses_the_note(first) -> None:
    bad = "— ".encode() + ORIGIN.encode() + b" " + base64.b64encode(VERIFIER.key_hash + b"\x01" * 64) + b"\n"
    body, _, line = GOLDEN.partition(b"\n\n")
    lines = bad + line if first else line + bad
    with pytest.raises(WrongError, match="is wrong"):
        cp.verify(body + b"\n\n" + lines, [VERIFIER])


def test_another_origin() -> None:
    with pytest.raises(WrongError, match="another log"):
        cp.verify(GOLDEN, [VERIFIER], origin="muniment.example/s-2")


ROOT = base64.b64encode(b"\1" * 32).decode()
LINE = "— n " + base64.b64encode(b"12345").decode() + "\n"


@pytest.mark.parametrize(
    "text",
    [
        "",
        "\n",
        f"o\n1\n{ROOT}\n",
        f"o\n1\n{ROOT}\n\n",
        f"o\n1\n\n{LINE}",
        f"\n1\n{ROOT}\n\n{LINE}",
        f"o\n01\n{ROOT}\n\n{LINE}",
        f"o\n+1\n{ROOT}\n\n{LINE}",
        f"o\n1_0\n{ROOT}\n\n{LINE}",
        f"o\n١\n{ROOT}\n\n{LINE}",
        f"o\n-1\n{ROOT}\n\n{LINE}",
        f"o\n{2**63}\n{ROOT}\n\n{LINE}",
        f"o\n0\n{ROOT}\n\n{LINE}",
        f"o\n1\n{ROOT[:-1]}\n\n{LINE}",
        f"o\n1\n{ROOT[:-4]}\n\n{LINE}",
        f"o\n1\n{ROOT[:-2]}F=\n\n{LINE}",
        f"o\r\n1\r\n{ROOT}\r\n\r\n{LINE}",
        f"o\n1\n{ROOT}\nx\ty\n\n{LINE}",
        f"o\n1\n{ROOT}\n\nx\n\n{LINE}",
        f"o\n1\n{ROOT}\n\n{LINE}\n",
        f"o\n1\n{ROOT}\n\n{LINE[:-1]}",
        f"o\n1\n{ROOT}\n\n-{LINE[1:]}",
        f"o\n1\n{ROOT}\n\n— a+b {LINE[4:]}",
        f"o\n1\n{ROOT}\n\n—  {LINE[4:]}",
        f"o\n1\n{ROOT}\n\n— a\u00a0b MTIzNDU=\n",
        f"o\n1\n{ROOT}\n\n— n MTIzNA==\n",
        f"o\n1\n{ROOT}\n\n— n MTIzNDU\n",
        f"o\n1\n{ROOT}\n\n— n MTIzNDU= x\n",
        f"o\n1\n{ROOT}\n\n" + LINE * 101,
        f"o\n1\n{ROOT}\n" + "x" * cp.MAX_NOTE + f"\n\n{LINE}",
    ],
)
def test_note_of_another_shape(text) -> None:
    with pytest.raises(InvalidError):
        cp.parse(text.encode())


def test_note_that_is_no_text() -> None:
    with pytest.raises(InvalidError):
        cp.parse(b"o\n1\n\xff\n\n")
    assert cp.parse((f"o\n1\n{ROOT}\n\n" + LINE * 100).encode()).checkpoint.size == 1


@pytest.mark.parametrize(
    ("origin", "size", "root", "extensions"),
    [
        ("", 1, b"\0" * 32, ()),
        ("a\nb", 1, b"\0" * 32, ()),
        ("a", -1, b"\0" * 32, ()),
        ("a", 2**63, b"\0" * 32, ()),
        ("a", 1, b"\0" * 31, ()),
        ("a", 0, b"\0" * 32, ()),
        ("a", 1, b"\0" * 32, ("",)),
        ("a", 1, b"\0" * 32, ("x\n",)),
    ],
)
def test_head_that_has_no_checkpoint(origin, size, root, extensions) -> None:
    with pytest.raises(InvalidError):
        cp.Checkpoint(origin, size, root, extensions)


def test_empty_log_has_one_root() -> None:
    head = cp.Checkpoint("o", 0, hashlib.sha256(b"").digest())
    assert cp.parse(cp.sign(head, KEY)).checkpoint == head


def test_every_part_and_every_flip_of_a_verifier_key_is_refused() -> None:
    text = GOLDEN_KEY
    for start in range(len(text) + 1):
        for end in range(start, len(text) + 1):
            if (start, end) != (0, len(text)):
                with pytest.raises(InvalidError):
                    cp.parse_verifier_key(text[start:end])
    for index in range(len(text)):
        with pytest.raises(InvalidError):
            cp.parse_verifier_key(text[:index] + chr(ord(text[index]) + 1) + text[index + 1 :])


def test_verifier_key_of_another_algorithm_or_spelling() -> None:
    public = VERIFIER.public
    for kind, raw in ((b"\x02", public), (b"\x01", public + b"x"), (b"\x01", b"")):
        digest = hashlib.sha256(b"n\n" + kind + raw).hexdigest()[:8]
        with pytest.raises(InvalidError):
            cp.parse_verifier_key(f"n+{digest}+{base64.b64encode(kind + raw).decode()}")
    with pytest.raises(InvalidError):
        cp.parse_verifier_key(GOLDEN_KEY.replace(VERIFIER.key_hash.hex(), VERIFIER.key_hash.hex().upper()))


@pytest.mark.parametrize("name", ["a b", "a+b", "a\u2003b", "a\tb"])
def test_name_no_key_may_have(name) -> None:
    with pytest.raises(InvalidError):
        cp.verifier_key(name, KEY)
    with pytest.raises(InvalidError):
        cp.sign(HEAD, KEY, name)
