"""The stage runner, run with real processes: nothing stays behind, nothing unknown passes."""

from __future__ import annotations

import hashlib
import io
import os
import signal
import subprocess
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest
from kills import Interrupts
from muniment.app.runner import StageInterrupted, StageRun, run_stage
from muniment.app.stage_facts import environment
from muniment.domain.errors import ConflictError, UnavailableError, UsageError


def descriptors() -> list[str]:
    return sorted(path.name for path in Path("/proc/self/fd").iterdir())


@pytest.fixture
def stage(tmp_path):
    """Run `sh -c SCRIPT` in a folder of its own; afterwards no child and no descriptor may be left."""
    before, others = descriptors(), children()
    work = tmp_path / "work"
    work.mkdir()

    def run(script: str, *, argv: list[str] | None = None, **options) -> StageRun:
        given = {"cwd": work, "env": {}, "timeout_s": 20, "log_dir": tmp_path / "logs"} | options
        return run_stage(argv or ["sh", "-c", script], **given)

    yield run
    assert children() == others
    assert descriptors() == before


def children() -> set[str]:
    """Processes that this one has to wait for, ended ones too; a database server for other tests may be among them."""
    found: set[str] = set()
    for task in Path("/proc/self/task").iterdir():
        with suppress(FileNotFoundError):  # a thread that has just ended
            found.update((task / "children").read_text(encoding="ascii").split())
    return found


def gone(pid: int) -> bool:
    """Whether a process has ended, waiting a little: what the group leaves is reaped by init, not by us."""
    for _ in range(3000):
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return True
        except (FileNotFoundError, ProcessLookupError):
            return True
        time.sleep(0.02)
    return False


@pytest.mark.parametrize(
    ("script", "status", "code"),
    [
        ("exit 0", "PASS", 0),
        ("exit 1", "FAIL", 1),
        ("exit 125", "FAIL", 125),
        ("exit 126", "ERROR", 126),
        ("no-such-command", "ERROR", 127),
        ("exit 128", "ERROR", 128),
        ("exit 255", "ERROR", 255),
        ("kill -SEGV $$", "ERROR", -signal.SIGSEGV),
        ("kill -KILL $$", "ERROR", -signal.SIGKILL),
    ],
)
def test_status(stage, script, status, code) -> None:
    run = stage(script)
    assert (run.status, run.exit_code) == (status, code)
    assert (run.reason == "") == (status != "ERROR")


def test_logs_times_and_tool(stage, tmp_path) -> None:
    ticks = iter([1_000_000, 3_000_000])
    tee = io.BytesIO()
    run = stage("echo out; echo err >&2; cat", now=lambda: next(ticks), tee=tee)
    assert run.stdout.path.read_bytes() == b"out\n"
    assert run.stderr.path.read_bytes() == b"err\n"
    assert (run.stdout.bytes, run.stderr.bytes) == (4, 4)
    assert sorted(tee.getvalue().split()) == [b"err", b"out"]
    assert (run.started_at, run.ended_at) == ("1970-01-01T00:00:01.000000Z", "1970-01-01T00:00:03.000000Z")
    data = Path(run.tool.path).read_bytes()
    assert (run.tool.sha256, run.tool.bytes) == (hashlib.sha256(data).hexdigest(), len(data))
    assert 0 < run.wall_us < 20_000_000
    assert run.max_rss_kib > 0
    assert run.rss_floor_kib > 0


def test_cpu_time_is_the_stage_s_own(stage) -> None:
    run = stage("", argv=[sys.executable, "-c", "import time\nwhile time.process_time() < 0.3: pass"])
    assert 250_000 <= run.user_us + run.sys_us < 5_000_000


def test_only_declared_variables(stage, monkeypatch) -> None:
    monkeypatch.setenv("SECRET_TOKEN", "x")
    run = stage("", argv=["env"], env={"A": "1"})
    names = {line.split("=")[0] for line in run.stdout.path.read_text().splitlines()}
    assert names == {"A", "PATH", "LANG", "TZ"}
    assert "LANG=C.UTF-8\n" in run.stdout.path.read_text()
    assert run.environment.declared == ("A",)
    stage_umask = stage("umask", log_dir=run.stdout.path.parent / "two")
    assert stage_umask.stdout.path.read_text() == "0022\n"


