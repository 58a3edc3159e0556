"""Worlds kept between decisions: when they are not used, what bounds them, what a decision reads; on the memory log."""

from __future__ import annotations

import itertools
import threading
import uuid
from typing import Any

import pytest
from muniment.app import worlds
from muniment.app.handlers import Handler
from muniment.app.request import Outcome, Request
from muniment.app.worlds import Worlds
from muniment.domain import channel, commands, intake, slot
from muniment.domain.admin import Init
from muniment.domain.channel_state import scope_item
from muniment.domain.decision import ActorRef
from muniment.domain.envelope import VERSION, halves, read_facts
from muniment.domain.errors import InvalidError, MunimentError, UnavailableError
from muniment.domain.folding import FOLD
from muniment.domain.query import Item
from muniment.domain.world import World, fold
from muniment.store.api import Appended, Draft, Log
from muniment.store.memory import MemoryLog

ALICE = ActorRef("alice")
START = 1_767_225_600_000_000


class Watched:
    """A log that counts what is asked of it, can fail, and can be exchanged for another one, as a restore does."""

    def __init__(self, log: MemoryLog) -> None:
        self.log: Any = log
        self.asked: list[str] = []
        self.failing = ""

    def __getattr__(self, name: str) -> Any:
        self.asked.append(name)
        if name == self.failing:
            raise UnavailableError("the disk is away", code="test.away")
        return getattr(self.log, name)


class Store:
    def __init__(self, kit: Any) -> None:
        self.kit, self.now, self.ids = kit, START, itertools.count(1)
        self.log = Watched(self.filled())
        self.handler = self.new_handler()

    def filled(self, *more: Any) -> MemoryLog:
        log = MemoryLog(clock=lambda: self.now)
        fresh = self.new_handler(log)
        document = self.kit.shipped("solo").document
        for command in (
            Init("s-1", "records", {}, "0" * 16, "k" * 44, "muniment/s-1", document),
            channel.Declare("prod/stable", ["all"], []),
            *more,
        ):
            self.ask(command, fresh)
        return log

    def new_handler(self, log: Any = None) -> Handler:
        made: Log = self.log if log is None else log
        return Handler(
            made, now=lambda: self.now, new_id=lambda: str(uuid.UUID(int=next(self.ids), version=4))
        )

    def ask(self, command: Any, handler: Handler | None = None, **how: Any) -> Outcome:
        self.now += 1000
        return (handler or self.handler).execute(command, Request(ALICE, **{"reason": "because", **how}))

    def agree(self, command: Any) -> Outcome:
        """What the handler answers in a dry run, which is what a new one answers."""
        kept = self.handler.execute(command, Request(ALICE, dry_run=True))
        fresh = self.new_handler().execute(command, Request(ALICE, dry_run=True))
        assert (kept.events, kept.refusal, kept.expect) == (fresh.events, fresh.refusal, fresh.expect)
        return kept

    def observe(self, type_: str, data: dict[str, Any], tags: list[str]) -> None:
        """A record that no rule has looked at."""
        id_ = str(uuid.UUID(int=next(self.ids), version=4))
        record = {"v": VERSION, "id": id_, "type": type_, "tags": tags, "data": data, "correlation": id_}
        record |= {"actor": {"id": "x"}, "occurred_at": "2026-01-01T00:00:00.000000Z"}
        head, tail = halves(record)
        self.log.append([Draft(id_, type_, tuple(tags), head, tail)])


@pytest.fixture
def store(kit: Any) -> Store:
    return Store(kit)


def freeze(name: str) -> channel.FreezeScope:
    return channel.FreezeScope("prod", name, "FORWARD", "")


def take(name: str) -> intake.Add:
    return intake.Add(name, "sha256:" + "0" * 64, 1, 1, 0, "o", "a", "2026-01-01T00:00:00.000000Z", [], [])


