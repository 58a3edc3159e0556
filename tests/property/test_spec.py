"""Specs of any kind: text and back, order of lines, drawings; bytes of any kind: problems with lines, never anything else.

The last test is a fuzzer of its own with a fixed seed: lines and bytes of valid specs are cut, doubled, swapped and changed. A
coverage-guided one would have to be built in every environment; the parser is straight Python, and the codes that this reaches are
counted.
"""

from __future__ import annotations

import random
import re
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from muniment.ring.spec import (
    LANE_KINDS,
    LANE_ON_FULL,
    ON_FULL,
    WAITS,
    Lane,
    LaneGraph,
    Op,
    Role,
    SingleRing,
    Spec,
    Stage,
)
from muniment.ring.spec_draw import dot, mermaid
from muniment.ring.spec_lines import UNSEEN
from muniment.ring.spec_rules import check, parse
from muniment.ring.spec_text import canonical, describe, spec_sha256

PIPELINES = sorted((Path(__file__).parents[2] / "ops" / "pipelines").glob("*.kv"))
NAMES = st.from_regex(r"[a-z0-9][a-z0-9._-]{0,8}", fullmatch=True)
TEXTS = st.text(st.characters(exclude_categories=("Cs",)), max_size=12).filter(
    lambda text: text == text.strip() and not UNSEEN.search(text)
)
FIELDS = st.lists(TEXTS.filter(lambda text: text and not set(text) & set(".=")), min_size=1, max_size=4).map(
    ".".join
)
FIELDS = FIELDS.filter(lambda text: text == text.strip())
OPS = st.one_of(
    st.sampled_from(["identity", "count", "digest", "sink:log"]).map(Op),
    st.builds(lambda field, value: Op("filter", f"{field}={value}"), FIELDS, TEXTS),
    st.builds(Op, st.sampled_from(["schema", "python", "guard"]), NAMES),
    TEXTS.filter(lambda text: text.rpartition("/")[2] not in ("", ".", "..")).map(
        lambda text: Op("sink:file", text)
    ),
    TEXTS.filter(lambda text: text.partition("|")[0].strip()).map(lambda text: Op("exec", text)),
    NAMES.map(lambda name: Op("http_post", f"https://{name}.example/x")),
)
SIZES = st.sampled_from([1, 2, 256, 1 << 20])


@st.composite
def rings(draw: st.DrawFn) -> SingleRing:
    stages: list[Stage] = []
    for index, name in enumerate(draw(st.lists(NAMES, min_size=1, max_size=16, unique=True))):
        op = draw(OPS)
        least = 1 if index and op.name != "identity" else 0
        depends = draw(st.sets(st.integers(0, index - 1), min_size=least)) if index else set()
        stages.append(Stage(name, op, tuple(sorted(depends))))
    keyed = draw(st.booleans())
    return SingleRing(
        tuple(stages),
        shards=draw(st.integers(1, 64)) if keyed else 1,
        ordering="per_key" if keyed else "strict",
        shard_key=draw(FIELDS) if keyed else "",
        producer=draw(st.sampled_from(["single", "multi"])),
        capacity=1 << draw(st.integers(0, 30)),
        slot_bytes=draw(SIZES),
        on_full=draw(st.sampled_from(ON_FULL)),
        wait=draw(st.sampled_from(WAITS)),
    )


