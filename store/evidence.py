"""Evidence: bytes kept as proof, addressed by BLAKE3, each stored once under `evidence/ab/cdef…`.

Rules:

1. One pass over the input makes both digests; memory holds one chunk, whatever the size (architecture.md, 3).
2. Bytes are written and synced in a staging folder outside `evidence/`, then linked into place, then the
   folders are synced: a name under `evidence/` never stands for half a file, and a returned blob survives
   power loss.
3. `link` refuses an existing name, which `rename` would replace: no blob is overwritten or deleted here.
4. A dedup hit is read again and synced, file and folder: another writer may have linked it and not synced it
   yet, and a blob that rotted must not be taken as proof of the good bytes just offered (settled.md, 11).
5. Could not look (8) and looked, it is wrong (7) stay apart.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import BinaryIO, NamedTuple

from blake3 import blake3 as new_blake3
from muniment.domain.errors import NotFoundError, UnavailableError, UnfitError, UsageError, WrongError
from muniment.store.files import (
    CHUNK,
    NEW,
    READ,
    Blob,
    Memory,
    Progress,
    Readable,
    changed,
    faults,
    fsync_folder,
    hash_copy,
    os_fault,
    regular,
    shown,
    stamp,
)

__all__ = ["Blob", "EvidenceStore", "Problem", "Stored"]


_address = re.compile(r"[0-9a-f]{64}").fullmatch
_shard = re.compile(r"[0-9a-f]{2}").fullmatch
_rest = re.compile(r"[0-9a-f]{62}").fullmatch


class Stored(NamedTuple):
    """A blob as found in the folder: the address its name claims, and its size."""

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


class EvidenceStore:
    """The blobs of one store.

    Args:
        root: the `evidence` folder itself; made at the first `put`, never by reading.
        staging: a folder on the same file system, not inside `root`.
        read_only: refuse `put`, whatever the mode of the folders.
    """

    def __init__(self, root: Path, staging: Path, *, read_only: bool = False) -> None:
        if staging == root or root in staging.parents:
            raise UsageError(
                f"staging folder {shown(staging)} lies inside the evidence folder",
                code="evidence.staging",
                hint="temporary files live outside evidence/ (settled.md, 11)",
            )
        self.root = root
        self.staging = staging
        self.read_only = read_only
        self._synced: set[str] = set()

    def path(self, blake3: str) -> Path:
        """Where a blob lies. Raises UsageError if that is no address (so no address can lead out)."""
        if not _address(blake3):
            raise UsageError(
                f"not a BLAKE3 address: {shown(blake3)}",
                code="evidence.address",
                expected="64 lower-case hex digits",
            )
        return self.root / blake3[:2] / blake3[2:]

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
            UnavailableError: disk full, read-only, no permission; the source is short, long or changed.
            UsageError: the path is no regular file, or the source is over `limit`.
            WrongError: the blob that stands there already is damaged; it is left as it is.
            UnfitError: the file system has no hard links, or staging lies on another one.
        """
        if self.read_only:
            raise UnavailableError(
                f"evidence store {shown(self.root)} is open read-only",
                code="evidence.read_only",
                path=shown(self.root),
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
        with faults("create", self.staging):
            self.staging.mkdir(mode=0o700, parents=True, exist_ok=True)
        temporary = self.staging / f"put-{os.getpid()}-{secrets.token_hex(8)}"
        with faults("create", temporary):
            fd = os.open(temporary, NEW, 0o400)
        try:
            try:
                blob = hash_copy(source, fd, temporary, size, limit, progress, name)
                with faults("sync", temporary):
                    os.fchmod(fd, 0o400)  # the umask may have taken the owner's bit
                    os.fsync(fd)
            finally:
                os.close(fd)
            self._place(temporary, blob)
            return blob
        finally:
            with suppress(OSError):  # a leftover is harmless: staging is never read as evidence
                temporary.unlink()

    def _place(self, temporary: Path, blob: Blob) -> None:
        final = self.path(blob.blake3)
        folder = final.parent
        with faults("create", folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        try:
            os.link(temporary, final, follow_symlinks=False)
        except FileExistsError:
            self._confirm(final, blob)
        except OSError as error:
            if error.errno in {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
                raise UnfitError(
                    f"cannot link evidence into {shown(folder)}: {error.strerror}",
                    code="evidence.file_system",
                    hint="evidence and staging must be on one file system that has hard links",
                ) from error
            raise os_fault(error, "link", final) from error
        with faults("sync", folder):
            fsync_folder(folder)
            if folder.name not in self._synced:
                # whoever made the folder may not have synced its name yet, so each process does it once
                fsync_folder(self.root)
                fsync_folder(self.root.parent)
                self._synced.add(folder.name)

    def _confirm(self, final: Path, blob: Blob) -> None:
        """Read the blob that stands there already, and sync it (rule 4)."""
        problem = self.check(blob.blake3, blob.sha256, blob.bytes)
        if problem is not None and problem.exit_code == 7:
            raise WrongError(
                f"evidence {blob.blake3} is there and is damaged",
                code=f"evidence.{problem.code}",
                hint="keep the damaged file for the investigation, move it away, then store the bytes again",
                path=shown(final),
                expected=problem.expected,
                found=problem.found,
            )
        if problem is not None:
            raise UnavailableError(
                f"cannot read {shown(final)}: {problem.found}", code="evidence.permission", path=shown(final)
            )
        with faults("sync", final):
            fd = os.open(final, READ)
            try:
                os.fsync(fd)
            finally:
                os.close(fd)

    # --- reading

    def open(self, blake3: str) -> BinaryIO:
        """Open a blob for reading. The bytes are as stored: `read`, `copy` and `check` compare digests.

        Raises:
            NotFoundError: no such blob.
            WrongError: the name is no regular file.
            UnavailableError: unreadable.
        """
        path = self.path(blake3)
        try:
            fd = os.open(path, READ)
        except FileNotFoundError as error:
            raise NotFoundError(
                f"evidence {blake3} is not here", code="evidence.missing", path=shown(path)
            ) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise WrongError(
                    f"evidence {blake3} is a symlink", code="evidence.not_a_file", path=shown(path)
                ) from error
            raise os_fault(error, "open", path) from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise WrongError(
                f"evidence {blake3} is no regular file", code="evidence.not_a_file", path=shown(path)
            )
        return os.fdopen(fd, "rb", buffering=0)

    def read(self, blake3: str, *, limit: int) -> bytes:
        """Return the bytes of a blob, address compared. Raises as `copy`, and UsageError over `limit`
        bytes."""
        with self.open(blake3) as stream, faults("read", self.path(blake3)):
            data = b"".join(iter(lambda: stream.read(CHUNK), b"")) if _size(stream) <= limit else None
        if data is None:
            raise UsageError(
                f"evidence {blake3} is over {limit} bytes", code="evidence.limit", expected=f"<= {limit}"
            )
        found = new_blake3(data).hexdigest()
        if found != blake3:
            raise WrongError(
                f"evidence {blake3} is damaged", code="evidence.digest", expected=blake3, found=found
            )
        return data

    def copy(self, blob: Blob, out: int) -> None:
        """Copy a blob to a file descriptor; both digests and the size are compared over what was written.

        Raises:
            NotFoundError, WrongError, UnavailableError: what was written so far is not to be used.
        """
        with self.open(blob.blake3) as stream:
            if (size := _size(stream)) != blob.bytes:
                raise WrongError(
                    f"evidence {blob.blake3} is damaged",
                    code="evidence.size",
                    expected=f"{blob.bytes} bytes",
                    found=f"{size} bytes",
                )
            found = hash_copy(stream, out, "copy of evidence", None, None, None, self.path(blob.blake3))
        if found != blob:
            raise WrongError(
                f"evidence {blob.blake3} is damaged",
                code="evidence.digest",
                expected=f"{blob.bytes} bytes, sha256 {blob.sha256}",
                found=f"{found.bytes} bytes, sha256 {found.sha256}, blake3 {found.blake3}",
            )

    def check(self, blake3: str, sha256: str, size: int) -> Problem | None:
        """Hash a blob again; None if address, SHA-256 and size are right. The last one is compared first."""
        try:
            with self.open(blake3) as stream:
                if (found := _size(stream)) != size:
                    return Problem("size", blake3, f"{size} bytes", f"{found} bytes")
                blob = hash_copy(stream, None, "", None, None, None, self.path(blake3))
        except NotFoundError:
            return Problem("missing", blake3, f"{size} bytes", "no such file")
        except WrongError:
            return Problem("not_a_file", blake3, "a regular file", "something else")
        except (UnavailableError, OSError) as error:
            return Problem("unreadable", blake3, f"{size} bytes", str(error))
        if blob.bytes != size:
            return Problem("size", blake3, f"{size} bytes", f"{blob.bytes} bytes")
        if (blob.blake3, blob.sha256) != (blake3, sha256):
            return Problem(
                "digest",
                blake3,
                f"blake3 {blake3}, sha256 {sha256}",
                f"blake3 {blob.blake3}, sha256 {blob.sha256}",
            )
        return None

    def missing(self, addresses: Iterable[str]) -> list[str]:
        """The addresses, sorted, under which no regular file lies; UnavailableError if nobody could look."""
        absent = []
        for address in sorted(set(addresses)):
            path = self.path(address)
            try:
                found = stat.S_ISREG(path.lstat().st_mode)
            except FileNotFoundError:
                found = False
            except OSError as error:
                raise os_fault(error, "look at", path) from error
            if not found:
                absent.append(address)
        return absent

    def iter(self) -> Iterator[Stored]:
        """Every blob in order of address, one folder at a time: for the orphan check."""
        return (Stored(address, size) for _, address, size in self._survey() if address is not None)

    def strays(self) -> Iterator[str]:
        """Relative paths under `evidence/` that are no blob: nothing of ours puts them there."""
        return (path for path, address, _ in self._survey() if address is None)

    def _survey(self) -> Iterator[tuple[str, str | None, int]]:
        try:
            shards = sorted(os.scandir(self.root), key=lambda entry: entry.name)
        except FileNotFoundError:
            return
        except OSError as error:
            raise os_fault(error, "list", self.root) from error
        for shard in shards:
            if not (_shard(shard.name) and shard.is_dir(follow_symlinks=False)):
                yield shard.name, None, 0
                continue
            with faults("list", shard.path):
                entries = sorted(os.scandir(shard.path), key=lambda entry: entry.name)
            for entry in entries:
                with faults("look at", entry.path):
                    info = entry.stat(follow_symlinks=False)
                is_blob = _rest(entry.name) and stat.S_ISREG(info.st_mode)
                yield f"{shard.name}/{entry.name}", shard.name + entry.name if is_blob else None, info.st_size


def _size(stream: BinaryIO) -> int:
    return os.fstat(stream.fileno()).st_size
