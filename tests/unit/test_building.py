"""Builds and gates: names, wrong states, reports, and keys that decide nothing twice."""

from __future__ import annotations

import os
from pathlib import Path

import pytest
import shop
from muniment.app import building, intaking, packing
from muniment.app.session import Options
from muniment.domain import build
from muniment.domain.errors import ConflictError, NotFoundError, UsageError


@pytest.mark.parametrize("name", ["In", "../x", "a/b", "x" * 65, " ", "é"])
def test_names_of_intakes_builds_stages_and_gates(begun, name):
    here, s = begun
    before = s.log.head().size
    with pytest.raises(UsageError):
        intaking.add(s, str(here.source()), Options(), intake_id=name)
    with pytest.raises(UsageError):
        building.start(s, Options(), product="atlas", intake_id="in-1", build_id=name)
    with pytest.raises(UsageError):
        building.start(s, Options(), product=name, intake_id="in-1")
    with pytest.raises(UsageError):
        shop.stage(s, "true", name=name)
    with pytest.raises(UsageError):
        building.gate(s, Options(reason="x"), build_id="b-1", name=name, verdict="PASS")
    with pytest.raises((UsageError, NotFoundError)):
        building.state_of(s, name)
    assert before == s.log.head().size


# -- builds --------------------------------------------------------------------------------------------------------


def test_unknown_ids_and_wrong_states(begun):
    here, s = begun
    before = s.log.head().size
    with pytest.raises(NotFoundError) as caught:
        building.start(s, Options(), product="atlas", intake_id="in-none")
    assert ("intake.unknown", before) == (caught.value.code, s.log.head().size)
    outcome, _ = building.start(s, Options(), product="atlas", intake_id=here.taken(s), build_id="b-1")
    shop.refused(outcome, "build.id_used")
    for call in (
        lambda: building.stage(s, Options(), build_id="b-9", name="ingest", argv=["true"]),
        lambda: building.gate(s, Options(reason="x"), build_id="b-9", name="validate", verdict="PASS"),
        lambda: building.gate(s, Options(), build_id="b-9", name="validate", report="/dev/null"),
        lambda: packing.create(s, Options(), str(here.base), build_id="b-9"),
        lambda: packing.reproduce(s, Options(), build_id="b-9", folder=str(here.base)),
        lambda: building.intake_manifest(s, "in-none"),
    ):
        with pytest.raises(NotFoundError):
            call()
    shop.must(s.run(build.Finish("b-1")))
    shop.refused(shop.stage(s, "true").started, "build.ended")


def test_the_only_open_build(here):
    with here.open() as s:
        with pytest.raises(NotFoundError):
            building.only_open(s)
        here.started(s, "b-1")
        assert "b-1" == building.only_open(s)
        here.started(s, "b-2")
        with pytest.raises(UsageError, match="b-1, b-2"):
            building.only_open(s)
        s.run(build.Cancel("b-1"))
        assert "b-2" == building.only_open(s)


def test_a_repeated_start_key(here):
    with here.open() as s:
        intake = here.taken(s)
        first, name = building.start(s, shop.key("b"), product="atlas", intake_id=intake)
        again, same = building.start(s, shop.key("b"), product="atlas", intake_id=intake)
        assert (name, first.positions) == (same, again.positions)
        with pytest.raises(ConflictError):
            building.start(s, shop.key("b"), product="other", intake_id=intake)
        with pytest.raises(ConflictError):
            building.start(s, shop.key("b"), product="atlas", intake_id=intake, build_id="b-other")


# -- gates ---------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "verdict"),
    [
        (shop.REPORT, "PASS"),
        (shop.FAILING, "FAIL"),
        ("", "ERROR"),
        ("<testsuite/>", "ERROR"),
        (shop.REPORT[:-5], "ERROR"),
        ('{"verdict": "PASS", "checks": []}', "ERROR"),
        ('{"verdict": "PASS", "checks": [{"id": "a", "verdict": "FAIL"}]}', "ERROR"),
        ("PASS", "ERROR"),
        ("\0" * 100, "ERROR"),
    ],
)
def test_a_gate_passes_on_a_passing_report_only(begun, text, verdict):
    here, s = begun
    path = here.base / "report"
    path.write_text(text)
    outcome, _ = building.gate(s, Options(), build_id="b-1", name="validate", report=str(path))
    event = shop.must(outcome).event("build.gate_decided/1")
    assert (verdict, verdict) == (event["verdict"], event["report"]["verdict"])
    kept = shop.records(s)[-1]["evidence"][0]
    assert text == s.evidence.read(kept["blake3"], limit=1 << 20).decode()


@pytest.mark.parametrize("kind", ["absent", "folder", "symlink", "fifo", "device"])
def test_a_gate_without_a_readable_report_is_an_error_on_record(begun, kind):
    here, s = begun
    path, good = here.base / "report", here.base / "good.xml"
    good.write_text(shop.REPORT)
    if kind == "folder":
        path.mkdir()
    elif kind == "symlink":
        path.symlink_to(good)
    elif kind == "fifo":
        os.mkfifo(path)
    elif kind == "device":
        path = Path("/dev/zero")
    outcome, facts = building.gate(s, Options(), build_id="b-1", name="validate", report=str(path))
    assert "ERROR" == shop.must(outcome).event("build.gate_decided/1")["verdict"]
    assert facts["reason"]


@pytest.mark.parametrize(
    ("more", "reason"),
    [
        ({}, ""),
        ({"report": "r", "verdict": "PASS"}, "x"),
        ({"verdict": "PASS"}, ""),
        ({"verdict": "PASS"}, "  "),
        ({"verdict": "MAYBE"}, "x"),
        ({"verdict": "WAIVED"}, "x"),
        ({"verdict": "pass"}, "x"),
    ],
)
def test_a_gate_that_makes_no_sense(begun, more, reason):
    _, s = begun
    before = s.log.head().size
    with pytest.raises(UsageError):
        building.gate(s, Options(reason=reason), build_id="b-1", name="validate", **more)
    assert before == s.log.head().size


def test_one_verdict_a_gate_and_a_repeated_key(begun):
    _, s = begun
    options = Options(key="g", reason="seen")
    first, _ = building.gate(s, options, build_id="b-1", name="validate", verdict="FAIL")
    again, _ = building.gate(s, options, build_id="b-1", name="validate", verdict="FAIL")
    assert first.positions == again.positions
    with pytest.raises(ConflictError):
        building.gate(s, options, build_id="b-1", name="validate", verdict="PASS")
    outcome, _ = building.gate(s, Options(reason="please"), build_id="b-1", name="validate", verdict="PASS")
    shop.refused(outcome, "build.gate_decided")
