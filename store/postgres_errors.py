"""What PostgreSQL and its driver say, in our words and with our exit codes. What is unknown is unavailable, never fine.

No text of the driver is shown but the server's primary message: parameters and connection strings hold secrets.
Codes: PostgreSQL documentation, appendix A.
"""

from __future__ import annotations

import psycopg
from muniment.domain.errors import (
    DeniedError,
    MunimentError,
    NotFoundError,
    UnavailableError,
    UnfitError,
    UsageError,
    WrongError,
)

UNREACHABLE = "store.unreachable"
_RETRY = "try again; what was acknowledged is kept"
_ASK = "ask who keeps the database for the role it needs"

_Meaning = tuple[type[MunimentError], str, str, str]

_GONE: _Meaning = (UnavailableError, UNREACHABLE, "the server went away", _RETRY)
_VALUE: _Meaning = (
    UsageError,
    "store.url",
    "a parameter of the URL has no such value",
    "look at the parameters after ?",
)
_TLS: _Meaning = (
    UnavailableError,
    "store.tls",
    "no secure connection as the URL asks for",
    "sslmode= and sslrootcert= in the URL, ssl = on at the server",
)
_SCHEMA: _Meaning = (
    WrongError,
    "store.schema",
    "the tables are not those of this schema",
    "muniment verify store; restore a copy",
)
_BY_STATE: dict[str, _Meaning] = {
    "25006": (
        UnavailableError,
        "store.not_primary",
        "the server takes no writes",
        "name the primary, or all hosts and target_session_attrs=read-write",
    ),
    "42501": (DeniedError, "store.rights", "this role may not do that", _ASK),
    "53100": (UnavailableError, "store.full", "the disk of the server is full", "make room, then try again"),
    "53300": (UnavailableError, "store.connections", "the server takes no more connections", _RETRY),
    "55P03": (UnavailableError, "store.locked", "another writer kept the log locked", "try again"),
    "57014": (UnavailableError, "store.timeout", "the server gave up on a statement", "try again"),
    "40001": (UnavailableError, "store.locked", "the server gave up on a transaction", "try again"),
    "40P01": (UnavailableError, "store.locked", "the server gave up on a transaction", "try again"),
    "22P05": (
        UnfitError,
        "store.encoding",
        "the database cannot hold every character",
        "createdb --encoding=UTF8 --template=template0",
    ),
    "42939": (
        UsageError,
        "store.url",
        "PostgreSQL keeps names like this for itself",
        "name another with schema=, not pg_…",
    ),
    "25P03": _GONE,
    "25P04": _GONE,
    "58030": (UnavailableError, "store.io", "the server cannot read or write", "check its disk"),
    "3F000": _SCHEMA,
    "42P01": _SCHEMA,
    "42703": _SCHEMA,
    "23505": (
        WrongError,
        "store.head_mismatch",
        "the rows of the log go beyond its head",
        "muniment verify store; restore a copy",
    ),
    "XX001": (WrongError, "store.corrupt", "the database is damaged", "restore a copy"),
    "XX002": (
        WrongError,
        "store.corrupt",
        "an index of the database is damaged",
        "REINDEX, or restore a copy",
    ),
    "P0001": (DeniedError, "store.append_only", "the log is append-only", "muniment store migrate --help"),
}
_BY_CLASS: dict[str, _Meaning] = {
    "08": _GONE,
    "57": _GONE,
    "53": (UnavailableError, "store.resources", "the server is out of resources", _RETRY),
    "28": (DeniedError, "store.login", "the server refuses this login", "check user and password"),
}
# A refused connection has no code, only a text; in another language than English it counts as unreachable.
_BY_TEXT: tuple[tuple[str, _Meaning], ...] = (
    ("password authentication failed", (DeniedError, "store.login", "the server refuses this login", "check user and password")),
    ("no password supplied", (DeniedError, "store.login", "the server wants a password", "PGPASSWORD or ~/.pgpass")),
    ("no pg_hba.conf entry", (DeniedError, "store.login", "the server lets nobody in from here", _ASK)),
    ("authentication failed", (DeniedError, "store.login", "the server refuses this login", "check user and password")),
    ("permission denied for database", (DeniedError, "store.rights", "this role may not connect", _ASK)),
    ("is not permitted to log in", (DeniedError, "store.login", "this role may not log in", _ASK)),
    ("too many connections", (UnavailableError, "store.connections", "the server takes no more connections", _RETRY)),
    ("too many clients", (UnavailableError, "store.connections", "the server takes no more connections", _RETRY)),
    ("remaining connection slots", (UnavailableError, "store.connections", "the server takes no more connections", _RETRY)),
    ("connection is bad: invalid", _VALUE),
    ("SSL was required", _TLS),
    ("certificate", _TLS),
    ("session is read-only", _BY_STATE["25006"]),
    ("session is not read-only", (UnavailableError, "store.not_primary", "the server is not the one asked for", _RETRY)),
)  # fmt: skip


def from_postgres(error: psycopg.Error, name: str) -> MunimentError:
    """Translate an error of the driver; `name` is the place, without a secret."""
    state = error.sqlstate or ""
    text = (error.diag.message_primary if state else str(error)) or ""
    meaning = _BY_STATE.get(state) or _BY_CLASS.get(state[:2])
    if meaning is None and not state:
        if "database" in text and "does not exist" in text:
            meaning = (
                NotFoundError,
                "store.not_found",
                "there is no such database",
                "create it, or name another",
            )
        elif "role" in text and "does not exist" in text:
            meaning = (DeniedError, "store.login", "there is no such role", "check the user")
        else:
            meaning = next((meaning for part, meaning in _BY_TEXT if part in text), None)
    if meaning is None:
        if is_lost(error):
            meaning = (
                UnavailableError,
                UNREACHABLE,
                "the server does not answer",
                "is it running? try again",
            )
        else:
            meaning = (UnavailableError, "store.postgres", "the database did not answer", "")
    kind, code, what, hint = meaning
    return kind(f"{name}: {what}", code=code, hint=hint, found=_found(state, text))


def is_lost(error: BaseException | None) -> bool:
    """Tell whether the connection is gone, so that another one may be tried."""
    if not isinstance(error, psycopg.OperationalError | psycopg.InterfaceError):
        return False
    state = error.sqlstate or ""
    return not state or (state[:2] in {"08", "57"} and state != "57014") or state in {"25P03", "25P04"}


def _found(state: str, text: str) -> str:
    # The first line: libpq adds its hints below. It names host, port, user and database, never the password.
    line = text.strip().partition("\n")[0][:200]
    return f"{state} {line}".strip()