def test_a_second_decision_reads_nothing_but_the_frontier(store: Store) -> None:
    store.ask(freeze("f1"))
    for name in ("f2", "f3"):
        store.log.asked.clear()
        assert store.ask(freeze(name)).refusal is None
        assert ["frontier", "append"] == store.log.asked, "its own append is known"
    store.ask(take("in-1"), store.new_handler())
    store.log.asked.clear()
    store.ask(freeze("f4"))
    assert ["frontier", "read", "append"] == store.log.asked, "somebody else's is read, once"


def test_a_shared_item_is_read_once(store: Store) -> None:
    store.ask(take("in-1"))
    queries: list[Any] = []
    read = store.log.log.read
    store.log.log.read = lambda query=(), **how: queries.append(query) or read(query, **how)
    store.ask(take("in-2"))
    assert [1] == [len(query) for query in queries], "the intake; the policy is known"


def test_what_others_write_is_seen(store: Store) -> None:
    store.ask(freeze("f1"))
    store.ask(freeze("f2"), store.new_handler())
    assert "channel.freeze_used" == store.agree(freeze("f2")).refusal.rule
    store.ask(channel.Unfreeze("prod", "f1"), store.new_handler())
    assert store.agree(freeze("f1")).refusal is None


def test_more_than_is_followed_is_read_anew(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "MAX_NEW", 3)
    store.ask(freeze("f1"))
    other = store.new_handler()
    for number in range(4):
        store.ask(freeze(f"g{number}"), other)
    assert "channel.freeze_used" == store.agree(freeze("g3")).refusal.rule
    assert "channel.freeze_used" == store.agree(freeze("f1")).refusal.rule


@pytest.mark.parametrize("more", [(), ("g1",), ("g1", "g2"), ("g1", "g2", "g3")])
def test_a_log_with_another_history_makes_nothing_of_what_was_kept(
    store: Store, more: tuple[str, ...]
) -> None:
    """Restored from a copy under a running service, and then shorter, as long as, or longer than what the service saw."""
    store.ask(freeze("f1"))
    store.ask(freeze("f2"))
    store.log.log = store.filled(*(freeze(name) for name in more))
    assert store.agree(freeze("f1")).refusal is None
    for name in more:
        assert "channel.freeze_used" == store.agree(freeze(name)).refusal.rule
    outcome = store.ask(freeze("f1"))
    assert [len(more) + 4] == outcome.positions, "store, policy and channel come first"


def test_a_log_that_lost_records_while_it_was_decided_is_decided_on_anew(store: Store) -> None:
    store.ask(freeze("f1"))
    restored = store.filled()

    def exchange(*args: Any, **how: Any) -> Any:
        store.log.log = restored
        return restored.append(*args, **how)

    store.log.log.append = exchange
    outcome = store.ask(freeze("f2"))
    assert [4] == outcome.positions
    assert store.agree(freeze("f1")).refusal is None


@pytest.mark.parametrize("failing", ["frontier", "read"])
def test_what_failed_is_not_used_again(store: Store, failing: str) -> None:
    store.ask(freeze("f1"))
    store.ask(freeze("f2"), store.new_handler())
    store.log.failing = failing
    with pytest.raises(UnavailableError):
        store.ask(freeze("f3"))
    assert [] == store.handler._worlds
    store.log.failing = ""
    assert "channel.freeze_used" == store.agree(freeze("f2")).refusal.rule


def test_a_record_that_fits_nothing_is_the_trouble_of_its_own_decisions_only(store: Store) -> None:
    report = slot.Report("prod/stable/all", "t1", "HEALTHY", [])
    with pytest.raises(MunimentError, match="no target"):
        store.ask(report)
    store.handler.select(report, Request(ALICE))
    store.ask(freeze("f1"))
    store.observe("activation.switched/1", {"slot": "prod/stable/all"}, ["slot:prod/stable/all"])
    assert store.ask(take("in-1")).refusal is None
    for _ in range(2):
        with pytest.raises(InvalidError) as caught:
            store.ask(report)
        assert "fold.mismatch" == caught.value.code


