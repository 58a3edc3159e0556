"""Runtime folders: whose they are, which run lives, what a dead one left."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from muniment.domain.errors import (
    ConflictError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UnfitError,
    UsageError,
    WrongError,
)
from muniment.ring.place import RunPlace, check_ours, find_run, list_runs, runtime_folder

SHA = "ab" * 32


@pytest.fixture
def runtime(tmp_path: Path) -> Path:
    return tmp_path / "runtime"


def ended(runtime: Path, spec: str = "demo", run: str = "R1", *, rings: tuple[str, ...] = ()) -> None:
    with RunPlace(spec, runtime=runtime) as place:
        place.begin(run, SHA)
        for name in rings:
            (place.folder / name).write_bytes(b"ring")
        place.end()


def died(runtime: Path, spec: str = "demo", run: str = "R1", *, rings: tuple[str, ...] = ("ring",)) -> None:
    with RunPlace(spec, runtime=runtime) as place:
        place.begin(run, SHA)
        for name in rings:
            (place.folder / name).write_bytes(b"ring")


# --- where


@pytest.mark.parametrize(
    ("env", "expected"),
    [
        ({"MUNIMENT_RUNTIME": "/a/b", "XDG_RUNTIME_DIR": "{here}"}, "/a/b"),
        ({"XDG_RUNTIME_DIR": "{here}"}, "{here}/muniment"),
        ({"XDG_RUNTIME_DIR": "run/user"}, "{here}/muniment-{uid}"),
        ({"XDG_RUNTIME_DIR": "{here}/absent"}, "{here}/muniment-{uid}"),
        ({"MUNIMENT_RUNTIME": "", "XDG_RUNTIME_DIR": ""}, "{here}/muniment-{uid}"),
        ({}, "{here}/muniment-{uid}"),
    ],
)
def test_the_first_place_that_is_named_is_taken(tmp_path, env, expected):
    fill = {"here": tmp_path, "uid": os.getuid()}
    env = {name: value.format(**fill) for name, value in env.items()}
    assert Path(expected.format(**fill)) == runtime_folder(env, shm=tmp_path)


def test_without_shared_memory_it_is_the_folder_for_temporary_files(tmp_path, monkeypatch):
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    assert tmp_path / f"muniment-{os.getuid()}" == runtime_folder({}, shm=tmp_path / "absent")


def test_a_folder_is_made_for_us_alone_whatever_the_umask(runtime):
    before = os.umask(0o000)
    try:
        ended(runtime)
    finally:
        os.umask(before)
    assert {0o700} == {path.stat().st_mode & 0o777 for path in (runtime, runtime / "demo")}


@pytest.mark.parametrize("mode", [0o777, 0o720, 0o702, 0o750, 0o701, 0o755])
@pytest.mark.parametrize("inner", [False, True])
def test_a_folder_open_to_others_is_refused(runtime, mode, inner):
    ended(runtime)
    (runtime / "demo" if inner else runtime).chmod(mode)
    for call in (lambda: RunPlace("demo", runtime=runtime), lambda: list_runs(runtime)):
        with pytest.raises(UnfitError) as caught:
            call()
        assert ("runtime.mode", 9, f"{mode:04o}") == (
            caught.value.code,
            caught.value.exit_code,
            caught.value.context["found"],
        )
        assert "chmod 700" in caught.value.hint


@pytest.mark.parametrize("inner", [False, True])
@pytest.mark.parametrize("kind", ["link", "file", "fifo"])
def test_what_is_no_folder_is_refused(runtime, kind, inner):
    where = runtime
    if inner:
        runtime.mkdir(mode=0o700)
        where = runtime / "demo"
    real = runtime.with_name("real")
    real.mkdir(mode=0o700)
    {"link": lambda: where.symlink_to(real), "file": where.touch, "fifo": lambda: os.mkfifo(where)}[kind]()
    with pytest.raises(UnfitError) as caught:
        RunPlace("demo", runtime=runtime)
    assert "runtime.kind" == caught.value.code
    assert [] == list(real.iterdir())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a folder away")
def test_a_folder_of_somebody_else_is_refused(runtime):
    runtime.mkdir(mode=0o700)
    os.chown(runtime, 12345, -1)
    with pytest.raises(UnfitError) as caught:
        RunPlace("demo", runtime=runtime)
    assert ("runtime.owner", "uid 12345") == (caught.value.code, caught.value.context["found"])


def test_a_folder_that_cannot_be_made_is_exit_8(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(UnavailableError):
        RunPlace("demo", runtime=tmp_path / "file" / "runtime")


def test_no_runtime_folder_is_said(tmp_path):
    with pytest.raises(NotFoundError):
        check_ours(tmp_path / "absent")
    assert [] == list_runs(tmp_path / "absent")


@pytest.mark.parametrize(
    "name", ["", "..", "a/b", "A", "-x", "x" * 65, "x\n", "ring.left-1", "x.unread-2", "é"], ids=repr
)
def test_a_name_that_could_name_another_place_is_refused(runtime, name):
    with pytest.raises(UsageError):
        RunPlace(name, runtime=runtime)
    assert not runtime.exists()
    with RunPlace("demo", runtime=runtime, journals=runtime / "j") as place:
        for call in (place.lane, place.journal):
            with pytest.raises(UsageError):
                call(name)


def test_paths(runtime, tmp_path):
    with RunPlace("demo", runtime=runtime, journals=tmp_path / "disk") as place:
        home = runtime / "demo"
        assert [home / "ring", home / "ring-3"] == [place.ring(), place.ring(3)]
        assert home / "lanes" / "in" == place.lane("in")
        assert (home / "lanes").is_dir()
        assert tmp_path / "disk" / "in" == place.journal("in")
    with RunPlace("demo", runtime=runtime) as place, pytest.raises(UsageError) as caught:
        place.journal("in")
    assert "run.no_journals" == caught.value.code


# --- who lives


def test_a_living_run_is_refused_by_pid_and_run(runtime):
    with RunPlace("demo", runtime=runtime) as place:
        place.begin("R1", SHA)
        with pytest.raises(ConflictError) as caught:
            RunPlace("demo", runtime=runtime)
        assert ("run.live", 5, "R1", f"pid {os.getpid()}") == (
            caught.value.code,
            caught.value.exit_code,
            caught.value.context["run"],
            caught.value.context["found"],
        )
        assert "snapshot --run R1" in caught.value.hint
        with RunPlace("other", runtime=runtime):
            pass


def test_a_run_that_has_not_said_who_it_is_is_refused_too(runtime):
    with RunPlace("demo", runtime=runtime), pytest.raises(ConflictError):
        RunPlace("demo", runtime=runtime)


def test_a_killed_run_is_left_over_and_keeps_nobody_out(runtime):
    code = f"""
