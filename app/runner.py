"""Run one build stage and say what happened: exit, logs, outputs, resource use, tool, environment.

Rules:
1. The stage sees the declared variables and PATH, LANG=C.UTF-8, TZ=UTC; standard input is empty; umask is
   022.
2. PASS is exit 0 and nothing else. FAIL is exit 1..125: the stage said no. Everything else is ERROR, it could
   not decide: not started, killed, timeout, exit 126 and up, too much output, promised outputs absent, tool
   replaced.
3. The stage is a session of its own. When its first process ends, when time is up and when we are
   interrupted, what is left of the group is killed before the outputs are read. The group is signalled while
   its leader is not yet reaped, so the number cannot belong to anybody else.
4. Logs and the outputs folder belong to one attempt: files of an earlier one are refused, never added to.

A process that leaves the session (setsid) is not killed; if it holds a log pipe open that is said in
`reason`. `max_rss_kib` counts the largest process. Linux starts it at what the forking process held, so a
small tool is never measured below `rss_floor_kib`, the peak of this process.
"""

from __future__ import annotations

import math
import os
import resource
import selectors
import signal
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, BinaryIO, Literal, NamedTuple

from muniment.app import clock
from muniment.app.interrupts import held_back
from muniment.app.stage_facts import (
    BASE_ENV,
    Environment,
    OutputFile,
    Tool,
    collect,
    environment,
    resolve,
    tool_of,
)
from muniment.domain import instant
from muniment.domain.errors import ConflictError, UnavailableError, UsageError

LOG_LIMIT = 1 << 30
GRACE_S = 5.0  # between SIGTERM and SIGKILL
DRAIN_S = 1.0  # for output still in the pipes when the first process has ended
_CHUNK = 1 << 16

Status = Literal["PASS", "FAIL", "ERROR"]


class Progress(NamedTuple):
    """Told about once a second: microseconds run, bytes of output."""

    elapsed_us: int
    log_bytes: int


class LogFile(NamedTuple):
    """What the stage wrote to one stream, up to the limit."""

    path: Path
    bytes: int


class StageRun(NamedTuple):
    """The outcome of one attempt.

    Attributes:
        exit_code: a signal is negative; None if it never started.
        reason: "" on PASS and on a plain FAIL, else why it is ERROR.
        wall_us, user_us, sys_us, max_rss_kib: as `os.wait4` counts them, 0 if it never started.
    """

    status: Status
    exit_code: int | None
    reason: str
    argv: tuple[str, ...]
    stdout: LogFile
    stderr: LogFile
    outputs: tuple[OutputFile, ...]
    wall_us: int
    user_us: int
    sys_us: int
    max_rss_kib: int
    rss_floor_kib: int
    tool: Tool | None
    environment: Environment
    started_at: str
    ended_at: str


class StageInterrupted(KeyboardInterrupt):
    """The stage was ended because we were interrupted; `run` says what it had done."""

    def __init__(self, run: StageRun) -> None:
        super().__init__("stage interrupted")
        self.run = run


def run_stage(
    argv: Sequence[str],
    *,
    cwd: Path,
    env: Mapping[str, str],
    timeout_s: float | None,
    log_dir: Path,
    outputs: Path | None = None,
    progress: Callable[[Progress], None] | None = None,
    tee: BinaryIO | None = None,
    log_limit: int = LOG_LIMIT,
    grace_s: float = GRACE_S,
    now: Callable[[], int] = clock.now,
) -> StageRun:
    """Run a command to its end and return what happened; a command that fails or cannot start is an answer.

    Args:
        env: declared variables; they override the three of rule 1.
        timeout_s: None for no limit.
        log_dir: gets the files `stdout` and `stderr`; made if absent.
        outputs: folder the stage promises to fill; absent or empty beforehand, read afterwards.
        tee: a binary stream that also gets the output, e.g. `sys.stderr.buffer`; dropped if it breaks.
        log_limit: bytes of both streams together; one more is ERROR.
        now: microseconds since 1970.

    Raises:
        UsageError: no command, a variable that cannot be passed, or a limit that is not positive.
        ConflictError: logs or outputs of an earlier attempt are there.
        UnavailableError: a log or an output could not be written or read.
        StageInterrupted: an interrupt arrived; the group is gone and reaped.
    """
    _check(argv, env, timeout_s, log_limit)
    _check_unused(log_dir, outputs)
    full_env = {**BASE_ENV, **env}
    attempt = _Attempt(argv, cwd, full_env, log_limit, grace_s, tee, progress)
    path = resolve(argv[0], cwd, full_env["PATH"])
    before = tool_of(path)
    started = now()
    try:
        log_dir.mkdir(parents=True, exist_ok=True)
        with (log_dir / "stdout").open("xb") as out, (log_dir / "stderr").open("xb") as err:
            attempt.run(path, timeout_s, (out, err))
    except OSError as error:
        raise UnavailableError(
            f"stage log not written: {error.strerror}", code="stage.log", where=str(log_dir)
        ) from error
    ended = now()
    produced: tuple[OutputFile, ...] = ()
    if outputs is not None:
        produced, problem = collect(outputs)
        if problem and attempt.exit_code == 0:
            attempt.blame(problem)
    if before is not None and attempt.exit_code is not None and tool_of(path) != before:
        attempt.blame(f"tool changed while it ran: {before.path}")
    usage = attempt.usage
    run = StageRun(
        status=attempt.status(),
        exit_code=attempt.exit_code,
        reason=attempt.reason,
        argv=tuple(argv),
        stdout=LogFile(log_dir / "stdout", attempt.written[0]),
        stderr=LogFile(log_dir / "stderr", attempt.written[1]),
        outputs=produced,
        wall_us=attempt.wall_us,
        user_us=round(usage.ru_utime * 1_000_000) if usage else 0,
        sys_us=round(usage.ru_stime * 1_000_000) if usage else 0,
        max_rss_kib=usage.ru_maxrss if usage else 0,
        rss_floor_kib=attempt.rss_floor_kib,
        tool=before,
        environment=environment(env),
        started_at=instant.from_micros(started),
        ended_at=instant.from_micros(ended),
    )
    if attempt.interrupted:
        raise StageInterrupted(run)
    return run


