"""One run over one target: its steps in order, and recovery by the record (I15).

Before the switch the same activation goes on from its last step, or is abandoned if the slot wants another pack now; after the
switch the link is put where the record says, or the switch is reverted when that pack cannot be had on the target any more.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec
from muniment.app import folder, ids, packing
from muniment.app.pack_check import Check
from muniment.app.request import Outcome, Request
from muniment.app.session import Session
from muniment.domain import activation as activations
from muniment.domain.errors import InvalidError, NotFoundError, UnavailableError, WrongError
from muniment.domain.states import Activation, Slot, Target

DRIVER = "folder"
FAILED = ("FETCH_FAILED", "VERIFY_FAILED", "STAGE_FAILED", "REVERTED")


class Result(msgspec.Struct):
    """What became of an activation.

    Attributes:
        state: the last state recorded; "" if it was refused or a dry run.
        outcomes: of each command that was decided, in order.
        resumed: the state another run had left it in, "" if this run began it.
        checks: of the verification on the target.
        dry_run: nothing was done; `exit_code` is what doing it would have begun with.
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
    dry_run: bool = False

    @property
    def refused(self) -> Outcome | None:
        """The outcome that refused, if one did."""
        return next((outcome for outcome in self.outcomes if outcome.refusal is not None), None)

    @property
    def exit_code(self) -> int:
        """0 only when confirmed, or nothing spoke against it in a dry run; 7 for what failed (settled.md, 21); else 8."""
        if self.state in FAILED:
            return WrongError.exit_code
        if self.refused is not None:
            return self.refused.exit_code
        return 0 if self.state == "CONFIRMED" or self.dry_run else UnavailableError.exit_code


def own(place: Path, target: str, slot: str) -> None:
    """Adopt the folder; a damaged pack behind its link is no reason to refuse, since leaving that pack is the cure.

    Raises:
        WrongError: the link is not ours, or the folder is not laid out as a target. Others as `folder.adopt`.
    """
    try:
        folder.adopt(place, target, slot)
    except WrongError as error:
        if error.code in ("target.foreign", "target.layout", "target.file"):
            raise