import sys, time
from pathlib import Path
from muniment.ring.place import RunPlace
place = RunPlace("demo", runtime=Path({str(runtime)!r}))
place.begin("R1", "{SHA}")
place.ring().write_bytes(b"ring")
print("ready", flush=True)
time.sleep(60)
"""
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE) as child:
        assert child.stdout is not None
        child.stdout.readline()
        (run,) = list_runs(runtime)
        assert (True, False, child.pid) == (run.live, run.left_over, run.pid)
        with pytest.raises(ConflictError) as caught:
            RunPlace("demo", runtime=runtime)
        assert f"pid {child.pid}" == caught.value.context["found"]
        child.send_signal(signal.SIGKILL)
        child.wait()
    assert find_run("R1", runtime).left_over
    with RunPlace("demo", runtime=runtime) as place:
        assert place.before.left_over
        assert [place.ring()] == place.before.rings


def test_a_run_that_ended_is_not_left_over(runtime):
    began = time.time_ns()
    ended(runtime, rings=("ring",))
    run = find_run("demo", runtime)
    assert (False, False, "R1", SHA, os.getpid()) == (
        run.live,
        run.left_over,
        run.run,
        run.spec_sha256,
        run.pid,
    )
    assert began < run.started_unix_ns < run.ended_unix_ns < time.time_ns()


def test_rings_without_a_run_are_left_over(runtime):
    with RunPlace("demo", runtime=runtime) as place:
        assert not place.before.left_over
        place.ring().touch()
    assert list_runs(runtime)[0].left_over
    with pytest.raises(WrongError):
        find_run("demo", runtime)


@pytest.mark.parametrize(
    ("run", "sha"), [("", SHA), ("a/b", SHA), ("R" * 65, SHA), ("R1", "AB" * 32), ("R1", "")]
)
def test_a_run_without_a_proper_name_does_not_begin(runtime, run, sha):
    with RunPlace("demo", runtime=runtime) as place:
        with pytest.raises(UsageError):
            place.begin(run, sha)
        with pytest.raises(UsageError):
            place.end()


# --- found


def test_runs_are_found_by_id_and_by_spec(runtime):
    ended(runtime, "demo", "R1")
    died(runtime, "other", "R2", rings=("ring-0", "ring-1"))
    assert ["demo", "other"] == [run.spec for run in list_runs(runtime)]
    assert "R1" == find_run("R1", runtime).run == find_run("demo", runtime).run
    assert ["ring-0", "ring-1"] == [path.name for path in find_run("R2", runtime).rings]


def test_a_run_that_is_not_there_is_exit_3_and_says_what_is(runtime):
    ended(runtime)
    for key in ("R9", "", "demo2", "../demo"):
        with pytest.raises(NotFoundError) as caught:
            find_run(key, runtime)
        assert "demo (R1)" == caught.value.context["found"]


def test_a_name_of_two_runs_is_refused(runtime):
    ended(runtime, "demo", "other")
    ended(runtime, "other", "R2")
    with pytest.raises(ConflictError):
        find_run("other", runtime)
    assert "demo" == find_run("demo", runtime).spec


GOOD = {
    "ended_unix_ns": "0",
    "pid": 12,
    "run": "R1",
    "run_v": 1,
    "spec": "demo",
    "spec_sha256": SHA,
    "started_unix_ns": "5",
}


@pytest.mark.parametrize(
    "change",
    [
        {"run_v": 2},
        {"spec": "other"},
        {"pid": 0},
        {"pid": "12"},
        {"pid": True},
        {"run": "a\u001b[31m"},
        {"run": 7},
        {"spec_sha256": "short"},
        {"started_unix_ns": "soon"},
        {"ended_unix_ns": None},
        *({"-": name} for name in GOOD),
    ],
    ids=str,
)
def test_a_run_file_that_says_something_else_is_exit_7(runtime, change):
    ended(runtime)
    data = {**GOOD, **change}
    data.pop(data.pop("-", ""), None)
    (runtime / "demo" / "run.json").write_text(json.dumps(data))
    with pytest.raises(WrongError) as caught:
        find_run("demo", runtime)
    assert "run.damaged" == caught.value.code
    with RunPlace("demo", runtime=runtime) as place:
        assert place.before.left_over, "what nobody explains is not a clean end"


@pytest.mark.parametrize("raw", [b"", b"[]", b"{", b"null", b"[" * 60_000, b"\xff\xfe", b"1" * 70_000])
def test_a_run_file_that_is_no_json_is_exit_7(runtime, raw):
    ended(runtime)
    (runtime / "demo" / "run.json").write_bytes(raw)
    with pytest.raises(WrongError):
        find_run("demo", runtime)


@pytest.mark.parametrize("kind", ["link", "fifo", "folder"])
def test_a_run_file_that_is_no_file_is_exit_7_and_hangs_nobody(runtime, kind):
    ended(runtime)
    path = runtime / "demo" / "run.json"
    path.rename(runtime / "elsewhere")
    {
        "link": lambda: path.symlink_to(runtime / "elsewhere"),
        "fifo": lambda: os.mkfifo(path),
        "folder": path.mkdir,
    }[kind]()
    with pytest.raises(WrongError):
        find_run("demo", runtime)


# --- what is left


def test_a_left_ring_is_set_aside_and_the_last_three_are_kept(runtime):
    died(runtime, rings=("ring",))
    made = []
    with RunPlace("demo", runtime=runtime) as place:
        for turn in range(5):
            place.ring().write_bytes(b"%d" % turn)
            made.append(place.set_aside(place.ring(), captured=True))
            assert not place.ring().exists()
        assert made[-3:] == sorted(place.folder.glob("ring.left-*"))
        assert [b"2", b"3", b"4"] == [path.read_bytes() for path in made[-3:]]


def test_what_could_not_be_captured_is_never_removed(runtime):
    with RunPlace("demo", runtime=runtime) as place:
        lane = place.lane("in")
        for turn in range(9):
            lane.write_bytes(b"%d" % turn)
            place.set_aside(lane, captured=turn >= 5)
        assert 5 == len(list(lane.parent.glob("in.unread-*")))
        assert 3 == len(list(lane.parent.glob("in.left-*")))
    assert [] == list_runs(runtime)[0].rings


def test_only_what_is_of_this_run_is_set_aside(runtime, tmp_path):
    (tmp_path / "precious").touch()
    with RunPlace("demo", runtime=runtime) as place:
        for path in (tmp_path / "precious", place.folder / "lanes" / ".." / ".." / "x", runtime / "demo"):
            with pytest.raises(UsageError):
                place.set_aside(path, captured=True)
        with pytest.raises(MunimentError):
            place.set_aside(place.ring(), captured=True)
    assert (tmp_path / "precious").exists()


def test_rings_of_a_run_that_ended_are_cleared_and_those_of_a_dead_one_are_not(runtime):
    died(runtime, rings=("ring-0", "ring-1"))
    with RunPlace("demo", runtime=runtime) as place:
        with pytest.raises(ConflictError) as caught:
            place.clear()
        assert ("run.left_over", "ring-0, ring-1") == (caught.value.code, caught.value.context["found"])
        for path in place.before.rings:
            place.set_aside(path, captured=True)
        place.clear()
    ended(runtime, rings=("ring",))
    with RunPlace("demo", runtime=runtime) as place:
        place.clear()
        assert not place.ring().exists()
        assert 2 == len(list(place.folder.glob("*.left-*")))
