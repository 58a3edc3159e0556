"""Stages of a build: real commands, their outputs, cuts, and keys that run nothing twice."""

from __future__ import annotations

import os
import signal
import time

import pytest
import shop
from kills import Interrupts
from muniment.app import building, packing
from muniment.app.runner import StageInterrupted
from muniment.app.session import Options
from muniment.domain.errors import ConflictError, InvalidError, UnavailableError, UsageError, WrongError


def sh(s, script, **more):
    return shop.stage(s, "sh", "-c", script, "{input}", "{output}", **more)


def finished(stage):
    return shop.must(stage.finished).event("build.stage_finished/1")


@pytest.mark.parametrize(
    "more",
    [
        {"argv": []},
        {"argv": [""]},
        {"argv": ["a\0b"]},
        {"argv": ["echo", "\ud800"]},
        {"argv": ["echo", "{out.ingest}"]},
        {"argv": ["true"], "env": {"A=B": "c"}},
        {"argv": ["true"], "env": {"": "c"}},
        {"argv": ["true"], "env": {"A": "\0"}},
        {"argv": ["true"], "timeout_s": 0},
        {"argv": ["true"], "timeout_s": float("nan")},
        {"argv": ["true"], "timeout_s": -1},
    ],
)
def test_a_stage_that_makes_no_sense_records_nothing(begun, more):
    _, s = begun
    before = s.log.head().size
    with pytest.raises(UsageError) as caught:
        building.stage(s, Options(), build_id="b-1", name="ingest", **more)
    assert caught.value.exit_code == 2
    assert before == s.log.head().size


def test_a_huge_command_is_invalid_and_nothing_runs(begun):
    here, s = begun
    before = s.log.head().size
    for argv in (
        ["touch", str(here.base / "ran"), "x" * 70_000],
        ["touch", str(here.base / "ran"), *["x"] * 600],
    ):
        with pytest.raises(InvalidError):
            shop.stage(s, *argv)
    assert before == s.log.head().size
    assert not (here.base / "ran").exists()


@pytest.mark.parametrize(
    ("script", "status", "exit_code"),
    [
        ("exit 0", "PASS", 0),
        ("exit 1", "FAIL", 1),
        ("exit 125", "FAIL", 125),
        ("exit 126", "ERROR", 126),
        ("kill -9 $$", "ERROR", -9),
    ],
)
def test_what_an_exit_code_means(begun, script, status, exit_code):
    _, s = begun
    ended = finished(sh(s, script))
    assert (status, exit_code) == (ended["status"], ended["exit_code"])
    assert ended["outputs"] == []


def test_a_stage_that_cannot_start_is_an_error_on_record(begun):
    _, s = begun
    ended = finished(shop.stage(s, "no-such-tool-anywhere"))
    assert ("ERROR", None) == (ended["status"], ended["exit_code"])
    assert "could not start" in ended["reason"]
    assert finished(shop.stage(s, "true"))["status"] == "PASS", "an ERROR may be tried again"
    assert "build.stage_decided" == shop.stage(s, "true").started.refusal.rule


def test_a_stage_that_takes_too_long(begun):
    _, s = begun
    began = time.monotonic()
    ended = finished(sh(s, "echo before; sleep 30", timeout_s=0.3))
    assert time.monotonic() - began < 10
    assert "ERROR" == ended["status"]
    assert "timeout" in ended["reason"]


def test_a_stage_sees_the_intake_and_nothing_it_was_not_told(begun, monkeypatch):
    here, s = begun
    monkeypatch.setenv("SECRET", "s3cret")
    staged = sh(s, "cat $0/a.csv; ls $0 $1; env; pwd; echo $GIVEN > $1/given", env={"GIVEN": "told"})
    text = staged.run.stdout.path.read_text()
    assert "a,b\n1,1\n" in text
    assert "s3cret" not in text
    assert "told\n" == (staged.outputs / "given").read_text()
    assert not list(here.at.glob("work/*/*/input")), "the input is gone afterwards"
    roles = {item["role"] for item in shop.records(s)[-1]["evidence"]}
    assert {"stage-stdout", "stage-stderr", "outputs-manifest"} == roles
    begin = next(r for r in shop.records(s) if r["type"] == "build.stage_started/1")
    assert "{input}" in begin["data"]["argv"], "placeholders are recorded, not paths of this host"
    shop.sound(s)


def test_outputs_are_named_up_to_a_bound_and_all_in_the_manifest(begun):
    _, s = begun
    name = "é" * 120
    staged = sh(s, f"for i in $(seq 1 80); do mkdir -p $1/{name}; echo $i > $1/{name}/{name}$i; done")
    ended = finished(staged)
    assert 0 < len(ended["outputs"]) <= 50
    fact = s.facts((building.Item(("build.stage_finished/1",), ("build:b-1",)),))[-1]
    assert 80 == len(building.named_manifest(s, fact, "outputs-manifest")["files"])
    assert building.outputs_of(s, building.state_of(s, "b-1"), "ingest") == staged.outputs


