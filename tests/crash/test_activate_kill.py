"""SIGKILL at random moments of whole activations and rollbacks, through the services (I15).

After each kill the target runs the old pack or the new one, and what it runs is whole. The next run goes on by the record, and
ends with record and link equal. The killed are forks of this process.
"""

from __future__ import annotations

import os
import signal
import time
from collections import Counter
from pathlib import Path

import pytest
import shop
from kills import Moments
from muniment.app import activating
from muniment.app.folder import installed
from muniment.app.pack_check import passed, read_manifest, verify_tree
from muniment.app.session import Options
from muniment.domain import release

KILLS, STORES = 17, 4  # kills a store; a new one keeps the history short, which every decision folds


def killed(here, work, delay: float) -> bool:
    """Fork, run `work(session)`, kill after `delay`; tell whether it had said that it was done."""
    answer, answering = os.pipe()
    pid = os.fork()
    if pid == 0:
        os.close(answer)
        try:
            with here.open() as s:
                os.write(answering, b"ready\n")
                work(s)
            os.write(answering, b"done\n")
            time.sleep(5)
        except BaseException as error:
            os.write(answering, f"broke {error!r}\n".encode())
        finally:
            os._exit(9)
    os.close(answering)
    with os.fdopen(answer) as pipe:
        assert pipe.readline() == "ready\n"
        time.sleep(delay)
        os.kill(pid, signal.SIGKILL)
        rest = pipe.read()
    os.waitpid(pid, 0)
    assert "broke" not in rest, rest
    return rest == "done\n"


def whole(place: Path, allowed: set[str]) -> str:
    """The pack that is active: one of those, every byte of it and of other installed packs right."""
    pack = activating.active(str(place))["pack"]  # reads every byte
    assert pack in allowed, "neither the old pack nor the new one"
    for each in installed(place)[-4:]:
        root = place / "packs" / each[7:]
        assert passed(verify_tree(root, read_manifest(root), keys={}, threshold=0, wanted=each))
    return str(pack)


def settled(session, place: Path, wanted: str) -> None:
    """Record and link are equal, nothing is under way, nothing is left of attempts."""
    target = shop.state(session)
    link = activating.active(str(place))["pack"]
    assert (wanted, wanted, "STEADY", "") == (link, target.active, target.mode, target.rollback)
    assert target.activation.state == "CONFIRMED"
    assert [] == [p.name for p in (place / "staging").iterdir()]


@pytest.mark.parametrize("seed", range(STORES))
def test_old_or_new_after_every_kill_and_the_next_run_goes_on(tmp_path, monkeypatch, seed):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    here = shop.Shop(tmp_path)
    here.init()
    bulk = here.source() / "bulk"
    bulk.mkdir()
    for number in range(12):
        (bulk / f"f{number}").write_bytes(f"{number} ".encode() * 9000)
    place, resumed = here.target(), Counter()
    with here.open() as s:
        packs = [here.good(s, 1), here.good(s, 2)]  # the second is active
        began = time.perf_counter()
        fresh = here.pack(s, "b-3", "3")
        here.promoted(s, "r-3", fresh)
        here.activated(s)
        whole_run = time.perf_counter() - began
        here.healthy(s)
        shop.must(s.run(release.Complete("r-3")))
    now, done, number = fresh, 0, 3
    moments = Moments(15 + seed, whole_run)

    def forward(s) -> None:
        activating.activate(s, Options(), shop.EU, str(place), name="edge-1")

    def back(s) -> None:
        activating.rollback(s, Options(), shop.EU)

    for turn in range(KILLS):
        rolling = turn % 5 == 4
        number += 1
        with here.open() as s:
            if rolling:  # a new pack goes bad; the way back is what gets killed
                bad = here.pack(s, f"b-{number}", f"t{number}")
                here.promoted(s, f"r-{number}", bad)
                here.activated(s)
                here.healthy(s, status="DEGRADED")
                ((dry, _),) = activating.rollback(s, Options(dry_run=True), shop.EU)
                old, new = bad, dry.event("rollback.pack_selected/1")["pack"]
            else:
                old, new = now, next(p for p in packs if p != now)
                here.promoted(s, f"r-{number}", new)
        late = killed(here, back if rolling else forward, moments.next())
        moments.was(late=late)
        done += late
        found = whole(place, {old, new})
        with here.open() as s:
            if turn % 16 == 0:
                shop.sound(s)
            target = shop.state(s)
            before = target.activation
            if target.active == old:
                assert found == old, "the link ran ahead of the record"
            if rolling and not target.rollback and target.active == old:
                ((_, result),) = activating.rollback(
                    s, Options(), shop.EU
                )  # the kill came before the decision
            else:
                result = activating.activate(s, Options(), shop.EU, str(place), name="edge-1")
                resumed[result.resumed or before.state] += 1
            told = [event.data for outcome in result.outcomes for event in outcome.events]
            assert ("CONFIRMED", 0) == (result.state, result.exit_code), told
            settled(s, place, new)
            here.healthy(s)
            if not rolling:
                shop.must(s.run(release.Complete(f"r-{number}")))
        now = new
    assert done < KILLS * 0.9, "most kills came too late"
    assert {*resumed} & {"PLANNED", "FETCHED", "VERIFIED", "STAGED", "SWITCHED"}, "no kill came in between"
    with here.open(write=False) as s:
        found = shop.sound(s)
    closed = {
        r["data"]["activation"]
        for r in found
        if r["type"] in ("activation.confirmed/1", "activation.abandoned/1")
    }
    assert {r["data"]["activation"] for r in found if r["type"] == "activation.planned/1"} == closed
