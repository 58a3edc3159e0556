"""Channel and scope: the fold of what acts at a level, and what is derived from it."""

from __future__ import annotations

from muniment.domain.decision import Fact
from muniment.domain.query import Item, Query
from muniment.domain.reference import EVERYWHERE, channel_of, scope_tag, scopes_of
from muniment.domain.refusal import Mark
from muniment.domain.states import Channel, Freeze, Pin, PolicyInForce
from muniment.domain.world import Handles, World


def on_policy_published(world: World, fact: Fact) -> None:
    """The policy in force is the one published last."""
    data = fact.data
    world.policy = PolicyInForce(data["policy"], data["digest"], data["document"], fact.mark())


def on_declared(world: World, fact: Fact) -> None:
    """Cohorts add up."""
    data = fact.data
    known = world.channels.get(data["channel"])
    cohorts = [
        *(known.cohorts if known else []),
        *(c for c in data["cohorts"] if not known or c not in known.cohorts),
    ]
    world.channels[data["channel"]] = Channel(data["channel"], cohorts, data["upstream"], fact.mark())
    for cohort in cohorts:
        world.slot(f"{data['channel']}/{cohort}")


def on_pinned(world: World, fact: Fact) -> None:
    """The last pin of a scope counts."""
    data = fact.data
    world.scope(data["scope"]).pin = Pin(data["pack"], data["owner"], fact.mark(), data["expires_at"])


def on_unpinned(world: World, fact: Fact) -> None:
    """No pin here."""
    world.scope(fact.data["scope"]).pin = None


def on_frozen(world: World, fact: Fact) -> None:
    """Freezes add up."""
    data = fact.data
    world.scope(data["scope"]).freezes[data["freeze"]] = Freeze(
        data["freeze"], data["kind"], fact.mark(), data["expires_at"], data["incident"]
    )


def on_unfrozen(world: World, fact: Fact) -> None:
    """One freeze less."""
    world.scope(fact.data["scope"]).freezes.pop(fact.data["freeze"], None)


def on_floor_raised(world: World, fact: Fact) -> None:
    """R3, I3: a floor never decreases, whatever a record says."""
    scope = world.scope(fact.data["scope"])
    if fact.data["floor"] > scope.floor:
        scope.floor, scope.raised = fact.data["floor"], fact.mark()


def on_baselined(world: World, fact: Fact) -> None:
    """The pack of last resort."""
    world.scope(fact.data["scope"]).baseline = fact.data["pack"]


POLICY_HANDLES: Handles = {"policy.published/1": on_policy_published}
HANDLES: Handles = {
    "channel.declared/1": on_declared,
    "channel.pinned/1": on_pinned,
    "channel.unpinned/1": on_unpinned,
    "channel.frozen/1": on_frozen,
    "channel.unfrozen/1": on_unfrozen,
    "channel.floor_raised/1": on_floor_raised,
    "channel.baselined/1": on_baselined,
}
TYPES = tuple(sorted(HANDLES))

POLICY_ITEM = Item(tuple(POLICY_HANDLES), (scope_tag(EVERYWHERE),))


def scope_item(scope: str) -> Item:
    """What acts at one level."""
    return Item(TYPES, (scope_tag(scope),))


def scope_items(slot: str) -> Query:
    """What acts on a slot at every level (settled.md, 6). Declarations carry `scope:*`, so each boundary knows the map."""
    return tuple(scope_item(scope) for scope in scopes_of(slot))


def live_pin(world: World, slot: str, at: str) -> tuple[str, Pin] | None:
    """The narrowest live pin that covers a slot, with its scope."""
    for scope in scopes_of(slot):
        found = world.scopes.get(scope)
        if (
            found is not None
            and found.pin is not None
            and (not found.pin.expires_at or at < found.pin.expires_at)
        ):
            return scope, found.pin
    return None


def live_freezes(world: World, slot: str, at: str) -> list[tuple[str, Freeze]]:
    """Every live freeze that covers a slot, with its scope (R8: the union)."""
    return [
        (scope, freeze)
        for scope in scopes_of(slot)
        if scope in world.scopes
        for freeze in world.scopes[scope].freezes.values()
        if not freeze.expires_at or at < freeze.expires_at
    ]


def floor(world: World, slot: str) -> int:
    """R3: the highest floor of the levels that cover the slot."""
    return max((world.scopes[scope].floor for scope in scopes_of(slot) if scope in world.scopes), default=0)


def floor_mark(world: World, slot: str) -> Mark | None:
    """The record that raised the floor of a slot to where it is."""
    levels = [world.scopes[scope] for scope in scopes_of(slot) if scope in world.scopes]
    return max(levels, key=lambda level: level.floor).raised if levels else None


def is_declared(world: World, slot: str) -> bool:
    """The slot's cohort is declared in its channel."""
    channel = world.channels.get(channel_of(slot))
    return channel is not None and slot.rsplit("/", 1)[1] in channel.cohorts
