"""The explorer's programs and the C of the ring say the same: `model/orders.txt` names each atomic of the C and what stands for it.

The explorer proves its programs, not the C. This ties the two by function, word, operation and order; that the steps come in the
same sequence is for a reader, and for the stress programs.
"""

from __future__ import annotations

import re
from collections import Counter
from pathlib import Path
from typing import NamedTuple

import pytest
from ring_model import broadcast, c_atomics, control, park, ring, several
from ring_model.c_atomics import Atomic
from ring_model.steps import Order

HERE = Path(__file__).parent
CORE = HERE.parent.parent / "ring"
PROGRAMS = {
    one.__name__: one()
    for one in (
        ring.Ring,
        several.Several,
        broadcast.Broadcast,
        park.Park,
        control.Stop,
        control.End,
        control.Owner,
    )
}


class Row(NamedTuple):
    """A line of the table: an operation of the C, the fields that stand for it, or why none does."""

    atomic: Atomic
    fields: list[str]
    reason: str


def table() -> list[Row]:
    rows = []
    for line in (HERE / "model" / "orders.txt").read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            function, kind, word, orders, rest = line.split(maxsplit=4)
            alone = rest.startswith("-")
            rows.append(
                Row(
                    Atomic(function, kind, word, orders),
                    [] if alone else rest.split(),
                    rest[1:].strip() if alone else "",
                )
            )
    return rows


def differences(found: list[Atomic], rows: list[Row]) -> list[str]:
    """What one side has and the other has not."""
    ours, theirs = Counter(row.atomic for row in rows), Counter(found)
    return [
        *[f"in the C, not in orders.txt: {' '.join(one)}" for one in (theirs - ours).elements()],
        *[f"in orders.txt, not in the C: {' '.join(one)}" for one in (ours - theirs).elements()],
    ]


def contradictions(rows: list[Row], programs: dict[str, object]) -> list[str]:
    """Fields that a row names and whose default is not the row's order; rows that name nothing and give no reason."""
    wrong = []
    for row in rows:
        if not row.fields and not row.reason:
            wrong.append(f"{' '.join(row.atomic)}: neither a field nor a reason")
        for name in row.fields:
            program, _, field = name.partition(".")
            value = getattr(programs.get(program), field, None)
            first = row.atomic.orders.partition("/")[0]
            if value is not True and (not isinstance(value, Order) or value.value != first):
                wrong.append(f"{' '.join(row.atomic)}: {name} is {value}")
    return wrong


def test_the_table_has_every_atomic_of_the_c_and_no_other():
    assert differences(c_atomics.read(CORE), table()) == []


def test_the_programs_have_the_orders_of_the_c():
    assert contradictions(table(), PROGRAMS) == []


def test_every_order_of_the_programs_stands_for_an_atomic_of_the_c():
    named = {name for row in table() for name in row.fields}
    orders = {
        f"{program}.{field}"
        for program, one in PROGRAMS.items()
        for field, value in vars(one).items()
        if isinstance(value, Order)
    }
    assert orders - named == set()


def changed(tmp_path: Path, name: str, pattern: str, to: str) -> list[Atomic]:
    """The C with one place changed."""
    for path in [*CORE.glob("*.h"), *CORE.glob("*.c")]:
        text = path.read_text(encoding="utf-8")
        if path.name == name:
            text, times = re.subn(pattern, to, text, count=1)
            assert times == 1, "the mutant no longer fits"
        (tmp_path / path.name).write_text(text, encoding="utf-8")
    return c_atomics.read(tmp_path)


@pytest.mark.parametrize(
    ("name", "pattern", "to"),
    [
        ("core.h", r"#define RC_ORDER_PUBLISH memory_order_release", "#define RC_ORDER_PUBLISH memory_order_relaxed"),
        ("core_inner.h", r"#define RC_ORDER_GATE memory_order_acquire", "#define RC_ORDER_GATE memory_order_relaxed"),
        ("core_inner.h", r"atomic_thread_fence\(memory_order_seq_cst\);", ""),
        ("core_inner.h", r"atomic_thread_fence\(memory_order_seq_cst\)", "atomic_thread_fence(memory_order_acq_rel)"),
        ("core.c", r"memory_order_release, memory_order_acquire", "memory_order_relaxed, memory_order_acquire"),
        ("consume.c", r"&c->cell->active, 0, memory_order_release", "&c->cell->active, 0, memory_order_relaxed"),
        ("consume.c", r"&cell->seq, RC_ORDER_AVAILABLE", "&cell->version, RC_ORDER_AVAILABLE"),
        ("snapshot.c", r"\A", "static void more(rc_cell *c) { atomic_store_explicit(&c->seq, 1, memory_order_relaxed); }\n"),
    ],
)  # fmt: skip
def test_a_change_of_the_c_alone_is_seen(name, pattern, to, tmp_path):
    assert differences(changed(tmp_path, name, pattern, to), table())


@pytest.mark.parametrize(
    ("to", "said"),
    [
        ("atomic_store(&c->seq, 1)", "an atomic without its order"),
        ("atomic_store_explicit(&c->seq, 1, order)", "an order that is no order"),
        ("atomic_store_explicit(((&c->seq, 1", "a call without end"),
    ],
)
def test_what_the_reader_does_not_understand_is_an_error(to, said, tmp_path):
    (tmp_path / "x.c").write_text(f"void f(rc_cell *c) {{ {to}; }}\n", encoding="utf-8")
    with pytest.raises(ValueError, match=said):
        c_atomics.read(tmp_path)


def test_an_atomic_outside_of_every_function_is_an_error(tmp_path):
    (tmp_path / "x.h").write_text(
        "#define F atomic_load_explicit(x, memory_order_relaxed)\n", encoding="utf-8"
    )
    with pytest.raises(ValueError, match="outside of every function"):
        c_atomics.read(tmp_path)


@pytest.mark.parametrize(
    ("program", "changes"),
    [("Ring", {"publish": Order.RLX}), ("Park", {"wakes": False}), ("Several", {"claim": Order.ACQ_REL})],
)
def test_a_change_of_a_program_alone_is_seen(program, changes):
    other = type(PROGRAMS[program])(**changes)
    assert contradictions(table(), {**PROGRAMS, program: other})


def test_a_row_that_says_nothing_is_seen():
    assert contradictions([Row(Atomic("f", "load", "seq", "relaxed"), [], "")], PROGRAMS)
