"""From a URL to the place of the evidence.

    /srv/store, file:///srv/store       `evidence/` in that folder, `staging/` beside it; one shared by several hosts too
    postgresql://…                      the log's own database and schema
    s3://bucket/prefix?endpoint=…       S3-compatible storage (extra `s3`)

A store keeps its evidence beside its log. `evidence=URL` in the query of the store's URL says otherwise, else the variable
`MUNIMENT_EVIDENCE` does.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING
from urllib.parse import unquote, urlsplit

from muniment.domain.errors import UsageError
from muniment.store.evidence import EvidenceStore
from muniment.store.evidence_folder import EvidenceFolder

if TYPE_CHECKING:
    from muniment.store.evidence_postgres import Connect

VARIABLE = "MUNIMENT_EVIDENCE"
POSTGRES = ("postgresql:", "postgres:")


def evidence_url(store: str, given: str = "", environ: Mapping[str, str] = os.environ) -> str:
    """Where the evidence of a store is.

    Args:
        store: URL of the store: the default.
        given: `evidence=` of that URL, "" if it says nothing.
    """
    return given or environ.get(VARIABLE, "") or store


def open_evidence(
    url: str | Path,
    *,
    own: bool = False,
    read_only: bool = False,
    connect: Connect | None = None,
    schema: str = "",
    name: str = "",
) -> EvidenceStore:
    """Open a place of evidence.

    Args:
        url: see above.
        own: the folder is the store's own, and `evidence/` is made at the first `put`. Else the folder was given from outside, and
            `evidence/` must be in it: a shared folder that is not mounted has no missing blobs.
        read_only: refuse `put`.
        connect, schema, name: the connections of the log, its schema, and its name without a secret; for evidence in its database.

    Raises:
        UsageError: no such place; no part of a URL that could hold a secret is repeated.
        UnfitError, UnavailableError: see `EvidenceS3`.
    """
    if isinstance(url, str) and url.startswith("s3:"):
        from muniment.store import evidence_s3

        return evidence_s3.EvidenceS3(evidence_s3.parse(url, os.environ), read_only=read_only)
    if isinstance(url, str) and url.startswith(POSTGRES):
        if connect is None:
            raise UsageError(
                "evidence in PostgreSQL lies in the database of the log, and this log is in none",
                code="evidence.url",
                hint="name a folder or an s3:// URL",
            )
        from muniment.store.evidence_postgres import EvidencePostgres

        return EvidencePostgres(connect, schema, name, read_only=read_only)
    folder = url if isinstance(url, Path) else _folder(url)
    folder = folder.absolute()
    return EvidenceFolder(folder / "evidence", folder / "staging", read_only=read_only, mounted=not own)


def _folder(url: str) -> Path:
    parts = urlsplit(url) if url.startswith("file:") else None
    path = unquote(parts.path) if parts else url
    scheme = url.partition("://")[0] if "://" in url and parts is None else ""
    if (
        scheme
        or not path
        or (parts and not url.startswith("file:///"))
        or "\0" in path
        or (parts and (parts.netloc or parts.query or parts.fragment))
    ):
        raise UsageError(
            "not the URL of a place of evidence",
            code="evidence.url",
            expected="a folder, file:///folder, s3://bucket/prefix or the postgresql:// URL of the log",
            found=f"{scheme}://…" if scheme.isalnum() else "",
        )
    return Path(path).expanduser()
