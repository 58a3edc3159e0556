"""Activation: which targets it refuses, and a link or folder that was changed by hand."""

from __future__ import annotations

import os
import shutil
import threading

import pytest
import shop
from muniment.app import activating, folder
from muniment.app.session import Options
from muniment.domain.errors import ConflictError, UnavailableError, UsageError, WrongError

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
    here.activate(s)
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
    here.activate(s)
    (here.target() / "target.json").write_text("{}")
    with pytest.raises(WrongError) as caught:
        here.activate(s)
    assert caught.value.code == "target.file"


def test_a_folder_that_others_wrote_in_is_adopted_without_touching_it(ready):
    here, s, _pack = ready
    here.target().mkdir()
    (here.target() / "notes.txt").write_text("mine")
    assert here.activate(s).exit_code == 0
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
            here.activate(s)
        assert caught.value.code == "target.busy"
    finally:
        hold.set()
        thread.join()
    assert folder.read_active(here.target()) is None
    assert here.activate(s).state == "CONFIRMED", "the next run goes on with the plan"
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
                here.activate(s, options=options)
            assert ("target.drift", two, one) == (
                caught.value.code,
                caught.value.context["expected"],
                caught.value.context["found"],
            )
        assert before == s.log.head().size
        here.healthy(s, status="UNHEALTHY")
        ((_, done),) = activating.rollback(s, Options(), shop.EU)
        assert ("CONFIRMED", one) == (done.state, done.pack), "a rollback is the way out"
        assert one == shop.state(s).active == activating.active(str(here.target()))["pack"]


@pytest.mark.parametrize("foreign", ["/etc", "../elsewhere", "packs/x", "file"])
def test_a_foreign_link_is_refused(ready, foreign):
    here, s, _ = ready
    here.activate(s)
    link = here.target() / "active"
    link.unlink()
    link.write_text("x") if foreign == "file" else link.symlink_to(foreign)
    with pytest.raises(WrongError) as caught:
        here.activate(s)
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
    here.activate(s)
    shutil.rmtree(here.target() / "packs" / pack[7:])
    with pytest.raises(WrongError) as caught:
        activating.active(str(here.target()))
    assert caught.value.code == "target.not_installed"
