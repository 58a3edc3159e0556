"""Packed snapshots: the layout of `core.h`, and refusal of other bytes."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from muniment.domain.errors import InvalidError
from muniment.ring import snapshot_format as form
from muniment.ring.snapshot_format import unpack
from snapshot_samples import cell, chain, pack, shown

ROOT = Path(__file__).parents[2]
u64 = st.integers(0, (1 << 64) - 1)


def outcome(data: bytes) -> str:
    """Whether bytes are shown, or why not; anything but these two is a fault."""
    try:
        found = shown(data)
    except InvalidError as error:
        return error.code
    held = 0 <= found["remaining_capacity"] <= found["capacity"]
    return "shown" if held else "impossible"


def test_every_field_lies_where_the_header_puts_it(tmp_path: Path) -> None:
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler here")
    heads = "".join(f'printf("head {n} %zu\\n", offsetof(rc_snap, {n}));' for n in form.HEAD_FIELDS)
    cells = "".join(f'printf("cell {n} %zu\\n", offsetof(rc_snap_cell, {n}));' for n in form.CELL_FIELDS)
    more = (
        'printf("size %zu %zu %zu\\n", offsetof(rc_snap, cell), sizeof(rc_snap_cell), sizeof(rc_snap));'
        'printf("const %u %u %u %u\\n", RC_SNAP_MAGIC, RC_CELL_STAGE, RC_CELL_PRODUCER, RC_NO_STAGE);'
        'printf("bits %u %u %u %u\\n", RC_CAP_MULTI, RC_CAP_FIXED, RC_CAP_MARKS, RC_CAP_DROP);'
    )
    source = tmp_path / "offsets.c"
    source.write_text(
        f'#include "core.h"\n#include <stdio.h>\nint main(void) {{ {heads}{cells}{more} return 0; }}\n'
    )
    program = tmp_path / "offsets"
    subprocess.run([compiler, "-std=c11", "-I", ROOT / "ring", "-o", program, source], check=True)
    told = subprocess.run([program], check=True, capture_output=True, text=True).stdout.splitlines()

    def offsets(record: Any, fields: tuple[str, ...]) -> dict[str, int]:
        """Where a field stands: the one place that a change of its value changes first."""
        zero: list[Any] = [b"\0" * 32 if name == "spec_sha256" else 0 for name in fields]
        found = {}
        for at, name in enumerate(fields):
            one = list(zero)
            one[at] = b"\1" + b"\0" * 31 if name == "spec_sha256" else 1
            found[name] = record.pack(*one).index(1)
        return found

    expected = [f"head {n} {at}" for n, at in offsets(form.HEAD, form.HEAD_FIELDS).items()]
    expected += [f"cell {n} {at}" for n, at in offsets(form.CELL, form.CELL_FIELDS).items()]
    expected += [
        f"size {form.HEAD.size} {form.CELL.size} {form.HEAD.size + 33 * form.CELL.size}",
        f"const {form.MAGIC} {form.CELL_STAGE} {form.CELL_PRODUCER} {form.NO_STAGE}",
        f"bits {form.MULTI} {form.FIXED} {form.MARKS} {form.DROP}",
    ]
    assert expected == told


@given(st.lists(u64, min_size=11, max_size=11), st.integers(0, 2))
def test_what_participants_wrote_comes_out_as_it_is(values: list[int], alive: int) -> None:
    names = ("sequence", "batches", "stalls", "lost", "heartbeat_ns", "owner", "held_lo", "held_hi")
    made = cell(1, values[8], hi=values[9], alive=alive, **dict(zip(names, values, strict=False)))
    found = unpack(pack(values[10], [made]))
    assert found["cell"][1] == made
    assert (values[10], bytes(range(32)).hex()) == (found["cursor"], found["spec_sha256"])
    shown_whole = shown(pack(values[10], [made]))
    assert str(values[3]) == shown_whole["gating"][0]["lost"]


@given(st.binary(max_size=form.MAX_BYTES + 1))
def test_any_bytes_are_a_snapshot_or_refused(data: bytes) -> None:
    assert outcome(data) in ("shown", "snapshot.packed")


@given(st.data())
def test_a_changed_snapshot_is_a_snapshot_or_refused(data: st.DataObject) -> None:
    good = bytearray(pack(900, chain(800, 700, 600), capabilities=form.DROP))
    for _ in range(data.draw(st.integers(1, 4))):
        good[data.draw(st.integers(0, len(good) - 1))] = data.draw(st.integers(0, 255))
    assert outcome(bytes(good)) in ("shown", "snapshot.packed")


@pytest.mark.parametrize(
    "fields",
    [
        {"magic": 1},
        {"version": 2},
        {"bytes": 1},
        {"kind": 0},
        {"kind": 3},
        {"capabilities": 16},
        {"initialized": 3},
        {"wait": 4},
        {"capacity": 0},
        {"capacity": 1000},
        {"capacity": 1 << 31},
        {"slot_bytes": 0},
        {"slot_bytes": (1 << 20) + 1},
        {"mapped_bytes": 1 << 53},
        {"stages": 0},
        {"stages": 17},
        {"stages": 2},
        {"cells": 3},
        {"exact": 2},
        {"exact": 0},
        {"stop": 3},
        {"t1_ns": 1},
    ],
)
def test_a_description_that_no_ring_has_is_refused(fields: dict[str, int]) -> None:
    unpack(pack(5, chain(5, 5, 5)))
    with pytest.raises(InvalidError) as caught:
        unpack(pack(5, chain(5, 5, 5), **fields))
    assert ("snapshot.packed", 10) == (caught.value.code, caught.value.exit_code)
    assert caught.value.hint


@pytest.mark.parametrize(
    ("stage", "fields"),
    [(0, {"index": 2}), (1, {"alive": 3}), (0, {"deps": 1}), (1, {"deps": 2}), (0, {"lo": 4})],
)
def test_a_cell_that_no_ring_has_is_refused(stage: int, fields: dict[str, int]) -> None:
    stages = chain(5, 5, 5)
    stages[stage] |= fields
    with pytest.raises(InvalidError):
        unpack(pack(5, stages, exact=1))


def test_cut_and_longer_bytes_are_refused() -> None:
    good = pack(5, chain(5, 5, 5))
    for cut in range(len(good)):
        with pytest.raises(InvalidError):
            unpack(good[:cut])
    with pytest.raises(InvalidError):
        unpack(good + b"\0" * form.CELL.size)