@st.composite
def graphs(draw: st.DrawFn) -> LaneGraph:
    """A tree of stages, routers and bridges, its lanes in any order: every lane joins a role to one that was drawn before it."""
    count = draw(st.integers(1, 8))
    names = draw(st.lists(NAMES, min_size=2 * count, max_size=2 * count, unique=True))
    kinds = [draw(st.sampled_from(LANE_KINDS)) for _ in range(count)]
    parents = [0, *(draw(st.integers(0, at - 1)) for at in range(1, count))]
    if count > 1:  # the source is a stage, which has one output
        parents = [0, 0, *(max(parent, 1) for parent in parents[2:])]
    lanes = [
        Lane(
            names[count + at],
            kinds[at],
            0 if kinds[at] == "journal" else 1 << draw(st.integers(0, 30)),
            draw(SIZES),
            draw(st.sampled_from(LANE_ON_FULL[kinds[at]])),
        )
        for at in range(count)
    ]
    roles = []
    for at in range(count):
        outputs = tuple(lanes[child].name for child in range(1, count) if parents[child] == at)
        inputs = (lanes[at].name,) if at else ()
        kind = "router" if len(outputs) > 1 else "stage"
        if len(outputs) == 1 and at:
            other = next(lane.kind for lane in lanes if lane.name == outputs[0])
            choices = ["stage", "router", "merge", *(["bridge"] if other != lanes[at].kind else [])]
            kind = draw(st.sampled_from(choices))
        roles.append(Role(names[at], kind, draw(OPS), inputs, outputs))
    return LaneGraph(
        tuple(draw(st.permutations(lanes[1:]))),
        tuple(draw(st.permutations(roles))),
        draw(st.sampled_from(WAITS)),
    )


# a machine that is busy draws slowly: no reason to fail
BUSY = settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much]
)
SPECS = st.builds(Spec, NAMES, st.one_of(rings(), graphs()))


@BUSY
@given(SPECS)
def test_the_canonical_form_is_the_spec(spec: Spec) -> None:
    form = canonical(spec)
    assert parse(form, "x", canonical=True) == spec
    assert canonical(parse(form, "x")) == form


@BUSY
@given(SPECS, st.randoms(use_true_random=False))
def test_the_order_of_lines_says_nothing(spec: Spec, chance: random.Random) -> None:
    lines = canonical(spec).splitlines(keepends=True)
    chance.shuffle(lines)
    again = parse(b"".join(lines), "x")
    assert again == spec
    assert spec_sha256(again) == spec_sha256(spec)


@BUSY
@given(SPECS)
def test_a_default_may_be_left_out(spec: Spec) -> None:
    ours = "capacity=1024 slot_bytes=256 on_full=block wait=backoff producer=single shards=1 ordering=strict"
    defaults = tuple(f".{each}\n".encode() for each in [*ours.split(), "scheduling=dedicated"])
    kept = [line for line in canonical(spec).splitlines(keepends=True) if not line.endswith(defaults)]
    assert parse(b"".join(kept), "x") == spec


@BUSY
@given(SPECS, SPECS)
def test_two_specs_have_one_form_only_if_they_are_equal(one: Spec, other: Spec) -> None:
    assert (canonical(one) == canonical(other)) == (one == other)


QUOTED = r'"(?:[^"\\\n]|\\["\\n])*"'
DOT = re.compile(
    rf"digraph {QUOTED} \{{\n  rankdir=LR;\n  node \[shape=box\];\n  input \[shape=oval\];\n"
    rf"(?:  s\d+ \[label={QUOTED}(?:, peripheries=2)?\];\n)+"
    rf"(?:  (?:s\d+|input) -> s\d+(?: \[label={QUOTED}\])?;\n)+\}}\n"
)
WORD = r'"(?:[A-Za-z0-9 ._/=,+-]|#\d+;|<br/>)*"'
MERMAID = re.compile(
    rf"flowchart LR\n  input\(\[input\]\)\n(?:  s\d+(?:\[{WORD}\]|\[\[{WORD}\]\])\n)+"
    rf"(?:  (?:s\d+|input) -->(?:\|{WORD}\|)? s\d+\n)+"
)


@BUSY
@given(SPECS)
def test_no_text_of_a_spec_adds_to_a_drawing(spec: Spec) -> None:
    steps = len(spec.ops)
    assert DOT.fullmatch(dot(spec))
    assert len(re.findall(r"^  s\d+ \[", dot(spec), re.MULTILINE)) == steps
    assert MERMAID.fullmatch(mermaid(spec))
    assert len(re.findall(r"^  s\d+\[", mermaid(spec), re.MULTILINE)) == steps


