"""Intakes, builds, stages and gates: real commands, bad input, cuts, and keys that run nothing twice."""

from __future__ import annotations

import os
import signal
import threading
import time
from pathlib import Path

import pytest
import shop
from muniment.app import building, intaking, packing
from muniment.app.runner import StageInterrupted
from muniment.app.session import Options
from muniment.domain import build
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UsageError,
    WrongError,
)


@pytest.fixture
def begun(here):
    with here.open() as s:
        here.started(s)
        yield here, s


def run(s, *argv, name="ingest", **more):
    options = more.pop("options", Options())
    return building.stage(s, options, build_id="b-1", name=name, argv=list(argv), **more)


def sh(s, script, **more):
    return run(s, "sh", "-c", script, "{input}", "{output}", **more)


def finished(stage):
    return shop.must(stage.finished).event("build.stage_finished/1")


# -- intake --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "kind",
    ["absent", "empty", "symlink out", "absolute link", "fifo", "control", "newline", "bytes", "own store"],
)
def test_an_intake_that_cannot_be_taken_records_nothing(here, kind):
    folder = here.source()
    (here.base / "secret").write_text("outside")
    if kind == "absent":
        folder = here.base / "none"
    elif kind == "empty":
        folder = here.base / "void"
        folder.mkdir()
    elif kind == "symlink out":
        (folder / "link").symlink_to("../secret")
    elif kind == "absolute link":
        (folder / "sub" / "link").symlink_to("/etc/passwd")
    elif kind == "fifo":
        os.mkfifo(folder / "fifo")
    elif kind == "control":
        (folder / "a\x1b[2Jb").write_text("x")
    elif kind == "newline":
        (folder / "a\nb").write_text("x")
    elif kind == "bytes":
        Path(os.fsdecode(bytes(folder) + b"/\xff")).write_text("x")
    else:
        folder = here.base
    with here.open() as s:
        before = s.log.head().size
        with pytest.raises(MunimentError) as caught:
            intaking.add(s, str(folder), Options())
        assert caught.value.exit_code == 2
        assert before == s.log.head().size


@pytest.mark.parametrize("field", ["origin", "authority", "tool"])
@pytest.mark.parametrize("text", ["a\nb", "\x1b[31m", "x" * 1025, "\ud800"])
def test_what_is_said_about_an_intake_is_one_line(here, field, text):
    with here.open() as s:
        with pytest.raises(UsageError) as caught:
            intaking.add(s, str(here.source()), Options(), **{field: text})
        assert caught.value.code == "intake.text"
        assert s.log.head().size == 2
        assert not (here.at / "evidence").exists(), "found out before the files were read"


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
        run(s, "true", name=name)
    with pytest.raises(UsageError):
        building.gate(s, Options(reason="x"), build_id="b-1", name=name, verdict="PASS")
    with pytest.raises((UsageError, NotFoundError)):
        building.state_of(s, name)
    assert before == s.log.head().size


def test_a_file_that_changes_while_it_is_read_fails_the_intake(here):
    folder = here.source()
    (folder / "big").write_bytes(os.urandom(20_000_000))
    stop = threading.Event()

    def scribble():
        while not stop.is_set():
            with (folder / "big").open("r+b") as file:
                file.write(os.urandom(16))
            time.sleep(0.002)

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        with here.open() as s:
            with pytest.raises(UnavailableError):
                intaking.add(s, str(folder), Options())
            assert s.log.head().size == 2
    finally:
        stop.set()
        thread.join()


def test_a_repeated_intake_key(here):
    with here.open() as s:
        first, _, name = intaking.add(s, str(here.source()), shop.key("in"))
        again, _, same = intaking.add(s, str(here.source()), shop.key("in"))
        assert (name, first.positions, True) == (same, again.positions, again.repeated)
        for call in (
            lambda: intaking.add(s, str(here.source("other")), shop.key("in")),
            lambda: intaking.add(s, str(here.source()), shop.key("in"), intake_id="in-other"),
            lambda: intaking.add(s, str(here.source()), shop.key("in"), origin="elsewhere"),
        ):
            with pytest.raises(ConflictError) as caught:
                call()
            assert caught.value.exit_code == 5
        assert s.log.head().size == 3


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
    shop.refused(run(s, "true").started, "build.ended")


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


# -- stages --------------------------------------------------------------------------------------------------------


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
            run(s, *argv)
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
    ended = finished(run(s, "no-such-tool-anywhere"))
    assert ("ERROR", None) == (ended["status"], ended["exit_code"])
    assert "could not start" in ended["reason"]
    assert finished(run(s, "true"))["status"] == "PASS", "an ERROR may be tried again"
    assert "build.stage_decided" == run(s, "true").started.refusal.rule


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
    assert finished(run(s, "true"))["status"] == "PASS"


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
        run(s, "cat", "{out.ingest}/f", name="extract")
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
        run(s, "true")
    assert caught.value.exit_code == 7
    ended = shop.records(s)[-1]
    assert ("build.stage_finished/1", "ERROR") == (ended["type"], ended["data"]["status"])
    blob.write_bytes(kept)
    assert finished(run(s, "true"))["status"] == "PASS"


def test_an_interrupted_stage_is_an_error_on_record(begun):
    _, s = begun
    timer = threading.Timer(0.4, os.kill, (os.getpid(), signal.SIGINT))
    timer.start()
    with pytest.raises(StageInterrupted):
        sh(s, "echo begun; sleep 30")
    timer.join()
    ended = shop.records(s)[-1]["data"]
    assert ("ERROR", "interrupted") == (ended["status"], ended["reason"])
    assert finished(run(s, "true"))["status"] == "PASS"


def test_a_killed_process_leaves_an_unfinished_attempt_and_the_next_one_works(here):
    with here.open() as s:
        here.started(s)
        run(s, "true")
    ready, tell = os.pipe()
    pid = os.fork()
    if pid == 0:
        with here.open() as s:
            run(s, "sh", "-c", f"echo x >&{tell}; sleep 3", name="extract", options=shop.key("cut"))
        os._exit(1)
    deadline = time.monotonic() + 10
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
            run(s, "sh", "-c", f"echo x >&{tell}; sleep 3", name="extract", options=shop.key("cut"))
        assert ("build.attempt_unfinished", 8) == (caught.value.code, caught.value.exit_code)
        with pytest.raises(UsageError):
            building.outputs_of(s, state, "extract")
        shop.refused(run(s, "true", name="resolve").started, "build.stage_blocked")
        assert finished(run(s, "true", name="extract"))["status"] == "PASS"
        shop.sound(s)


@pytest.mark.parametrize(("script", "status"), [("true", "PASS"), ("exit 3", "FAIL"), ("exit 127", "ERROR")])
def test_a_repeated_stage_key_runs_nothing_and_tells_what_was_recorded(begun, script, status):
    here, s = begun
    count = here.base / "count"
    argv = ["sh", "-c", f"echo x >> {count}; echo y > $0/y; {script}", "{output}"]
    first = run(s, *argv, options=shop.key("once"))
    size = s.log.head().size
    again = run(s, *argv, options=shop.key("once"))
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
        lambda: run(s, "true", options=shop.key("once")),
        lambda: run(s, *argv, name="extract", options=shop.key("once")),
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
    staged = run(s, "touch", str(here.base / "ran"), options=Options(dry_run=True))
    assert (0, None) == (staged.started.exit_code, staged.run)
    assert not (here.base / "ran").exists()
    assert before == s.log.head().size


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
