"""Evidence in a folder, `evidence/ab/cdef…`: of one host, or shared by several over a network file system.

1. Bytes are written and synced in a staging folder outside `evidence/`, then linked into place, then the folders are synced: a
   name under `evidence/` never stands for half a file, and a returned blob survives power loss.
2. `link` refuses an existing name, which `rename` would replace. It is one act on the server of a network file system too, so
   writers of several hosts need no lock. A lost answer, asked again, says that the name exists: it is then read, and is ours.
3. A dedup hit is synced, file and folder: another writer may have linked it and not synced it yet.
4. A root that was set up from outside must be there: a mount that is gone has no missing blobs, and gets none written under it.
5. Where the store's folder is shared by a group (setgid and group-writable, `chmod 2770`), the group may read each blob and add
   its own; else all is private to its owner.
"""

from __future__ import annotations

import errno
import os
import re
import secrets
import stat
from collections.abc import Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO

from muniment.domain.errors import NotFoundError, UnavailableError, UnfitError, UsageError
from muniment.domain.os_faults import os_fault, shown
from muniment.store.evidence import Blob, EvidenceStore, Source, Spool, check_address, damaged
from muniment.store.files import NEW, READ, faults, fsync_folder

_shard = re.compile(r"[0-9a-f]{2}").fullmatch
_rest = re.compile(r"[0-9a-f]{62}").fullmatch
_GROUP = stat.S_ISGID | 0o070


class EvidenceFolder(EvidenceStore):
    """The blobs in a folder.

    Args:
        root: the `evidence` folder itself; made at the first `put`, never by reading.
        staging: a folder on the same file system, not inside `root`.
        read_only: refuse `put`, whatever the mode of the folders.
        mounted: `root` was made from outside; where it is not, nobody can look or write.
    """

    def __init__(self, root: Path, staging: Path, *, read_only: bool = False, mounted: bool = False) -> None:
        if staging == root or root in staging.parents:
            raise UsageError(
                f"staging folder {shown(staging)} lies inside the evidence folder",
                code="evidence.staging",
                hint="temporary files live outside evidence/ (settled.md, 11)",
            )
        super().__init__(shown(root), staging, read_only=read_only)
        self.root = root
        self._mounted = mounted
        self._synced: set[str] = set()

    @property
    def folders(self) -> tuple[Path, ...]:
        """Root and staging."""
        return self.root, self.staging

    def path(self, blake3: str) -> Path:
        """Where a blob lies. Raises UsageError if that is no address."""
        check_address(blake3)
        return self.root / blake3[:2] / blake3[2:]

    def where(self, blake3: str) -> str:
        """The path."""
        return shown(self.path(blake3))

    def _there(self) -> None:
        """Rule 4."""
        if self._mounted and not self.root.is_dir():
            raise UnavailableError(
                f"no evidence folder at {self.name}",
                code="evidence.no_place",
                hint="mount the shared folder; for a new one: mkdir, once",
                path=self.name,
            )

    # --- writing

    @contextmanager
    def _spool(self) -> Iterator[Spool]:
        self._there()
        self._folder(self.staging)
        temporary = self.staging / f"put-{os.getpid()}-{secrets.token_hex(8)}"
        with faults("create", temporary):
            fd = os.open(temporary, NEW, 0o400)
        try:
            try:
                yield Spool(fd, temporary)
            finally:
                os.close(fd)
        finally:
            with suppress(OSError):  # a leftover is harmless: staging is never read as evidence
                temporary.unlink()

    def _shared(self) -> bool:
        try:
            return self.root.parent.stat().st_mode & _GROUP == _GROUP
        except OSError:
            return False

    def _folder(self, folder: Path) -> None:
        with faults("create", folder):
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            if self._shared():
                with suppress(
                    PermissionError
                ):  # another's: he has done it, or the next step says what is wrong
                    folder.chmod(0o700 | _GROUP)

    def _keep(self, spool: Spool, blob: Blob) -> None:
        with faults("sync", spool.name):
            os.fchmod(
                spool.fd, 0o440 if self._shared() else 0o400
            )  # the umask may have taken the owner's bit
            os.fsync(spool.fd)
        final = self.path(blob.blake3)
        folder = final.parent
        if folder.name not in self._synced:
            self._folder(self.root)
            self._folder(folder)
        try:
            os.link(spool.name, final, follow_symlinks=False)
        except FileExistsError:
            self._confirm(blob)
            with faults("sync", final):
                fd = os.open(final, READ)
                try:
                    os.fsync(fd)
                finally:
                    os.close(fd)
        except OSError as error:
            if error.errno in {errno.EXDEV, errno.EPERM, errno.EOPNOTSUPP, errno.EMLINK}:
                raise UnfitError(
                    f"cannot link evidence into {shown(folder)}: {error.strerror}",
                    code="evidence.file_system",
                    hint="evidence and staging must be on one file system that has hard links",
                ) from error
            raise os_fault(error, "link", final, "evidence") from error
        with faults("sync", folder):
            fsync_folder(folder)
            if folder.name not in self._synced:
                # whoever made the folder may not have synced its name yet, so each process does it once
                fsync_folder(self.root)
                fsync_folder(self.root.parent)
                self._synced.add(folder.name)

    # --- reading

    def open(self, blake3: str) -> IO[bytes]:
        """The file itself, once it has been read and found right. Raises as the base."""
        stream = self._file(blake3)
        try:
            with faults("read", self.path(blake3)):
                self._hashed(Source(stream, _size(stream)), blake3, None)
                stream.seek(0)
        except BaseException:
            stream.close()
            raise
        return stream

    @contextmanager
    def _source(self, blake3: str) -> Iterator[Source]:
        with self._file(blake3) as stream:
            yield Source(stream, _size(stream))

    def _file(self, blake3: str) -> IO[bytes]:
        path = self.path(blake3)
        try:
            fd = os.open(path, READ)
        except FileNotFoundError as error:
            self._there()
            raise NotFoundError(
                f"evidence {blake3} is not here", code="evidence.missing", path=shown(path)
            ) from error
        except OSError as error:
            if error.errno == errno.ELOOP:
                raise damaged(blake3, "not_a_file", "a regular file", "a symlink") from error
            raise os_fault(error, "open", path, "evidence") from error
        if not stat.S_ISREG(os.fstat(fd).st_mode):
            os.close(fd)
            raise damaged(blake3, "not_a_file", "a regular file", "something else")
        return os.fdopen(fd, "rb", buffering=0)

    def sizes(self, addresses: Iterable[str]) -> dict[str, int]:
        """See the base; a link or a folder under the name is no blob."""
        found = {}
        self._there()
        for address in addresses:
            path = self.path(address)
            try:
                info = path.lstat()
            except FileNotFoundError:
                continue
            except OSError as error:
                raise os_fault(error, "look at", path, "evidence") from error
            if stat.S_ISREG(info.st_mode):
                found[address] = info.st_size
        return found

    def _survey(self) -> Iterator[tuple[str, str | None, int]]:
        try:
            shards = sorted(os.scandir(self.root), key=lambda entry: entry.name)
        except FileNotFoundError:
            self._there()
            return
        except OSError as error:
            raise os_fault(error, "list", self.root, "evidence") from error
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


def _size(stream: IO[bytes]) -> int:
    return os.fstat(stream.fileno()).st_size
