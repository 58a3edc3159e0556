"""Options of an activation: dry runs, repeated keys, expectations; what is active already; exit codes."""

from __future__ import annotations

import shutil

import pytest
import shop
from muniment.app import activating, folder
from muniment.app.activation_run import Result
from muniment.app.pack_manifest import MANIFEST
from muniment.app.session import Options
from muniment.domain.activation_commands import Plan as PlanIt
from muniment.domain.activation_commands import Step
from muniment.domain.errors import ConflictError, NotFoundError


def test_a_dry_run_records_and_makes_nothing(ready):
    here, s, pack = ready
    before = s.log.head().size
    result = here.activate(s, options=Options(dry_run=True))
    assert (0, pack, "") == (result.exit_code, result.pack, result.state)
    assert before == s.log.head().size
    assert not here.target().exists()
    here.left(s, "FETCHED")
    before = s.log.head().size
    assert "FETCHED" == here.activate(s, options=Options(dry_run=True)).resumed
    assert before == s.log.head().size


def test_active_already_is_looked_at_again_and_nothing_is_recorded(ready):
    here, s, pack = ready
    here.activate(s)
    before = s.log.head().size
    for options in (Options(), Options(dry_run=True), shop.key("k")):
        again = here.activate(s, options=options)
        assert (0, "CONFIRMED", pack) == (again.exit_code, again.state, again.pack)
        assert all(check["verdict"] == "pass" for check in again.checks if check["id"].startswith("file"))
        assert again.checks
    assert before == s.log.head().size


@pytest.mark.parametrize("how", ["byte", "file", "manifest", "folder", "target.json"])
def test_a_damaged_target_is_repaired_and_the_damage_kept(ready, how):
    here, s, pack = ready
    here.activate(s)
    installed = here.target() / "packs" / pack[7:]
    if how == "byte":
        shop.damage(installed / "a.csv")
    elif how == "folder":
        shutil.rmtree(installed)
    elif how == "target.json":
        (here.target() / "target.json").unlink()
    else:
        (installed / ("a.csv" if how == "file" else MANIFEST)).unlink()
    dry = here.activate(s, options=Options(dry_run=True))
    assert (0, "") == (dry.exit_code, dry.state)
    done = here.activate(s)
    assert ("CONFIRMED", 0, pack, pack) == (done.state, done.exit_code, done.pack, done.replaced)
    assert pack == activating.active(str(here.target()))["pack"]
    kept = list((here.target() / "staging").glob("damaged-*"))
    assert (1 if how in ("byte", "file", "manifest") else 0) == len(kept)
    assert "slot.quarantined" not in shop.types(s)
    before = s.log.head().size
    assert 0 == here.activate(s).exit_code
    assert before == s.log.head().size


def test_a_repeated_key_gives_the_recorded_activation(ready):
    here, s, pack = ready
    first = here.activate(s, options=shop.key("k"))
    before = s.log.head().size
    again = here.activate(s, options=shop.key("k"))
    assert (first.activation, "CONFIRMED", 0, pack) == (
        again.activation,
        again.state,
        again.exit_code,
        again.pack,
    )
    assert before == s.log.head().size
    with pytest.raises(ConflictError):
        here.activate(s, options=shop.key("k"), waive_rollback=True)
    with pytest.raises(ConflictError):
        activating.activate(s, shop.key("k"), "prod/stable/us", str(here.target("t")))
    with pytest.raises(ConflictError):
        activating.rollback(s, shop.key("k"), shop.EU)
    assert before == s.log.head().size


def test_a_repeated_key_finishes_what_a_cut_left_open(ready):
    here, s, _pack = ready
    request = s.request(shop.key("cut"))
    shop.must(
        s.run(PlanIt("a-1", shop.EU, "edge-1", str(here.target()), "folder", "", False), request=request)
    )
    result = here.activate(s, options=shop.key("cut"))
    assert ("a-1", "CONFIRMED", "PLANNED") == (result.activation, result.state, result.resumed)
    assert (0, "a-1") == ((again := here.activate(s, options=shop.key("cut"))).exit_code, again.activation)


def test_a_repeated_key_of_a_refusal_is_refused_again(here):
    with here.open() as s:
        here.pack(s)
        here.declared(s)
        first = here.activate(s, options=shop.key("early"))
        again = here.activate(s, options=shop.key("early"))
        assert [6, 6] == [first.exit_code, again.exit_code]
        assert shop.types(s).count("command.refused") == 1


def test_a_stale_expectation_is_a_conflict(ready):
    here, s, _ = ready
    with pytest.raises(ConflictError) as caught:
        here.activate(s, options=Options(expect=3))
    assert caught.value.code == "decision.expected"
    assert not here.target().exists()
    position = caught.value.context["found"]
    assert here.activate(s, options=Options(expect=position)).exit_code == 0
    with pytest.raises(ConflictError):
        activating.rollback(s, Options(expect=position), shop.EU)


@pytest.mark.parametrize(
    ("result", "exit_code"),
    [
        (Result("s", "t", "l"), 8),
        (Result("s", "t", "l", state="SWITCHED"), 8),
        (Result("s", "t", "l", state="ABANDONED"), 8),
        (Result("s", "t", "l", state="STAGE_FAILED"), 7),
        (Result("s", "t", "l", state="REVERTED"), 7),
        (Result("s", "t", "l", dry_run=True), 0),
        (Result("s", "t", "l", state="CONFIRMED"), 0),
    ],
)
def test_only_confirmed_is_zero(result, exit_code):
    assert exit_code == result.exit_code


def test_a_step_out_of_order_is_refused(ready):
    here, s, _ = ready
    begun = here.left(s, "FETCHED")
    outcome = s.run(Step(begun.activation, shop.EU, "edge-1", "staged", {}))
    shop.refused(outcome, "activation.step")


@pytest.mark.parametrize("what", ["absent", "empty", "no target"])
def test_active_says_nothing_it_does_not_know(here, what):
    place = here.target()
    if what != "absent":
        place.mkdir()
    if what == "empty":
        folder.adopt(place, "edge-1", shop.EU)
    with pytest.raises(NotFoundError):
        activating.active(str(place))
