"""What a stage prints, as it passes through to people.

Evidence keeps the bytes as they were. A terminal gets them with every control character but newline and tab as an escape, so
that what is built cannot move the cursor, retitle the window or answer for the person; a pipe or a file gets them unchanged.
"""

from __future__ import annotations

import codecs
import io
import sys
from typing import Any, BinaryIO, cast

from muniment.cli.text import visible


class Escaped(io.RawIOBase):
    """Writes text for a terminal to a stream of bytes; a character cut in two by a chunk waits for its rest.

    Bytes that are no text are shown as the replacement character.
    """

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")

    def writable(self) -> bool:
        """True."""
        return True

    def write(self, data: Any, /) -> int:
        """Take bytes, pass on what may be shown."""
        raw = bytes(data)
        text = self._decoder.decode(raw)
        shown = "\n".join("\t".join(visible(cell) for cell in line.split("\t")) for line in text.split("\n"))
        self._stream.write(shown.encode())
        return len(raw)

    def flush(self) -> None:
        """Flush the stream behind."""
        self._stream.flush()


def tee() -> BinaryIO:
    """Standard error, safe if it is a terminal."""
    raw = sys.stderr.buffer
    return cast("BinaryIO", Escaped(raw)) if sys.stderr.isatty() else raw
