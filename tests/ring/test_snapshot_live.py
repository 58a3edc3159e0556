"""What a snapshot calls a real ring: each state is caused, then read from the mapping as another process would."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from muniment.ring import _ring
from muniment.ring.snapshot import render

STALL = 1  # nanosecond: whoever has work before it and does not move has stalled


def ring(**options: Any) -> _ring.Ring:
    return _ring.Ring.create(None, **{"capacity": 8, "slot_bytes": 64, "stages": [0, 1], **options})


def seen(of: _ring.Ring, **options: Any) -> dict[str, Any]:
    found = render(of.snapshot_raw(True), ["first", "second"][: len(of.stages)], "", **options)
    assert found["consistent"] is True
    return found


def states(found: dict[str, Any]) -> list[str]:
    return [item["state"] for item in found["gating"]]


def test_from_idle_to_full_to_drained() -> None:
    with ring() as made, made.producer() as producer, made.consumer(0) as first, made.consumer(1) as second:
        assert states(seen(made)) == ["idle", "idle"]
        for _ in range(8):
            producer.publish(b"x")
        full = seen(made, stall_ns=STALL)
        assert states(full) == ["stalled", "gated"]
        assert (True, 0, "first", "8") == (
            full["producer_blocked"],
            full["remaining_capacity"],
            full["slowest_stage"],
            full["gating"][0]["lag"],
        )
        assert states(seen(made, stall_ns=10**12)) == ["processing", "gated"]
        first.take_many(8, 1.0)
        behind = seen(made, stall_ns=STALL)
        assert (states(behind), behind["slowest_stage"]) == (["idle", "stalled"], "second")
        second.take_many(8, 1.0)
        producer.end()
        drained = seen(made, stall_ns=STALL)
        assert (states(drained), drained["end"], drained["exact"]) == (["idle", "idle"], "8", True)
        assert drained["producer"]["pid"] == os.getpid()


def test_a_refused_and_an_overwritten_message_are_counted() -> None:
    with ring(drop=True, stages=[0]) as made, made.producer() as producer:
        for _ in range(11):
            producer.publish(b"x")
        producer.beat()
        assert seen(made)["dropped"] == "3"
    with ring(kind="broadcast", stages=[0]) as made, made.producer() as producer, made.consumer(0) as stage:
        for _ in range(20):
            producer.publish(b"x")
        with pytest.raises(_ring.RingOverrun):
            stage.take(1.0)
        found = seen(made)
        assert (int(found["gating"][0]["lost"]) >= 12, found["producer_blocked"]) == (True, False)


def test_a_stage_that_stopped_the_ring_is_named() -> None:
    with ring() as made, made.producer() as producer:
        producer.publish(b"x")
        assert made.stop(1, 64, 1)
        found = seen(made)
        assert found["stop"] == {"state": "stopped", "stage": "second", "code": 64, "sequence": "1"}


DEAD = """
import os, signal, sys
from muniment.ring import _ring
ring = _ring.Ring.attach(sys.argv[1])
producer = ring.producer()
producer.publish(b"x")
os.kill(os.getpid(), signal.SIGKILL)
"""


@pytest.mark.parametrize("multi", [False, True])
def test_a_dead_producer_is_seen(tmp_path: Path, multi: bool) -> None:
    path = tmp_path / "ring"
    with _ring.Ring.create(path, capacity=8, slot_bytes=64, stages=[0, 1], multi=multi):
        ran = subprocess.run([sys.executable, "-c", DEAD, str(path)], check=False)
        assert ran.returncode == -signal.SIGKILL
        with _ring.Ring.attach(path, writable=False) as other:
            found = seen(other, stall_ns=STALL)
        assert (found["producer"]["alive"], found["cursor"]) == ("no", "1")
        assert states(found) == ["stalled", "gated"]
