"""The golden path over the services, on a real store: from nothing to a rollback on real folders."""

from __future__ import annotations

from pathlib import Path

import pytest
import shop
from muniment.app import activating, building, packing
from muniment.app.session import Options
from muniment.domain import build, channel, incident, release, slot
from muniment.domain.errors import NotFoundError, UsageError
from muniment.domain.states import Stage


def test_the_golden_path(here):
    with here.open() as s:
        name = here.started(s)
        staged = building.stage(
            s,
            Options(),
            build_id=name,
            name="validate",
            argv=["sh", "-c", f"cat $0/a.csv && echo '{shop.REPORT}' > $1/r.xml", "{input}", "{output}"],
        )
        assert ("PASS", 0) == (staged.run.status, staged.run.exit_code)
        gate, facts = building.gate(
            s, Options(), build_id=name, name="validate", report="{out.validate}/r.xml"
        )
        assert ("PASS", 1) == (shop.must(gate).event("build.gate_decided/1")["verdict"], facts["tests"])
        shop.must(building.stage(s, Options(), build_id=name, name="compile", argv=shop.COPY).finished)
        outcome, manifest = packing.create(s, Options(), "{out.compile}", build_id=name, epoch=1)
        one = manifest["runtime_pack_id"]
        assert one == shop.must(outcome).event("build.compiled/1")["pack"]
        outcome, second = packing.reproduce(s, Options(), build_id=name, argv=shop.COPY)
        assert (one, True) == (second, outcome.event("build.reproduced/1")["equal"])
        ended = shop.must(s.run(build.Finish(name))).event("build.finished/1")
        assert ("ELIGIBLE", []) == (ended["outcome"], ended["failed"])
        registered, _ = packing.register(s, Options(), one)
        assert ["pack.registered/1", "pack.admitted/1", "pack.available/1"] == [
            event.type for event in registered.events
        ]
        verified, checks = packing.verify(s, Options(), one)
        assert ("PASS", {"pass"}) == (
            shop.must(verified).event("pack.reverified/1")["verdict"],
            {check.verdict for check in checks},
        )
        here.declared(s)
        here.promoted(s, "r-1", one)
        here.activated(s)
        good = here.healthy(s)
        assert good.event("slot.good_attested/1")["pack"] == one
        shop.must(s.run(release.Complete("r-1")))
        assert one == activating.active(str(here.target()))["pack"]

        two = here.pack(s, "b-2", "2", epoch=1)
        here.promoted(s, "r-2", two)
        assert one == here.activated(s).replaced
        here.healthy(s, status="DEGRADED")
        before = s.log.head().size
        ((dry, nothing),) = activating.rollback(s, Options(dry_run=True), shop.EU)
        assert (before, None, 0) == (s.log.head().size, nothing, dry.exit_code)
        ((real, done),) = activating.rollback(s, Options(), shop.EU)
        wanted, found = (o.event("rollback.pack_selected/1") for o in (dry, real))
        assert (wanted["pack"], wanted["trace"]) == (found["pack"], found["trace"])
        assert (one, "CONFIRMED", 0) == (done.pack, done.state, done.exit_code)
        assert one == activating.active(str(here.target()))["pack"]
        assert Path("packs", one[7:]) == (here.target() / "active").readlink()
        told = shop.types(s, after=before)
        assert {"slot.quarantined", "rollback.completed", "release.rolled_back"} <= set(told)
        back = activating.slot_of(s, shop.EU)[1]
        assert (one, "STEADY", one) == (
            back.targets["edge-1"].active,
            back.targets["edge-1"].mode,
            back.desired,
        )

        declared = shop.must(s.run(incident.Declare("SEV2", shop.EU, "errors after r-2", two)))
        number = declared.event("incident.declared/1")["incident"]
        here.healthy(s)
        shop.must(s.run(incident.Contain(number)))
        shop.must(s.run(incident.Resolve(number, "rolled back")))
        action = {"what": "check the column", "owner": "alice", "due": "2030-01-01", "check": "c-1"}
        shop.must(s.run(incident.Close(number, ["a bad column"], [action])))
        shop.sound(s)


