"""The URL of a store in PostgreSQL: libpq's own, and three parameters of ours in its query.

    postgresql://user@host:5432/database?schema=muniment&evidence=s3://bucket/prefix&pool=16&sslmode=verify-full

Whatever is not ours goes to libpq as it stands: several hosts, TLS, services, `options`. A password may stand there,
or better in `PGPASSWORD` or `~/.pgpass`; it is in no name and in no error. A URL of another form than this is refused
before libpq sees it: what it takes for a host, and names in its errors, may be the rest of a password.
"""

from __future__ import annotations

import re
from typing import NamedTuple
from urllib.parse import parse_qsl, quote, unquote, urlencode, urlsplit

from muniment.domain.errors import UsageError

SCHEMES = ("postgresql", "postgres")
SCHEMA = "muniment"
POOL = 16

_SHOWN = frozenset(
    {"host", "hostaddr", "port", "dbname", "user", "service", "sslmode", "target_session_attrs"}
)

_name = re.compile(r"[a-z_][a-z0-9_]{0,62}").fullmatch
_user = re.compile(r"([^:@\[\]]*)(:[^:@\[\]]*)?").fullmatch
_host = re.compile(r"([\w.%+~-]*|\[[0-9A-Fa-f:.%\w]+\])(:[0-9]{0,5})?", re.ASCII).fullmatch
_path = re.compile(r"(/[^@:/\s]*)?").fullmatch
_stray_percent = re.compile(r"%(?![0-9A-Fa-f]{2})").search


class Place(NamedTuple):
    """Where a log in PostgreSQL is.

    Attributes:
        conninfo: for libpq, maybe with a password: never shown.
        schema: the one log of it lives in this schema.
        name: for people, and good as a URL: user, host, port, database and schema.
        evidence: URL of the evidence, "" for the database itself.
        pool: connections for reading, at most.
        unfinished: a log is meant that is no store yet (a copy is being made).
    """

    conninfo: str
    schema: str
    name: str
    evidence: str = ""
    pool: int = POOL
    unfinished: bool = False


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
    except ValueError:
        raise _bad("a URL that cannot be read") from None  # the text of the error repeats parts of it
    if parts.scheme not in SCHEMES or not url.startswith(f"{parts.scheme}://") or parts.fragment:
        raise _bad(f"{parts.scheme[:20]}:…")
    user, at, hosts = parts.netloc.rpartition("@")
    formed = _user(user) and _path(parts.path) and all(map(_host, hosts.split(",")))
    if not formed or _stray_percent(url):
        raise _bad("a character that must be written as %XX (in a password: %40 for @, %2F for /, %3A for :)")
    ours = {"schema": SCHEMA, "evidence": "", "pool": str(POOL)}
    theirs = []
    for key, value in query:
        if key not in ours:
            theirs.append((key, value))
        elif sum(other == key for other, _ in query) > 1:
            raise UsageError(f"{key} is given twice", code="store.url", hint="give it once")
        else:
            ours[key] = value
    if not _name(ours["schema"]):
        raise UsageError(
            "not the name of a schema",
            code="store.url",
            expected="a-z, 0-9 and _, at most 63",
            found=ours["schema"][:80],
        )
    if not re.fullmatch("[0-9]{1,4}", ours["pool"]) or not 1 <= int(ours["pool"]) <= 1000:
        raise UsageError(
            "not a size of a pool", code="store.url", expected="1..1000", found=ours["pool"][:20]
        )
    # not urlunsplit: it drops the // before an empty host
    conninfo = f"postgresql://{parts.netloc}{parts.path}" + (
        "?" + urlencode(theirs, quote_via=quote) if theirs else ""
    )
    shown = [*((key, value) for key, value in theirs if key in _SHOWN), ("schema", ours["schema"])]
    name = f"postgresql://{user.partition(':')[0]}{at}{hosts}{parts.path}?{urlencode(shown, safe='/,')}"
    return Place(conninfo, ours["schema"], name, ours["evidence"], int(ours["pool"]))


def passwords(url: object) -> set[str]:
    """Every spelling of a password that a URL holds, so that nobody records it; none for a URL of another kind."""
    if not is_postgres(url):
        return set()
    parts = urlsplit(str(url))
    written = parts.netloc.rpartition("@")[0].partition(":")[2]
    asked = [value for key, value in parse_qsl(parts.query) if key == "password"]
    return {written, unquote(written), *asked, *map(quote, asked)} - {""}


def _bad(found: str) -> UsageError:
    return UsageError(
        "not the URL of a store in PostgreSQL",
        code="store.url",
        expected="postgresql://[user@]host[:port]/database[?schema=NAME]",
        found=found,
    )
