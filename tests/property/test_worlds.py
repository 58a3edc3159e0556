"""A handler that keeps what it folded writes, byte for byte, what a new handler for each command writes."""

from __future__ import annotations

import importlib.util
import itertools
import sys
import uuid
from pathlib import Path
from types import ModuleType
from typing import Any

import msgspec
import pytest
from hypothesis import Phase, given, settings
from hypothesis import strategies as st
from muniment.app import worlds
from muniment.app.handlers import Handler
from muniment.app.request import Outcome, Request
from muniment.domain.decision import ActorRef
from muniment.domain.errors import MunimentError
from muniment.domain.folding import FOLD
from muniment.domain.world import World, fold
from muniment.store.memory import MemoryLog


def _load_rules() -> ModuleType:
    spec = importlib.util.spec_from_file_location(
        "rules_for_worlds", Path(__file__).with_name("test_rules.py")
    )
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules[spec.name] = module
    spec.loader.exec_module(module)
    return module


rules = _load_rules()


class Both:
    """Two logs with one history: two handlers that keep write one in turns, a new handler for each command the other."""

    def __init__(self, lab: Any, turns: list[int]) -> None:
        self.lab, self.turns = lab, itertools.cycle(turns)
        self.log = MemoryLog(clock=lambda: lab.now)
        self.ids = [itertools.count(1), itertools.count(1)]
        self.kept = [self._handler(lab.log, 0) for _ in range(2)]

    def _handler(self, log: MemoryLog, of: int) -> Handler:
        return Handler(
            log,
            now=lambda: self.lab.now,
            new_id=lambda: str(uuid.UUID(int=next(self.ids[of]), version=4)),
        )

    def execute(self, command: Any, request: Request) -> Outcome:
        turn = next(self.turns)
        if turn == 3:  # somebody else writes what one query or another selects, and much that none does
            for handler in (self._handler(self.lab.log, 0), self._handler(self.log, 1)):
                for number in range(6):
                    self._observe(handler, number)
        found = [
            self._answer(handler, command, msgspec.structs.replace(request))
            for handler in (self.kept[turn % 2], self._handler(self.log, 1))
        ]
        one, other = found
        if isinstance(one, MunimentError):
            assert (type(one), one.code, str(one)) == (type(other), getattr(other, "code", ""), str(other))
            raise one
        assert isinstance(other, Outcome)
        assert _told(one) == _told(other)
        return one

    def _observe(self, handler: Handler, number: int) -> None:
        fields = {"failed": False, "signals": [], "reason": "", "pack": "sha256:" + "0" * 64}
        place = {"slot": ("prod/canary/all", "prod/stable/all")[number % 2], "target": "t1"}
        data: dict[str, Any] = {**place, **fields, "status": "HEALTHY"}
        handler.record_fact("slot.health_reported/1", data, Request(ActorRef("probe", "service")))

    @staticmethod
    def _answer(handler: Handler, command: Any, request: Request) -> Outcome | MunimentError:
        try:
            return handler.execute(command, request)
        except MunimentError as error:
            return error


def _told(outcome: Outcome) -> list[Any]:
    return [getattr(outcome, name) for name in outcome.__struct_fields__ if name != "world"]


def _compare(lab: Any, both: Both) -> None:
    """The logs are equal, and whatever is kept is the fold of its query over the log."""
    assert list(lab.log.read()) == list(both.log.read())
    facts = lab.facts()
    for kept in (one for handler in both.kept for one in handler._worlds):
        assert kept.advance() == len(facts)
        for query, found in kept._worlds.by_query.items():
            selected = [f for f in facts if any(i.matches(f.type, set(f.tags)) for i in query)]
            expected = fold(World(), selected, FOLD)
            assert msgspec.msgpack.encode(found.world) == msgspec.msgpack.encode(expected)


# Not made smaller: a difference is named at its first command, and to look for a shorter way there took minutes.
QUICK = settings(rules.LIMITS, phases=(Phase.explicit, Phase.reuse, Phase.generate))


@QUICK
@given(
    moves=rules.MOVES,
    turns=st.lists(st.integers(0, 3), min_size=1, max_size=9),
    bounds=st.sampled_from([(1024, 512), (4, 512), (1024, 3), (16, 1)]),
)
def test_what_is_kept_changes_no_record(
    make_lab: Any, kit: Any, moves: Any, turns: list[int], bounds: tuple[int, int]
) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(worlds, "MAX_NEW", bounds[0])
        patch.setattr(worlds, "MAX_WORLDS", bounds[1])
        patch.setattr(worlds, "MAX_READS", bounds[1])
        lab = make_lab()
        both = lab.handler = Both(lab, turns)
        rules.play(lab.set_up(packs=3), kit, moves)
        _compare(lab, both)


def test_the_comparison_sees_worlds_that_were_moved_on(make_lab: Any, kit: Any) -> None:
    """Else the test above would compare nothing."""
    lab = make_lab()
    both = lab.handler = Both(lab, [0, 1, 3])
    rules.play(lab.set_up(packs=3), kit, [*rules.BACK])
    _compare(lab, both)
    worlds_kept = [kept for handler in both.kept for one in handler._worlds for kept in one._worlds.by_query]
    assert len(worlds_kept) > 20
