"""One decision a durable commit: select, fold, decide, encode, append with tags, leaf and frontier.

Two decisions are taken. `build` is the spine of a build, seven decisions over a boundary of policy and the build's own records
(0 to 7 of them): intake, start, two stages begun and ended, one gate. `health` reports on a target of a slot with the history that
the filled log gave it, so its boundary grows with the log. The floor inserts the same bytes in the same commits.
"""

from __future__ import annotations

import contextlib
import itertools
from collections.abc import Iterator
from typing import Any

import msgspec
from muniment.app import clock, ids
from muniment.app.handlers import Handler
from muniment.app.request import Request
from muniment.domain.commands import COMMANDS
from muniment.domain.decision import ActorRef
from muniment.ops.bench import data, grounds, peers
from muniment.ops.bench.harness import Goal, Options, Table, fdatasync_rate, rate, table
from muniment.store.api import Draft, Log
from muniment.store.memory import MemoryLog

USUAL = 700
HEALTH_USUAL = 30

DECIDE = "muniment decision, build"
APPEND = "muniment append, prepared"
BARE = "bare, same bytes"
SYNC = "fdatasync of 4 KiB"


def run(options: Options) -> list[Table]:
    """A table for each size of the log."""
    return [_table(size, options) for size in options.sizes]


def spine(build: str) -> Iterator[Any]:
    """The commands of one build, with its intake."""
    intake = f"in-{build}"
    at = "2026-09-21T00:00:00.000000Z"
    yield COMMANDS["intake.add"](intake, data.sha(intake), 3, 4096, 0, "dir:input", "bench", at, [], [])
    yield COMMANDS["build.start"](build, "product-00", intake, "", {"compiler": "1.2.3"})
    for stage in ("ingest", "validate"):
        attempt = f"at-{stage}"
        yield COMMANDS["build.stage.start"](
            build, stage, attempt, ["python3", f"{stage}.py"], {"LANG": "C.UTF-8"}
        )
        yield COMMANDS["build.stage.finish"](
            build, stage, attempt, "PASS", 0, "", 100_000, 90_000, 5_000, 50_000, {"name": "python3"}, [], []
        )
    yield COMMANDS["build.gate"](build, "validate", "PASS", {"tests": 120, "failures": 0}, [])


def endless(prefix: str) -> Iterator[Any]:
    """Build after build."""
    for number in itertools.count():
        yield from spine(f"{prefix}-{number}")


def handler(log: Log) -> Handler:
    """The real handler with the real clock and ids."""
    return Handler(log, now=clock.now, new_id=ids.uuid7)


def request() -> Request:
    """An operator's request."""
    return Request(ActorRef("alice"), reason="nightly run")


def decided(count: int) -> list[list[data.Record]]:
    """The records of so many decisions, as the handler makes them, one list a commit."""
    with MemoryLog() as log:
        data.fill(log, data.SETUP)
        deciding = handler(log)
        groups = []
        for command in itertools.islice(endless("m"), count):
            outcome = deciding.execute(command, request())
            first, last = outcome.positions[0], outcome.positions[-1]
            groups.append([msgspec.json.decode(body) for _, body in log.read(after=first - 1, until=last)])
    return groups


def fresh_drafts(group: list[data.Record]) -> list[Draft]:
    """The same records under new ids."""
    made = []
    for record in group:
        again = {**record, "id": ids.uuid7()}
        del again["recorded_at"]
        made.append(data.draft(again))
    return made


class Peer:
    """The library: save of an aggregate that is at hand, or loaded first."""

    def __init__(self, app: peers.Subjects, size: int) -> None:
        self.app = app
        peers.fill_application(self.app, size)
        self.subjects = [peers.Subject() for _ in range(300)]
        self.app.save(*self.subjects)
        self._turn = itertools.count()

    def save(self, wanted: list[dict[str, Any]], *, load: bool) -> None:
        """One durable save an event."""
        for fields in wanted:
            if load:  # an aggregate of few events, as a build is
                subject = peers.Subject()
                self.app.save(subject)
                loaded: peers.Subject = self.app.repository.get(subject.id)
                loaded.note(**fields)
                self.app.save(loaded)
            else:
                subject = self.subjects[next(self._turn) % len(self.subjects)]
                subject.note(**fields)
                self.app.save(subject)


def _table(size: int, options: Options) -> Table:
    count = options.work(USUAL, 7)
    groups = decided(count)
    stored = [[data.draft(_without_instant(r)).leaf("0" * 27) for r in group] for group in groups]
    total = sum(len(body) for group in stored for body in group)
    fields = [peers.fields(group[0]) for group in groups]
    prefixes = itertools.count()
    with contextlib.ExitStack() as stack:
        ground = stack.enter_context(grounds.ground(options))
        log = stack.enter_context(contextlib.closing(ground.log("log")))
        data.fill(log, size)
        peer = Peer(ground.application("es"), size)
        stack.callback(peer.app.close)
        bare = stack.enter_context(contextlib.closing(ground.bare("bare")))
        bare.fill(size)
        deciding = handler(log)

        def decide() -> float:
            commands = list(itertools.islice(endless(f"d{next(prefixes)}"), count))
            asked = [request() for _ in commands]
            return rate(count, lambda: _execute(deciding, commands, asked))

        def health() -> float:
            n = options.work(HEALTH_USUAL)
            targets = [data.place(k) for k in range(n)]
            report = COMMANDS["health.report"]
            commands = [report(slot, target, "HEALTHY", [{"p99_us": 1234}]) for slot, target in targets]
            asked = [request() for _ in commands]
            return rate(n, lambda: _execute(deciding, commands, asked))

        def append() -> float:
            drafts = [fresh_drafts(group) for group in groups]
            return rate(count, lambda: [log.append(group) for group in drafts])

        def insert() -> float:
            rows = [bare.rows(group) for group in stored]
            return rate(count, lambda: _insert(bare, rows))

        return table(
            f"decision, {ground.version}, log of {size:,} records",
            {
                DECIDE: decide,
                APPEND: append,
                BARE: insert,
                "eventsourcing save": lambda: rate(count, lambda: peer.save(fields, load=False)),
                "eventsourcing save, get, save": lambda: rate(count, lambda: peer.save(fields, load=True)),
                "muniment decision, health": health,
                SYNC: lambda: fdatasync_rate(ground.folder, count),
            },
            options,
            base=BARE,
            goals=[Goal(DECIDE, BARE, 0.7), Goal(APPEND, BARE, 0.7)],
            notes=[
                f"{count} decisions a run, {total / count:.0f} canonical bytes a commit, basis and command included.",
                "Read the ratio with the fdatasync rate: a slow disk hides the cost of deciding.",
                "One handler decides all: from the second decision on, worlds are kept and only what is new is folded.",
                "`save, get, save` counts the two commits as one decision; the aggregate loaded has one event.",
            ],
        )


def _without_instant(record: data.Record) -> data.Record:
    return {key: value for key, value in record.items() if key != "recorded_at"}


def _insert(bare: peers.Bare, groups: list[list[peers.Row]]) -> None:
    """A durable commit a group."""
    for rows in groups:
        if len(rows) == 1:
            bare.insert_each(rows)
        else:
            bare.insert_many(rows)


def _execute(deciding: Handler, commands: list[Any], asked: list[Request]) -> None:
    for command, how in zip(commands, asked, strict=True):
        outcome = deciding.execute(command, how)
        assert outcome.refusal is None, outcome.refusal