def test_a_failing_gate_stops_the_compile(here):
    with here.open() as s:
        name = here.started(s)
        report = here.base / "bad.xml"
        report.write_text(shop.FAILING)
        outcome, facts = building.gate(s, Options(), build_id=name, name="validate", report=str(report))
        assert ("FAIL", 1) == (
            shop.must(outcome).event("build.gate_decided/1")["verdict"],
            facts["failures"],
        )
        marker = here.base / "ran"
        staged = building.stage(s, Options(), build_id=name, name="compile", argv=["touch", str(marker)])
        shop.refused(staged.started, "I13.no_compile")
        assert not marker.exists(), "a refused stage does not run"
        outcome, _ = packing.create(s, Options(), str(here.source()), build_id=name)
        shop.refused(outcome, "I13.no_compile")
        assert shop.types(s).count("build.compile_refused") == 2
        ended = s.run(build.Finish(name)).event("build.finished/1")
        assert ended["outcome"] == "REJECTED"


def test_no_gate_and_an_errored_gate_stop_the_compile_too(here):
    with here.open() as s:
        name = here.started(s)
        outcome, _ = packing.create(s, Options(), str(here.source()), build_id=name)
        assert ["gate_missing:validate"] == shop.refused(outcome, "I13.no_compile").refusal.facts
        outcome, facts = building.gate(
            s, Options(), build_id=name, name="validate", report=str(here.base / "no")
        )
        assert outcome.event("build.gate_decided/1")["verdict"] == "ERROR"
        assert facts["reason"]
        outcome, _ = packing.create(s, Options(), str(here.source()), build_id=name)
        assert ["gate_error:validate"] == shop.refused(outcome, "I13.no_compile").refusal.facts


def test_a_second_compile_that_differs_rejects_the_build(here):
    with here.open() as s:
        first = here.compiled(s)
        argv = ["sh", "-c", "cp -r $0/. $1 && echo more > $1/extra", "{input}", "{output}"]
        outcome, second = packing.reproduce(s, Options(), build_id="b-1", argv=argv)
        assert first != second
        assert outcome.event("build.reproduced/1")["equal"] is False
        assert list(here.at.glob("work/b-1/re-*/output/extra")), "the other tree is kept to be compared"
        ended = s.run(build.Finish("b-1")).event("build.finished/1")
        assert ("REJECTED", ["determinism_drift"]) == (ended["outcome"], ended["failed"])
        outcome, _ = packing.register(s, Options(), first)
        assert outcome.event("pack.admitted/1") is None


def test_two_targets_in_one_slot_roll_back_together(here):
    with here.open() as s:
        one, two = here.two(s, "edge-1", "edge-2")
        answers = activating.rollback(s, shop.key("all back"), shop.EU)
        assert [("edge-1", one, 0), ("edge-2", one, 0)] == [
            (done.target, done.pack, done.exit_code) for _, done in answers
        ]
        for name in ("edge-1", "edge-2"):
            assert one == activating.active(str(here.target(name)))["pack"]
        assert shop.types(s).count("release.rolled_back") == 1
        before = s.log.head().size
        again = activating.rollback(s, shop.key("all back"), shop.EU)
        assert before == s.log.head().size
        assert [(o.positions, done.state) for o, done in again] == [
            (o.positions, "CONFIRMED") for o, _ in answers
        ]
        assert two not in {done.pack for _, done in again}


def test_one_target_alone_rolls_back_and_the_release_waits_for_the_other(here):
    with here.open() as s:
        one, two = here.two(s, "edge-1", "edge-2")
        ((_, done),) = activating.rollback(s, Options(), shop.EU, target=str(here.target("edge-2")))
        assert ("edge-2", one) == (done.target, done.pack)
        assert two == activating.active(str(here.target("edge-1")))["pack"]
        assert "release.rolled_back" not in shop.types(s)


