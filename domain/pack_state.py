"""Pack: the fold of its records and what is selected for it. Commands and decisions stand in `domain.pack`."""

from __future__ import annotations

from muniment.domain.decision import Fact
from muniment.domain.query import Item
from muniment.domain.refusal import NOT_FOUND, Refusal
from muniment.domain.states import Block, Pack, Product, Verified
from muniment.domain.world import Handles, World

STORE_SITE = "store"


def on_compiled(world: World, fact: Fact) -> None:
    """Named by a build; not registered yet."""
    data = fact.data
    pack = data["pack"]
    world.packs.setdefault(pack, Pack(pack, build=data["build"], files=data["files"], bytes=data["bytes"]))


def on_registered(world: World, fact: Fact) -> None:
    """Registered, with its place in the product's order."""
    data = fact.data
    world.products[data["product"]] = Product(data["product"], data["seq"])
    pack = world.packs.setdefault(data["pack"], Pack(data["pack"]))
    pack.state = "REGISTERED"
    pack.product, pack.build, pack.seq = data["product"], data["build"], data["seq"]
    pack.security_epoch, pack.writes = data["security_epoch"], data["writes"]
    pack.reads = (data["reads"][0], data["reads"][1])
    pack.files, pack.bytes = data["files"], data["bytes"]
    pack.manifest = next((e["blake3"] for e in fact.evidence if e["role"] == "pack-manifest"), "")
    pack.registered = fact.mark()


def _pack(world: World, fact: Fact) -> Pack:
    return world.packs.setdefault(fact.data["pack"], Pack(fact.data["pack"]))


def on_admitted(world: World, fact: Fact) -> None:
    """Eligible as far as the pack itself goes."""
    _pack(world, fact).state = "ELIGIBLE"


def on_available(world: World, fact: Fact) -> None:
    """Its bytes are at a site."""
    pack = _pack(world, fact)
    if fact.data["site"] not in pack.sites:
        pack.sites = [*pack.sites, fact.data["site"]]


def on_reverified(world: World, fact: Fact) -> None:
    """The last verification counts."""
    _pack(world, fact).verified = Verified(fact.data["verdict"], fact.data["policy"], fact.mark())


def on_blocked(world: World, fact: Fact) -> None:
    """Blocks add up; each is lifted by itself."""
    data = fact.data
    _pack(world, fact).blocks[data["block"]] = Block(
        data["block"], data["scope"], fact.mark(), data["advisory"]
    )


def on_unblocked(world: World, fact: Fact) -> None:
    """One block less."""
    _pack(world, fact).blocks.pop(fact.data["block"], None)


def on_withdrawn(world: World, fact: Fact) -> None:
    """Terminal."""
    pack = _pack(world, fact)
    pack.state, pack.withdrawn = "WITHDRAWN", fact.mark()


def on_quarantined(world: World, fact: Fact) -> None:
    """Quarantine is a fact of pack and channel (R6)."""
    _pack(world, fact).quarantines[fact.data["channel"]] = fact.mark()


def on_quarantine_lifted(world: World, fact: Fact) -> None:
    """Automation may select it again in that channel."""
    _pack(world, fact).quarantines.pop(fact.data["channel"], None)


HANDLES: Handles = {
    "build.compiled/1": on_compiled,
    "pack.registered/1": on_registered,
    "pack.admitted/1": on_admitted,
    "pack.available/1": on_available,
    "pack.reverified/1": on_reverified,
    "pack.blocked/1": on_blocked,
    "pack.unblocked/1": on_unblocked,
    "pack.withdrawn/1": on_withdrawn,
    "slot.quarantined/1": on_quarantined,
    "slot.quarantine_lifted/1": on_quarantine_lifted,
}
TYPES = tuple(sorted(HANDLES))

PRODUCT_TYPES = ("pack.registered/1",)


def item(pack: str) -> Item:
    """The records of one pack."""
    return Item(TYPES, (f"pack:{pack}",))


def product_item(product: str) -> Item:
    """The registrations of a product: its order."""
    return Item(PRODUCT_TYPES, (f"product:{product}",))


def unknown(pack: str) -> Refusal:
    """The pack is not in this store, or not registered."""
    return Refusal(
        "pack.unknown",
        pack,
        f"pack {pack} is not registered here",
        next="muniment pack list",
        exit_code=NOT_FOUND,
    )
