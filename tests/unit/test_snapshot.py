"""What a packed snapshot says of a ring: states of stages and producers, stops, lanes."""

from __future__ import annotations

import random
from typing import Any

import pytest
from muniment.domain.errors import InvalidError
from muniment.ring import snapshot_format as form
from muniment.ring.lane_state import LaneAt, RoleAt, lane_graph_state
from muniment.ring.snapshot_format import unpack
from snapshot_samples import NOW, SECOND, cell, chain, pack, shown

NAMES = ["head", "digest", "tail"]


def states(packed: bytes, **options: Any) -> list[str]:
    return [item["state"] for item in shown(packed, **options)["gating"]]


# -- states ------------------------------------------------------------------------------------------------------------


OLD = {"heartbeat_ns": NOW - 5 * SECOND}


@pytest.mark.parametrize(
    ("packed", "expected"),
    [
        (pack(0, chain(0, 0, 0)), ["idle", "idle", "idle"]),
        (pack(9, chain(9, 9, 9, s1=OLD)), ["idle", "idle", "idle"]),
        (pack(9, chain(9, 5, 5)), ["idle", "processing", "gated"]),
        (pack(9, chain(9, 5, 5, s1=OLD, s2=OLD)), ["idle", "stalled", "gated"]),
        (pack(9, chain(9, 5, 5, s1={"alive": 0})), ["idle", "stalled", "gated"]),
        (pack(9, chain(9, 5, 5, s1={"alive": 2})), ["idle", "processing", "gated"]),
        (pack(9, chain(9, 5, 5, s1={"heartbeat_ns": 0})), ["idle", "stalled", "gated"]),
        (pack(9, chain(9, 9, 5, s2={"active": 0})), ["idle", "idle", "inactive"]),
        (pack(9, chain(8, 7, 6)), ["processing", "processing", "processing"]),
        (pack(9, [cell(1, 9), cell(2, 4), cell(3, 4, deps=3)]), ["idle", "processing", "gated"]),
        (pack(3, chain((1 << 64) - 6)), ["processing"]),  # wrapped
        (pack(3, [cell(1, 1, hi=7)]), ["idle"]),  # moved on after the cursor was read
    ],
)
def test_states(packed: bytes, expected: list[str]) -> None:
    assert expected == states(packed)


def test_the_threshold_of_a_stall_is_the_callers() -> None:
    packed = pack(9, chain(9, 5, s1={"heartbeat_ns": NOW - SECOND}))
    assert states(packed) == ["idle", "processing"]
    assert states(packed, stall_ns=SECOND - 1) == ["idle", "stalled"]
    assert states(packed, stall_ns=10 * SECOND) == ["idle", "processing"]


def test_several_producers_a_claim_that_was_not_published_gates_the_first_stage() -> None:
    holes = [cell(17, 9), cell(19, 5, held_lo=6, held_hi=8, alive=0)]
    found = shown(pack(9, chain(5, 5), holes, capabilities=form.MULTI))
    assert [item["state"] for item in found["gating"]] == ["gated", "gated"]
    assert ("no", "6") == (found["producer"]["alive"], found["producer"]["cells"][1]["held_lo"])
    nobody = shown(pack(9, chain(5, 5), [], capabilities=form.MULTI))
    assert (nobody["producer"]["alive"], nobody["gating"][0]["state"]) == ("unknown", "processing")
    for wrong in ([cell(17), cell(17)], [cell(0)], [cell(33)]):
        with pytest.raises(InvalidError):
            unpack(pack(9, chain(5, 5), wrong, capabilities=form.MULTI))


def test_a_full_ring_blocks_its_producer_and_says_by_whom() -> None:
    found = shown(pack(2048, chain(2048, 1024, 1024, s1=OLD)), NAMES)
    assert found["producer_blocked"] is True
    assert (0, "1024", "digest") == (
        found["remaining_capacity"],
        found["min_gating"],
        found["slowest_stage"],
    )
    free = shown(pack(2047, chain(2047, 1024, 1024)), NAMES)
    assert (False, 1) == (free["producer_blocked"], free["remaining_capacity"])
    left = shown(pack(2048, chain(2048, 2048, 1024, s2={"active": 0})), NAMES)
    assert (False, 1024, "") == (
        left["producer_blocked"],
        left["remaining_capacity"],
        left["slowest_stage"],
    )


def test_a_broadcast_never_blocks_and_shows_what_was_lost() -> None:
    found = shown(pack(5000, [cell(1, 3000, lost=976)], kind=form.BROADCAST))
    assert (False, 1024, "976") == (
        found["producer_blocked"],
        found["remaining_capacity"],
        found["gating"][0]["lost"],
    )
    assert found["consistent"] is True
    assert found["region"]["kind"] == "broadcast"


def test_a_refused_message_is_counted_only_where_messages_are_refused() -> None:
    producer = [cell(0, 5, lost=7, stalls=3)]
    assert shown(pack(5, chain(5), producer, capabilities=form.DROP))["dropped"] == "7"
    assert shown(pack(5, chain(5), producer))["dropped"] == "0"
    assert shown(pack(5, chain(5), producer))["stalls"] == "3"


