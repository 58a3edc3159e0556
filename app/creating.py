"""Creating a store: the log, its key, its first records and its first checkpoint. Run again after a cut, it goes on."""

from __future__ import annotations

import json
from collections.abc import Mapping
from importlib import resources
from pathlib import Path
from typing import Any

from muniment import __version__
from muniment.app import clock, ids, keys
from muniment.app.actor import os_actor
from muniment.app.handlers import Handler, Request
from muniment.app.home import write_atomic
from muniment.app.session import EXPORTS
from muniment.domain.admin import Init
from muniment.domain.decision import ActorRef
from muniment.domain.errors import ConflictError, InvalidError, NotFoundError
from muniment.domain.policy import Policy, parse
from muniment.store import checkpoint
from muniment.store.api import KIND_RECORDS, SCHEMA_VERSION
from muniment.store.open import create_log, folder_of, open_log

LOG_KEY = "log"
SHIPPED = ("solo", "team", "regulated")


def load_policy(name: str) -> Policy:
    """A shipped policy by name, or a policy document by path.

    Raises:
        NotFoundError: neither. InvalidError: not a policy document.
    """
    if name in SHIPPED:
        text = resources.files("muniment.ops").joinpath("policies", f"{name}.json").read_text("utf-8")
    else:
        try:
            text = Path(name).read_text("utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise NotFoundError(
                f"no policy {name}", code="policy.none", hint=f"one of {', '.join(SHIPPED)}, or a file"
            ) from error
    try:
        return parse(json.loads(text))
    except ValueError as error:
        raise InvalidError(f"policy {name} is no JSON: {error}", code="policy.syntax") from error


def create_store(url: str, *, policy: str = "solo") -> Mapping[str, Any]:
    """Create a store and return what was made: store id, folder, policy and its digest, key id, checkpoint.

    Raises:
        ConflictError: there is a store already. UnfitError, UnavailableError: the place cannot hold one.
    """
    document = load_policy(policy)
    folder = folder_of(url).absolute()
    try:
        log = create_log(url, KIND_RECORDS)
    except ConflictError:
        log = open_log(url)
        if log.head().size:
            log.close()
            raise
    try:
        key_folder = folder / "keys"
        if not (key_folder / f"{LOG_KEY}.pem").exists():
            keys.create_key(LOG_KEY, key_folder)
        private = keys.load_key(LOG_KEY, key_folder)
        store_id = ids.short_id("s-")
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
        handler = Handler(log, now=clock.now, new_id=ids.uuid7)
        handler.execute(command, Request(ActorRef(me.id, me.kind, me.auth), reason="init"))
        head = log.head()
        note = checkpoint.sign(checkpoint.Checkpoint(command.origin, head.size, head.root), private)
        path = folder / EXPORTS / f"checkpoint-{head.size}"
        path.parent.mkdir(mode=0o700, exist_ok=True)
        write_atomic(path, note)
    finally:
        log.close()
    return {
        "store_id": store_id,
        "store": str(folder),
        "policy": document.policy,
        "policy_digest": document.digest,
        "log_key_id": command.log_key_id,
        "verifier": str(checkpoint.verifier_key(command.origin, private)),
        "checkpoint": str(path),
        "size": head.size,
        "root": head.root.hex(),
    }
