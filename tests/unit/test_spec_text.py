"""Descriptions and drawings, byte for byte; the shipped pipelines are valid, canonical and what they are called."""

from __future__ import annotations

from pathlib import Path

import pytest
from muniment.ring.spec import MAX_STAGES, SingleRing
from muniment.ring.spec_draw import dot, mermaid
from muniment.ring.spec_rules import parse
from muniment.ring.spec_text import canonical, describe, spec_sha256

PIPELINES = sorted((Path(__file__).parents[2] / "ops" / "pipelines").glob("*.kv"))
# settled.md, 25
LINEAR = b"""\
spec.version=1
spec.name=demo
spec.model=single_ring
single_ring.shards=1
single_ring.ordering=strict
single_ring.producer=single
single_ring.scheduling=dedicated
single_ring.capacity=1024
single_ring.slot_bytes=256
single_ring.on_full=block
single_ring.wait=backoff
single_ring.stages.0.id=in
single_ring.stages.0.op=identity
single_ring.stages.1.id=digest
single_ring.stages.1.op=digest
single_ring.stages.1.depends_on=0
"""


LIVE = (
    "  lane 2  live  fanout_broadcast  1024 slots of at most 4096 bytes; "
    "when full, the oldest is overwritten and its readers count it"
)


def shipped(name: str) -> bytes:
    return next(path for path in PIPELINES if path.stem == name).read_bytes()


@pytest.mark.parametrize("path", PIPELINES, ids=lambda path: path.stem)
def test_a_shipped_pipeline_is_canonical(path: Path) -> None:
    spec = parse(path.read_bytes(), path.name, canonical=True)
    assert spec.name == path.stem


def test_the_settled_example_is_canonical_and_has_its_digest() -> None:
    spec = parse(LINEAR, "settled", canonical=True)
    assert canonical(spec) == LINEAR
    # sha256sum of the text above
    assert spec_sha256(spec) == "sha256:0127a5cc97e17cf57606ba12edf2a4cbd44d370da8c87371cd2353c56119b706"


def test_leaves_release_slots() -> None:
    checksum = parse(shipped("checksum"), "x").pipeline
    assert isinstance(checksum, SingleRing)
    assert checksum.leaves == (3,)
    errors = parse(shipped("errors"), "x").pipeline
    assert isinstance(errors, SingleRing)
    assert errors.leaves == (1, 2)


def test_a_linear_ring() -> None:
    spec = parse(LINEAR, "x")
    assert describe(spec).split("\n") == [
        "demo  single_ring  sha256:0127a5cc97e17cf57606ba12edf2a4cbd44d370da8c87371cd2353c56119b706",
        "  input   single producer, 1 shard, ordering strict, scheduling dedicated",
        "  ring    1024 slots of at most 256 bytes, wait backoff; when full, the producer waits",
        "  stage 0  in      identity  <- input",
        "  stage 1  digest  digest    <- 0 in  releases slots",
    ]
    assert dot(spec) == (
        'digraph "demo" {\n  rankdir=LR;\n  node [shape=box];\n  input [shape=oval];\n'
        '  s0 [label="0 in\\nidentity"];\n  s1 [label="1 digest\\ndigest", peripheries=2];\n'
        "  input -> s0;\n  s0 -> s1;\n}\n"
    )
    assert mermaid(spec) == (
        'flowchart LR\n  input([input])\n  s0["0 in<br/>identity"]\n  s1[["1 digest<br/>digest"]]\n'
        "  input --> s0\n  s0 --> s1\n"
    )