def test_session_of_its_own_and_empty_input(stage) -> None:
    read, write = os.pipe()
    os.write(write, b"ours")
    kept = os.dup(0)
    os.dup2(read, 0)
    try:
        run = stage("cut -d' ' -f6 /proc/$$/stat; echo $$; cat")
    finally:
        os.dup2(kept, 0)
        for descriptor in (read, write, kept):
            os.close(descriptor)
    session, leader = run.stdout.path.read_text().split()
    assert session == leader


def test_environment_digest_moves_with_values_only() -> None:
    assert environment({"A": "1", "B": "2"}).digest == environment({"B": "2", "A": "1"}).digest
    assert environment({"A": "1"}).digest != environment({"A": "2"}).digest
    assert environment({"TZ": "Asia/Tokyo"}).timezone == "Asia/Tokyo"


def test_timeout_ends_the_whole_group(stage) -> None:
    run = stage("sleep 60 & echo $! $$; wait", timeout_s=0.4)
    assert (run.status, run.exit_code) == ("ERROR", -signal.SIGTERM)
    assert "timeout" in run.reason
    assert run.wall_us < 5_000_000
    assert all(gone(int(pid)) for pid in run.stdout.path.read_text().split())


def test_stage_that_ignores_sigterm_is_killed(stage) -> None:
    run = stage("trap 'echo asked' TERM; echo up; while :; do sleep 0.05; done", timeout_s=0.4, grace_s=0.4)
    assert run.exit_code == -signal.SIGKILL
    assert "timeout" in run.reason
    assert run.stdout.path.read_text() == "up\nasked\n"


def test_timeout_that_exits_zero_is_no_pass(stage) -> None:
    run = stage("trap 'exit 0' TERM; while :; do sleep 0.05; done", timeout_s=0.4)
    assert (run.status, run.exit_code) == ("ERROR", 0)


def test_process_left_behind_is_killed(stage) -> None:
    run = stage("sleep 60 & echo $!; exit 0")
    assert run.status == "ERROR"
    assert "left a process" in run.reason
    assert gone(int(run.stdout.path.read_text()))


def test_silent_process_left_behind_is_killed(stage) -> None:
    run = stage("sleep 60 >/dev/null 2>&1 & echo $!; exit 0")
    assert run.status == "PASS"
    assert gone(int(run.stdout.path.read_text()))


def test_process_that_left_the_session_does_not_hang_us(stage) -> None:
    run = stage("setsid sleep 6 & exit 0")
    assert run.status == "ERROR"
    assert run.wall_us < 5_000_000


def test_output_limit(stage) -> None:
    run = stage("yes", log_limit=100_000)
    assert (run.status, run.reason) == ("ERROR", "output over 100000 bytes")
    assert run.stdout.path.stat().st_size == run.stdout.bytes == 100_000


def test_output_of_exactly_the_limit_passes(stage) -> None:
    run = stage("printf 12345; printf 678 >&2", log_limit=8)
    assert (run.status, run.stdout.bytes + run.stderr.bytes) == ("PASS", 8)


def test_much_output_on_both_streams(stage) -> None:
    run = stage("head -c 3000000 /dev/zero & head -c 3000000 /dev/zero >&2; wait")
    assert (run.status, run.stdout.bytes, run.stderr.bytes) == ("PASS", 3_000_000, 3_000_000)


def test_broken_tee_changes_nothing(stage) -> None:
    tee = io.BytesIO()
    tee.close()
    assert stage("echo x", tee=tee).status == "PASS"


@pytest.mark.parametrize("argv", [["no-such-tool"], ["./absent"], ["/dev/null"], ["."]])
def test_could_not_start(stage, argv) -> None:
    run = stage("", argv=argv)
    assert (run.status, run.exit_code, run.tool) == ("ERROR", None, None)
    assert "could not start" in run.reason


def test_not_a_program_and_no_folder(stage, tmp_path) -> None:
    tool = tmp_path / "work" / "tool"
    tool.write_bytes(b"\x7fELF nothing")
    tool.chmod(0o755)
    run = stage("", argv=["./tool"])
    assert (run.status, run.exit_code) == ("ERROR", None)
    run = stage("exit 0", cwd=tmp_path / "none", log_dir=tmp_path / "logs2")
    assert (run.status, run.exit_code) == ("ERROR", None)


