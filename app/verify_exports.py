"""Exported checkpoints against the log: each is signed by the log's key, speaks of this log, and is a head of it.

The key is the one that position 1 names, so this proves that nobody changed an export without that key, not who holds it: a reader
who kept the verifier line that `init` printed compares it with `store.created` (cli.md, section 2).
"""

from __future__ import annotations

import base64
import binascii
import re
from pathlib import Path
from typing import Any, NamedTuple

from muniment.app.verify_report import NOT_APPLICABLE, SKIPPED, Check, Finding
from muniment.domain.errors import MunimentError
from muniment.store import checkpoint

_name = re.compile(r"checkpoint-([1-9][0-9]{0,18})").fullmatch


class Anchor(NamedTuple):
    """A head known from elsewhere: the root (64 hex digits) of the first `size` records; `name` says from where."""

    size: int
    root: str
    name: str


def exported(check: Check, folder: Path | None, created: dict[str, Any], born: int) -> list[Anchor]:
    """Read and verify every checkpoint below a store's `exports`; return the heads they state.

    Args:
        folder: the exports folder, None for a store without one.
        created: data of the record at position 1.
        born: size of the log after the decision that made it, whose checkpoint `init` exports: in a store that holds the log's
            key it must be there.
    """
    try:
        names = (
            sorted(path.name for path in folder.iterdir()) if folder is not None and folder.is_dir() else []
        )
    except OSError as error:
        check.leave(SKIPPED, f"{folder}: {error.strerror}")
        return []
    found = [(match, name) for name in names if (match := _name(name))]
    if (
        folder is not None
        and (folder.parent / "keys" / "log.pem").exists()
        and f"checkpoint-{born}" not in names
    ):
        check.fail(
            Finding(
                f"exports/checkpoint-{born}, as init made it",
                "no such file",
                None,
                "exports",
                "muniment init",
            )
        )
    if folder is None or not found:
        check.leave(NOT_APPLICABLE, "nothing was exported")
        return []
    try:
        origin = str(created["origin"])
        raw = base64.b64decode(created["log_public_key"], validate=True)
        key = checkpoint.VerifierKey(origin, checkpoint.key_hash(origin, raw), raw)
    except (KeyError, TypeError, ValueError, binascii.Error) as error:
        check.fail(Finding("the log's key in store.created", repr(error)[:100], 1, "log_public_key"))
        return []
    anchors = []
    for match, name in found:
        try:
            stated = checkpoint.verify((folder / name).read_bytes(), [key], origin=origin)
        except MunimentError as error:
            check.fail(
                Finding("a checkpoint signed by the log's key", error.message, None, f"exports/{name}")
            )
            continue
        except OSError as error:
            check.leave(SKIPPED, f"exports/{name}: {error.strerror}")
            continue
        if str(stated.size) != match[1]:
            check.fail(Finding(f"size {match[1]}", f"size {stated.size}", None, f"exports/{name}"))
        anchors.append(Anchor(stated.size, stated.root.hex(), f"exports/{name}"))
    return anchors
