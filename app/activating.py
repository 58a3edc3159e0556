"""Activation and rollback on a real target folder: each step done, then recorded, so the record never runs ahead but at the
switch, which is the commit point (settled.md, 16).

Recovery reads the last record of the target (I15): before the switch the same activation goes on from its last step, or is
abandoned if the slot wants another pack now; after the switch the link is put where the record says, or the switch is reverted
when that pack cannot be had on the target any more.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
from muniment.app import folder, ids, packing
from muniment.app.handlers import Outcome, Request
from muniment.app.session import Options, Session
from muniment.domain import activation as activations
from muniment.domain import rollback as rollbacks
from muniment.domain import slot_state
from muniment.domain.channel import POLICY_ITEM
from muniment.domain.commands import FOLD
from muniment.domain.errors import ConflictError, NotFoundError, UsageError, WrongError
from muniment.domain.reference import check_name, check_pack, check_slot
from muniment.domain.states import Activation, Slot, Target
from muniment.domain.world import World, fold, policy_of

DRIVER = "folder"
DONE = ("CONFIRMED",)


class Result(msgspec.Struct):
    """What became of an activation.

    Attributes:
        state: the last state recorded; "" if it was refused or a dry run.
        outcomes: of each command that was decided, in order.
        resumed: the state another run had left it in, "" if this run began it.
        checks: of the verification on the target.
    """

    slot: str
    target: str
    location: str
    pack: str = ""
    activation: str = ""
    state: str = ""
    replaced: str = ""
    resumed: str = ""
    outcomes: list[Outcome] = []
    checks: list[dict[str, Any]] = []

    @property
    def refused(self) -> Outcome | None:
        """The outcome that refused, if one did."""
        return next((outcome for outcome in self.outcomes if outcome.refusal is not None), None)

    @property
    def exit_code(self) -> int:
        """A failed verification is 7; else the refusal's code, or 0 (settled.md, 21)."""
        if self.state in ("VERIFY_FAILED", "FETCH_FAILED"):
            return WrongError.exit_code
        return self.refused.exit_code if self.refused is not None else 0


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
    """The folded state of a slot and the policy in force."""
    facts = session.facts((POLICY_ITEM, *slot_state.items(check_slot(slot))))
    world = fold(World(), facts, FOLD)
    return world, world.slots.get(slot)


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
        ConflictError: the folder is the place of another slot or target. UnavailableError: it is busy, full or
            not writable; the next run goes on. WrongError: what stands there is damaged.
    """
    place = Path(directory).absolute()
    if place.is_symlink() or (place.exists() and not place.is_dir()):
        raise UsageError(
            f"{place} is not a folder", code="target.folder", expected="a folder, or a name for a new one"
        )
    if not place.parent.is_dir():
        raise UsageError(
            f"{place.parent} does not exist", code="target.parent", hint="create the folder above the target"
        )
    target = target_name(place, name)
    _check_place(place, slot, target)
    request = session.request(options)
    request.correlation = ids.uuid7()
    run = _Run(session, request, Result(slot=slot, target=target, location=str(place)), place, waive_rollback)
    world, state = slot_of(session, slot)
    known = state.targets.get(target) if state is not None else None
    current = known.activation if known is not None else None
    if known is not None and current is not None and current.state in (*slot_state.OPEN_STATES, "SWITCHED"):
        if known.location != str(place):
            raise ConflictError(
                f"target {target} of {slot} is at {known.location}",
                code="target.moved",
                expected=known.location,
                found=str(place),
            )
        if options.dry_run:
            run.result.pack, run.result.resumed = current.pack, current.state
            return run.result
        with folder.locked(place):
            run.resume(known, current, state)
        if run.result.state or run.result.refused:
            return run.result
    run.threshold = policy_of(world).verification.pack_signatures
    if not run.plan() or options.dry_run:
        return run.result
    folder.adopt(place, target, slot)
    with folder.locked(place):
        run.drive("PLANNED")
    return run.result


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
            f"{place} is the place of another target",
            code="target.other",
            expected=f"{target} of {slot}",
            found=f"{found[1]} of {found[0]}",
        )


class _Run:
    """One run over one target; `result` grows with each step."""

    def __init__(self, session: Session, request: Request, result: Result, place: Path, waive: bool) -> None:
        self.session = session
        self.request = request
        self.result = result
        self.place = place
        self.waive = waive
        self.threshold = 0

    def decide(self, command: Any) -> Outcome:
        outcome = self.session.run(command, request=self.request)
        self.request.key, self.request.expect = "", None  # they speak of the first command only
        self.result.outcomes.append(outcome)
        return outcome

    def _at(self) -> dict[str, str]:
        return {"activation": self.result.activation, "slot": self.result.slot, "target": self.result.target}

    def plan(self) -> bool:
        """Record the plan; False if it was refused."""
        found = folder.read_active(self.place) if self.place.is_dir() else None
        outcome = self.decide(
            activations.Plan(
                activation=ids.short_id("a-"),
                slot=self.result.slot,
                target=self.result.target,
                location=str(self.place),
                driver=DRIVER,
                found=found or "",
                waive_rollback=self.waive,
            )
        )
        planned = outcome.event("activation.planned/1")
        if planned is None:
            return False
        self.result.pack, self.result.activation = planned["pack"], planned["activation"]
        self.result.replaced = planned["replaced"]
        if not self.request.dry_run:
            self.result.state = "PLANNED"
        return True

    def drive(self, state: str) -> None:
        """Go on from a recorded state to the end, or to the first step that fails or is refused."""
        steps: dict[str, Callable[[], str]] = {
            "PLANNED": self._fetch,
            "FETCHED": self._verify,
            "VERIFIED": self._stage,
            "STAGED": self._switch,
            "SWITCHED": self._confirm,
        }
        while state in steps:
            state = steps[state]()
            if state:
                self.result.state = state

    def _step(self, command: Any, state: str) -> str:
        return "" if self.decide(command).refusal is not None else state

    def _fetch(self) -> str:
        try:
            manifest = packing.manifest_of(self.session, self.result.pack)
            folder.fetch(self.place, manifest, self.session.evidence, self.result.activation)
        except (WrongError, NotFoundError) as error:
            folder.abandon(self.place, self.result.activation)
            return self._step(
                activations.Fail(**self._at(), step="fetch_failed", reason=error.message[:2000]),
                "FETCH_FAILED",
            )
        return self._step(
            activations.Step(**self._at(), step="fetched", detail={"files": len(manifest["files"])}),
            "FETCHED",
        )

    def _verify(self) -> str:
        keys = packing.public_keys(self.session)
        try:
            checks = folder.verify(
                self.place, self.result.activation, self.result.pack, keys=keys, threshold=self.threshold
            )
        except NotFoundError:
            # fetched, recorded, and gone since (a crash before the folder was durable): fetch again, verify that
            manifest = packing.manifest_of(self.session, self.result.pack)
            folder.fetch(self.place, manifest, self.session.evidence, self.result.activation)
            checks = folder.verify(
                self.place, self.result.activation, self.result.pack, keys=keys, threshold=self.threshold
            )
        self.result.checks = packing.as_data(checks)
        command = activations.Verified(**self._at(), checks=self.result.checks)
        if self._step(command, "VERIFIED") == "":
            return ""
        if any(check.verdict == "fail" for check in checks):
            folder.abandon(self.place, self.result.activation)
            return "VERIFY_FAILED"
        return "VERIFIED"

    def _stage(self) -> str:
        try:
            folder.stage(self.place, self.result.activation, self.result.pack)
        except (WrongError, NotFoundError) as error:
            folder.abandon(self.place, self.result.activation)
            return self._step(
                activations.Fail(**self._at(), step="stage_failed", reason=error.message[:2000]),
                "STAGE_FAILED",
            )
        return self._step(activations.Step(**self._at(), step="staged", detail={}), "STAGED")

    def _switch(self) -> str:
        command = activations.Switch(**self._at(), waive_rollback=self.waive)
        if self._step(command, "SWITCHED") == "":
            return ""
        self.result.state = "SWITCHED"
        folder.switch(self.place, self.result.pack)
        return "SWITCHED"

    def _confirm(self) -> str:
        link = folder.read_active(self.place) or ""
        return self._step(activations.Confirm(**self._at(), link=link), "CONFIRMED")

    # -- recovery --------------------------------------------------------------------------------------------------

    def resume(self, target: Target, current: Activation, slot: Slot | None) -> None:
        """Go on with what another run left; leaves `result.state` empty if it was abandoned and a new plan is due."""
        self.result.activation, self.result.pack = current.activation, current.pack
        self.result.replaced, self.result.resumed = current.replaced, current.state
        self.threshold = policy_of(slot_of(self.session, self.result.slot)[0]).verification.pack_signatures
        if current.state == "SWITCHED":
            self._roll_forward(current)
            return
        wanted = target.rollback_pack if target.rollback else (slot.desired if slot is not None else "")
        if wanted != current.pack:
            folder.abandon(self.place, current.activation)
            self.decide(
                activations.Fail(
                    **self._at(), step="abandoned", reason=f"the slot wants {wanted or 'nothing'} now"
                )
            )
            self.result.activation = self.result.pack = self.result.replaced = ""
            return
        folder.adopt(self.place, self.result.target, self.result.slot)
        self.drive(current.state)
        if self.result.state == "" and self.result.refused is not None:
            self.result.state = current.state

    def _roll_forward(self, current: Activation) -> None:
        try:
            folder.switch(self.place, current.pack)
        except (NotFoundError, WrongError):
            link = folder.read_active(self.place) or ""
            if link != current.replaced:
                raise
            self.result.state = (
                self._step(activations.Revert(**self._at(), link=link), "REVERTED") or "SWITCHED"
            )
            return
        self.drive("SWITCHED")


def rollback(
    session: Session,
    options: Options,
    slot: str,
    *,
    to: str = "",
    target: str = "",
    trigger: str = "operator",
) -> list[tuple[Outcome, Result | None]]:
    """Roll back every target of a slot, or one: decide by R5, then activate what was selected.

    Args:
        to: explicit pack id; refused, never substituted, if it cannot be the target.
        target: a target's name or its folder; all if absent.

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
    names = [named(targets, target)] if target else [n for n, t in targets.items() if t.active] or ["none"]
    answers: list[tuple[Outcome, Result | None]] = []
    for name in names:
        command = rollbacks.Request(ids.short_id("rb-"), slot, name, to, trigger)
        outcome = session.run(command, options)
        done = None
        if outcome.refusal is None and not options.dry_run and outcome.event("rollback.pack_selected/1"):
            again = Options(reason=options.reason, sign=options.sign)
            done = activate(session, again, slot, targets[name].location, name=name)
            while done.exit_code == WrongError.exit_code and _selected_again(done):
                done = activate(session, again, slot, targets[name].location, name=name)
        answers.append((outcome, done))
    return answers


def _selected_again(result: Result) -> bool:
    """The failed step selected another pack in its own decision (chain + 1), so there is something to try."""
    return bool(result.outcomes) and result.outcomes[-1].event("rollback.pack_selected/1") is not None


def named(targets: dict[str, Target], target: str) -> str:
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
            hint=f"muniment rollback {slot}",
            expected=failed[0].expected,
            found=failed[0].observed,
        )
    return {"slot": slot, "target": target, "location": str(place), "pack": pack, "files": len(checks)}