def test_tool_that_is_replaced_while_it_runs(stage, tmp_path) -> None:
    tool = tmp_path / "work" / "tool"
    tool.write_text("#!/bin/sh\nmv other tool\n")
    tool.chmod(0o755)
    (tool.parent / "other").write_text("#!/bin/sh\nexit 0\n")
    assert "tool changed" in stage("", argv=["./tool"]).reason


def test_outputs(stage, tmp_path) -> None:
    run = stage("mkdir -p out/d; printf b >out/d/b; printf a >out/a", outputs=tmp_path / "work" / "out")
    assert run.status == "PASS"
    assert [(item.path, item.bytes) for item in run.outputs] == [("a", 1), ("d/b", 1)]
    assert run.outputs[0].sha256 == hashlib.sha256(b"a").hexdigest()


@pytest.mark.parametrize(
    "script", ["exit 0", "mkdir out", "mkdir out; ln -s /etc/passwd out/x; echo >out/y", "echo >out"]
)
def test_promised_outputs_that_are_not_there(stage, tmp_path, script) -> None:
    run = stage(script, outputs=tmp_path / "work" / "out")
    assert (run.status, run.exit_code) == ("ERROR", 0)
    assert "output" in run.reason


def test_failed_stage_needs_no_outputs(stage, tmp_path) -> None:
    assert stage("exit 3", outputs=tmp_path / "work" / "out").status == "FAIL"


def test_earlier_attempt_is_never_added_to(stage, tmp_path) -> None:
    out = tmp_path / "work" / "out"
    out.mkdir()
    (out / "stale").write_bytes(b"")
    with pytest.raises(ConflictError):
        stage("exit 0", outputs=out)
    first = stage("echo one")
    with pytest.raises(ConflictError):
        stage("echo two")
    assert first.stdout.path.read_text() == "one\n"


@pytest.mark.parametrize(
    "options",
    [
        {"argv": [""]},
        {"argv": ["a\0b"]},
        {"env": {"A=B": "1"}},
        {"env": {"": "1"}},
        {"env": {"A": "\0"}},
        {"timeout_s": 0},
        {"timeout_s": -1},
        {"timeout_s": float("nan")},
        {"log_limit": 0},
    ],
)
def test_misuse(stage, tmp_path, options) -> None:
    with pytest.raises(UsageError):
        stage("exit 0", **options)
    assert not (tmp_path / "logs").exists()


def test_log_folder_that_cannot_be(stage, tmp_path) -> None:
    (tmp_path / "file").write_bytes(b"")
    with pytest.raises(UnavailableError):
        stage("exit 0", log_dir=tmp_path / "file" / "logs")


def test_interrupt_ends_the_group_and_keeps_the_facts(stage) -> None:
    with pytest.raises(StageInterrupted) as caught:
        stage("echo $$; sleep 60", tee=Interrupts())
    run = caught.value.run
    assert isinstance(caught.value, KeyboardInterrupt)
    assert (run.status, run.reason, run.exit_code) == ("ERROR", "interrupted", -signal.SIGTERM)
    assert gone(int(run.stdout.path.read_text()))


def test_an_interrupt_as_the_stage_starts_leaves_nothing_running(stage, monkeypatch) -> None:
    """It comes when the process is there and nobody has it in hand yet."""
    started = []

    class Interrupted(subprocess.Popen):
        def __init__(self, *args, **more) -> None:
            super().__init__(*args, **more)
            started.append(self.pid)
            signal.raise_signal(signal.SIGINT)

    monkeypatch.setattr(subprocess, "Popen", Interrupted)
    with pytest.raises(StageInterrupted) as caught:
        stage("sleep 60")
    assert (caught.value.run.status, caught.value.run.exit_code is None) == ("ERROR", False)
    assert len(started) == 1
    assert gone(started[0])
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_stage_can_be_interrupted_by_its_own_means(stage) -> None:
    """Nothing of ours stays in it: SIGINT ends it as it ends any process."""
    assert stage("kill -INT $$; sleep 60").exit_code == -signal.SIGINT


def test_progress_that_raises_leaves_nothing_behind(stage) -> None:
    def stop(_: object) -> None:
        raise RuntimeError("stop")

    with pytest.raises(RuntimeError):
        stage("sleep 60", progress=stop)