def test_a_plan_of_two_stages_goes_through_its_upstream(here):
    with here.open() as s:
        pack = here.pack(s)
        shop.must(s.run(channel.Declare("prod/canary", ["eu"], [])))
        shop.must(s.run(channel.Declare("prod/stable", ["eu"], ["prod/canary"])))
        canary = "prod/canary/eu"
        shop.must(
            s.run(release.Create("r-1", pack, [Stage([canary], 100_000, 0), Stage([shop.EU], 100_000, 0)]))
        )
        shop.must(s.run(release.Start("r-1")))
        refused = activating.activate(s, Options(), shop.EU, str(here.target("s")), name="s")
        assert (6, "R9.nothing_desired") == (refused.exit_code, refused.refused.refusal.rule)
        assert not here.target("s").exists(), "nothing was made for a refused activation"
        shop.must(s.run(release.Promote("r-1", "prod/canary")))
        assert s.run(release.Promote("r-1", "prod/stable")).refusal is not None, "not activated in canary yet"
        here.activated(s, "c", canary)
        assert s.run(release.Promote("r-1", "prod/stable")).refusal is not None, "not reported healthy yet"
        here.healthy(s, "c", where=canary)
        shop.must(s.run(release.Promote("r-1", "prod/stable")))
        here.activated(s, "s")
        shop.refused(s.run(release.Complete("r-1")), "R11.inconclusive")
        here.healthy(s, "s")
        shop.must(s.run(release.Complete("r-1")))
        assert ["release.soaked", "release.gate_judged", "release.completed"] == shop.types(s)[-3:]
        shop.sound(s)


def test_rolling_back_with_no_good_pack_is_stuck_and_an_incident(here):
    with here.open() as s:
        pack = here.pack(s)
        here.declared(s)
        here.promoted(s, "r-1", pack)
        here.activated(s)
        here.healthy(s, status="UNHEALTHY")
        ((outcome, done),) = activating.rollback(s, Options(), shop.EU)
        assert done is None
        assert outcome.event("rollback.no_candidate/1") is not None
        assert outcome.event("incident.declared/1") is not None
        assert pack == activating.active(str(here.target()))["pack"], "I9: active stays"
        state = activating.slot_of(s, shop.EU)[1]
        assert state.targets["edge-1"].mode == "STUCK"


@pytest.mark.parametrize("where", ["prod/stable/xx", "prod/other/eu"])
def test_a_slot_nobody_declared_is_refused(here, where):
    with here.open() as s:
        here.good(s)
        size = s.log.head().size
        with pytest.raises(NotFoundError):
            activating.activate(s, Options(), where, str(here.target("t")))
        with pytest.raises(NotFoundError):
            activating.rollback(s, Options(), where)
        assert size == s.log.head().size, "what is not found is not recorded (settled.md, 8)"
        assert not here.target("t").exists()
        with pytest.raises(UsageError):
            activating.activate(s, Options(), where.replace("/", " "), str(here.target("t")))


def test_a_read_session_answers_and_writes_nothing(here):
    with here.open() as s:
        here.good(s)
    before = {p: p.stat().st_mtime_ns for p in here.at.rglob("*") if p.is_file() and "log.db" not in p.name}
    with here.open(write=False) as s:
        assert activating.slot_of(s, shop.EU)[1].desired
        assert building.state_of(s, "b-1").outcome == "ELIGIBLE"
        size = s.log.head().size
        with pytest.raises(Exception, match="read-only") as caught:
            s.run(slot.Report(shop.EU, "edge-1", "HEALTHY", []))
        assert caught.value.exit_code == 8
        assert size == s.log.head().size
    after = {p: p.stat().st_mtime_ns for p in here.at.rglob("*") if p.is_file() and "log.db" not in p.name}
    assert before == after
