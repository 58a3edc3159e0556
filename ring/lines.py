"""Lines of a descriptor for what is not fed by the C `Feeder`: the router of shards and the first role of a lane graph.

As there: a line ends at a newline or at the end of input, a CR belongs to it, and one that does not fit is named by line and byte
after everything before it was given out. `offset` is where the first line stands that was not given back.
"""

from __future__ import annotations

import os
import select

from muniment.domain.errors import InvalidError, UnavailableError

CHUNK = 1 << 20


class Ended(Exception):  # noqa: N818 - it is what happened
    """Nothing more will come, and everything was taken."""


class Lines:
    """Lines shown and given back.

    Args:
        offset: of the input, where the descriptor stands.
        room: the longest line in bytes, without its end.
    """

    def __init__(self, fd: int, offset: int, room: int) -> None:
        self._fd, self._room = fd, room
        self._lines: list[bytes] = []
        self._at = self._shown = 0
        self._rest = b""
        self._eof = self._long = False
        self.offset, self.lines = offset, 0

    def peek(self, most: int, timeout: float) -> list[bytes]:
        """Up to `most` lines, [] after `timeout` seconds without one.

        Raises:
            Ended: the end of input. InvalidError: the next line does not fit. UnavailableError: it cannot be read.
        """
        if self._at == len(self._lines) and not self._long and not self._eof:
            self._fill(timeout)
        if self._at == len(self._lines):
            if self._long:
                raise line_too_long(self.lines + 1, self.offset, self._room)
            if self._eof:
                raise Ended
        self._shown = min(most, len(self._lines) - self._at)
        return self._lines[self._at : self._at + self._shown]

    def release(self) -> None:
        """What was shown is done."""
        done = self._lines[self._at : self._at + self._shown]
        self._at += self._shown
        self._shown = 0
        self.lines += len(done)
        self.offset += sum(map(len, done)) + len(done)

    def _fill(self, timeout: float) -> None:
        try:
            if not select.select([self._fd], [], [], timeout)[0]:
                return
            data = os.read(self._fd, CHUNK)
        except OSError as error:
            raise unreadable(error) from error
        lines = (self._rest + data).split(b"\n")
        self._rest = lines.pop()
        self._eof = not data
        if self._rest and (self._eof or len(self._rest) > self._room):
            lines.append(self._rest)
        long = next((at for at, line in enumerate(lines) if len(line) > self._room), None)
        self._long = long is not None
        self._lines, self._at = lines[:long], 0


def line_too_long(line: int, offset: int, room: int) -> InvalidError:
    """A line that no slot holds: its number in this run, from 1, and its first byte in the input."""
    return InvalidError(
        f"line {line} of the input, at byte {offset}, does not fit a slot",
        code="source.line_too_long",
        expected=f"at most {room} bytes (slot_bytes of the spec)",
        hint="raise slot_bytes, or mend the line; everything before it was passed on",
    )


def unreadable(error: OSError) -> UnavailableError:
    """The input failed under the run."""
    return UnavailableError(
        f"the input cannot be read: {error.strerror or error}",
        code="source.unreadable",
        hint="run again: it goes on",
    )
