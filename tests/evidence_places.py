"""Each place of evidence, with what a test needs to spoil it behind the store's back."""

from __future__ import annotations

import os
import secrets
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import psycopg
import s3_server
from muniment.store.evidence import EvidenceStore, name_of
from muniment.store.evidence_folder import EvidenceFolder
from muniment.store.evidence_postgres import EvidencePostgres
from muniment.store.evidence_s3 import EvidenceS3, parse
from muniment.store.files import CHUNK
from muniment.store.postgres_log import PostgresLog

KINDS = ("folder", "postgres", "s3")


class FolderPlace:
    """Evidence in a folder."""

    kind = "folder"

    def __init__(self, base: Path) -> None:
        self.base = base

    def store(self, *, read_only: bool = False) -> EvidenceStore:
        return EvidenceFolder(self.base / "evidence", self.base / "staging", read_only=read_only)

    def code(self) -> str:
        """Lines of Python that open `store` in another process."""
        return (
            "from pathlib import Path\n"
            "from muniment.store.evidence_folder import EvidenceFolder\n"
            f"base = Path({str(self.base)!r})\n"
            "store = EvidenceFolder(base / 'evidence', base / 'staging')\n"
        )

    def damage(self, address: str, data: bytes) -> None:
        path = self.base / "evidence" / name_of(address)
        path.chmod(0o600)
        path.write_bytes(data)
        path.chmod(0o400)

    def remove(self, address: str) -> None:
        (self.base / "evidence" / name_of(address)).unlink()

    def stray(self) -> str:
        (self.base / "evidence" / "README").write_bytes(b"x")
        return "README"


class PostgresPlace:
    """Evidence in a schema of a database of its own."""

    kind = "postgres"
    schema = "log"

    def __init__(self, url: str) -> None:
        self.url = url
        PostgresLog.create(f"{url}{'&' if '?' in url else '?'}schema={self.schema}").close()

    @contextmanager
    def connect(self) -> Iterator[psycopg.Connection[Any]]:
        with psycopg.connect(self.url, autocommit=True) as db:
            yield db

    def store(self, *, read_only: bool = False) -> EvidenceStore:
        return EvidencePostgres(self.connect, self.schema, "postgresql://test", read_only=read_only)

    def code(self) -> str:
        return (
            "from contextlib import contextmanager\n"
            "import psycopg\n"
            "from muniment.store.evidence_postgres import EvidencePostgres\n"
            "@contextmanager\n"
            "def connect():\n"
            f"    with psycopg.connect({self.url!r}, autocommit=True) as db:\n"
            "        yield db\n"
            f"store = EvidencePostgres(connect, {self.schema!r}, 'postgresql://test')\n"
        )

    @contextmanager
    def spoiling(self) -> Iterator[psycopg.Connection[Any]]:
        """What only a superuser can: neither triggers nor foreign keys."""
        with psycopg.connect(self.url) as db:
            db.execute("SET session_replication_role = replica")
            db.execute("SET search_path TO log")
            yield db

    def damage(self, address: str, data: bytes) -> None:
        with self.spoiling() as db:
            db.execute("DELETE FROM evidence_chunk WHERE blake3 = %s", (address,))
            for index, at in enumerate(range(0, len(data), CHUNK)):
                db.execute(
                    "INSERT INTO evidence_chunk VALUES (%s, %s, %s)", (address, index, data[at : at + CHUNK])
                )

    def remove(self, address: str) -> None:
        with self.spoiling() as db:
            db.execute("DELETE FROM evidence_chunk WHERE blake3 = %s", (address,))
            db.execute("DELETE FROM evidence WHERE blake3 = %s", (address,))

    def stray(self) -> str:
        with self.spoiling() as db:
            db.execute("INSERT INTO evidence_chunk VALUES (%s, 7, 'x')", ("ab" * 32,))
        return f"chunk 7 of {'ab' * 32}"


class S3Place:
    """Evidence under a prefix of a bucket of its own."""

    kind = "s3"

    def __init__(self, server: s3_server.Server) -> None:
        self.server = server
        self.bucket = server.bucket(f"b{secrets.token_hex(8)}")

    def url(self, endpoint: str = "") -> str:
        return f"s3://{self.bucket}/team/store?endpoint={endpoint or self.server.url}"

    def store(self, *, read_only: bool = False, endpoint: str = "") -> EvidenceS3:
        place = parse(self.url(endpoint), {})
        return EvidenceS3(place, read_only=read_only, timeout_s=30, retries=2)

    def code(self) -> str:
        return (
            "import os\n"
            "from muniment.store.evidence_s3 import EvidenceS3, parse\n"
            f"os.environ.update({s3_server.ENVIRONMENT!r})\n"
            f"store = EvidenceS3(parse({self.url()!r}, {{}}))\n"
        )

    def client(self) -> Any:
        from obstore.store import S3Store

        return S3Store(self.bucket, endpoint=self.server.url, client_options={"allow_http": True})

    def damage(self, address: str, data: bytes) -> None:
        import obstore

        obstore.put(self.client(), f"team/store/evidence/{name_of(address)}", data)

    def remove(self, address: str) -> None:
        import obstore

        obstore.delete(self.client(), f"team/store/evidence/{name_of(address)}")

    def stray(self) -> str:
        import obstore

        obstore.put(self.client(), "team/store/evidence/ab/README", b"x")
        obstore.put(self.client(), "team/store/evidencelike", b"beside the prefix")
        return "ab/README"


Setup = FolderPlace | PostgresPlace | S3Place


@contextmanager
def s3_for_tests() -> Iterator[s3_server.Server]:
    """A server, and the credentials for it in the environment."""
    before = {name: os.environ.get(name) for name in s3_server.ENVIRONMENT}
    os.environ.update(s3_server.ENVIRONMENT)
    try:
        with s3_server.server() as server:
            yield server
    finally:
        for name, value in before.items():
            os.environ.pop(name, None)
            if value is not None:
                os.environ[name] = value
