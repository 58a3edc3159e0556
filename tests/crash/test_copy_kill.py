"""SIGKILL at random moments of copy, backup and restore: no half of one is a store or a backup, and each goes on to its end.

The killed are forks of this process. What is there after a kill is either no store, or the whole one.
"""

from __future__ import annotations

import os
import signal
import time
from contextlib import closing, suppress
from pathlib import Path

import copies
import pytest
from copies import KINDS
from kills import Moments, until_alone
from muniment.app import backup as backups
from muniment.app import copying
from muniment.domain.errors import ConflictError, MunimentError, NotFoundError, UnavailableError, WrongError
from muniment.store import copy as machinery
from muniment.store.open import open_log

KILLS = 24
NOW = 1_790_000_000_000_000


@pytest.fixture
def source(tmp_path, monkeypatch):
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.setattr(machinery, "BATCH", 8)
    return str(copies.build(tmp_path))


def killed(work, delay: float) -> int | None:
    """Run in a child, kill it after `delay` seconds; its exit code if it ended before."""
    pid = os.fork()
    if pid == 0:
        code = 9
        try:
            work()
            code = 0
        except MunimentError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    time.sleep(delay)
    with suppress(ProcessLookupError):
        os.kill(pid, signal.SIGKILL)
    _, status = os.waitpid(pid, 0)
    return None if os.WIFSIGNALED(status) else os.WEXITSTATUS(status)


def took(work) -> float:
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def whole_or_nothing(url: str, size: int, root: bytes) -> bool:
    """True if there is a store, which is then whole."""
    try:
        log = open_log(url, read_only=True)
    except NotFoundError:
        return False
    except UnavailableError as error:
        if error.code != "store.unfinished":
            raise
        return False
    with closing(log):
        assert log.head()[:2] == (size, root)
    copies.sound(url)
    return True


@KINDS
def test_a_killed_copy_is_no_store_and_goes_on(source, kind, tmp_path, request):
    server = request.getfixturevalue("pg_url") if kind == "postgres" else ""
    before = copies.facts(source)
    head = before["head"]
    whole = took(lambda: copying.copy(source, copies.url_in(kind, tmp_path, server, "first")))
    moments, cut, number = Moments(3, whole), 0, 0
    url = copies.url_in(kind, tmp_path, server, "target0")
    for _ in range(KILLS):
        code = killed(lambda url=url: copying.copy(source, url), moments.next())
        assert code in (None, 0), code
        cut += code is None
        if server:
            until_alone(server)
        is_store = whole_or_nothing(url, *head[:2])
        moments.was(late=is_store)
        assert is_store or code is None, "it said that it was done"
        if is_store:
            assert copies.facts(url) == before
            number += 1
            url = copies.url_in(kind, tmp_path, server, f"target{number}")
    with suppress(ConflictError):
        assert copying.copy(source, url).exit_code == 0
    assert copies.facts(url) == before
    assert cut >= KILLS // 4, "the kills came too late to say anything"


def test_no_half_backup_passes_as_a_whole_one(source, tmp_path):
    before = copies.facts(source)
    whole = took(lambda: backups.backup(source, str(tmp_path / "first"), now=NOW))
    moments, cut, number = Moments(4, whole), 0, 0
    made = tmp_path / "made0"
    for _ in range(KILLS):
        code = killed(lambda made=made: backups.backup(source, str(made), now=NOW), moments.next())
        assert code in (None, 0), code
        cut += code is None
        moments.was(late=(made / "backup.json").exists())
        if (made / "backup.json").exists():
            backups.check(str(made))
            number += 1
            made = tmp_path / f"made{number}"
        else:
            assert code is None, "it said that it was done"
            with pytest.raises((WrongError, NotFoundError)):
                backups.check(str(made))
    with suppress(ConflictError):
        backups.backup(source, str(made), now=NOW)
    backups.restore(str(made), str(tmp_path / "there"))
    assert copies.facts(str(tmp_path / "there")) == before
    assert cut >= KILLS // 4, "the kills came too late to say anything"


@KINDS
def test_a_killed_restore_is_no_store_and_goes_on(source, kind, tmp_path, request):
    server = request.getfixturevalue("pg_url") if kind == "postgres" else ""
    before = copies.facts(source)
    made = str(tmp_path / "made")
    backups.backup(source, made, now=NOW)
    whole = took(lambda: backups.restore(made, copies.url_in(kind, tmp_path, server, "first")))
    moments, cut, number = Moments(5, whole), 0, 0
    url = copies.url_in(kind, tmp_path, server, "target0")
    for _ in range(KILLS):
        code = killed(lambda url=url: backups.restore(made, url), moments.next())
        assert code in (None, 0), code
        cut += code is None
        if server:
            until_alone(server)
        is_store = whole_or_nothing(url, *before["head"][:2])
        moments.was(late=is_store)
        if is_store:
            number += 1
            url = copies.url_in(kind, tmp_path, server, f"target{number}")
        else:
            assert code is None, "it said that it was done"
        backups.check(made)
    with suppress(ConflictError):
        backups.restore(made, url)
    assert copies.facts(url) == before
    assert cut >= KILLS // 4, "the kills came too late to say anything"


def test_leftovers_of_kills_are_no_evidence(source, tmp_path):
    """What a kill leaves lies in `staging/`, and is no name under `evidence/`."""
    target = tmp_path / "target"
    for n in range(6):
        killed(lambda: copying.copy(source, str(target)), 0.02 * n)
    with suppress(ConflictError):
        copying.copy(source, str(target))
    names = {path.parent.name + path.name for path in Path(target, "evidence").rglob("*") if path.is_file()}
    assert names == copies.facts(source)["evidence"].keys()