class _Attempt:
    """One child from start to reaped: the loop over its two pipes and its pidfd."""

    def __init__(
        self,
        argv: Sequence[str],
        cwd: Path,
        env: Mapping[str, str],
        limit: int,
        grace_s: float,
        tee: BinaryIO | None,
        progress: Callable[[Progress], None] | None,
    ) -> None:
        self._argv, self._cwd, self._env = list(argv), cwd, dict(env)
        self._limit, self._grace_s, self._tee, self._progress = limit, grace_s, tee, progress
        self.exit_code: int | None = None
        self.reason = ""
        self.interrupted = False
        self.written = [0, 0]
        self.wall_us = 0
        self.usage: Any = None
        self.rss_floor_kib = 0

    def status(self) -> Status:
        """Rule 2."""
        if self.reason or self.exit_code is None:
            return "ERROR"
        return "PASS" if self.exit_code == 0 else "FAIL"

    def blame(self, reason: str) -> None:
        """Keep the first reason: what follows is often its consequence."""
        self.reason = self.reason or reason

    def run(self, path: str | None, timeout_s: float | None, logs: tuple[BinaryIO, BinaryIO]) -> None:
        """Start, follow and reap; an exception leaves no process behind."""
        self.rss_floor_kib = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        if path is None:
            self.blame(f"could not start: no executable {self._argv[0]}")
            return
        begun, child = time.monotonic(), None
        try:
            with held_back():  # or it would hit between the start of the stage and the knowledge of it
                child = subprocess.Popen(
                    self._argv,
                    executable=path,
                    cwd=self._cwd,
                    env=self._env,
                    stdin=subprocess.DEVNULL,
                    stdout=subprocess.PIPE,
                    stderr=subprocess.PIPE,
                    bufsize=0,
                    start_new_session=True,
                    umask=0o022,
                )
            self._follow(child, begun, timeout_s, logs)
        except OSError as error:
            if child is not None:
                raise
            self.blame(f"could not start: {error.strerror}: {error.filename or path}")
        except KeyboardInterrupt:
            self.interrupted = True
            self.blame("interrupted")
        finally:
            if child is not None:
                self._reap(child)
                self.wall_us = round((time.monotonic() - begun) * 1_000_000)

    def _follow(
        self,
        child: subprocess.Popen[bytes],
        begun: float,
        timeout_s: float | None,
        logs: tuple[BinaryIO, BinaryIO],
    ) -> None:
        """Read until the first process ends; SIGTERM at `stop_at`, SIGKILL one grace later."""
        stop_at = math.inf if timeout_s is None else begun + timeout_s
        kill_at = math.inf
        told = begun
        pidfd = os.pidfd_open(child.pid)
        with selectors.DefaultSelector() as selector:
            try:
                selector.register(pidfd, selectors.EVENT_READ, -1)
                for index, pipe in enumerate((child.stdout, child.stderr)):
                    assert pipe is not None
                    selector.register(pipe, selectors.EVENT_READ, index)
                while pidfd in selector.get_map():
                    try:
                        moment = time.monotonic()
                        if moment >= min(stop_at, kill_at):
                            self.blame(f"timeout after {timeout_s} s")
                            _kill(child, signal.SIGTERM if kill_at == math.inf else signal.SIGKILL)
                            kill_at = moment + self._grace_s if kill_at == math.inf else math.inf
                            stop_at = math.inf
                        if self._progress is not None and moment - told >= 1.0:
                            told = moment
                            self._progress(Progress(round((moment - begun) * 1_000_000), sum(self.written)))
                        wait = max(0.0, min(1.0, stop_at - moment, kill_at - moment))
                        self._take(selector, wait, logs, child)
                    except KeyboardInterrupt:  # the first stops it, a second one kills at once
                        _kill(child, signal.SIGKILL if self.interrupted else signal.SIGTERM)
                        self.interrupted = True
                        self.blame("interrupted")
                        stop_at, kill_at = math.inf, time.monotonic() + self._grace_s
                self._drain(selector, logs, child)
            finally:
                os.close(pidfd)

    def _take(
        self,
        selector: selectors.BaseSelector,
        wait: float,
        logs: tuple[BinaryIO, BinaryIO],
        child: subprocess.Popen[bytes],
    ) -> None:
        """Read each ready pipe once; drop what has ended."""
        for key, _ in selector.select(wait):
            if key.data < 0:
                selector.unregister(key.fileobj)
                continue
            data = os.read(key.fd, _CHUNK)
            if not data:
                selector.unregister(key.fileobj)
                continue
            room = self._limit - sum(self.written)
            if len(data) > room:
                self.blame(f"output over {self._limit} bytes")
                _kill(child, signal.SIGKILL)
            kept = data[:room]
            logs[key.data].write(kept)
            self.written[key.data] += len(kept)
            if self._tee is not None:
                try:
                    self._tee.write(kept)
                    self._tee.flush()
                except (OSError, ValueError):
                    self._tee = None

    def _drain(
        self,
        selector: selectors.BaseSelector,
        logs: tuple[BinaryIO, BinaryIO],
        child: subprocess.Popen[bytes],
    ) -> None:
        """Take what is left in the pipes; a process of the group that still holds one open is killed."""
        for _ in range(2):
            until = time.monotonic() + DRAIN_S
            while selector.get_map() and time.monotonic() < until:
                self._take(selector, max(0.0, until - time.monotonic()), logs, child)
            if selector.get_map():
                self.blame("left a process running that holds its output open")
            _kill(child, signal.SIGKILL)

    def _reap(self, child: subprocess.Popen[bytes]) -> None:
        _kill(child, signal.SIGKILL)
        _, wait_status, self.usage = os.wait4(child.pid, 0)
        code = os.waitstatus_to_exitcode(wait_status)
        child.returncode = self.exit_code = code
        for pipe in (child.stdout, child.stderr):
            if pipe is not None:
                pipe.close()
        if code < 0:
            self.blame(
                f"killed by {signal.Signals(-code).name}"
                if -code in set(signal.Signals)
                else f"killed by {-code}"
            )
        elif code > 125:
            self.blame(f"exit {code}: not run, or killed, as shells report it")


