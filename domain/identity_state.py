"""Identity: the fold of keys bound to names. Commands and decisions stand in `domain.admin`."""

from __future__ import annotations

from muniment.domain.decision import Fact
from muniment.domain.query import Item
from muniment.domain.states import Key
from muniment.domain.world import Handles, World


def on_identity_added(world: World, fact: Fact) -> None:
    """A key of a name."""
    data = fact.data
    world.keys[data["key_id"]] = Key(
        data["key_id"], data["identity"], data["kind"], data["public_key"], fact.mark()
    )


def on_key_revoked(world: World, fact: Fact) -> None:
    """No longer accepted for new records."""
    if (key := world.keys.get(fact.data["key_id"])) is not None:
        key.revoked = fact.mark()


HANDLES: Handles = {"identity.added/1": on_identity_added, "key.revoked/1": on_key_revoked}
TYPES = tuple(sorted(HANDLES))
IDENTITY_ITEM = Item(TYPES, ("scope:*",))


def key_item(key_id: str) -> Item:
    """The records of one key."""
    return Item(TYPES, (f"key:{key_id}",))
