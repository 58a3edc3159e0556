"""Walk a real folder without being led out of it, and notice when it changes under the reader.

1. Every name is opened relative to the folder's descriptor, one component at a time, with O_NOFOLLOW: a
   parent that is swapped for a symlink between listing and reading ends the walk, it does not redirect it.
2. What was listed is what is read: device, inode, size, mtime and ctime are compared on the opened
   descriptor before the first byte and after the last one; folders are compared again at the end.
3. Only regular files and folders are accepted. Symlinks are refused even where their target stays inside:
   their meaning depends on where the tree is put. Devices, fifos and sockets are never opened.
4. Paths are the stored bytes as UTF-8, sorted by bytes. Nothing is normalised: two names that look alike
   stay two.
"""

from __future__ import annotations

import os
import stat
import unicodedata
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from fnmatch import fnmatchcase
from pathlib import Path
from typing import BinaryIO, NamedTuple, Self

from muniment.domain.errors import UsageError
from muniment.domain.os_faults import shown
from muniment.store.files import READ, changed, faults

MAX_FILES = 200_000
MAX_NAME = 255  # bytes; NAME_MAX of Linux
MAX_PATH = 4096  # bytes; PATH_MAX of Linux

# Line and paragraph separators, and the marks that reorder what a person reads: a path is shown to people.
_MISLEADING = frozenset(
    "\u2028\u2029\u200e\u200f\u061c\u202a\u202b\u202c\u202d\u202e\u2066\u2067\u2068\u2069"
)
_HINTS = {
    "symlink": "replace the link by what it names, or exclude it",
    "special": "devices, fifos and sockets have no bytes to keep; exclude it",
}

Stamp = tuple[int, ...]


class Node(NamedTuple):
    """One thing found under the folder.

    Attributes:
        path: relative, `/` between names.
        kind: `file`, `folder`, `symlink`, `special`, or `limit` (more than the walk accepts; the last node).
        problem: why it is not acceptable, as (code, sentence), or None.
        stamp: what must not change until it is read.
    """

    path: str
    kind: str
    size: int
    executable: bool
    stamp: Stamp
    problem: tuple[str, str] | None


class Excluded(NamedTuple):
    """A path that was left out (a folder with all below it), and the pattern that said so."""

    path: str
    pattern: str


def path_problem(path: str) -> tuple[str, str] | None:
    """Why a path is no canonical relative path, as (code, sentence); None if it is one."""
    try:
        data = path.encode()
    except UnicodeEncodeError:
        return "undecodable", "the name is not UTF-8"
    if not path:
        return "empty", "the path is empty"
    if len(data) > MAX_PATH:
        return "too_long", f"the path has {len(data)} bytes, over {MAX_PATH}"
    if path.startswith("/"):
        return "absolute", "the path is absolute"
    for name in path.split("/"):
        if name in {"", ".", ".."}:
            return "traversal", f"the path has {name!r} as a name"
        if len(name.encode()) > MAX_NAME:
            return "too_long", f"a name has {len(name.encode())} bytes, over {MAX_NAME}"
    if any(unicodedata.category(char) == "Cc" or char in _MISLEADING for char in path):
        return "control", "the name holds a control character"
    return None


def paths_problem(paths: Iterable[str]) -> tuple[str, str] | None:
    """Why a list of paths is no listing of a tree (bad, unsorted, twice, a file used as a folder); None if
    it is."""
    before = b""
    seen: set[str] = set()
    for path in paths:
        if (problem := path_problem(path)) is not None:
            return problem[0], f"{shown(path)}: {problem[1]}"
        data = path.encode()
        if data <= before:
            return "order", f"{shown(path)} is listed twice or out of order (by bytes)"
        before = data
        seen.add(path)
    for path in seen:
        at = path.find("/")
        while at != -1:
            if path[:at] in seen:
                return "order", f"{shown(path[:at])} is a file and a folder at once"
            at = path.find("/", at + 1)
    return None


def matching(path: str, patterns: Iterable[str]) -> str | None:
    """The first pattern that leaves this path out.

    A pattern with `/` is held against the whole path, one without against the last name (`*` also matches
    `/`).
    """
    name = path.rsplit("/", 1)[-1]
    for pattern in patterns:
        if fnmatchcase(path if "/" in pattern else name, pattern.rstrip("/")):
            return pattern
    return None


