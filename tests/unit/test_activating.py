"""Activation and rollback: what they refuse, what they survive, and what a repeated key gives."""

from __future__ import annotations

import os
import shutil
import threading

import pytest
import shop
from muniment.app import activating, folder
from muniment.app.activation_run import Result
from muniment.app.pack_manifest import MANIFEST
from muniment.app.session import Options
from muniment.domain import channel, release
from muniment.domain.activation_commands import Plan as PlanIt
from muniment.domain.activation_commands import Step, Switch
from muniment.domain.errors import (
    ConflictError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WrongError,
)


@pytest.fixture
def ready(here):
    """A pack is promoted to the slot and nothing is active yet; yields the shop, a session, the pack."""
    with here.open() as s:
        pack = here.pack(s)
        here.declared(s, "prod/stable", "eu", "us")
        here.promoted(s, "r-1", pack)
        yield here, s, pack


def go(s, here, **more):
    options = more.pop("options", Options())
    return activating.activate(s, options, shop.EU, str(here.target()), name="edge-1", **more)


def state(s, name="edge-1"):
    return activating.slot_of(s, shop.EU)[1].targets[name]


# -- the folder ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["", "a\0b", "a\nb", "\x1b[2J", "\ud800"])
def test_a_target_is_named_in_plain_text(ready, name):
    _here, s, _ = ready
    before = s.log.head().size
    with pytest.raises(UsageError, match="not the name of a folder"):
        activating.activate(s, Options(), shop.EU, name)
    assert before == s.log.head().size


@pytest.mark.parametrize("kind", ["file", "symlink", "dangling", "fifo", "no parent"])
def test_a_target_that_is_no_folder_is_refused_before_anything_is_recorded(ready, kind):
    here, s, _ = ready
    place = here.target()
    if kind == "file":
        place.write_text("mine")
    elif kind == "symlink":
        (here.base / "real").mkdir()
        place.symlink_to(here.base / "real")
    elif kind == "dangling":
        place.symlink_to(here.base / "nowhere")
    elif kind == "fifo":
        os.mkfifo(place)
    else:
        place = here.base / "none" / "edge-1"
    before = s.log.head().size
    with pytest.raises(UsageError):
        activating.activate(s, Options(), shop.EU, str(place), name="edge-1")
    assert before == s.log.head().size
    assert kind != "file" or place.read_text() == "mine"
    assert kind != "symlink" or list((here.base / "real").iterdir()) == []


def test_the_place_of_another_slot_or_target_is_refused(ready):
    here, s, _ = ready
    go(s, here)
    before = s.log.head().size
    with pytest.raises(ConflictError, match="the place of another target"):
        activating.activate(s, Options(), "prod/stable/us", str(here.target()), name="edge-1")
    with pytest.raises(ConflictError) as caught:
        activating.activate(s, Options(), shop.EU, str(here.target()), name="edge-2")
    assert caught.value.code == "target.other"
    moved = activating.activate(s, Options(), shop.EU, str(here.target("elsewhere")), name="edge-1")
    assert (6, "activation.target_moved") == (moved.exit_code, moved.refused.refusal.rule)
    assert not here.target("elsewhere").exists()
    assert before + 1 == s.log.head().size


@pytest.mark.parametrize("name", ["Edge", "../x", "a b", "x" * 65, "é"])
def test_a_target_name_is_a_name(ready, name):
    here, s, _ = ready
    with pytest.raises(UsageError):
        activating.activate(s, Options(), shop.EU, str(here.target()), name=name)


def test_a_damaged_target_file_is_refused(ready):
    here, s, _ = ready
    go(s, here)
    (here.target() / "target.json").write_text("{}")
    with pytest.raises(WrongError) as caught:
        go(s, here)
    assert caught.value.code == "target.file"


def test_a_folder_that_others_wrote_in_is_adopted_without_touching_it(ready):
    here, s, _pack = ready
    here.target().mkdir()
    (here.target() / "notes.txt").write_text("mine")
    assert go(s, here).exit_code == 0
    assert (here.target() / "notes.txt").read_text() == "mine"


