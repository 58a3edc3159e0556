"""Every code of a bad spec, with the line it names; several at once, in order, and none twice for one cause."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from muniment.cli.text import visible
from muniment.domain.errors import InvalidError
from muniment.ring import spec_lines
from muniment.ring.spec import MAX_BYTES, MAX_LINES
from muniment.ring.spec_rules import check, name_of, parse

RING = """\
spec.version=1
spec.name=demo
spec.model=single_ring
single_ring.stages.0.id=in
single_ring.stages.0.op=identity
single_ring.stages.1.id=sum
single_ring.stages.1.op=digest
single_ring.stages.1.depends_on=0
"""
GRAPH = """\
spec.version=1
spec.name=fan
spec.model=lane_graph
lane_graph.lanes.0.name=a
lane_graph.lanes.0.kind=events
lane_graph.lanes.1.name=b
lane_graph.lanes.1.kind=sequenced_slots
lane_graph.roles.0.id=read
lane_graph.roles.0.kind=stage
lane_graph.roles.0.op=identity
lane_graph.roles.0.outputs=a
lane_graph.roles.1.id=over
lane_graph.roles.1.kind=bridge
lane_graph.roles.1.op=identity
lane_graph.roles.1.inputs=a
lane_graph.roles.1.outputs=b
lane_graph.roles.2.id=sum
lane_graph.roles.2.kind=stage
lane_graph.roles.2.op=digest
lane_graph.roles.2.inputs=b
"""
S, G = "single_ring.", "lane_graph."


def found(data: bytes | str, *, canonical: bool = False) -> list[tuple[str, int]]:
    """Codes and lines."""
    spec, problems = check(data.encode() if isinstance(data, str) else data, canonical=canonical)
    assert (spec is None) == bool(problems)
    return [(each.code, each.line) for each in problems]


def edited(text: str, *edits: str) -> str:
    """The text with lines `key=value` put in the place of their key (appended if new); `-key` takes one out."""
    lines = text.splitlines()
    for edit in edits:
        key = edit.removeprefix("-").partition("=")[0]
        at = next((n for n, line in enumerate(lines) if line.partition("=")[0] == key), None)
        if edit.startswith("-"):
            assert at is not None
            del lines[at]
        elif at is None:
            lines.append(edit)
        else:
            lines[at] = edit
    return "\n".join(lines) + "\n"


def stage(index: int, op: str = "count", depends: str = "0", id_: str = "") -> tuple[str, ...]:
    at = f"{S}stages.{index}."
    return (
        f"{at}id={id_ or f's{index}'}",
        f"{at}op={op}",
        *([f"{at}depends_on={depends}"] if depends else []),
    )


def role(index: int, kind: str, inputs: str = "", outputs: str = "", op: str = "identity") -> tuple[str, ...]:
    at = f"{G}roles.{index}."
    ends = [f"{at}{name}={value}" for name, value in (("inputs", inputs), ("outputs", outputs)) if value]
    return (f"{at}id=r{index}", f"{at}kind={kind}", f"{at}op={op}", *ends)


def lane(index: int, name: str, kind: str = "events") -> tuple[str, ...]:
    return (f"{G}lanes.{index}.name={name}", f"{G}lanes.{index}.kind={kind}")


RINGS = [
    # what is changed in RING (8 lines; new lines follow), what must be said
    (("-spec.version",), [("kv.missing_key", 7)]),
    (("-spec.name",), [("kv.missing_key", 7)]),
    (("-spec.model",), [("kv.missing_key", 7)]),
    ((f"-{S}stages.1.op",), [("kv.missing_key", 6)]),
    ((f"-{S}stages.0.id",), [("kv.missing_key", 4)]),
    (stage(3), [("kv.missing_key", 9)]),
    (("spec.colour=red",), [("kv.unknown_key", 9)]),
    ((f"{G}wait=spin",), [("kv.unknown_key", 9)]),
    ((f"{S}stages.0.colour=red",), [("kv.unknown_key", 9)]),
    ((f"{S}stages.00.id=x",), [("kv.unknown_key", 9)]),
    ((f"{S}stages.-1.id=x",), [("kv.unknown_key", 9)]),
    ((f"{S}stages.0=x",), [("kv.unknown_key", 9)]),
    (("Spec.name=x",), [("kv.unknown_key", 9)]),
    (("spec.version=2",), [("spec.version_unsupported", 1)]),
    (("spec.version=01", "nothing.known=1"), [("spec.version_unsupported", 1)]),
    (("spec.model=double_ring",), [("spec.model_unknown", 3)]),
    (("spec.name=Demo",), [("kv.bad_value", 2)]),
    (("spec.name=",), [("kv.bad_value", 2)]),
    (("spec.name=../x",), [("kv.bad_value", 2)]),
    (("spec.name=" + "a" * 65,), [("kv.bad_value", 2)]),
    ((f"{S}shards=0",), [("ring.shards_zero", 9)]),
    ((f"{S}shards=-1",), [("kv.bad_value", 9)]),
    ((f"{S}shards=1.0",), [("kv.bad_value", 9)]),
    ((f"{S}shards=01",), [("kv.bad_value", 9)]),
    ((f"{S}shards=+1",), [("kv.bad_value", 9)]),
    ((f"{S}shards=1_0",), [("kv.bad_value", 9)]),
    ((f"{S}shards=٣",), [("kv.bad_value", 9)]),
    ((f"{S}shards=65",), [("kv.out_of_range", 9)]),
    ((f"{S}shards={'9' * 5000}",), [("kv.out_of_range", 9)]),
    ((f"{S}shards=2",), [("ring.ordering_needs_one_shard", 9)]),
    ((f"{S}shards=2", f"{S}ordering=strict"), [("ring.ordering_needs_one_shard", 10)]),
    ((f"{S}shards=2", f"{S}ordering=per_key"), [("ring.shard_key_missing", 10)]),
    ((f"{S}ordering=per_key",), [("ring.shard_key_missing", 9)]),
    ((f"{S}ordering=strict", f"{S}shard_key=a"), [("ring.shard_key_unused", 10)]),
    ((f"{S}ordering=none", f"{S}shards=2"), [("kv.bad_value", 9)]),
    ((f"{S}ordering=per_key", f"{S}shard_key="), [("kv.bad_value", 10)]),
    ((f"{S}ordering=per_key", f"{S}shard_key=a..b"), [("kv.bad_value", 10)]),
    ((f"{S}ordering=per_key", f"{S}shard_key={'.'.join('a' * 17)}"), [("kv.bad_value", 10)]),
    ((f"{S}ordering=per_key", f"{S}shard_key={'a' * 513}"), [("kv.bad_value", 10)]),
    ((f"{S}producer=mpmc",), [("ring.producer_unsupported", 9)]),
    ((f"{S}scheduling=work_queue",), [("ring.scheduling_unsupported", 9)]),
    ((f"{S}capacity=0",), [("ring.capacity_not_power_of_two", 9)]),
    ((f"{S}capacity=1000",), [("ring.capacity_not_power_of_two", 9)]),
    ((f"{S}capacity={1 << 31}",), [("kv.out_of_range", 9)]),
    ((f"{S}capacity=many",), [("kv.bad_value", 9)]),
    ((f"{S}slot_bytes=0",), [("kv.out_of_range", 9)]),
    ((f"{S}slot_bytes={(1 << 20) + 1}",), [("kv.out_of_range", 9)]),
    ((f"{S}on_full=wait",), [("kv.bad_value", 9)]),
    ((f"{S}on_full=overwrite",), [("kv.bad_value", 9)]),
    ((f"{S}wait=sleep",), [("kv.bad_value", 9)]),
    (stage(2, id_="in"), [("stage.duplicate_id", 9)]),
    ((f"{S}stages.1.id=A b",), [("kv.bad_value", 6)]),
    (stage(2, depends="2"), [("stage.self_dependency", 11)]),
    (stage(2, depends="3"), [("stage.forward_dependency", 11)]),
    (stage(2, depends="0,3,9,9999"), [("stage.forward_dependency", 11)]),
    (stage(2, depends="0,99999999"), [("kv.bad_value", 11)]),
    ((f"{S}stages.0.depends_on=0",), [("stage.self_dependency", 9)]),
    (stage(2, depends="1,0"), [("stage.dependency_order", 11)]),
    (stage(2, depends="1,1"), [("stage.dependency_order", 11)]),
    (stage(2, depends="0,,1"), [("kv.bad_value", 11)]),
    ((*stage(2, depends=""), f"{S}stages.2.depends_on="), [("kv.bad_value", 11)]),
    (stage(2, depends="0, 1"), [("kv.bad_value", 11)]),
    (stage(2, depends="in"), [("kv.bad_value", 11)]),
    (stage(2, depends="00"), [("kv.bad_value", 11)]),
    (stage(2, depends=""), [("stage.dependency_missing", 10)]),
    (stage(2, op="counts", depends=""), [("stage.unknown_op", 10)]),
]
GRAPHS = [
    # what is changed in GRAPH (20 lines; new lines follow), what must be said
    ((f"{S}wait=spin",), [("kv.unknown_key", 21)]),
    ((f"{G}wait=nap",), [("kv.bad_value", 21)]),
    ((f"{G}lanes.0.kind=queue",), [("kv.bad_value", 5)]),
    ((f"-{G}lanes.0.kind",), [("kv.missing_key", 4)]),
    ((f"-{G}roles.1.kind",), [("kv.missing_key", 12)]),
    ((f"{G}roles.1.kind=pump",), [("kv.bad_value", 13)]),
    ((f"{G}lanes.0.name=A",), [("kv.bad_value", 4)]),
    ((f"{G}lanes.0.capacity=3",), [("ring.capacity_not_power_of_two", 21)]),
    ((f"{G}lanes.0.slot_bytes=0",), [("kv.out_of_range", 21)]),
    ((f"{G}lanes.0.on_full=overwrite",), [("kv.bad_value", 21)]),
    (
        (f"{G}lanes.1.kind=journal", f"{G}lanes.1.on_full=drop", f"{G}lanes.1.capacity=8"),
        [("graph.lane_kind_mismatch", 21), ("graph.lane_kind_mismatch", 22)],
    ),
    ((f"{G}lanes.1.kind=fanout_broadcast", f"{G}lanes.1.on_full=block"), [("graph.lane_kind_mismatch", 21)]),
    ((f"{G}lanes.1.kind=events",), [("graph.lane_kind_mismatch", 13)]),
    ((f"{G}lanes.1.name=a",), [("graph.duplicate_name", 6)]),
    ((f"{G}roles.2.id=read",), [("graph.duplicate_name", 17)]),
    (lane(2, "c"), [("graph.unreferenced_lane", 21)]),
    ((*lane(2, "c"), f"{G}roles.1.kind=router", f"{G}roles.1.outputs=b,c"), [("graph.no_reader", 21)]),
    ((*lane(2, "c"), f"{G}roles.2.kind=merge", f"{G}roles.2.inputs=b,c"), [("graph.role_arity", 18)]),
    ((f"{G}roles.2.inputs=z",), [("graph.unknown_lane", 20)]),
    ((f"{G}roles.0.outputs=z", f"{G}roles.0.kind=stage"), [("graph.unknown_lane", 11)]),
    (role(3, "stage", "b", "a"), [("graph.multiple_writers", 25), ("graph.cycle", 15)]),
    (role(3, "stage", "a"), [("graph.multiple_readers", 24)]),
    (
        tuple(line for n in range(3, 19) for line in role(n, "stage", "b")),
        [("graph.multiple_readers", 20 + 4 * 16)],
    ),
    ((*lane(2, "c"), *role(3, "stage", "c")), [("graph.no_writer", 21)]),
    (role(3, "stage"), [("graph.multiple_sources", 21)]),
    ((f"-{G}roles.1.inputs",), [("graph.role_arity", 13)]),
    ((f"{G}roles.1.outputs=b,b",), [("kv.bad_value", 16), ("graph.role_arity", 16)]),
    ((f"{G}roles.2.inputs=b,",), [("kv.bad_value", 20)]),
    ((f"{G}roles.2.op=dance",), [("stage.unknown_op", 19)]),
    ((f"{G}roles.0.inputs=b", f"{G}lanes.0.kind=fanout_broadcast"), [("graph.cycle", 21)]),
    ((*lane(64, "x"),), [("graph.too_many", 21)]),
    ((*role(64, "stage", "b"),), [("graph.too_many", 21)]),
]


@pytest.mark.parametrize(("edits", "expected"), RINGS)
def test_rings(edits: tuple[str, ...], expected: list[tuple[str, int]]) -> None:
    assert sorted(expected, key=lambda item: item[1]) == found(edited(RING, *edits))


@pytest.mark.parametrize(("edits", "expected"), GRAPHS)
def test_graphs(edits: tuple[str, ...], expected: list[tuple[str, int]]) -> None:
    assert sorted(expected, key=lambda item: item[1]) == found(edited(GRAPH, *edits))


def test_what_the_cases_change_is_valid() -> None:
    assert found(RING) == []
    assert found(GRAPH) == []


HEAD = "spec.version=1\nspec.name=x\nspec.model="


def test_a_pipeline_of_nothing() -> None:
    assert found(HEAD + "single_ring\n") == [("ring.no_stages", 3)]
    assert found(HEAD + "lane_graph\n") == [("graph.no_roles", 3)]
    assert found(b"") == [("kv.missing_key", 1)] * 3


def test_sixteen_stages_and_no_more() -> None:
    most = edited(RING, *(line for n in range(2, 16) for line in stage(n)))
    assert found(most) == []
    assert found(edited(most, *stage(16), *stage(17))) == [("ring.too_many_stages", 51)]
    assert found(HEAD + f"single_ring\n{S}stages.{'9' * 5000}.id=x\n") == [("ring.too_many_stages", 4)]


def test_independent_cycles_are_told_apart_and_each_once() -> None:
    lanes = [line for n, name in enumerate("abcd") for line in lane(n, name)]
    roles = [
        *role(0, "stage", "a", "b"),
        *role(1, "stage", "b", "a"),
        *role(2, "stage", "c", "d"),
        *role(3, "stage", "d", "c"),
    ]
    text = HEAD + "lane_graph\n" + "\n".join([*lanes, *roles]) + "\n"
    assert found(text) == [("graph.cycle", 15), ("graph.cycle", 25)]
    _, problems = check(text.encode())
    assert [each.found for each in problems] == ["r0 -> r1 -> r0", "r2 -> r3 -> r2"]


SYNTAX = [
    (b"\xef\xbb\xbf" + RING.encode(), [1]),
    (RING.replace("\n", "\r\n").encode(), [1]),
    (RING.replace("=demo\n", "=demo\r\n").encode(), [2]),
    (RING.replace("spec.name=demo", "spec.name=de\0mo").encode(), [2]),
    (RING.replace("spec.name=demo", "spec.name demo").encode(), [2]),
    (RING.replace("spec.name=demo", "spec.name: demo").encode(), [2]),
    (RING.replace("spec.name=demo", "spec.name = demo").encode(), [2]),
    (RING.replace("spec.name=demo", " spec.name=demo").encode(), [2]),
    (RING.replace("spec.name=demo", "spec.name=demo ").encode(), [2]),
    (RING.replace("spec.name=demo", "spec.name=\tdemo").encode(), [2]),
    (RING.replace("spec.name=demo", "spec.name=de\u202emo").encode(), [2]),
    (RING.encode().replace(b"=demo", b"=de\xffmo"), [2]),
    (RING.encode().replace(b"=demo", b"=de\xed\xa0\x80mo"), [2]),
    ((RING + "\n").encode(), [9]),
    ((RING + "# a comment\n").encode(), [9]),
    ((RING + "=value\n").encode(), [9]),
    (("\n" + RING + "x\ny\n").encode(), [1, 10, 11]),
    (b"spec.version=1\n" * (MAX_LINES + 1), [MAX_LINES + 1]),
    (b"x" * (MAX_BYTES + 1), [1]),
]


@pytest.mark.parametrize(("data", "lines"), SYNTAX)
def test_what_is_no_line_of_a_spec(data: bytes, lines: list[int]) -> None:
    assert found(data) == [("kv.syntax", line) for line in lines]


def test_a_line_without_its_end_is_read_and_a_long_one_too() -> None:
    assert found(RING.rstrip("\n")) == []
    assert found(edited(RING, f"{S}stages.0.op=exec:run|{'x' * 900_000}")) == []
    assert found(edited(RING, f"{S}stages.0.op=" + "x" * 900_000)) == [("stage.unknown_op", 5)]


def test_the_canonical_form_has_to_fit_too() -> None:
    room = MAX_BYTES - len(RING) - len("exec:run|") + len("identity")
    text = edited(RING, f"{S}stages.0.op=exec:run|{'x' * room}")
    assert len(text) == MAX_BYTES
    assert found(text) == [("kv.syntax", 1)]


def test_a_second_line_of_a_key_names_the_first() -> None:
    text = RING + "spec.name=other\nspec.name=third\n"
    assert found(text) == [("kv.duplicate_key", 9), ("kv.duplicate_key", 10)]
    _, problems = check(text.encode())
    assert "line 2" in problems[0].message


def test_every_unseen_character_that_a_terminal_shows_as_an_escape_is_refused() -> None:
    for code in [*range(0x3000), *range(0xFE00, 0x10000), *range(0xE0000, 0xE0100)]:
        char = chr(code)
        if visible(char) != char:
            assert spec_lines.UNSEEN.search(char), hex(code)


def test_the_canonical_form_is_demanded() -> None:
    spec = parse(RING.encode(), "x")
    from muniment.ring.spec_text import canonical

    form = canonical(spec)
    assert found(form, canonical=True) == []
    for data, line in (
        (RING.encode(), 4),
        (form[:-1], 16),
        (form + b"\n", 17),
        (form.replace(b"wait=backoff", b"wait=park"), None),
        (form.replace(b"spec.version=1\nspec.name=demo", b"spec.name=demo\nspec.version=1"), 1),
    ):
        expected = [] if line is None else [("kv.syntax" if line == 17 else "kv.not_canonical", line)]
        assert found(data, canonical=True) == expected


def test_all_of_them_at_once_in_the_order_of_lines() -> None:
    text = edited(
        RING, "spec.name=X", f"{S}stages.1.op=dance", f"{S}capacity=7", f"{S}wait=no", "x=1", f"{S}shards=2"
    )
    with pytest.raises(InvalidError) as caught:
        parse(text.encode(), "f.kv")
    error = caught.value
    assert (error.exit_code, error.code) == (10, "kv.bad_value")
    assert error.message.startswith("kv.bad_value: f.kv, line 2:")
    problems = error.context["problems"]
    assert isinstance(problems, list)
    assert [each.split("  ")[0] for each in problems] == [
        "kv.bad_value",
        "stage.unknown_op",
        "ring.capacity_not_power_of_two",
        "kv.bad_value",
        "kv.unknown_key",
        "ring.ordering_needs_one_shard",
    ]
    assert all(re.match(r"[a-z]+\.[a-z_]+  line \d+: \S", each) for each in problems)


def test_a_misspelt_key_names_the_right_one() -> None:
    _, problems = check(edited(RING, f"{S}capcity=8").encode())
    assert [each.expected for each in problems] == ["single_ring.capacity"]


def test_the_name_is_known_of_a_bad_spec_too() -> None:
    assert name_of(b"x\nspec.name=demo\n") == "demo"
    assert name_of(b"spec.name=De mo\n") == ""
    assert name_of(b"\xff" * (MAX_BYTES + 1)) == ""


def test_the_listed_codes_are_all_shown_above() -> None:
    """The design's list, and ours: the decision names each."""
    page = (Path(__file__).parents[2] / "ops" / "decisions" / "0018-spec-keys.md").read_text()
    listed = set(re.findall(r"`((?:kv|spec|ring|stage|graph)\.[a-z_]+)`", page))
    cases = [expected for _, expected in [*RINGS, *GRAPHS]]
    shown = {code for expected in cases for code, _ in expected}
    shown |= {"kv.syntax", "kv.duplicate_key", "kv.not_canonical", "ring.no_stages", "ring.too_many_stages"}
    shown |= {"graph.no_roles", "stage.bad_argument"}
    assert listed == shown
    sources = (Path(__file__).parents[2] / "ring").glob("spec*.py")
    raised = {
        code
        for file in sources
        for code in re.findall(r'"((?:kv|spec|ring|stage|graph)\.[a-z_]+)"', file.read_text())
    }
    assert raised - {"spec.version", "spec.name", "spec.model"} == listed
