"""Evidence: bytes kept as proof, each stored once under its BLAKE3. What every place of evidence does, and promises.

Places: a folder, also a shared one (`evidence_folder`), the log's own PostgreSQL (`evidence_postgres`), S3-compatible storage
(`evidence_s3`). `evidence_open` finds the one that a URL means.
`tests/contract/test_evidence_places.py` holds each of them to this:

1. One pass over the input makes both digests; memory holds a few chunks, whatever the size (architecture.md, 3).
2. `put` returns once the bytes are durable. An address never stands for half a blob, also after a kill.
3. No blob is overwritten or deleted here. Any number of writers on any number of hosts may put the same bytes at once.
4. What stands there already is read again before a `put` of the same bytes succeeds: a blob that rotted must not be taken as
   proof of the good bytes just offered (settled.md, 11).
5. No byte is handed out as evidence unless the whole blob has just been read and its digests compared.
6. Could not look (8) and looked, it is wrong or not there (7) stay apart: a place that does not answer has no missing blobs.
"""

from __future__ import annotations

import os
import re
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import IO, NamedTuple

from muniment.domain.errors import DeniedError, NotFoundError, UnavailableError, UsageError, WrongError
from muniment.domain.os_faults import shown
from muniment.store.files import Blob, Memory, Progress, Readable, changed, faults, hash_copy, regular, stamp

__all__ = ["Blob", "EvidenceStore", "Problem", "Source", "Spool", "Stored", "damaged"]

_address = re.compile(r"[0-9a-f]{64}").fullmatch
_named = re.compile(r"(?:.*/)?([0-9a-f]{2})/([0-9a-f]{62})").fullmatch


class Stored(NamedTuple):
    """A blob as found in its place: the address its name claims, and its size."""

    blake3: str
    bytes: int


class Problem(NamedTuple):
    """What is amiss with one blob.

    Attributes:
        code: `missing`, `not_a_file`, `size`, `digest` (wrong: exit 7) or `unreadable` (could not look: 8).
    """

    code: str
    blake3: str
    expected: str
    found: str

    @property
    def exit_code(self) -> int:
        """8 if nobody could look, else 7."""
        return 8 if self.code == "unreadable" else 7


class Source(NamedTuple):
    """A blob as its place hands it out, unchecked: bytes, their number, and the SHA-256 the place keeps ("" if none)."""

    stream: Readable
    size: int
    sha256: str = ""


class Spool(NamedTuple):
    """A temporary file of this host that holds the bytes of a `put` before their address is known."""

    fd: int
    name: str | Path


