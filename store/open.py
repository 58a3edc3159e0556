"""From the URL of a store to its log."""

from __future__ import annotations

from pathlib import Path
from urllib.parse import unquote, urlsplit

from muniment.domain.errors import UsageError
from muniment.store.api import KIND_RECORDS, Log
from muniment.store.base import Clock
from muniment.store.postgres_url import is_postgres, parse
from muniment.store.sqlite_log import SqliteLog


def open_log(url: str | Path, *, read_only: bool = False, clock: Clock | None = None) -> Log:
    """Open the log of a store.

    Args:
        url: a folder, `sqlite:///` and its absolute path (percent-encoded), or `postgresql://…` (`store.postgres_url`).
        read_only: appends are refused, whatever the rights on the file.
        clock: microseconds since 1970; the host's clock if not given.

    Raises:
        UsageError: no such kind of store in this version.
        NotFoundError, WrongError, InvalidError, UnfitError, UnavailableError: see `SqliteLog.open`.
    """
    if isinstance(url, str) and is_postgres(url):
        from muniment.store.postgres_log import PostgresLog

        return PostgresLog.open(url, read_only=read_only, clock=clock)
    return SqliteLog.open(folder_of(url), read_only=read_only, clock=clock)


def create_log(url: str | Path, kind: str = KIND_RECORDS, *, clock: Clock | None = None) -> Log:
    """Create an empty log, whole or not at all, and open it.

    Raises:
        ConflictError: there is one already.
        UsageError, UnfitError, UnavailableError: see `open_log`.
    """
    if isinstance(url, str) and is_postgres(url):
        from muniment.store.postgres_log import PostgresLog

        return PostgresLog.create(url, kind=kind, clock=clock)
    return SqliteLog.create(folder_of(url), kind=kind, clock=clock)


def name_of(url: str | Path) -> str:
    """What people are shown of a store: its folder, or its URL without what could be a secret.

    Raises:
        UsageError: see `folder_of` and `store.postgres_url.parse`.
    """
    return parse(url).name if isinstance(url, str) and is_postgres(url) else str(folder_of(url).absolute())


def folder_of(url: str | Path) -> Path:
    """Return the folder a URL names.

    Raises:
        UsageError: empty, a host in a `sqlite:` URL, or a kind of store this version does not have. The
            message names the scheme only: the rest may hold a password.
    """
    if isinstance(url, Path):
        return url
    scheme, mark, _ = url.partition("://")
    if not mark:
        if not url or "\0" in url:
            raise UsageError("the store has no name", code="store.url", expected="a folder")
        if url.startswith(
            ("postgresql//", "postgres//")
        ):  # no folder is meant, and what follows may be a password
            raise UsageError("not the URL of a store", code="store.url", expected="postgresql://…")
        return Path(url).expanduser()
    if scheme != "sqlite":
        known = scheme if scheme.isalnum() else "…"
        raise UsageError(
            f"a store at {known}:// is not supported by this version",
            code="store.url",
            hint="use a folder, sqlite:///path or postgresql://…",
            expected="a folder, sqlite:///path or postgresql://host/database",
            found=f"{known}://",
        )
    parts = urlsplit(url)
    if parts.netloc or len(parts.path) < 2 or parts.query or parts.fragment or "%00" in parts.path:
        raise UsageError("not the URL of a store", code="store.url", expected="sqlite:///absolute/path")
    return Path(unquote(parts.path))
