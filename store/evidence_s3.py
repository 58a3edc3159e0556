"""Evidence in S3-compatible storage: `PREFIX/evidence/ab/cdef…`, the names of a folder store.

1. A blob of up to 8 MiB goes in one request with `If-None-Match: *`. A larger one goes in parts under `PREFIX/staging/` and is
   then copied to its name, on the server and under the same condition. A server that knows no condition (501) is asked first and
   then written to without it: the only race left is between equal bytes.
2. After a write the blob is read back and both digests are compared, whoever wrote it.
3. It is read in ranges of 8 MiB of one version (`If-Match`): each has its own time limit and retries, and memory holds one.
4. Only the server's own `NoSuchKey` is a missing blob. Any other 404 (no such bucket, a proxy), 403, 5xx and silence are
   unreadable.
5. Credentials come from the environment (`AWS_…`), never from a URL. Of what the server says only status and code are shown.
"""

from __future__ import annotations

import os
import re
import secrets
import tempfile
from collections.abc import Callable, Iterable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar
from urllib.parse import parse_qsl, unquote, urlsplit

from muniment.domain.errors import MunimentError, NotFoundError, UnavailableError, UnfitError, UsageError
from muniment.domain.os_faults import shown
from muniment.store.evidence import (
    Blob,
    EvidenceStore,
    Source,
    Spool,
    address_in,
    check_address,
    damaged,
    name_of,
)
from muniment.store.files import faults

if TYPE_CHECKING:
    from obstore import GetOptions
    from obstore.store import S3Store

PART = 8 << 20
LARGEST = 5 << 30  # bytes; what one server-side copy takes (Amazon S3, "Copying objects")
AT_ONCE = 8  # questions to the server at a time

_CREDENTIALS = (
    "AWS_ACCESS_KEY_ID",
    "AWS_WEB_IDENTITY_TOKEN_FILE",
    "AWS_CONTAINER_CREDENTIALS_RELATIVE_URI",
    "AWS_CONTAINER_CREDENTIALS_FULL_URI",
)
_ENDPOINTS = ("AWS_ENDPOINT_URL_S3", "AWS_ENDPOINT_URL", "AWS_ENDPOINT")
_LOOPBACK = {"localhost", "127.0.0.1", "::1"}
_QUERY = {"endpoint", "region", "allow_http"}
_bucket = re.compile(r"[a-z0-9][a-z0-9.-]{1,61}[a-z0-9]").fullmatch
_prefix = re.compile(r"[A-Za-z0-9_=-][A-Za-z0-9._=-]*(?:/[A-Za-z0-9_=-][A-Za-z0-9._=-]*)*").fullmatch
_status = re.compile(r"status code: (\d{3})")
_code = re.compile(r"<Code>([A-Za-z0-9]{1,60})</Code>")
_kind = re.compile(r"HttpError \{\s+kind: ([A-Za-z]{1,30})")
T = TypeVar("T")


class Place(NamedTuple):
    """A URL taken apart: where the evidence is, and nothing secret."""

    bucket: str
    prefix: str
    endpoint: str
    region: str
    allow_http: bool


def parse(url: str, environ: Mapping[str, str]) -> Place:
    """Take `s3://bucket/prefix?endpoint=…&region=…&allow_http=1` apart; what it leaves out comes from `AWS_…`.

    Raises:
        UsageError: not such a URL, a secret in it, or plain HTTP to another host that nobody asked for.
    """
    try:
        parts = urlsplit(url)
        query = dict(parse_qsl(parts.query, keep_blank_values=True, strict_parsing=bool(parts.query)))
        prefix = unquote(parts.path.strip("/"))
        endpoint = query.get("endpoint") or next(filter(None, map(environ.get, _ENDPOINTS)), "")
        server = urlsplit(endpoint)
        host = server.hostname or ""
    except ValueError:
        raise _no_url("it cannot be read") from None  # the error would repeat parts of it
    if "@" in parts.netloc or "@" in server.netloc:
        raise _no_url("it holds a user or a password; credentials come from the environment")
    if unknown := query.keys() - _QUERY:
        raise _no_url(f"unknown parameter {shown(min(unknown))[:40]}")
    if parts.scheme != "s3" or parts.fragment or not _bucket(parts.netloc):
        raise _no_url("bucket or scheme is not as expected")
    if prefix and not _prefix(prefix):
        raise _no_url("the prefix has other characters than letters, digits and . _ = - between slashes")
    if endpoint and (server.scheme not in {"http", "https"} or not host or server.query or server.fragment):
        raise _no_url("the endpoint is no http or https URL")
    asked = (query.get("allow_http") or environ.get("AWS_ALLOW_HTTP", "")).lower() in {"1", "true"}
    if server.scheme == "http" and host not in _LOOPBACK and not asked:
        raise UsageError(
            f"evidence would go to {shown(host)} over plain HTTP",
            code="evidence.plain_http",
            hint="use https, or say allow_http=1 in the URL",
        )
    region = (
        query.get("region") or environ.get("AWS_REGION") or environ.get("AWS_DEFAULT_REGION") or "us-east-1"
    )
    return Place(parts.netloc, prefix, endpoint, region, server.scheme == "http")


