"""One store opened many times, by this process and by forks of it; drafts; what must be true of any log at the end."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import threading
import uuid
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from muniment.store import merkle
from muniment.store.api import Draft, Log
from muniment.store.postgres_log import PostgresLog
from muniment.store.sqlite_log import SqliteLog

PATIENCE_S = 120.0  # after which something hangs


class Store:
    """A store of either kind; every log opened is closed by `close`."""

    def __init__(self, where: str | Path) -> None:
        self.where = where
        self.server = isinstance(where, str)
        self._logs: list[Log] = []

    def create(self, kind: str = "records") -> Log:
        return self._keep((PostgresLog if self.server else SqliteLog).create(self.where, kind=kind))

    def open(self, **more: Any) -> Log:
        """Another connection or two: a process of its own as far as the database can tell."""
        return self._keep((PostgresLog if self.server else SqliteLog).open(self.where, **more))

    def _keep(self, log: Log) -> Log:
        self._logs.append(log)
        return log

    def close(self) -> None:
        for log in self._logs:
            log.close()


def schema(url: str, name: str) -> str:
    """The URL of a log in that schema."""
    return f"{url}{'&' if '?' in url else '?'}schema={name}"


def draft(name: object, tags: Sequence[str] = (), *, data: object = None, size: int = 0) -> Draft:
    """A record of at least `size` bytes; the same name gives the same id and, without `data`, the same content."""
    id_ = str(uuid.UUID(bytes=hashlib.sha256(str(name).encode()).digest()[:16]))
    fill = hashlib.shake_256(str(name).encode()).hexdigest(size // 2)
    record = {"data": data, "fill": fill, "id": id_, "name": str(name), "recorded_at": ""}
    record |= {"tags": sorted(tags), "type": "thing.happened/1"}
    text = json.dumps(record, sort_keys=True, separators=(",", ":")).encode()
    head, mark, tail = text.partition(b'"recorded_at":"')
    return Draft(id_, "thing.happened/1", tuple(sorted(tags)), head + mark, tail)


def name_of(body: bytes) -> str:
    return str(json.loads(body)["name"])


def check_whole(log: Log) -> list[str]:
    """No gap, every id once, stored leaves, root and frontier those of the bytes; the names, in order."""
    rows = list(log.read())
    head = log.head()
    assert list(range(1, head.size + 1)) == [position for position, _ in rows]
    leaves = [merkle.leaf_hash(body) for _, body in rows]
    assert leaves == list(log.leaves())
    assert merkle.root(leaves) == head.root
    frontier = merkle.Frontier()
    frontier.extend(leaves)
    assert log.frontier() == (frontier.size, frontier.roots)
    found = [json.loads(body) for _, body in rows]
    assert len({record["id"] for record in found}) == len(found)
    stamps = [record["recorded_at"] for record in found]
    assert sorted(stamps) == stamps
    return [str(record["name"]) for record in found]


def fork(act: Callable[[], None]) -> int:
    """Run in a fork of this process that opens what it needs itself; exit 0 if it returned."""
    pid = os.fork()
    if pid:
        return pid
    status = 1
    try:
        act()
        status = 0
    except BaseException:
        import traceback

        traceback.print_exc()
    finally:
        os._exit(status)


def join(pids: Sequence[int]) -> None:
    """Wait for forks; each has to end well, within `PATIENCE_S`."""
    late = threading.Timer(PATIENCE_S, lambda: [os.kill(pid, signal.SIGKILL) for pid in pids])
    late.start()
    try:
        assert [0] * len(pids) == [os.waitpid(pid, 0)[1] for pid in pids]
    finally:
        late.cancel()


def bounded(act: Callable[[], Any]) -> Any:
    """Run in a thread and return what it returns; a hang is a failure."""
    answers: list[Any] = []
    errors: list[BaseException] = []

    def run() -> None:
        try:
            answers.append(act())
        except BaseException as error:
            errors.append(error)

    thread = threading.Thread(target=run, daemon=True)
    thread.start()
    thread.join(PATIENCE_S)
    assert not thread.is_alive(), "it hangs"
    if errors:
        raise errors[0]
    return answers[0]