class Run:
    """One run over one target; `result` grows with each step."""

    def __init__(
        self, session: Session, request: Request, result: Result, place: Path, *, waive: bool, threshold: int
    ) -> None:
        self.session = session
        self.request = request
        self.result = result
        self.place = place
        self.waive = waive
        self.threshold = threshold

    def decide(self, command: Any) -> Outcome:
        """Decide one command; key and expected position speak of the first one only."""
        outcome = self.session.run(command, request=self.request)
        self.request.key, self.request.expect = "", None
        self.result.outcomes.append(outcome)
        return outcome

    def _at(self) -> dict[str, str]:
        return {
            "activation": self.result.activation,
            "slot": self.result.slot,
            "target": self.result.target,
        }

    def plan(self, found: str, *, repair: bool = False) -> bool:
        """Record the plan; False if it was refused.

        Args:
            found: the pack the target's link names, "" if none.
            repair: the pack that is active is damaged there and is installed again.
        """
        outcome = self.decide(
            activations.Plan(
                activation=ids.short_id("a-"),
                slot=self.result.slot,
                target=self.result.target,
                location=str(self.place),
                driver=DRIVER,
                found=found,
                waive_rollback=self.waive,
                repair=repair,
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
        self.result.state = state
        while state in steps:
            state = steps[state]()
            self.result.state = state or self.result.state

    def _step(self, command: Any, state: str) -> str:
        return "" if self.decide(command).refusal is not None else state

    def _failed(self, step: Literal["fetch_failed", "stage_failed"], error: Exception, state: str) -> str:
        """Record a failure before the switch; what was fetched is removed, `active` is untouched."""
        folder.abandon(self.place, self.result.activation)
        return self._step(activations.Fail(**self._at(), step=step, reason=str(error)[:2000]), state)

    def _put(self) -> int:
        """Fetch from evidence into `staging/`; the number of files."""
        manifest = packing.manifest_of(self.session, self.result.pack)
        folder.fetch(self.place, manifest, self.session.evidence, self.result.activation)
        return len(manifest["files"])

    def _check(self) -> list[Check]:
        return folder.verify(
            self.place,
            self.result.activation,
            self.result.pack,
            keys=packing.public_keys(self.session),
            threshold=self.threshold,
        )

    def _fetch(self) -> str:
        try:
            files = self._put()
        except (WrongError, NotFoundError, InvalidError) as error:
            return self._failed("fetch_failed", error, "FETCH_FAILED")
        return self._step(activations.Step(**self._at(), step="fetched", detail={"files": files}), "FETCHED")

    def _verify(self) -> str:
        try:
            try:
                checks = self._check()
            except NotFoundError:  # fetched, recorded, and gone since: fetch again, and verify that
                self._put()
                checks = self._check()
        except (WrongError, NotFoundError, InvalidError) as error:
            return self._failed("fetch_failed", error, "FETCH_FAILED")
        self.result.checks = packing.as_data(checks)
        outcome = self.decide(activations.Verified(**self._at(), checks=self.result.checks))
        if outcome.refusal is not None:
            return ""
        if outcome.event("activation.verified/1") is not None:
            return "VERIFIED"
        folder.abandon(self.place, self.result.activation)
        return "VERIFY_FAILED"

    def _stage(self) -> str:
        try:
            self._installed()
        except (WrongError, NotFoundError, InvalidError) as error:
            return self._failed("stage_failed", error, "STAGE_FAILED")
        return self._step(activations.Step(**self._at(), step="staged", detail={}), "STAGED")

    def _installed(self) -> None:
        """The pack stands in `packs/`, every byte of it right; what vanished since it was recorded is fetched again."""
        try:
            folder.stage(self.place, self.result.activation, self.result.pack)
        except (NotFoundError, WrongError) as error:
            # a kill while a spare copy was removed leaves half of it: of another run that is no damage
            half = self.result.resumed and error.code == "target.fetched_damaged"
            if self.result.pack == self.result.replaced and error.code == "target.installed_damaged":
                folder.set_aside(self.place, self.result.activation, self.result.pack)
                folder.stage(self.place, self.result.activation, self.result.pack)
                return
            if not half and not isinstance(error, NotFoundError):
                raise
            self._put()
            if bad := [check for check in self._check() if check.verdict == "fail"]:
                raise WrongError(
                    f"what was fetched again is not the pack: {bad[0].id} {bad[0].path}",
                    code="target.fetched_damaged",
                    expected=bad[0].expected,
                    found=bad[0].observed,
                ) from None
            folder.stage(self.place, self.result.activation, self.result.pack)

    def _switch(self) -> str:
        if self._step(activations.Switch(**self._at(), waive_rollback=self.waive), "SWITCHED") == "":
            return ""
        self.result.state = "SWITCHED"
        folder.switch(self.place, self.result.pack)
        return "SWITCHED"

    def _confirm(self) -> str:
        link = folder.read_active(self.place) or ""
        return self._step(activations.Confirm(**self._at(), link=link), "CONFIRMED")

    # -- recovery --------------------------------------------------------------------------------------------------

    def resume(self, target: Target, current: Activation, slot: Slot) -> bool:
        """Go on with what another run left; False if it was abandoned and a new plan is due.

        Raises:
            UnavailableError, WrongError: the target cannot be brought to what the record says; the next run tries again.
        """
        result = self.result
        result.activation, result.pack = current.activation, current.pack
        result.replaced, result.resumed = current.replaced, current.state
        own(self.place, result.target, result.slot)  # the folder may be gone since
        with folder.locked(self.place):
            if current.state == "SWITCHED":
                self._roll_forward(current)
                return True
            wanted = target.rollback_pack if target.rollback else slot.desired
            if wanted != current.pack:
                self._abandon(wanted)
                return False
            state = current.state
            if state == "STAGED":
                try:
                    self._installed()
                except (WrongError, NotFoundError, InvalidError) as error:
                    result.state = self._failed("stage_failed", error, "STAGE_FAILED") or state
                    return True
            self.drive(state)
        return True

    def _abandon(self, wanted: str) -> None:
        """The slot wants another pack: the key, if there is one, belongs to the plan of that, not to this end."""
        key, expect = self.request.key, self.request.expect
        self.request.key, self.request.expect = "", None
        folder.abandon(self.place, self.result.activation)
        reason = f"the slot wants {wanted or 'nothing'} now"
        self.decide(activations.Fail(**self._at(), step="abandoned", reason=reason))
        self.request.key, self.request.expect = key, expect
        self.result.activation = self.result.pack = self.result.replaced = ""

    def _roll_forward(self, current: Activation) -> None:
        try:
            try:
                folder.switch(self.place, current.pack)
            except NotFoundError:  # recorded as switched, and gone from the target since: install it again
                self._installed()
                folder.switch(self.place, current.pack)
        except (NotFoundError, WrongError, InvalidError):
            link = folder.read_active(self.place) or ""
            if link != current.replaced:
                raise
            self.result.state = "SWITCHED"
            self.result.state = (
                self._step(activations.Revert(**self._at(), link=link), "REVERTED") or "SWITCHED"
            )
            return
        self.drive("SWITCHED")
