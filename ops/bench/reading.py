"""Questions of an operator on a log of growing size: a slot at T, the page of a tag, a rollback rehearsed, a proof.

Each is asked by a new reader with nothing in memory, which finds the memos and inner nodes of its home (the first fold and the
first proof left them) or none; only the rehearsed rollbacks are warm: one handler, which was asked before. Goals are absolute, so
a busy machine misses what a quiet one reaches; its load is printed.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

from muniment.app import projecting
from muniment.app.handlers import Handler
from muniment.app.history import listed
from muniment.app.proving import Prover
from muniment.app.reading import Reader
from muniment.app.request import Request
from muniment.domain import rollback
from muniment.domain.decision import ActorRef
from muniment.ops.bench import data, grounds
from muniment.ops.bench.harness import Options, Table, interleave, tabulate
from muniment.store import merkle
from muniment.store.api import Log

HISTORY = 50
MUST_MS = {
    "slot at T": 100.0,
    "history of a tag": 100.0,
    "48 rollbacks, dry": 50.0,
    "inclusion proof": 1.0,
    "consistency proof": 1.0,
}


def run(options: Options) -> list[Table]:
    """A table for each size."""
    with contextlib.ExitStack() as stack:
        ground = stack.enter_context(grounds.ground(options))
        tables = []
        for size in options.sizes:
            log = stack.enter_context(contextlib.closing(ground.log(f"log{size}")))
            data.fill(log, size)
            title = f"reading, {ground.version}, log of {size:,} records"
            tables.append(_table(title, log, ground.folder / f"home-{size}", size, options))
        return tables


def _table(title: str, log: Log, home: Path, size: int, options: Options) -> Table:
    start = time.perf_counter()
    projecting.current(log, home)
    made = time.perf_counter() - start
    slots = sorted({data.place(number)[0] for number in range(data.PLACES)})
    turn = itertools.cycle(slots)
    now = data.START_US + (size + 1) * data.STEP_US
    count = itertools.count()
    points = itertools.cycle([size * share // 100 for share in (97, 60, 33, 80, 12)])
    handler = Handler(log, now=lambda: now, new_id=lambda: data.record_id(size, "id"))
    asked = Request(ActorRef("bench", "person", "os"), dry_run=True)
    targets = {slot: _target(log, home, now, slot) for slot in slots}

    def slot_at(base: Path) -> None:
        row = Reader(log, now=now, base=base, as_of=next(points)).row("slot", next(turn))
        assert row is not None
        assert all("lkg" in target for target in row["targets"])

    def at_time() -> None:
        position = next(points)
        when = Reader(log, now=now, base=home).recorded_at(position)
        assert Reader(log, now=now, base=home, as_of=when).until >= position

    def page() -> None:
        found = listed(Reader(log, now=now, base=home), where={"slot": next(turn)}, limit=HISTORY)
        assert len(found["data"]) <= HISTORY

    def board() -> None:
        assert len(Reader(log, now=now, base=home).slots("*")) == len(slots)

    def rehearse() -> None:
        for number, slot in enumerate(slots):
            command = rollback.Request(f"rb-{number}", slot, targets[slot], "", "operator")
            outcome = handler.execute(command, asked)
            assert outcome.events or outcome.refusal is not None

    def included() -> None:
        position = next(points) + 1
        body = next(log.read(after=position - 1, until=position))[1]
        with Prover(log, home) as prover:
            assert prover.inclusion(position, body).size == size
            assert not prover.note

    def consistent() -> None:
        with Prover(log, home) as prover:
            assert prover.consistency(next(points) + 1).size == size
            assert not prover.note

    def prove_cold() -> None:
        with Prover(log, home / f"cold{next(count)}") as prover:
            prover.consistency(size // 2 + 1)

    def prove_from_leaves() -> None:
        ranges = merkle.over_leaves(lambda start, end: log.leaves(after=start, until=end))
        merkle.inclusion_proof(ranges, size // 2, size)

    cases: dict[str, Callable[[], None]] = {
        "slot at T": lambda: slot_at(home),
        "slot at T, no memo": lambda: slot_at(home / "none"),
        "T to its position": at_time,
        "history of a tag": page,
        "the board now": board,
        "48 rollbacks, dry": rehearse,
        "inclusion proof": included,
        "consistency proof": consistent,
        "first proof, no inner nodes": prove_cold,
        "inclusion proof from leaves": prove_from_leaves,
    }
    rehearse()  # the row says warm
    consistent()
    figures = interleave({name: partial(_ms, case) for name, case in cases.items()}, options.runs)
    notes = [
        f"The first fold took {made * 1000:,.0f} ms and left the memos. Load of the machine {os.getloadavg()[0]:.1f}.",
        "A proof is made by a new prover and checked up to the head; that of inclusion reads its record.",
        "`slot at T` is the whole row: desired, active and LKG of each target, pins, freezes, floor.",
        *(_verdict(name, figures, most) for name, most in MUST_MS.items() if name in figures),
    ]
    return tabulate(title, figures, base="history of a tag", unit="ms", notes=notes)


def _target(log: Log, home: Path, now: int, slot: str) -> str:
    row = Reader(log, now=now, base=home).row("slot", slot)
    names = (
        [str(target["target"]) for target in row["targets"] if target["active"]] if row is not None else []
    )
    return names[0] if names else rollback.NOBODY


def _ms(work: Callable[[], None]) -> float:
    start = time.perf_counter()
    work()
    return (time.perf_counter() - start) * 1000


def _verdict(name: str, figures: dict[str, list[float]], most: float) -> str:
    middle = sorted(figures[name])[len(figures[name]) // 2]
    return f"{'reached' if middle < most else 'MISSED'}: {name} = {middle:.3g} ms (must be under {most:g} ms)"
