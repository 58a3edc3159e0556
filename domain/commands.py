"""Every command by name: its shape, and the entity that decides it. The one dispatch table of the handler.

`from_record` reads a recorded command again, so a decision can be made anew from the log (architecture.md, idea 3).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple, get_args

import msgspec
from muniment.domain import (
    activation,
    admin,
    build,
    channel,
    incident,
    intake,
    pack,
    release,
    rollback,
    slot,
)
from muniment.domain.decision import Context, Decision
from muniment.domain.errors import InvalidError
from muniment.domain.query import Query
from muniment.domain.reference import check_channel, check_name, check_pack, check_scope, check_slot
from muniment.domain.world import World

AnyCommand = (
    activation.Command
    | admin.Command
    | build.Command
    | channel.Command
    | incident.Command
    | intake.Add
    | pack.Command
    | release.Command
    | rollback.Request
    | slot.Command
)


class Decider(NamedTuple):
    """The two pure functions that decide a command."""

    boundary: Callable[[Any, World], Query]
    decide: Callable[[World, Any, Context], Decision]


_entities: tuple[tuple[Any, Decider], ...] = tuple(
    (command, Decider(module.boundary, module.decide))
    for module, union in (
        (activation, activation.Command),
        (admin, admin.Command),
        (build, build.Command),
        (channel, channel.Command),
        (incident, incident.Command),
        (intake, intake.Add),
        (pack, pack.Command),
        (release, release.Command),
        (rollback, rollback.Request),
        (slot, slot.Command),
    )
    for command in (get_args(union) or (union,))
)
DECIDERS: dict[type, Decider] = dict(_entities)
COMMANDS: dict[str, type] = {str(command.__struct_config__.tag): command for command, _ in _entities}


def name_of(command: AnyCommand) -> str:
    """`channel.pin` and so on, as it stands in the record."""
    return str(command.__struct_config__.tag)


def arguments(command: AnyCommand) -> dict[str, Any]:
    """The arguments as JSON values, as they stand in the record."""
    built: dict[str, Any] = msgspec.to_builtins(command)
    del built["type"]
    return built


_checks: dict[str, Callable[[str], object]] = {
    "slot": check_slot,
    "channel": check_channel,
    "scope": check_scope,
    "pack": check_pack,
    **{
        field: partial(check_name, what=field)
        for field in (
            "activation",
            "attempt",
            "block",
            "build",
            "environment",
            "freeze",
            "gate",
            "incident",
            "intake",
            "product",
            "release",
            "rollback",
            "stage",
            "target",
        )
    },
}


def check(command: AnyCommand) -> None:
    """Refuse names that are none before anything is selected by them.

    Raises:
        UsageError: a slot, channel, scope, pack or name of another form.
    """
    for field in command.__struct_fields__:
        value = getattr(command, field)
        if field in _checks and isinstance(value, str):
            _checks[field](value)
    if isinstance(command, release.Create):
        for slot_name in (name for stage in command.stages for name in stage.slots):
            check_slot(slot_name)


def from_record(name: str, args: dict[str, Any]) -> AnyCommand:
    """The command of a record.

    Raises:
        InvalidError: unknown name, or arguments that do not fit.
    """
    shape = COMMANDS.get(name)
    if shape is None:
        raise InvalidError(f"unknown command {name!r}", code="command.unknown")
    try:
        command: AnyCommand = msgspec.convert({"type": name, **args}, shape)
    except msgspec.ValidationError as error:
        raise InvalidError(f"arguments of {name}: {error}", code="command.arguments") from error
    return command
