"""Bytes that a long fold puts aside: a file without a name, gone with whoever holds its last block.

It holds nothing that a fold from the first record would not make again, so nothing here is synced, kept or trusted.
"""

from __future__ import annotations

import os
import tempfile
from collections.abc import Callable
from functools import partial
from pathlib import Path

from muniment.app.memo_parts import pack
from muniment.domain.errors import UnavailableError
from muniment.projections.model import ReadModel
from muniment.store.files import faults, write_all


class Spill:
    """Where one fold puts entities aside; makes its file when there is something to write."""

    def __init__(self) -> None:
        self._descriptor, self._size, self._full = -1, 0, False

    def relieve(self, model: ReadModel) -> None:
        """Pack the large parts of a model; where the disk has no room, they stay in memory."""
        if not self._full:
            try:
                pack(model, self._keep)
            except UnavailableError:
                self._full = True

    def _keep(self, data: bytes) -> Callable[[], bytes]:
        with faults("write", Path(tempfile.gettempdir()), "fold"):
            if self._descriptor < 0:
                self._descriptor, name = tempfile.mkstemp(prefix="muniment-")
                Path(name).unlink()
            write_all(self._descriptor, data)
        self._size += len(data)
        return partial(self._read, self._size - len(data), len(data))

    def _read(self, start: int, size: int) -> bytes:
        with faults("read", Path(tempfile.gettempdir()), "fold"):
            data = os.pread(self._descriptor, size, start)
        if len(data) != size:
            raise UnavailableError(
                "what a fold put aside is no longer there",
                code="fold.spill",
                hint="run it again; nothing was written",
                expected=f"{size} bytes at {start}",
                found=f"{len(data)} bytes",
            )
        return data

    def __del__(self) -> None:
        if self._descriptor >= 0:
            os.close(self._descriptor)
