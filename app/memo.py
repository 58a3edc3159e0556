"""Memos: a saved read model, so that a reader starts where it stopped. A memo is an optimisation and is never trusted.

A file is one line of JSON (format, store, projection versions, position, frontier, digest of the rest) and the model as msgpack.

1. It is used only if the frontier it was saved at, extended by the leaves that follow, gives the head of the log as it is: then the
   records it was made from are a prefix of this log (RFC 6962, 2.1.2). Anything else discards it.
2. A damaged or foreign file counts as none; reading it never fails a command.
3. It is replaced as a whole, and only after a catch-up long enough to be worth a write.
"""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import NamedTuple

import msgspec
from muniment.app.home import memo_dir, write_atomic
from muniment.projections.model import ReadModel
from muniment.projections.registry import VERSIONS
from muniment.store.api import Log
from muniment.store.merkle import Frontier

FORMAT = "muniment-memo/1"
_encode = msgspec.msgpack.Encoder().encode
_decode = msgspec.msgpack.Decoder(ReadModel).decode


class Memo(NamedTuple):
    """A model and where it stands; `note` says why there is none, "" if no file is there."""

    model: ReadModel | None
    frontier: Frontier
    note: str = ""

    @property
    def position(self) -> int:
        """The last record it has applied."""
        return self.frontier.size


NONE = Memo(None, Frontier())


def path_of(store_id: str, base: Path | None) -> Path:
    """Where the memo of a store is kept."""
    return memo_dir(store_id, base) / "projections.memo"


def load(store_id: str, base: Path | None) -> Memo:
    """Read the memo, shape only; `fits` says whether it may be used on this log."""
    if not store_id:
        return NONE
    try:
        data = path_of(store_id, base).read_bytes()
    except FileNotFoundError:
        return NONE
    except OSError as error:
        return Memo(None, Frontier(), f"memo not read: {error.strerror}")
    line, _, payload = data.partition(b"\n")
    try:
        header = json.loads(line)
        if header["format"] != FORMAT or header["store_id"] != store_id:
            return Memo(None, Frontier(), "memo of another store or format")
        if header["versions"] != VERSIONS:
            return Memo(None, Frontier(), "memo of other projection versions")
        if header["sha256"] != hashlib.sha256(payload).hexdigest():
            return Memo(None, Frontier(), "memo is damaged")
        frontier = Frontier(header["position"], [bytes.fromhex(root) for root in header["frontier"]])
        if frontier.root().hex() != header["root"]:
            return Memo(None, Frontier(), "memo is damaged")
        return Memo(_decode(payload), frontier)
    except (ValueError, KeyError, TypeError, RecursionError, msgspec.MsgspecError):
        return Memo(None, Frontier(), "memo is damaged")


def fits(memo: Memo, log: Log, head: Frontier) -> bool:
    """Tell whether the memo's prefix is a prefix of the log; costs one hash for each record since (rule 1)."""
    if memo.model is None or memo.position > head.size:
        return False
    frontier = memo.frontier.copy()
    frontier.extend(log.leaves(after=memo.position, until=head.size))
    return frontier.size == head.size and frontier.roots == head.roots


def save(store_id: str, base: Path | None, model: ReadModel, frontier: Frontier) -> str:
    """Write the memo; return "" or why it was not written (a reader may have no right to write)."""
    if not store_id:
        return ""
    payload = _encode(model)
    header = {
        "format": FORMAT,
        "store_id": store_id,
        "versions": VERSIONS,
        "position": frontier.size,
        "frontier": [root.hex() for root in frontier.roots],
        "root": frontier.root().hex(),
        "sha256": hashlib.sha256(payload).hexdigest(),
    }
    path = path_of(store_id, base)
    try:
        # Not synced: after a power loss a damaged memo is no memo.
        write_atomic(path, json.dumps(header, sort_keys=True).encode() + b"\n" + payload, durable=False)
    except OSError as error:
        return f"memo not written: {path}: {error.strerror}"
    return ""