@pytest.mark.parametrize(
    ("packed", "good"),
    [
        (pack(9, chain(8, 7)), True),
        (pack(9, [cell(1, 8, hi=9), cell(2, 7, hi=9, deps=1)]), True),
        (pack(9, chain(8, 7), torn=1), False),
        (pack(9, chain(8, 7), initialized=1), False),
        (pack(9, chain(8, 7), stop=1), False),
        (pack(9, chain(7, 8)), False),  # downstream ahead of upstream
        (pack(9, chain(10, 9)), False),  # ahead of the cursor
        (pack(9, [cell(1, 8, hi=7)]), False),
        (pack(2000, chain(100)), False),  # more than the ring holds
    ],
)
def test_consistent_is_the_protocol(packed: bytes, good: bool) -> None:
    assert good is shown(packed)["consistent"]


def test_stop_and_end_are_told() -> None:
    found = shown(pack(9, chain(5, 5, 5), stop=2, stop_stage=1, stop_code=64, stop_sequence=6, end=10), NAMES)
    assert found["stop"] == {"state": "stopped", "stage": "digest", "code": 64, "sequence": "6"}
    assert found["end"] == "9"
    running = shown(pack(9, chain(5, 5, 5), stop_stage=1), NAMES)
    assert ("running", "", None) == (running["stop"]["state"], running["stop"]["stage"], running["end"])
    assert shown(pack(9, chain(5), stop=2, stop_stage=9))["stop"]["stage"] == "9"  # a lie is shown


def test_the_fields_are_those_of_the_page() -> None:
    found = shown(pack(9, [cell(1, 8, hi=9)]), adapters=[{"name": "a"}], samples=["ab"])
    named = (
        "snapshot_v captured_unix_ns ring_path spec_sha256 region capacity slot_bytes cursor gating min_gating slowest_stage"
        " remaining_capacity producer_blocked exact bounds t0_ns t1_ns dropped stalls heartbeats consistent attempts"
        " payload_sample_sha256 adapters producer stop end"
    )
    assert named.split() == list(found)
    assert found["bounds"] == [{"stage": "0", "lo": "8", "hi": "9"}]
    assert found["heartbeats"] == [{"stage": "0", "last_unix_ns": str(1_790_000_000 * SECOND - 1000)}]
    assert ([{"name": "a"}], ["ab"], False) == (
        found["adapters"],
        found["payload_sample_sha256"],
        found["exact"],
    )
    assert shown(pack(9, [cell(1, 9, heartbeat_ns=0)]))["heartbeats"][0]["last_unix_ns"] is None
    assert shown(pack(9, chain(9), spec_sha256=bytes(32)))["spec_sha256"] == ""


@pytest.mark.parametrize("names", [[], ["a"], ["a", "b", "c"]])
def test_a_spec_of_another_ring_is_refused(names: list[str]) -> None:
    with pytest.raises(InvalidError) as caught:
        shown(pack(9, chain(5, 5)), names)
    assert caught.value.code == "snapshot.spec"


# -- lane graphs -------------------------------------------------------------------------------------------------------


def test_a_lane_graph_is_its_lanes_and_roles() -> None:
    lanes = [
        LaneAt(
            "in",
            "events",
            "/l/in",
            pack(90, chain(40), [cell(0, 90, lost=2)], capabilities=form.DROP),
        ),
        LaneAt("out", "fanout_broadcast", "/l/out", pack(5000, [cell(1, 1, lost=9)], kind=form.BROADCAST)),
        LaneAt("log", "journal", "/l/log", head=1 << 60, tail=0, capacity=0),
    ]
    roles = [RoleAt("copy", "bridge", ["in"], ["out"], "processing", 1 << 60, "")]
    found = lane_graph_state("sha256:x", lanes, roles)
    assert list(found) == ["state_v", "spec_sha256", "lanes", "roles", "adapters"]
    first, second, third = found["lanes"]
    assert ("90", "40", "50", "2") == (first["head"], first["tail"], first["depth"], first["drops"])
    assert ("1024", "9") == (second["depth"], second["overruns"])
    assert (str(1 << 60), 2) == (third["depth"], third["initialized"])
    assert found["roles"][0] == {
        "name": "copy",
        "kind": "bridge",
        "inputs": ["in"],
        "outputs": ["out"],
        "state": "processing",
        "processed": str(1 << 60),
        "last_error": "",
    }
    with pytest.raises(InvalidError):
        lane_graph_state("", [LaneAt("in", "events", "/l/in", b"no")], [])


def test_what_is_certain_of_a_moving_ring_is_what_the_protocol_gives() -> None:
    """Snapshots of a simulated chain, taken word by word in the order of `rc_snapshot` while everybody moves."""
    dice = random.Random(7)
    for _ in range(300):
        capacity, at = 8, [dice.randrange(100)] * 4  # cursor, then three stages
        seen: list[int] = []
        for look in (3, 2, 1, 0, 1, 2, 3):
            for _ in range(dice.randrange(12)):
                who = dice.randrange(4)
                room = at[3] + capacity - at[0] if who == 0 else at[who - 1] - at[who]
                at[who] += dice.randint(0, room)
            seen.append(at[look])
        lo, cursor, hi = seen[2::-1], seen[3], seen[4:]
        stages = [
            cell(1 + i, lo[i], hi=hi[i], deps=1 << (i - 1) if i else 0, heartbeat_ns=NOW) for i in range(3)
        ]
        found = shown(pack(cursor, stages, capacity=capacity))
        assert found["consistent"] is True
        assert 0 <= found["remaining_capacity"] <= capacity
        assert found["producer_blocked"] is (cursor - min(cursor, hi[2]) == capacity)