class EvidenceStore(ABC):
    """The blobs of one store, wherever they are.

    Args:
        name: the place as messages name it; holds no secret.
        staging: a folder of this host for temporary files.
        read_only: refuse `put`, whatever the rights in the place.
    """

    def __init__(self, name: str, staging: Path, *, read_only: bool = False) -> None:
        self.name = name
        self.staging = staging
        self.read_only = read_only

    @property
    def folders(self) -> tuple[Path, ...]:
        """Folders of this host with named files of the place."""
        return ()

    # --- what a place does

    @abstractmethod
    def where(self, blake3: str) -> str:
        """Where a blob is, for messages."""

    @abstractmethod
    def sizes(self, addresses: Iterable[str]) -> dict[str, int]:
        """The bytes of those blobs that are there, by address; what is no blob is left out.

        Raises:
            UsageError: not an address.
            UnavailableError, DeniedError: nobody could look.
        """

    @abstractmethod
    def _source(self, blake3: str) -> AbstractContextManager[Source]:
        """Open a valid address. Raises NotFoundError, WrongError, UnavailableError, DeniedError, here or from `read`."""

    @abstractmethod
    def _keep(self, spool: Spool, blob: Blob) -> None:
        """Store the bytes of the spool: durable, whole or not at all, never over what is there (`_confirm` looks at that)."""

    @abstractmethod
    def _survey(self) -> Iterator[tuple[str, str | None, int]]:
        """Everything in the place in order of names: name, address if it is a blob, size. Raises UnavailableError."""

    # --- writing

    def put(
        self,
        source: bytes | Path | Readable,
        *,
        size: int | None = None,
        limit: int | None = None,
        progress: Progress | None = None,
    ) -> Blob:
        """Store bytes and return once they are durable; the same bytes are stored once.

        Args:
            source: bytes, the path of a regular file (no symlink), or anything with `read(n)`.
            size: bytes the source must give, exactly; a path must keep its size and times while it is read.
            limit: most bytes that are taken from an endless source.
            progress: called with the bytes done so far, after every chunk.

        Raises:
            UnavailableError: disk full, read-only, no permission, no answer; the source is short, long or changed.
                To put the same bytes again is always safe.
            DeniedError: the role may not add evidence.
            UsageError: the path is no regular file, or the source is over `limit`.
            WrongError: the blob that stands there already is damaged; it is left as it is.
            UnfitError: the place cannot keep its promises, or not for a blob of this size.
        """
        if self.read_only:
            raise UnavailableError(
                f"evidence store {self.name} is open read-only", code="evidence.read_only", path=self.name
            )
        if isinstance(source, Path):
            with regular(source) as (stream, before):
                blob = self._put(stream, before.st_size if size is None else size, limit, progress, source)
                if stamp(before) != stamp(os.fstat(stream.fileno())):
                    raise changed(source)
                return blob
        if isinstance(source, bytes):
            return self._put(Memory(source), size, limit, progress, "bytes")
        return self._put(source, size, limit, progress, "stream")

    def _put(
        self,
        source: Readable,
        size: int | None,
        limit: int | None,
        progress: Progress | None,
        name: str | Path,
    ) -> Blob:
        with self._spool() as spool:
            blob = hash_copy(source, spool.fd, spool.name, size, limit, progress, name)
            self._keep(spool, blob)
        return blob

    @contextmanager
    def _spool(self) -> Iterator[Spool]:
        with self._nameless() as file:
            yield Spool(file.fileno(), self.staging)

    def _nameless(self) -> IO[bytes]:
        """A file that is gone with its descriptor."""
        with faults("create", self.staging):
            self.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
            return tempfile.TemporaryFile(dir=self.staging, buffering=0)

    def _confirm(self, blob: Blob) -> None:
        """Read what stands in the place (rule 4).

        Raises:
            WrongError, UnavailableError: it is damaged, or nobody could look.
        """
        problem = self.check(*blob)
        if problem is None:
            return
        where = self.where(blob.blake3)
        if problem.exit_code == 7:
            raise WrongError(
                f"evidence {blob.blake3} is there and is damaged",
                code=f"evidence.{problem.code}",
                hint="keep the damaged blob for the investigation, move it away, then store the bytes again",
                path=where,
                expected=problem.expected,
                found=problem.found,
            )
        raise UnavailableError(
            f"cannot read {where}: {problem.found}",
            code="evidence.permission",
            hint="put it again once it can be read",
            path=where,
        )

    # --- reading

    def open(self, blake3: str) -> IO[bytes]:
        """Open a blob that has just been read and found right: a seekable file of this host.

        Raises:
            UsageError: not an address.
            NotFoundError: no such blob.
            WrongError: damaged, or no file.
            UnavailableError, DeniedError: unreadable.
        """
        with self._opened(blake3) as source:
            file = self._nameless()
            try:
                self._hashed(source, blake3, file.fileno())
                file.seek(0)
            except BaseException:
                file.close()
                raise
        return file

    def read(self, blake3: str, *, limit: int) -> bytes:
        """Return the bytes of a blob, digests compared. Raises as `open`, and UsageError over `limit` bytes."""
        with self._opened(blake3) as source:
            if source.size > limit:
                raise UsageError(
                    f"evidence {blake3} is over {limit} bytes", code="evidence.limit", expected=f"<= {limit}"
                )
            tee = _Tee(source.stream)
            self._hashed(source._replace(stream=tee), blake3, None)
        return b"".join(tee.kept)

    def copy(self, blob: Blob, out: int) -> None:
        """Copy a blob to a file descriptor; both digests and the size are compared over what was written.

        Raises:
            UsageError, NotFoundError, WrongError, UnavailableError: what was written so far is not to be used.
        """
        with self._opened(blob.blake3) as source:
            if source.size != blob.bytes:
                raise damaged(blob.blake3, "size", f"{blob.bytes} bytes", f"{source.size} bytes")
            found = self._hashed(source, blob.blake3, out)
        if found != blob:
            raise damaged(blob.blake3, "digest", f"sha256 {blob.sha256}", f"sha256 {found.sha256}")

    def blob(self, blake3: str) -> Blob:
        """Hash a blob and return what is really there. Raises as `open`."""
        with self._opened(blake3) as source:
            return self._hashed(source, blake3, None)

    def check(self, blake3: str, sha256: str, size: int) -> Problem | None:
        """Hash a blob again; None if address, SHA-256 and size are right. The size is compared first."""
        try:
            with self._opened(blake3) as source:
                if source.size != size:
                    return Problem("size", blake3, f"{size} bytes", f"{source.size} bytes")
                found = self._hashed(source, blake3, None)
        except NotFoundError:
            return Problem("missing", blake3, f"{size} bytes", "no such file")
        except WrongError as error:
            code = error.code.removeprefix("evidence.")
            return Problem(code, blake3, str(error.context["expected"]), str(error.context["found"]))
        except (UnavailableError, DeniedError) as error:
            return Problem("unreadable", blake3, f"{size} bytes", str(error))
        if found.sha256 != sha256:
            return Problem("digest", blake3, f"sha256 {sha256}", f"sha256 {found.sha256}")
        return None

    def _opened(self, blake3: str) -> AbstractContextManager[Source]:
        check_address(blake3)
        return self._source(blake3)

    def _hashed(self, source: Source, blake3: str, out: int | None) -> Blob:
        """Read a source to its end, and write it; its bytes must be those of the address and of the SHA-256 the place keeps."""
        found = hash_copy(source.stream, out, "copy of evidence", None, None, None, self.where(blake3))
        if (found.blake3, found.sha256) != (blake3, source.sha256 or found.sha256):
            raise damaged(
                blake3,
                "digest",
                f"blake3 {blake3}" + (f", sha256 {source.sha256}" if source.sha256 else ""),
                f"blake3 {found.blake3}, sha256 {found.sha256}",
            )
        return found

    def missing(self, addresses: Iterable[str]) -> list[str]:
        """The addresses, sorted, under which no blob lies. Raises as `sizes`."""
        asked = set(addresses)
        return sorted(asked - self.sizes(asked).keys())

    def iter(self) -> Iterator[Stored]:
        """Every blob in order of address: for the orphan check. Raises UnavailableError."""
        return (Stored(address, size) for _, address, size in self._survey() if address is not None)

    def strays(self) -> Iterator[str]:
        """Names in the place that are no blob: nothing of ours puts them there. Raises UnavailableError."""
        return (name for name, address, _ in self._survey() if address is None)


