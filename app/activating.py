"""Activation and rollback on a real target folder: each step done, then recorded, so the record never runs ahead but at the
switch, which is the commit point (settled.md, 16). The steps and the recovery stand in `app.activation_run`.

1. A folder is the place of one target of one slot; anybody else's place is refused before anything is recorded.
2. A link that is not what the record says was changed by hand: a forward activation refuses and says what; a rollback goes on,
   for it is the way out, and ends with link and record equal.
3. A repeated idempotency key gives what was recorded, and finishes it if a cut left it open.
"""

from __future__ import annotations

import hashlib
import re
from pathlib import Path
from typing import Any

import msgspec
from muniment.app import folder, ids, packing
from muniment.app.activation_run import DRIVER, Result, Run, own
from muniment.app.request import Outcome
from muniment.app.session import Options, Session
from muniment.domain import rollback as rollbacks
from muniment.domain import slot_state
from muniment.domain.channel import POLICY_ITEM
from muniment.domain.errors import ConflictError, NotFoundError, UsageError, WrongError
from muniment.domain.folding import FOLD
from muniment.domain.os_faults import shown
from muniment.domain.query import Item
from muniment.domain.reference import check_name, check_pack, check_slot
from muniment.domain.states import Slot, Target
from muniment.domain.world import World, fold, policy_of
from muniment.store.files import faults

__all__ = ["DRIVER", "Result", "activate", "active", "rollback", "slot_of", "target_name"]

UNFINISHED = (*slot_state.OPEN_STATES, "SWITCHED")
_ENDS = {
    f"activation.{verb}/1": verb.upper()
    for verb in ("planned", "fetched", "verified", "staged", "switched", "confirmed", "fetch_failed", "stage_failed",
                 "abandoned", "reverted")
} | {"activation.verification_failed/1": "VERIFY_FAILED"}  # fmt: skip


def target_name(place: Path, name: str = "") -> str:
    """The name of a target: as given, as its own file says, or made of the folder's name and path.

    Raises:
        UsageError: not a name. WrongError: its own file is damaged.
    """
    if name:
        return check_name(name, "a target")
    if place.exists():
        try:
            return folder.read_target(place)[1]
        except NotFoundError:
            pass
    slug = re.sub(r"[^a-z0-9._-]", "-", place.name.lower()).lstrip("._-")[:50] or "target"
    return f"{slug}-{hashlib.sha256(str(place).encode()).hexdigest()[:6]}"


def slot_of(session: Session, slot: str) -> tuple[World, Slot | None]:
    """The folded state of a slot, of each target's reports of health the last one only, and the policy in force."""
    facts = session.facts((POLICY_ITEM, *slot_state.items(check_slot(slot))))
    world = fold(World(), facts, FOLD)
    state = world.slots.get(slot)
    for target in state.targets.values() if state is not None else ():
        last = session.last(slot_state.reports(slot, target)) if target.active else None
        if last is not None and last.position > target.switched_position:
            fold(world, (last,), FOLD)
    return world, state


def activate(
    session: Session,
    options: Options,
    slot: str,
    directory: str,
    *,
    name: str = "",
    waive_rollback: bool = False,
) -> Result:
    """Bring a target to the pack its slot should run, or go on where another run stopped.

    Raises:
        UsageError: not a folder, or a name that is none.
        ConflictError: the folder is the place of another slot or target; the target is at another place; the idempotency key
            stands for something else.
        UnavailableError: it is busy, full or not writable; the next run goes on.
        WrongError: what stands there is damaged, or was changed by hand.
    """
    place = _folder(directory)
    world, state = slot_of(session, slot)
    target = _target(state, place, name)
    _check_place(place, slot, target)
    given = {"slot": slot, "target": target, "location": str(place), "waive_rollback": waive_rollback}
    known = state.targets.get(target) if state is not None else None
    result = Result(slot=slot, target=target, location=str(place), dry_run=options.dry_run)
    if (told := session.recorded(options, "activation.", **given)) is not None:
        result.outcomes.append(told)
        begun = next((e.data["activation"] for e in told.events if "activation" in e.data), "")
        current = known.activation if known is not None else None
        if current is None or current.activation != begun or current.state not in UNFINISHED:
            return _recorded(session, result, "activation", begun)
        options = Options(reason=options.reason, sign=options.sign, dry_run=options.dry_run)
    request = session.request(options)
    request.correlation = ids.uuid7()
    threshold = policy_of(world).verification.pack_signatures
    run = Run(session, request, result, place, waive=waive_rollback, threshold=threshold)
    if state is not None and known is not None and _unfinished(known):
        if known.location != str(place):
            raise _moved(known, slot, str(place))
        assert known.activation is not None
        if options.dry_run:
            result.pack, result.resumed = known.activation.pack, known.activation.state
            return result
        if run.resume(known, known.activation, state):
            return result
        known = slot_of(session, slot)[1].targets[target]  # type: ignore[union-attr]
    repair = False
    if state is not None and known is not None and _active_already(known, state.desired, place):
        result.checks, repair = _look(place, known)
        if not repair:
            result.pack, result.state = known.active, "CONFIRMED"
            return result
    found = known.active if repair and known is not None else _found(place, known)
    if not run.plan(found, repair=repair) or options.dry_run:
        return result
    own(place, target, slot)
    with folder.locked(place):
        run.drive("PLANNED")
    return result