class Tree:
    """A folder held open by its descriptor: `scan` once, then `open` what was found, then `unchanged`.

    Args:
        root: the folder.
        follow_root: accept a symlink as the folder itself (a person named it).

    Raises:
        UsageError: it is no folder. UnavailableError: it cannot be opened.
    """

    def __init__(self, root: Path, *, follow_root: bool = False, area: str = "tree") -> None:
        self.root = root
        self.area = area
        self.excluded: list[Excluded] = []
        self._folders: dict[str, Stamp] = {}
        flags = os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC
        if root.is_symlink() and not follow_root:
            raise UsageError(
                f"{shown(root)} is a symlink", code=f"{area}.symlink", hint="name the folder itself"
            )
        try:
            self._fd = os.open(root, flags if follow_root else flags | os.O_NOFOLLOW)
        except NotADirectoryError as error:
            raise UsageError(f"{shown(root)} is no folder", code=f"{area}.not_a_folder") from error
        except FileNotFoundError as error:
            raise UsageError(f"{shown(root)} does not exist", code=f"{area}.absent") from error
        except OSError as error:
            with faults("open", root, area):
                raise error from None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        os.close(self._fd)

    def scan(self, *, limit: int = MAX_FILES, exclude: Iterable[str] = ()) -> list[Node]:
        """List everything below the folder, sorted by the bytes of the path, acceptable or not.

        Raises:
            UnavailableError: a folder cannot be listed, or vanished.
        """
        patterns = tuple(exclude)
        nodes: list[Node] = []
        pending = [""]
        while pending:
            folder = pending.pop()
            with self._folder(folder) as fd, faults("list", self.root / folder, self.area):
                self._folders[folder] = _stamp(os.fstat(fd))
                with os.scandir(fd) as entries:
                    for entry in entries:
                        path = f"{folder}/{entry.name}" if folder else entry.name
                        node = _node(path, entry.stat(follow_symlinks=False))
                        clean = node.problem is None or node.problem[0] in _HINTS
                        if clean and (pattern := matching(path, patterns)) is not None:
                            self.excluded.append(Excluded(path + "/" * (node.kind == "folder"), pattern))
                            continue
                        if len(nodes) >= limit:
                            problem = "too_many", f"the folder holds over {limit} names"
                            return [*_sorted(nodes), Node(path, "limit", 0, False, (), problem)]
                        nodes.append(node)
                        if node.kind == "folder" and node.problem is None:
                            pending.append(path)
        self.excluded.sort(key=lambda item: item.path.encode())
        return _sorted(nodes)

    def files(self, *, limit: int = MAX_FILES, exclude: Iterable[str] = ()) -> list[Node]:
        """List the files; refuse the folder if it holds anything that is not acceptable.

        Raises:
            UsageError: the first such thing, by path.
        """
        nodes = self.scan(limit=limit, exclude=exclude)
        for node in nodes:
            if node.problem is not None:
                code, sentence = node.problem
                raise UsageError(
                    f"{shown(node.path)}: {sentence}",
                    code=f"{self.area}.{code}",
                    hint=_HINTS.get(code, "rename or exclude it"),
                    path=shown(node.path),
                )
        return [node for node in nodes if node.kind == "file"]

    @contextmanager
    def open(self, node: Node) -> Iterator[BinaryIO]:
        """Open a listed file; the block ends with UnavailableError if the file changed since it was
        listed."""
        folder, _, name = node.path.rpartition("/")
        with self._folder(folder) as parent, faults("open", self.root / node.path, self.area):
            fd = os.open(name, READ, dir_fd=parent)
        if _stamp(os.fstat(fd)) != node.stamp:  # the mode is part of it: a folder or fifo never gets further
            os.close(fd)
            raise changed(self.root / node.path)
        with os.fdopen(fd, "rb", buffering=0) as stream:
            yield stream
            if _stamp(os.fstat(fd)) != node.stamp:
                raise changed(self.root / node.path)

    def unchanged(self) -> None:
        """Look at every listed folder again. Raises UnavailableError if names came, went or were swapped."""
        for folder, before in self._folders.items():
            with self._folder(folder) as fd:
                if _stamp(os.fstat(fd)) != before:
                    raise changed(self.root / folder)

    @contextmanager
    def _folder(self, path: str) -> Iterator[int]:
        """A descriptor of a folder below the root, reached one name at a time (rule 1)."""
        fd = os.dup(self._fd)
        try:
            for name in path.split("/") if path else ():
                with faults("open", self.root / path, self.area):
                    inner = os.open(name, READ | os.O_DIRECTORY, dir_fd=fd)
                os.close(fd)
                fd = inner
            yield fd
        finally:
            os.close(fd)


def _node(path: str, info: os.stat_result) -> Node:
    kind = {stat.S_IFREG: "file", stat.S_IFDIR: "folder", stat.S_IFLNK: "symlink"}.get(
        stat.S_IFMT(info.st_mode), "special"
    )
    problem = path_problem(path)
    if problem is None and kind == "symlink":
        problem = "symlink", "it is a symlink"
    elif problem is None and kind == "special":
        problem = "special", "it is a device, fifo or socket"
    return Node(path, kind, info.st_size, bool(info.st_mode & stat.S_IXUSR), _stamp(info), problem)


def _sorted(nodes: list[Node]) -> list[Node]:
    return sorted(nodes, key=lambda node: node.path.encode(errors="surrogateescape"))


def _stamp(info: os.stat_result) -> Stamp:
    return info.st_dev, info.st_ino, info.st_mode, info.st_size, info.st_mtime_ns, info.st_ctime_ns
