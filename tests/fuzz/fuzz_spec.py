"""Any bytes to the parser of specs: `python tests/fuzz/fuzz_spec.py FOLDER [libFuzzer's options]`.

What must hold: an answer, or an `InvalidError` with problems that have lines and codes, nothing else; what is a spec is one in its
canonical form, by the same digest; its words and drawings can be made, and no text of it adds to them.
"""

from __future__ import annotations

import random
import re
import sys
from pathlib import Path

import atheris

with atheris.instrument_imports(include=["muniment.ring"]):
    from muniment.domain.errors import InvalidError
    from muniment.ring import spec
    from muniment.ring.spec_draw import dot, mermaid
    from muniment.ring.spec_lines import UNSEEN
    from muniment.ring.spec_ops import NAMES
    from muniment.ring.spec_rules import check, name_of, parse
    from muniment.ring.spec_text import canonical, describe, spec_sha256

PIPELINES = Path(__file__).parents[2] / "ops" / "pipelines"
CODE = re.compile(r"(kv|spec|ring|stage|graph)\.[a-z_]+")


def one_input(data: bytes) -> None:
    found, problems = check(data)
    assert isinstance(name_of(data), str)
    code = ""
    try:
        read = parse(data, "x")
    except InvalidError as error:
        code = error.code
    if code:
        assert found is None
        assert CODE.fullmatch(code)
        lines = [each.line for each in problems]
        assert lines == sorted(lines)
        assert 1 <= lines[0] <= lines[-1] <= data.count(b"\n") + 1
        assert not any(UNSEEN.search(str(each)) for each in problems)
        return
    assert (read, []) == (found, problems)
    form = canonical(read)
    again = parse(form, "x", canonical=True)
    assert again == read
    assert canonical(again) == form
    assert (check(data, canonical=True)[0] == read) == (data == form)
    assert spec_sha256(again) == spec_sha256(read)
    assert set(data.split(b"\n")) <= set(form.split(b"\n")), "a line of the spec says nothing"
    drawn(read)


def drawn(read: spec.Spec) -> None:
    steps = len(read.ops)
    parts = steps + (len(read.pipeline.lanes) if isinstance(read.pipeline, spec.LaneGraph) else 1)
    lines = describe(read).split("\n")
    assert len(lines) == 2 + parts
    assert not any(UNSEEN.search(line) for line in lines)
    assert len(re.findall(r"^  s\d+ \[", dot(read), re.MULTILINE)) == steps
    assert len(re.findall(r"^  s\d+\[", mermaid(read), re.MULTILINE)) == steps


def words() -> list[str]:
    """What keys and values are made of: libFuzzer puts them together."""
    ours = {
        word for path in PIPELINES.glob("*.kv") for word in re.findall(r"[a-z_]+=?|\d+|\S", path.read_text())
    }
    return sorted(
        ours
        | {
            *NAMES,
            *spec.WAITS,
            *spec.ON_FULL,
            *spec.ORDERINGS,
            *spec.LANE_KINDS,
            "\n",
            "\r\n",
            "\ufeff",
            "\u202e",
        }
    )


WORDS = [word.encode() for word in words()]
GOOD = [path.read_bytes() for path in sorted(PIPELINES.glob("*.kv"))]
CASES = [line for each in GOOD for line in each.splitlines()]


def mutated(data: bytes, max_size: int, seed: int) -> bytes:
    """Lines and values more often than bytes: few changes of a byte leave a spec that gets as far as the rules."""
    chance = random.Random(seed)
    if chance.random() < 0.3:
        return atheris.Mutate(data, max_size)
    lines = (chance.choice(GOOD) if chance.random() < 0.3 else data).split(b"\n")
    for _ in range(chance.choice((1, 1, 2, 4))):
        one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
        key, _, value = lines[one].partition(b"=")
        match chance.randrange(8):
            case 0 if len(lines) > 1:
                del lines[one]
            case 1:
                lines.insert(two, chance.choice(CASES))
            case 2:
                lines[one], lines[two] = lines[two], lines[one]
            case 3:
                lines[one] = key + b"=" + lines[two].partition(b"=")[2]
            case 4:
                lines[one] = key + b"=" + chance.choice(WORDS)
            case 5:
                lines[one] = key + b"=" + atheris.Mutate(value, 40)
            case 6:
                lines[one] = key + b"=" + value + chance.choice((b"", b",", b".")) + chance.choice(WORDS)
            case _:
                step = chance.choice((b"0", b"1", b"2", b"3", b"16", b"64"))
                lines.insert(two, re.sub(rb"\d+", step, lines[one], count=1))
    return b"\n".join(lines)[:max_size]


def main() -> None:
    folder = Path(sys.argv[1])
    folder.mkdir(exist_ok=True)
    for path in PIPELINES.glob("*.kv"):
        (folder / path.name).write_bytes(path.read_bytes())
    told = folder.with_suffix(".dict")
    told.write_text(
        "".join('"' + "".join(f"\\x{byte:02x}" for byte in word.encode()) + '"\n' for word in words())
    )
    atheris.Setup(
        [*sys.argv, f"-dict={told}", "-max_len=6000", "-timeout=20"], one_input, custom_mutator=mutated
    )
    atheris.Fuzz()


if __name__ == "__main__":
    main()
