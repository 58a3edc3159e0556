"""What a server, its rights and a URL can do to the commands: exit code, what to do next, nothing written, no secret shown."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing
from pathlib import Path
from typing import TYPE_CHECKING, Any
from urllib.parse import quote

import pytest
from muniment.app.session import Session
from muniment.domain.errors import UnavailableError
from muniment.store import postgres_pool
from muniment.store.open import create_log, open_log

if TYPE_CHECKING:
    from postgres_server import Place, Server

READS = (
    "history list",
    "history show #1",
    "verify store --no-remember",
    "projection status",
    "evidence-summary",
    "intake list",
    "build list",
    "pack list",
    "channel show",
    "release list",
    "incident list",
    "identity list",
    "key list",
    "policy show",
    "explain #1",
)
WRITES = ("channel declare prod/stable --cohort all", "identity add bob --key bob", "policy publish team")
SECRET = "p%W/ord:@ #%?&"  # every character that a URL gives a meaning
SPELLED = quote(SECRET, safe="")
MADE_UP = "s3cr3tPW"


@pytest.fixture(scope="module")
def server(postgres_place: Place) -> Iterator[Server]:
    with postgres_place.server() as server:
        server.execute(f"CREATE ROLE team LOGIN PASSWORD '{SECRET}'")
        yield server


@pytest.fixture
def database(server: Server, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """A fresh database of the role `team`."""
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    monkeypatch.delenv("MUNIMENT_STORE", raising=False)
    monkeypatch.chdir(tmp_path)
    with server.database() as name:
        server.execute(f"ALTER DATABASE {name} OWNER TO team")
        yield name


@pytest.fixture
def url(server: Server, database: str) -> str:
    return server.tcp_url(database, "team", SECRET)


@pytest.fixture
def store(cli: Callable[..., Any], url: str) -> str:
    """A store of `team`, with what `init` records."""
    assert cli("init", "--store", url).code == 0
    assert cli("key", "create", "bob", "--store", url).code == 0
    return url


def words(line: str) -> list[str]:
    return line.split(" ")


def refused(cli: Callable[..., Any], url: str, line: str, code: int, name: str, hint: str = "") -> None:
    """Told so on a terminal, with a trace and as JSON; without the password in any spelling."""
    for more in ((), ("-v",), ("-o", "json")):
        ran = cli(*words(line), "--store", url, *more)
        assert ran.code == code, ran.out + ran.err
        for secret in (SECRET, SPELLED, MADE_UP):
            assert secret not in ran.out + ran.err
        if more == ("-o", "json"):
            assert ran.out == ""
            assert ran.json["code"] == name
            assert ran.json["hint"] or ran.json["context"].get("expected"), "what to do next"
            assert hint in ran.json["hint"], ran.json


def size(url: str) -> int:
    with closing(open_log(url, read_only=True)) as log:
        return log.head().size


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://u:a/{}@h/d",
        "postgresql://u:a@{}@h/d",
        "postgresql://u:a#{}@h/d",
        "postgresql://u:a?{}@h/d",
        "postgresql://u:1?{}=1@h/d",
        "postgresql://u:12/{}@h/d",
        "postgresql://u:{}%zz@h/d",
        "postgresql://u:[{}@h/d",
        "postgresql://u:{}℀@h/d",
        "postgresql://u:{}@h:x/d",
        "postgresql://u:{}@h:123456/d",
        "postgresql:u:{}@h/d",
        "postgres//u:{}@h/d",
        "POSTGRESQL://u:{}@h/d",
        "mysql://u:{}@h/d",
        "postgresql+psycopg://u:{}@h/d",
        "postgresql://u:{}@h/d?pool=0",
        "postgresql://u:{}@h/d?pool=²",
        "postgresql://u:{}@h/d?schema=Upper",
        "postgresql://u:{}@h/d?schema=",
        "postgresql://u:{}@h/d?schema=a&schema=b",
        "postgresql://u:{}@127.0.0.1:1/d?sslmode=perhaps",
        "postgresql://u:{}@127.0.0.1:99999/d",
    ],
)
def test_what_is_no_url_of_a_store(cli: Callable[..., Any], tmp_path: Path, url: str) -> None:
    for line in ("history list", "init", "verify store", "demo"):
        refused(cli, url.format(MADE_UP), line, 2, "store.url")
    assert list(tmp_path.iterdir()) == []


def test_an_unknown_parameter_is_told_the_nearest(cli: Callable[..., Any]) -> None:
    refused(cli, f"postgresql://u:{MADE_UP}@h/d?scheme=x", "history list", 2, "store.url", "schema")
    refused(cli, f"postgresql://u:{MADE_UP}@h/d?{MADE_UP}{MADE_UP}=x", "history list", 2, "store.url")


def test_evidence_in_the_database_of_another_log(
    cli: Callable[..., Any], store: str, monkeypatch: Any
) -> None:
    for elsewhere in (f"postgresql://u:{MADE_UP}@h/d", store + "?schema=other"):
        monkeypatch.setenv("MUNIMENT_EVIDENCE", elsewhere)
        refused(cli, store, "history list", 2, "evidence.url")
    monkeypatch.setenv("MUNIMENT_EVIDENCE", store)
    assert cli("history", "list", "--store", store).code == 0


@pytest.mark.parametrize("line", ["init", "history list", "verify store", "demo", WRITES[0]])
def test_nobody_is_there_or_lets_us_in(
    cli: Callable[..., Any], server: Server, database: str, line: str
) -> None:
    refused(
        cli, f"postgresql://team:{SPELLED}@127.0.0.1:1/{database}", line, 8, "store.unreachable", "running"
    )
    refused(cli, server.tcp_url(database, "team", MADE_UP), line, 4, "store.login", "password")
    refused(cli, server.tcp_url(database, "nobody", SECRET), line, 4, "store.login")
    refused(cli, server.url(database, "nobody"), line, 4, "store.login", "user")
    if line != "demo":  # it prints what `init` said, and that it stopped there (exit 8)
        refused(cli, server.tcp_url("no_such", "team", SECRET), line, 3, "store.not_found", "create it")
    tls = f"{server.tcp_url(database, 'team', SECRET)}?sslmode=require"
    refused(cli, tls, line, 8, "store.tls", "sslmode")


def test_no_schema_yet(cli: Callable[..., Any], url: str) -> None:
    for line in (*READS, *WRITES):
        refused(cli, url, line, 3, "store.not_found", "muniment init")
    assert cli("init", "--store", url).code == 0
    refused(cli, url, "init", 5, "store.exists")
    assert size(url) == 2


def test_an_init_that_was_cut_short_goes_on_where_its_key_is_and_nowhere_else(
    cli: Callable[..., Any], store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (checkpoint,) = (tmp_path / "home" / "stores").glob("*/exports/checkpoint-2")
    was = checkpoint.read_bytes()
    checkpoint.unlink()
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "other"))
    refused(cli, store, "init", 5, "store.exists")
    assert not (tmp_path / "other" / "stores").exists()
    monkeypatch.setenv("MUNIMENT_HOME", str(tmp_path / "home"))
    assert cli("init", "--store", store).code == 0
    assert (checkpoint.read_bytes(), size(store)) == (was, 2)


def test_the_schema_of_something_else(
    cli: Callable[..., Any], server: Server, database: str, url: str
) -> None:
    server.execute("CREATE SCHEMA muniment AUTHORIZATION team", dbname=database)
    server.execute("CREATE TABLE muniment.orders (n int)", dbname=database)
    for line in ("history list", WRITES[0], "init"):
        refused(cli, url, line, 7, "store.not_a_log", "schema=")
    assert server.execute("SELECT count(*) FROM pg_class WHERE relname = 'records'", dbname=database) == [
        (0,)
    ]


def test_the_log_of_an_application(cli: Callable[..., Any], url: str) -> None:
    create_log(url, "opaque").close()
    refused(cli, url, WRITES[0], 3, "store.empty")
    refused(cli, url, "init", 10, "store.kind")
    assert size(url) == 0


@pytest.mark.parametrize(("version", "hint"), [(99, "newer Muniment"), (0, "muniment store migrate")])
def test_a_schema_of_another_version(
    cli: Callable[..., Any], server: Server, database: str, store: str, version: int, hint: str
) -> None:
    server.execute(
        f"COMMENT ON SCHEMA muniment IS 'muniment log: kind=records schema={version}'", dbname=database
    )
    for line in ("history list", WRITES[0], "init"):
        refused(cli, store, line, 10, "store.version", hint)


def test_a_server_older_than_the_oldest(
    cli: Callable[..., Any], store: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(postgres_pool, "OLDEST", 990_000)
    refused(cli, store, "history list", 8, "store.server_version", "PostgreSQL")


@pytest.fixture
def auditor(server: Server, database: str, store: str) -> Iterator[str]:
    """A role that may SELECT and no more."""
    role = f"auditor_{database[-6:]}"
    server.execute(f"CREATE ROLE {role} LOGIN PASSWORD '{SECRET}'")
    server.execute(f"GRANT USAGE ON SCHEMA muniment TO {role}", dbname=database)
    server.execute(f"GRANT SELECT ON ALL TABLES IN SCHEMA muniment TO {role}", dbname=database)
    yield server.tcp_url(database, role, SECRET)
    server.execute(f"DROP OWNED BY {role}", dbname=database)
    server.execute(f"DROP ROLE {role}")


def test_who_may_only_read_gets_every_answer_and_writes_nothing(
    cli: Callable[..., Any], store: str, auditor: str, tmp_path: Path
) -> None:
    source = tmp_path / "in"
    source.mkdir()
    (source / "a").write_text("evidence\n")
    assert cli("intake", "add", str(source), "--id", "in-1", "--store", store).code == 0
    before = size(store)
    for line in (*READS, "intake show in-1", "evidence-summary in-1 --check", "explain in-1", "tour #1"):
        mine, theirs = (cli(*words(line), "--store", url) for url in (store, auditor))
        assert (mine.code, mine.out) == (theirs.code, theirs.out), line
    for line in (*WRITES, f"intake add {source}"):
        refused(cli, auditor, line, 4, "store.rights", "role")
    assert size(store) == before
    assert cli(*words(WRITES[0]), "--store", store).code == 0, "the retry with the right is safe"


def test_who_may_not_even_look(cli: Callable[..., Any], server: Server, database: str, auditor: str) -> None:
    role = auditor.split("//")[1].partition(":")[0]
    server.execute(f"REVOKE ALL ON SCHEMA muniment FROM {role}", dbname=database)
    for line in ("history list", WRITES[0], "init"):
        refused(cli, auditor, line, 4, "store.rights")
    server.execute(f"REVOKE CONNECT ON DATABASE {database} FROM PUBLIC")
    refused(cli, auditor, "history list", 4, "store.rights")


def test_a_schema_whose_name_the_server_keeps(cli: Callable[..., Any], server: Server, database: str) -> None:
    for line in ("init", "store migrate", "store migrate --no-roles"):
        refused(cli, f"{server.url(database)}&schema=pg_x", line, 2, "store.url", "schema=")


def test_a_database_in_another_encoding(cli: Callable[..., Any], server: Server) -> None:
    server.execute("CREATE DATABASE latin ENCODING 'LATIN1' LOCALE 'C' TEMPLATE template0")
    for line in ("init", "store migrate --no-roles"):
        refused(cli, server.url("latin"), line, 9, "store.encoding", "UTF8")
    refused(cli, server.url("latin"), "history list", 3, "store.not_found")


def test_who_may_not_make_a_schema(cli: Callable[..., Any], server: Server, database: str) -> None:
    server.execute(f"ALTER DATABASE {database} OWNER TO postgres")
    refused(cli, server.tcp_url(database, "team", SECRET), "init", 4, "store.rights")


def test_too_many_connections(cli: Callable[..., Any], server: Server, store: str) -> None:
    server.execute("ALTER ROLE team CONNECTION LIMIT 0")
    try:
        for line in ("history list", WRITES[0]):
            refused(cli, store, line, 8, "store.connections", "again")
        server.execute("ALTER ROLE team CONNECTION LIMIT 1")
        # one to read, none is left to write with
        refused(cli, store, WRITES[0], 8, "store.connections", "again")
    finally:
        server.execute("ALTER ROLE team CONNECTION LIMIT -1")
    assert size(store) == 2
    assert cli(*words(WRITES[0]), "--store", store).code == 0


def test_a_pool_that_is_used_up(store: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(postgres_pool, "WAIT_S", 0.3)
    with Session(store + "?pool=1") as session, ExitStack() as held:
        held.enter_context(session.log.connection())  # type: ignore[attr-defined]
        with pytest.raises(UnavailableError) as caught:
            session.log.head()
        assert (caught.value.code, caught.value.exit_code) == ("store.pool_exhausted", 8)
        assert "nothing was read or written" in caught.value.hint
        assert SPELLED not in str(caught.value)
        held.close()
        assert session.log.head().size == 2


def test_a_standby_answers_and_takes_no_writes(
    cli: Callable[..., Any], postgres_place: Place, server: Server, database: str, store: str
) -> None:
    with postgres_place.standby_of(server, synchronous=True) as standby:
        url = standby.tcp_url(database, "team", SECRET)
        for line in READS:
            mine, theirs = (cli(*words(line), "--store", each) for each in (store, url))
            assert (mine.code, mine.out) == (theirs.code, theirs.out), line
        refused(cli, url, WRITES[0], 8, "store.not_primary", "primary")
        both = f"postgresql://team:{SPELLED}@127.0.0.1:{standby.port},127.0.0.1:{server.port}/{database}"
        assert cli(*words(WRITES[0]), "--store", both + "?target_session_attrs=read-write").code == 0
    assert size(store) == 3


def test_a_database_that_was_closed_to_writers(
    cli: Callable[..., Any], server: Server, database: str, store: str
) -> None:
    server.execute(f"ALTER DATABASE {database} SET default_transaction_read_only = on")
    assert cli("history", "list", "--store", store).code == 0
    refused(cli, store, WRITES[0], 8, "store.not_primary")
    assert size(store) == 2
    server.execute(f"ALTER DATABASE {database} RESET default_transaction_read_only")
    assert cli(*words(WRITES[0]), "--store", store).code == 0


def test_a_server_that_restarts_while_it_is_read(server: Server, store: str) -> None:
    with Session(store) as session:
        records = session.log.read()
        first = next(records)
        server.restart()
        assert [first, *records] == list(session.log.read())
        server.stop()
        try:
            with pytest.raises(UnavailableError) as caught:
                list(session.log.read())
            assert caught.value.code == "store.unreachable"
        finally:
            server.start()
        assert len(list(session.log.read())) == 2


def test_a_server_that_is_gone_when_a_stage_ends(
    cli: Callable[..., Any], server: Server, store: str, tmp_path: Path
) -> None:
    """What ran is an unfinished attempt, said so; nothing else was written, and the stage runs again."""
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("x")
    for line in ("intake add in --id in-1", "build start --product p --intake in-1 --id b-1"):
        assert cli(*words(line), "--store", store).code == 0
    before = size(store)
    stage = ("build", "stage", "validate", "--build", "b-1", "--store", store, "-o", "json", "--")
    kill = f"kill -QUIT {server.pid}; sleep 1; echo done > $0/a"
    ran = cli(*stage, "sh", "-c", kill, "{output}")
    assert server.process is not None
    server.process.wait(30)
    server.start()
    assert ran.code == 8, ran.out + ran.err
    said = json.loads(ran.err.splitlines()[-1])
    assert (said["code"], bool(said["hint"])) == ("store.unreachable", True)
    assert size(store) == before + 1, "its beginning is on record"
    again = cli(*stage, "sh", "-c", "echo done > $0/a", "{output}")
    assert again.code == 0, again.err
    assert size(store) == before + 3
    assert cli("verify", "store", "--store", store).code == 0


def test_the_password_is_in_no_record_no_evidence_and_no_stage(
    cli: Callable[..., Any], store: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("MUNIMENT_STORE", store)
    monkeypatch.setenv("PGPASSWORD", MADE_UP)
    (tmp_path / "in").mkdir()
    (tmp_path / "in" / "a").write_text("x")
    for line in ("intake add in --id in-1", "build start --product p --intake in-1 --id b-1"):
        assert cli(*words(line)).code == 0
    look = "env; tr '\\0' '\\n' < /proc/self/environ; env > $0/env"
    ran = cli("build", "stage", "validate", "--build", "b-1", "-v", "--", "sh", "-c", look, "{output}")
    assert ran.code == 0
    assert "LANG=C.UTF-8" in ran.err, "it has been looked"
    before = size(store)
    for told in (store, f"https://h/?{SECRET}", SPELLED):
        ran = cli("build", "stage", "compile", "--build", "b-1", "-o", "json", "--", "echo", told)
        assert (ran.code, ran.json["code"]) == (2, "session.secret")
        assert not any(secret in ran.out + ran.err for secret in (SECRET, SPELLED))
        ran = cli("channel", "declare", "prod/x", "--cohort", "a", "--reason", f"as in {told}")
        assert ran.code == 2
    assert size(store) == before
    with Session(store) as session:
        held = [body for _, body in session.log.read()]
        held += [session.evidence.read(blob.blake3, limit=1 << 20) for blob in session.evidence.iter()]
    held += [path.read_bytes() for path in (tmp_path / "home").rglob("*") if path.is_file()]
    assert len(held) > 10
    for text in held:
        assert not re.search(
            "|".join(map(re.escape, (SECRET, SPELLED, MADE_UP))), text.decode(errors="replace")
        )
