"""The floor of a lane graph against graphs played by hand: never above what is done, and at the end all of it."""

from __future__ import annotations

import random
from collections import deque

import pytest
from muniment.ring import floor as floors
from muniment.ring.floor import GraphFloor, Ways
from muniment.ring.spec import LaneGraph
from pipelines import graph, spec_of

TWO_WAYS = (
    "abcdef",
    [
        "in stage identity - > a",
        "split router identity a > b,c,d",
        "even stage filter:n=0 b > e",
        "log stage sink:log e > -",
        "late stage identity c > f",
        "log2 stage sink:log f > -",
        "see stage count d > -",
    ],
)
TOGETHER = (
    "abcde",
    [
        "in stage identity - > a",
        "split router identity a > b,c",
        "slow stage filter:n=0 b > d",
        "m merge identity d,c > e",
        "log stage sink:log e > -",
    ],
)
STRAIGHT = ("ab", ["in stage identity - > a", "mid stage filter:n=0 a > b", "log stage sink:log b > -"])
AGAIN = (
    "abc",
    [
        "in stage identity - > a",
        "log stage sink:log a > b",
        "m stage identity b > c",
        "log2 stage sink:log c > -",
    ],
)


def parsed(lanes: str, roles: list[str], kind: str = "events") -> LaneGraph:
    made = spec_of(graph(dict.fromkeys(lanes, kind), roles)).pipeline
    assert isinstance(made, LaneGraph)
    return made


class Play:
    """Roles that take turns as the dice say; what a role has done is counted some turns later."""

    def __init__(self, made: LaneGraph, dice: random.Random, lines: list[bytes]) -> None:
        self.graph, self.dice, self.lines = made, dice, lines
        self.floor = GraphFloor(made, 0)
        self.floor.follow()
        self.lanes = {
            (lane.name, role.id): deque[bytes]()
            for lane in made.lanes
            for role in made.roles
            if lane.name in role.inputs
        }
        self.fed = 0
        self.late: dict[str, deque[tuple[str, list[bytes], int]]] = {role.id: deque() for role in made.roles}

    def turn(self) -> None:
        role = self.dice.choice(self.graph.roles)
        if self.late[role.id] and self.dice.random() < 0.5:
            self.floor.through(role.id, *self.late[role.id].popleft())
            return
        many = self.dice.randrange(1, 6)
        if role.inputs:
            lane = self.dice.choice(role.inputs)
            waiting = self.lanes[lane, role.id]
            took = [waiting.popleft() for _ in range(min(many, len(waiting)))]
        else:
            lane, took = "", self.lines[self.fed : self.fed + many]
            self.fed += len(took)
        if not took:
            return
        kept = [one for one in took if role.op.name != "filter" or self.dice.random() < 0.5]
        for (name, _), queue in self.lanes.items():
            if name in role.outputs:
                queue.extend(kept)
        self.late[role.id].append((lane, took, len(kept)))

    def settle(self) -> None:
        while self.fed < len(self.lines) or any(self.lanes.values()) or any(self.late.values()):
            self.turn()

    @property
    def done(self) -> int:
        """Bytes of the input before the first line that is still on a way to a sink."""
        ways = Ways(self.graph)
        open_ = {
            line
            for (lane, reader), queue in self.lanes.items()
            if reader in ways.readers.get(lane, ())
            for line in queue
        }
        first = next((at for at, line in enumerate(self.lines[: self.fed]) if line in open_), self.fed)
        return sum(len(line) + 1 for line in self.lines[:first])


@pytest.mark.parametrize("shape", [STRAIGHT, TWO_WAYS, TOGETHER, AGAIN])
@pytest.mark.parametrize("most", [1, 3, 4096])
def test_it_is_never_above_what_is_done_and_all_at_the_end(
    monkeypatch: pytest.MonkeyPatch, shape: tuple[str, list[str]], most: int
) -> None:
    monkeypatch.setattr(floors, "MOST", most)
    for seed in range(10):
        dice = random.Random(seed)
        lines = [b"%d" % number for number in range(dice.randrange(1, 80))]
        play = Play(parsed(*shape), dice, lines)
        before = 0
        for _ in range(400):
            play.turn()
            reached = play.floor.floor()
            assert before <= reached.offset <= play.done
            before = reached.offset
            ends = b"\n".join(lines) + b"\n"
            assert reached.last == (ends[: reached.offset - 1].rpartition(b"\n")[2] if before else None)
        play.settle()
        assert play.floor.floor() == (sum(map(len, lines)) + len(lines), lines[-1])


def test_it_goes_on_where_the_input_begins() -> None:
    floor = GraphFloor(parsed(*STRAIGHT), 70)
    floor.follow()
    assert floor.floor() == (70, None)
    floor.through("in", "", [b"ab"], 1)
    floor.through("mid", "a", [b"ab"], 0)
    assert floor.floor() == (73, b"ab")


def test_what_is_not_followed_is_not_gathered() -> None:
    floor = GraphFloor(parsed(*STRAIGHT), 0)
    floor.through("in", "", [b"ab"], 1)
    floor.through("mid", "a", [b"ab"], 0)
    assert floor.floor() == (0, None)


@pytest.mark.parametrize(("lossy", "seen"), [("a", True), ("c", True), ("f", True), ("d", False)])
def test_a_lane_that_may_lose_matters_on_the_way_to_a_sink_only(lossy: str, seen: bool) -> None:
    text = graph({**dict.fromkeys("abcdef", "events"), lossy: "events on_full=drop"}, TWO_WAYS[1])
    made = spec_of(text).pipeline
    assert isinstance(made, LaneGraph)
    assert Ways(made).lossy is seen
    assert not Ways(parsed(*TWO_WAYS)).lossy
    assert not Ways(parsed("ab", [*STRAIGHT[1][:2], "end stage count b > -"], "events on_full=drop")).roles