def test_a_diamond() -> None:
    spec = parse(shipped("checksum"), "x")
    assert describe(spec).split("\n")[3:] == [
        "  stage 0  in     identity                 <- input",
        "  stage 1  lines  count                    <- 0 in",
        "  stage 2  sum    digest                   <- 0 in",
        "  stage 3  out    sink:file:checked.jsonl  <- 1 lines, 2 sum  releases slots",
    ]
    assert dot(spec).split("\n")[4:-2] == [
        '  s0 [label="0 in\\nidentity"];',
        '  s1 [label="1 lines\\ncount"];',
        '  s2 [label="2 sum\\ndigest"];',
        '  s3 [label="3 out\\nsink:file:checked.jsonl", peripheries=2];',
        "  input -> s0;",
        "  s0 -> s1;",
        "  s0 -> s2;",
        "  s1 -> s3;",
        "  s2 -> s3;",
    ]
    assert mermaid(spec).split("\n")[5:-1] == [
        '  s3[["3 out<br/>sink#58;file#58;checked.jsonl"]]',
        "  input --> s0",
        "  s0 --> s1",
        "  s0 --> s2",
        "  s1 --> s3",
        "  s2 --> s3",
    ]


def test_a_lane_graph() -> None:
    spec = parse(shipped("fan-out"), "x")
    assert describe(spec).split("\n")[1:] == [
        "  graph   3 lanes, 4 roles, wait backoff",
        "  lane 0  in    events            1024 slots of at most 4096 bytes; when full, the writer waits",
        "  lane 1  kept  journal           messages of at most 4096 bytes; it grows",
        LIVE,
        "  role 0  read   stage   identity  input -> in",
        "  role 1  split  router  identity  in -> kept, live",
        "  role 2  sum    stage   digest    kept -> end",
        "  role 3  watch  stage   count     live -> end",
    ]
    assert dot(spec).split("\n")[5:-2] == [
        '  s1 [label="split (router)\\nidentity"];',
        '  s2 [label="sum (stage)\\ndigest", peripheries=2];',
        '  s3 [label="watch (stage)\\ncount", peripheries=2];',
        "  input -> s0;",
        '  s0 -> s1 [label="in\\nevents"];',
        '  s1 -> s2 [label="kept\\njournal"];',
        '  s1 -> s3 [label="live\\nfanout_broadcast"];',
    ]


def test_hostile_text_stays_in_its_label() -> None:
    op = r'sink:file:x"];s9 [label="\N<b>|`#quot;' + "'"
    text = LINEAR.decode().replace("op=digest", "op=" + op)
    spec = parse(text.encode(), "x")
    drawn = next(line for line in dot(spec).split("\n") if "s1 [" in line)
    assert (
        drawn
        == '  s1 [label="1 digest\\n' + op.replace("\\", "\\\\").replace('"', '\\"') + '", peripheries=2];'
    )
    drawn = next(line for line in mermaid(spec).split("\n") if line.startswith("  s1["))
    inner = drawn.removeprefix('  s1[["').removesuffix('"]]').replace("<br/>", "")
    assert not set(inner) & set("\"`<>&|[]()\\'")


def test_a_long_op_is_cut_in_a_drawing_and_not_in_a_description() -> None:
    text = LINEAR.decode().replace("op=digest", "op=exec:run|" + "x" * 500)
    spec = parse(text.encode(), "x")
    assert "x" * 60 not in dot(spec)
    assert "…" in dot(spec)
    assert "x" * 500 in describe(spec)


def test_bounds_are_those_of_the_core() -> None:
    """A spec may ask for what the C core can make, and for nothing more."""
    import re

    from muniment.ring.spec import MAX_BYTES, MAX_CAPACITY, MAX_SLOT_BYTES
    from muniment.ring.spec_ops import MAX_FIELD_BYTES, MAX_FIELD_NAMES

    ring = Path(__file__).parents[2] / "ring"
    text = (ring / "core.h").read_text() + (ring / "json_scan.h").read_text()
    said = dict(re.findall(r"#define (R?[CJ]S?_\w+) \(?([0-9u<l ]+)\)?", text))

    def value(name: str) -> int:
        base, _, shift = re.sub("[ul ]", "", said[name]).partition("<<")
        return int(base) << int(shift or 0)

    assert value("RC_STAGES") == MAX_STAGES
    assert value("RC_MAX_CAPACITY") == MAX_CAPACITY
    assert value("RC_MAX_SLOT") == MAX_SLOT_BYTES
    assert value("RC_MAX_META") == MAX_BYTES
    assert value("JS_NAMES") == MAX_FIELD_NAMES
    assert value("JS_TEXT") == MAX_FIELD_BYTES