@pytest.mark.parametrize(
    "script",
    [
        "ln -s /etc $1/etc",
        "mkfifo $1/pipe",
        "rmdir $1",
        "rmdir $1 && ln -s /etc $1",
        "rmdir $1 && echo x > $1",
        "touch \"$1/$(printf 'a\\033b')\"",
    ],
)
def test_outputs_that_cannot_be_kept_are_an_error(begun, script):
    _, s = begun
    ended = finished(sh(s, script))
    assert ("ERROR", 0, []) == (ended["status"], ended["exit_code"], ended["outputs"])
    assert "outputs" in ended["reason"]
    with pytest.raises(UsageError):
        building.outputs_of(s, building.state_of(s, "b-1"), "ingest")
    assert finished(shop.stage(s, "true"))["status"] == "PASS"


@pytest.mark.parametrize("change", ["edit", "add", "remove", "link"])
def test_outputs_that_were_changed_since_are_not_used(begun, change):
    _here, s = begun
    staged = sh(s, "echo one > $1/f; echo two > $1/g")
    if change == "edit":
        (staged.outputs / "f").write_text("ONE\n")
    elif change == "add":
        (staged.outputs / "h").write_text("x")
    elif change == "remove":
        (staged.outputs / "g").unlink()
    else:
        (staged.outputs / "g").unlink()
        (staged.outputs / "g").symlink_to("f")
    before = s.log.head().size
    with pytest.raises((WrongError, UsageError)) as caught:
        shop.stage(s, "cat", "{out.ingest}/f", name="extract")
    assert change == "link" or caught.value.code == "build.outputs_changed"
    with pytest.raises((WrongError, UsageError)):
        packing.create(s, Options(), "{out.ingest}", build_id="b-1")
    assert before == s.log.head().size


def test_a_damaged_input_is_seven_and_the_attempt_is_an_error(begun):
    _, s = begun
    manifest = building.intake_manifest(s, building.state_of(s, "b-1").intake)
    blob = s.evidence.path(manifest["files"][0]["blake3"])
    kept = shop.damage(blob)
    with pytest.raises(WrongError) as caught:
        shop.stage(s, "true")
    assert caught.value.exit_code == 7
    ended = shop.records(s)[-1]
    assert ("build.stage_finished/1", "ERROR") == (ended["type"], ended["data"]["status"])
    blob.write_bytes(kept)
    assert finished(shop.stage(s, "true"))["status"] == "PASS"


def test_an_interrupted_stage_is_an_error_on_record(begun):
    _, s = begun
    with pytest.raises(StageInterrupted):
        sh(s, "echo begun; sleep 60", tee=Interrupts())
    ended = shop.records(s)[-1]["data"]
    assert ("ERROR", "interrupted") == (ended["status"], ended["reason"])
    assert finished(shop.stage(s, "true"))["status"] == "PASS"


def test_a_killed_process_leaves_an_unfinished_attempt_and_the_next_one_works(here):
    with here.open() as s:
        here.started(s)
        shop.stage(s, "true")
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with here.open() as s:
            shop.stage(s, "sh", "-c", f"echo x >&{tell}; sleep 10", name="extract", options=shop.key("cut"))
        os._exit(1)
    deadline = time.monotonic() + 60
    with here.open() as s:
        while "build.stage_started" not in shop.types(s)[-1:] and time.monotonic() < deadline:
            time.sleep(0.01)
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        os.close(tell)
        state = building.state_of(s, "b-1")
        assert [""] == [attempt.status for attempt in state.stages["extract"]]
        with pytest.raises(UnavailableError) as caught:
            shop.stage(s, "sh", "-c", f"echo x >&{tell}; sleep 10", name="extract", options=shop.key("cut"))
        assert ("build.attempt_unfinished", 8) == (caught.value.code, caught.value.exit_code)
        with pytest.raises(UsageError):
            building.outputs_of(s, state, "extract")
        shop.refused(shop.stage(s, "true", name="resolve").started, "build.stage_blocked")
        assert finished(shop.stage(s, "true", name="extract"))["status"] == "PASS"
        shop.sound(s)


@pytest.mark.parametrize(("script", "status"), [("true", "PASS"), ("exit 3", "FAIL"), ("exit 127", "ERROR")])
def test_a_repeated_stage_key_runs_nothing_and_tells_what_was_recorded(begun, script, status):
    here, s = begun
    count = here.base / "count"
    argv = ["sh", "-c", f"echo x >> {count}; echo y > $0/y; {script}", "{output}"]
    first = shop.stage(s, *argv, options=shop.key("once"))
    size = s.log.head().size
    again = shop.stage(s, *argv, options=shop.key("once"))
    assert "x\n" == count.read_text()
    assert size == s.log.head().size
    assert (status, first.finished.positions, first.outputs) == (
        again.run.status,
        again.finished.positions,
        again.outputs,
    )
    assert again.started.repeated
    assert (first.run.exit_code, first.run.wall_us) == (again.run.exit_code, again.run.wall_us)
    for call in (
        lambda: shop.stage(s, "true", options=shop.key("once")),
        lambda: shop.stage(s, *argv, name="extract", options=shop.key("once")),
        lambda: building.gate(
            s, Options(key="once", reason="r"), build_id="b-1", name="validate", verdict="PASS"
        ),
    ):
        with pytest.raises(ConflictError):
            call()
    assert "x\n" == count.read_text()


def test_a_dry_run_of_a_stage_runs_nothing(begun):
    here, s = begun
    before = s.log.head().size
    staged = shop.stage(s, "touch", str(here.base / "ran"), options=Options(dry_run=True))
    assert (0, None) == (staged.started.exit_code, staged.run)
    assert not (here.base / "ran").exists()
    assert before == s.log.head().size
