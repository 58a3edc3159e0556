"""Creating a store: the log, its key, its first records and its first checkpoint. Run again after a cut, it goes on."""

from __future__ import annotations

import contextlib
import json
import os
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from muniment import __version__
from muniment.app import clock, home, ids, keys
from muniment.app.actor import os_actor
from muniment.app.handlers import Handler
from muniment.app.home import write_atomic
from muniment.app.request import Request
from muniment.app.session import EXPORTS, KEYS, evidence_of, folder_for
from muniment.domain.admin import Init
from muniment.domain.decision import ActorRef
from muniment.domain.envelope import read_fact
from muniment.domain.errors import (
    ConflictError,
    InvalidError,
    NotFoundError,
    UnfitError,
    UsageError,
    WrongError,
)
from muniment.domain.os_faults import os_fault, shown
from muniment.domain.policy import Policy, parse
from muniment.store import checkpoint
from muniment.store.api import KIND_RECORDS, SCHEMA_VERSION, Log
from muniment.store.files import faults, regular
from muniment.store.open import create_log, name_of, open_log
from muniment.store.postgres_url import is_postgres

LOG_KEY = "log"
FIRST_RECORDS = 2
MAX_POLICY = 1 << 20  # bytes; a document that is a record cannot even have 65 535
SHIPPED = ("solo", "team", "regulated")


def load_policy(name: str) -> Policy:
    """A shipped policy by name, or a policy document by path.

    Raises:
        NotFoundError: neither. InvalidError: not a policy document.
    """
    if name in SHIPPED:
        text = resources.files("muniment.ops").joinpath("policies", f"{name}.json").read_text("utf-8")
    else:
        text = _read_policy(name)
    try:
        document = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise InvalidError(f"policy {shown(name)} is no JSON: {error}", code="policy.syntax") from error
    return parse(document)


def _read_policy(name: str) -> str:
    absent = NotFoundError(
        f"no policy {shown(name)}", code="policy.none", hint=f"one of {', '.join(SHIPPED)}, or a file"
    )
    if "\0" in name or not Path(name).is_file():
        raise absent
    try:
        with regular(Path(name).resolve()) as (stream, info), faults("read", name, "policy"):
            data = stream.read(MAX_POLICY) if info.st_size < MAX_POLICY else b""
        return data.decode() if data or not info.st_size else _too_long(name)
    except UnicodeDecodeError as error:
        raise InvalidError(f"policy {shown(name)} is not UTF-8", code="policy.syntax") from error


def _too_long(name: str) -> str:
    raise InvalidError(
        f"policy {shown(name)} is too long", code="policy.syntax", expected=f"under {MAX_POLICY} bytes"
    )


def create_store(url: str, *, policy: str = "solo") -> Mapping[str, Any]:
    """Create a store and return what was made: store id, place, policy and its digest, key id, checkpoint.

    Each step may be the last one before a cut; the next call goes on: log, key, first records (one batch, so there is never a
    store without a policy), checkpoint.

    Raises:
        ConflictError: there is a store already. UnfitError, UnavailableError: the place cannot hold one.
        NotFoundError, InvalidError: no such policy, or not a policy document; nothing was made.
    """
    document = load_policy(policy)
    home.home()  # a user without one could write nothing afterwards
    place = name_of(url)
    if not is_postgres(url):
        _check_folder(Path(place))
    try:
        log = create_log(url, KIND_RECORDS)
    except ConflictError:
        log = open_log(url)
    with contextlib.closing(log):
        evidence_of(
            url, getattr(log, "connection", None), read_only=False
        )  # a store whose evidence has no place would be of no use
        # in a folder the key comes before there is an id; for a server the id names the folder (decision 0009)
        store_id = log.store_id or ids.short_id("s-")
        folder = folder_for(url, store_id)
        if log.head().size and not _cut_short(log, url, folder):
            raise _exists(place)
        private = _log_key(folder / KEYS)
        if not log.head().size:
            _first_records(log, store_id, place, private, document)
        made = next(read_fact(body, at) for at, body in log.read((), limit=1)).data
        in_force = next(read_fact(body, at) for at, body in log.read((), after=1, limit=1)).data
        head = log.head()
        path = _checkpoint(folder, log)
        if made["log_key_id"] != keys.key_id(private):
            raise WrongError(
                "the key in the store is not the one its first record names",
                code="store.log_key",
                hint="restore the key from a backup",
                expected=made["log_key_id"],
                found=keys.key_id(private),
            )
        note = checkpoint.sign(checkpoint.Checkpoint(made["origin"], head.size, head.root), private)
        with faults("write", path, "store"):
            write_atomic(path, note)
        clock.ClockCache(home.writer_file(made["store_id"]), lambda: clock.read_host(log.now)).mark()
    return {
        "store_id": made["store_id"],
        "store": place,
        "policy": in_force["policy"],
        "policy_digest": in_force["digest"],
        "log_key_id": made["log_key_id"],
        "verifier": str(checkpoint.verifier_key(made["origin"], private)),
        "checkpoint": str(path),
        "size": head.size,
        "root": head.root.hex(),
    }


def _check_folder(folder: Path) -> None:
    """The folder of the store and what stands above it are folders, or are not there yet."""
    with faults("look at", folder, "store"):
        standing = next(path for path in (folder, *folder.parents) if os.path.lexists(path))
        if not standing.is_dir():
            raise UsageError(
                f"{shown(standing)} is no folder",
                code="store.folder",
                hint="name a folder, or a new name in one",
            )


def _first_records(log: Log, store_id: str, place: str, private: Any, document: Policy) -> None:
    """Append `store.created` and the policy, as positions 1 and 2 or not at all."""
    me = os_actor()
    command = Init(
        store_id=store_id,
        kind=KIND_RECORDS,
        versions={"muniment": __version__, "record": "1", "schema": str(SCHEMA_VERSION)},
        log_key_id=keys.key_id(private),
        log_public_key=keys.public_key_b64(private),
        origin=f"muniment/{store_id}",
        policy=document.document,
    )
    handler = Handler(log, now=log.now, new_id=ids.uuid7)
    # expect 0: of two inits at once, the second must not append a second birth
    request = Request(ActorRef(me.id, me.kind, me.auth), reason="init", expect=0)
    try:
        outcome = handler.execute(command, request)
    except ConflictError as error:
        raise _exists(place) from error
    if outcome.refusal is not None:
        raise _exists(place)


def _log_key(folder: Path) -> Any:
    """The key that signs heads: the one of an earlier, cut attempt, or a new one."""
    try:
        keys.create_key(LOG_KEY, folder)
    except ConflictError:
        pass
    except UnfitError as error:
        if isinstance(
            error.__cause__, OSError
        ):  # the file could not be written: a retry may, once there is room or a right to
            raise os_fault(error.__cause__, "write", folder, "store") from error
        raise
    return keys.load_key(LOG_KEY, folder)


def _checkpoint(folder: Path, log: Log) -> Path:
    return folder / EXPORTS / f"checkpoint-{log.head().size}"


def _cut_short(log: Log, url: str, folder: Path) -> bool:
    """Nothing but the first records, and no checkpoint over them: of a server's store, only where its key is."""
    mine = not is_postgres(url) or (folder / KEYS / f"{LOG_KEY}.pem").exists()
    return mine and log.head().size == FIRST_RECORDS and not _checkpoint(folder, log).exists()


def _exists(place: str) -> ConflictError:
    return ConflictError(
        f"there is a store already: {shown(place)}", code="store.exists", hint="use it, or name another"
    )
