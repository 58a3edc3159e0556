"""TLS parameters reach libpq as they are given, and a password is nowhere but where it was put."""

from __future__ import annotations

import contextlib
import datetime as dt
import ipaddress
import json
import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from muniment.domain.errors import MunimentError
from muniment.store.postgres_log import PostgresLog

SECRET = "pw-7Qx9zKw3-unlikely"


def certificate(folder: Path, name: str, *, address: str) -> None:
    """A self-made certificate for a host, that clients are to trust by itself."""
    key = ec.generate_private_key(ec.SECP256R1())
    now = dt.datetime.now(dt.UTC)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - dt.timedelta(hours=1))
        .not_valid_after(now + dt.timedelta(hours=1))
        .add_extension(
            x509.SubjectAlternativeName([x509.DNSName(name), x509.IPAddress(ipaddress.ip_address(address))]),
            critical=False,
        )
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    (folder / "server.crt").write_bytes(made.public_bytes(serialization.Encoding.PEM))
    (folder / "server.key").write_bytes(
        key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )
    )


class Tls:
    """A server that takes TCP only with TLS and a password."""

    def __init__(self, server: Any, trusted: Path) -> None:
        self.server, self.trusted = server, trusted

    def url(self, host: str, **more: str) -> str:
        given = {
            "schema": "tls",
            "sslmode": "verify-full",
            "sslrootcert": str(self.trusted),
            "connect_timeout": "5",
            **more,
        }
        query = "&".join(f"{key}={value}" for key, value in given.items())
        return f"postgresql://postgres:{self.server.password}@{host}:{self.server.port}/postgres?{query}"


@pytest.fixture(scope="module")
def tls(postgres_place: Any, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Tls]:
    folder = tmp_path_factory.mktemp("tls")
    certificate(folder, "localhost", address="127.0.0.1")
    with postgres_place.server() as server:
        for name in ("server.crt", "server.key"):
            (server.data / name).write_bytes((folder / name).read_bytes())
            (server.data / name).chmod(0o600)
            owner = server.data.stat()
            os.chown(server.data / name, owner.st_uid, owner.st_gid)
        access = (server.data / "pg_hba.conf").read_text()
        (server.data / "pg_hba.conf").write_text(access.replace("host  all ", "hostssl all "))
        server.configure(ssl="on")
        server.restart()
        made = Tls(server, folder / "server.crt")
        PostgresLog.create(made.url("localhost")).close()
        yield made


@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
def test_a_verified_server_is_used_for_every_connection(tls: Tls, host: str) -> None:
    with contextlib.closing(PostgresLog.open(tls.url(host))) as log:
        follower = log.subscribe()
        assert log.head().size == 0
        with tls.server.connect() as db:
            rows = db.execute(
                "SELECT ssl FROM pg_stat_ssl JOIN pg_stat_activity USING (pid) WHERE application_name = 'muniment'"
            ).fetchall()
        assert rows
        assert set(rows) == {(True,)}
        follower.stop()


WRONG = {
    "a wrong name": ("127.0.0.2", {}),
    "no trusted certificate": ("localhost", {"sslrootcert": "/nowhere/root.crt"}),
    "another certificate": ("localhost", {"sslrootcert": "{other}"}),
    "no tls at all": ("localhost", {"sslmode": "disable"}),
    "a mode that does not exist": ("localhost", {"sslmode": "verify-ful"}),
}


@pytest.mark.parametrize("case", WRONG)
def test_what_is_not_verified_is_not_used(tls: Tls, case: str, tmp_path: Path) -> None:
    certificate(tmp_path, "localhost", address="127.0.0.1")
    host, more = WRONG[case]
    url = tls.url(host, **{key: value.format(other=tmp_path / "server.crt") for key, value in more.items()})
    with pytest.raises(MunimentError) as caught:
        PostgresLog.open(url)
    assert caught.value.exit_code in {2, 4, 8}
    assert tls.server.password not in f"{caught.value} {caught.value.hint} {caught.value.context}"


# -- passwords -----------------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def guarded(postgres_place: Any) -> Iterator[Any]:
    """A server that writes every statement to its log, and a login with a password that is found nowhere else."""
    with postgres_place.server(
        log_statement="all", log_connections="on", log_min_duration_statement="0"
    ) as server:
        with server.connect() as db:
            db.execute("SET log_statement = 'none'")
            db.execute("SET log_min_duration_statement = -1")
            db.execute(f"CREATE ROLE teller LOGIN CREATEROLE PASSWORD '{SECRET}'".encode())
            db.execute("GRANT CREATE ON DATABASE postgres TO teller")
        yield server


