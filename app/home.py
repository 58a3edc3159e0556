"""The reader's own folder: keys, heads seen, memos and the writer's cache (settled.md, 12).

    keys/<store id>/        private keys, mode 0700
    stores/<store id>/      work, exports and the log's key of a store that is no folder (decision 0009)
    heads/<store id>.json   the last head this reader has seen
    memos/<store id>/       cached folds, discarded on mismatch
    tiles/<store id>/       inner nodes of the tree for proofs, made anew on mismatch
    writer/                 the writer's clock cache

Rules:
1. Read verbs work with a home that cannot be written: what is lost is said in a warning, never raised.
2. A head is remembered forwards only. A log cut back to a smaller size, or another root at the same size,
   must not make the reader forget the head that would have shown it.
3. A damaged file is set aside, not overwritten.
"""

from __future__ import annotations

import json
import os
import re
import secrets
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from typing import NamedTuple

from muniment.domain import instant
from muniment.domain.errors import UnfitError, UsageError
from muniment.store.files import fsync_folder, write_new

_STORE_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,127}")
_ROOT = re.compile(r"[0-9a-f]{64}")


class SeenHead(NamedTuple):
    """A head as remembered: size, root (64 hex digits), instant it was seen."""

    size: int
    root: str
    seen_at: str


class LastHead(NamedTuple):
    """The head last seen, None if there is none; `warning` is "" or why nothing could be read."""

    head: SeenHead | None
    warning: str = ""


def home(env: Mapping[str, str] | None = None) -> Path:
    """Name the home folder; nothing is created.

    `MUNIMENT_HOME`, else `$XDG_STATE_HOME/muniment`, else `~/.local/state/muniment`. A relative XDG path is
    ignored.

    Raises:
        UnfitError: no variable is set and the user has no home folder.
    Source: XDG Base Directory Specification 0.8.
    """
    env = os.environ if env is None else env
    if own := env.get("MUNIMENT_HOME"):
        return Path(own).expanduser().absolute()
    state = env.get("XDG_STATE_HOME", "")
    if state and Path(state).is_absolute():
        return Path(state) / "muniment"
    try:
        user = Path(env["HOME"]) if env.get("HOME") else Path.home()
    except RuntimeError as error:
        raise UnfitError(
            "this user has no home folder", code="home.none", hint="set MUNIMENT_HOME"
        ) from error
    return user / ".local" / "state" / "muniment"


def key_dir(store_id: str, base: Path | None = None) -> Path:
    """The folder of this store's private keys."""
    return (base or home()) / "keys" / _safe(store_id)


def store_dir(store_id: str, base: Path | None = None) -> Path:
    """This user's folder for a store that is none: `work/`, `exports/` and `keys/` as in the folder of a store."""
    return (base or home()) / "stores" / _safe(store_id)


def memo_dir(store_id: str, base: Path | None = None) -> Path:
    """The folder of this store's memos."""
    return (base or home()) / "memos" / _safe(store_id)


def tile_dir(store_id: str, base: Path | None = None) -> Path:
    """The folder of the inner nodes of this store's tree (see `store.tiles`)."""
    return (base or home()) / "tiles" / _safe(store_id)


def writer_file(store_id: str, base: Path | None = None) -> Path:
    """The writer's clock cache of this store (see `app.clock`)."""
    return (base or home()) / "writer" / f"{_safe(store_id)}.json"


def head_file(store_id: str, base: Path | None = None) -> Path:
    """The file that holds the last head seen of this store."""
    return (base or home()) / "heads" / f"{_safe(store_id)}.json"


def last_head(store_id: str, base: Path | None = None) -> LastHead:
    """Return the head this reader saw last; a damaged or unreadable file is a warning."""
    path = head_file(store_id, base)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        return LastHead(None)
    except OSError as error:
        return LastHead(None, f"last seen head not read: {path}: {error.strerror}")
    try:
        found = json.loads(data)
        size, root, seen_at = found["size"], found["root"], found["seen_at"]
    except (ValueError, TypeError, KeyError, RecursionError):
        return LastHead(None, f"last seen head is damaged: {path}")
    sound = type(size) is int and size >= 0 and type(root) is str and type(seen_at) is str
    if not sound or not _ROOT.fullmatch(root):
        return LastHead(None, f"last seen head is damaged: {path}")
    return LastHead(SeenHead(size, root, seen_at))


def remember_head(
    store_id: str, size: int, root: bytes | str, *, now: int | None = None, base: Path | None = None
) -> str:
    """Remember a head that was verified; return "" or why it was not remembered.

    Args:
        root: 32 bytes or 64 lower-case hex digits.
        now: microseconds since 1970; the host's clock if absent.

    Raises:
        UsageError: a negative size or a root of another shape.
    """
    text = root.hex() if isinstance(root, bytes) else root
    if size < 0 or not _ROOT.fullmatch(text):
        raise UsageError(
            "not a head", code="home.head", expected="size >= 0, 32-byte root", found=f"{size} {text[:80]}"
        )
    path = head_file(store_id, base)
    head, warning = last_head(store_id, base)
    if head is not None and size < head.size:
        return f"head of size {size} not remembered: size {head.size} was seen at {head.seen_at}"
    if head is not None and size == head.size and text != head.root:
        return f"head of size {size} not remembered: root {head.root} was seen at this size at {head.seen_at}"
    seen_at = instant.from_micros(time.time_ns() // 1000 if now is None else now)
    data = json.dumps({"size": size, "root": text, "seen_at": seen_at}, sort_keys=True).encode() + b"\n"
    try:
        if warning and path.exists():
            path.replace(path.with_name(path.name + ".damaged"))
        write_atomic(path, data)
    except OSError as error:
        return f"head not remembered: {path}: {error.strerror}"
    return ""


def write_atomic(path: Path, data: bytes, *, durable: bool = True) -> None:
    """Replace a file as a whole: another process reads the old bytes or the new ones. New folders get mode
    0700.

    Args:
        durable: fsync the file before the rename and the folder after it; leave out only where a damaged file
        counts as an absent one.

    Raises:
        OSError: nothing was replaced and no temporary file stays.

    A process that is killed leaves nothing where there was no file (`write_new`), and at most a whole, hidden `.name.*` where one
    is replaced.
    """
    make_private(path.parent)
    if not os.path.lexists(path):
        with suppress(FileExistsError):  # another process was first: replace what it wrote
            write_new(path, data, durable=durable)
            return
    spare = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    write_new(spare, data, durable=durable)
    try:
        spare.replace(path)
    except BaseException:
        spare.unlink(missing_ok=True)
        raise
    if durable:
        fsync_folder(path.parent)


def make_private(folder: Path) -> None:
    """Make a folder and its parents, each new one 0700 (`Path.mkdir` gives the mode to the last only)."""
    missing = []
    while not folder.exists():
        missing.append(folder)
        folder = folder.parent
    for item in reversed(missing):
        item.mkdir(mode=0o700, exist_ok=True)
        fsync_folder(item.parent)


def _safe(store_id: str) -> str:
    """A store id becomes a file name: refuse one that could name another place."""
    if not _STORE_ID.fullmatch(store_id):
        raise UsageError(
            "store id cannot name a folder",
            code="home.store_id",
            expected=_STORE_ID.pattern,
            found=store_id[:80],
        )
    return store_id
