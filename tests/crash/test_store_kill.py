"""SIGKILL at random moments of whole commands: what was acknowledged is there, whole, with its evidence.

The killed are forks of this process, so sixty of them cost seconds. Each tells the parent of an outcome over a pipe only after
the service returned it.
"""

from __future__ import annotations

import os
import random
import signal
import time
from contextlib import suppress

import pytest
import shop
from kills import Moments
from muniment.app import building, creating, intaking
from muniment.app.session import Options
from muniment.domain.errors import ConflictError

KILLS = 70  # at the least: where the machine is busy, a child is killed before it has done much, so it takes more of them
ENOUGH = 100  # records that were acknowledged
INIT_KILLS = 40


def forked(work, delay: float, *, wait_first: bool) -> list[list[str]]:
    """Run `work(tell)` in a child, kill it after `delay`; the words it told, whole lines only."""
    answer, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        try:
            work(lambda *words: os.write(answering, (" ".join(map(str, words)) + "\n").encode()))
        except BaseException as error:
            os.write(answering, f"broke {type(error).__name__} {str(error)[:200]}\n".encode())
        finally:
            os._exit(9)
    os.close(answering)
    with os.fdopen(answer) as pipe:
        first = pipe.readline() if wait_first else ""
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        lines = [first, *pipe]
    os.waitpid(pid, 0)
    told = [line.split() for line in lines if line.endswith("\n")]
    assert not [words for words in told if words[0] == "broke"], told
    return told


def commands(here, seed: int):
    """Full commands, one after the other, each acknowledged by the positions of its records."""

    def work(tell) -> None:
        n = 0
        report = here.base / f"r{seed}.xml"
        report.write_text(shop.REPORT + f"<!-- {seed} -->")
        with here.open() as s:
            tell("at", "work")
            while True:
                name = f"{seed}-{n}"
                source = here.base / f"in{seed}"
                source.mkdir(exist_ok=True)
                (source / "data").write_text(f"{name} " * 500)
                outcome, _, intake = intaking.add(s, str(source), Options(), intake_id=f"in-{name}")
                tell("ack", *outcome.positions)
                outcome, b = building.start(
                    s, Options(), product="atlas", intake_id=intake, build_id=f"b-{name}"
                )
                tell("ack", *outcome.positions)
                outcome, _ = building.gate(s, Options(), build_id=b, name="validate", report=str(report))
                tell("ack", *outcome.positions)
                if n % 4 == 3:
                    staged = building.stage(s, Options(), build_id=b, name="compile", argv=shop.COPY)
                    tell("ack", *staged.started.positions, *staged.finished.positions)
                n += 1

    return work


def test_no_acknowledged_record_is_lost(tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    here = shop.Shop(tmp_path)
    here.init()
    with here.open() as s:  # every module the children need is loaded before they are forked
        here.compiled(s, "warm")
    chance, acknowledged, size = random.Random(2026), set(), 0
    for seed in range(10 * KILLS):
        if seed >= KILLS and len(acknowledged) > ENOUGH:
            break
        told = forked(commands(here, seed), chance.uniform(0, 0.12 * max(1, seed / KILLS)), wait_first=True)
        acknowledged |= {int(position) for word, *rest in told if word == "ack" for position in rest}
        with here.open(write=False) as s:
            size = s.log.head().size
            assert max(acknowledged, default=0) <= size, "an acknowledged record is gone"
    with here.open() as s:
        found = shop.sound(s)
        assert acknowledged <= set(range(1, len(found) + 1))
        assert len(acknowledged) > ENOUGH, "the kills came too early to say anything"
        assert sum(r["type"] == "build.requested/1" for r in found) == sum(
            r["type"] == "build.inputs_frozen/1" for r in found
        ), "no half of a batch"
        begun = {r["data"]["attempt"] for r in found if r["type"] == "build.stage_started/1"}
        ended = {r["data"]["attempt"] for r in found if r["type"] == "build.stage_finished/1"}
        assert ended <= begun
        here.pack(s, "after", "after")  # and everything goes on


def test_a_killed_init_leaves_no_store_without_a_policy(tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    warm = shop.Shop(tmp_path, "warm")  # the module is loaded before the clock runs
    began = time.perf_counter()
    warm.init()
    whole = time.perf_counter() - began
    moments, cut = Moments(7, whole), 0
    for number in range(INIT_KILLS):
        here = shop.Shop(tmp_path, f"store{number}")

        def work(tell, here=here) -> None:
            creating.create_store(str(here.at))
            tell("made")
            time.sleep(5)

        told = forked(work, moments.next(), wait_first=False)
        moments.was(late=bool(told))
        cut += not told
        with suppress(ConflictError):  # it says that there is a store, or goes on
            assert here.init()["size"] == 2
            assert ["made"] not in told, "it said that it was made, and was not whole"
        with here.open() as s:
            found = shop.sound(s)
            assert ["store.created/1", "policy.published/1"] == [r["type"] for r in found]
            assert (here.at / "exports" / "checkpoint-2").is_file()
            here.taken(s)
        with pytest.raises(ConflictError) as caught:
            here.init()
        assert caught.value.code == "store.exists"
    assert cut >= 5, "no kill came in time"