def program(words: list[str], env: dict[str, str], home: Path) -> tuple[int, str]:
    """Run the program as a process; code, and all it wrote."""
    clean = {key: value for key, value in os.environ.items() if not key.startswith(("PG", "MUNIMENT"))}
    done = subprocess.run(
        [sys.executable, "-c", "from muniment.cli.main import main; main()", *words],
        env={**clean, "MUNIMENT_HOME": str(home), **env},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    return done.returncode, done.stdout + done.stderr


def ways(
    server: Any, folder: Path, schema: str, password: str = SECRET
) -> dict[str, tuple[str, dict[str, str]]]:
    """Name -> URL and environment, each of which carries a password."""
    passfile = folder / "pgpass"
    passfile.write_text(f"127.0.0.1:{server.port}:*:teller:{password}\n")
    passfile.chmod(0o600)
    end = f"127.0.0.1:{server.port}/postgres?schema={schema}"
    bare = f"postgresql://teller@{end}"
    return {
        "url": (f"postgresql://teller:{password}@{end}", {}),
        "query": (f"{bare}&password={password}", {}),
        "environment": (bare, {"PGPASSWORD": password}),
        "file": (bare, {"PGPASSFILE": str(passfile)}),
        "store": ("", {"MUNIMENT_STORE": f"postgresql://teller:{password}@{end}"}),
    }


COMMANDS = [
    ["store", "migrate", "--sql"],
    ["store", "migrate", "--dry-run", "-o", "json"],
    ["store", "migrate"],
    ["init", "-v"],
    ["history", "list", "-o", "json"],
    ["history", "show", "#1", "-o", "json", "-v"],
    ["verify", "store", "-v"],
    ["store", "maintain", "nothing", "-o", "json"],
    ["history", "show", "#99", "-v"],
    ["init"],
]


@pytest.mark.parametrize("way", ["url", "query", "environment", "file", "store"])
def test_a_password_is_found_nowhere(guarded: Any, tmp_path: Path, way: str) -> None:
    schema = f"secret_{way}"
    url, env = ways(guarded, tmp_path, schema)[way]
    where = ["--store", url] if url else []
    said = [program([*words, *where], env, tmp_path / "home") for words in COMMANDS]
    codes = [code for code, _ in said]
    assert codes[:8] == [0] * 8, said
    assert 0 not in codes[8:]
    shown = "\n".join(text for _, text in said)
    queries = guarded.execute("SELECT string_agg(query || application_name, ' ') FROM pg_stat_activity")
    with guarded.connect() as db:
        bodies = b"".join(
            row[0] for row in db.execute(f"SELECT body FROM {schema}.records".encode()).fetchall()
        )
        comments = db.execute("SELECT string_agg(description, ' ') FROM pg_shdescription").fetchall()
    for place, text in {
        "output": shown,
        "activity": repr(queries),
        "records": bodies.decode(),
        "comments": repr(comments),
        "server log": guarded.log,
        "home": "".join(p.read_text(errors="replace") for p in (tmp_path / "home").rglob("*") if p.is_file()),
    }.items():
        assert SECRET not in text, place
    assert f"{schema}" in guarded.log, "its log holds the statements"


FAULTS = {
    "a wrong password": lambda url: url,
    "no such database": lambda url: url.replace("/postgres?", "/nothing?"),
    "no server": lambda url: url.replace("127.0.0.1", "127.0.0.9").replace("?", "?connect_timeout=2&"),
    "an unknown parameter": lambda url: f"{url}&no_such=1",
    "a bad port": lambda url: url.replace("@127.0.0.1:", "@127.0.0.1:x"),
    "a bad schema": lambda url: f"{url}-x",
}


@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("way", ["url", "query", "environment", "file", "store"])
def test_a_password_is_in_no_error(guarded: Any, tmp_path: Path, fault: str, way: str) -> None:
    url, env = ways(guarded, tmp_path, "faulty", f"{SECRET}-wrong")[way]
    change = FAULTS[fault]
    env = {key: change(value) if key == "MUNIMENT_STORE" else value for key, value in env.items()}
    where = ["--store", change(url)] if url else []
    for words in (["history", "list", "-v"], ["history", "list", "-o", "json"], ["store", "migrate", "-v"]):
        code, text = program([*words, *where], env, tmp_path / "home")
        assert code in {2, 3, 4, 8}, text
        assert SECRET not in text
        if "json" in words:
            assert json.loads(text)["exit"] == code
    assert SECRET not in guarded.log


def test_the_test_would_see_a_password(guarded: Any) -> None:
    with psycopg.connect(guarded.url(), autocommit=True) as db:
        db.execute("SELECT 'canary-in-the-log'")
    assert "canary-in-the-log" in guarded.log