def _no_url(found: str) -> UsageError:
    return UsageError(
        "not the URL of evidence in S3",
        code="evidence.url",
        expected="s3://bucket[/prefix][?endpoint=https://host&region=…&allow_http=1]",
        found=found,
    )


class EvidenceS3(EvidenceStore):
    """The blobs in a bucket.

    Args:
        place: see `parse`.
        environ: where credentials are looked for; the library reads the process's own.
        timeout_s: of one request. retries: of one request, within `timeout_s`.

    Raises:
        UnfitError: the extra `s3` is not installed.
        UnavailableError: no credentials.
    """

    def __init__(
        self,
        place: Place,
        *,
        environ: Mapping[str, str] = os.environ,
        staging: Path | None = None,
        read_only: bool = False,
        timeout_s: float = 60,
        retries: int = 3,
    ) -> None:
        root = f"{place.prefix}/" if place.prefix else ""
        super().__init__(
            f"s3://{place.bucket}/{root}evidence", staging or Path(tempfile.gettempdir()), read_only=read_only
        )
        self._root, self._staged = f"{root}evidence/", f"{root}staging/"
        try:
            import obstore
            from obstore.store import S3Store
        except ImportError as error:
            raise UnfitError(
                "evidence in S3 needs the extra s3",
                code="evidence.no_library",
                hint="pip install 'muniment[s3]'",
            ) from error
        if not any(environ.get(name) for name in _CREDENTIALS):
            raise UnavailableError(
                f"no credentials for {self.name}",
                code="evidence.credentials",
                hint="set AWS_ACCESS_KEY_ID and AWS_SECRET_ACCESS_KEY",
                expected=" or ".join(_CREDENTIALS),
            )
        self._obs = obstore
        given: dict[str, Any] = {"endpoint": place.endpoint} if place.endpoint else {}
        self._store: S3Store = S3Store(
            place.bucket,
            region=place.region,
            copy_if_not_exists=environ.get("AWS_COPY_IF_NOT_EXISTS", "multipart"),
            checksum_algorithm=environ.get("AWS_CHECKSUM_ALGORITHM", "sha256"),
            client_options={
                "allow_http": place.allow_http,
                "timeout": timedelta(seconds=timeout_s),
                "connect_timeout": timedelta(seconds=min(timeout_s, 10)),
            },
            retry_config={"max_retries": retries, "retry_timeout": timedelta(seconds=timeout_s)},
            **given,
        )

    def where(self, blake3: str) -> str:
        """The URL of the object."""
        return f"{self.name}/{name_of(blake3)}"

    def _key(self, blake3: str) -> str:
        return self._root + name_of(blake3)

    # --- writing

    def _keep(self, spool: Spool, blob: Blob) -> None:
        if blob.bytes > LARGEST:
            raise UnfitError(
                f"a blob of {blob.bytes} bytes is too large for {self.name}",
                code="evidence.too_large",
                hint="put it in pieces, or keep evidence in a folder or in PostgreSQL",
                expected=f"<= {LARGEST} bytes",
            )
        if not self.sizes([blob.blake3]):
            if blob.bytes <= PART:
                self._put_small(self._key(blob.blake3), spool, blob.bytes)
            else:
                self._put_large(self._key(blob.blake3), spool)
        self._confirm(blob)

    def _put_small(self, key: str, spool: Spool, size: int) -> None:
        with faults("read", spool.name):
            data = os.pread(spool.fd, size, 0)
        try:
            self._ask(
                "write", lambda: self._obs.put(self._store, key, data, mode="create", use_multipart=False)
            )
        except _AlreadyThereError:
            return
        except _NoConditionError:
            self._ask("write", lambda: self._obs.put(self._store, key, data, use_multipart=False))

    def _put_large(self, key: str, spool: Spool) -> None:
        staged = f"{self._staged}put-{secrets.token_hex(16)}"
        try:
            with os.fdopen(os.dup(spool.fd), "rb") as file:
                file.seek(0)
                self._ask(
                    "write",
                    lambda: self._obs.put(
                        self._store, staged, file, use_multipart=True, chunk_size=PART, max_concurrency=2
                    ),
                )
            try:
                self._ask("copy", lambda: self._obs.copy(self._store, staged, key, overwrite=False))
            except _AlreadyThereError:
                return
            except _NoConditionError:
                self._ask("copy", lambda: self._obs.copy(self._store, staged, key))
        finally:
            with suppress(Exception):  # a leftover is harmless: staging is never read as evidence
                self._obs.delete(self._store, staged)

    # --- reading

    def sizes(self, addresses: Iterable[str]) -> dict[str, int]:
        """See the base; eight at a time."""
        asked = sorted({check_address(address) for address in addresses})
        if len(asked) == 1:
            found = [self._size(asked[0])]
        else:
            with ThreadPoolExecutor(AT_ONCE) as pool:
                found = list(pool.map(self._size, asked))
        return {address: size for address, size in zip(asked, found, strict=True) if size is not None}

    def _size(self, blake3: str) -> int | None:
        key = self._key(blake3)
        try:
            try:
                size: int = self._ask("look at", lambda: self._obs.head(self._store, key))["size"]
            except UnavailableError as error:
                if error.context.get("found") != "404":
                    raise
                # the answer to HEAD has no body, so no code: the bucket may be missing as well
                size = self._ask("look at", lambda: self._obs.get(self._store, key)).meta["size"]
        except NotFoundError:
            return None
        return size

    @contextmanager
    def _source(self, blake3: str) -> Iterator[Source]:
        key = self._key(blake3)
        size = self._size(blake3)
        if size is None:
            raise _not_here(self.where(blake3))
        yield Source(_Ranges(self, key, size), size)

    def part(self, key: str, start: int, size: int, version: str | None) -> tuple[bytes, str | None]:
        """Read a range of an object: its bytes and the version they are of.

        Raises:
            NotFoundError, UnavailableError: it is gone, another one stands there, or nobody could look.
        """

        def work() -> tuple[bytes, str | None]:
            options: GetOptions = {"range": (start, start + size)}
            if version is not None:
                options["if_match"] = version
            got = self._obs.get(self._store, key, options=options)
            return bytes(got.bytes()), got.meta["e_tag"]

        return self._ask("read", work)

    def _survey(self) -> Iterator[tuple[str, str | None, int]]:
        pages = iter(self._obs.list(self._store, self._root.rstrip("/"), chunk_size=1000))
        while (page := self._ask("list", lambda: next(pages, None))) is not None:
            for item in page:
                name = item["path"].removeprefix(self._root)
                yield shown(name), address_in(name), item["size"]

    # --- the server

    def _ask(self, doing: str, work: Callable[[], T]) -> T:
        from obstore.exceptions import BaseError

        try:
            return work()
        except (BaseError, OSError, ValueError) as error:
            # not chained: the driver's text holds requests, the access key's id and headers
            raise self._fault(error, doing) from None

    def _fault(self, error: Exception, doing: str) -> MunimentError:
        from obstore import exceptions

        text = str(error)
        status, code = _first(_status, text), _first(_code, text)
        if isinstance(error, exceptions.AlreadyExistsError):
            return _AlreadyThereError("", code="evidence.exists")
        if code == "NoSuchKey":
            return _not_here(self.name)
        if status == "501" or isinstance(error, exceptions.NotSupportedError | NotImplementedError):
            return _NoConditionError(
                f"{self.name}: the server has no conditional writes", code="evidence.unsupported"
            )
        if code == "NoSuchBucket":
            kind, hint = "no_place", "create the bucket, or name another one"
        elif status in {"401", "403"}:
            kind, hint = "permission", "check the credentials in AWS_… and what they may do in the bucket"
        elif isinstance(error, exceptions.PreconditionError):
            kind, hint = (
                "changed",
                "something wrote over evidence: look at the versions and the log of the bucket",
            )
        elif status.startswith("5"):
            kind, hint = "io", "the server fails; try again later"
        elif not status:
            kind, hint = "unreachable", "check endpoint and network, then run it again"
        else:
            kind, hint = "io", "look into the log of the server"
        found = f"{status} {code}".strip() or _first(_kind, text) or "no answer"
        return UnavailableError(
            f"cannot {doing} {self.name}: {found}",
            code=f"evidence.{kind}",
            hint=hint,
            path=self.name,
            found=found,
        )


class _AlreadyThereError(MunimentError):
    """The condition of a write: somebody was first."""


class _NoConditionError(UnavailableError):
    """The server does not know conditional writes."""


class _Ranges:
    """`read(n)` over an object; no more than one range is held."""

    def __init__(self, place: EvidenceS3, key: str, size: int) -> None:
        self._place, self._key, self._size = place, key, size
        self._at, self._from = 0, 0
        self._held = b""
        self._version: str | None = None

    def read(self, size: int, /) -> bytes:
        if self._at == self._size:
            return b""
        if self._at == self._from + len(self._held):
            length = min(PART, self._size - self._at)
            self._held, self._version = self._place.part(self._key, self._at, length, self._version)
            self._from = self._at
            if len(self._held) != length:
                address = address_in(self._key)
                raise damaged(address or self._key, "size", f"{length} bytes", f"{len(self._held)} bytes")
        at = self._at - self._from
        piece = self._held[at : at + size]
        self._at += len(piece)
        return piece


def _first(pattern: re.Pattern[str], text: str) -> str:
    return match[1] if (match := pattern.search(text)) else ""


def _not_here(where: str) -> NotFoundError:
    return NotFoundError(f"evidence is not here: {where}", code="evidence.missing", path=where)