def test_a_busy_target_is_unavailable_and_nothing_is_switched(ready):
    here, s, _pack = ready
    folder.adopt(_made(here), "edge-1", shop.EU)
    hold, held = threading.Event(), threading.Event()

    def other():
        with folder.locked(here.target()):
            held.set()
            hold.wait(10)

    thread = threading.Thread(target=other)
    thread.start()
    held.wait(10)
    try:
        with pytest.raises(UnavailableError) as caught:
            go(s, here)
        assert caught.value.code == "target.busy"
    finally:
        hold.set()
        thread.join()
    assert folder.read_active(here.target()) is None
    assert go(s, here).state == "CONFIRMED", "the next run goes on with the plan"
    assert shop.types(s).count("activation.planned") == 1


def _made(here):
    here.target().mkdir(exist_ok=True)
    return here.target()


# -- drift ---------------------------------------------------------------------------------------------------------


def test_a_link_changed_by_hand_is_refused_and_named(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.good(s, 2)
        link = here.target() / "active"
        link.unlink()
        link.symlink_to(f"packs/{one[7:]}")
        before = s.log.head().size
        for options in (Options(), Options(dry_run=True)):
            with pytest.raises(WrongError) as caught:
                go(s, here, options=options)
            assert ("target.drift", two, one) == (
                caught.value.code,
                caught.value.context["expected"],
                caught.value.context["found"],
            )
        assert before == s.log.head().size
        here.healthy(s, status="UNHEALTHY")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert ("CONFIRMED", one) == (done.state, done.pack), "a rollback is the way out"
        assert one == state(s).active == activating.active(str(here.target()))["pack"]


@pytest.mark.parametrize("foreign", ["/etc", "../elsewhere", "packs/x", "file"])
def test_a_foreign_link_is_refused(ready, foreign):
    here, s, _ = ready
    go(s, here)
    link = here.target() / "active"
    link.unlink()
    link.write_text("x") if foreign == "file" else link.symlink_to(foreign)
    with pytest.raises(WrongError) as caught:
        go(s, here)
    assert caught.value.code == "target.foreign"
    with pytest.raises(WrongError):
        activating.active(str(here.target()))


def test_a_target_folder_deleted_between_two_runs(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.good(s, 2)
        shutil.rmtree(here.target())
        with pytest.raises(WrongError) as caught:
            activating.activate(s, Options(), shop.EU, str(here.target()))
        assert ("target.drift", "no link") == (caught.value.code, caught.value.context["found"])
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert ("edge-1", one, 0) == (done.target, done.pack, done.exit_code)
        assert one == activating.active(str(here.target()))["pack"]
        assert two != one


def test_a_link_that_points_nowhere_is_wrong(ready):
    here, s, pack = ready
    go(s, here)
    shutil.rmtree(here.target() / "packs" / pack[7:])
    with pytest.raises(WrongError) as caught:
        activating.active(str(here.target()))
    assert caught.value.code == "target.not_installed"


# -- damage --------------------------------------------------------------------------------------------------------


def test_a_damaged_blob_fails_the_fetch_and_leaves_the_link(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        kept = shop.damage(blob := shop.blob_of(s, two))
        result = go(s, here)
        assert ("FETCH_FAILED", 7) == (result.state, result.exit_code)
        assert one == activating.active(str(here.target()))["pack"] == state(s).active
        assert [] == list((here.target() / "staging").iterdir())
        blob.write_bytes(kept)
        assert go(s, here).state == "CONFIRMED"


@pytest.mark.parametrize("how", ["missing", "damaged", "manifest"])
def test_a_rollback_goes_on_to_the_next_candidate_in_the_same_decision(here, how):
    with here.open() as s:
        one, two, three = here.three(s)
        shutil.rmtree(here.target() / "packs" / two[7:])
        blob = shop.blob_of(s, two)
        if how == "manifest":
            fact = next(
                r for r in shop.records(s) if r["type"] == "build.compiled/1" and r["data"]["pack"] == two
            )
            shop.damage(s.evidence.path(fact["evidence"][0]["blake3"]))
        elif how == "damaged":
            shop.damage(blob)
        else:
            blob.unlink()
        before = s.log.head().size
        ((outcome, done),) = activating.rollback(s, Options(), shop.EU)
        assert two == outcome.event("rollback.pack_selected/1")["pack"]
        assert (one, "CONFIRMED", 0) == (done.pack, done.state, done.exit_code)
        told = shop.records(s)[before:]
        failed = next(i for i, r in enumerate(told) if r["type"] == "activation.fetch_failed/1")
        assert ["activation.fetch_failed/1", "rollback.step_failed/1", "rollback.pack_selected/1"] == [
            r["type"] for r in told[failed : failed + 3]
        ]
        assert 3 == told[failed]["batch"]["size"], "one decision"
        assert one == activating.active(str(here.target()))["pack"]
        assert three not in (state(s).active, state(s).rollback_pack)


def test_every_candidate_damaged_is_stuck_and_seven(here):
    with here.open() as s:
        one, two = here.two(s)
        shutil.rmtree(here.target() / "packs" / one[7:])
        shop.damage(shop.blob_of(s, one))
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert ("FETCH_FAILED", 7) == (done.state, done.exit_code)
        assert ("STUCK", two) == (state(s).mode, state(s).active)
        assert two == activating.active(str(here.target()))["pack"], "I9"
        assert "incident.declared" in shop.types(s)


def test_a_damaged_installed_pack_is_never_switched_to(here):
    with here.open() as s:
        one, _ = here.two(s)
        shop.damage(here.target() / "packs" / one[7:] / "a.csv")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert ("STAGE_FAILED", 7) == (done.state, done.exit_code), "a failed stage is no success"
        assert one != state(s).active


def test_the_active_pack_damaged_is_seen_and_a_rollback_leaves_it(here):
    with here.open() as s:
        one, two = here.two(s)
        (here.target() / "packs" / two[7:] / MANIFEST).unlink()
        with pytest.raises(MunimentError):
            activating.active(str(here.target()))
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert (one, 0) == (done.pack, done.exit_code)


# -- which targets a rollback is about ------------------------------------------------------------------------------


@pytest.fixture
def half(here):
    """Three targets good on v2; a and c run the failing v3, b was not reached."""
    with here.open() as s:
        names = ("a", "b", "c")
        one, two = here.good(s, 1, *names), here.good(s, 2, *names)
        three = here.pack(s, "b-3", "3")
        here.promoted(s, "r-3", three)
        for name in ("a", "c"):
            here.activated(s, name)
        here.healthy(s, "a", "DEGRADED")
        yield here, s, (one, two, three)


def runs(s):
    return {name: target.active for name, target in activating.slot_of(s, shop.EU)[1].targets.items()}


def test_a_target_on_a_good_pack_is_not_rolled_back(half):
    _here, s, (_, two, three) = half
    before = s.log.head().size
    answers = activating.rollback(s, shop.key("back"), shop.EU)
    assert [("a", two), ("c", two)] == [(done.target, done.pack) for _, done in answers]
    assert {"a": two, "b": two, "c": two} == runs(s)
    told = shop.records(s)[before:]
    assert all("b" != record["data"].get("target") for record in told)
    left = {r["data"]["pack"] for r in told if r["type"] in ("slot.good_revoked/1", "slot.quarantined/1")}
    assert {three} == left
    before = s.log.head().size
    again = activating.rollback(s, shop.key("back"), shop.EU)
    assert [("a", two), ("c", two)] == [(done.target, done.pack) for _, done in again]
    assert before == s.log.head().size, "told again, and nothing good touched"


@pytest.mark.parametrize("upto", ["selected", "confirmed"])
def test_a_rollback_that_was_cut_goes_on_with_what_still_fails(half, upto):
    here, s, (_, two, _) = half
    command = activating.rollbacks.Request("rb-1", shop.EU, "a", "", "operator")
    shop.must(s.run(command, shop.key("back")))
    if upto == "confirmed":
        here.activated(s, "a")
    answers = activating.rollback(s, shop.key("back"), shop.EU)
    assert ["a", "c"] == [done.target for _, done in answers]
    assert {"a": two, "b": two, "c": two} == runs(s)


def test_nothing_failing_is_refused_and_says_what_runs_where(here):
    with here.open() as s:
        one, two = here.good(s, 1, "a", "b"), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        for _ in range(2):
            ((outcome, done),) = activating.rollback(s, shop.key("k"), shop.EU)
            refusal = shop.refused(outcome, "R5.nothing_failing").refusal
            assert done is None
            assert "--target" in refusal.next
            assert f"a runs {one}, b runs {one}" in refusal.message
        here.healthy(s, "b", "UNHEALTHY")
        names = [
            outcome.event("rollback.no_candidate/1")["target"]
            for outcome, _ in activating.rollback(s, Options(), shop.EU)
        ]
        assert ["a", "b"] == names, "the pack fails on b, so it fails"


def test_a_target_is_as_healthy_as_its_last_report_since_the_switch(here):
    with here.open() as s:
        one = here.good(s, 1)
        here.healthy(s, status="UNHEALTHY")
        here.healthy(s)
        assert ("HEALTHY", one) == (state(s).health.status, state(s).health.pack)
        here.healthy(s, status="DEGRADED")
        assert state(s).health.failed
        here.healthy(s)
        two = here.good(s, 2)
        assert two == state(s).health.pack
        here.healthy(s, status="UNHEALTHY")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert one == done.pack == state(s).active
        assert state(s).health is None, "what was told of it before it came back is no report of now"


def test_a_named_target_is_meant_whatever_it_runs(half):
    _here, s, (one, _two, three) = half
    ((_, done),) = activating.rollback(s, Options(), shop.EU, target="b")
    assert ("b", one) == (done.target, done.pack)
    assert {"a": three, "b": one, "c": three} == runs(s)


def test_a_rollback_of_no_slot_is_not_found(here):
    with here.open() as s:
        before = s.log.head().size
        for options in (Options(), Options(dry_run=True)):
            with pytest.raises(NotFoundError) as caught:
                activating.rollback(s, options, "prod/stable/none")
            assert "R2.no_slot" == caught.value.code
        assert before == s.log.head().size


# -- recovery ------------------------------------------------------------------------------------------------------


def left(s, here, upto: str):
    """Let an activation stand at a state, as a killed run would have left it."""
    place = here.target()
    request = s.request(Options())
    run = activating.Run(s, request, Result(shop.EU, "edge-1", str(place)), place, waive=False, threshold=0)
    assert run.plan("" if not place.is_dir() else folder.read_active(place) or "")
    folder.adopt(place, "edge-1", shop.EU)
    steps = [("FETCHED", run._fetch), ("VERIFIED", run._verify), ("STAGED", run._stage)]
    for state_, step in steps[: ["PLANNED", "FETCHED", "VERIFIED", "STAGED", "SWITCHED"].index(upto)]:
        assert state_ == step()
    if upto == "SWITCHED":
        s.run(Switch(run.result.activation, shop.EU, "edge-1", waive_rollback=False))
    return run.result


STATES = ["PLANNED", "FETCHED", "VERIFIED", "STAGED", "SWITCHED"]


@pytest.mark.parametrize("upto", STATES)
@pytest.mark.parametrize("lost", ["nothing", "staging", "packs", "folder"])
def test_the_next_run_goes_on_whatever_the_target_lost(ready, upto, lost):
    here, s, pack = ready
    begun = left(s, here, upto)
    if lost == "folder":
        shutil.rmtree(here.target())
    elif lost != "nothing":
        for each in (here.target() / lost).iterdir():
            shutil.rmtree(each)
    result = go(s, here)
    assert ("CONFIRMED", 0, upto, begun.activation) == (
        result.state,
        result.exit_code,
        result.resumed,
        result.activation,
    )
    assert pack == activating.active(str(here.target()))["pack"] == state(s).active


def test_half_a_copy_left_by_a_kill_is_fetched_again(ready):
    here, s, _pack = ready
    begun = left(s, here, "VERIFIED")
    next((here.target() / "staging" / begun.activation).rglob("a.csv")).unlink()
    assert go(s, here).state == "CONFIRMED"


def test_a_switch_that_cannot_be_carried_out_is_reverted(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        left(s, here, "SWITCHED")
        shutil.rmtree(here.target() / "packs" / two[7:])
        shop.damage(shop.blob_of(s, two))
        result = go(s, here)
        assert ("REVERTED", 7) == (result.state, result.exit_code)
        assert one == state(s).active == activating.active(str(here.target()))["pack"]


def test_an_activation_nobody_wants_any_more_is_abandoned_and_the_new_one_done(here):
    with here.open() as s:
        one, two, three = here.good(s, 1), here.pack(s, "b-2", "2"), here.pack(s, "b-3", "3")
        shop.must(s.run(release.Create("r-2", two, [release.Stage([shop.EU], 100_000, 0)])))
        here.promoted(s, "r-3", three)
        left(s, here, "STAGED")
        here.healthy(s, status="DEGRADED")
        shop.must(s.run(channel.SetPin(shop.EU, one, "")))
        refused = go(s, here)
        assert refused.exit_code == 6, "pinned meanwhile: refused at the switch"
        assert one == activating.active(str(here.target()))["pack"]


def test_a_rollback_over_an_unconfirmed_switch_ends_with_record_and_link_equal(here):
    with here.open() as s:
        one, two = here.good(s, 1), here.pack(s, "b-2", "2")
        here.promoted(s, "r-2", two)
        left(s, here, "SWITCHED")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert (one, "CONFIRMED", 0) == (done.pack, done.state, done.exit_code)
        assert one == state(s).active == activating.active(str(here.target()))["pack"]
        assert "" == state(s).rollback


def test_two_activations_at_once_end_with_one(ready):
    here, s, pack = ready
    answers = []

    def other():
        with here.open() as mine:
            try:
                answers.append(go(mine, here).exit_code)
            except MunimentError as error:
                answers.append(error.exit_code)

    threads = [threading.Thread(target=other) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert set(answers) <= {0, 5, 6, 8}
    result = go(s, here)
    assert result.exit_code in (0, 6)
    assert pack == state(s).active == activating.active(str(here.target()))["pack"]
    shop.sound(s)


# -- options -------------------------------------------------------------------------------------------------------


def test_a_dry_run_records_and_makes_nothing(ready):
    here, s, pack = ready
    before = s.log.head().size
    result = go(s, here, options=Options(dry_run=True))
    assert (0, pack, "") == (result.exit_code, result.pack, result.state)
    assert before == s.log.head().size
    assert not here.target().exists()
    left(s, here, "FETCHED")
    before = s.log.head().size
    assert "FETCHED" == go(s, here, options=Options(dry_run=True)).resumed
    assert before == s.log.head().size


def test_active_already_is_looked_at_again_and_nothing_is_recorded(ready):
    here, s, pack = ready
    go(s, here)
    before = s.log.head().size
    for options in (Options(), Options(dry_run=True), shop.key("k")):
        again = go(s, here, options=options)
        assert (0, "CONFIRMED", pack) == (again.exit_code, again.state, again.pack)
        assert all(check["verdict"] == "pass" for check in again.checks if check["id"].startswith("file"))
        assert again.checks
    assert before == s.log.head().size


@pytest.mark.parametrize("how", ["byte", "file", "manifest", "folder", "target.json"])
def test_a_damaged_target_is_repaired_and_the_damage_kept(ready, how):
    here, s, pack = ready
    go(s, here)
    installed = here.target() / "packs" / pack[7:]
    if how == "byte":
        shop.damage(installed / "a.csv")
    elif how == "folder":
        shutil.rmtree(installed)
    elif how == "target.json":
        (here.target() / "target.json").unlink()
    else:
        (installed / ("a.csv" if how == "file" else MANIFEST)).unlink()
    dry = go(s, here, options=Options(dry_run=True))
    assert (0, "") == (dry.exit_code, dry.state)
    done = go(s, here)
    assert ("CONFIRMED", 0, pack, pack) == (done.state, done.exit_code, done.pack, done.replaced)
    assert pack == activating.active(str(here.target()))["pack"]
    kept = list((here.target() / "staging").glob("damaged-*"))
    assert (1 if how in ("byte", "file", "manifest") else 0) == len(kept)
    assert "slot.quarantined" not in shop.types(s)
    before = s.log.head().size
    assert 0 == go(s, here).exit_code
    assert before == s.log.head().size


def test_a_repeated_key_gives_the_recorded_activation(ready):
    here, s, pack = ready
    first = go(s, here, options=shop.key("k"))
    before = s.log.head().size
    again = go(s, here, options=shop.key("k"))
    assert (first.activation, "CONFIRMED", 0, pack) == (
        again.activation,
        again.state,
        again.exit_code,
        again.pack,
    )
    assert before == s.log.head().size
    with pytest.raises(ConflictError):
        go(s, here, options=shop.key("k"), waive_rollback=True)
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
    result = go(s, here, options=shop.key("cut"))
    assert ("a-1", "CONFIRMED", "PLANNED") == (result.activation, result.state, result.resumed)
    assert (0, "a-1") == ((again := go(s, here, options=shop.key("cut"))).exit_code, again.activation)


def test_a_repeated_key_of_a_refusal_is_refused_again(here):
    with here.open() as s:
        here.pack(s)
        here.declared(s)
        first = go(s, here, options=shop.key("early"))
        again = go(s, here, options=shop.key("early"))
        assert [6, 6] == [first.exit_code, again.exit_code]
        assert shop.types(s).count("command.refused") == 1


def test_a_repeated_rollback_key_is_finished_and_then_only_told(here):
    with here.open() as s:
        one, _ = here.two(s)
        options = shop.key("back")
        command = activating.rollbacks.Request("rb-1", shop.EU, "edge-1", "", "operator")
        shop.must(s.run(command, options))  # and the process died here
        ((outcome, done),) = activating.rollback(s, options, shop.EU)
        assert (True, one, 0) == (outcome.repeated, done.pack, done.exit_code)
        before = s.log.head().size
        ((_, again),) = activating.rollback(s, options, shop.EU)
        assert ("CONFIRMED", one, 0, before) == (again.state, again.pack, again.exit_code, s.log.head().size)
        with pytest.raises(ConflictError):
            activating.rollback(s, options, shop.EU, trigger="emergency")


def test_a_stale_expectation_is_a_conflict(ready):
    here, s, _ = ready
    with pytest.raises(ConflictError) as caught:
        go(s, here, options=Options(expect=3))
    assert caught.value.code == "decision.expected"
    assert not here.target().exists()
    position = caught.value.context["found"]
    assert go(s, here, options=Options(expect=position)).exit_code == 0
    with pytest.raises(ConflictError):
        activating.rollback(s, Options(expect=position), shop.EU)


@pytest.mark.parametrize(
    ("call", "error"),
    [
        ({"trigger": "because"}, UsageError),
        ({"to": "p1"}, UsageError),
        ({"target": "edge-9"}, NotFoundError),
        ({"target": "/nowhere"}, NotFoundError),
    ],
)
def test_a_rollback_that_makes_no_sense(here, call, error):
    with here.open() as s:
        here.two(s)
        before = s.log.head().size
        with pytest.raises(error):
            activating.rollback(s, Options(), shop.EU, **call)
        assert before == s.log.head().size


def test_an_explicit_target_is_never_substituted(here):
    with here.open() as s:
        _, two = here.two(s)
        for bad in (two, "sha256:" + "0" * 64):
            ((outcome, done),) = activating.rollback(s, Options(), shop.EU, to=bad)
            assert (6, None) == (outcome.exit_code, done)
        assert two == activating.active(str(here.target()))["pack"]


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
    begun = left(s, here, "FETCHED")
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
