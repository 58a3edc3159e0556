"""The URL of a store in PostgreSQL: libpq's own, and three parameters of ours in its query.

    postgresql://user@host:5432/database?schema=muniment&evidence=s3://bucket/prefix&pool=16&sslmode=verify-full

Whatever is not ours goes to libpq as it stands: several hosts, TLS, services, `options`. A password may stand there,
or better in `PGPASSWORD` or `~/.pgpass`; it is in no name and in no error.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, urlencode, urlsplit, urlunsplit

from muniment.domain.errors import UsageError

SCHEMES = ("postgresql", "postgres")
SCHEMA = "muniment"
POOL = 16

_name = re.compile(r"[a-z_][a-z0-9_]{0,62}").fullmatch


class Place(NamedTuple):
    """Where a log in PostgreSQL is.

    Attributes:
        conninfo: for libpq, maybe with a password: never shown.
        schema: the one log of it lives in this schema.
        name: for people: user, host, port, database and schema.
        evidence: URL of the evidence, "" for the database itself.
        pool: connections for reading, at most.
    """

    conninfo: str
    schema: str
    name: str
    evidence: str = ""
    pool: int = POOL


def is_postgres(url: object) -> bool:
    """Tell whether a URL, well formed or not, means PostgreSQL."""
    return isinstance(url, str) and url.partition(":")[0] in SCHEMES and ":" in url


def parse(url: str) -> Place:
    """Take a URL apart.

    Raises:
        UsageError: not such a URL; the message repeats no part of it that could hold a password.
    """
    try:
        parts = urlsplit(url)
        query = parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query))
    except ValueError as error:
        raise _bad("not the URL of a store in PostgreSQL", found="a URL that cannot be read") from error
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://") or parts.fragment:
        raise _bad("not the URL of a store in PostgreSQL", found=f"{parts.scheme[:20]}:…")
    ours = {"schema": SCHEMA, "evidence": "", "pool": str(POOL)}
    theirs = []
    for key, value in query:
        if key in ours:
            ours[key] = value
        else:
            theirs.append((key, value))
    if not _name(ours["schema"]):
        raise UsageError(
            "not the name of a schema",
            code="store.url",
            expected="a-z, 0-9 and _, at most 63",
            found=ours["schema"][:80],
        )
    if not ours["pool"].isdigit() or not 1 <= int(ours["pool"]) <= 1000:
        raise UsageError(
            "not a size of a pool", code="store.url", expected="1..1000", found=ours["pool"][:20]
        )
    conninfo = urlunsplit(("postgresql", parts.netloc, parts.path, urlencode(theirs, quote_via=quote), ""))
    user, at, hosts = parts.netloc.rpartition("@")
    shown = dict(theirs)
    name = (
        f"postgresql://{user.partition(':')[0]}{at}{hosts or shown.get('host', '')}{parts.path}"
        f"?schema={ours['schema']}"
    )
    return Place(conninfo, ours["schema"], name, ours["evidence"], int(ours["pool"]))


def _bad(message: str, *, found: str) -> UsageError:
    return UsageError(
        message,
        code="store.url",
        expected="postgresql://[user@]host[:port]/database[?schema=NAME]",
        found=found,
    )
