"""Evidence in PostgreSQL: rows that were changed, roles that may not, servers and connections that go away."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import psycopg
import pytest
from evidence_places import PostgresPlace
from muniment.domain.errors import DeniedError, UnavailableError, WrongError
from muniment.store.evidence import EvidenceStore, Source
from muniment.store.evidence_open import evidence_url, open_evidence
from muniment.store.evidence_postgres import EvidencePostgres
from muniment.store.files import CHUNK
from postgres_programs import wait
from psycopg import sql

if TYPE_CHECKING:
    from postgres_server import Given
    from postgres_server import Place as Servers

SECRET = "s3cr3t-that-nobody-may-see"
DATA = os.urandom(2 * CHUNK + 77)


@pytest.fixture
def place(pg_url: str) -> PostgresPlace:
    return PostgresPlace(pg_url)


@pytest.fixture
def store(place: PostgresPlace) -> EvidenceStore:
    return place.store()


def to_the_end(source: Source) -> int:
    size = 0
    while piece := source.stream.read(1 << 20):
        size += len(piece)
    return size


@pytest.mark.parametrize(
    ("change", "code"),
    [
        ("DELETE FROM evidence_chunk WHERE index = 0", "size"),
        ("DELETE FROM evidence_chunk WHERE index = 1", "size"),
        ("DELETE FROM evidence_chunk WHERE index = 2", "size"),
        ("DELETE FROM evidence_chunk", "size"),
        ("UPDATE evidence_chunk SET index = index + 10", "size"),
        ("UPDATE evidence_chunk SET bytes = substr(bytes, 2) WHERE index = 1", "size"),
        ("UPDATE evidence_chunk SET bytes = bytes || '\\x00' WHERE index = 2", "size"),
        (
            "UPDATE evidence_chunk SET bytes = set_bit(bytes, 99, 1 - get_bit(bytes, 99)) WHERE index = 1",
            "digest",
        ),
        (
            "UPDATE evidence_chunk SET index = index + 10; UPDATE evidence_chunk SET index = 12 - index",
            "size",
        ),
        ("UPDATE evidence SET size = size - 1", "size"),
        ("UPDATE evidence SET size = size + 1", "size"),
        ("UPDATE evidence SET size = 0", "size"),
        ("UPDATE evidence SET sha256 = repeat('0', 64)", "digest"),
        ("DELETE FROM evidence", "missing"),
    ],
)
def test_every_changed_cell_is_found(
    place: PostgresPlace, store: EvidenceStore, change: str, code: str
) -> None:
    blob = store.put(DATA)
    with place.spoiling() as db:
        db.execute(change.encode())
    problem = store.check(*blob)
    assert problem is not None
    assert (code, 7) == (problem.code, problem.exit_code)
    assert problem.found
    if code != "missing":
        with pytest.raises(WrongError):
            store.put(DATA)
    if "evidence_chunk" in change and code == "size":  # a look without hashing tells as well
        assert "DELETE" not in change or store.sizes([blob.blake3])[blob.blake3] < len(DATA)


def test_what_a_writer_adds_to_a_blob_is_never_read(place: PostgresPlace, store: EvidenceStore) -> None:
    blob, empty = store.put(DATA), store.put(b"")
    with place.connect() as db:
        db.execute(
            "INSERT INTO log.evidence_chunk VALUES (%s, 3, 'more'), (%s, 0, 'more')",
            (blob.blake3, empty.blake3),
        )
    assert store.check(*blob) is store.check(*empty) is None
    assert store.put(DATA) == blob
    assert store.sizes([blob.blake3, empty.blake3]) == {blob.blake3: len(DATA), empty.blake3: 0}
    assert {f"chunk 3 of {blob.blake3}", f"chunk 0 of {empty.blake3}"} == set(store.strays())


def test_chunks_without_their_row_are_not_committed(place: PostgresPlace) -> None:
    with place.connect() as db, pytest.raises(psycopg.errors.ForeignKeyViolation):
        db.execute("INSERT INTO log.evidence_chunk VALUES (%s, 0, 'x')", ("ab" * 32,))


@pytest.mark.parametrize("table", ["evidence", "evidence_chunk"])
@pytest.mark.parametrize("change", ["UPDATE {} SET blake3 = blake3", "DELETE FROM {}", "TRUNCATE {} CASCADE"])
def test_even_the_owner_only_appends(
    place: PostgresPlace, store: EvidenceStore, table: str, change: str
) -> None:
    blob = store.put(DATA)
    with place.connect() as db, pytest.raises(psycopg.errors.RaiseException, match=r"^append-only: "):
        db.execute(change.format(f"log.{table}").encode())
    assert store.check(*blob) is None


@contextmanager
def role(place: PostgresPlace, rights: str) -> Iterator[EvidencePostgres]:
    """A store through a role of its own with these rights on both tables."""
    name = f"role_{os.urandom(6).hex()}"
    with place.connect() as db:
        db.execute(f"CREATE ROLE {name}".encode())
        db.execute(f"GRANT USAGE ON SCHEMA log TO {name}".encode())
        if rights:
            db.execute(f"GRANT {rights} ON log.evidence, log.evidence_chunk TO {name}".encode())

    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with place.connect() as db:
            db.execute(sql.SQL("SET ROLE {}").format(sql.Identifier(name)))
            yield db

    try:
        yield EvidencePostgres(connect, "log", "as a role")
    finally:
        with place.connect() as db:
            db.execute(f"DROP OWNED BY {name}; DROP ROLE {name}".encode())


def test_a_writer_needs_no_more_than_insert_and_select(place: PostgresPlace) -> None:
    with role(place, "SELECT, INSERT") as writer:
        blob = writer.put(DATA)
        assert writer.put(DATA) == blob
        assert writer.check(*blob) is None
        assert [(blob.blake3, len(DATA))] == list(writer.iter())
        for change in ("UPDATE {} SET blake3 = blake3", "DELETE FROM {}", "TRUNCATE {}"):
            for table in ("log.evidence", "log.evidence_chunk"):
                with writer._connect() as db, pytest.raises(psycopg.errors.InsufficientPrivilege):
                    db.execute(change.format(table).encode())


def test_an_auditor_reads_and_cannot_write(place: PostgresPlace, store: EvidenceStore) -> None:
    blob = store.put(b"abc")
    with role(place, "SELECT") as auditor:
        assert auditor.read(blob.blake3, limit=3) == b"abc"
        with pytest.raises(DeniedError) as caught:
            auditor.put(b"new")
        assert caught.value.exit_code == 4
    assert [(blob.blake3, 3)] == list(store.iter())


def test_who_may_not_look_finds_nothing_missing(place: PostgresPlace, store: EvidenceStore) -> None:
    blob = store.put(b"abc")
    with role(place, "") as nobody:
        with pytest.raises(DeniedError):
            nobody.missing([blob.blake3])
        problem = nobody.check(*blob)
        assert problem is not None
        assert (problem.code, problem.exit_code) == ("unreadable", 8)


def test_tables_that_are_not_there_are_unreadable(pg_url: str) -> None:
    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(pg_url, autocommit=True) as db:
            yield db

    nowhere = EvidencePostgres(connect, "no_such_schema", "nowhere")
    for use in (
        lambda: nowhere.put(b"abc"),
        lambda: nowhere.missing(["0" * 64]),
        lambda: list(nowhere.iter()),
    ):
        with pytest.raises(UnavailableError):
            use()
    problem = nowhere.check("0" * 64, "0" * 64, 1)
    assert problem is not None
    assert problem.code == "unreadable"


@pytest.mark.parametrize("database", ["no_such_database", ""])
def test_no_server_and_no_database_are_unreadable_and_show_no_password(
    postgres: Given, database: str
) -> None:
    url = postgres.url(database) if database else f"postgresql://someone:{SECRET}@127.0.0.1:1/x"

    @contextmanager
    def connect() -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(url, autocommit=True, connect_timeout=3, password=SECRET) as db:
            yield db

    store = EvidencePostgres(connect, "log", "postgresql://someone@127.0.0.1/x")
    with pytest.raises(UnavailableError) as caught:
        store.missing(["0" * 64])
    assert SECRET not in str(caught.value) + str(caught.value.context) + str(caught.value.__cause__)
    problem = store.check("0" * 64, "0" * 64, 1)
    assert problem is not None
    assert (problem.code, problem.exit_code) == ("unreadable", 8)


def test_the_server_is_killed_between_two_chunks(postgres_place: Servers) -> None:
    with postgres_place.server() as server, server.database() as name:
        store = PostgresPlace(server.url(name)).store()
        blob = store.put(DATA)
        with store._source(blob.blake3) as source:
            assert len(source.stream.read(1 << 20) or b"") == CHUNK
            server.kill()
            with pytest.raises(UnavailableError) as caught:
                to_the_end(source)
            assert caught.value.exit_code == 8
            problem = store.check(*blob)
            assert problem is not None
            assert problem.code == "unreadable"
            server.start()
            assert to_the_end(source) == CHUNK + 77  # the read goes on where it was
        assert store.check(*blob) is None  # what put had answered was durable


def ended(place: PostgresPlace, pattern: str) -> int:
    """End the connections whose statement matches, and wait until they have ended; how many."""
    matching = (
        "FROM pg_stat_activity WHERE pid <> pg_backend_pid() AND query ~ %s AND datname = current_database()"
    )

    def asked(what: str) -> int:
        with place.connect() as db:
            row = db.execute(f"SELECT count({what}) {matching}".encode(), (pattern,)).fetchone()
        return row[0] if row else 0

    found = asked("pg_terminate_backend(pid)")
    wait(lambda: not asked("*"), "the end of those that were ended")
    return found


class Slow(EvidencePostgres):
    """Meets somebody between the chunks and the row of a put."""

    def meet(self) -> None:
        raise NotImplementedError

    def _sql(self, text: Any) -> Any:
        if text.startswith("INSERT INTO {evidence}"):
            self.meet()
        return super()._sql(text)


@pytest.mark.parametrize("times", [1, 99])
def test_a_connection_lost_in_a_put_is_tried_again_and_then_unreadable(
    place: PostgresPlace, times: int
) -> None:
    lost = []

    class Cut(Slow):
        def meet(self) -> None:
            if len(lost) < times:
                lost.append(ended(place, "COPY"))

    store = Cut(place.connect, "log", "cut")
    if times == 1:
        assert store.check(*store.put(DATA)) is None
    else:
        with pytest.raises(UnavailableError):
            store.put(DATA)
        assert list(place.store().iter()) == []
    assert list(place.store().strays()) == []
    assert lost == [1] * min(times, 3)


@pytest.mark.parametrize("commits", [True, False])
def test_who_puts_the_same_bytes_waits_for_the_first_one(place: PostgresPlace, commits: bool) -> None:
    inside, go_on = threading.Event(), threading.Event()

    class First(Slow):
        def meet(self) -> None:
            inside.set()
            assert go_on.wait(20)
            if not commits:
                raise KeyboardInterrupt

    def first() -> None:
        try:
            First(place.connect, "log", "first").put(DATA)
        except KeyboardInterrupt:
            assert not commits

    answers: list[Any] = []
    one = threading.Thread(target=first)
    one.start()
    assert inside.wait(20)
    two = threading.Thread(target=lambda: answers.append(place.store().put(DATA)))
    two.start()
    end = time.monotonic() + 20
    with place.connect() as db:
        while time.monotonic() < end:
            waits = db.execute("SELECT count(*) FROM pg_locks WHERE NOT granted").fetchone()
            if waits and waits[0]:
                break
            time.sleep(0.02)
        else:
            pytest.fail("nobody waits")
    assert answers == []
    go_on.set()
    one.join()
    two.join()
    store = place.store()
    assert store.check(*answers[0]) is None
    assert len(list(store.iter())) == 1
    assert list(store.strays()) == []


def test_a_put_is_durable_where_the_database_is_told_not_to_be(place: PostgresPlace) -> None:
    seen = []
    with place.connect() as db:
        db.execute(
            sql.SQL("ALTER DATABASE {} SET synchronous_commit = off").format(sql.Identifier(db.info.dbname))
        )

    class Asked(EvidencePostgres):
        def _write(self, db: psycopg.Connection[Any], *rest: Any) -> bool:
            @contextmanager
            def transaction() -> Iterator[None]:
                with real():
                    yield
                    seen.append(db.execute("SHOW synchronous_commit").fetchone())

            real, db.transaction = db.transaction, transaction  # type: ignore[method-assign,assignment]
            return super()._write(db, *rest)

    Asked(place.connect, "log", "asked").put(b"abc")
    assert seen == [("on",)]


# --- from a URL


def test_from_a_url(place: PostgresPlace) -> None:
    url = "postgresql://host/db?schema=log"
    store = open_evidence(evidence_url(url, environ={}), connect=place.connect, schema="log", name="here")
    assert isinstance(store, EvidencePostgres)
    assert store.check(*store.put(b"abc")) is None


def test_evidence_of_another_database_is_refused() -> None:
    from muniment.domain.errors import UsageError

    with pytest.raises(UsageError) as caught:
        open_evidence(f"postgresql://user:{SECRET}@host/db")
    assert SECRET not in str(caught.value) + str(caught.value.context)
