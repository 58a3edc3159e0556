"""What a stage in Python is, and the ones that need no store: `python:<name>`, `sink:file:<path>`.

A stage gets messages in order, in lists. It answers with nothing (all go on) or with one bool a message (False: rejected, the
stages below do not see it), or it raises: then nothing of the list is done, it gets shorter lists of the same messages, and the
pipeline stops at the one that fails alone. Messages are given back to the ring only after their stage has answered, so nothing
is passed over (operator-flow.md, section 3).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from importlib.metadata import entry_points
from pathlib import Path
from typing import BinaryIO, NamedTuple, Protocol

from muniment.domain.errors import ConflictError, InvalidError, MunimentError, UnavailableError
from muniment.domain.os_faults import shown

BATCH = 2048  # messages at once: a commit of sink:log; 1000 to 4000 differ by less than 5 %
GROUP = "muniment.stages"  # entry points of installed packages: name -> callable(bytes) -> bool | None


class Span(NamedTuple):
    """Which part of the ring a list of messages is.

    Attributes:
        first: sequence of the first message, counted from 1.
        taken: sequences, also of messages that a filter above had rejected and that are not in the list.
        bytes: payload of all of these.
    """

    first: int
    taken: int
    bytes: int


class Work(Protocol):
    """A stage in Python; used by one thread.

    Attributes:
        batch: the most messages it takes at once; 1 if it cannot undo the first of a list when a later one fails.
    """

    batch: int

    def take(self, messages: Sequence[bytes], span: Span) -> Sequence[bool] | None:
        """Do the work of these messages; they count as done when this returns."""
        ...

    def finish(self) -> None:
        """The input has ended and everything was taken: make the result whole."""
        ...

    def abandon(self) -> None:
        """The pipeline stopped before its end: let go of what is open, keep what is durable."""
        ...

    def summary(self) -> dict[str, object]:
        """What it did, for the report of the run."""
        ...


Function = Callable[[bytes], bool | None]
_registered: dict[str, Function] = {}


def register(name: str) -> Callable[[Function], Function]:
    """Make a function known as `python:<name>` in this process; installed packages use the entry points of `GROUP`."""

    def keep(function: Function) -> Function:
        if _registered.setdefault(name, function) is not function:
            raise ConflictError(f"python:{name} is registered already", code="stage.registered", found=name)
        return function

    return keep


class PythonStage:
    """`python:<name>`: a function of one message; False rejects it, an exception stops the pipeline."""

    batch = 1

    def __init__(self, name: str) -> None:
        """Find the function.

        Raises:
            InvalidError: nothing of that name is registered, or it is no function that can be loaded.
        """
        self._name, self._function = name, _find(name)
        self._taken = self._rejected = 0

    def take(self, messages: Sequence[bytes], span: Span) -> Sequence[bool] | None:  # noqa: ARG002
        """Call the function for each message."""
        function = self._function
        try:
            kept = [function(message) is not False for message in messages]
        except MunimentError:
            raise
        except BaseException as error:
            raise _raised(self._name, error) from error
        self._taken += len(kept)
        if all(kept):
            return None
        self._rejected += kept.count(False)
        return kept

    def finish(self) -> None:
        """Nothing is kept back."""

    def abandon(self) -> None:
        """Nothing is open."""

    def summary(self) -> dict[str, object]:
        """Messages seen and rejected."""
        return {"messages": self._taken, "rejected": self._rejected}


def _find(name: str) -> Function:
    if name in _registered:
        return _registered[name]
    found = list(entry_points(group=GROUP, name=name))
    if len(found) != 1:
        raise InvalidError(
            f"python:{name}: {'nothing' if not found else 'more than one thing'} of that name is registered",
            code="stage.not_registered",
            expected=f"one entry point {name} of the group {GROUP} in the installed packages",
            found=", ".join(f"{point.value}" for point in found),
            hint="install the package that declares it, or give the op another name",
        )
    try:
        function: Function = found[0].load()
        why = "" if callable(function) else f"{type(function).__name__} cannot be called"
    except Exception as error:  # importing somebody else's module may raise anything
        why = f"{type(error).__name__}: {shown(str(error))}"
    if why:
        raise InvalidError(
            f"python:{name} cannot be loaded: {why}",
            code="stage.not_loadable",
            expected="a function of one message",
            found=found[0].value,
            hint="mend the package that declares it, or install it again",
        )
    return function


def _raised(name: str, error: BaseException) -> UnavailableError:
    """What a foreign function raised, whatever members its exception has: its code and its exit code are not ours."""
    said = f": {shown(str(error))}" if str(error) else ""
    return UnavailableError(
        f"python:{name} raised {type(error).__name__}{said}",
        code="stage.raised",
        hint="mend the function or the message, then run again; nothing after it was passed on",
    )


class FileSink:
    """`sink:file:<path>`: every message and a line end, into a file that appears whole or not at all.

    Lines go to `<path>.partial`, synced and linked to `path` at the end of input. An existing `path` is never touched; a
    `.partial` that an earlier run left is set aside only by a person, since another run may be writing it.
    """

    batch = BATCH

    def __init__(self, path: str) -> None:
        """Open the working file.

        Raises:
            ConflictError: `path` or its working file exists. UnavailableError: it cannot be written.
        """
        self._path = Path(path)
        self._partial = Path(f"{path}.partial")
        self._lines = self._bytes = 0
        if os.path.lexists(self._path):
            raise _exists(self._path)
        try:
            self._file: BinaryIO = self._partial.open("xb")
        except FileExistsError as error:
            raise _exists(self._partial) from error
        except OSError as error:
            raise _unwritable(self._partial, error) from error

    def take(self, messages: Sequence[bytes], span: Span) -> None:  # noqa: ARG002
        """Write the lines."""
        data = b"\n".join(messages) + b"\n" if messages else b""
        try:
            self._file.write(data)
        except OSError as error:
            raise _unwritable(self._partial, error) from error
        self._lines += len(messages)
        self._bytes += len(data)

    def finish(self) -> None:
        """Sync, then give it its name; a name taken meanwhile is not overwritten."""
        try:
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            os.link(self._partial, self._path)
            self._partial.unlink()
            folder = os.open(self._path.parent, os.O_RDONLY)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)
        except FileExistsError as error:
            raise _exists(self._path) from error
        except OSError as error:
            raise _unwritable(self._path, error) from error

    def abandon(self) -> None:
        """Leave the working file: it holds what came through. One that holds nothing is no result to keep."""
        with suppress(OSError):  # there is an error already that says why
            self._file.close()
            if not self._lines:
                self._partial.unlink()

    def summary(self) -> dict[str, object]:
        """Lines and bytes written."""
        return {"messages": self._lines, "bytes": self._bytes, "path": str(self._path)}


def _exists(path: Path) -> ConflictError:
    return ConflictError(
        f"{path} exists; sink:file writes a new file",
        code="sink.file_exists",
        found=str(path),
        hint="move it away, or give the sink another path",
    )


def _unwritable(path: Path, error: OSError) -> UnavailableError:
    return UnavailableError(
        f"cannot write {path}: {error.strerror or error}",
        code="sink.file_unwritable",
        found=str(path),
        hint="make the folder, room in it, or the right to write there; then run again",
    )