class _Tee:
    """Keeps what is read through it."""

    def __init__(self, stream: Readable) -> None:
        self._stream = stream
        self.kept: list[bytes] = []

    def read(self, size: int, /) -> bytes | None:
        chunk = self._stream.read(size)
        if chunk:
            self.kept.append(chunk)
        return chunk


def check_address(text: str) -> str:
    """Return an address as it is.

    Raises:
        UsageError: it is none, so that no address can lead out of a place.
    """
    if not _address(text):
        raise UsageError(
            f"not a BLAKE3 address: {shown(text)}",
            code="evidence.address",
            expected="64 lower-case hex digits",
        )
    return text


def name_of(blake3: str) -> str:
    """The name of a blob where names have folders: `ab/cdef…`."""
    return f"{blake3[:2]}/{blake3[2:]}"


def address_in(name: str) -> str | None:
    """The address that a name `ab/cdef…` stands for, None if it is no such name."""
    return match[1] + match[2] if (match := _named(name)) and name == name_of(match[1] + match[2]) else None


def damaged(blake3: str, code: str, expected: str, found: str) -> WrongError:
    """The error for a blob that is there and is not as it must be."""
    return WrongError(
        f"evidence {blake3} is damaged",
        code=f"evidence.{code}",
        hint="keep it for the investigation; look for another copy of these bytes",
        expected=expected,
        found=found,
    )