def test_a_record_that_cannot_be_read_stops_its_own_decisions_only(store: Store) -> None:
    store.ask(freeze("f1"))
    tags = ["scope:prod"]
    id_ = str(uuid.UUID(int=next(store.ids), version=4))
    store.log.append([Draft(id_, "channel.frozen/1", tuple(tags), b'{"a', b'"]')])
    assert store.ask(take("in-1")).refusal is None
    with pytest.raises(InvalidError) as caught:
        store.ask(freeze("f2"))
    assert "record.envelope" == caught.value.code


def test_both_bounds_hold_and_what_was_used_last_stays(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(worlds, "MAX_WORLDS", 2)
    monkeypatch.setattr(worlds, "MAX_READ_BYTES", 3000)
    kept = Worlds(store.log)
    kept.advance()
    one, two, three = ((scope_item(name),) for name in ("prod", "*", "prod/stable"))
    for query in (one, two, one, three):
        kept.world(query)
    kept.trim()
    assert [one, three] == list(kept._worlds.by_query)
    kept.world((Item(("policy.published/1",), ("scope:*",)), *two))
    kept.trim()
    assert sum(read.size for read in kept._reads.by_query.values()) <= 3000
    assert set(kept._read_of) == {item for query in kept._reads.by_query for item in query}
    listed = {id(one) for some in kept._by_tag.values() for one in some}
    assert len(listed) == len(kept._reads.by_query) + len(kept._worlds.by_query), (
        "nothing is listed that was let go"
    )


def test_a_world_larger_than_all_bounds_is_right_and_not_kept(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "MAX_WORLD_BYTES", 10)
    monkeypatch.setattr(worlds, "MAX_READ_BYTES", 10)
    store.ask(freeze("f1"))
    assert "channel.freeze_used" == store.agree(freeze("f1")).refusal.rule
    assert [{}, {}] == [one.by_query for w in store.handler._worlds for one in (w._worlds, w._reads)][:2]


def test_a_log_that_is_behind_makes_the_handler_begin_anew(store: Store) -> None:
    """Each look at the log finds the size that was kept, and only the append finds out that the log is another one."""
    store.ask(freeze("f1"))
    kept = store.handler._worlds[0]
    size, roots = store.log.log.frontier()
    restored = store.filled()
    answers = [(size, roots)]
    frontier, append = restored.frontier, restored.append

    def once(*args: Any, **how: Any) -> Any:
        store.log.log = restored
        restored.frontier = frontier
        return append(*args, **how)

    restored.frontier = lambda: answers[0]
    restored.append = once
    store.log.log = restored
    outcome = store.ask(freeze("f2"))
    assert [4] == outcome.positions
    assert kept not in store.handler._worlds


def kept_worlds(store: Store) -> Worlds:
    """Two queries that share an item, so that the facts of the first are split."""
    kept = Worlds(store.log)
    kept.advance()
    one, two, policy = scope_item("prod"), scope_item("prod/stable"), scope_item("*")
    kept.world((one, policy))
    kept.world((two, policy))
    return kept


def told_anew(store: Store, kept: Worlds) -> None:
    """Whatever is kept is what a reader of the log finds now."""
    kept.advance()
    for query, found in kept._worlds.by_query.items():
        facts = read_facts(store.log.log.read(query))
        assert found.world == fold(World(), facts, FOLD)
    for query, found in kept._reads.by_query.items():
        expected = list(store.log.log.read(query))
        assert [position for position, _ in expected] == [fact.position for fact in found.facts]
    for shelf in (kept._worlds, kept._reads):
        assert shelf._bytes == sum(found.size for found in shelf.by_query.values())


def test_what_is_kept_is_what_a_reader_finds(store: Store) -> None:
    store.ask(freeze("f1"))
    kept = kept_worlds(store)
    assert len(kept._reads.by_query) == 3, "an item each"
    told_anew(store, kept)
    store.ask(channel.FreezeScope("prod/stable", "f2", "FORWARD", ""), store.new_handler())
    store.ask(channel.Declare("prod/canary", ["all"], []), store.new_handler())
    store.ask(freeze("f3"), store.new_handler())
    told_anew(store, kept)


def test_a_record_is_taken_in_once_however_many_of_its_tags_are_asked_for(store: Store) -> None:
    kept = Worlds(store.log)
    kept.advance()
    slot_of, pack_of = "slot:prod/stable/all", "pack:sha256:" + "1" * 64
    types = ("slot.health_reported/1",)
    query = (Item(types, (pack_of,)), Item(types, (slot_of,)))
    kept.world(query)
    place = {"slot": "prod/stable/all", "target": "t1", "pack": ""}
    report = {**place, "status": "HEALTHY", "failed": False, "signals": [], "reason": ""}
    store.observe(*types, report, [pack_of, slot_of])
    kept.advance()
    assert [4] == [fact.position for fact in kept._reads.by_query[query].facts]
    ((_, body),) = store.log.log.read(after=3)
    assert len(body) == kept._reads.by_query[query].size
    assert kept.world(query).slots["prod/stable/all"].targets["t1"].healthy == 1


def test_what_was_appended_since_it_looked_is_in_no_world_yet(store: Store) -> None:
    kept = Worlds(store.log)
    kept.advance()
    store.ask(freeze("f1"))
    query = (scope_item("prod"),)
    assert {} == kept.world(query).scopes
    kept.advance()
    assert ["f1"] == list(kept.world(query).scopes["prod"].freezes)


@pytest.mark.parametrize("type_", ["channel.unpinned/1", "slot.health_reported/1"])
def test_a_record_of_another_type_is_not_taken_in(store: Store, type_: str) -> None:
    kept = Worlds(store.log)
    kept.advance()
    query = (Item(("channel.frozen/1",), ("scope:prod",)),)
    kept.world(query)
    store.observe(type_, {"scope": "prod"}, ["scope:prod"])
    kept.advance()
    assert [] == kept._reads.by_query[query].facts


def test_only_what_came_right_behind_is_taken_in_unread(store: Store) -> None:
    kept = kept_worlds(store)
    at = kept.at
    id_ = str(uuid.UUID(int=10**6, version=4))
    draft = Draft(id_, "channel.frozen/1", ("scope:prod",), b"{}", b"")
    for answer in (Appended(at + 2, at + 2, ""), Appended(at, at, ""), Appended(at + 1, at + 1, "", True)):
        kept.appended(answer, [draft])
        assert kept.at == at
    told_anew(store, kept)


def test_a_log_that_grew_by_more_than_is_followed_is_not_read_to_its_end(
    store: Store, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(worlds, "MAX_NEW", 2)
    kept = kept_worlds(store)
    for number in range(3):
        store.ask(freeze(f"g{number}"), store.new_handler())
    store.log.asked.clear()
    assert kept.advance() == store.log.log.frontier()[0]
    assert ["frontier"] == store.log.asked
    assert [{}, {}, {}] == [kept._worlds.by_query, kept._reads.by_query, kept._by_tag]
    store.log.log = store.filled()
    kept.world((scope_item("prod"),))
    store.log.asked.clear()
    assert kept.advance() == 3
    assert ["frontier"] == store.log.asked, "a shorter log has nothing that could follow"


def test_a_decider_changes_no_world(store: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The comparison that the property test makes sees one that does."""
    store.ask(freeze("f1"))
    told_anew(store, store.handler._worlds[0])
    decider = commands.DECIDERS[channel.FreezeScope]

    def careless(world: World, command: Any, context: Any) -> Any:
        decided = decider.decide(world, command, context)
        world.scope("prod").freezes.clear()
        return decided

    monkeypatch.setitem(commands.DECIDERS, channel.FreezeScope, decider._replace(decide=careless))
    store.ask(freeze("f2"))
    with pytest.raises(AssertionError):
        told_anew(store, store.handler._worlds[0])


def test_threads_that_share_a_handler_see_every_record(store: Store) -> None:
    found: list[str] = []

    def work(number: int) -> None:
        for turn in range(20):
            name = f"f{turn}"
            outcome = store.handler.execute(freeze(name), Request(ActorRef(f"a{number}"), reason="x"))
            found.append(name if outcome.refusal is None else "")

    threads = [threading.Thread(target=work, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(f"f{turn}" for turn in range(20)) == sorted(filter(None, found)), "each name is taken once"
    assert len(store.handler._worlds) <= 4