@BUSY
@given(SPECS)
def test_a_description_is_one_line_a_part(spec: Spec) -> None:
    parts = len(spec.ops) + (len(spec.pipeline.lanes) if isinstance(spec.pipeline, LaneGraph) else 1)
    text = describe(spec)
    assert len(text.split("\n")) == 2 + parts
    assert text == describe(parse(canonical(spec), "x"))
    assert not UNSEEN.search(text.replace("\n", ""))


def _sound(data: bytes, *, canonical_: bool = False) -> None:
    """An answer, whatever the bytes: a spec whose form is a fixed point, or problems in order with lines that exist."""
    spec, problems = check(data, canonical=canonical_)
    if spec is not None:
        assert not problems
        assert parse(canonical(spec), "x", canonical=True) == spec
        return
    assert problems
    lines = [each.line for each in problems]
    assert lines == sorted(lines)
    assert 1 <= lines[0]
    assert lines[-1] <= data.count(b"\n") + 1
    assert len(set(problems)) == len(problems)
    assert all(re.fullmatch(r"(kv|spec|ring|stage|graph)\.[a-z_]+", each.code) for each in problems)
    assert all(len(str(each)) < 700 and not UNSEEN.search(str(each)) for each in problems)


@BUSY
@given(st.binary(max_size=300), st.booleans())
def test_any_bytes(data: bytes, canonical_: bool) -> None:
    _sound(data, canonical_=canonical_)


@BUSY
@given(st.lists(st.sampled_from(b"".join(path.read_bytes() for path in PIPELINES).splitlines()), max_size=40))
def test_any_lines_of_specs(lines: list[bytes]) -> None:
    _sound(b"\n".join(lines))


@BUSY
@given(SPECS, st.data())
def test_a_line_changed(spec: Spec, data: st.DataObject) -> None:
    lines = canonical(spec).splitlines()
    at = data.draw(st.integers(0, len(lines) - 1))
    key = lines[at].partition(b"=")[0]
    lines[at] = data.draw(
        st.one_of(st.just(b""), st.binary(max_size=9), st.binary(max_size=9).map(lambda b: key + b"=" + b))
    )
    _sound(b"\n".join(lines), canonical_=True)


PIECES = (
    b"=",
    b".",
    b"\n",
    b"\r\n",
    b"\0",
    b"\xff",
    b"\xef\xbb\xbf",
    b",",
    b"0",
    b"99999999999999999999",
    b"1",
    b" ",
    b":",
    b"|",
)


def _mutated(data: bytes, chance: random.Random) -> bytes:
    lines = data.split(b"\n")
    one, two = chance.randrange(len(lines)), chance.randrange(len(lines))
    match chance.randrange(7):
        case 0:
            del lines[one]
        case 1:
            lines.insert(two, lines[one])
        case 2:
            lines[one], lines[two] = lines[two], lines[one]
        case 3:
            lines[one] = lines[one].partition(b"=")[0] + b"=" + lines[two].partition(b"=")[2]
        case 4:
            lines[one] = lines[one][: chance.randrange(len(lines[one]) + 1)]
        case 5:
            at = chance.randrange(len(lines[one]) + 1)
            lines[one] = lines[one][:at] + chance.choice(PIECES) + lines[one][at:]
        case _:
            raw = bytearray(data or b"x")
            raw[chance.randrange(len(raw))] ^= 1 << chance.randrange(8)
            return bytes(raw)
    return b"\n".join(lines)


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_specs_mutated_again_and_again(path: Path) -> None:
    chance = random.Random(path.stem)
    good = data = path.read_bytes()
    codes: set[str] = set()
    for step in range(1500):
        data = _mutated(data, chance) if step % 6 else good
        _sound(data, canonical_=bool(step & 1))
        codes |= {each.code for each in check(data)[1]}
    assert len(codes) > 12, codes  # it does reach the rules
