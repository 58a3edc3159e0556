"""What a record is only with those before it: creation, unused ids, decisions that stand together, keys and signatures."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from muniment.app.verify_tables import Found

CREATED = "store.created/1"
KEY_TYPES = ("identity.added/1", "key.revoked/1")


class Sequel:
    """Told of records in order; `ids` says that no unique index holds their ids."""

    def __init__(self, found: Found, *, ids: bool) -> None:
        self.found = found
        self._ids = ids
        self.store_id = ""
        self.keys: dict[str, list[Any]] = {}
        self._batch: tuple[str, int, int] = ("", 0, 0)
        self._recent: dict[str, int] = {}

    def resume(self, store_id: str, keys: dict[str, list[Any]]) -> None:
        """Begin behind records that left these keys: id -> public key, identity, kind, position of the revocation or 0."""
        self.store_id = store_id
        self.keys = {name: list(key) for name, key in keys.items()}

    @property
    def in_batch(self) -> bool:
        """True while a decision lacks records."""
        return self._batch[1] < self._batch[2]

    def stands_together(self, first: int, last: int, noted: Sequence[tuple[int, dict[str, Any]]]) -> bool:
        """Tell whether no decision begun before or in a stretch lacks a record that is not noted."""
        due = first if self.in_batch else 0  # position of the next record of a decision that is not whole
        for position, record in noted:
            if due and position != due:
                return False
            batch = record.get("batch")
            try:
                due = position + 1 if batch is not None and batch["index"] + 1 < batch["size"] else 0
            except (KeyError, TypeError):
                return False
        return due in (0, last + 1)

    def finish(self, last: int) -> None:
        """Note a decision that the end of the log cuts."""
        if self.in_batch:
            self.found(
                "record.batch", last, "batch", f"{self._batch[2]} records", f"{self._batch[1]}, then the end"
            )

    def record(self, position: int, record: dict[str, Any]) -> None:
        """Look at the next record."""
        type_ = record["type"]
        if (type_ == CREATED) != (position == 1):
            self.found("store.created", position, "type", CREATED if position == 1 else "another type", type_)
        elif position == 1:
            self.store_id = str(record["data"].get("store_id", ""))
        if self._ids:
            self._id_once(position, record["id"])
        batch = record.get("batch")
        if batch is not None or self._batch[1] < self._batch[2]:
            self._in_batch(position, record["id"], batch)
        if "signature" in record or record["actor"]["auth"] != "os":
            self._signature(position, record)
        if type_ in KEY_TYPES:
            self._keys_change(type_, record["data"], position)

    def _id_once(self, position: int, id_: str) -> None:
        # A database holds ids by a unique index (`store.integrity`); ids come in order of time, so a window is enough here.
        if id_ in self._recent:
            self.found("record.ids", position, "id", "an unused id", id_, f"used at {self._recent[id_]}")
        self._recent[id_] = position
        if len(self._recent) > 100_000:
            self._recent.pop(next(iter(self._recent)))

    def _in_batch(self, position: int, id_: str, batch: dict[str, Any] | None) -> None:
        first, done, size = self._batch
        if done < size:
            wanted = {"first": first, "index": done, "size": size}
            if batch != wanted:
                self.found("record.batch", position, "batch", wanted, batch)
                self._batch = ("", 0, 0)
                if batch is None or batch.get("index") != 0:
                    return
            else:
                self._batch = (first, done + 1, size)
                return
        if batch is None:
            return
        if batch.get("first") != id_ or batch.get("index") != 0 or type(batch.get("size")) is not int:
            self.found("record.batch", position, "batch", {"first": id_, "index": 0}, batch)
            return
        self._batch = (id_, 1, batch["size"])

    def _keys_change(self, type_: str, data: dict[str, Any], position: int) -> None:
        if type_ == "identity.added/1":
            self.keys[data["key_id"]] = [data["public_key"], data["identity"], data["kind"], 0]
        elif data["key_id"] in self.keys:
            self.keys[data["key_id"]][3] = position

    def _signature(self, position: int, record: dict[str, Any]) -> None:
        from muniment.app.keys import verify_record

        auth = record["actor"]["auth"]
        signature = record.get("signature")
        if not isinstance(signature, dict):
            self.found("record.signature", position, "signature", f"a signature by {auth}", "none")
            return
        key_id = signature.get("key_id")
        if auth != f"ed25519:{key_id}":
            self.found("record.signature", position, "actor.auth", f"ed25519:{key_id}", auth)
        key = self.keys.get(str(key_id))
        if key is None:
            self.found("record.signature", position, "signature", "a key bound before", key_id)
            return
        public, identity, kind, revoked = key
        if revoked:
            self.found(
                "record.signature", position, "signature", "a key in force", f"{key_id}, revoked at {revoked}"
            )
        if (record["actor"]["id"], record["actor"]["kind"]) != (identity, kind):
            self.found("record.signature", position, "actor.id", identity, record["actor"]["id"])
        if not verify_record(record, public):
            self.found(
                "record.signature", position, "signature", f"a good signature by {key_id}", "a bad one"
            )
