"""An interrupt that comes while something is begun which must be ended again waits until it can be."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager


@contextmanager
def held_back() -> Iterator[None]:
    """Keep SIGINT until the block is left, then answer it as usual: what the block made is known by then.

    In the main thread only, where Python answers signals; an ignored one stays ignored. A process made in the block has the usual
    answer, since an exec forgets handlers (a blocked signal would stay blocked).
    """
    usual = signal.getsignal(signal.SIGINT)
    if threading.current_thread() is not threading.main_thread() or not callable(usual):
        yield
        return
    came: list[int] = []
    signal.signal(signal.SIGINT, lambda number, _: came.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, usual)
    if came:
        signal.raise_signal(signal.SIGINT)