def _active_already(known: Target, desired: str, place: Path) -> bool:
    steady = known.mode == "STEADY" and not known.rollback and known.location == str(place)
    return steady and bool(known.active) and known.active == desired


def _look(place: Path, known: Target) -> tuple[list[dict[str, Any]], bool]:
    """Every byte of a pack that is active already: the checks, and whether it must be installed again.

    Raises:
        WrongError: the link was changed by hand (rule 2). UnavailableError: it cannot be read.
    """
    try:
        _found(place, known)
        checks = packing.as_data(folder.verify_active(place))
        folder.read_target(place)
    except NotFoundError:
        return [], True
    except WrongError as error:
        if error.code in ("target.drift", "target.foreign", "target.layout", "target.file"):
            raise  # no damage of a pack: changed by hand
        return [], True
    return checks, any(check["verdict"] == "fail" for check in checks)


def _unfinished(target: Target) -> bool:
    """An activation to go on with. One that was switched and not confirmed is left by a rollback that began since."""
    current = target.activation
    if current is None or current.state not in UNFINISHED:
        return False
    return current.state != "SWITCHED" or current.rollback == target.rollback


def _folder(directory: str) -> Path:
    if not directory or not directory.isprintable():
        raise UsageError(
            f"not the name of a folder: {shown(directory)!r}",
            code="target.folder",
            expected="text without control characters",
        )
    place = Path(directory).absolute()
    with faults("look at", place, "target"):
        if place.is_symlink() or (place.exists() and not place.is_dir()):
            raise UsageError(
                f"{shown(place)} is not a folder",
                code="target.folder",
                expected="a folder, or a name for a new one",
            )
        if not place.parent.is_dir():
            raise UsageError(
                f"{shown(place.parent)} does not exist",
                code="target.parent",
                hint="create the folder above the target",
            )
    return place


def _target(state: Slot | None, place: Path, name: str) -> str:
    """The target's name; the one the record knows at this place goes before one made up of the place."""
    targets = state.targets.values() if state is not None else ()
    here = next((target.target for target in targets if target.location == str(place)), "")
    if here and name and name != here:
        raise ConflictError(
            f"{shown(place)} is the place of target {here}",
            code="target.other",
            expected=here,
            found=name,
        )
    return target_name(place, here or name)


def _moved(known: Target, slot: str, place: str) -> ConflictError:
    return ConflictError(
        f"target {known.target} of {slot} is at {known.location}",
        code="target.moved",
        expected=known.location,
        found=place,
    )


def _check_place(place: Path, slot: str, target: str) -> None:
    """A folder that is somebody else's place is refused before anything is recorded."""
    if not place.exists():
        return
    try:
        found = folder.read_target(place)
    except NotFoundError:
        return
    if found != (slot, target):
        raise ConflictError(
            f"{shown(place)} is the place of another target",
            code="target.other",
            expected=f"{target} of {slot}",
            found=f"{found[1]} of {found[0]}",
        )


def _found(place: Path, known: Target | None) -> str:
    """The pack the link names, "" if none. For a rollback it does not matter what stands there (rule 2)."""
    if known is not None and (known.rollback or known.location != str(place)):
        return known.active  # at another place the plan is refused, and that is recorded
    link = (folder.read_active(place) if place.is_dir() else None) or ""
    if known is not None and link != known.active:
        raise WrongError(
            f"the link of target {known.target} names {link or 'nothing'}, the record says {known.active or 'nothing'}",
            code="target.drift",
            hint="find out who changed it; then put the link back, or give it up: muniment rollback SLOT --target NAME",
            expected=known.active or "no link",
            found=link or "no link",
        )
    return link


def _recorded(session: Session, result: Result, field: str, value: str) -> Result:
    """Fill a result from the records of an activation (or of the last one of a rollback), as they stand."""
    query = (Item(tuple(sorted(_ENDS)), (f"slot:{result.slot}", f"target:{result.target}")),)
    for fact in session.facts(query):
        data = fact.data
        if fact.type == "activation.planned/1" and data[field] == value:
            result.activation, result.pack, result.replaced = (
                data["activation"],
                data["pack"],
                data["replaced"],
            )
        if result.activation and data["activation"] == result.activation:
            result.state = _ENDS[fact.type]
            result.checks = data.get("checks", result.checks)
    return result


