"""Lines of a file through a ring into the log (`muniment run`), against appending the same records without a ring.

A line is an event of 250 bytes of body. The floor decodes each line, makes its record and appends batches of the same size, in one
thread. Runs are not recorded, so that both logs hold the same records but for the acknowledgements of the batches.
"""

from __future__ import annotations

import contextlib
import itertools
import os
from collections.abc import Iterator, Sequence
from pathlib import Path

import msgspec
from muniment.app.fact_drafts import FactDrafts, fact_id
from muniment.app.ingest_schema import Event
from muniment.app.running import Asked
from muniment.app.running import run as run_spec
from muniment.app.session import Options as Plain
from muniment.app.session import Session
from muniment.domain.instant import from_micros
from muniment.ops.bench import data, grounds
from muniment.ops.bench.harness import Goal, Options, Table, rate, table
from muniment.ring.spec_rules import parse
from muniment.ring.work import BATCH
from muniment.store.api import Draft, Log

USUAL = 50  # batches a run: a run starts threads and looks at them every 0.25 s
OURS, FLOOR, READY = (
    "muniment run, file, ring, log",
    "decode and append, no ring",
    "append of drafts that are ready",
)
PASSING = "muniment run, file, ring, count (no log)"
SPEC = """spec.version=1
spec.name=bench{name}
spec.model=single_ring
single_ring.shards=1
single_ring.ordering=strict
single_ring.producer=single
single_ring.scheduling=dedicated
single_ring.capacity=8192
single_ring.slot_bytes=512
single_ring.on_full=block
single_ring.wait=park
single_ring.stages.0.id=last
single_ring.stages.0.op={op}
"""


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


def lines(first: int, count: int) -> list[bytes]:
    """Events as a service writes them, one a line."""
    pad = "x" * 120
    return [
        b'{"specversion":"1.0","id":"e-%012d","type":"order.placed","source":"/shop/%d",'
        b'"time":"2026-09-21T00:00:00Z","data":{"order":%d,"note":"%s"}}' % (k, k % 7, k, pad.encode())
        for k in range(first, first + count)
    ]


def drafts(drawn: FactDrafts, found: Sequence[bytes], at: str) -> list[Draft]:
    """What the sink makes of lines."""
    decode = msgspec.json.Decoder(Event).decode
    made = []
    for line in found:
        event = decode(line)
        made.append(
            drawn.draft(
                source=event.source,
                event_id=event.id,
                event_type=event.type,
                body=line.decode(),
                at=at,
                id_=fact_id(event.source, event.id),
            )
        )
    return made


@contextlib.contextmanager
def _runtime(folder: Path) -> Iterator[None]:
    """Rings of the bench lie in its own folder, not in the user's."""
    before = os.environ.get("MUNIMENT_RUNTIME")
    folder.mkdir(mode=0o700)
    os.environ["MUNIMENT_RUNTIME"] = str(folder)
    try:
        yield
    finally:
        if before is None:
            del os.environ["MUNIMENT_RUNTIME"]
        else:
            os.environ["MUNIMENT_RUNTIME"] = before


def _table(size: int, options: Options) -> Table:
    count = options.work(USUAL * BATCH, 50)
    with contextlib.ExitStack() as stack:
        ground = stack.enter_context(grounds.ground(options))
        stack.enter_context(_runtime(ground.folder / "runtime"))
        for name in ("ring", "bare", "ready"):
            with contextlib.closing(ground.log(name)) as log:
                data.fill(log, size)
        ring, bare, ready = (
            stack.enter_context(Session(ground.url(name), write=True)) for name in ("ring", "bare", "ready")
        )
        drawn = FactDrafts(bare.request(Plain()).actor)
        numbers = itertools.count(1, 1_000_000)
        source = ground.folder / "lines"

        def through(op: str) -> float:
            source.write_bytes(b"\n".join(lines(next(numbers), count)) + b"\n")
            spec = parse(SPEC.format(op=op, name=os.getpid()).encode(), "bench")
            session = ring if op == "sink:log" else None
            asked = Asked(input=str(source), source="bench", record=False, from_start=True)

            def work() -> None:
                report = run_spec(spec, session, asked, told=lambda *_: None, progress=lambda _: None)
                if report.outcome != "completed" or report.lines != count:
                    raise RuntimeError(f"the run is {report.outcome} after {report.lines} of {count} lines")

            return rate(count, work)

        def floor() -> float:
            found = lines(next(numbers), count)

            def work() -> None:
                for start in range(0, count, BATCH):
                    at = from_micros(bare.log.now())
                    bare.log.append(drafts(drawn, found[start : start + BATCH], at))

            return rate(count, work)

        def prepared() -> float:
            made = drafts(drawn, lines(next(numbers), count), from_micros(ready.log.now()))
            return rate(count, lambda: _append(ready.log, made))

        return table(
            f"lines of a file into the log, {ground.version}, log of {size:,} records",
            {
                OURS: lambda: through("sink:log"),
                FLOOR: floor,
                READY: prepared,
                PASSING: lambda: through("count"),
            },
            options,
            base=FLOOR,
            goals=[Goal(OURS, FLOOR, 0.8), Goal(OURS, READY, 0.8, word="moonshot:")],
            notes=[
                f"{count:,} lines a run, batches of at most {BATCH}, {len(lines(1, 1)[0])} bytes a line; 8 192 slots, park.",
                "A run starts threads, makes a ring and reads the file; its figure holds all of that.",
            ],
        )


def _append(log: Log, made: Sequence[Draft]) -> None:
    for start in range(0, len(made), BATCH):
        log.append(made[start : start + BATCH])
