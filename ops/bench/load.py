"""Load the state of a decision over 1 000 selected records, against the library's load of an aggregate of 1 000 events."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import Any

from muniment.domain.commands import COMMANDS
from muniment.domain.envelope import read_fact
from muniment.domain.instant import from_micros
from muniment.ops.bench import data, decision, grounds, peers
from muniment.ops.bench.harness import Goal, Options, Table, rate, table

SELECTED = 1000
USUAL = 20
BUILD = "b-large"
OURS, PEER, BARE = "muniment, select and fold", "eventsourcing, get", "bare select and decode"


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


def large_build(first: int) -> Iterator[data.Record]:
    """One build of 1 000 records: requested, frozen, then 499 attempts of a flaky stage."""
    requested, frozen, started, finished = (data.record(data.SETUP + k) for k in (2, 3, 4, 5))
    for k in range(SELECTED):
        template = (requested, frozen)[k] if k < 2 else (started, finished)[k % 2]
        fields: dict[str, Any] = {**template["data"], "build": BUILD}
        if "attempt" in fields:
            fields["attempt"] = f"at-{k // 2:06d}"
        if "status" in fields:
            fields["status"] = "ERROR"
        tags = [f"build:{BUILD}" if tag.startswith("build:") else tag for tag in template["tags"]]
        yield {
            **template,
            "id": data.record_id(first + k, "large"),
            "occurred_at": from_micros(data.START_US + (first + k) * data.STEP_US),
            "data": fields,
            "tags": sorted(tags),
        }


def _table(size: int, options: Options) -> Table:
    count = options.work(USUAL)
    with contextlib.ExitStack() as stack:
        ground = stack.enter_context(grounds.ground(options))
        log = stack.enter_context(contextlib.closing(ground.log("log")))
        data.fill(log, size)
        log.append([data.draft(found) for found in large_build(size)])
        app = ground.application("es")
        stack.callback(app.close)
        peers.fill_application(app, size)
        subject = peers.Subject()
        for k, found in enumerate(large_build(size)):
            if k < SELECTED - 1:  # the library's first event makes the aggregate
                subject.note(**peers.fields(found))
            if k % 200 == 199:  # over PostgreSQL a save of more than a megabyte hangs for ever
                app.save(subject)
        app.save(subject)
        bare = stack.enter_context(contextlib.closing(ground.bare("bare")))
        bare.fill(size)
        stream = 10_000_000
        instant = "2026-09-21T00:00:00.000000Z"
        bare.insert_many(
            [
                (stream + k, stream, k, 7, data.draft(found).leaf(instant))
                for k, found in enumerate(large_build(size))
            ]
        )
        request = decision.request()
        command = COMMANDS["build.gate"](BUILD, "validate", "PASS", {"tests": 1}, [])

        def ours() -> None:
            for _ in range(count):
                # a new handler has kept nothing: every load is from the log
                world, _, _ = decision.handler(log).select(command, request)
                assert len(world.builds[BUILD].stages["validate"]) == SELECTED // 2 - 1

        def peer() -> None:
            for _ in range(count):
                loaded: peers.Subject = app.repository.get(subject.id)
                assert loaded.version == SELECTED

        def floor() -> None:
            for _ in range(count):
                rows = bare.stream(stream)
                assert len([read_fact(body, position) for position, body in rows]) == SELECTED

        return table(
            f"load, {ground.version}, log of {size:,} records",
            {
                OURS: lambda: rate(count, ours),
                PEER: lambda: rate(count, peer),
                BARE: lambda: rate(count, floor),
            },
            options,
            base=PEER,
            goals=[Goal(OURS, PEER, 10)],
            notes=[
                f"{SELECTED} records selected, {count} loads a run, no snapshot and nothing kept on either side."
            ],
        )