def rollback(
    session: Session,
    options: Options,
    slot: str,
    *,
    to: str = "",
    target: str = "",
    trigger: str = "operator",
) -> list[tuple[Outcome, Result | None]]:
    """Roll back the targets of a slot that run the failing pack, or one: decide by R5, then activate what was selected.

    Args:
        to: explicit pack id; refused, never substituted, if it cannot be the target.
        target: a target's name or its folder, whatever it runs; if absent, see `domain.rollback_targets`.

    Returns: a pair a target; the result is None in a dry run, or where nothing could be selected.
    """
    if trigger not in rollbacks.TRIGGERS:
        raise UsageError(
            f"not a trigger: {trigger!r}", code="rollback.trigger", expected=" ".join(rollbacks.TRIGGERS)
        )
    if to:
        check_pack(to)
    _, state = slot_of(session, slot)
    targets = state.targets if state is not None else {}
    found = rollbacks.failing_targets(state) if state is not None else []
    names = [named(targets, target)] if target else found or [rollbacks.NOBODY]
    given = {"slot": slot, "to": to, "trigger": trigger} | ({"target": names[0]} if target else {})
    if (
        (told := session.recorded(options, "rollback", **given)) is not None
        and not target
        and state is not None
    ):
        names = _as_begun(session, options, state, told)
    answers: list[tuple[Outcome, Result | None]] = []
    for number, each in enumerate(names):
        mine = options if number == 0 else _of_target(options, each)
        command = rollbacks.Request(ids.short_id("rb-"), slot, each, to, trigger)
        outcome = session.run(command, mine)
        chosen = outcome.event("rollback.pack_selected/1")
        done = None
        if outcome.refusal is None and not options.dry_run and chosen is not None:
            done = _carry_out(session, options, targets[each], slot, outcome, chosen["rollback"])
        answers.append((outcome, done))
    return answers


def _as_begun(session: Session, options: Options, state: Slot, told: Outcome) -> list[str]:
    """The targets of a rollback that was begun under this key: those recorded under it, and what still runs a failing pack."""
    body = next(session.log.read(after=told.positions[0] - 1, until=told.positions[0]))[1]
    first = str(msgspec.json.decode(body)["command"]["args"]["target"])
    if told.refusal is not None:
        return [first]
    left = rollbacks.failing_targets(state, started=True)
    slot = state.slot
    done = [
        name for name in state.targets if session.recorded(_of_target(options, name), "rollback", slot=slot)
    ]
    return [first, *(name for name in state.targets if name != first and name in {*left, *done})]


def _of_target(options: Options, target: str) -> Options:
    """One key stands for one record: a slot's other targets get keys of their own, made of it. `expect` is the first's."""
    key = f"{options.key}/{target}" if options.key else ""
    return Options(reason=options.reason, key=key, dry_run=options.dry_run, sign=options.sign)


def _carry_out(
    session: Session, options: Options, target: Target, slot: str, outcome: Outcome, rollback_id: str
) -> Result:
    """Activate what was selected, and what the failure of that selects, until one is confirmed or none is left."""
    if outcome.repeated:
        state = slot_of(session, slot)[1]
        if state is None or state.targets[target.target].rollback != rollback_id:
            result = Result(slot=slot, target=target.target, location=target.location, outcomes=[outcome])
            return _recorded(session, result, "rollback", rollback_id)
    again = Options(reason=options.reason, sign=options.sign)
    while True:
        done = activate(session, again, slot, target.location, name=target.target)
        if done.exit_code != WrongError.exit_code or not _selected_again(done):
            return done


def _selected_again(result: Result) -> bool:
    """The failed step selected another pack in its own decision (chain + 1), so there is something to try."""
    return bool(result.outcomes) and result.outcomes[-1].event("rollback.pack_selected/1") is not None


def named(targets: dict[str, Target], target: str) -> str:
    """The name of a target given by its name or its folder.

    Raises:
        NotFoundError: the slot has no such target.
    """
    if target in targets:
        return target
    location = str(Path(target).absolute())
    found = [name for name, state in targets.items() if state.location == location]
    if not found:
        raise NotFoundError(
            f"no target {target}", code="target.unknown", hint=f"one of {', '.join(targets) or 'none yet'}"
        )
    return found[0]


def active(directory: str) -> dict[str, Any]:
    """What a target runs, answered from the target alone: its slot, its pack, what the pack says of itself.

    Raises:
        NotFoundError: nothing is active, or it is no target. WrongError: the link or the pack is damaged.
    """
    place = Path(directory).absolute()
    slot, target = folder.read_target(place)
    pack = folder.read_active(place)
    if pack is None:
        raise NotFoundError(
            f"nothing is active on {place}", code="target.nothing_active", hint=f"muniment activate {slot}"
        )
    checks = folder.verify_active(place)
    failed = [check for check in checks if check.verdict == "fail"]
    if failed:
        raise WrongError(
            f"the active pack on {place} is not whole: {failed[0].id} {failed[0].path}",
            code="target.active_damaged",
            hint=f"muniment activate {slot} --target {place}",
            expected=failed[0].expected,
            found=failed[0].observed,
        )
    return {"slot": slot, "target": target, "location": str(place), "pack": pack, "files": len(checks)}