def _kill(child: subprocess.Popen[bytes], number: signal.Signals) -> None:
    """Signal the group; its leader is not reaped here, so the group id is still ours (rule 3)."""
    try:
        os.killpg(child.pid, number)
    except (ProcessLookupError, PermissionError):
        return  # nobody left, or only a process that became another user's


def _check(argv: Sequence[str], env: Mapping[str, str], timeout_s: float | None, log_limit: int) -> None:
    if not argv or not argv[0] or any("\0" in part for part in argv):
        raise UsageError("no command to run", code="stage.command", hint="build stage NAME -- COMMAND…")
    for name, value in env.items():
        if not name or "=" in name or "\0" in name + value:
            raise UsageError("variable cannot be passed", code="stage.env", found=name[:80])
    if log_limit <= 0 or (timeout_s is not None and not timeout_s > 0):
        raise UsageError("a limit is positive", code="stage.limit", found=f"{timeout_s} s, {log_limit} bytes")


def _check_unused(log_dir: Path, outputs: Path | None) -> None:
    """Rule 4."""
    for path in (log_dir / "stdout", log_dir / "stderr"):
        if path.exists():
            raise ConflictError("log of an earlier attempt", code="stage.log_exists", where=str(path))
    if outputs is not None and outputs.exists() and (not outputs.is_dir() or any(outputs.iterdir())):
        raise ConflictError(
            "outputs folder holds something already",
            code="stage.outputs_exist",
            where=str(outputs),
            hint="use a new one",
        )
