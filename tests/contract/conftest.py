"""One suite for every store: `log` and `make` come once for each."""

from __future__ import annotations

import hashlib
import json
import uuid
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import pytest
from muniment.store import index_tail, writer
from muniment.store.api import Draft, Log
from muniment.store.memory import MemoryLog
from muniment.store.postgres_log import PostgresLog
from muniment.store.sqlite_log import SqliteLog

Make = Callable[..., Log]


class Clock:
    """A clock that says what it is told to, in microseconds since 1970."""

    def __init__(self, now: int = 1_750_000_000_000_000) -> None:
        self.now = now

    def __call__(self) -> int:
        return self.now


def make_draft(
    n: int | str,
    type_: str = "thing.happened/1",
    tags: Sequence[str] = (),
    *,
    data: object = None,
    **volatile: object,
) -> Draft:
    """A record; the same `n` gives the same id."""
    id_ = str(uuid.UUID(bytes=hashlib.sha256(str(n).encode()).digest()[:16]))
    record = {
        "data": {"n": n} if data is None else data,
        "id": id_,
        "recorded_at": "",
        "tags": sorted(tags),
        "type": type_,
        **volatile,
    }
    text = json.dumps(record, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()
    head, mark, tail = text.partition(b'"recorded_at":"')
    return Draft(id_, type_, tuple(sorted(tags)), head + mark, tail)


def make_event(n: int, type_: str = "event", tags: Sequence[str] = ()) -> Draft:
    leaf = json.dumps({"n": n, "type": type_, "tags": list(tags)}).encode()
    return Draft(None, type_, tuple(sorted(tags)), leaf, None)


@pytest.fixture
def draft() -> Callable[..., Draft]:
    return make_draft


@pytest.fixture
def event() -> Callable[..., Draft]:
    return make_event


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture(params=["memory", "sqlite", "sqlite-seams", "postgres", "postgres-seams"])
def make(request: pytest.FixtureRequest, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Make]:
    """Make an empty log of a kind; closed at the end.

    `-seams`: rows of the index are written every 3 records, 2 entries in each, so that every query crosses them.
    """
    logs: list[Log] = []
    store, _, seams = request.param.partition("-")
    if seams:
        monkeypatch.setattr(writer, "INDEX_EVERY", 3)
        monkeypatch.setattr(index_tail, "ROW_ENTRIES", 2)

    def made(kind: str = "records", clock: Callable[[], int] | None = None) -> Log:
        log: Log
        if store == "memory":
            log = MemoryLog(kind, clock=clock)
        elif store == "postgres":
            url = request.getfixturevalue("pg_url")
            log = PostgresLog.create(
                f"{url}{'&' if '?' in url else '?'}schema=log{len(logs)}", kind=kind, clock=clock
            )
        else:
            log = SqliteLog.create(tmp_path / f"store{len(logs)}", kind=kind, clock=clock)
        logs.append(log)
        return log

    yield made
    for log in logs:
        log.close()


@pytest.fixture
def log(make: Make) -> Log:
    return make()


@pytest.fixture
def sqlite_folder(tmp_path: Path) -> Path:
    """A store folder with an empty SQLite log, closed."""
    folder = tmp_path / "folder"
    SqliteLog.create(folder, kind="records").close()
    return folder
